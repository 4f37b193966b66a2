// the selector language (as `--select`, see `plan --help`)
const FIELDS = new Map();
for (const f of ["id", "slug", "status", "stage", "category", "signature", "line", "reason"]) FIELDS.set(f, c => c[f]);
for (const a of Object.keys(D.axes)) FIELDS.set(a, c => c.axes[a]);
FIELDS.set("expected", c => c.expected && c.expected.state);
FIELDS.set("flaky", c => c.flaky ? "yes" : "no");
for (const [role, at] of [["engine", "E"], ["exporter", "X"]]) {
  FIELDS.set(role, c => c[at].entry); FIELDS.set(`${role}.id`, c => c[at].id); FIELDS.set(`${role}.family`, c => c[at].family);
  for (const stack of role === "engine" ? D.engines : D.exporters) for (const f of Object.keys(stack.fields)) FIELDS.set(`${role}.${f}`, x => x[at].fields[f]);
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
