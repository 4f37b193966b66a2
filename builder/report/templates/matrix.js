// matrix
const narrow = () => innerWidth <= 720;
function worst(cells) {
  const fresh = cells.filter(c => !(FAILING.has(c.status) && isKnown(c)));
  const pool = fresh.some(c => FAILING.has(c.status)) ? fresh : cells;
  return WORST.find(s => pool.some(c => c.status === s)) || "skipped";
}
const tally = cells => ORDER.map(s => [s, cells.filter(c => c.status === s).length]).filter(x => x[1]);
function matrix(params) {
  const axis = AXES.includes(params.by) ? params.by : params.by === "exporter" ? "exporter" : "", models = D.axes.model || [], only = params.only === "failing";
  const valueOf = c => axis === "exporter" ? c.X.id : c.axes[axis];
  const values = axis === "exporter" ? D.exporters.map(x => x.id) : axis ? D.axes[axis] : [""];
  const grid = new Map();
  for (const c of D.cells) { const k = `${c.engine}|${c.axes.model}|${axis ? valueOf(c) : ""}`; if (!grid.has(k)) grid.set(k, []); grid.get(k).push(c); }
  const columns = models.flatMap(m => values.filter(v => D.engines.some((_, e) => grid.has(`${e}|${m}|${v}`))).map((v, i) => [m, v, i === 0]));
  const families = [...new Set(D.engines.map(e => e.family))];
  const body = h("tbody", {});
  for (const family of families) {
    const rows = [];
    D.engines.forEach((E, e) => {
      if (E.family !== family) return;
      const mine = D.cells.filter(c => c.engine === e), bad = mine.filter(c => FAILING.has(c.status)).length;
      if (only && !bad && !mine.some(c => c.status === "blocked")) return;
      const good = mine.filter(c => c.status === "verified").length, built = mine.filter(c => c.status === "built").length;
      rows.push(h("tr", {}, h("th", { class: "row", scope: "row" }, h("a", { href: link("cells", { q: `engine.id=${quote(E.id)}` }), "data-tip": E.id }, E.version, E.more && h("i", {}, ` ${E.more}`)), h("span", { class: "faint" }, E.fields.python ? `py ${E.fields.python}` : "")),
        columns.map(([m, v, edge]) => h("td", { class: edge && axis ? "edge" : null }, square(grid.get(`${e}|${m}|${v}`), E, m, axis, v))),
        h("td", { class: "sum" }, good ? `${good} / ${mine.length}` : built ? `${built} built` : `0 / ${mine.length}`)));
    });
    if (rows.length) body.append(h("tr", { class: "fam" }, h("th", { colspan: columns.length + 2, scope: "rowgroup" }, family, h("span", {}, plural(rows.length, "stack")))), ...rows);
  }
  const span = m => columns.filter(c => c[0] === m).length;
  const headTop = h("tr", { class: axis ? "two" : null }, h("th", { class: "corner", scope: "col", rowspan: axis ? 2 : null }, "Engine stack"), models.filter(span).map(m => h("th", { scope: "col", colspan: axis ? span(m) : null, class: axis ? "edge" : null }, h("span", { class: "c" }, m))), h("th", { scope: "col", rowspan: axis ? 2 : null, class: "num" }, "verified"));
  const headSub = axis && h("tr", {}, columns.map(([, v, edge]) => h("th", { scope: "col", class: edge ? "edge" : null }, axis === "exporter" ? clip(v, 14) : v)));
  const go = p => { location.hash = link("matrix", Object.fromEntries(Object.entries({ by: axis, only: params.only, ...p }).filter(x => x[1]))); };
  const seg = (pairs, current, change, label) => h("div", { class: "seg", role: "group", "aria-label": label }, pairs.map(([v, text]) => h("button", { type: "button", "aria-pressed": String(v === current), onclick: () => change(v) }, text)));
  const table = h("table", { class: "mx" + (axis ? " two-axis" : ""), style: { "min-width": `${(narrow() ? 112 : 230) + 96 + columns.length * (axis ? 52 : Math.max(74, ...models.map(m => 7.6 * m.length + 16)))}px`, "max-width": `${340 + columns.length * (axis ? 110 : 190)}px` } }, h("colgroup", {}, h("col", { style: { width: narrow() ? "112px" : "230px" } }), columns.map(() => h("col", {})), h("col", { style: { width: "96px" } })), h("thead", {}, headTop, headSub), body);
  table.addEventListener("keydown", arrows);
  const used = ORDER.filter(s => D.counts[s]);
  return [
    h("div", { class: "head" }, h("h1", {}, "Matrix"), h("p", {}, "Each square is the cells of one engine stack and one model: the worst outcome, and how many are verified (or built).")),
    h("div", { class: "tools" }, h("span", { class: "hint" }, "Split by"), seg([["", "nothing"], ...AXES.filter(a => D.axes[a].length > 1).map(a => [a, a]), ...(D.exporters.length > 1 ? [["exporter", "exporter"]] : [])], axis, v => go({ by: v }), "second axis"),
      seg([["", "all stacks"], ["failing", "failing only"]], only ? "failing" : "", v => go({ only: v }), "rows")),
    h("section", { class: "panel" }, h("div", { class: "scroll" }, body.children.length ? table : h("p", { class: "empty" }, "No stack fails.")),
      h("div", { class: "key" }, used.map(s => status(s)), D.cells.some(isKnown) && h("span", { class: "faint" }, "dashed: all failures expected"))),
  ];
}
function square(cells, E, model, axis, value) {
  if (!cells) return h("span", { class: "none", "aria-label": "no cells" }, "·");
  const s = worst(cells), parts = tally(cells), bad = cells.filter(c => FAILING.has(c.status)), known = bad.length > 0 && bad.every(isKnown);
  const good = cells.filter(c => c.status === "verified").length + cells.filter(c => c.status === "built").length;
  const text = `${E.id}, ${model}${value ? `, ${axis} ${value}` : ""}\n${parts.map(([k, n]) => `${n} ${k}`).join(", ")}` + (bad.length ? `\n${clip((bad.find(c => !isKnown(c)) || bad[0]).line || "", 160)}` : cells[0].status === "skipped" || cells[0].status === "blocked" ? `\n${clip(cells[0].reason || "", 160)}` : "");
  const q = `engine.id=${quote(E.id)} and model=${quote(model)}` + (value ? ` and ${axis === "exporter" ? "exporter.id" : axis}=${quote(value)}` : "");
  return h("a", { class: `sq s-${s}` + (known ? " known" : ""), href: cells.length === 1 ? link("cell/" + cells[0].id) : link("cells", { q }), "data-tip": text, "aria-label": text.replace(/\n/g, ": ") },
    icon(s), (cells.length > 1 || !axis) && h("span", { class: "k" }, parts.length === 1 && !good ? String(cells.length) : `${good}/${cells.length}`),
    parts.length > 1 && h("span", { class: "mix", "aria-hidden": "true" }, parts.map(([k, n]) => h("i", { class: `s-${k}`, style: { "flex-grow": n } }))));
}
function arrows(e) {
  const d = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[e.key];
  const td = e.target.closest("td,th"); if (!d || !td) return;
  let row = td.parentNode, at = [...row.children].indexOf(td);
  for (let i = 0; i < 200; i++) {
    if (d[0]) { row = d[0] > 0 ? row.nextElementSibling : row.previousElementSibling; if (!row) return; } else { at += d[1]; if (at < 0 || at >= row.children.length) return; }
    const a = row.children[at] && row.children[at].querySelector("a");
    if (a) { e.preventDefault(); a.focus(); return; }
  }
}
addView("matrix", "Matrix", matrix);
