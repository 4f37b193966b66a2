"use strict";
(() => {
// The data is foreign text: it only ever becomes text nodes and attributes, never markup. Every verdict in it was judged by
// builder/pick_judge.py, every piece of evidence weighed by builder/pick.py; here they are looked up, put together and ranked.
const D = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("ask"), main = document.getElementById("main"), said = document.getElementById("said");
const STACK = "\u0001", OWN = "\u0002", GPU = "\u0003", OTHER = "\u0004", EXPIRED = "\u0005"; // marks in texts, see choose_tables.py
const SHOWN = 12;

// ---------------------------------------------------------------- versions, by PEP 440 (builder/versions.py)
const RELEASE = "v?(?:(\\d+)!)?(\\d+(?:\\.\\d+)*)";
const ENDS = "(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\\d*))?(?:-(\\d+)|[-_.]?(post|rev|r)[-_.]?(\\d*))?(?:[-_.]?(dev)[-_.]?(\\d*))?";
const VERSION = new RegExp(`^${RELEASE}${ENDS}(?:\\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`, "i"), PREFIX = new RegExp(`^${RELEASE}\\.\\*$`, "i");
const CLAUSE = /^\s*(~=|===|==|!=|<=|>=|<|>)\s*(\S+)\s*$/;
const versions = new Map();
function version(text) { // {release, key, local, pre, post} or null
  if (versions.has(text)) return versions.get(text);
  const m = VERSION.exec(text.trim());
  let found = null;
  if (m) {
    const release = m[2].split(".").map(Number), pre = m[3] && m[3][0].toLowerCase(), post = m[5] !== undefined || m[6] !== undefined, dev = m[8] !== undefined;
    const rank = pre ? { a: 0, b: 1, p: 2, c: 2, r: 2 }[pre] : !post && dev ? -1 : 3;
    const local = m[10] === undefined ? null : m[10].toLowerCase().split(/[-_.]/).map(p => /^\d+$/.test(p) ? [+p, ""] : [-1, p]);
    found = { epoch: +(m[1] || 0), release, key: [rank, pre ? +(m[4] || 0) : 0, post ? 1 : 0, +(m[5] || m[7] || 0), dev ? 0 : 1, +(m[9] || 0)], local, pre: Boolean(pre) || dev, post };
  }
  versions.set(text, found);
  return found;
}
function order(a, b) { // of lists of numbers, padded with zeros
  for (let i = 0; i < Math.max(a.length, b.length); i++) { const d = (a[i] || 0) - (b[i] || 0); if (d) return d; }
  return 0;
}
const base = (a, b) => a.epoch - b.epoch || order(a.release, b.release);
const before = v => ({ ...v, key: [v.post ? 3 : -1, 0, v.key[2], v.key[3], 0, 0] }); // its first development release
const shared = (a, b) => base(a, b) || order(a.key, b.key);
function compare(a, b) {
  const d = shared(a, b), x = a.local, y = b.local;
  if (d || !x && !y) return d;
  if (!x || !y) return x ? 1 : -1;
  for (let i = 0; i < Math.min(x.length, y.length); i++) { if (x[i][0] !== y[i][0]) return x[i][0] - y[i][0]; if (x[i][1] !== y[i][1]) return x[i][1] < y[i][1] ? -1 : 1; }
  return x.length - y.length;
}
function wrong(clauses) { // why a list of clauses cannot be asked, or ""
  for (const part of clauses.split(",")) {
    const m = CLAUSE.exec(part);
    if (!m) return `${JSON.stringify(part.trim())} is not a version clause such as ">=1.15"`;
    const [, op, text] = m, v = version(text);
    if (op === "===") return "=== compares texts; write ==";
    if ((op === "==" || op === "!=") && PREFIX.test(text)) continue;
    if (!v || v.local && op !== "==" && op !== "!=" || op === "~=" && v.release.length < 2) return `${JSON.stringify(text)} is no version that ${op} compares with`;
  }
  return "";
}
function clause(op, text, held) {
  const prefix = PREFIX.exec(text);
  const begins = (epoch, numbers) => held.epoch === epoch && numbers.every((n, i) => n === (held.release[i] || 0));
  if (prefix) return begins(+(prefix[1] || 0), prefix[2].split(".").map(Number)) === (op === "==");
  const v = version(text);
  switch (op) {
    case "==": case "!=": return ((v.local ? compare(held, v) : shared(held, v)) === 0) === (op === "==");
    case ">=": return shared(held, v) >= 0;
    case "<=": return shared(held, v) <= 0;
    case "~=": return shared(held, v) >= 0 && begins(v.epoch, v.release.slice(0, -1));
    case "<": return shared(held, v.pre ? v : before(v)) < 0; // and no pre-release of that very version
    default: return shared(held, v) > 0 && !(held.post && !v.post && v.key[4] && base(held, v) === 0 && held.key[0] === v.key[0] && held.key[1] === v.key[1]); // and no post-release of it
  }
}
function matches(clauses, text) {
  const held = version(text);
  return clauses.split(",").every(part => { const m = CLAUSE.exec(part); return held ? clause(m[1], m[2], held) : m[1] === "!="; });
}
function coarse(text, clauses) { // recorded with too few numbers to say
  const mine = text.split(".");
  return [...clauses.matchAll(/[<>=!~]+\s*([0-9][0-9.]*)/g)].some(m => {
    const other = m[1].replace(/\.+$/, "").split(".");
    return mine.every((part, i) => other[i] === part) && other.slice(mine.length).some(part => parseInt(part, 10));
  });
}
function ordered(list) {
  const lowest = version("0.dev0");
  return [...list].sort((a, b) => compare(version(a) || lowest, version(b) || lowest) || (a < b ? -1 : a > b ? 1 : 0));
}

// ---------------------------------------------------------------- verdicts, looked up
const DRIVERS = D.values.driver.map(text => text.split(".").map(Number));
function place(key, value) {
  if (key !== "driver") return D.values[key].indexOf(value);
  const asked = value.split(".").map(Number);
  let at = 0;
  while (at + 1 < DRIVERS.length && order(DRIVERS[at + 1], asked) <= 0) at++;
  return at;
}
const told = (text, stack, own, gpu) => text.replaceAll(STACK, stack.id).replaceAll(OWN, own || "").replaceAll(GPU, gpu || "");
function verdict(s, q, asked) { // q: {gpu: place or null, hardware: place of what is judged, values: {key: place}}
  const stack = D.stacks[s];
  let found;
  if (asked.key === "need") {
    const [held, takes, not, few] = D.needs[""][D.needs[asked.name][s]];
    found = !held || !asked.clause ? takes : few !== -1 && coarse(held, asked.clause) ? few : matches(asked.clause, held) ? takes : not;
  } else {
    const t = D.tables[asked.key], at = asked.key === "gpu" ? 0 : q.values[asked.key];
    const row = t.rows[t.cells[t.gpus[asked.key === "gpu" ? q.hardware - 1 : q.hardware]][t.stacks[s]]];
    for (let i = 0; i < row.length && row[i] <= at; i += 2) found = row[i + 1];
  }
  const [state, inferred, met, text, facts] = D.verdicts[found];
  return { asked, state, inferred: Boolean(inferred), met: Boolean(met), because: told(D.texts[text], stack, asked.own, q.gpu === null ? "" : D.gpus[q.gpu].told),
    facts: [...new Set(facts.flatMap(f => f === -1 ? stack.facts : f === -2 ? D.gpus[q.gpu].facts : [f]))] };
}
function evidence(s, q, now) {
  const e = D.evidence.stacks[s];
  if (!e) return null;
  let at = 0;
  for (const key of ["precision", "python", "driver"]) {
    const i = e[key].indexOf(q[key]), place = i >= 0 ? i : e[key].indexOf(OTHER);
    if (place < 0) return null;
    at = at * e[key].length + place;
  }
  const found = D.evidence.rows[e.by[D.evidence.kinds[q.gpu || 0]]][at];
  if (found === -1) return null;
  const [of, latest, measured, verified, tried, notes, back] = D.evidence.evidence[found];
  const run = i => { if (i < 0) return null; const [when, machine, model, precision, cell, why, latency, linked] = D.evidence.runs[i]; return { when, machine, model, precision, cell, why, latency, linked }; };
  const newest = run(latest), then = Date.parse(/Z$|[+-]\d\d:?\d\d$/.test(newest.when) ? newest.when : newest.when + "Z") || 0, days = (now - then) / 864e5, expired = days > D.max_age;
  return { of, run: newest, measured: run(measured), verified, tried, expired, back: new Map(back.map(([k, text]) => [k, D.evidence.says[text]])),
    notes: notes.map(n => D.evidence.says[n]).filter(n => n !== EXPIRED || expired).map(n => n === EXPIRED ? `expired: ${even(days)} days old, the limit is ${D.max_age}` : told(n, D.stacks[s], q.driver)) };
}
function choice(s, q, asked, now) {
  const stack = D.stacks[s], e = evidence(s, q, now);
  let verdicts = asked.map(a => verdict(s, q, a));
  if (e && e.of === "verified") verdicts = verdicts.map(v => { // what it ran on, observation says, not documents
    const back = v.state !== "supported" && e.back.get(name(v.asked));
    return back ? { ...v, state: "supported", met: true, because: back.replace(OWN, v.because).replaceAll(STACK, stack.id) } : v;
  });
  const of = e ? e.of : verdicts.some(v => v.state !== "supported") ? "unknown" : verdicts.some(v => v.inferred) ? "inferred" : "documented";
  return { s, stack, verdicts, evidence: e, of, fits: verdicts.every(v => v.met) };
}
function ranked(choices) {
  const orders = new Map();
  for (const c of choices) { if (!orders.has(c.stack.group)) orders.set(c.stack.group, new Set()); orders.get(c.stack.group).add(c.stack.order); }
  for (const [group, set] of orders) orders.set(group, new Map([...set].sort((a, b) => b - a).map((o, i) => [o, i])));
  const key = c => [D.classes.indexOf(c.of), c.evidence && c.evidence.expired ? 1 : 0, c.evidence ? [...c.evidence.run.when.slice(0, 10)].map(x => String.fromCharCode(255 - x.charCodeAt(0))).join("") : "", orders.get(c.stack.group).get(c.stack.order), c.stack.kind, c.stack.group];
  return choices.map(c => [key(c), c]).sort(([a], [b]) => { for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1; return 0; }).map(x => x[1]);
}

// ---------------------------------------------------------------- nothing fits (builder/pick_conflict.py)
const name = a => a.key === "need" ? `need:${a.name}` : a.key;
const with_ = a => D.same[a.key] || [name(a)];
function smallest(choices, asked) {
  const masks = [...new Set(choices.map(c => c.verdicts.reduce((m, v, i) => v.met ? m : m | 1 << i, 0)))];
  for (let size = 1; size <= asked.length; size++) for (const chosen of combinations(asked.length, size)) {
    const mine = chosen.reduce((m, i) => m | 1 << i, 0);
    if (masks.every(m => m & mine)) return chosen.map(i => asked[i]);
  }
  return [];
}
function* combinations(n, size, from = 0) {
  if (!size) { yield []; return; }
  for (let i = from; i <= n - size; i++) for (const rest of combinations(n, size - 1, i + 1)) yield [i, ...rest];
}
function near(clauses, held) {
  const bound = clauses.split(",").map(p => version(p.replace(/^[ <>=!~]+|[ <>=!~]+$/g, "").replace(/\.\*$/, ""))).find(Boolean);
  if (!bound) return [...held].reverse();
  const below = held.filter(v => !version(v) || compare(version(v), bound) < 0);
  return [...below.reverse(), ...held.filter(v => !below.includes(v))];
}
function others(a, left, q) { // [what to do, the question with it, the fragment's fields that ask it]
  if (a.key === "driver") {
    const mine = q.driver.split(".").map(Number), here = new Set(left);
    return D.floors.filter(([v, by]) => order(v.split(".").map(Number), mine) > 0 && (!by || by.some(s => here.has(s))))
      .map(([v]) => [D.move.replace(OWN, v), { ...q, values: { ...q.values, driver: place("driver", v) } }, { driver: v }]);
  }
  if (a.key === "gpu") return D.other_gpus[q.gpu].map(([hardware, words, option]) => [D.texts[words], { ...q, hardware }, option > 0 ? { gpu: nameOf(option) } : null]);
  return D.instead[a.key][q.values[a.key]].map(([at, words]) => [D.texts[words], { ...q, values: { ...q.values, [a.key]: at } }, { [a.key]: D.values[a.key][at] }]);
}
function relaxed(a, choices, asked, q) { // {relax, s, ask}
  const changed = with_(a), left = choices.filter(c => c.verdicts.every(v => v.met || changed.includes(name(v.asked)))).map(c => c.s);
  const last = [...left].reverse();
  if (a.key === "need") {
    const held = ordered(new Set(left.map(s => D.stacks[s].held[a.name]).filter(Boolean)));
    for (const value of near(a.clause, held)) { const s = last.find(x => D.stacks[x].held[a.name] === value); if (s !== undefined) return { relax: `accept ${a.name} ${value}`, s, ask: { need: [a.name, `==${value}`] } }; }
    return last.length ? { relax: `do without ${a.name}`, s: last[0], ask: { need: [a.name, null] } } : {};
  }
  const again = asked.filter(x => changed.includes(name(x)));
  for (const [relax, other, ask] of others(a, left, q)) {
    const s = last.find(x => again.every(r => verdict(x, other, r).state === "supported"));
    if (s !== undefined) return { relax, s, ask };
  }
  return {};
}
function conflicts(choices, asked, q) {
  const core = smallest(choices, asked);
  return core.map(a => {
    const others_ = core.map(name).filter(n => !with_(a).includes(n));
    const close = choices.filter(c => c.verdicts.every(v => v.met || !others_.includes(name(v.asked)))).map(c => [c, c.verdicts.find(v => v.asked === a)]);
    const found = relaxed(a, choices, asked, q);
    let pair = close.find(([c]) => c.s === found.s);
    if (!pair && a.key === "need") {
      const held = new Map(close.filter(([c]) => c.stack.held[a.name]).map(p => [p[0].stack.held[a.name], p]));
      const value = near(a.clause, ordered(held.keys()))[0];
      pair = value === undefined ? undefined : held.get(value);
    }
    let v = (pair || close[close.length - 1] || [])[1];
    if (v && v.met && q.gpu !== null) { // what is against it is the GPU's own nature
      const g = D.gpus[q.gpu];
      v = { ...v, because: g.facts.map(f => D.facts[f][0]).join("; ") || g.told, facts: g.facts };
    }
    return { asked: a, verdict: v, ...found };
  });
}
function answer(q, now) {
  const asked = q.asked, choices = D.stacks.map((_, s) => choice(s, q, asked, now));
  const fitting = ranked(choices.filter(c => c.fits));
  return { fitting, choices, conflicts: fitting.length ? [] : conflicts(choices, asked, q),
    open: choices.filter(c => !c.fits && c.verdicts.every(v => v.state !== "unsupported")) };
}

// ---------------------------------------------------------------- the question: fragment -> what is asked, or what is wrong with it
const FIELDS = ["gpu", "driver", "framework", "need", "precision", "python", "platform"];
const nameOf = i => i === 1 ? "none" : D.gpus[i].name;
const gpuAt = new Map();
D.gpus.forEach((g, i) => { for (const n of [g.label, g.name, ...g.also, i > 1 ? g.capabilities.length === 1 && g.label.startsWith("compute capability ") && g.capabilities[0] : "none"]) if (n && i && !gpuAt.has(n.toLowerCase())) gpuAt.set(n.toLowerCase(), i); });
function like(text) { // GPUs that have all words of a text in their names, those that begin so first
  const begins = i => D.gpus[i].label.toLowerCase().startsWith(text.trim().toLowerCase()) ? 0 : 1, words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return D.gpus.map((_, i) => i).filter(i => { const hay = `${D.gpus[i].label.toLowerCase()} ${D.gpus[i].search}`; return words.every(w => hay.includes(w) || hay.replaceAll(" ", "").includes(w)); }).sort((a, b) => begins(a) - begins(b));
}
const DRIVER = /^[rR]?([1-9][0-9]{1,3}(\.[0-9]{1,4}){0,3})$/; // as --driver takes it
const NEED = /^\s*([A-Za-z][A-Za-z0-9_-]*)\s*(.*?)\s*$/;
function read(hash) { // {gpu: text, ..., need: [text], stack, all}
  const state = { need: [] };
  for (const pair of hash.replace(/^#\/?/, "").split("&")) {
    const at = pair.indexOf("="); if (at <= 0) continue;
    const key = pair.slice(0, at); let value;
    try { value = decodeURIComponent(pair.slice(at + 1).replace(/\+/g, " ")); } catch { continue; }
    if (key === "need") state.need.push(value); else if ([...FIELDS, "stack", "all"].includes(key)) state[key] = value;
  }
  return state;
}
const coded = value => encodeURIComponent(value).replace(/%20/g, "+").replace(/%2C/g, ",").replace(/%2F/g, "/").replace(/%3A/g, ":");
const written = state => "#" + [...FIELDS, "stack", "all"].flatMap(key => key === "need" ? state.need.filter(Boolean).map(n => `need=${coded(n)}`) : state[key] ? [`${key}=${coded(state[key])}`] : []).join("&");
function question(state) { // {..., asked: [...], problems: {field: text}}
  const q = { gpu: null, hardware: 0, driver: "", precision: "", python: "", platform: "", values: {}, needs: new Map(), problems: {}, asked: [] };
  const bad = (field, text) => { q.problems[field] = text; };
  if (state.gpu) {
    const at = gpuAt.get(state.gpu.trim().toLowerCase());
    const near = at === undefined ? like(state.gpu)[0] : undefined;
    if (at === undefined) bad("gpu", `the catalog has no GPU of the name ${JSON.stringify(state.gpu)}${near === undefined ? "" : `; perhaps ${D.gpus[near].label}?`}`); else { q.gpu = at; q.hardware = at; }
  }
  const driver = (state.driver || "").trim(), known = DRIVER.exec(driver);
  if (driver && !known) bad("driver", `a Linux driver's version is numbers with dots, such as 550.54.14, not ${JSON.stringify(driver)}`);
  else if (known && parseInt(known[1], 10) < 100) bad("driver", `drivers have versions such as 550.54.14; for CUDA ${known[1]} add the component CUDA with ==${known[1]}.*`);
  else if (known) q.driver = known[1];
  const add = (text, field) => {
    let last = "";
    for (const part of text.split(",")) {
      const m = NEED.exec(part);
      if (m) { const low = m[1].toLowerCase().replace(/_/g, "-"); last = D.aliases[low] || low; }
      const clauses = (m ? m[2] : part).trim();
      if (last && !D.components.includes(last)) return bad(field, `no stack has a ${JSON.stringify(m[1])}`);
      if (!last || !part.trim()) return bad(field, "begin with a name, such as tensorrt>=10");
      const error = clauses && (/^[<>=!~]/.test(clauses) ? wrong(clauses) : `write ${last}==${clauses}`);
      if (error) return bad(field, error);
      q.needs.set(last, [q.needs.get(last), clauses.replace(/ /g, "")].filter(Boolean).join(","));
    }
    return undefined;
  };
  if (state.framework) add(state.framework, "framework");
  state.need.forEach((n, i) => { if (n.trim()) add(n, `need${i}`); });
  for (const key of ["precision", "python", "platform"]) if (state[key]) { if (D.values[key].includes(state[key])) q[key] = state[key]; else bad(key, `there is no ${key} ${JSON.stringify(state[key])} here; known: ${D.values[key].join(", ")}`); }
  for (const key of Object.keys(D.values)) if (q[key]) q.values[key] = place(key, q[key]);
  for (const [key, text] of D.requirements) {
    if (key === "need") for (const [n, clauses] of q.needs) q.asked.push({ key, name: n, clause: clauses, own: "", text: text.replace(STACK, n).replace(OWN, clauses) });
    else if (key === "gpu") { if (q.gpu !== null) q.asked.push({ key, own: "", text: D.gpus[q.gpu].asked }); }
    else if (q[key]) q.asked.push({ key, own: q[key], text: text.replace(OWN, q[key]) });
  }
  return q;
}
const even = x => { const f = Math.floor(x); return String(x - f === 0.5 ? f + f % 2 : Math.round(x)); }; // as Python rounds
const quoted = text => /^[\w./:=,@%+-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
function command(q, more = []) {
  const words = ["enginematrix", "pick"], add = (option, value) => value && words.push(option, quoted(value));
  if (q.gpu === 1) words.push("--here"); else if (q.gpu !== null) add("--gpu", D.gpus[q.gpu].name);
  add("--driver", q.driver);
  add("--need", [...q.needs].map(([n, clauses]) => n + clauses).join(","));
  for (const key of ["precision", "python", "platform"]) add(`--${key}`, q[key]);
  return [...words, ...more.map(quoted)].join(" ");
}

// ---------------------------------------------------------------- nodes
const SVG = "http://www.w3.org/2000/svg";
const RING = "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z";
const SHAPES = { // [filled path, stroked path, dashes] on 16 x 16
  verified: ["M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm3.9 5.1-4.5 5a.9.9 0 0 1-1.3 0L4 9a.9.9 0 0 1 1.3-1.3l1.4 1.4 3.9-4.3a.9.9 0 0 1 1.3 1.3Z", ""],
  "verified elsewhere": ["", `${RING}m-2.6 6.2 2 2 3.4-4`],
  documented: ["", "M4 1.8h5.4L12.6 5v9.2H4ZM6.4 7.4h3.9M6.4 10.4h3.9"],
  inferred: ["", RING, "2.1 2.2"],
  unknown: ["M8 10.9a1 1 0 1 0 0 2 1 1 0 0 0 0-2Z", "M5.2 5.4C5.3 3.9 6.4 3 8 3s2.8 1 2.8 2.4c0 1.7-2.5 2-2.7 3.7"],
  failed: ["", "m3.2 3.2 9.6 9.6m0-9.6-9.6 9.6"],
  supported: ["", "m3 8.6 3.2 3.2L13 4.6"],
  unsupported: ["", "m4 4 8 8m0-8-8 8"],
};
const MEANS = {
  verified: "ran with the right numbers on that kind of GPU, where one is asked for", "verified elsewhere": "ran with the right numbers on another machine",
  documented: "facts with sources support each requirement", inferred: "as documented, but a fact follows from others or is disputed",
  unknown: "nothing speaks against it, and something is not recorded", failed: "was run for just this, and its newest runs did not work",
};
const SAYS = { supported: "yes", unsupported: "no", unknown: "unknown" };
function icon(shape) {
  const svg = document.createElementNS(SVG, "svg"), [fill, stroke, dashes] = SHAPES[shape];
  svg.setAttribute("viewBox", "0 0 16 16"); svg.setAttribute("class", "i"); svg.setAttribute("aria-hidden", "true");
  const path = attrs => { const p = document.createElementNS(SVG, "path"); Object.entries(attrs).forEach(([k, v]) => p.setAttribute(k, v)); svg.append(p); };
  if (fill) path({ d: fill, fill: "currentColor" });
  if (stroke) path({ d: stroke, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", ...(dashes ? { "stroke-dasharray": dashes } : {}) });
  return svg;
}
function h(tag, attrs, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v); else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false && c !== ""));
  return el;
}
const cls = of => `e-${of.replace(" ", "-")}`;
const badge = of => h("span", { class: `st ${cls(of)}`, title: MEANS[of] }, icon(of), of);
const state_ = (s, text) => h("span", { class: `st v-${s}` }, icon(s), text);
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const millis = s => { const m = s * 1e3; return m >= 100 ? m.toFixed(0) : m >= 10 ? m.toFixed(1) : m.toFixed(2); };
function source(text) { // "title - address" or an address alone
  const m = /^(.*?)(?:\s[-–]\s)?\(?(https?:\/\/[^\s)]+)\)?(.*)$/.exec(text);
  if (!m) return text;
  return h("a", { href: m[2], rel: "noreferrer noopener", target: "_blank" }, `${m[1].trim() || m[2]}${m[3]}`);
}
function facts(list) {
  if (!list.length) return null;
  return h("ul", { class: "facts" }, list.map(f => { const [text, doubt, sources] = D.facts[f];
    return h("li", {}, text, doubt && h("div", { class: "doubt" }, `but: ${doubt}`), h("div", { class: "src" }, sources.map((s, i) => [i > 0 && " · ", source(D.sources[s])]))); }));
}
function copied(text, label) {
  const button = h("button", { class: "btn", type: "button", "aria-label": `Copy ${label}` }, "Copy");
  const code = h("code", {}, text);
  const done = ok => { button.textContent = ok ? "Copied" : "Press Ctrl-C"; said.textContent = button.textContent; setTimeout(() => { button.textContent = "Copy"; }, 1600); };
  const old = () => { const r = document.createRange(); r.selectNodeContents(code); const s = getSelection(); s.removeAllRanges(); s.addRange(r); done(document.execCommand("copy")); };
  button.addEventListener("click", () => { if (navigator.clipboard && isSecureContext) navigator.clipboard.writeText(text).then(() => done(true), old); else old(); });
  return h("div", { class: "cmd" }, code, button);
}

// ---------------------------------------------------------------- the form
const FRAMEWORKS = [["torch", "PyTorch"], ["tensorflow", "TensorFlow"], ["onnxruntime", "ONNX Runtime"], ["openvino", "OpenVINO"], ["tensorrt", "TensorRT"], ["tensorrt-rtx", "TensorRT for RTX"], ["torch-tensorrt", "Torch-TensorRT"], ["triton", "Triton"]].filter(([n]) => D.components.includes(n));
const title = n => (FRAMEWORKS.find(f => f[0] === n) || [n, { cuda: "CUDA", cudnn: "cuDNN", ubuntu: "Ubuntu", jetpack: "JetPack" }[n] || n])[1];
let current = { need: [] }, shown = null;
const split = text => { const m = NEED.exec(text || ""); return m ? [D.aliases[m[1].toLowerCase()] || m[1].toLowerCase(), m[2]] : ["", text || ""]; };
const go = change => { const next = { ...current, stack: "", all: "", ...change }; location.hash = written(next); };
function error(field) { return h("p", { class: "error", id: `error-${field}`, hidden: true }); }
function field(id, label, ...inputs) { return h("div", { class: "field" }, h("label", { for: id }, label), ...inputs); }

function gpuBox() {
  const list = h("ul", { id: "gpu-list", role: "listbox", "aria-label": "GPUs", hidden: true });
  const box = h("input", { id: "gpu", type: "text", role: "combobox", "aria-expanded": "false", "aria-controls": "gpu-list", "aria-autocomplete": "list", placeholder: "any", spellcheck: "false", "aria-describedby": "error-gpu" });
  let at = -1, options = [];
  const close = () => { list.hidden = true; box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); at = -1; };
  const pick = i => { close(); box.value = i ? D.gpus[i].label : ""; go({ gpu: i ? nameOf(i) : "" }); };
  const mark = () => { [...list.children].forEach((li, i) => { li.setAttribute("aria-selected", String(i === at)); if (i === at) { li.scrollIntoView({ block: "nearest" }); box.setAttribute("aria-activedescendant", li.id); } }); };
  const open = text => {
    options = like(text);
    list.replaceChildren(...options.map(i => h("li", { id: `gpu-${i}`, role: "option", "aria-selected": "false", onmousedown: e => { e.preventDefault(); pick(i); } }, h("span", {}, D.gpus[i].label), h("small", {}, D.gpus[i].detail))));
    if (!options.length) list.append(h("li", { class: "none", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "The catalog has no such GPU"));
    at = text.trim() && options.length ? 0 : -1; list.hidden = false; box.setAttribute("aria-expanded", "true"); mark();
  };
  box.addEventListener("input", () => open(box.value));
  box.addEventListener("focus", () => box.select());
  box.addEventListener("click", () => { if (list.hidden) open(""); });
  box.addEventListener("blur", () => { close(); const i = gpuAt.get(box.value.trim().toLowerCase()); if (!box.value.trim()) { if (current.gpu) go({ gpu: "" }); } else if (i === undefined) { if (box.value.trim() !== current.gpu) go({ gpu: box.value.trim() }); } else if (nameOf(i) !== current.gpu) go({ gpu: nameOf(i) }); else show(); });
  box.addEventListener("keydown", e => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); if (list.hidden) open(""); else if (options.length) { at = (at + (e.key === "ArrowDown" ? 1 : -1) + options.length) % options.length; mark(); } }
    else if (e.key === "Enter") { e.preventDefault(); if (!list.hidden && at >= 0) pick(options[at]); else if (!box.value.trim()) pick(0); }
    else if (e.key === "Escape" && !list.hidden) { e.preventDefault(); close(); show(); }
  });
  const show = () => { const i = current.gpu ? gpuAt.get(current.gpu.trim().toLowerCase()) : 0; box.value = i ? D.gpus[i].label : i === undefined ? current.gpu : ""; };
  return { node: h("div", { class: "field" }, h("label", { for: "gpu" }, "GPU"), h("div", { class: "combo" }, box, list), error("gpu")), show: () => { if (document.activeElement !== box || list.hidden) show(); } };
}
function typed(id, attrs, change) { // a text that is asked when it is left or Enter is pressed, or typing rests
  let timer;
  const box = h("input", { id, type: "text", spellcheck: "false", ...attrs });
  const now = () => { clearTimeout(timer); change(box.value.trim()); };
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(now, 350); });
  box.addEventListener("change", now);
  box.addEventListener("keydown", e => { if (e.key === "Enter") { e.preventDefault(); now(); } });
  return box;
}
function radios(key, label, values) {
  const group = h("div", { class: "radios", role: "radiogroup", "aria-labelledby": `label-${key}` }, ["", ...values].map((v, i) => [
    h("input", { type: "radio", name: key, id: `${key}-${i}`, value: v, onchange: () => go({ [key]: v }) }), h("label", { for: `${key}-${i}` }, v.replace("linux/", "") || "any")]));
  return { node: h("div", { class: "field" }, h("span", { class: "label", id: `label-${key}` }, label), group, error(key)), show: () => { for (const r of group.querySelectorAll("input")) r.checked = r.value === (current[key] || ""); } };
}
function needRow(i) {
  const names = h("select", { id: `need${i}`, "aria-label": `Component ${i + 1}`, onchange: () => set() }, h("option", { value: "" }, "component"), D.components.map(n => h("option", { value: n }, title(n))));
  const box = typed(`clause${i}`, { "aria-label": `Versions of component ${i + 1}`, placeholder: "any, or >=10", "aria-describedby": `error-need${i}` }, () => set());
  const set = () => { if (!names.value && !box.value.trim()) return; const need = [...current.need]; need[i] = (names.value + box.value.trim()) || ""; go({ need }); };
  const drop = h("button", { type: "button", class: "btn x", "aria-label": `Remove component ${i + 1}`, onclick: () => { const need = current.need.filter((_, k) => k !== i); rows = Math.max(1, rows - 1); go({ need }); build(); show(); } }, "×");
  return { node: h("div", { class: "needrow" }, names, box, drop, error(`need${i}`)), show: () => { const [n, c] = split(current.need[i]); if (document.activeElement !== names) names.value = D.components.includes(n) ? n : ""; if (document.activeElement !== box) box.value = names.value ? c : current.need[i] || ""; } };
}
let parts = [], rows = 1;
function build() {
  const driver = typed("driver", { placeholder: "any, or 550.54.14", list: "branches", inputmode: "decimal", "aria-describedby": "error-driver" }, v => { if (v !== (current.driver || "")) go({ driver: v }); });
  const frame = h("select", { id: "framework", onchange: () => { clauses.disabled = !frame.value; go({ framework: frame.value && frame.value + clauses.value.trim() }); } }, h("option", { value: "" }, "any"), FRAMEWORKS.map(([n, t]) => h("option", { value: n }, t)));
  const clauses = typed("framework-version", { "aria-label": "Versions of the framework", placeholder: "any, or >=2.3", "aria-describedby": "error-framework" }, v => { if (frame.value) go({ framework: frame.value + v }); });
  const python = h("select", { id: "python", onchange: () => go({ python: python.value }) }, h("option", { value: "" }, "any"), [...D.values.python].reverse().map(v => h("option", { value: v }, v)));
  const gpu = gpuBox(), precision = radios("precision", "Precision", D.values.precision), platform = radios("platform", "Platform", D.values.platform);
  rows = Math.max(rows, current.need.length, 1);
  const needs = Array.from({ length: rows }, (_, i) => needRow(i));
  parts = [gpu, precision, platform, ...needs, { show: () => {
    if (document.activeElement !== driver) driver.value = current.driver || "";
    const [n, c] = split(current.framework); frame.value = FRAMEWORKS.some(f => f[0] === n) ? n : ""; if (document.activeElement !== clauses) clauses.value = frame.value ? c : "";
    clauses.disabled = !frame.value; python.value = D.values.python.includes(current.python) ? current.python : "";
  } }];
  form.replaceChildren(
    h("div", { class: "formhead" }, h("h2", {}, "What is it for?"), h("a", { href: "#", class: "reset" }, "Start over")),
    gpu.node,
    field("driver", "Driver", driver, h("datalist", { id: "branches" }, D.branches.map(([v, t]) => h("option", { value: v }, t))), error("driver")),
    h("div", { class: "field" }, h("label", { for: "framework" }, "Framework"), h("div", { class: "pair" }, frame, clauses), error("framework")),
    h("div", { class: "field" }, h("span", { class: "label" }, "Also needs"), needs.map(n => n.node), h("button", { type: "button", class: "btn add", onclick: () => { const free = needs.findIndex((_, i) => !current.need[i]); if (free < 0) { rows++; build(); show(); } document.getElementById(`need${free < 0 ? rows - 1 : free}`).focus(); } }, "Add a component")),
    precision.node, h("div", { class: "pair" }, h("div", { class: "field" }, h("label", { for: "python" }, "Python"), python, error("python")), platform.node),
    h("button", { type: "button", class: "btn jump", id: "jump", onclick: () => { main.focus({ preventScroll: true }); main.scrollIntoView(); } }),
  );
}
function show(q) {
  for (const part of parts) part.show();
  if (!q) return;
  for (const el of form.querySelectorAll(".error")) { const text = q.problems[el.id.slice(6)]; el.hidden = !text; el.textContent = text || ""; }
  for (const el of form.querySelectorAll("[aria-describedby]")) el.setAttribute("aria-invalid", String(Boolean(q.problems[el.getAttribute("aria-describedby").slice(6)])));
}
form.addEventListener("submit", e => e.preventDefault());

