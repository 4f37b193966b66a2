// overview
function overview() {
  const n = D.n + D.suites.reduce((a, x) => a + x.cells, 0), good = (D.counts.verified || 0), known = D.tally.known;
  const fixed = D.tally.fixed.slice(0, 20).map(i => D.cells[i]);
  const shown = ORDER.filter(s => D.counts[s]), zero = ORDER.filter(s => !D.counts[s]);
  const bits = [`${plural(new Set([...D.engines, ...D.suites.map(x => x.engine)].map(e => e.id)).size, "engine stack")}`, plural(D.axes.model ? D.axes.model.length : 0, "model"), `${plural(D.tally.failing + D.suites.reduce((a, x) => a + ORDER.reduce((b, s) => b + (FAILING.has(s) ? x.counts[s] : 0), 0), 0), "failing cell")}${known ? `, ${known} of them expected` : ""}`];
  const m = D.run.machine, kv = rows => h("dl", { class: "kv" }, rows.filter(r => r && r[1]).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  return [
    h("div", { class: "head" }, h("h1", {}, `${good.toLocaleString("en")} of ${plural(n, "cell")} verified`), h("p", {}, bits.join(" · ")),
      D.run.interrupted && h("span", { class: "st s-timeout" }, icon("timeout"), "interrupted: what had finished is here")),
    h("div", { class: "grid2" },
      h("div", { class: "stack" },
        h("section", { class: "panel" },
          h("div", { class: "share", role: "img", "aria-label": shown.map(s => `${D.counts[s]} ${s}`).join(", ") },
            shown.map(s => h("a", { class: `s-${s}`, href: link("cells", { q: `status=${s}` }), style: { "flex-grow": D.counts[s] }, "data-tip": `${D.counts[s]} ${s}`, tabindex: -1, "aria-hidden": "true" }))),
          h("div", { class: "counts" }, shown.map(s => h("a", { href: link("cells", { q: `status=${s}` }), class: `s-${s}` },
            icon(s), h("b", {}, D.counts[s].toLocaleString("en")), h("span", { class: "w" }, s), h("span", { class: "m" }, MEANING[s])))),
          zero.length > 0 && h("p", { class: "faint", style: { padding: "0 18px 13px", "font-size": "12.5px" } }, `No cells: ${zero.join(", ")}.`)),
        sincePanel(),
        D.suites.length > 0 && suitesPanel(),
        findingPanel("Findings", D.findings.filter(f => !f.expected), "equal failures across cells", n === good ? "Nothing failed." : "No unexpected failure."),
        D.findings.some(f => f.expected) && findingPanel("Expected failures", D.findings.filter(f => f.expected), "named under expect: in the matrix; reported, not red"),
        fixed.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Expectations that no longer hold"), h("span", { class: "faint" }, `${D.tally.fixed.length}`)),
          h("ul", { class: "finds" }, fixed.map(c => h("li", {}, h("span", { class: "n" }, icon(c.status)), h("div", {}, h("a", { href: link("cell/" + c.id) }, c.slug), h("div", { class: "fix" }, `${c.expected.state}: ${c.expected.because} (${c.expected.where})`)))))),
        D.absent.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Not run here"), h("span", { class: "faint" }, plural(D.absent.reduce((a, x) => a + x.count, 0), "cell"))),
          h("ul", { class: "finds" }, D.absent.map(a => h("li", {}, count(a), h("div", {}, h("div", { class: "t" }, a.reason), h("div", { class: "meta" }, status(a.status), a.where, h("a", { href: link("cells", { q: `status=${a.status} and reason=${quote(a.reason)}` }) }, "show cells"))))))),
        D.isolation && D.isolation.compared > 0 && bothWays(D.isolation)),
      h("aside", { class: "stack" },
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Asked and reported")), kv([
          ["selected", plural(D.selected, "cell")], ["reported", plural(n, "cell") + (n === D.selected ? "" : ": not the same!")],
          ["selection", D.run.select || "all"], ["matrix", `${D.run.matrix.file}, ${D.run.matrix.name}`], ["sha256", h("code", { title: D.run.matrix.sha256 }, D.run.matrix.sha256.slice(0, 12))],
          ["lock", D.run.lock && D.run.lock.sha256 ? h("code", { title: D.run.lock.sha256 }, D.run.lock.sha256.slice(0, 12)) : "none"], ["cut-off", D.run.lock && when(D.run.lock.cutoff)],
          ["result", `exit ${D.exit.code}${D.exit.because ? `: ${D.exit.because}` : ""}`], ["fails on", D.exit.policy]])),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Coverage")), kv([
          ["cells", h("a", { href: link("cells", { q: "not status=skipped,unsupported,blocked or status=blocked and category!=infrastructure" }) }, `${D.coverage.cells.told.toLocaleString("en")} of ${D.coverage.cells.all.toLocaleString("en")} tried`)],
          ["pairs", [`${D.coverage.pairs.told.toLocaleString("en")} of ${D.coverage.pairs.all.toLocaleString("en")} tried`, h("div", { class: "faint" }, `${D.coverage.pairs.verified.toLocaleString("en")} in a verified cell`)]],
          ["sampled", D.run.candidates > n && `${plural(n, "cell")} of ${D.run.candidates.toLocaleString("en")} that fit`]]), h("p", { class: "note faint" }, "Pairs of values: stacks, model, options.")),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Run")), kv([["id", D.run.id], ["took", D.took], ["finished", when(D.run.finished)], ["command", h("code", {}, D.run.command)], ["version", D.version]])),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Machine")), kv([["processor", m.cpu], ["cores", String(m.cores)], ["memory", D.memory],
          ["GPU", m.gpus.length ? m.gpus.map(g => h("div", {}, `${g.name} (${g.compute_capability}, ${bytes(g.memory)})`)) : "none"], ["driver", m.driver], ["system", `${m.platform}, kernel ${m.kernel}${m.glibc ? `, glibc ${m.glibc}` : ""}`]])))),
  ];
}
function sincePanel() { // what changed since the last run of the same selection
  const S = D.since; if (!S) return null;
  const bad = S.regressions > 0, first = 8, item = (g, i) => h("li", {}, count(g), h("div", {}, h("div", { class: "t" }, `${g.title}: `, h("span", { class: "became" }, rich(clip(g.became, 220)))), g.causes.length > 0 && h("div", { class: "fix" }, `Cause: ${g.causes.join("; ")}.`), g.beside.length > 0 && h("div", { class: "fix" }, `Beside: ${g.beside.join("; ")}.`), g.remedy && h("div", { class: "fix" }, rich(g.remedy)),
    h("div", { class: "meta" }, h("span", { class: "tag", "data-tip": g.meaning, tabindex: 0 }, g.kind), g.cells.length > 0 && h("a", { href: g.cells.length === 1 ? link("cell/" + g.cells[0]) : link("cells", { since: i }) }, g.cells.length === 1 ? "show cell" : "show cells"))));
  const ul = h("ul", { class: "finds" }, S.groups.slice(0, first).map(item));
  return h("section", { class: "panel", id: "since" }, h("header", {}, h("h2", {}, "Since the last run"), h("span", { class: "faint" }, S.old ? `${S.old} → ${S.new}` : "the first one of this selection"), S.old && h("span", { class: `tag ${bad ? "bad" : ""}`, style: { "margin-left": "auto" } }, bad ? plural(S.regressions, "regression") : "no regression")),
    S.old && h("p", { class: "note" }, opening(S.headline), S.changes.length > 0 && h("span", { class: "faint" }, ` Changed: ${S.changes.join("; ")}.`)),
    S.groups.length > 0 && ul,
    S.groups.length > first && h("p", { class: "more" }, h("button", { class: "btn", onclick: e => { ul.append(...S.groups.slice(first).map((g, i) => item(g, i + first))); e.target.parentNode.remove(); } }, `Show ${S.groups.length - first} more`)));
}
function suitesPanel() { // thousands of cases, a line for each engine stack; operators.html has them one by one
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Suites"), h("span", { class: "faint" }, "cases that others wrote"), h("a", { href: "operators.html" }, "which operators work where")),
    h("div", { class: "scroll" }, h("table", { class: "plain suites" }, h("thead", {}, h("tr", {}, h("th", {}, "engine stack"), h("th", { class: "num" }, "cases"), h("th", { class: "num" }, "verified"), h("th", {}, "others"))),
      h("tbody", {}, D.suites.map(x => h("tr", {}, h("td", {}, `${x.engine.id} · ${x.suite}`), h("td", { class: "num" }, x.cells.toLocaleString("en")), h("td", { class: "num" }, (x.counts.verified || 0).toLocaleString("en")),
        h("td", {}, ORDER.filter(s => s !== "verified" && x.counts[s]).map(s => [status(s, `${x.counts[s].toLocaleString("en")} ${s}`), " "]))))))));
}
function bothWays(b) {
  const more = o => [o.category, ...o.degraded].filter(Boolean).join(", "), told = o => `${o.status} at ${o.stage}${more(o) && ` (${more(o)})`}`;
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Docker and virtual environments"), h("span", { class: "faint" }, `${plural(b.compared, "cell")} ran both ways`)),
    b.differences.length ? h("ul", { class: "finds" }, b.differences.map(d => h("li", {}, h("span", { class: "n" }, "≠"), h("div", {}, h("div", { class: "t" }, h("a", { href: link("cell/" + d.id) }, d.slug)), h("div", { class: "meta" }, h("span", {}, `virtual environment: ${told(d.venv)}`), h("span", {}, `Docker: ${told(d.docker)}`))))))
      : h("p", { class: "empty" }, `All came out the same.${b.numbers.length ? ` ${plural(b.numbers.length, "cell")} differ in the last digits.` : ""}`));
}
const count = x => h("span", { class: "n" }, x.count.toLocaleString("en"), h("small", {}, x.count === 1 ? "cell" : "cells"));
function findingPanel(title, list, note, none) {
  if (!list.length && !none) return null;
  const first = 12, ul = h("ul", { class: "finds" }, list.slice(0, first).map(finding));
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, title), h("span", { class: "faint" }, note),
    D.undiagnosed > 0 && title === "Findings" && h("span", { class: "tag", style: { "margin-left": "auto" }, "data-tip": "failed in a way that no signature of the catalogue explains" }, `${D.undiagnosed} undiagnosed`)),
    list.length ? ul : h("p", { class: "empty" }, none),
    list.length > first && h("p", { class: "more" }, h("button", { class: "btn", onclick: e => { ul.append(...list.slice(first).map(finding)); e.target.parentNode.remove(); } }, `Show ${list.length - first} more`)));
}
function finding(f) {
  const i = D.findings.indexOf(f);
  return h("li", {}, count(f), h("div", {}, h("div", { class: "t" }, rich(f.title)),
    f.remedy && h("div", { class: "fix" }, rich(f.remedy)),
    h("div", { class: "meta" }, status(f.status), f.category && h("span", { class: "tag" }, f.category), h("span", f.short !== f.where ? { "data-tip": f.where, tabindex: 0 } : {}, f.short), h("span", { class: "faint" }, f.models.length > 4 ? plural(f.models.length, "model") : f.models.join(", ")),
      h("a", { href: f.count === 1 ? link("cell/" + f.first) : link("cells", { finding: i }) }, f.count === 1 ? "show cell" : "show cells"), /^https:/.test(f.source || "") && sourceLink(f.source),
      f.line && f.line !== f.title && h("details", {}, h("summary", {}, "error line"), h("div", { class: "line" }, f.lines > 1 ? `${f.line}\n(one of ${f.lines} wordings)` : f.line)))));
}
const sourceLink = s => s && (/^https:\/\//.test(s) ? h("a", { href: s, rel: "noreferrer noopener" }, "source") : h("span", { class: "faint" }, s));
addView("overview", "Overview", overview);
