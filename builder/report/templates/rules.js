// rules and boundaries
const entry = (title, text) => text && h("details", {}, h("summary", {}, title), h("div", { class: "line" }, text));
function ruleItem(r) {
  return h("li", {}, h("span", { class: "n" }, r.failing.toLocaleString("en"), h("small", {}, r.failing === 1 ? "cell" : "cells")), h("div", {}, h("div", { class: "t" }, r.when),
    h("div", { class: "fix" }, `${r.text}.`, r.other > 0 && ` ${plural(r.other, "more cell")} fit and fail in another way, which may hide it.`),
    r.alike.length > 0 && h("div", { class: "fix" }, `These cells cannot tell it from: ${r.alike.map(a => a.when).join("; ")}.`),
    h("div", { class: "meta" }, h("span", { class: "tag" }, r.category), h("span", { class: "faint" }, r.phases.join(", ")), h("a", { href: link("cells", { q: r.select }) }, "show cells"),
      r.counterexamples.length > 0 && h("a", { href: link("cells", { q: r.counterexamples.slice(0, 300).map(i => "#" + i).join(" or ") }) }, plural(r.counterexamples.length, "counter-example")),
      entry("entry for expect:", r.expect), entry("entry for constraints:", r.constraint))));
}
function boundaryItem(b) {
  const first = 20, place = w => h("li", {}, [w.model, ...Object.entries(w.options).map(([k, v]) => k === "opset" ? `opset ${v}` : v), ...w.stacks].join(" · "), " ", w.cells.map(pair => [h("a", { href: link("cell/" + pair[0]) }, "before"), " ", h("a", { href: link("cell/" + pair[1]) }, "after"), " "]));
  const ul = h("ul", { class: "cols" }), more = () => { const at = ul.children.length; ul.append(...b.where.slice(at, at + first * 5).map(place)); };
  return h("li", {}, h("span", { class: "n" }, b.count.toLocaleString("en"), h("small", {}, b.count === 1 ? "row" : "rows")), h("div", {}, h("div", { class: "t" }, b.text),
    h("div", { class: "meta" }, h("span", { class: "tag" }, b.kind), h("span", { class: "faint" }, b.models.length > 4 ? plural(b.models.length, "model") : b.models.join(", ")),
      h("details", { ontoggle: e => { if (e.target.open && !ul.children.length) more(); } }, h("summary", {}, "rows"), ul, b.where.length > first * 5 && h("button", { class: "btn", onclick: e => { more(); if (ul.children.length >= b.where.length) e.target.remove(); } }, "Show more")))));
}
function rules() {
  const R = D.rules, kinds = [["breaks", "Begins to fail"], ["mended", "Begins to work"], ["non-monotone", "Changes back"]];
  return [
    h("div", { class: "head" }, h("h1", {}, "Rules and boundaries"), h("p", {}, "Which axis values together explain the failures of one category, and between which neighbours they begin. What was skipped or failed in another way says nothing.")),
    h("div", { class: "stack" },
      h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Rules"), h("span", { class: "faint" }, `the chance that luck shows one is below ${R.limit * 100} %${R.limited ? "; a search was cut short, so that one may be missing" : ""}`)),
        R.rules.length ? h("ul", { class: "finds" }, R.rules.map(ruleItem)) : h("p", { class: "empty" }, "No rule explains the failures better than luck would, or there are none.")),
      R.unexplained.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Without a rule"), h("span", { class: "faint" }, plural(R.unexplained.reduce((a, u) => a + u.cells.length, 0), "cell"))),
        h("ul", { class: "finds" }, R.unexplained.map(u => h("li", {}, h("span", { class: "n" }, u.cells.length.toLocaleString("en"), h("small", {}, u.cells.length === 1 ? "cell" : "cells")), h("div", {}, h("div", { class: "t" }, `${u.category}, ${u.phase}`),
          !u.passing && h("div", { class: "fix" }, "Nothing got through this phase, so that there is nothing to hold it against."), h("div", { class: "meta" }, h("a", { href: link("cells", { q: u.cells.slice(0, 300).map(i => "#" + i).join(" or ") }) }, "show cells"))))))),
      kinds.map(([kind, title]) => { const list = D.boundaries.filter(b => b.kind === kind); return list.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, title), h("span", { class: "faint" }, "along releases and opsets; all else equal")), h("ul", { class: "finds" }, list.map(boundaryItem))); })),
  ];
}
addView("rules", "Rules", rules, { badge: D.tally.rules, when: D.tally.explained });
