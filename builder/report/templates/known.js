// known-good stacks: what each engine stack is verified for, since when and where, and what of it fails (builder/report/known.py)
const knownStacks = block("known");
const day = iso => iso ? iso.slice(0, 10) : "";
function known(params) {
  const models = D.axes.model || [], precisions = D.axes.precision || [], families = [...new Set(D.engines.map(E => E.family))];
  const want = { family: families.includes(params.family) ? params.family : "", model: models.includes(params.model) ? params.model : "", precision: precisions.includes(params.precision) ? params.precision : "" };
  const go = p => { location.hash = link("known", Object.fromEntries(Object.entries({ ...want, ...p }).filter(x => x[1]))); };
  const pick = (name, list) => list.length > 1 && h("label", { class: "pick" }, name, h("select", { onchange: e => { steady(e); go({ [name]: e.target.value }); } }, h("option", { value: "", selected: !want[name] }, "any"), list.map(v => h("option", { value: v, selected: v === want[name] }, v))));
  const E = new Map(D.engines.map((e, i) => [e.id, i])), asked = x => (!want.model || x[0] === want.model) && (!want.precision || x[1] === want.precision);
  const rows = knownStacks().filter(k => !want.family || D.engines[E.get(k.engine)].family === want.family);
  const good = rows.filter(k => k.coverage.some(x => asked(x) && x[2])), rest = rows.filter(k => !good.includes(k) && k.coverage.some(asked));
  const narrowed = [want.model, want.precision].filter(Boolean).join(" in ");
  const of = new Map(D.engines.map((_, i) => [i, []])), at = new Map(); // engine -> its cells, and those that fail
  for (const c of D.cells) if (c.built_on === undefined) of.get(c.engine).push(c);
  for (const [i, cs] of of) at.set(i, cs.filter(c => c.finding >= 0));
  const fills = [];
  all = () => fills.forEach(fill => fill()); // before it is printed
  const shown = families.map(f => [f, good.filter(k => D.engines[E.get(k.engine)].family === f)]).filter(x => x[1].length);
  return [
    h("div", { class: "head" }, h("h1", {}, "Known-good stacks"), h("p", {}, `${plural(good.length, "engine stack")} verified${narrowed ? ` for ${narrowed}` : ""}: ran, and every output matched the reference. Newest release first.`)),
    h("div", { class: "tools" }, pick("family", families), pick("model", models), pick("precision", precisions)),
    h("div", { class: "stack" }, shown.map(([family, list]) => h("section", { class: "panel" }, h("header", {}, h("h2", {}, family), h("span", { class: "faint" }, plural(list.length, "stack"))), list.map((k, i) => { const [details, fill] = knownStack(k, D.engines[E.get(k.engine)], of.get(E.get(k.engine)), at.get(E.get(k.engine)), i === 0); fills.push(fill); return details; }))),
      !good.length && h("section", { class: "panel" }, h("p", { class: "empty" }, `No stack is verified${narrowed ? ` for ${narrowed}` : ""}.`)),
      rest.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Not verified"), h("span", { class: "faint" }, narrowed || "nothing of these ran and matched")),
        h("ul", { class: "finds" }, rest.map(k => { const own = D.engines[E.get(k.engine)], mine = of.get(E.get(k.engine)).filter(c => asked([c.axes.model, c.axes.precision || ""])), cs = mine.filter(c => c.finding >= 0), built = mine.filter(c => c.status === "built").length; return h("li", {}, h("span", { class: "n" }, (built || cs.length || mine.length).toLocaleString("en"), h("small", {}, built ? "built" : cs.length ? "failing" : "not run")), h("div", {}, h("div", { class: "t" }, h("a", { href: link("cells", { q: `engine.id=${quote(k.engine)}` }) }, `${own.family} ${own.label}`), own.fields.python && h("span", { class: "faint" }, ` Python ${own.fields.python}`)), failuresOf(cs))); })))),
  ];
}
function failuresOf(cells) { // the findings that cells are in, most cells first
  const by = new Map(); for (const c of cells) { if (!by.has(c.finding)) by.set(c.finding, []); by.get(c.finding).push(c); }
  return [...by].sort((a, b) => b[1].length - a[1].length).map(([f, cs]) => h("div", { class: "meta" }, status(cs[0].status, `${cs.length} ${cs[0].status}`), h("span", {}, rich(clip(D.findings[f].title, 150))), D.findings[f].expected && h("span", { class: "tag" }, "expected"), h("a", { href: cs.length === 1 ? link("cell/" + cs[0].id) : link("cells", { q: cs.slice(0, 300).map(c => "#" + c.id).join(" or ") }) }, cs.length === 1 ? "show cell" : "show cells")));
}
function knownStack(k, S, own, failing, open) {
  const models = [...new Set(k.coverage.map(x => x[0]))], precisions = [...new Set(k.coverage.map(x => x[1]))], ran = k.verified + k.failing + k.built;
  const square = (m, p) => { const cs = own.filter(c => c.axes.model === m && (c.axes.precision || "") === p), s = cs.length && worst(cs); return !cs.length ? h("span", { class: "faint", "aria-label": "no cell" }, "·") : h("a", { class: `st s-${s}`, href: cs.length === 1 ? link("cell/" + cs[0].id) : link("cells", { q: `engine.id=${quote(k.engine)} and model=${quote(m)}${p && ` and precision=${quote(p)}`}` }) }, icon(s), cs.length === 1 ? s : tally(cs).map(([t, n]) => `${n} ${t}`).join(", ")); };
  const line = (text, label) => h("div", { class: "cmd" }, h("code", {}, text), h("button", { class: "btn", type: "button", "aria-label": `Copy: ${label}`, onclick: e => copy(text, e.target) }, "Copy"));
  const details = h("details", { class: "known" }, h("summary", {}, h("b", {}, S.label), h("span", { class: "faint" }, S.fields.python ? `Python ${S.fields.python}` : ""), status("verified", `${k.verified} of ${ran} verified`), h("span", { class: "faint" }, `since ${day(k.since)}${day(k.all) !== day(k.since) ? `, all of it since ${day(k.all)}` : ""}${k.machines.length === 1 ? ` on ${k.machines[0]}` : k.machines.length ? ` on ${k.machines.length} machines` : ""}`), k.failing > 0 && h("span", { class: "faint" }, `${k.failing} failing`)));
  // What is inside is made when it is opened: thousands of stacks have a hundred thousand squares.
  let made = false;
  const fill = () => { if (!made) { made = true; details.append(...[
    h("div", { class: "scroll" }, h("table", { class: "data covers" }, h("caption", { class: "vh" }, `What ${k.engine} is verified for`), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "model"), precisions.map(p => h("th", { scope: "col" }, p || "any")))),
      h("tbody", {}, models.map(m => h("tr", {}, h("th", { scope: "row" }, h("a", { href: link("cells", { q: `engine.id=${quote(k.engine)} and model=${quote(m)}` }) }, m)), precisions.map(p => h("td", {}, square(m, p)))))))),
    failing.length > 0 && h("div", { class: "body" }, failuresOf(failing)),
    h("div", { class: "body" }, h("p", { class: "soft" }, `Seen on ${k.machines.join("; ") || "a machine that is not recorded"}, newest ${when(k.seen)}; models exported by ${k.exporters.join(", ")}.`),
      k.pick ? [h("p", { class: "faint" }, "Locked requirements of exactly this stack:"), line(k.pick, "the command that pins it")] : h("p", { class: "faint" }, "pick has no stack like this one; its locked packages are in matrix.lock under ", h("code", {}, k.engine), "."),
      h("p", { class: "faint" }, "All of the matrix on this stack, again or on another machine:"), line(k.run, "the command that runs it"))].filter(Boolean)); } };
  details.addEventListener("toggle", () => { if (details.open) fill(); });
  if (open) { fill(); details.open = true; }
  return [details, fill];
}
addView("known", "Known good", known, { badge: D.tally.good, when: D.counts.verified > 0 });
