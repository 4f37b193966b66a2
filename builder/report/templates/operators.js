"use strict";
// Text becomes text nodes alone: nothing from a library, a model or a file is ever parsed as HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), said = document.getElementById("said");
const STATUS = D.statuses.map(s => s[0]), MEANING = Object.fromEntries(D.statuses);
const WORKS = { all: "every case", some: "some cases", none: "no case", built: "built, not run here", unknown: "not tried" };
const MARK = { all: "✓", some: "◑", none: "✗", built: "◐", unknown: "–" };

function h(name, attrs, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attrs || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "onclick" || key === "oninput" || key === "onchange") node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter(c => c !== null && c !== undefined && c !== false && c !== ""));
  return node;
}
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// The address says everything that was chosen: #suite=operators&q=conv&show=none&op=Conv&at=onnxruntime-1.31.1-py3.12
const state = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
function go(change) {
  const next = { ...state(), ...change };
  for (const key of Object.keys(next)) if (!next[key]) delete next[key];
  const text = new URLSearchParams(next).toString();
  history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  draw();
}

function families(suite) { // [family, number of its stacks]
  const out = [];
  for (const s of suite.stacks) if (out.length && out[out.length - 1][0] === s.family) out[out.length - 1][1]++; else out.push([s.family, 1]);
  return out;
}
const firstOf = suite => new Set(suite.stacks.map((s, i) => i === 0 || suite.stacks[i - 1].family !== s.family ? i : -1));
const lostAt = (row, stack) => stack.label === stack.version && row.r[stack.family].lost.find(l => l.version === stack.version);
const sinceText = (row, family) => { const r = row.r[family]; return r.since ? `since ${r.since}` : r.first ? `partly since ${r.first}` : ""; };

function kept(suite, s) {
  const words = (s.q || "").toLowerCase().split(/\s+/).filter(Boolean);
  return suite.operators.filter(row => {
    if (words.length && !words.every(w => row.n.toLowerCase().includes(w) || row.d.includes(w) || row.cases.some(c => c[0].includes(w)))) return false;
    if (s.show === "gaps") return row.w.some(w => w === "none" || w === "some");
    if (s.show === "none") return row.w.every(w => w === "none" || w === "unknown");
    if (s.show === "all") return row.w.every(w => w === "all");
    if (s.show === "changed") return new Set(row.w).size > 1;
    if (s.show === "lost") return Object.values(row.r).some(r => r.lost.length);
    return true;
  });
}

function square(suite, row, i, s) {
  const stack = suite.stacks[i], [good, tried] = row.c[i], w = row.w[i], lost = lostAt(row, stack);
  const label = `${row.n} on ${stack.family} ${stack.label}: ${WORKS[w]}, ${good} of ${tried} verified` + (lost ? `; ${plural(lost.cases.length, "case")} worked in the release before` : "");
  return h("button", { class: `sq w-${w}${lost ? " lost" : ""}`, title: label, "aria-label": label, "aria-pressed": s.op === row.n && s.at === stack.id ? "true" : "false",
    onclick: () => { go({ op: row.n, at: stack.id }); reveal(); } }, w === "all" ? `✓ ${tried}` : w === "unknown" || w === "built" ? MARK[w] : `${MARK[w]} ${good}/${tried}`);
}

