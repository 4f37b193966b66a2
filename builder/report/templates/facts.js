// facts against observations
const claims = lazy(() => new Map(D.predictions.claims.map(c => [c.key, c])));
const STATE = { supported: "verified", unsupported: "unsupported", unknown: "skipped" };
const state = s => h("span", { class: `st s-${STATE[s]}` }, icon(STATE[s]), s);
const sources = c => c.facts.map(f => h("li", {}, f.text, f.doubt && h("span", { class: "faint" }, ` (${f.doubt})`), h("div", { class: "faint" }, f.sources.map((s, i) => { const m = /https:\/\/\S+/.exec(s); return [i ? "; " : "", m ? h("a", { href: m[0], rel: "noreferrer noopener" }, clip(s.replace(m[0], "").replace(/[\s(–-]+$/, "") || m[0], 90)) : clip(s, 120)]; }), `, ${f.where}`)));
function claimItem(c) {
  return h("li", {}, h("span", { class: "n" }, (c.held + c.failed).toLocaleString("en"), h("small", {}, "seen")), h("div", {}, h("div", { class: "t" }, c.subject), h("div", { class: "fix" }, c.because),
    c.refuted && h("div", { class: "fix" }, `Refuted: ${c.refuted}.`),
    h("div", { class: "meta" }, state(c.state), h("span", { class: "tag" }, c.rule), h("span", { class: "faint" }, `${c.held} held, ${c.failed} failed for that reason, ${c.open} not seen`),
      c.evidence.length > 0 && h("a", { href: link("cells", { q: c.evidence.map(i => "#" + i).join(" or ") }) }, "show cells"), c.facts.length > 0 && h("details", {}, h("summary", {}, "facts"), h("ul", {}, sources(c))))));
}
function facts() {
  const P = D.predictions, of = v => P.claims.filter(c => c.verdict === v), wrong = of("refuted"), gaps = P.claims.filter(c => c.state === "unknown" && c.failed);
  const seen = (r, first, second) => [[first, first === "held" ? "held" : "failed so"], [second, second === "held" ? "held" : "failed so"], ["open", "not seen"]].filter(x => r[x[0]]).map(x => `${r[x[0]].toLocaleString("en")} ${x[1]}`).join(", ") || "·";
  return [
    h("div", { class: "head" }, h("h1", {}, "Facts against observations"), h("p", {}, `Before a cell runs, facts with sources say whether it can work: ${P.cells.supported.toLocaleString("en")} supported, ${P.cells.unsupported.toLocaleString("en")} unsupported, ${P.cells.unknown.toLocaleString("en")} unknown. ${P.skipping ? "What is unsupported was left alone, unless it had run before." : "What is unsupported was tried all the same, or there was none."}`)),
    h("div", { class: "stack" },
      h("section", { class: "panel" }, h("header", {}, h("h2", {}, "By rule"), h("span", { class: "faint" }, "cells by what was predicted, and what was seen of it")),
        h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["rule", "claims", "predicted supported", "predicted unsupported", "unknown"].map(t => h("th", { scope: "col" }, t)))),
          h("tbody", {}, P.rules.map(r => h("tr", {}, h("td", {}, r.rule, h("div", { class: "faint" }, r.text)), h("td", { class: "num" }, String(r.claims)), h("td", {}, seen(r.supported, "held", "failed")), h("td", {}, seen(r.unsupported, "failed", "held")), h("td", { class: "soft" }, seen(r.unknown, "held", "failed")))))))),
      h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Wrong facts"), h("span", { class: "faint" }, "refuted by a run; observation beats documentation")), wrong.length ? h("ul", { class: "finds" }, wrong.map(claimItem)) : h("p", { class: "empty" }, "No observation refutes a fact.")),
      gaps.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Not recorded, and fails"), h("span", { class: "faint" }, "what the catalog could learn from these runs")), h("ul", { class: "finds" }, gaps.map(claimItem))),
      h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Confirmed"), h("span", { class: "faint" }, plural(of("confirmed").length, "claim"))), h("ul", { class: "finds" }, of("confirmed").filter(c => c.state === "unsupported").map(claimItem)), h("details", { class: "body" }, h("summary", {}, "and those that say it works"), h("ul", { class: "finds" }, of("confirmed").filter(c => c.state === "supported").map(claimItem))))),
  ];
}
function foreseen(c) {
  const mine = (c.prediction ? c.prediction.claims : []).map(k => claims().get(k)).filter(Boolean);
  return mine.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "What the facts say"), h("span", { class: "faint" }, c.prediction.state)),
    h("ul", { class: "finds" }, mine.map(p => h("li", {}, h("span", { class: "n" }, icon(STATE[p.refuted ? "unknown" : p.state])), h("div", {}, h("div", { class: "t" }, p.subject), h("div", { class: "meta" }, h("span", {}, p.refuted ? `refuted: ${p.refuted}` : p.state), h("span", { class: "tag" }, p.rule), p.facts.length > 0 && h("details", {}, h("summary", {}, "facts"), h("ul", {}, sources(p)))))))));
}
addView("facts", "Facts", facts, { badge: D.tally.refuted, when: D.tally.facts > 0 });
