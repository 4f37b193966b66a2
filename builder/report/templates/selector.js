// the filter: the selector language over the cells of this report, or plain words
// Fields by name -> a function of a cell that gives its text. Those of builder/fields.py, and what only a result has.
const FIELDS = new Map(), BOTH = new Map();
for (const f of ["id", "slug", "status", "stage", "category", "signature", "line", "reason"]) FIELDS.set(f, c => c[f]);
FIELDS.set("expected", c => c.expected && c.expected.state);
FIELDS.set("flaky", c => c.flaky ? "yes" : "no");
for (const a of Object.keys(D.axes)) FIELDS.set(a, c => c.axes[a]);
const owners = new Map();
for (const [role, at, stacks] of [["engine", "E", D.engines], ["exporter", "X", D.exporters]]) {
  FIELDS.set(role, c => c[at].entry); FIELDS.set(`${role}.id`, c => c[at].id); FIELDS.set(`${role}.family`, c => c[at].family);
  for (const f of new Set(stacks.flatMap(s => Object.keys(s.fields)))) FIELDS.set(`${role}.${f}`, c => c[at].fields[f]);
  for (const f of new Set(["family", ...stacks.flatMap(s => Object.keys(s.fields))])) owners.set(f, [...(owners.get(f) || []), `${role}.${f}`]);
}
for (const [bare, names] of owners) if (names.length > 1) BOTH.set(bare, names); else if (!FIELDS.has(bare)) FIELDS.set(bare, FIELDS.get(names[0]));
function nearest(word) { // as a hint: the name with the fewest letters between
  const far = (a, b) => { let row = [...Array(b.length + 1).keys()]; for (let i = 1; i <= a.length; i++) { const next = [i]; for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1])); row = next; } return row[b.length]; };
  const [n, name] = [...FIELDS.keys()].map(k => [far(word, k), k]).sort((a, b) => a[0] - b[0])[0];
  return n <= Math.max(2, word.length / 3) && n < word.length - 1 ? `perhaps '${name}'?` : "";
}
function leafOf(term) {
  if (term.word !== undefined) {
    if (term.word === "all") return () => true;
    if (term.word[0] === "#") { const id = term.word.slice(1); return c => c.id.startsWith(id); }
    if (/[*?[]/.test(term.word)) return c => Patterns.matches(term.word, c.slug);
    if (term.word === "changed") throw new SelectError(term.offset, "a report does not know what has changed since its run");
    throw new SelectError(term.offset, `'${term.word}' is no field with a value`, "groups are in matrix.yaml alone");
  }
  const get = FIELDS.get(term.field);
  if (!get) throw BOTH.has(term.field) ? new SelectError(term.offset, `'${term.field}' is a field of both stacks`, "write " + BOTH.get(term.field).join(" or ")) : new SelectError(term.offset, `unknown field '${term.field}'`, nearest(term.field));
  const known = new Map(); // a value is looked at once, however many cells have it
  return c => { const v = get(c); let fits = known.get(v); if (fits === undefined) known.set(v, fits = accepts(term.operator, term.values, v)); return fits; };
}
// Plain words: every one of them somewhere in what the cell says. What many cells share is looked through once.
function words(text) {
  const tests = text.toLowerCase().split(/\s+/).map(w => {
    const within = read => { const known = new Map(); return key => { let hit = known.get(key); if (hit === undefined) known.set(key, hit = (read(key) || "").toLowerCase().includes(w)); return hit; }; };
    const texts = within(i => D.texts[i]), causes = within(i => D.causes[i].slice(0, 3).filter(Boolean).join("\n")), plain = within(x => x), stack = within(i => D.engines[i].id);
    // A slug is its stack's id and a tail that other stacks share; a word with a dot may lie across the two.
    const slug = w.includes(".") ? c => c.slug.toLowerCase().includes(w) : c => D.odd[c.at] === undefined ? stack(c.engine) || plain(D.slugs[c.tail]) : c.slug.toLowerCase().includes(w);
    return c => plain(c.status) || plain(c.stage) || causes(c.cause) || texts(c.lineAt) || texts(c.reasonAt) || slug(c) || c.id.includes(w);
  });
  return c => tests.every(t => t(c));
}
function selector(text) { // [test of a cell, what is wrong with the selector or ""]
  text = text.trim();
  if (!text) return [() => true, ""];
  try { return [parseSelector(text, leafOf), ""]; } catch (e) {
    if (!(e instanceof SelectError)) throw e;
    return [words(text), /[=<>]/.test(text) ? `character ${[...text.slice(0, e.offset)].length + 1}: ${e.message}; searching for the words instead` : ""];
  }
}
