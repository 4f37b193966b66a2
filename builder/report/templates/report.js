"use strict";
(() => {
// The data is foreign text: it only ever becomes text nodes and attributes, never markup.
const D = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), tip = document.getElementById("tip"), said = document.getElementById("said");
const FAILING = new Set(D.failing), ORDER = D.statuses.map(s => s[0]), MEANING = Object.fromEntries(D.statuses);
// What a square shows when its cells differ: the worst of them, a failure nobody expected before all else.
const WORST = ["crashed", "out-of-memory", "timeout", "failed", "mismatch", "degraded", "blocked", "unsupported", "skipped", "built", "verified"];
const byId = new Map(D.cells.map((c, i) => [c.id, (c.at = i, c)]));
const AXES = Object.keys(D.axes).filter(a => a !== "model");
for (const c of D.cells) { c.E = D.engines[c.engine]; c.X = D.exporters[c.exporter]; }

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = { // [filled path, stroked path] on 16 x 16
  verified: ["M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm3.9 5.1-4.5 5a.9.9 0 0 1-1.3 0L4 9a.9.9 0 0 1 1.3-1.3l1.4 1.4 3.9-4.3a.9.9 0 0 1 1.3 1.3Z", ""],
  built: ["M8 3a5 5 0 0 0 0 10Z", "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z"],
  degraded: ["M8 8h5.2L8 13.6Z", "M8 1.9 14.1 8 8 14.1 1.9 8Z"],
  mismatch: ["", "M2.5 6h11M2.5 10h11M10.6 2.6 5.4 13.4"],
  failed: ["", "m3.2 3.2 9.6 9.6m0-9.6-9.6 9.6"],
  crashed: ["M9.6.8 2.9 9h3.8L5.9 15.2 13.1 6.6H8.9Z", ""],
  timeout: ["", "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 2.6V8l2.4 1.6"],
  "out-of-memory": ["M4.4 8.6h7.2v3H4.4zM4.4 4.4h7.2v3H4.4z", "M2.2 2.2h11.6v11.6H2.2Z"],
  unsupported: ["", "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM3.8 12.2l8.4-8.4"],
  skipped: ["", "M3.5 8h9"],
  blocked: ["", "M5.5 1.9h5l3.6 3.6v5l-3.6 3.6h-5l-3.6-3.6v-5ZM5 8h6"],
  ok: ["M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z", ""],
  "not-reached": ["", "M8 4.7a3.3 3.3 0 1 0 0 6.6 3.3 3.3 0 0 0 0-6.6Z"],
};
function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16"); svg.setAttribute("class", "i"); svg.setAttribute("aria-hidden", "true");
  const [fill, stroke] = SHAPES[name] || SHAPES.skipped;
  if (fill) { const p = document.createElementNS(SVG, "path"); p.setAttribute("d", fill); p.setAttribute("fill", "currentColor"); svg.append(p); }
  if (stroke) {
    const p = document.createElementNS(SVG, "path");
    for (const [k, v] of Object.entries({ d: stroke, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" })) p.setAttribute(k, v);
    svg.append(p);
  }
  return svg;
}
function h(name, attrs, ...children) {
  const el = document.createElement(name);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (k === "style") Object.entries(v).forEach(([p, x]) => el.style.setProperty(p, x));
    else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
  return el;
}
const status = (s, text) => h("span", { class: `st s-${s}` }, icon(s), text === undefined ? s : text);
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const clock = s => s === null || s === undefined ? "" : s < 0.0995 ? `${(s * 1e3).toFixed(s < 0.00995 ? 1 : 0)} ms` : s < 60 ? `${s.toFixed(s < 10 ? 2 : 1)} s` : `${Math.floor(s / 60)} min ${String(Math.round(s % 60)).padStart(2, "0")} s`;
const millis = s => { const m = s * 1e3; return m >= 100 ? m.toFixed(0) : m >= 10 ? m.toFixed(1) : m >= 1 ? m.toFixed(2) : m.toFixed(3); };
const bytes = n => { let u = 0; while (n >= 1024 && u < 3) { n /= 1024; u++; } return `${u && n < 10 ? n.toFixed(1) : Math.round(n)} ${["B", "KiB", "MiB", "GiB"][u]}`; };
const number = x => x === null || x === undefined ? "–" : x === 0 ? "0" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5 ? String(+x.toPrecision(4)) : x.toExponential(2);
const when = iso => iso ? iso.replace("T", " ").replace(/(:\d\d)(\.\d+)?Z$/, "$1 UTC") : "";
const options = c => AXES.filter(a => a in c.axes).map(a => a === "opset" ? `opset ${c.axes[a]}` : a === "built-on" ? `built on ${c.axes[a]}` : c.axes[a]);
const isKnown = c => c.expected && c.expected.state === "expected";
const link = (view, params) => `#/${view}` + (params && Object.keys(params).length ? "?" + Object.entries(params).map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&") : "");
const rich = text => String(text).split(/`([^`]{1,120})`/).map((part, i) => i % 2 ? h("code", {}, part) : part); // `code` in our own sentences
const quote = v => /[\s,()'"]/.test(v) ? (v.includes('"') ? `'${v}'` : `"${v}"`) : v;
const clip = (text, n) => text.length > n ? text.slice(0, n - 1) + "…" : text;

// ---------------------------------------------------------------- the selector language (as `--select`, see `plan --help`)
const FIELDS = new Map();
for (const f of ["id", "slug", "status", "stage", "category", "signature", "line", "reason"]) FIELDS.set(f, c => c[f]);
for (const a of Object.keys(D.axes)) FIELDS.set(a, c => c.axes[a]);
FIELDS.set("expected", c => c.expected && c.expected.state);
FIELDS.set("flaky", c => c.flaky ? "yes" : "no");
for (const [role, at] of [["engine", "E"], ["exporter", "X"]]) {
  FIELDS.set(role, c => c[at].entry); FIELDS.set(`${role}.id`, c => c[at].id); FIELDS.set(`${role}.family`, c => c[at].family);
  for (const c of D.cells) for (const f of Object.keys(c[at].fields)) FIELDS.set(`${role}.${f}`, x => x[at].fields[f]);
}
for (const name of [...FIELDS.keys()].filter(n => n.includes("."))) {
  const bare = name.split(".")[1];
  const other = (name.startsWith("engine.") ? "exporter." : "engine.") + bare;
  if (!FIELDS.has(bare) && !FIELDS.has(other)) FIELDS.set(bare, FIELDS.get(name));
}
FIELDS.set("family", FIELDS.get("engine.family"));
const versionOf = text => text.split(/[.+_-]/).map(p => /^\d+$/.test(p) ? +p : p);
function compare(a, b) {
  const x = versionOf(a), y = versionOf(b);
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const p = x[i] === undefined ? 0 : x[i], q = y[i] === undefined ? 0 : y[i];
    if (p === q) continue;
    if (typeof p === typeof q) return p < q ? -1 : 1;
    return typeof p === "number" ? 1 : -1;
  }
  return 0;
}
const glob = pattern => new RegExp("^" + pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, ".*").replace(/\?/g, ".") + "$", "i");
function parse(text) {
  const tokens = [], re = /\s+|(!=|>=|<=|=|>|<)|([(),])|"([^"]*)"|'([^']*)'|([^\s=!<>(),"']+)/gy;
  while (re.lastIndex < text.length) {
    const at = re.lastIndex, m = re.exec(text);
    if (!m) throw new Error(`character ${at + 1} is out of place`);
    const kind = m[1] ? "op" : m[2] ? "punct" : m[3] !== undefined || m[4] !== undefined ? "quoted" : m[5] ? "word" : "";
    if (kind) tokens.push([kind, m[1] || m[2] || m[3] || m[4] || m[5] || ""]);
  }
  let i = 0;
  const word = w => i < tokens.length && tokens[i][0] === "word" && tokens[i][1] === w && ++i;
  function either() { let l = both(); while (word("or")) { const a = l, r = both(); l = c => a(c) || r(c); } return l; }
  function both() { let l = negation(); while (word("and")) { const a = l, r = negation(); l = c => a(c) && r(c); } return l; }
  function negation() {
    if (word("not")) { const x = negation(); return c => !x(c); }
    if (tokens[i] && tokens[i][1] === "(" && tokens[i][0] === "punct") {
      i++; const x = either();
      if (!tokens[i] || tokens[i][1] !== ")") throw new Error("a parenthesis is not closed");
      i++; return x;
    }
    return term();
  }
  function term() {
    const t = tokens[i++];
    if (!t || !["word", "quoted"].includes(t[0]) || t[1] === "and" || t[1] === "or") throw new Error("a term is missing");
    if (!tokens[i] || tokens[i][0] !== "op") {
      if (t[1] === "all") return () => true;
      if (t[1][0] === "#") { const id = t[1].slice(1); return c => c.id.startsWith(id); }
      if (/[*?]/.test(t[1])) { const g = glob(t[1]); return c => g.test(c.slug); }
      throw new Error("words");
    }
    const op = tokens[i++][1], get = FIELDS.get(t[1]), values = [];
    if (!get) throw new Error(`unknown field ${t[1]}`);
    do {
      const v = tokens[i++];
      if (!v || !["word", "quoted"].includes(v[0])) throw new Error(`a value after ${op} is missing`);
      values.push(v[1]);
    } while (tokens[i] && tokens[i][0] === "punct" && tokens[i][1] === "," && ++i);
    if (op === "=" || op === "!=") {
      const globs = values.map(glob);
      return c => { const v = get(c); return v !== undefined && v !== null && globs.some(g => g.test(v)) === (op === "="); };
    }
    return c => {
      const v = get(c); if (v === undefined || v === null) return false;
      const r = compare(v, values[0]);
      return op === ">" ? r > 0 : op === ">=" ? r >= 0 : op === "<" ? r < 0 : r <= 0;
    };
  }
  const out = either();
  if (i < tokens.length) throw new Error("join terms with 'and' or 'or'");
  return out;
}
const haystack = c => c.text || (c.text = [c.id, c.slug, c.status, c.stage, c.category, c.signature, c.line, c.reason, c.diagnosis].filter(Boolean).join("\n").toLowerCase());
function selector(text) { // [predicate, hint]
  text = text.trim();
  if (!text) return [() => true, ""];
  try { return [parse(text), ""]; } catch (e) {
    const words = text.toLowerCase().split(/\s+/);
    const plain = c => words.every(w => haystack(c).includes(w));
    return [plain, /[=<>]/.test(text) ? `${e.message}; searching for the words instead` : ""];
  }
}

// ---------------------------------------------------------------- overview
function overview() {
  const n = D.cells.length + D.suites.reduce((a, x) => a + x.cells, 0), good = (D.counts.verified || 0), failing = D.cells.filter(c => FAILING.has(c.status)), known = failing.filter(isKnown).length;
  const fixed = D.cells.filter(c => c.expected && c.expected.state !== "expected");
  const shown = ORDER.filter(s => D.counts[s]), zero = ORDER.filter(s => !D.counts[s]);
  const bits = [`${plural(new Set([...D.engines, ...D.suites.map(x => x.engine)].map(e => e.id)).size, "engine stack")}`, plural(D.axes.model ? D.axes.model.length : 0, "model"), `${plural(failing.length + D.suites.reduce((a, x) => a + ORDER.reduce((b, s) => b + (FAILING.has(s) ? x.counts[s] : 0), 0), 0), "failing cell")}${known ? `, ${known} of them expected` : ""}`];
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
          zero.length > 0 && h("p", { class: "faint", style: { padding: "0 18px 13px", "font-size": "12.5px" } }, `None ${zero.join(", ")}.`)),
        D.suites.length > 0 && suitesPanel(),
        findingPanel("Findings", D.findings.filter(f => !f.expected), "equal failures across cells", n === good ? "Nothing failed." : "No unexpected failure."),
        D.findings.some(f => f.expected) && findingPanel("Expected failures", D.findings.filter(f => f.expected), "named under expect: in the matrix; reported, not red"),
        fixed.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Expectations that no longer hold"), h("span", { class: "faint" }, `${fixed.length}`)),
          h("ul", { class: "finds" }, fixed.slice(0, 20).map(c => h("li", {}, h("span", { class: "n" }, icon(c.status)), h("div", {}, h("a", { href: link("cell/" + c.id) }, c.slug), h("div", { class: "fix" }, `${c.expected.state}: ${c.expected.because} (${c.expected.where})`)))))),
        D.absent.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Not run here"), h("span", { class: "faint" }, plural(D.absent.reduce((a, x) => a + x.count, 0), "cell"))),
          h("ul", { class: "finds" }, D.absent.map(a => h("li", {}, count(a), h("div", {}, h("div", { class: "t" }, a.reason), h("div", { class: "meta" }, status(a.status), a.where, h("a", { href: link("cells", { q: `status=${a.status} and reason=${quote(a.reason)}` }) }, "show cells"))))))),
        D.isolation && D.isolation.compared > 0 && bothWays(D.isolation)),
      h("aside", { class: "stack" },
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Asked and reported")), kv([
          ["selected", plural(D.selected, "cell")], ["reported", plural(n, "cell") + (n === D.selected ? "" : ": not the same!")],
          ["selection", D.run.select || "all"], ["matrix", `${D.run.matrix.file}, ${D.run.matrix.name}`], ["sha256", h("code", { title: D.run.matrix.sha256 }, D.run.matrix.sha256.slice(0, 12))],
          ["lock", D.run.lock && D.run.lock.sha256 ? h("code", { title: D.run.lock.sha256 }, D.run.lock.sha256.slice(0, 12)) : "none"], ["cut-off", D.run.lock && when(D.run.lock.cutoff)],
          ["result", `exit ${D.exit.code}${D.exit.because ? `: ${D.exit.because}` : ""}`], ["fails on", D.exit.policy]])),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Run")), kv([["id", D.run.id], ["took", D.took], ["finished", when(D.run.finished)], ["command", h("code", {}, D.run.command)], ["version", D.version]])),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Machine")), kv([["processor", m.cpu], ["cores", String(m.cores)], ["memory", D.memory],
          ["GPU", m.gpus.length ? m.gpus.map(g => h("div", {}, `${g.name} (${g.compute_capability}, ${bytes(g.memory)})`)) : "none"], ["driver", m.driver], ["system", `${m.platform}, kernel ${m.kernel}${m.glibc ? `, glibc ${m.glibc}` : ""}`]])))),
  ];
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
      h("a", { href: f.count === 1 ? link("cell/" + f.cells[0]) : link("cells", { finding: i }) }, f.count === 1 ? "show cell" : "show cells"), /^https:/.test(f.source || "") && sourceLink(f.source),
      f.line && f.line !== f.title && h("details", {}, h("summary", {}, "error line"), h("div", { class: "line" }, f.lines > 1 ? `${f.line}\n(one of ${f.lines} wordings)` : f.line)))));
}
const sourceLink = s => s && (/^https:\/\//.test(s) ? h("a", { href: s, rel: "noreferrer noopener" }, "source") : h("span", { class: "faint" }, s));

// ---------------------------------------------------------------- matrix
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

// ---------------------------------------------------------------- cells
const COLUMNS = [
  ["status", "outcome", c => WORST.indexOf(c.status), "180px"], ["engine", "engine stack", c => c.engine, "198px"], ["model", "model", c => c.axes.model, "104px"],
  ["opts", "options", c => options(c).join(" "), "196px"], ["exp", "exporter", c => c.exporter, "136px"], ["stage", "stage", c => c.stage, "100px"], ["why", "why", c => why(c), "auto"], ["sec", "took", c => c.seconds, "76px"],
];
let current = D.cells; // what the last table showed, in its order: the neighbours on the page of a cell
function cells(params) {
  const box = h("input", { type: "search", id: "filter", placeholder: "model=resnet50 and status!=verified, or any words", value: params.q || "", "aria-label": "Filter", autocomplete: "off", spellcheck: "false" });
  const hint = h("span", { class: "hint", role: "status" }), chips = h("div", { class: "chips", role: "group", "aria-label": "Outcomes" });
  const picked = new Set((params.status || "").split(",").filter(s => ORDER.includes(s)));
  let [key, down] = (params.sort || "").startsWith("-") ? [params.sort.slice(1), true] : [params.sort || "", false];
  const group = params.finding !== undefined && D.findings[+params.finding], ids = group && new Set(group.cells);
  const tbody = h("tbody", {}), sentinel = h("div", { class: "more" });
  const heads = COLUMNS.map(([k, text]) => h("th", { scope: "col", class: k === "sec" ? "r" : null }, h("button", { type: "button", onclick: () => { if (key !== k) [key, down] = [k, false]; else if (!down) down = true; else [key, down] = ["", false]; update(); } }, text)));
  let rows = [], shown = 0;
  function more(n) {
    const end = Math.min(rows.length, shown + n), part = document.createDocumentFragment();
    for (; shown < end; shown++) part.append(line(rows[shown]));
    tbody.append(part);
    sentinel.textContent = shown < rows.length ? `${(rows.length - shown).toLocaleString("en")} more below` : "";
  }
  function update() {
    const [accept, problem] = selector(box.value);
    const base = D.cells.filter(c => accept(c) && (!ids || ids.has(c.id)));
    rows = picked.size ? base.filter(c => picked.has(c.status)) : base;
    const column = COLUMNS.find(c => c[0] === key);
    if (column) { const f = column[2], sign = down ? -1 : 1; rows = rows.map((c, i) => [f(c), i, c]).sort((a, b) => (a[0] < b[0] ? -sign : a[0] > b[0] ? sign : a[1] - b[1])).map(x => x[2]); }
    heads.forEach((th, i) => COLUMNS[i][0] === key ? th.setAttribute("aria-sort", down ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
    hint.textContent = problem || `${rows.length.toLocaleString("en")} of ${plural(D.cells.length, "cell")}`;
    chips.replaceChildren(...ORDER.filter(s => D.counts[s]).map(s => h("button", { type: "button", class: `s-${s}`, "aria-pressed": String(picked.has(s)), onclick: e => { picked.has(s) ? picked.delete(s) : picked.add(s); update(); const again = chips.querySelector(`.s-${s}`); if (again && e.detail === 0) again.focus(); } }, icon(s), `${s} `, h("span", { class: "faint" }, String(base.filter(c => c.status === s).length)))));
    tbody.replaceChildren(); shown = 0; more(120); current = rows;
    if (!rows.length) tbody.append(h("tr", {}, h("td", { colspan: COLUMNS.length, class: "empty" }, "No cell fits.")));
    const p = {}; if (box.value.trim()) p.q = box.value.trim(); if (picked.size) p.status = [...picked].join(","); if (key) p.sort = (down ? "-" : "") + key; if (group) p.finding = params.finding;
    history.replaceState(null, "", link("cells", p));
  }
  let timer = 0;
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(update, 60); });
  new IntersectionObserver(e => { if (e.some(x => x.isIntersecting)) more(200); }, { rootMargin: "900px" }).observe(sentinel);
  all = () => more(1e9);
  update();
  return [
    h("div", { class: "head" }, h("h1", {}, "Cells"), group && h("p", {}, status(group.status, clip(group.title, 160)), " ", h("a", { href: link("cells") }, "all cells"))),
    h("div", { class: "tools" }, h("div", { class: "box" }, box), hint), h("div", { class: "tools" }, chips),
    h("section", { class: "panel" }, h("div", { class: "scroll" }, h("table", { class: "cells" }, h("colgroup", {}, COLUMNS.map(c => h("col", { style: { width: c[3] } }))), h("thead", {}, h("tr", {}, heads)), tbody)), sentinel),
  ];
}
let all = null;
const why = c => c.diagnosis || c.line || c.reason || "";
function line(c) {
  const to = link("cell/" + c.id);
  const tr = h("tr", {}, h("td", {}, h("a", { class: `st s-${c.status}`, href: to }, icon(c.status), c.status, isKnown(c) && h("span", { class: "tag" }, "expected"), c.flaky && h("span", { class: "tag" }, "flaky"))),
    h("td", { class: "c-engine", title: c.E.id }, `${c.E.family} ${c.E.label}`), h("td", { class: "c-model" }, c.axes.model), h("td", { class: "c-opts" }, options(c).join(" · ")), h("td", { class: "c-exp soft", title: c.X.id }, `${c.X.family} ${c.X.label}`), h("td", { class: "c-stage soft" }, c.stage), h("td", { class: "why", title: c.line || null }, clip(why(c), 200).replace(/`/g, "")), h("td", { class: "c-sec num soft" }, clock(c.seconds)));
  tr.addEventListener("click", e => { if (!e.target.closest("a") && !String(getSelection())) location.hash = to; });
  return tr;
}

