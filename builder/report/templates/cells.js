// cells
const COLUMNS = [
  ["status", "outcome", c => WORST.indexOf(c.status), "180px"], ["engine", "engine stack", c => c.engine, "198px"], ["model", "model", c => c.axes.model, "104px"],
  ["opts", "options", c => options(c).join(" "), "196px"], ["exp", "exporter", c => c.exporter, "136px"], ["stage", "stage", c => c.stage, "100px"], ["why", "why", c => why(c), "auto"], ["sec", "took", c => c.seconds, "76px"],
];
const PAPER = 3000; // rows that are printed at most
let current = null; // what the last table showed, in its order: the neighbours on the page of a cell
function cells(params) {
  const box = filterBox(params.q), hint = h("span", { class: "hint", role: "status" }), chips = h("div", { class: "chips", role: "group", "aria-label": "Outcomes" });
  const picked = new Set((params.status || "").split(",").filter(s => ORDER.includes(s)));
  let [key, down] = (params.sort || "").startsWith("-") ? [params.sort.slice(1), true] : [params.sort || "", false];
  const group = params.finding !== undefined && D.findings[+params.finding], only = +params.finding, changed = D.since && D.since.groups[params.since], among = changed && new Set(changed.cells);
  let at = asked(params).at, long = null;
  const chosen = h("div", { class: "chips chosen", role: "group", "aria-label": "Only" });
  const heads = COLUMNS.map(([k, text]) => h("th", { scope: "col", class: k === "sec" ? "r" : null }, h("button", { type: "button", onclick: () => { if (key !== k) [key, down] = [k, false]; else if (!down) down = true; else [key, down] = ["", false]; update(); } }, text)));
  const head = h("thead", {}, h("tr", {}, heads)), widths = h("colgroup", {}, COLUMNS.map(c => h("col", { style: { width: c[3] } }))), table = h("table", { class: "cells" }), less = h("p", { class: "more print-only" });
  function update() {
    const p = {}; if (box.value.trim()) p.q = box.value.trim(); for (const [k, v] of at) p[`at.${k}`] = v;
    const want = asked(p), base = D.cells.filter(c => (!group || c.finding === only) && (!among || among.has(c.id)) && want.test(c)), n = new Map(tally(base));
    let rows = picked.size ? base.filter(c => picked.has(c.status)) : base;
    const column = COLUMNS.find(c => c[0] === key);
    if (column) { const f = column[2], sign = down ? -1 : 1; rows = rows.map((c, i) => [f(c), i, c]).sort((a, b) => (a[0] < b[0] ? -sign : a[0] > b[0] ? sign : a[1] - b[1])).map(x => x[2]); }
    heads.forEach((th, i) => COLUMNS[i][0] === key ? th.setAttribute("aria-sort", down ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
    hint.textContent = want.problem || `${rows.length.toLocaleString("en")} of ${plural(D.n, "cell")}`;
    chips.replaceChildren(...ORDER.filter(s => D.counts[s]).map(s => h("button", { type: "button", class: `s-${s}`, "aria-pressed": String(picked.has(s)), onclick: e => { picked.has(s) ? picked.delete(s) : picked.add(s); update(); const again = chips.querySelector(`.s-${s}`); if (again && e.detail === 0) again.focus(); } }, icon(s), `${s} `, h("span", { class: "faint" }, (n.get(s) || 0).toLocaleString("en")))));
    chosen.replaceChildren(...at.map(([k, v], i) => h("button", { type: "button", "aria-label": `Remove: ${k} ${v || "none"}`, onclick: () => { at = at.filter((_, j) => j !== i); update(); box.focus(); } }, `${k} ${v || "none"} ×`)));
    if (long) long.stop();
    table.replaceChildren(widths, head);
    table.setAttribute("aria-rowcount", String(rows.length + 1));
    long = longTable(table, rows.length, i => line(rows[i], i), { span: COLUMNS.length, estimate: narrow() ? 96 : 33 });
    if (!rows.length) table.append(h("tbody", {}, h("tr", {}, h("td", { colspan: COLUMNS.length, class: "empty" }, "No cell fits."))));
    current = rows;
    all = () => { if (rows.length > PAPER) { long.stop(); table.replaceChildren(widths, head); long = longTable(table, PAPER, i => line(rows[i], i), { span: COLUMNS.length }); less.textContent = `${(rows.length - PAPER).toLocaleString("en")} more cells are not printed: narrow the filter, or take report.json.`; } long.fill(); };
    restore = () => update();
    if (picked.size) p.status = [...picked].join(","); if (key) p.sort = (down ? "-" : "") + key; if (group) p.finding = params.finding; if (changed) p.since = params.since;
    history.replaceState(null, "", link("cells", p));
  }
  let timer = 0;
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => timed(() => update()), 60); });
  update();
  return [
    h("div", { class: "head" }, h("h1", {}, "Cells"), group && h("p", {}, status(group.status, clip(group.title, 160)), " ", h("a", { href: link("cells") }, "all cells")), changed && h("p", {}, `${changed.title}: ${clip(changed.became, 160)} `, h("a", { href: link("cells") }, "all cells"))),
    h("div", { class: "tools" }, h("div", { class: "box" }, box), hint), h("div", { class: "tools" }, chips, chosen),
    h("section", { class: "panel" }, h("div", { class: "scroll" }, table), less),
  ];
}
const why = c => c.status === "unsupported" && c.reason || c.diagnosis || c.line || c.reason || "";
function line(c, i) {
  const to = link("cell/" + c.id);
  const tr = h("tr", { "aria-rowindex": i + 2 }, h("td", {}, h("a", { class: `st s-${c.status}`, href: to }, icon(c.status), c.status, isKnown(c) && h("span", { class: "tag" }, "expected"), c.flaky && h("span", { class: "tag" }, "flaky"))),
    h("td", { class: "c-engine", title: c.E.id }, `${c.E.family} ${c.E.label}`), h("td", { class: "c-model" }, c.axes.model), h("td", { class: "c-opts" }, options(c).join(" · ")), h("td", { class: "c-exp soft", title: c.X.id }, `${c.X.family} ${c.X.label}`), h("td", { class: "c-stage soft" }, c.stage), h("td", { class: "why", title: c.line || null }, clip(why(c), 200).replace(/`/g, "")), h("td", { class: "c-sec num soft" }, clock(c.seconds)));
  tr.addEventListener("click", e => { if (!e.target.closest("a") && !String(getSelection())) location.hash = to; });
  return tr;
}
addView("cells", "Cells", cells, { badge: D.n });
