// matrix: any two axes across, a third beside the columns, the rest as filters
const narrow = () => innerWidth <= 720;
function worst(cells) {
  const fresh = cells.filter(c => !(FAILING.has(c.status) && isKnown(c)));
  const pool = fresh.some(c => FAILING.has(c.status)) ? fresh : cells;
  return WORST.find(s => pool.some(c => c.status === s)) || "skipped";
}
const WIDEST = 1500; // px of a grid on paper, before it is scaled to the sheet
let lastSquare = ""; // where the focus was when a square was opened
function matrix(params) {
  const pick = (key, other) => DIMENSIONS.has(key) ? key : other;
  const state = { rows: pick(params.rows, "engine.id"), cols: pick(params.cols, "model"), by: pick(params.by === "exporter" ? "exporter.id" : params.by, ""), only: params.only === "failing", q: params.q || "" };
  const at = Object.fromEntries(asked(params).at);
  const box = filterBox(state.q), hint = h("span", { class: "hint", role: "status" }), place = h("div", {}), facets = h("div", { class: "tools facets" });
  const address = () => {
    const p = {}; if (state.rows !== "engine.id") p.rows = state.rows; if (state.cols !== "model") p.cols = state.cols; if (state.by) p.by = state.by; if (state.only) p.only = "failing"; if (state.q) p.q = state.q;
    for (const [k, v] of Object.entries(at)) p[`at.${k}`] = v;
    return p;
  };
  const menu = (label, current, list, change) => h("label", { class: "pick" }, label, h("select", { "data-menu": label, "aria-label": label, onchange: e => { change(e.target.value); update(true); } }, list.map(([v, text]) => h("option", { value: v, selected: v === current }, text))));
  const free = () => [...DIMENSIONS.values()].filter(d => d.key in at || ![state.rows, state.cols, state.by].includes(d.key));
  let table = null, unfolded = false;
  function update(keep) {
    if (state.cols === state.rows) state.cols = state.rows === "model" ? "engine.id" : "model";
    if (state.by === state.rows || state.by === state.cols) state.by = "";
    state.q = box.value.trim();
    const p = address(), want = asked(p), cells = D.cells.filter(want.test);
    if (keep) history.pushState(null, "", link("matrix", p)); else history.replaceState(null, "", link("matrix", p));
    hint.textContent = want.problem || `${cells.length.toLocaleString("en")} of ${plural(D.n, "cell")}`;
    const all3 = [...DIMENSIONS.values()].map(d => [d.key, d.name]), focused = facets.contains(document.activeElement) && document.activeElement.dataset.menu;
    facets.replaceChildren(
      menu("Rows", state.rows, all3, v => { if (v === state.cols) state.cols = state.rows; state.rows = v; delete at[v]; }), menu("Columns", state.cols, all3, v => { if (v === state.rows) state.rows = state.cols; state.cols = v; delete at[v]; }),
      menu("Split by", state.by, [["", "nothing"], ...all3.filter(([k]) => k !== state.rows && k !== state.cols)], v => { state.by = v; delete at[v]; }),
      h("details", { open: !narrow() || Object.keys(at).length > 0 || unfolded, ontoggle: e => { unfolded = e.target.open; } }, h("summary", {}, "Narrow by axis"), h("div", { class: "tools facets" }, free().filter(d => d.key in at || !/^(engine|exporter)\./.test(d.key) || d.stacks).map(d => menu(d.name, at[d.key] === undefined ? "\0" : at[d.key], [["\0", "any"], ...choicesOf(d.key).map(v => [v, v || "none"])], v => { if (v === "\0") delete at[d.key]; else at[d.key] = v; })))));
    const again = focused && [...facets.querySelectorAll("select")].find(s => s.dataset.menu === focused);
    if (again) again.focus();
    if (table) table.long.stop();
    table = gridOf(cells, state, p);
    place.replaceChildren(table.node);
    all = () => { // on paper a wide grid is several, one below the other, each of them readable
      const most = Math.max(4, Math.floor((WIDEST - table.first) / table.wide)), per = Math.ceil(table.n / Math.ceil(table.n / most));
      if (!(table.n > most)) return table.long.fill();
      table.long.stop();
      const parts = Array.from({ length: Math.ceil(table.n / per) }, (_, i) => gridOf(cells, state, p, [i * per, (i + 1) * per]));
      place.replaceChildren(...parts.map(x => x.node)); parts.forEach(x => x.long.fill());
    };
    restore = () => update();
  }
  let timer = 0;
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => timed(() => update()), 60); });
  const only = h("div", { class: "seg", role: "group", "aria-label": "what is shown" }, [[false, "all rows"], [true, "failing only"]].map(([v, text]) => h("button", { type: "button", "aria-pressed": String(state.only === v), onclick: e => { state.only = v; [...e.target.parentNode.children].forEach(b => b.setAttribute("aria-pressed", String(b === e.target))); update(true); } }, text)));
  update();
  const used = ORDER.filter(s => D.counts[s]);
  if (lastSquare) setTimeout(() => { const a = lastSquare && place.querySelector(`[data-at="${CSS.escape(lastSquare)}"]`); lastSquare = ""; if (a) { a.focus(); a.scrollIntoView({ block: "nearest" }); } }, 0);
  return [
    h("div", { class: "head" }, h("h1", {}, "Matrix"), h("p", {}, "Each square counts its cells by outcome, the worst first. Arrows move, Enter opens, Escape comes back, / filters.")),
    h("div", { class: "tools" }, h("div", { class: "box" }, box), only, hint), facets,
    h("section", { class: "panel" }, place, h("div", { class: "key" }, used.map(s => status(s)), D.tally.known > 0 && h("span", { class: "faint" }, "dashed: all failures expected"))),
  ];
}
// The grid of cells by rows, columns and what the columns are split by: {node, long: its rows}.
function gridOf(cells, { rows: R, cols: C, by: B, only }, params, part = [0, 1e9]) {
  const dims = [R, C, B].map(k => DIMENSIONS.get(k)), gets = [R, C, B].map(k => k && FIELDS.get(k)), lists = [R, C].map(choicesOf).concat([B ? choicesOf(B) : [""]]);
  const places = lists.map(list => new Map(list.map((v, i) => [v, i]))), found = new Map();
  const spot = (n, c) => gets[n] ? places[n].get(gets[n](c) ?? "") : 0;
  for (const c of cells) { const k = (spot(0, c) * lists[1].length + spot(1, c)) * lists[2].length + spot(2, c); if (!found.has(k)) found.set(k, []); found.get(k).push(c); }
  const taken = [0, 1].map(() => new Set()), width = lists[1].length * lists[2].length;
  for (const k of found.keys()) { taken[0].add(Math.floor(k / width)); taken[1].add(k % width); }
  const every = [...taken[1]].sort((a, b) => a - b), columns = every.slice(...part).map(k => { const c = Math.floor(k / lists[2].length); return { k, c, v: k % lists[2].length }; });
  columns.forEach((x, i) => { x.edge = i === 0 || columns[i - 1].c !== x.c; });
  let lines = [...taken[0]].sort((a, b) => a - b).map(r => ({ r, own: every.flatMap(k => found.get(r * width + k) || []) }));
  if (only) lines = lines.filter(l => l.own.some(c => FAILING.has(c.status) || c.status === "blocked"));
  if (!lines.length) return { node: h("p", { class: "empty" }, only && cells.length ? "Nothing fails here." : "No cell fits."), long: { fill() {}, stop() {} } };
  const stacks = dims[0].stacks, items = [];
  lines.forEach((l, i) => {
    const family = stacks && stacks.get(lists[0][l.r]).family;
    if (stacks && (i === 0 || stacks.get(lists[0][lines[i - 1].r]).family !== family)) items.push({ family, n: lines.filter(x => stacks.get(lists[0][x.r]).family === family).length });
    items.push(l);
  });
  const kinds = Math.max(1, ...[...found.values()].map(cs => new Set(cs.map(c => c.status)).size)), shown = Math.min(kinds, columns.length > 10 ? 2 : 3), each = 14 + 33 * shown + (kinds > shown ? 18 : 0);
  const value = (n, i) => lists[n][i], name = (n, i) => value(n, i) === "" ? `no ${dims[n].name}` : value(n, i), words = (n, i) => dims[n].title(value(n, i));
  const more = (r, x) => ({ ...(params.q ? { q: params.q } : {}), ...Object.fromEntries(Object.entries(params).filter(([k]) => k.startsWith("at."))), [`at.${R}`]: value(0, r), ...(x ? { [`at.${C}`]: value(1, x.c), ...(B ? { [`at.${B}`]: value(2, x.v) } : {}) } : {}) });
  const row = (item, i) => {
    const place = { "aria-rowindex": i + (B ? 3 : 2) };
    if (item.family !== undefined) return h("tr", { class: "fam", ...place }, h("th", { colspan: columns.length + 2, scope: "rowgroup" }, item.family, h("span", {}, plural(item.n, "stack"))));
    const S = stacks && stacks.get(value(0, item.r)), good = item.own.filter(c => c.status === "verified").length, built = item.own.filter(c => c.status === "built").length;
    return h("tr", place, h("th", { class: "row", scope: "row" }, h("a", { href: link("cells", more(item.r)), "data-tip": words(0, item.r), "data-at": `${value(0, item.r)}|`, tabindex: -1 }, S ? [S.version, S.more && h("i", {}, ` ${S.more}`)] : name(0, item.r)), S && h("span", { class: "faint" }, S.fields.python ? `py ${S.fields.python}` : "")),
      columns.map(x => h("td", { class: x.edge && B ? "edge" : null }, square(found.get(item.r * width + x.k), [words(0, item.r), words(1, x.c), B && words(2, x.v)].filter(Boolean).join(", "), more(item.r, x), `${value(0, item.r)}|${value(1, x.c)}|${value(2, x.v)}`, shown))),
      h("td", { class: "sum" }, good ? `${good} / ${item.own.length}` : built ? `${built} built` : `0 / ${item.own.length}`));
  };
  const span = c => columns.filter(x => x.c === c).length, groups = [...new Set(columns.map(x => x.c))];
  const label = (n, i) => dims[n].stacks && n === 1 && !B ? dims[n].stacks.get(value(n, i)).label : name(n, i);
  const head = h("thead", {}, h("tr", { class: B ? "two" : null }, h("th", { class: "corner", scope: "col", rowspan: B ? 2 : null }, stacks ? opening(dims[0].name) : dims[0].name), groups.map(c => h("th", { scope: "col", colspan: B ? span(c) : null, class: B ? "edge" : null, "data-tip": dims[1].stacks ? value(1, c) : null }, h("span", { class: "c" }, label(1, c)))), h("th", { scope: "col", rowspan: B ? 2 : null, class: "num" }, "verified")),
    B && h("tr", {}, columns.map(x => h("th", { scope: "col", class: x.edge ? "edge" : null, "data-tip": words(2, x.v) }, clip(name(2, x.v), 14)))));
  const first = narrow() ? 112 : 230, wide = Math.max(each, B ? 0 : Math.min(150, ...[Math.max(...groups.map(c => 7.6 * Math.max(...label(1, c).split(/[\s-]/).map(w => w.length)) + 16))])), least = first + 96 + columns.length * wide;
  const table = h("table", { class: "mx" + (B ? " two-axis" : ""), role: "grid", "aria-label": `${dims[0].name} by ${dims[1].name}${B ? ` and ${dims[2].name}` : ""}`, "aria-readonly": "true", "aria-rowcount": items.length + (B ? 2 : 1), style: { "min-width": `${least}px`, "max-width": `${first + 110 + columns.length * (B ? 150 : 190)}px`, "--wide": least } },
    h("colgroup", {}, h("col", { style: { width: `${first}px` } }), columns.map(() => h("col", {})), h("col", { style: { width: "96px" } })), head);
  const long = longTable(table, items.length, i => row(items[i], i), { size: Math.max(10, Math.floor(2000 / columns.length)), estimate: 36, span: columns.length + 2 });
  roving(table);
  return { node: h("div", { class: "scroll" + (least > Math.min(1480, innerWidth) - 50 ? " wide" : "") }, table), long, n: columns.length, wide, first: first + 96 };
}
function square(cells, label, to, key, shown) {
  if (!cells) return h("span", { class: "none", "aria-label": "no cells" }, "·");
  const s = worst(cells), parts = tally(cells), bad = cells.filter(c => FAILING.has(c.status)), known = bad.length > 0 && bad.every(isKnown);
  const text = `${label}\n${parts.map(([k, n]) => `${n} ${k}`).join(", ")}` + (bad.length ? `\n${clip((bad.find(c => !isKnown(c)) || bad[0]).line || "", 160)}` : cells[0].status === "skipped" || cells[0].status === "blocked" ? `\n${clip(cells[0].reason || "", 160)}` : "");
  const ranked = [...parts].sort((a, b) => (b[0] === s) - (a[0] === s) || WORST.indexOf(a[0]) - WORST.indexOf(b[0]));
  return h("a", { class: `sq s-${s}` + (known ? " known" : ""), href: cells.length === 1 ? link("cell/" + cells[0].id) : link("cells", to), "data-tip": text, "aria-label": text.replace(/\n/g, ": "), "data-at": key, tabindex: -1 },
    ranked.slice(0, shown).map(([k, n]) => h("span", { class: `k s-${k}` }, icon(k), String(n))), ranked.length > shown && h("span", { class: "k faint" }, `+${ranked.length - shown}`),
    parts.length > 1 && h("span", { class: "mix", "aria-hidden": "true" }, parts.map(([k, n]) => h("i", { class: `s-${k}`, style: { "flex-grow": n } }))));
}
// One stop for Tab in a grid; arrows, Home, End and the pages move within it (https://www.w3.org/WAI/ARIA/apg/patterns/grid/).
function roving(table) {
  const first = table.querySelector("tbody .sq") || table.querySelector("tbody a");
  if (first) first.tabIndex = 0;
  table.addEventListener("focusin", e => { const a = e.target.closest("a"); if (!a) return; table.querySelectorAll('a[tabindex="0"]').forEach(x => { x.tabIndex = -1; }); a.tabIndex = 0; });
  table.addEventListener("keydown", arrows);
  table.addEventListener("click", e => { const a = e.target.closest("a[data-at]"); if (a) lastSquare = a.dataset.at; });
}
function arrows(e) {
  const d = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-8, 0], PageDown: [8, 0], Home: [0, -1e4], End: [0, 1e4] }[e.key];
  const td = e.target.closest("td,th"); if (!d || !td || e.altKey || e.metaKey) return;
  const at = [...td.parentNode.children].indexOf(td), in_ = (row, i) => row.children[i] && row.children[i].querySelector("a");
  const beside = (row, step) => { // the next row that has links, also in the next body
    do { row = (step > 0 ? row.nextElementSibling : row.previousElementSibling) || (() => { const body = step > 0 ? row.parentNode.nextElementSibling : row.parentNode.previousElementSibling; return body && body.tagName === "TBODY" ? (step > 0 ? body.firstElementChild : body.lastElementChild) : null; })(); } while (row && !row.querySelector("a"));
    return row;
  };
  let row = td.parentNode, found = null;
  if (d[0]) {
    for (let i = 0, next = row; i < Math.abs(d[0]) && next; i++) { next = beside(next, d[0]); if (next) row = next; }
    // a column without a square here: the nearest one that has it further on, else the row's own nearest
    for (let next = row; next && !found; next = beside(next, d[0])) found = in_(next, at);
    if (row === td.parentNode) return;
  } else if (Math.abs(d[1]) > 1) {
    const links = [...row.children].filter(x => x.querySelector("a")); found = links[d[1] > 0 ? links.length - 1 : 0].querySelector("a");
  } else for (let i = at + d[1]; i >= 0 && i < row.children.length && !found; i += d[1]) found = in_(row, i);
  if (found) { e.preventDefault(); found.focus(); }
}
addView("matrix", "Matrix", matrix);
