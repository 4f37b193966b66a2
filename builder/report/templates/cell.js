// one cell
const told = v => Array.isArray(v) ? v.map(told).join(", ") : v && typeof v === "object" ? Object.entries(v).map(([k, x]) => `${k} ${x && typeof x === "object" ? `(${told(x)})` : x}`).join(", ") : String(v);
const opening = text => text.charAt(0).toUpperCase() + text.slice(1);
const EXPECTED = { expected: "Expected.", fixed: "Works, and was expected to fail.", overdue: "Expected to fail until a day that is past.", "other-failure": "Another failure was expected:" };
function cell(id) {
  const c = byId.get(id);
  if (!c) return [h("div", { class: "head" }, h("h1", {}, "No such cell")), h("p", {}, `This report has no cell ${clip(id, 40)}. `, h("a", { href: link("cells") }, "All cells"))];
  const at = current ? current.indexOf(c) : -1, list = at < 0 ? D.cells : current, i = at < 0 ? c.at : at, bad = FAILING.has(c.status);
  const kv = rows => h("dl", { class: "kv" }, rows.filter(r => r && r[1]).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  const longest = Math.max(...(c.stages || []).map(s => s.seconds || 0), 1e-9), loaded = c.loaded;
  const stack = (s, cells, way, image) => h("section", { class: "panel" }, h("header", {}, h("h2", {}, cells)), kv([["stack", h("a", { href: link("cells", { q: `${cells === "Engine stack" ? "engine" : "exporter"}.id=${quote(s.id)}` }) }, s.id)], ["entry", s.entry], ...Object.entries(s.fields), ["realised in", way === "docker" ? "Docker" : "a virtual environment"], ...(image ? [["image", image.tag], ["base", `${image.base}@${image.digest}`]] : [])]));
  return [
    h("div", { class: "cellhead" },
      h("div", { class: "trail" }, h("a", { href: backTo }, "← cells"), h("span", {}, i > 0 && h("a", { href: link("cell/" + list[i - 1].id), rel: "prev" }, "previous"), h("span", { class: "faint" }, `${i + 1} of ${list.length}`), i < list.length - 1 && h("a", { href: link("cell/" + list[i + 1].id), rel: "next" }, "next"))),
      h("h1", {}, `${c.E.family} ${c.E.label}`, h("span", { class: "soft" }, c.axes.model), status(c.status)),
      h("p", { class: "soft" }, [...options(c), `exported by ${c.X.id}`].join(" · "))),
    h("div", { class: "grid2" },
      h("div", { class: "stack" },
        h("section", { class: `panel why2 s-${c.status}` }, h("div", { class: "body" },
          h("p", { class: "lead" }, rich(opening(c.diagnosis || c.reason || MEANING[c.status]))),
          c.line && h("div", { class: "line" }, c.line), c.remedy && h("p", {}, h("b", {}, "What to do. "), rich(c.remedy)),
          (bad || c.category) && h("p", { class: "soft" }, h("span", { class: "tag" }, c.category || "no category"), " ", c.signature ? h("code", {}, c.signature) : bad && !c.degraded && c.status !== "mismatch" ? "no signature of the catalogue explains it" : null, " ", sourceLink(c.source)),
          c.expected && h("p", {}, h("b", {}, EXPECTED[c.expected.state] || c.expected.state, " "), c.expected.state === "other-failure" && [h("span", { class: "tag" }, c.expected.fail), " "], c.expected.because, h("span", { class: "faint" }, ` ${c.expected.where}${c.expected.until ? `, until ${c.expected.until}` : ""}`)),
          c.flaky && h("p", {}, h("b", {}, "Flaky. "), "A stage needed another try."))),
        excerptOf(c), bad && !c.comparison && beside(c),
        c.degraded && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Asked and got")), h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["asked", "got", "how it shows"].map(t => h("th", { scope: "col" }, t)))), h("tbody", {}, c.degraded.map(d => h("tr", {}, h("td", {}, String(d.asked)), h("td", {}, String(d.got)), h("td", { style: { "white-space": "normal" } }, String(d.how)))))))),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Stages"), h("span", { class: "faint" }, c.reused ? "from an earlier run, under the same key" : clock(c.seconds))), h("ol", { class: "steps" }, (c.stages || []).map((s, n) => {
          const whose = s.stage === "environment" && c.stages.filter(x => x.stage === "environment").length === 2 ? (n ? "engine " : "exporter ") : "";
          const k = s.state === "failed" ? (bad ? c.status : "failed") : s.state === "ok" ? "verified" : "skipped";
          return h("li", { class: `s-${k}` }, h("span", { class: "dot" }, icon(s.state === "failed" ? k : s.state === "ok" ? "verified" : s.state === "skipped" ? "skipped" : "not-reached")), h("span", { class: s.state === "ok" || s.state === "failed" ? null : "not" }, whose + (MADE.has(s.step) ? s.step : s.stage)), h("span", { class: "t" }, clock(s.seconds)), h("span", { class: "b", style: s.seconds ? {} : { visibility: "hidden" } }, h("i", { style: { width: `${100 * (s.seconds || 0) / longest}%` } })), h("span", { class: "o" }, s.state === "not-reached" ? "not reached" : s.state === "skipped" ? "skipped" : s.reused ? "reused" : "", s.log && h("a", { href: "../" + s.log.split("/").map(encodeURIComponent).join("/") }, "log")));
        }))),
        comparison(c), pictures(c), located(c),
        (!bad || c.comparison) && beside(c), timingOf(c),
        c.found && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "What the engine says")), kv(Object.entries(c.found).slice(0, 24).map(([k, v]) => [k.replace(/_/g, " "), clip(told(v), 400)]))),
        loaded && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Declared and loaded")), declaredOf(c), h("div", { class: "body" }, h("p", { class: "soft" }, Object.entries(loaded.modules || {}).map(([k, v]) => `${k} ${typeof v === "string" ? v : v && v.version || ""}`).join(" · ")), (loaded.libraries || []).length > 0 && h("details", {}, h("summary", {}, plural(loaded.libraries.length, "library").replace("librarys", "libraries")), h("ul", {}, loaded.libraries.map(l => h("li", {}, typeof l === "string" ? l : l.path || l.name))))))),
      h("aside", { class: "stack" },
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Run it again")), h("div", { class: "body" }, h("div", { class: "cmd" }, h("code", {}, c.command), h("button", { class: "btn", type: "button", onclick: e => copy(c.command, e.target) }, "Copy")), c.repro && h("p", { class: "soft", style: { "overflow-wrap": "anywhere" } }, c.repro.path ? [h("b", {}, "For others. "), c.repro.own ? "A folder that shows it with nothing but the pinned packages: " : "A folder of a cell that fails alike: ", h("a", { href: "../" + c.repro.path.split("/").map(encodeURIComponent).join("/") + "/README.md" }, c.repro.path)] : [h("b", {}, "No folder for others. "), c.repro.why]))),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Cell")), kv([["id", h("code", {}, c.id)], ["model", c.axes.model], ...AXES.filter(a => a in c.axes).map(a => [a, c.axes[a]]), ["slug", h("code", {}, c.slug)], ["run", when(c.when)], ["key", c.key && h("code", { title: c.key }, c.key.slice(0, 16))]])),
        foreseen(c), stack(c.E, "Engine stack", c.isolation.engine, c.image), stack(c.X, "Exporter stack", c.isolation.exporter),
        c.artifact && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Engine file")), kv([["size", bytes(c.artifact.bytes)], ["sha256", h("code", { title: c.artifact.sha256 }, c.artifact.sha256.slice(0, 16))], ["path", c.artifact.path && h("code", {}, c.artifact.path)]])))),
  ];
}
const MADE = new Set(["calibrate", "convert"]); // steps that are told apart from the export whose stage they are
function comparison(c) {
  const k = c.comparison; if (!k) return null;
  const tol = Object.entries(k.tolerance || {}).filter(([, v]) => typeof v === "number").map(([n, v]) => `${n} ${number(v)}`).join(", ");
  const cols = [["mismatched", "beyond tolerance", x => x === null || x === undefined ? "–" : x === 0 ? "0" : `${(100 * x).toPrecision(3)} %`], ["max_abs", "max |a−b|", number], ["p99_abs", "p99", number], ["mean_abs", "mean", number], ...((k.outputs || []).some(o => o.noise) ? [["noise", "noise floor", n => number(n && n.max_abs)]] : []), ["cosine", "cosine", x => x === null || x === undefined ? "–" : x.toFixed(6)], ["snr_db", "SNR dB", x => x === null || x === undefined ? "–" : x.toFixed(1)]];
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Against the reference"), h("span", { class: "faint" }, tol && `tolerance: ${tol}`)),
    h("div", { class: "scroll", style: { "padding-top": "8px" } }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "output"), h("th", { scope: "col" }, "case"), h("th", { scope: "col" }, "verdict"), cols.map(x => h("th", { scope: "col", class: "num" }, x[1])))),
      h("tbody", {}, (k.outputs || []).map(o => h("tr", {}, h("td", { title: `${o.dtype} [${(o.shape || []).join(", ")}]` }, o.name), h("td", { class: "soft" }, o.case), h("td", {}, status(o.verdict === "match" ? "verified" : "mismatch", o.nonfinite_equal === false ? "non-finite differs" : o.verdict)), cols.map(([f, , show]) => h("td", { class: "num" }, show(o[f])))))))),
    k.noise_by && h("p", { class: "body faint", style: { "font-size": "12.5px" } }, `Noise floor: how far the framework in FP32 is from itself, computed another way (${k.noise_by}).`),
    (k.metric || k.reason && k.reason !== c.line) && h("div", { class: "body", style: { "border-top": "1px solid var(--line)" } }, k.metric && h("p", {}, status(k.metric.verdict === "match" ? "verified" : "mismatch", k.metric.name), ` ${number(k.metric.value)}, at least ${number(k.metric.minimum)} asked`), k.reason && k.reason !== c.line && h("p", { class: "soft" }, k.reason)));
}
function copy(text, button) {
  const done = ok => { button.textContent = ok ? "Copied" : "Press Ctrl-C"; said.textContent = button.textContent; setTimeout(() => { button.textContent = "Copy"; }, 1600); };
  const old = () => { const r = document.createRange(); r.selectNodeContents(button.previousSibling); const s = getSelection(); s.removeAllRanges(); s.addRange(r); done(document.execCommand("copy")); };
  if (navigator.clipboard && isSecureContext) navigator.clipboard.writeText(text).then(() => done(true), old); else old();
}

