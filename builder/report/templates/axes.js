// what cells are laid out by and narrowed by: axes with their values, the filter and the choices of an address
// Axis -> {name: in menus, values in their order, label(value), short(value), some lack it: none}. Keys are names of FIELDS.
const DIMENSIONS = new Map();
{
  const add = (key, name, values, none, more = {}) => { if (values.length + none > 1 || more.always) DIMENSIONS.set(key, { key, name, values, none, label: v => v, short: v => v, title: v => `${name} ${v || "none"}`, ...more }); };
  const stacks = (key, name, list, always) => { const by = new Map(list.map(s => [s.id, s])); add(key, name, list.map(s => s.id), false, { always, stacks: by, short: v => by.get(v).version, title: v => v }); };
  stacks("engine.id", "engine stack", D.engines, true);
  add("model", "model", D.axes.model || [], false, { always: true, title: v => v });
  for (const a of AXES) add(a, a, D.axes[a], D.options.some(o => !(a in o)));
  stacks("exporter.id", "exporter stack", D.exporters, false);
  for (const [role, list] of [["engine", D.engines], ["exporter", D.exporters]]) {
    add(`${role}.family`, `${role} family`, [...new Set(list.map(s => s.family))], false);
    for (const f of new Set(list.flatMap(s => Object.keys(s.fields)))) add(`${role}.${f}`, BOTH.has(f) ? `${role} ${f}` : f, [...new Set(list.map(s => s.fields[f]).filter(v => v !== undefined))].sort(compare), list.some(s => s.fields[f] === undefined));
  }
}
const choicesOf = key => { const d = DIMENSIONS.get(key); return d.none ? [...d.values, ""] : d.values; }; // "" for cells without it
// The filter and the choices (`at.opset=17`; `at.target=` are cells without one) that an address holds.
function asked(params) {
  const at = Object.entries(params).filter(([k]) => k.startsWith("at.")).map(([k, v]) => [k.slice(3), v]), strange = at.find(([field]) => !FIELDS.has(field));
  if (strange) return { at, problem: `no cell of this report has a field '${strange[0]}', which the address asks for`, test: () => false };
  const [fits, problem] = selector(params.q || "");
  const tests = at.map(([field, value]) => { const get = FIELDS.get(field); return value === "" ? c => get(c) === undefined || get(c) === null : c => get(c) === value; });
  return { at, problem, test: tests.length ? c => tests.every(t => t(c)) && fits(c) : fits };
}
const filterBox = value => h("input", { type: "search", id: "filter", placeholder: "model=resnet50 and status!=verified, or any words", value: value || "", "aria-label": "Filter", autocomplete: "off", spellcheck: "false" });
function tally(cells) { // [[outcome, how many]] in the order of outcomes
  const n = new Map(); for (const c of cells) n.set(c.status, (n.get(c.status) || 0) + 1);
  return ORDER.filter(s => n.has(s)).map(s => [s, n.get(s)]);
}
// A filter's work, from the last key until what fits is drawn (benchmarks/bench_report.py).
function timed(work) { const start = performance.now(); work(); requestAnimationFrame(() => setTimeout(() => performance.measure("filtered", { start }))); }
// Rows of a long table, in bodies that are filled while they are near what is seen: `make(i)` gives row i, `estimate` is its
// height in px before it was seen. `fill()` makes all of them, for paper.
function longTable(table, n, make, { size = 100, estimate = 34, span = 1 } = {}) {
  const bodies = [];
  const put = at => { const body = bodies[at]; if (!body.empty) return; body.empty = false; body.replaceChildren(...Array.from({ length: Math.min(size, n - at * size) }, (_, i) => make(at * size + i))); };
  const clear = at => { const body = bodies[at]; if (body.empty || body.contains(document.activeElement)) return; const height = body.offsetHeight; body.empty = true; body.replaceChildren(h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: span, style: { height: `${height}px` } }))); };
  const watch = new IntersectionObserver(found => found.forEach(e => e.isIntersecting ? put(e.target.at) : clear(e.target.at)), { rootMargin: "1500px" });
  for (let at = 0; at * size < n; at++) {
    const body = h("tbody", {});
    Object.assign(body, { at, empty: true });
    bodies.push(body);
    if (at === 0) put(0); else body.append(h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: span, style: { height: `${Math.min(size, n - at * size) * estimate}px` } })));
  }
  table.append(...bodies);
  bodies.forEach(body => watch.observe(body));
  return { fill() { watch.disconnect(); bodies.forEach((_, at) => put(at)); }, show(i) { put(Math.floor(i / size)); }, stop() { watch.disconnect(); } };
}