// ---------------------------------------------------------------- one cell
const told = v => Array.isArray(v) ? v.map(told).join(", ") : v && typeof v === "object" ? Object.entries(v).map(([k, x]) => `${k} ${x && typeof x === "object" ? `(${told(x)})` : x}`).join(", ") : String(v);
const opening = text => text.charAt(0).toUpperCase() + text.slice(1);
function cell(id) {
  const c = byId.get(id);
  if (!c) return [h("div", { class: "head" }, h("h1", {}, "No such cell")), h("p", {}, `This report has no cell ${clip(id, 40)}. `, h("a", { href: link("cells") }, "All cells"))];
  const at = current.indexOf(c), list = at < 0 ? D.cells : current, i = at < 0 ? c.at : at, bad = FAILING.has(c.status);
  const kv = rows => h("dl", { class: "kv" }, rows.filter(r => r && r[1]).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  const longest = Math.max(...(c.stages || []).map(s => s.seconds || 0), 1e-9), loaded = c.loaded === undefined ? null : D.loaded[c.loaded];
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
          c.expected && h("p", {}, h("b", {}, c.expected.state === "expected" ? "Expected. " : `Expectation ${c.expected.state}. `), c.expected.because, h("span", { class: "faint" }, ` ${c.expected.where}${c.expected.until ? `, until ${c.expected.until}` : ""}`)),
          c.flaky && h("p", {}, h("b", {}, "Flaky. "), "A stage needed another try."))),
        c.degraded && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Asked and got")), h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["asked", "got", "how it shows"].map(t => h("th", { scope: "col" }, t)))), h("tbody", {}, c.degraded.map(d => h("tr", {}, h("td", {}, String(d.asked)), h("td", {}, String(d.got)), h("td", { style: { "white-space": "normal" } }, String(d.how)))))))),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Stages"), h("span", { class: "faint" }, c.reused ? "from an earlier run, under the same key" : clock(c.seconds))), h("ol", { class: "steps" }, (c.stages || []).map((s, n) => {
          const whose = s.stage === "environment" && c.stages.filter(x => x.stage === "environment").length === 2 ? (n ? "engine " : "exporter ") : "";
          const k = s.state === "failed" ? (bad ? c.status : "failed") : s.state === "ok" ? "verified" : "skipped";
          return h("li", { class: `s-${k}` }, h("span", { class: "dot" }, icon(s.state === "failed" ? k : s.state === "ok" ? "verified" : s.state === "skipped" ? "skipped" : "not-reached")), h("span", { class: s.state === "ok" || s.state === "failed" ? null : "not" }, whose + s.stage), h("span", { class: "t" }, clock(s.seconds)), h("span", { class: "b", style: s.seconds ? {} : { visibility: "hidden" } }, h("i", { style: { width: `${100 * (s.seconds || 0) / longest}%` } })), h("span", { class: "o" }, s.state === "not-reached" ? "not reached" : s.state === "skipped" ? "skipped" : s.reused ? "reused" : "", s.log && h("a", { href: "../" + s.log.split("/").map(encodeURIComponent).join("/") }, "log")));
        }))),
        comparison(c), pictures(c), located(c),
        c.measure && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Timing"), h("span", { class: "faint" }, c.measure.status)), c.measure.status === "settled" ? kv([["median", `${millis(c.measure.median)} ms`], ["p90", c.measure.p90 && `${millis(c.measure.p90)} ms`], ["p99", c.measure.p99 && `${millis(c.measure.p99)} ms`], ["samples", String(c.measure.samples)]]) : h("p", { class: "empty" }, "The windows never agreed, so there is no number.")),
        c.found && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "What the engine says")), kv(Object.entries(c.found).slice(0, 24).map(([k, v]) => [k.replace(/_/g, " "), clip(told(v), 400)]))),
        loaded && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Loaded")), h("div", { class: "body" }, h("p", {}, Object.entries(loaded.modules || {}).map(([k, v]) => `${k} ${typeof v === "string" ? v : v && v.version || ""}`).join(" · ")), (loaded.libraries || []).length > 0 && h("details", {}, h("summary", {}, plural(loaded.libraries.length, "library").replace("librarys", "libraries")), h("ul", {}, loaded.libraries.map(l => h("li", {}, typeof l === "string" ? l : l.path || l.name))))))),
      h("aside", { class: "stack" },
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Run it again")), h("div", { class: "body" }, h("div", { class: "cmd" }, h("code", {}, c.command), h("button", { class: "btn", type: "button", onclick: e => copy(c.command, e.target) }, "Copy")))),
        h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Cell")), kv([["id", h("code", {}, c.id)], ["model", c.axes.model], ...AXES.filter(a => a in c.axes).map(a => [a, c.axes[a]]), ["slug", h("code", {}, c.slug)], ["run", when(c.when)], ["key", c.key && h("code", { title: c.key }, c.key.slice(0, 16))]])),
        foreseen(c), stack(c.E, "Engine stack", c.isolation.engine, c.image), stack(c.X, "Exporter stack", c.isolation.exporter),
        c.artifact && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Engine file")), kv([["size", bytes(c.artifact.bytes)], ["sha256", h("code", { title: c.artifact.sha256 }, c.artifact.sha256.slice(0, 16))], ["path", c.artifact.path && h("code", {}, c.artifact.path)]])))),
  ];
}
function comparison(c) {
  const k = c.comparison; if (!k) return null;
  const tol = Object.entries(k.tolerance || {}).filter(([, v]) => typeof v === "number").map(([n, v]) => `${n} ${number(v)}`).join(", ");
  const cols = [["mismatched", "beyond tolerance", x => x === null || x === undefined ? "–" : x === 0 ? "0" : `${(100 * x).toPrecision(3)} %`], ["max_abs", "max |a−b|", number], ["p99_abs", "p99", number], ["mean_abs", "mean", number], ...((k.outputs || []).some(o => o.noise) ? [["noise", "noise floor", n => number(n && n.max_abs)]] : []), ["cosine", "cosine", x => x === null || x === undefined ? "–" : x.toFixed(6)], ["snr_db", "SNR dB", x => x === null || x === undefined ? "–" : x.toFixed(1)]];
  return h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Against the reference"), h("span", { class: "faint" }, tol && `tolerance: ${tol}`)),
    h("div", { class: "scroll", style: { "padding-top": "8px" } }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "output"), h("th", { scope: "col" }, "case"), cols.map(x => h("th", { scope: "col", class: "num" }, x[1])), h("th", { scope: "col" }, "verdict"))),
      h("tbody", {}, (k.outputs || []).map(o => h("tr", {}, h("td", { title: `${o.dtype} [${(o.shape || []).join(", ")}]` }, o.name), h("td", { class: "soft" }, o.case), cols.map(([f, , show]) => h("td", { class: "num" }, show(o[f]))), h("td", {}, status(o.verdict === "match" ? "verified" : "mismatch", o.nonfinite_equal === false ? "non-finite differs" : o.verdict))))))),
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
  if (!f) return c.status === "mismatch" && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Where it goes wrong")), h("div", { class: "body" }, h("p", {}, "Not looked for yet. This finds the first tensor that goes wrong, and the piece of the model that shows it:"), h("div", { class: "cmd" }, h("code", {}, `enginematrix locate ${c.id}`), h("button", { class: "btn", type: "button", onclick: e => copy(`enginematrix locate ${c.id}`, e.target) }, "Copy"))));
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

