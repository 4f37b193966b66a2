// Patterns over values, as builder/versions.py has them: PEP 440 ranges (as packaging 26 reads them), globs and exact text. tests/selecting.py holds the two
// against each other.
const Patterns = (() => {
const VERSION = /^\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?(\d*))?(?:(-\d+)|([-_.]?(?:post|rev|r)[-_.]?(\d*)))?(?:([-_.]?dev[-_.]?)(\d*))?(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*$/i;
const CLAUSE = /^\s*(~=|===|==|!=|<=|>=|<|>)\s*(\S+)\s*$/;
const PRE = { alpha: "a", a: "a", beta: "b", b: "b", c: "rc", rc: "rc", pre: "rc", preview: "rc" };
const memo = f => { const kept = new Map(); return x => { if (!kept.has(x)) kept.set(x, f(x)); return kept.get(x); }; };
const version = memo(text => {
  const m = VERSION.exec(text);
  if (!m) return null;
  const number = x => BigInt(x || 0);
  return {
    epoch: number(m[1]), release: m[2].split(".").map(number), pre: m[3] ? [PRE[m[3].toLowerCase()], number(m[4])] : null,
    post: m[5] ? number(m[5].slice(1)) : m[6] !== undefined ? number(m[7]) : null, dev: m[8] !== undefined ? number(m[9]) : null,
    local: m[10] ? m[10].toLowerCase().split(/[-_.]/).map(x => /^\d+$/.test(x) ? number(x) : x) : null,
  };
});
const order = (a, b) => a < b ? -1 : a > b ? 1 : 0;
function lists(a, b, each) {
  for (let i = 0; i < Math.max(a.length, b.length); i++) { const r = i >= a.length ? -1 : i >= b.length ? 1 : each(a[i], b[i]); if (r) return r; }
  return 0;
}
const stripped = release => { let n = release.length; while (n > 1 && release[n - 1] === 0n) n--; return release.slice(0, n); };
// Where a part that is missing stands: 1.0.dev1 < 1.0a1 < 1.0 < 1.0.post1.
const preKey = v => v.pre ? [0, v.pre[0], v.pre[1]] : v.post === null && v.dev !== null ? [-1] : [1];
function compare(a, b, local = true) {
  return order(a.epoch, b.epoch) || lists(stripped(a.release), stripped(b.release), order) || lists(preKey(a), preKey(b), order)
    || order(a.post ?? -1n, b.post ?? -1n) || order(a.dev === null ? 1 : 0, b.dev === null ? 1 : 0) || order(a.dev ?? 0n, b.dev ?? 0n)
    || (local ? lists(a.local || [], b.local || [], (x, y) => typeof x === typeof y ? order(x, y) : typeof x === "bigint" ? 1 : -1) : 0);
}
const isPre = v => v.pre !== null || v.dev !== null;
const sameBase = (a, b) => a.epoch === b.epoch && lists(stripped(a.release), stripped(b.release), order) === 0;
const written = v => (v.epoch ? `${v.epoch}!` : "") + v.release.join(".") + (v.pre ? v.pre.join("") : "") + (v.post === null ? "" : `.post${v.post}`) + (v.dev === null ? "" : `.dev${v.dev}`) + (v.local ? `+${v.local.join(".")}` : "");
const devOf = (v, release) => ({ epoch: v.epoch, release, pre: null, post: null, dev: 0n, local: null });
const next = release => [...release.slice(0, -1), release[release.length - 1] + 1n];
// `==1.2.*` is [1.2.dev0, 1.3.dev0)
const within = (v, epoch, release) => compare(v, devOf({ epoch }, release)) >= 0 && compare(v, devOf({ epoch }, next(release))) < 0;
// A clause as a test of a version, or null for what is none.
const specifier = memo(text => {
  const [, operator, operand] = CLAUSE.exec(text) || [];
  if (!operator) return null;
  if (operator === "===") return v => written(v).toLowerCase() === operand.toLowerCase();
  const star = operand.endsWith(".*"), spec = version(star ? operand.slice(0, -2) : operand);
  if (!spec || (star && (!["==", "!="].includes(operator) || spec.pre || spec.post !== null || spec.dev !== null || spec.local)) || (spec.local && !["==", "!="].includes(operator))) return null;
  const equal = star ? v => within(v, spec.epoch, spec.release) : v => compare(v, spec, spec.local !== null) === 0;
  switch (operator) {
    case "==": return equal;
    case "!=": return v => !equal(v);
    case "<=": return v => compare(v, spec, false) <= 0;
    case ">=": return v => compare(v, spec, false) >= 0;
    case "<": { const bound = isPre(spec) ? spec : { ...spec, dev: 0n }; return v => compare(v, bound) < 0; } // not the pre-releases of the bound
    case ">": { // not the post-releases and local versions of the bound
      if (spec.dev !== null) { const bound = { ...spec, dev: spec.dev + 1n }; return v => compare(v, bound) >= 0; }
      if (spec.post !== null) { const bound = { ...spec, post: spec.post + 1n, dev: 0n }; return v => compare(v, bound) >= 0; }
      return v => compare(v, spec) > 0 && !(sameBase(v, spec) && String(v.pre) === String(spec.pre));
    }
    default: { // ~=
      if (spec.release.length < 2) return null;
      return v => compare(v, spec, false) >= 0 && compare(v, devOf(spec, next(spec.release.slice(0, -1)))) < 0;
    }
  }
});
const escape = c => /[a-z0-9_]/i.test(c) ? c : `\\u{${c.codePointAt(0).toString(16)}}`;
const glob = memo(pattern => { // as Python's fnmatch.translate
  const chars = [...pattern];
  let out = "";
  for (let i = 0; i < chars.length; i++) {
    const c = chars[i];
    if (c === "*") out += ".*";
    else if (c === "?") out += ".";
    else if (c === "[") {
      let j = i + 1;
      if (chars[j] === "!") j++;
      if (chars[j] === "]") j++;
      while (j < chars.length && chars[j] !== "]") j++;
      if (j >= chars.length) { out += escape(c); continue; }
      const not = chars[i + 1] === "!", body = chars.slice(i + 1 + not, j), ranges = [];
      for (let k = 0; k < body.length; k++) {
        if (body[k + 1] === "-" && k + 2 < body.length) { if (body[k].codePointAt(0) <= body[k + 2].codePointAt(0)) ranges.push(`${escape(body[k])}-${escape(body[k + 2])}`); k += 2; } else ranges.push(escape(body[k]));
      }
      out += ranges.length ? `[${not ? "^" : ""}${ranges.join("")}]` : not ? "." : "(?!)";
      i = j;
    } else out += escape(c);
  }
  return new RegExp(`^(?:${out})$`, "su");
});
const isRange = pattern => pattern !== "" && "<>=!~".includes(pattern[0]);
function clause(text, value) {
  const m = CLAUSE.exec(text);
  if (!m) return false;
  const spec = specifier(m[1] + m[2]), parsed = version(value);
  if (spec && parsed) return spec(parsed);
  return (m[1] === "==" || m[1] === "!=") && glob(m[2]).test(value) === (m[1] === "==");
}
return {
  version, compare,
  // What is wrong with a pattern, or null.
  problem(pattern) {
    if (pattern === "") return "an empty pattern";
    if (!isRange(pattern)) return null;
    for (const text of pattern.split(",")) {
      const m = CLAUSE.exec(text);
      if (!m) return `'${text.trim()}' is not a version clause such as '>=1.15'`;
      if (!["==", "!="].includes(m[1]) && !specifier(m[1] + m[2])) return `'${m[2]}' is not a version, so '${m[1]}' cannot compare with it`;
    }
    return null;
  },
  // Whether a value fits a pattern that has no `problem`.
  matches: (pattern, value) => isRange(pattern) ? pattern.split(",").every(text => clause(text, value)) : pattern === value || (/[*?[]/.test(pattern) && glob(pattern).test(value)),
};
})();
// Two texts in the order of their versions; what is none comes first, as text.
function compare(a, b) {
  const x = Patterns.version(a), y = Patterns.version(b);
  return x && y ? Patterns.compare(x, y) : x ? 1 : y ? -1 : a < b ? -1 : a > b ? 1 : 0;
}
