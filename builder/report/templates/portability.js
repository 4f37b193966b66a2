// portability: engines of one stack, loaded by another
const SAID = { loads: "loads", "will-not-load": "will not load", unknown: "unknown" };
const worked = c => c.status === "verified" || c.status === "mismatch" || (c.status === "degraded" && c.stage !== "build");
const refused = c => ["failed", "crashed", "out-of-memory", "timeout"].includes(c.status) && ["load", "run"].includes(c.stage);
// What became of it in a word: `refused` is of the loading alone.
const word = c => c.status === "verified" ? "runs" : c.status === "mismatch" ? "wrong" : c.status === "failed" ? (c.stage === "load" ? "refused" : `${c.stage} failed`) : c.status === "out-of-memory" ? "memory" : c.status;
const denied = c => c.check && (c.check.verdict === "loads" ? refused(c) && c.status !== "timeout" : c.check.verdict === "will-not-load" && worked(c));
function carried(c) { // one square: what happened, and below it what `check` says of that file
  const text = `built by ${c.B.id}, loaded by ${c.E.id}\n${c.status} at ${c.stage}${c.line ? `: ${clip(c.line, 200)}` : c.status !== "verified" && c.reason ? `: ${clip(c.reason, 200)}` : ""}` + (c.check ? `\ncheck: ${c.check.verdict}, ${c.check.because}` : "");
  return h("a", { class: `sq moved s-${c.status}${isKnown(c) ? " known" : ""}${denied(c) ? " denied" : ""}`, href: link("cell/" + c.id), "data-tip": text, "aria-label": text.replace(/\n/g, "; ") + (denied(c) ? "; the rule is refuted" : "") },
    h("span", { class: "k" }, icon(c.status), word(c)), c.check && h("small", {}, `${denied(c) ? "≠ " : ""}${SAID[c.check.verdict]}`));
}
function portability() {
  const moved = D.cells.filter(c => c.built_on !== undefined);
  for (const c of moved) c.B = D.builders[c.built_on];
  const groups = new Map();
  for (const c of moved) {
    const k = JSON.stringify([c.E.family, c.axes.model, AXES.filter(a => a !== "built-on").map(a => c.axes[a] ?? ""), c.exporter]);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(c);
  }
  const ran = moved.filter(c => worked(c) || refused(c)), wrong = moved.filter(denied);
  return [
    h("div", { class: "head" }, h("h1", {}, "Portability"), h("p", {}, `Engines built in one stack (rows), loaded and run in another (columns), held against the same reference: ${ran.filter(worked).length.toLocaleString("en")} of ${ran.length.toLocaleString("en")} that could be tried are loaded and run. Below each word stands what `, h("code", {}, "enginematrix check"), ` says of the file; ${wrong.length ? `${plural(wrong.length, "cell")} came out otherwise (≠).` : "nothing came out otherwise."}`)),
    h("div", { class: "stack" }, [...groups.values()].map(grid)),
  ];
}
function grid(list) {
  const at = new Map(list.map(c => [`${c.built_on}|${c.engine}`, c])), rows = D.builders.map((b, i) => [b, i]).filter(x => list.some(c => c.built_on === x[1])), columns = D.engines.map((e, i) => [e, i]).filter(x => list.some(c => c.engine === x[1]));
  const first = list[0], lines = new Map();
  for (const c of list) if (c.line) { const k = `${c.status}|${c.E.id}|${c.line}`; if (!lines.has(k)) lines.set(k, []); lines.get(k).push(c); }
  const table = h("table", { class: "mx carried", style: { "min-width": `${158 + columns.length * 90}px`, "max-width": `${228 + columns.length * 150}px` } }, h("colgroup", {}, h("col", { style: { width: "152px" } }), columns.map(() => h("col", {}))),
    h("thead", {}, h("tr", {}, h("th", { class: "corner", scope: "col" }, "built by ↓ loaded by →"), columns.map(([e]) => h("th", { scope: "col", "data-tip": e.id }, h("span", { class: "c" }, e.label))))),
    h("tbody", {}, rows.map(([b, i]) => h("tr", {}, h("th", { class: "row", scope: "row", "data-tip": b.id }, b.label), columns.map(([, j]) => h("td", {}, at.has(`${i}|${j}`) ? carried(at.get(`${i}|${j}`)) : h("span", { class: "none", "aria-label": "no cell" }, "·")))))));
  table.addEventListener("keydown", arrows);
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, `${first.E.family} · ${first.axes.model}`), h("span", { class: "faint" }, [...options(first).filter(o => o !== `built on ${first.axes["built-on"]}`), `exported by ${first.X.id}`].join(" · "))),
    h("div", { class: "scroll" }, table),
    h("div", { class: "key" }, ORDER.filter(s => list.some(c => c.status === s)).map(s => status(s)), list.some(isKnown) && h("span", { class: "faint" }, "dashed: expected")),
    lines.size > 0 && h("details", { class: "body" }, h("summary", {}, "What the libraries said"), h("ul", { class: "finds" }, [...lines.values()].map(cs => h("li", {}, count({ count: cs.length }), h("div", {}, h("div", { class: "line" }, cs[0].line), h("div", { class: "meta" }, status(cs[0].status), cs[0].category && h("span", { class: "tag" }, cs[0].category), h("span", {}, `${cs[0].E.family} ${cs[0].E.label} of engines of ${cs.map(c => c.B.label).join(", ")}`), h("a", { href: cs.length === 1 ? link("cell/" + cs[0].id) : link("cells", { q: cs.map(c => "#" + c.id).join(" or ") }) }, cs.length === 1 ? "show cell" : "show cells"))))))));
}
addView("portability", "Portability", portability, { badge: D.tally.moved, when: D.tally.moved > 0 });