// ---------------------------------------------------------------- accuracy against speed
// A cell's error: the largest |a-b| of any output, as a share of that output's largest reference value.
function errorOf(c) {
  const outs = ((c.comparison || {}).outputs || []).map(o => o.nonfinite_equal === false ? Infinity : o.noise && o.noise.scale > 0 && o.max_abs !== null && o.max_abs !== undefined ? o.max_abs / o.noise.scale : null);
  return !outs.length || outs.includes(null) ? null : Math.max(...outs);
}
const floorOf = c => Math.max(0, ...((c.comparison || {}).outputs || []).map(o => o.noise && o.noise.scale > 0 ? o.noise.max_abs / o.noise.scale : 0));
const compared = D.cells.filter(c => errorOf(c) !== null);
const timeOf = c => c.measure && c.measure.status === "settled" && c.measure.median || null;
function frontOf(list) { // Pareto: nothing that matches the reference is both faster and nearer to it
  const front = new Set(); let best = Infinity;
  for (const c of list.filter(c => timeOf(c) && (c.status === "verified" || c.status === "degraded")).sort((a, b) => timeOf(a) - timeOf(b) || errorOf(a) - errorOf(b))) if (errorOf(c) < best) { best = errorOf(c); front.add(c); }
  return front;
}
function accuracy(params) {
  const models = (D.axes.model || []).filter(m => compared.some(c => c.axes.model === m));
  if (!models.length) return [h("div", { class: "head" }, h("h1", {}, "Accuracy against speed")), h("section", { class: "panel" }, h("p", { class: "empty" }, "Nothing was compared with a reference in this run."))];
  const model = models.includes(params.model) ? params.model : models[0], own = compared.filter(c => c.axes.model === model);
  // Static and dynamic models are timed at inputs of their own sizes: only the same work is held against each other.
  const sizes = [...new Set(own.map(c => c.axes.shapes || ""))], shapes = sizes.includes(params.shapes) ? params.shapes : sizes[0], list = own.filter(c => (c.axes.shapes || "") === shapes), front = frontOf(list), floor = Math.max(...list.map(floorOf));
  const rank = c => [front.has(c) ? 0 : 1, timeOf(c) || 1e9, errorOf(c)], rows = list.slice().sort((a, b) => { const x = rank(a), y = rank(b); return x[0] - y[0] || x[1] - y[1] || x[2] - y[2]; });
  const drawn = list.filter(c => timeOf(c) && Number.isFinite(errorOf(c))), plot = h("div", { id: "plot", role: "img", "aria-label": `Error of ${model} against its median time; the same numbers are in the table below` }, h("p", { class: "empty" }, "Drawing…"));
  if (drawn.length) drawAccuracy(plot, drawn, front, floor);
  const go = (m, s) => { location.hash = link("accuracy", s ? { model: m, shapes: s } : { model: m }); };
  return [
    h("div", { class: "head" }, h("h1", {}, "Accuracy against speed"), h("p", {}, "Error: the largest difference from the reference, as a share of its largest value. On the front: matches the reference, and nothing else that does is both faster and nearer to it.")),
    h("div", { class: "tools" }, h("span", { class: "hint" }, "Model"), models.length > 7 ? h("select", { "aria-label": "Model", onchange: e => go(e.target.value) }, models.map(m => h("option", { value: m, selected: m === model }, m))) : h("div", { class: "seg", role: "group", "aria-label": "Model" }, models.map(m => h("button", { type: "button", "aria-pressed": String(m === model), onclick: () => go(m) }, m))), sizes.length > 1 && h("div", { class: "seg", role: "group", "aria-label": "Shapes" }, sizes.map(s => h("button", { type: "button", "aria-pressed": String(s === shapes), onclick: () => go(model, s) }, s || "none")))),
    h("div", { class: "stack" }, h("section", { class: "panel" }, drawn.length ? plot : h("p", { class: "empty" }, `No timing of ${model} settled, so there is nothing to hold against; the errors are in the table.`)),
      h("section", { class: "panel" }, h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["outcome", "engine stack", "options", "median ms", "error", "noise floors", "front"].map((t, i) => h("th", { scope: "col", class: i > 2 && i < 6 ? "num" : null }, t)))),
        h("tbody", {}, rows.map(c => { const e = errorOf(c), n = floorOf(c); return h("tr", {}, h("td", {}, status(c.status)), h("td", {}, h("a", { href: link("cell/" + c.id) }, `${c.E.family} ${c.E.label}`)), h("td", { class: "soft" }, options(c).join(" · ")), h("td", { class: "num" }, timeOf(c) ? millis(timeOf(c)) : "–"), h("td", { class: "num" }, Number.isFinite(e) ? number(e) : "not finite"), h("td", { class: "num soft" }, n && Number.isFinite(e) ? `${number(+(e / n).toPrecision(2))} ×` : "–"), h("td", {}, front.has(c) ? "on the front" : "")); })))))),
  ];
}
async function drawAccuracy(el, list, front, floor) {
  let Plotly;
  try { Plotly = await library(); } catch (e) { el.replaceChildren(h("p", { class: "empty" }, `${e.message}; the table below has the numbers.`)); return; }
  if (!el.isConnected) return;
  const css = getComputedStyle(document.documentElement), v = n => css.getPropertyValue(n).trim(), plain = t => String(t).replace(/&/g, "&amp;").replace(/</g, "&lt;"), narrow = el.clientWidth < 620;
  const least = Math.min(...list.map(errorOf).filter(x => x > 0), floor || 1) / 3, y = c => Math.max(errorOf(c), least); // a logarithm has no place for 0
  const kinds = [...new Set(list.map(c => `${c.E.family} ${c.axes.precision || ""}`.trim()))];
  const traces = kinds.map((kind, i) => { const cs = list.filter(c => `${c.E.family} ${c.axes.precision || ""}`.trim() === kind); return { type: "scatter", mode: "markers", name: plain(kind), x: cs.map(c => timeOf(c) * 1e3), y: cs.map(y),
    marker: { size: cs.map(c => front.has(c) ? 13 : 9), color: SERIES[i % 7], symbol: cs.map(c => c.status === "mismatch" ? "x-thin-open" : MARKS[i % 6]), line: { width: cs.map(c => c.status === "mismatch" ? 2 : 0), color: SERIES[i % 7] } },
    customdata: cs.map(c => [plain(c.E.id), plain(options(c).join(" · ")), number(errorOf(c)), c.status, c.id]), hovertemplate: "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>median %{x:.3~f} ms · error %{customdata[2]}<extra>%{customdata[3]}</extra>" }; });
  const edge = [...front].filter(c => list.includes(c)).sort((a, b) => timeOf(a) - timeOf(b));
  if (edge.length) traces.unshift({ type: "scatter", mode: "lines", name: "front", x: edge.map(c => timeOf(c) * 1e3), y: edge.map(y), line: { shape: "hv", dash: "dot", width: 1.5, color: v("--soft") }, hoverinfo: "skip" });
  if (floor > 0) { const xs = list.map(c => timeOf(c) * 1e3); traces.unshift({ type: "scatter", mode: "lines", name: "noise floor", x: [Math.min(...xs), Math.max(...xs) * 1.001], y: [floor, floor], line: { dash: "dash", width: 1, color: v("--faint") }, hoverinfo: "skip" }); }
  el.replaceChildren();
  const axis = { type: "log", gridcolor: v("--line"), zerolinecolor: v("--line2"), linecolor: v("--line2"), tickfont: { color: v("--soft") } }, titled = text => ({ text, font: { size: 12, color: v("--faint") } });
  await Plotly.newPlot(el, traces, { height: narrow ? 420 : 460, margin: { l: 10, r: 20, t: 14, b: narrow ? 30 + 24 * traces.length : 76 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { family: css.getPropertyValue("--sans"), size: 12.5, color: v("--text") }, showlegend: true, legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0, font: { color: v("--soft") } }, hoverlabel: { bgcolor: v("--surface"), bordercolor: v("--line2"), font: { color: v("--text"), family: css.getPropertyValue("--sans") }, align: "left" },
    xaxis: { ...axis, title: titled("median ms") }, yaxis: { ...axis, automargin: true, exponentformat: "power", title: titled("error") }, hovermode: "closest", dragmode: narrow ? false : "zoom" }, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
  el.on("plotly_click", e => { const at = e.points[0].customdata; if (at) location.hash = link("cell/" + at[4]); });
}

// ---------------------------------------------------------------- speed
const timed = D.cells.filter(c => c.measure), settled = timed.filter(c => c.measure.status === "settled" && c.measure.median);
function speed(params) {
  const models = (D.axes.model || []).filter(m => settled.some(c => c.axes.model === m)), unstable = timed.filter(c => c.measure.status !== "settled");
  if (!timed.length) return [h("div", { class: "head" }, h("h1", {}, "Speed")), h("section", { class: "panel" }, h("p", { class: "empty" }, "Nothing was timed in this run. A cell is timed when a `set` rule of the matrix gives it `measure: true`."))];
  const model = models.includes(params.model) ? params.model : models[0];
  const list = settled.filter(c => c.axes.model === model).sort((a, b) => a.measure.median - b.measure.median);
  const plot = h("div", { id: "plot", role: "img", "aria-label": `Median time of ${model} by engine stack; the same numbers are in the table below` }, h("p", { class: "empty" }, "Drawing…"));
  if (list.length) draw(plot, list);
  const top = list.length ? list[list.length - 1].measure.median : 1;
  return [
    h("div", { class: "head" }, h("h1", {}, "Speed"), h("p", {}, "Only timings that settled, on this machine. Compare within one model and one set of options; two neighbours may still be equal.")),
    models.length > 0 && h("div", { class: "tools" }, h("span", { class: "hint" }, "Model"), models.length > 7 ? h("select", { "aria-label": "Model", onchange: e => { location.hash = link("speed", { model: e.target.value }); } }, models.map(m => h("option", { value: m, selected: m === model }, m))) : h("div", { class: "seg", role: "group", "aria-label": "Model" }, models.map(m => h("button", { type: "button", "aria-pressed": String(m === model), onclick: () => { location.hash = link("speed", { model: m }); } }, m)))),
    h("div", { class: "stack" }, list.length > 0 && h("section", { class: "panel" }, plot),
      list.length > 0 && h("section", { class: "panel" }, h("div", { class: "scroll" }, h("table", { class: "data rank" }, h("thead", {}, h("tr", {}, ["engine stack", "options", "", "median ms", "p90 ms", "samples"].map((t, i) => h("th", { scope: "col", class: i > 2 ? "num" : null }, t)))), h("tbody", {}, list.map(c => h("tr", {}, h("td", {}, h("a", { href: link("cell/" + c.id) }, `${c.E.family} ${c.E.label}`)), h("td", { class: "soft" }, options(c).join(" · ")), h("td", { class: "barcell" }, h("div", { class: "bar2", style: { width: `${100 * c.measure.median / top}%` } })), h("td", { class: "num" }, millis(c.measure.median)), h("td", { class: "num soft" }, c.measure.p90 ? millis(c.measure.p90) : "–"), h("td", { class: "num soft" }, String(c.measure.samples)))))))),
      unstable.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Did not settle"), h("span", { class: "faint" }, "no number, no place in a ranking")), h("div", { class: "body" }, h("ul", { class: "cols" }, unstable.map(c => h("li", {}, h("a", { href: link("cell/" + c.id) }, `${c.E.family} ${c.E.label}`), ` ${c.axes.model} · ${options(c).join(" · ")}`)))))),
  ];
}
let plotly = null; // loaded when this view opens first
function library() {
  return plotly || (plotly = new Promise((resolve, reject) => {
    const s = document.createElement("script");
    s.src = "assets/plotly.min.js"; s.nonce = document.querySelector("script[nonce]").nonce;
    s.onload = () => resolve(window.Plotly); s.onerror = () => { plotly = null; reject(new Error("assets/plotly.min.js is not beside this page")); };
    document.head.append(s);
  }));
}
const SERIES = ["#3b82d4", "#12906f", "#c08a1e", "#b45a9e", "#d2622f", "#7a6bd0", "#6b7686"], MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x"];
async function draw(el, list) {
  let Plotly;
  try { Plotly = await library(); } catch (e) { el.replaceChildren(h("p", { class: "empty" }, `${e.message}; the table below has the numbers.`)); return; }
  if (!el.isConnected) return;
  const css = getComputedStyle(document.documentElement), v = n => css.getPropertyValue(n).trim();
  const kinds = [...new Set(list.map(c => options(c).join(" · ")))], narrow = el.clientWidth < 620;
  const ticks = D.engines.filter(E => list.some(c => c.E === E)).map(E => `${narrow ? E.family.replace("onnxruntime", "ort") : E.family} ${E.label}`.replace(/</g, "‹")).reverse();
  const name = c => `${narrow ? c.E.family.replace("onnxruntime", "ort") : c.E.family} ${c.E.label}`.replace(/</g, "‹");
  const plain = t => String(t).replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly reads a little markup in its texts
  const traces = kinds.map((kind, i) => { const cs = list.filter(c => options(c).join(" · ") === kind); return {
    type: "scatter", mode: "markers", name: plain(kind), x: cs.map(c => c.measure.median * 1e3), y: cs.map(name), marker: { size: 10, color: SERIES[i % 7], symbol: MARKS[i % 7] },
    error_x: { type: "data", symmetric: false, array: cs.map(c => c.measure.p90 ? (c.measure.p90 - c.measure.median) * 1e3 : 0), arrayminus: cs.map(() => 0), thickness: 1.2, width: 3, color: SERIES[i % 7] },
    customdata: cs.map(c => [plain(c.E.id), c.measure.p90 ? millis(c.measure.p90) : "–", c.measure.samples, c.id]), hovertemplate: "<b>%{customdata[0]}</b><br>median %{x:.3~f} ms · p90 %{customdata[1]} ms<br>%{customdata[2]} samples<extra>" + plain(kind) + "</extra>" }; });
  el.replaceChildren();
  const axis = { gridcolor: v("--line"), zerolinecolor: v("--line2"), linecolor: v("--line2"), tickfont: { color: v("--soft") } };
  await Plotly.newPlot(el, traces, { height: Math.max(260, 92 + 24 * ticks.length + (narrow ? 22 * kinds.length : 0)), margin: { l: 10, r: 20, t: kinds.length > 1 ? 40 : 14, b: 46 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { family: css.getPropertyValue("--sans"), size: 12.5, color: v("--text") }, showlegend: kinds.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: v("--soft") } }, hoverlabel: { bgcolor: v("--surface"), bordercolor: v("--line2"), font: { color: v("--text"), family: css.getPropertyValue("--sans") }, align: "left" },
    xaxis: { ...axis, title: { text: "median ms, whisker to p90", font: { size: 12, color: v("--faint") } }, rangemode: "tozero" }, yaxis: { ...axis, categoryorder: "array", categoryarray: ticks, automargin: true, gridcolor: v("--line"), range: [-0.7, ticks.length - 0.3] }, hovermode: "closest", dragmode: narrow ? false : "zoom" },
    { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
  el.on("plotly_click", e => { location.hash = link("cell/" + e.points[0].customdata[3]); });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (/^#\/(speed|accuracy)/.test(location.hash)) route(); });

// ---------------------------------------------------------------- portability: engines of one stack, loaded by another
const moved = D.cells.filter(c => c.built_on !== undefined);
for (const c of moved) c.B = D.builders[c.built_on];
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

// ---------------------------------------------------------------- facts against observations
const claims = new Map(D.predictions.claims.map(c => [c.key, c]));
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
  const mine = (c.prediction ? c.prediction.claims : []).map(k => claims.get(k)).filter(Boolean);
  return mine.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "What the facts say"), h("span", { class: "faint" }, c.prediction.state)),
    h("ul", { class: "finds" }, mine.map(p => h("li", {}, h("span", { class: "n" }, icon(STATE[p.refuted ? "unknown" : p.state])), h("div", {}, h("div", { class: "t" }, p.subject), h("div", { class: "meta" }, h("span", {}, p.refuted ? `refuted: ${p.refuted}` : p.state), h("span", { class: "tag" }, p.rule), p.facts.length > 0 && h("details", {}, h("summary", {}, "facts"), h("ul", {}, sources(p)))))))));
}

// ---------------------------------------------------------------- rules and boundaries
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

// ---------------------------------------------------------------- views by fragment
const VIEWS = [["overview", "Overview"], ["matrix", "Matrix"], ["cells", "Cells", D.cells.length || null], ["speed", "Speed", timed.length || null], ["accuracy", "Accuracy"], ...(moved.length ? [["portability", "Portability", moved.length]] : []), ...(D.predictions.rules.length ? [["facts", "Facts", D.predictions.refuted.length || null]] : []), ...(D.rules.rules.length + D.rules.unexplained.length + D.boundaries.length ? [["rules", "Rules", D.rules.rules.length || null]] : [])];
let backTo = link("cells"), last = "";
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?"), [view, id] = (path || "overview").split("/");
  const params = {};
  for (const pair of (query || "").split("&")) { const at = pair.indexOf("="); if (at > 0) { try { params[pair.slice(0, at)] = decodeURIComponent(pair.slice(at + 1)); } catch { /* not ours */ } } }
  tip.hidden = true; all = null;
  const name = view === "cell" ? "cells" : VIEWS.some(v => v[0] === view) ? view : "overview";
  const nodes = view === "cell" ? cell(id || "") : { matrix, cells, speed, accuracy, portability, facts, rules }[name] ? ({ matrix, cells, speed, accuracy, portability, facts, rules })[name](params) : overview();
  main.replaceChildren(...nodes.filter(Boolean));
  document.getElementById("nav").replaceChildren(...VIEWS.map(([k, text, n]) => h("a", { href: link(k), "aria-current": k === name ? "page" : null }, text, n && h("span", {}, n.toLocaleString("en")))), ...(D.operators ? [h("a", { href: "operators.html" }, "Operators")] : []));
  document.title = `${view === "cell" && byId.has(id) ? byId.get(id).slug : (VIEWS.find(v => v[0] === name) || VIEWS[0])[1]} · ${D.run.matrix.name} · EngineMatrix`;
  const now = view + (id || "");
  if (last && last !== now) { scrollTo(0, 0); main.focus({ preventScroll: true }); said.textContent = document.title; }
  last = now;
}
addEventListener("hashchange", e => { const from = new URL(e.oldURL).hash; if (/^#\/(cells|matrix|overview|speed|accuracy|portability|facts|rules)/.test(from) || !from) backTo = from.startsWith("#/cells") ? from : link("cells"); route(); });
addEventListener("beforeprint", () => { if (all) all(); document.querySelectorAll("details").forEach(d => { d.open = true; }); });
addEventListener("keydown", e => {
  if (e.target.closest("input,select,textarea") || e.ctrlKey || e.metaKey || e.altKey) { if (e.key === "Escape" && e.target.id === "filter") e.target.blur(); return; }
  if (e.key === "/") { e.preventDefault(); if (!document.getElementById("filter")) location.hash = link("cells"); setTimeout(() => { const box = document.getElementById("filter"); if (box) { box.focus(); box.select(); } }, 30); }
  if (e.key === "j" || e.key === "k") { const a = document.querySelector(e.key === "j" ? "a[rel=next]" : "a[rel=prev]"); if (a) a.click(); }
});
function showTip(e) {
  const el = e.target.closest && e.target.closest("[data-tip]");
  if (!el) { tip.hidden = true; return; }
  tip.textContent = el.dataset.tip; tip.hidden = false;
  const r = el.getBoundingClientRect(), t = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(innerWidth - t.width - 8, r.left + r.width / 2 - t.width / 2))}px`;
  tip.style.top = `${r.top - t.height - 8 > 4 ? r.top - t.height - 8 : r.bottom + 8}px`;
}
addEventListener("mouseover", showTip); addEventListener("focusin", showTip); addEventListener("scroll", () => { tip.hidden = true; }, true);
addEventListener("keydown", e => { if (e.key === "Escape") tip.hidden = true; });
route();
})();
