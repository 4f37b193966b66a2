// The data is foreign text: it only ever becomes text nodes and attributes, never markup.
const D = JSON.parse(document.getElementById("data").textContent);
const lazy = make => { let value, made = false; return () => made ? value : (made = true, value = make()); };
// Blocks of the page that are parsed when a view first asks: builder/report/data.py says what is in them.
const block = name => lazy(() => JSON.parse(document.getElementById(name).textContent));
const numbers = block("numbers"), analysis = block("analysis"), shared = block("shared"), images = block("pictures");
for (const name of ["predictions", "rules", "boundaries"]) Object.defineProperty(D, name, { get: () => analysis()[name] });
Object.defineProperty(D, "pictures", { get: () => images() });
const main = document.getElementById("main"), tip = document.getElementById("tip"), said = document.getElementById("said");
const FAILING = new Set(D.failing), ORDER = D.statuses.map(s => s[0]), MEANING = Object.fromEntries(D.statuses);
// What a square shows when its cells differ: the worst of them, a failure nobody expected before all else.
const WORST = ["crashed", "out-of-memory", "timeout", "failed", "mismatch", "degraded", "blocked", "unsupported", "skipped", "built", "verified"];
const AXES = Object.keys(D.axes).filter(a => a !== "model");
const column = name => { const values = D.columns[name]; return Array.isArray(values) ? i => values[i] : () => values; };

// A cell: what the columns say of it. What only its part says (stages, comparison, files...) is there once `details` gave it.
class Cell {
  constructor(i, get) {
    this.at = i; this.id = get.id(i); this.status = ORDER[get.status(i)]; this.stage = D.stages[get.stage(i)];
    this.engine = get.engine(i); this.exporter = get.exporter(i); this.E = D.engines[this.engine]; this.X = D.exporters[this.exporter];
    this.axes = D.options[get.options(i)]; this.tail = get.slug(i); this.cause = get.cause(i); this.lineAt = get.line(i); this.reasonAt = get.reason(i);
    this.expected = D.expected[get.expected(i)]; this.finding = get.finding(i) - 1; this.flags = get.flags(i); this.seconds = get.seconds(i); this.whenAt = get.when(i);
    this.built_on = get.built_on(i) ? get.built_on(i) - 1 : undefined;
  }
  get slug() { return D.odd[this.at] === undefined ? this.E.id + D.slugs[this.tail] : D.odd[this.at]; }
  get category() { return D.causes[this.cause][0]; }
  get signature() { return D.causes[this.cause][1]; }
  get diagnosis() { return D.causes[this.cause][2]; }
  get remedy() { return D.causes[this.cause][3]; }
  get source() { return D.causes[this.cause][4]; }
  get line() { return D.texts[this.lineAt]; }
  get reason() { return D.texts[this.reasonAt]; }
  get when() { return D.times[this.whenAt]; }
  get flaky() { return (this.flags & 1) > 0; }
  get reused() { return (this.flags & 2) > 0; }
  get measure() { return numbers().measure[this.at]; }
  get check() { return numbers().check[this.at]; }
  // Of its worst output, the largest |a-b| as a share of the largest reference value; null where that is not known.
  get error() { const e = numbers().error[this.at]; return e === undefined ? null : e < 0 ? Infinity : e; }
  get floor() { return numbers().floor[this.at] || 0; }
  get bytes() { return numbers().bytes[this.at]; } // of its engine file
}
const cellsOf = lazy(() => {
  const get = Object.fromEntries(Object.keys(D.columns).map(name => [name, column(name)]));
  return Array.from({ length: D.n }, (_, i) => new Cell(i, get));
});
Object.defineProperty(D, "cells", { get: cellsOf });
const ids = lazy(() => new Map(D.cells.map(c => [c.id, c])));
const byId = { get: id => ids().get(id), has: id => ids().has(id) };
for (const [i, f] of D.findings.entries()) Object.defineProperty(f, "cells", { get: lazy(() => D.cells.filter(c => c.finding === i).map(c => c.id)) });

// The details of a cell come with those of its part: from the page, or from a script beside it. A promise of the cell, or
// the cell itself where they are there.
const arriving = new Map();
function filled(part, rows) {
  rows.forEach((row, i) => {
    for (const name of ["loaded", "machine", "image"]) if (row[name] !== undefined) row[name] = shared()[name][row[name]];
    Object.assign(D.cells[part * D.part + i], row, { detailed: true });
  });
}
window.enginematrixPart = filled;
function details(c) {
  if (c.detailed) return c;
  const part = Math.floor(c.at / D.part);
  if (!D.parts) { filled(part, JSON.parse(document.getElementById(`part-${part}`).textContent)); return c; }
  if (!arriving.has(part)) arriving.set(part, script(`${D.parts}/${part}.js`, "The report was written again, or moved without that folder").catch(e => { arriving.delete(part); throw e; }));
  return arriving.get(part).then(() => c);
}
function script(src, hint) { // a page from disk may not fetch, and may load scripts
  return new Promise((resolve, reject) => {
    const s = document.createElement("script");
    s.src = src; s.nonce = document.querySelector("script[nonce]").nonce;
    s.onload = resolve; s.onerror = () => { s.remove(); reject(new Error(`${src} is not beside this page${hint ? `. ${hint}` : ""}`)); };
    document.head.append(s);
  });
}

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
  unstable: ["", "M2 10.5c1.2-5 3-5 4 0s2.8 5 4 0 2.4-5 4-1"],
};
function svgOf(name, attrs, ...children) { const el = document.createElementNS(SVG, name); for (const [k, v] of Object.entries(attrs)) el.setAttribute(k, v); el.append(...children); return el; }
// Each shape is drawn once and used by name: a grid has thousands.
document.body.append(svgOf("svg", { class: "vh", "aria-hidden": "true" }, ...Object.entries(SHAPES).map(([name, [fill, stroke]]) => svgOf("symbol", { id: `shape-${name}`, viewBox: "0 0 16 16" },
  ...(fill ? [svgOf("path", { d: fill, fill: "currentColor" })] : []),
  ...(stroke ? [svgOf("path", { d: stroke, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" })] : [])))));
const icon = name => svgOf("svg", { viewBox: "0 0 16 16", class: "i", "aria-hidden": "true" }, svgOf("use", { href: `#shape-${SHAPES[name] ? name : "skipped"}` }));
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
// Views by their first word in the fragment, in the order of the files (page.SCRIPTS): the file of a view puts itself here.
// `show(params)` gives nodes; `badge`: a number beside the title; `when`: whether there is anything to see.
const VIEWS = new Map();
function addView(name, title, show, { badge = null, when = true } = {}) { if (when) VIEWS.set(name, { title, show, badge: badge || null }); }
let all = null, restore = null; // what a view sets so that all of it is there before it is printed, and as it was after