function pictures(c) { // reference, engine, difference of outputs that are pictures
  const list = (c.files && c.files.pictures) || []; if (!list.length) return null;
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Side by side"), h("span", { class: "faint" }, "reference, engine, difference")), list.map(p => {
    const src = D.pictures[p.path], o = ((c.comparison || {}).outputs || []).find(x => x.case === p.case && x.name === p.name) || {}, scale = o.noise && o.noise.scale;
    const told = [p.difference === null || p.difference === undefined ? "nothing finite to compare" : `white is a difference of ${number(p.difference)}${scale ? `, ${number(100 * p.difference / scale)} % of the reference's largest value` : ""}`, o.snr_db !== undefined && o.snr_db !== null && `SNR ${o.snr_db.toFixed(1)} dB`, o.cosine !== undefined && o.cosine !== null && `cosine ${o.cosine.toFixed(6)}`, p.broken > 0 && `${p.broken.toLocaleString("en")} places are not finite (magenta)`, p.step > 1 && `every ${p.step}th place`].filter(Boolean).join(", ");
    return h("figure", { class: "beside" }, src ? h("img", { src, alt: `${p.name} of case ${p.case}: reference, engine and difference side by side; ${told}`, width: 3 * p.width + 8, height: p.height }) : h("p", { class: "empty" }, "Kept at ", h("code", {}, p.path)),
      h("figcaption", {}, h("b", {}, p.name), ` case ${p.case}${p.kind === "classes" ? ", each place in the colour of its class" : ""}: ${told}`));
  }));
}
function located(c) {
  const f = c.located;
  if (!f) return c.status === "mismatch" && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Where it goes wrong")), h("div", { class: "body" }, h("p", {}, "Not looked for yet. This finds the first tensor that goes wrong, and the piece of the model that shows it:"), h("div", { class: "cmd" }, h("code", {}, `${programOf(c)} locate ${c.id}`), h("button", { class: "btn", type: "button", onclick: e => copy(`${programOf(c)} locate ${c.id}`, e.target) }, "Copy"))));
  const told = e => e.reason || (e.error === null || e.error === undefined ? "–" : number(e.error)), row = (e, made, kind) => h("tr", {}, h("td", { style: { "white-space": "normal", "overflow-wrap": "anywhere" } }, e.tensor), h("td", { class: "soft" }, made), h("td", { class: "num", style: { "white-space": "normal" } }, told(e)), h("td", { class: "num soft" }, number(e.noise)), h("td", {}, status(kind ? "mismatch" : "verified", kind ? "wrong" : "right")));
  const bad = e => e.wrong || e.error > f.limit, healed = f.left.filter(x => x.why === "healed"), table = rows => h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["tensor", "made by", "error", "noise", ""].map((t, i) => h("th", { scope: "col", class: i === 2 || i === 3 ? "num" : null }, t)))), h("tbody", {}, rows)));
  return h("section", { class: "panel", id: "located" }, h("header", {}, h("h2", {}, "Where it goes wrong"), h("span", { class: "faint" }, `case ${f.case}, more than ${number(f.limit)} is wrong`)),
    f.first ? [h("div", { class: "body" }, h("p", { class: "lead" }, "First wrong: ", h("code", {}, f.first.tensor), ", made by ", h("b", {}, f.first.operator), ` ${f.first.node}`),
      !f.first.sudden && h("p", {}, "Its inputs are nearly as far off: the error grows along the way."), !f.confirmed && h("p", {}, "In doubt: it and all its inputs could not be seen in one engine that was still wrong."), !f.finished && h("p", {}, "In doubt: the search ended at its limit."),
      healed.length > 0 && h("p", {}, `With ${healed.map(x => x.tensor).slice(0, 5).join(", ")} marked the output was right: what the library fuses there is part of it.`), f.absorbed.length > 0 && h("p", {}, `Wrong too, and without consequence: ${f.absorbed.slice(0, 5).join(", ")}.`),
      f.subgraph && h("p", {}, h("a", { href: "../" + f.subgraph.path.split("/").map(encodeURIComponent).join("/") }, f.subgraph.reproduces ? "The piece of the model that shows it" : "A piece of the model (which alone does not show it)"), ` (${f.subgraph.nodes.length} of ${plural(f.subgraph.of, "node")}), with `, h("a", { href: "../" + f.subgraph.inputs.split("/").map(encodeURIComponent).join("/") }, "its inputs"))),
      table([row(f.first, f.first.operator, true), ...f.first.inputs.map(e => row(e, "input", bad(e)))])] : h("p", { class: "empty" }, `No tensor goes wrong: ${f.measured.length} of ${f.tensors} measured.`),
    f.measured.length > 0 && h("details", { class: "body" }, h("summary", {}, `${f.measured.length} of ${plural(f.tensors, "tensor")} measured, with ${plural(f.engines, "engine")}`), table(f.measured.map(e => row(e, e.operator, bad(e)))), h("p", { class: "faint" }, `${f.method} (${f.reference}). Limit: ${f.limit_by}.`)));
}