// ---------------------------------------------------------------- what fits
const holds = s => Object.entries(s.held).filter(([, v]) => v).map(([n, v]) => h("span", {}, h("i", {}, title(n)), ` ${v}`)).concat(s.python.length ? [h("span", {}, h("i", {}, "Python"), ` ${s.python.length > 3 ? `${s.python[0]} to ${s.python[s.python.length - 1]}` : s.python.join(", ")}`)] : []);
function runs(c) {
  const e = c.evidence; if (!e) return null;
  const m = e.measured, r = e.run;
  return h("div", { class: "run" }, h("b", {}, c.of), ` on ${r.when.slice(0, 10)} on ${r.machine}: ${e.verified} of ${plural(e.tried, "cell")} verified`,
    m && [", ", h("b", {}, `${millis(m.latency)} ms`), ` for ${m.model} in ${m.precision}${m.machine === r.machine ? "" : ` on ${m.machine}`}`],
    c.of === "failed" && `; it ended as ${r.why}`, ". ",
    r.linked ? h("a", { href: `report.html#/cell/${encodeURIComponent(r.cell)}` }, "The newest cell in the report") : h("code", {}, `enginematrix show ${r.cell}`),
    e.notes.map(n => h("div", { class: "doubt" }, n)));
}
function verdicts(list) {
  return h("dl", { class: "verdicts" }, list.map(v => [h("dt", {}, state_(v.state, v.asked.text)), h("dd", { "data-state": v.state }, h("b", { class: `say v-${v.state}` }, SAYS[v.state] + (v.inferred && v.state === "supported" ? ", inferred" : "")), ` ${v.because}`,
    v.facts.length > 0 && h("details", {}, h("summary", {}, plural(v.facts.length, "fact"), " and sources"), facts(v.facts)))]));
}
function fetching(c, q) {
  const texts = D.emit[c.s], i = c.stack.image && q.platform ? 1 + D.values.platform.indexOf(q.platform) : 0;
  return [
    h("h3", {}, c.stack.image ? "Pull it" : "Its packages"), copied(texts[i], c.stack.image ? "the pull line" : "the requirement lines"),
    h("h3", {}, c.stack.image ? "As a Dockerfile" : "With hashes, and all that they ask for"), copied(command(q, ["--explain", c.stack.id, "--emit", c.stack.image ? "dockerfile" : "requirements"]), "the command"),
  ];
}
function inside(c, q) {
  return [runs(c), c.verdicts.length ? verdicts(c.verdicts) : h("p", { class: "soft" }, "Nothing was asked of it. What it holds:"),
    !c.verdicts.length && facts(c.stack.facts), c.fits && h("div", { class: "fetch" }, fetching(c, q))];
}
function card(c, i, q, open) {
  const body = h("div", { class: "inside" }), details = h("details", { class: `pick ${cls(c.of)}`, "data-stack": c.stack.id, "data-class": c.of, "data-states": c.verdicts.map(v => v.state).join(" ") });
  const fill = () => { if (!body.firstChild) body.append(...inside(c, q).flat(Infinity).filter(Boolean)); };
  const when = c.evidence ? `${c.evidence.run.when.slice(0, 10)}${c.evidence.expired ? ", expired" : ""}${c.evidence.measured ? ` · ${millis(c.evidence.measured.latency)} ms` : ""}` : "";
  details.append(h("summary", {}, h("span", { class: "n" }, i === null ? "" : String(i + 1)), h("span", { class: "id" }, c.stack.id), h("span", { class: "ev" }, i === null ? state_("unsupported", "does not fit") : badge(c.of), when && h("small", {}, when)),
    h("span", { class: "holds" }, holds(c.stack)), h("span", { class: "chips2" }, c.verdicts.map(v => h("span", { class: `chip v-${v.state}`, title: v.because }, icon(v.state), h("span", { class: "vh" }, `${SAYS[v.state]}: `), v.asked.text)))), body);
  details.fill = fill;
  if (open) { details.open = true; fill(); }
  details.addEventListener("toggle", () => { if (details.open) fill(); });
  details.firstChild.addEventListener("click", () => { current = { ...current, stack: details.open ? "" : c.stack.id }; history.replaceState(null, "", written(current)); });
  return h("li", {}, details);
}
function relaxing(item) {
  if (!item.relax) return h("p", { class: "relax" }, "Changing this alone helps nothing.");
  const to = item.ask && { ...current, stack: "", all: "" };
  if (to && item.ask.need) {
    const [n, clauses] = item.ask.need, mine = text => split(text)[0] === n, next = clauses === null ? "" : n + clauses;
    const inFrame = mine(to.framework);
    to.need = to.need.filter(t => !mine(t));
    if (inFrame) to.framework = next; else if (next) to.need = [...to.need, next];
  } else if (to) Object.assign(to, item.ask);
  return h("p", { class: "relax" }, h("b", {}, "Relax: "), to ? h("a", { href: written(to) || "#" }, item.relax) : item.relax, h("span", { class: "soft" }, ` (${D.stacks[item.s].id})`));
}
function nothing(found) {
  return h("section", { class: "panel nothing" }, h("header", {}, h("h2", {}, "These exclude each other"), h("span", { class: "faint" }, "the smallest set of requirements that no known stack meets together")),
    h("ol", {}, found.conflicts.map(item => h("li", { "data-key": name(item.asked), "data-relax": item.relax || "", "data-stack": item.relax ? D.stacks[item.s].id : "" }, h("h3", {}, state_("unsupported", item.asked.text)), item.verdict && h("p", {}, item.verdict.because), relaxing(item),
      item.verdict && item.verdict.facts.length > 0 && h("details", {}, h("summary", {}, plural(item.verdict.facts.length, "fact"), " and sources"), facts(item.verdict.facts))))));
}
function summary(found, q) {
  const counts = D.classes.map(of => [of, found.fitting.filter(c => c.of === of).length]).filter(x => x[1]);
  return [
    h("div", { class: "head" }, h("h1", {}, found.fitting.length ? `${plural(found.fitting.length, "stack")} ${found.fitting.length === 1 ? "fits" : "fit"}` : "Nothing fits"),
      found.fitting.length > 0 && found.fitting.every(c => c.of === "failed") && state_("unsupported", "by the facts, and all of them failed when they were run for just this"),
      h("p", {}, `of ${D.stacks.length.toLocaleString("en")} known stacks`, q.asked.length ? ` · ${q.asked.map(a => a.text).join(", ")}` : " · nothing asked yet")),
    counts.length > 0 && h("ul", { class: "legend" }, counts.map(([of, n]) => h("li", {}, badge(of), h("b", {}, n.toLocaleString("en")), h("small", {}, MEANS[of])))),
  ];
}
function route() {
  const before = written({ ...current, stack: "", all: "" });
  current = read(location.hash);
  const q = question(current), same = before === written({ ...current, stack: "", all: "" });
  if (!parts.length || current.need.length > rows) build();
  show(q);
  document.title = `${q.asked.map(a => a.text).join(", ") || "Choose a stack"} · EngineMatrix`;
  const problems = Object.values(q.problems);
  if (problems.length) {
    shown = null;
    document.getElementById("jump").textContent = "Show what is wrong";
    main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "Not answered")), h("section", { class: "panel" }, h("div", { class: "body" }, problems.map(text => h("p", { class: "error" }, text)))));
    said.textContent = `Not answered: ${problems.join("; ")}`;
    return;
  }
  const found = answer(q, Date.now()), limit = current.all ? found.fitting.length : SHOWN;
  const wanted = current.stack && found.choices.find(c => c.stack.id === current.stack);
  const list = found.fitting.slice(0, limit), at = wanted ? found.fitting.indexOf(wanted) : -1;
  const ol = h("ol", { class: "picks" }, list.map((c, i) => card(c, i, q, wanted ? c === wanted : i === 0)));
  if (wanted && at >= limit) ol.append(card(wanted, at, q, true));
  const cmd = command(q);
  main.replaceChildren(...[
    summary(found, q),
    wanted && at < 0 && h("ol", { class: "picks alone" }, card(wanted, null, q, true)),
    found.fitting.length ? ol : nothing(found),
    found.fitting.length > limit && h("p", { class: "moreline" }, h("a", { class: "btn", href: written({ ...current, all: "1" }) }, `Show all ${found.fitting.length.toLocaleString("en")}`)),
    found.open.length > 0 && h("details", { class: "open" }, h("summary", {}, `Not counted: of ${plural(found.open.length, "stack")} it is not recorded what ${found.open.length === 1 ? "it holds" : "they hold"} of what is needed`), h("p", { class: "mono" }, found.open.map((c, i) => [i > 0 && ", ", h("a", { href: written({ ...current, stack: c.stack.id }) }, c.stack.id)]))),
    h("section", { class: "panel asked" }, h("header", {}, h("h2", {}, "The same on the command line"), q.gpu === 1 && h("span", { class: "faint" }, "on a machine without a GPU")), h("div", { class: "body" }, copied(cmd, "the command"))),
    h("p", { class: "faint foot" }, `Judged from the catalog and from ${plural(D.outcomes, "stored outcome")}${D.all_outcomes ? "" : " (the newest)"} as of ${D.written.slice(0, 10)}. A run older than ${D.max_age} days is called expired. What is not recorded is unknown, and may be tried.`),
  ].flat(Infinity).filter(Boolean));
  if (shown !== null || !same) said.textContent = found.fitting.length ? `${plural(found.fitting.length, "stack")} fit, first ${found.fitting[0].stack.id}` : "Nothing fits";
  shown = found;
  document.getElementById("jump").textContent = found.fitting.length ? `Show the ${plural(found.fitting.length, "stack")} that ${found.fitting.length === 1 ? "fits" : "fit"}` : "Show why nothing fits";
  if (wanted && !same) main.querySelector("details.pick[open]").scrollIntoView({ block: "nearest" });
}
addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", e => { e.preventDefault(); main.focus(); main.scrollIntoView(); });
let opened = [];
addEventListener("beforeprint", () => { opened = [...document.querySelectorAll(".pick[open] details:not([open]), .nothing details:not([open])")]; opened.forEach(d => { d.open = true; }); });
addEventListener("afterprint", () => opened.forEach(d => { d.open = false; }));
route();
})();