function grid(suite, rows, s) {
  const first = firstOf(suite), fams = families(suite);
  const total = suite.stacks.map((_, i) => [suite.operators.filter(r => r.w[i] === "all").length, suite.counts[i].verified || 0]);
  return h("div", { class: "wide panel", tabindex: 0, role: "region", "aria-label": "Operators by engine stack" }, h("table", { class: "grid" },
    h("thead", {},
      h("tr", {}, h("th", { class: "name", scope: "col" }, "operator"), fams.map(([f, n]) => h("th", { colspan: n, scope: "colgroup" }, f)), h("th", { scope: "col" }, "every case works")),
      h("tr", {}, h("th", { class: "name" }, h("small", {}, `${rows.length} of ${suite.operators.length}`)), suite.stacks.map(t => h("th", { scope: "col", title: t.id }, t.version, t.label !== t.version && h("small", {}, t.label.slice(t.version.length).replace(/^[ ,]+/, "")))), h("th", {}, h("small", {}, "and in every later release here")))),
    h("tbody", {},
      h("tr", { class: "sum" }, h("th", { class: "name", scope: "row" }, "operators with every case"), total.map((t, i) => h("td", { class: first.has(i) ? "first" : null, title: `${t[1]} cases verified` }, String(t[0]))), h("td", { class: "since" })),
      rows.map(row => h("tr", {},
        h("th", { class: "name", scope: "row" }, h("button", { onclick: () => { go({ op: row.n, at: "" }); reveal(); } }, row.n), row.d && h("small", {}, row.d)),
        suite.stacks.map((_, i) => h("td", { class: first.has(i) ? "first" : null }, square(suite, row, i, s))),
        h("td", { class: "since" }, fams.map(([f]) => [sinceText(row, f) && `${f} ${sinceText(row, f)}`]).flat().filter(Boolean).join("; ")))))));
}

const word = (found) => found === null ? null : Array.isArray(found) ? STATUS[found[0]] : STATUS[found];
const why = found => Array.isArray(found) ? D.lines[found[2]] : "";
const note = found => Array.isArray(found) && found.length > 3 ? D.lines[found[3]] : "";

function detail(suite, s) {
  const row = suite.operators.find(r => r.n === s.op);
  if (!row) return null;
  const i = suite.stacks.findIndex(t => t.id === s.at), stack = suite.stacks[i];
  const about = families(suite).map(([f]) => { const r = row.r[f], l = r.lost.map(x => `${plural(x.cases.length, "case")} in ${x.version}`).join(", ");
    return `${f}: ${r.since ? `every case since ${r.since}` : r.first ? `some cases since ${r.first}` : "no case in any release here"}${l ? `; lost ${l}` : ""}`; });
  const head = h("header", {}, h("h2", { tabindex: -1, id: "detail" }, stack ? `${row.n} on ${stack.family} ${stack.label}` : row.n),
    h("span", { class: "faint" }, `${plural(row.cases.length, "case")}, opset ${row.o.join(", ")}${row.d ? `, domain ${row.d}` : ""}`),
    h("button", { class: "close", onclick: () => go({ op: "", at: "" }) }, "Close"));
  const facts = h("p", { class: "facts" }, about.join(". ") + ".");
  if (stack) {
    const order = c => STATUS.indexOf(word(c[2][i]) || "verified") || -1;
    const cases = row.cases.filter(c => c[2][i] !== null).sort((a, b) => (order(b) > 0) - (order(a) > 0) || (a[0] < b[0] ? -1 : 1));
    return h("section", { class: "panel detail" }, head, facts, h("table", { class: "cases" }, h("thead", {}, h("tr", {}, ["case", "opset", "outcome", "stage", "line"].map(t => h("th", { scope: "col" }, t)))),
      h("tbody", {}, cases.map(c => { const f = c[2][i], st = word(f); return h("tr", {}, h("td", {}, h("code", {}, c[0])), h("td", {}, String(c[1])), h("td", { class: `s-${st}` }, h("span", { class: "st" }, st)), h("td", {}, Array.isArray(f) ? f[1] : ""), h("td", {}, h("code", {}, why(f)), note(f) && h("div", { class: "faint" }, note(f)))); }))));
  }
  return h("section", { class: "panel detail" }, head, facts, h("table", { class: "cases" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "case"), h("th", { scope: "col" }, "opset"), h("th", { scope: "col" }, "engine stacks"))),
    h("tbody", {}, row.cases.map(c => h("tr", {}, h("td", {}, h("code", {}, c[0])), h("td", {}, String(c[1])), h("td", {}, h("div", { class: "dots" }, suite.stacks.map((t, k) => c[2][k] === null ? null : h("span", { class: `s-${word(c[2][k])}${word(c[2][k]) === "verified" ? " ok" : ""}`, title: `${t.id}: ${word(c[2][k])}${why(c[2][k]) ? `: ${why(c[2][k])}` : ""}` }, `${word(c[2][k]) === "verified" ? "✓" : word(c[2][k]) === "skipped" ? "–" : word(c[2][k]) === "built" ? "◐" : "✗"} ${t.family} ${t.label}`)))))))));
}
function reveal() { const at = document.getElementById("detail"); if (at) { at.scrollIntoView({ block: "start" }); at.focus({ preventScroll: true }); said.textContent = at.textContent; } }

