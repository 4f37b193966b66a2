// The selector language, as builder/select.py has it: text -> a test of a cell. tests/selecting.py holds the two against each
// other, the places and the words of their errors included.
class SelectError extends Error {
  constructor(offset, message, hint) { super(hint ? `${message}; ${hint}` : message); this.offset = offset; }
}
// `leaf({field, operator, values, offset})` and `leaf({word, offset})` give the test of a single term, or throw SelectError.
function parseSelector(text, leaf) {
  const TOKEN = /(\s+)|(!=|>=|<=|==|=|>|<)|([(),])|"([^"]*)"|'([^']*)'|([^\s=!<>(),"']+)/y;
  const shown = t => `'${t.replace(/'/g, "\\'")}'`, tokens = [];
  if (text.length > 10000) throw new SelectError(0, "a selector of more than 10000 characters");
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const m = TOKEN.exec(text);
    if (!m) throw new SelectError(at, `${text[at] === "'" ? `"'"` : shown(String.fromCodePoint(text.codePointAt(at)))} is out of place`, "a quote that is not closed?");
    const kind = m[2] ? "op" : m[3] ? "punct" : m[4] !== undefined || m[5] !== undefined ? "quoted" : m[6] ? "word" : "";
    if (kind) tokens.push({ kind, text: m[2] || m[3] || m[4] || m[5] || m[6] || "", offset: at });
  }
  tokens.push({ kind: "end", text: "", offset: text.length });
  let i = 0;
  const terms = []; // looked up once the whole is known to be a selector
  const later = term => { const at = { term }; terms.push(at); return c => at.test(c); };
  const fail = (message, hint) => new SelectError(tokens[i].offset, message, hint);
  const word = w => tokens[i].kind === "word" && tokens[i].text === w && ++i > 0;
  const punct = p => tokens[i].kind === "punct" && tokens[i].text === p && ++i > 0;
  function either(depth) { let l = both(depth); while (word("or")) { const a = l, b = both(depth); l = c => a(c) || b(c); } return l; }
  function both(depth) { let l = negation(depth); while (word("and")) { const a = l, b = negation(depth); l = c => a(c) && b(c); } return l; }
  function negation(depth) {
    if (depth > 100) throw fail("nested deeper than 100 levels");
    if (word("not")) { const inner = negation(depth + 1); return c => !inner(c); }
    if (punct("(")) { const inner = either(depth + 1); if (!punct(")")) throw fail("a parenthesis is not closed"); return inner; }
    return term();
  }
  function term() {
    const t = tokens[i];
    if (!["word", "quoted"].includes(t.kind) || t.text === "and" || t.text === "or") throw fail(`expected a term before ${t.text ? shown(t.text) : "the end"}`, "such as model=resnet50");
    const op = tokens[++i];
    if (op.kind !== "op") return later({ word: t.text, offset: t.offset });
    if (op.text === "==") throw new SelectError(op.offset, "'==' is not an operator", "write '='");
    const values = [];
    do { i++; if (!["word", "quoted"].includes(tokens[i].kind) || !tokens[i].text) throw fail("expected a value"); values.push(tokens[i++].text); } while (tokens[i].kind === "punct" && tokens[i].text === ",");
    if (op.text !== "=" && op.text !== "!=") {
      if (values.length > 1) throw new SelectError(op.offset, `'${op.text}' compares with one version`);
      const problem = Patterns.problem(op.text + values[0]);
      if (problem !== null) throw new SelectError(op.offset, problem);
    }
    return later({ field: t.text, operator: op.text, values, offset: t.offset });
  }
  const found = either(0);
  if (tokens[i].kind !== "end") throw fail(`${shown(tokens[i].text)} is out of place`, "join terms with 'and' or 'or'");
  for (const at of terms) at.test = leaf(at.term);
  return found;
}
// Whether a field's value fits; an absent one never does.
function accepts(operator, values, value) {
  if (value === undefined || value === null) return false;
  if (operator === "=" || operator === "!=") return values.some(pattern => Patterns.matches(pattern, value)) === (operator === "=");
  return Patterns.matches(operator + values[0], value);
}