function draw() {
  const s = state(), suite = D.suites.find(x => x.name === s.suite) || D.suites[0];
  const had = document.activeElement && document.activeElement.id, spot = had === "q" ? document.activeElement.selectionStart : 0;
  const old = document.querySelector(".wide"), scroll = old ? [old.scrollLeft, old.scrollTop] : null;
  const rows = kept(suite, s);
  const cases = suite.operators.reduce((n, r) => n + r.cases.length, 0);
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", {}, "Which operators work where"), h("p", {}, `${plural(suite.operators.length, "operator")}, ${plural(cases, "case")} of ${suite.package} ${suite.version}, ${plural(suite.stacks.length, "engine stack")}` + (suite.precision === "default" ? "; in the precision that each library chooses" : "") + ". "),
      h("p", {}, h("a", { href: "operators.csv" }, "operators.csv"), " · ", h("a", { href: "operators.json" }, "operators.json"))),
    h("div", { class: "tools" },
      D.suites.length > 1 && h("select", { "aria-label": "Suite", onchange: e => go({ suite: e.target.value, op: "", at: "" }) }, D.suites.map(x => h("option", { value: x.name, selected: x === suite }, x.name))),
      h("input", { type: "search", id: "q", placeholder: "Operator or case", "aria-label": "Operator or case", value: s.q || "", oninput: e => go({ q: e.target.value }) }),
      h("select", { "aria-label": "Which operators", onchange: e => go({ show: e.target.value }) }, [["", "All operators"], ["changed", "Differ between stacks"], ["gaps", "Fail somewhere"], ["lost", "Lost in a later release"], ["none", "Work nowhere"], ["all", "Work everywhere"]].map(([v, t]) => h("option", { value: v, selected: (s.show || "") === v }, t))),
      h("div", { class: "legend" }, ["all", "some", "none", "built", "unknown"].filter(w => w !== "built" || suite.operators.some(r => r.w.includes("built"))).map(w => h("span", {}, h("i", { class: `w-${w}` }), `${MARK[w]} ${WORKS[w]}`)), h("span", {}, "↓ worked in the release before"))),
    grid(suite, rows, s), detail(suite, s) || "");
  if (scroll) { const now = document.querySelector(".wide"); [now.scrollLeft, now.scrollTop] = scroll; }
  if (had === "q") { const q = document.getElementById("q"); q.focus(); q.setSelectionRange(spot, spot); }
}
addEventListener("hashchange", draw);
addEventListener("keydown", e => {
  if (e.key === "/" && document.activeElement.id !== "q") { e.preventDefault(); document.getElementById("q").focus(); }
  if (e.key === "Escape" && state().op) go({ op: "", at: "" });
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[e.key], at = document.activeElement.closest && document.activeElement.closest("td");
  if (steps && at && document.activeElement.className.startsWith("sq")) {
    const tr = at.parentElement.parentElement.rows[at.parentElement.sectionRowIndex + steps[0]], next = tr && tr.cells[at.cellIndex + steps[1]], button = next && next.querySelector(".sq");
    if (button) { e.preventDefault(); button.focus(); }
  }
});
draw();
if (state().op) reveal();
