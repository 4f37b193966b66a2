// across versions: latency, size, build time and error along a version axis, a line for all that is equal in the rest
const MOST = 30, ROWS = 200; // lines of a plot, and of its table
const FAILED = new Set(["failed", "crashed", "timeout", "out-of-memory", "blocked"]);
const busy = c => along().busy[c.at] !== undefined;
const bad = c => c.status === "mismatch" || FAILED.has(c.status);
const METRICS = {
  latency: { title: "latency", unit: "ms", of: c => c.measure && c.measure.status === "settled" && c.measure.median ? c.measure.median * 1e3 : null, span: c => (along().interval[c.at] || []).map(x => x * 1e3), show: x => millis(x / 1e3),
    note: (n, b) => `Median of one call; whiskers: ${100 * along().level} % interval of the median by the windows it rests on, within one process.${b ? ` Pale, and called busy in the table: ${plural(b, "timing")} taken while other processes had more than 5 % of the machine, which may say more of them than of the release.` : ""}${n ? ` ${plural(n, "timing")} without an interval: too few windows are kept.` : ""} A timing that did not settle has no number.` },
  size: { title: "engine size", unit: "MiB", of: c => c.bytes === undefined ? null : c.bytes / 2 ** 20, show: x => x >= 100 ? x.toFixed(0) : x.toPrecision(3), made: true, note: () => "Size of the engine file; exact, so that there is no interval. Where an engine was built and then failed, its size is there with a cross." },
  build: { title: "build time", unit: "s", of: c => along().build[c.at] ?? null, made: true, show: x => x >= 100 ? x.toFixed(0) : x.toPrecision(3), note: () => "Seconds of parsing and building, without making the environment. Each build ran once, so that there is no interval; what else the machine did is in it." },
  error: { title: "error", unit: "", log: true, of: c => Number.isFinite(c.error) ? c.error : null, show: number, note: () => "The largest difference from the reference over all outputs and cases, as a share of the largest reference value. The same each time, so that there is no interval. An error of 0 is drawn at the lower edge." },
};
function axesOfVersions() { // [axis, values in their order], most values first
  const seen = new Map(), add = (k, v) => { if (!seen.has(k)) seen.set(k, new Set()); seen.get(k).add(v); };
  for (const S of D.engines) for (const [k, v] of Object.entries(S.fields)) add(`engine.${k}`, v);
  for (const S of D.exporters) for (const [k, v] of Object.entries(S.fields)) add(`exporter.${k}`, v);
  for (const [k, vs] of Object.entries(D.axes)) if (k !== "model" && k !== "built-on") for (const v of vs) add(k, v);
  return [...seen].map(([k, vs]) => [k, [...vs]]).filter(([k, vs]) => !k.endsWith(".python") && vs.length > 1 && vs.every(isVersion)).map(([k, vs]) => [k, vs.sort(compare)]).sort((a, b) => b[1].length - a[1].length);
}
const valueAt = (c, axis) => axis.startsWith("engine.") ? c.E.fields[axis.slice(7)] : axis.startsWith("exporter.") ? c.X.fields[axis.slice(9)] : c.axes[axis];
function linesOf(axis, model, accept) { // [{label, at: Map(version -> cell)}]: cells that agree in all but the axis, a stack's Python and its entry's name
  const role = axis.includes(".") ? axis.split(".")[0] : "", loose = new Set([axis, `${role}.python`, role]), groups = new Map();
  for (const c of D.cells) {
    if (c.axes.model !== model || c.built_on !== undefined || valueAt(c, axis) === undefined || !accept(c)) continue;
    const own = valuesOf(c), rest = Object.keys(own).filter(k => !loose.has(k)).sort().map(k => [k, own[k]]), ran = along().machine[c.at];
    if (ran !== undefined) rest.push(["machine", along().machines[ran]]); // times of two machines are no line
    const key = JSON.stringify(rest);
    if (!groups.has(key)) groups.set(key, { rest: Object.fromEntries(rest), cells: [] });
    groups.get(key).cells.push(c);
  }
  const out = [];
  for (const g of groups.values()) { // one release on two Pythons is two lines
    const twice = new Set(g.cells.map(c => valueAt(c, axis))).size < g.cells.length, parts = new Map();
    for (const c of g.cells) { const k = twice && role ? `python ${valuesOf(c)[`${role}.python`]} ${valuesOf(c)[role]}` : ""; if (!parts.has(k)) parts.set(k, []); parts.get(k).push(c); }
    for (const [k, cells] of parts) out.push({ rest: g.rest, more: k, at: new Map(cells.map(c => [valueAt(c, axis), c])) });
  }
  const names = [...new Set(out.flatMap(l => Object.keys(l.rest)))].filter(k => k !== "model" && (new Set(out.map(l => l.rest[k])).size > 1 || k === "precision"));
  const short = (k, v) => k === "opset" ? `opset ${v}` : k.endsWith(".family") || !/^(engine|exporter)(\.|$)/.test(k) ? v : k.includes(".") ? `${k.split(".")[1]} ${v}` : null;
  const implied = k => /^(engine|exporter)$/.test(k) || k.endsWith(".python"); // the family and the versions say as much
  for (const l of out) l.label = [...names.filter(k => !implied(k) && l.rest[k] !== undefined).map(k => short(k, l.rest[k])), l.more].filter(Boolean).join(" · ") || model;
  const same = new Map(); for (const l of out) same.set(l.label, (same.get(l.label) || 0) + 1);
  for (const l of out) if (same.get(l.label) > 1) l.label = [l.label, ...names.filter(k => implied(k) && l.rest[k] !== undefined).map(k => `${k.replace(".python", " py")} ${l.rest[k]}`)].join(" · ");
  return out.sort((a, b) => (a.label < b.label ? -1 : 1));
}
// What a cell has in place of a number, or null: a failure, a timing that did not settle, what was foretold.
function gapOf(c, metric) {
  if (METRICS[metric].made && METRICS[metric].of(c) !== null) return null; // built, whatever became of it
  if (c.status === "mismatch" && metric !== "error") return ["mismatch", "wrong numbers"];
  if (c.status === "mismatch") return Number.isFinite(c.error) ? null : ["mismatch", c.error === Infinity ? "non-finite values differ" : "wrong, without a share to tell"];
  if (FAILED.has(c.status)) return [c.status, c.status];
  if (c.status === "unsupported") return ["unsupported", "not tried: foretold to fail"];
  if (metric === "latency" && c.measure && c.measure.status !== "settled") return ["unstable", "unstable"];
  return null;
}
function versionsView(params) {
  const axes = axesOfVersions(), head = text => h("div", { class: "head" }, h("h1", {}, "Across versions"), h("p", {}, text));
  if (!axes.length) return [head("Nothing in this report has two versions.")];
  const metric = params.show in METRICS ? params.show : Object.keys(METRICS).find(m => D.cells.some(c => METRICS[m].of(c) !== null)) || "latency", M = METRICS[metric];
  const [axis, values] = axes.find(a => a[0] === params.axis) || axes[0];
  const filled = c => M.of(c) !== null, models = (D.axes.model || []).filter(m => D.cells.some(c => c.axes.model === m && valueAt(c, axis) !== undefined && c.built_on === undefined));
  const counts = new Map(models.map(m => [m, 0])); for (const c of D.cells) if (counts.has(c.axes.model) && valueAt(c, axis) !== undefined && filled(c)) counts.set(c.axes.model, counts.get(c.axes.model) + 1);
  const model = models.includes(params.model) ? params.model : [...models].sort((a, b) => counts.get(b) - counts.get(a))[0];
  const [accept, hint] = selector(params.q || ""), lines = linesOf(axis, model, accept), longest = (a, b) => [...b.at.values()].filter(filled).length - [...a.at.values()].filter(filled).length;
  const shown = lines.filter(l => [...l.at.values()].some(filled)), silent = lines.filter(l => !shown.includes(l) && [...l.at.values()].some(c => gapOf(c, metric)));
  // More lines than can be told apart are no plot: those with the most numbers are drawn.
  const drawn = shown.length + silent.length <= MOST ? [...shown, ...silent] : [...[...shown].sort(longest), ...silent].slice(0, MOST), rows = [...shown, ...silent].slice(0, ROWS);
  const used = values.filter(v => lines.some(l => l.at.has(v)));
  const go = p => { location.hash = link("versions", Object.fromEntries(Object.entries({ axis, show: metric, model, q: params.q, ...p }).filter(x => x[1]))); };
  const pick = (label, list, current, change) => h("label", { class: "pick" }, label, h("select", { onchange: e => { steady(e); change(e.target.value); } }, list.map(([v, text]) => h("option", { value: v, selected: v === current }, text))));
  const plot = h("div", { id: "plot", role: "img", "aria-label": `${M.title} of ${model} along ${axis}; the same numbers are in the table below` }, h("p", { class: "empty" }, "Drawing…"));
  if (shown.length) drawVersions(plot, axis, used, drawn, metric);
  const bare = shown.reduce((n, l) => n + [...l.at.values()].filter(c => filled(c) && M.span && M.span(c).length < 2).length, 0);
  const crowded = metric === "latency" ? shown.reduce((n, l) => n + [...l.at.values()].filter(c => filled(c) && busy(c)).length, 0) : 0;
  const inTable = c => {
    if (!c) return h("span", { class: "faint", "aria-label": "no cell" }, "·");
    const gap = gapOf(c, metric), x = M.of(c), span = M.span ? M.span(c) : [];
    const text = gap ? gap[1] : x === null ? (c.status === "skipped" ? "skipped" : "–") : `${M.show(x)}${span.length === 2 ? ` (${M.show(span[0])} to ${M.show(span[1])})` : ""}${metric === "latency" && busy(c) ? " busy" : ""}`;
    return h("a", { href: link("cell/" + c.id), class: gap ? `st s-${gap[0]}` : x !== null && (c.status === "degraded" || bad(c)) ? `st s-${c.status}` : null, title: c.status }, gap ? icon(gap[0]) : x !== null && (c.status === "degraded" || bad(c)) ? [icon(c.status), h("span", { class: "vh" }, c.status)] : null, text);
  };
  const table = h("table", { class: "data across" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, axis.replace(/^engine\./, "")), used.map(v => h("th", { scope: "col", class: "num" }, v)))),
          h("tbody", {}, rows.map(l => h("tr", {}, h("th", { scope: "row" }, l.label), used.map(v => h("td", { class: "num" }, inTable(l.at.get(v))))))));
  table.addEventListener("keydown", arrows);
  return [
    head("A line is all that is equal but the version. Below it, in its colour, what has no number: × failed, ◇ did not settle, – was foretold to fail. Hollow: not what was asked."),
    h("div", { class: "tools" }, h("div", { class: "seg", role: "group", "aria-label": "Show" }, Object.entries(METRICS).map(([k, x]) => h("button", { type: "button", "aria-pressed": String(k === metric), onclick: e => { steady(e); go({ show: k }); } }, x.title))),
      pick("along", axes.map(([a, vs]) => [a, `${a.replace(/^engine\./, "")} (${vs.length})`]), axis, a => go({ axis: a, model: "" })), pick("of", models.map(m => [m, `${m}${counts.get(m) ? ` (${counts.get(m)})` : ""}`]), model, m => go({ model: m })),
      h("div", { class: "box" }, h("input", { type: "search", id: "filter", "aria-label": "Narrow", placeholder: "narrow: precision=fp32 and opset=17", value: params.q || "", autocomplete: "off", spellcheck: "false", onchange: e => { steady(e); go({ q: e.target.value.trim() }); } })), hint && h("span", { class: "hint", role: "status" }, hint)),
    h("div", { class: "stack" },
      h("section", { class: "panel" }, shown.length ? plot : h("p", { class: "empty" }, metric === "latency" ? `No timing of ${model} settled along ${axis}. A cell is timed when a set rule of the matrix gives it measure: true.` : `Nothing of ${model} along ${axis} has a number here.`),
        h("p", { class: "body faint" }, M.note(bare, crowded), shown.length > 0 && silent.length > 0 && ` ${plural(silent.length, "line")} of failures alone ${silent.length === 1 ? "is" : "are"} marked too.`,
          drawn.length < shown.length + silent.length && ` ${MOST} of ${plural(shown.length + silent.length, "line")} are drawn, those with the most numbers; the box above narrows them.`, rows.length < shown.length + silent.length && ` The table has the first ${ROWS}.`)),
      h("section", { class: "panel" }, h("header", {}, h("h2", {}, "The same as a table"), h("span", { class: "faint" }, `${M.title}${M.unit && ` in ${M.unit}`}; each is a link to its cell`)),
        h("div", { class: "scroll" }, table))),
  ];
}
async function drawVersions(el, axis, versions, lines, metric) {
  let Plotly;
  try { Plotly = await library(); } catch (e) { el.replaceChildren(h("p", { class: "empty" }, `${e.message}; the table below has the numbers.`)); return; }
  if (!el.isConnected) return;
  const M = METRICS[metric], v = palette(), narrow = el.clientWidth < 620, plain = t => String(t).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const all = lines.flatMap(l => [...l.at.values()].map(M.of).filter(x => x !== null)), floors = lines.flatMap(l => [...l.at.values()].map(c => c.floor || 0)), least = M.log ? Math.min(...[...all, ...floors].filter(x => x > 0), 1) / 3 : 0;
  const y = x => M.log ? Math.max(x, least) : x; // a logarithm has no place for 0
  const gaps = [], traces = lines.map((l, i) => {
    const color = SERIES[i % 7], points = versions.filter(x => l.at.has(x)).map(x => [x, l.at.get(x)]);
    for (const [x, c] of points) { const gap = gapOf(c, metric); if (gap) gaps.push([x, i, gap, c, color, l.label]); }
    const value = c => gapOf(c, metric) ? null : M.of(c), drawn = points.filter(([, c]) => value(c) !== null || gapOf(c, metric)); // a failure breaks the line, an untimed cell does not
    const spans = drawn.map(([, c]) => value(c) !== null && M.span && M.span(c).length === 2 ? M.span(c) : null);
    return { type: "scatter", mode: "lines+markers", name: plain(l.label), legendgroup: String(i), showlegend: false, x: drawn.map(p => p[0]), y: drawn.map(([, c]) => value(c) === null ? null : y(value(c))), connectgaps: false, line: { color, width: 1.6, dash: ["solid", "dash", "dot"][Math.floor(i / 7) % 3] },
      marker: { size: 8, color, opacity: drawn.map(([, c]) => metric === "latency" && busy(c) ? 0.35 : 1), symbol: drawn.map(([, c]) => bad(c) ? "x" : MARKS[i % 6] + (c.status === "degraded" ? "-open" : "")) },
      error_y: spans.some(Boolean) ? { type: "data", symmetric: false, array: drawn.map(([, c], k) => spans[k] ? spans[k][1] - value(c) : 0), arrayminus: drawn.map(([, c], k) => spans[k] ? value(c) - spans[k][0] : 0), color, thickness: 1.3, width: 4 } : undefined,
      customdata: drawn.map(([, c], k) => [plain(c.E.id), value(c) === null ? "" : M.show(value(c)), spans[k] ? ` (${M.show(spans[k][0])} to ${M.show(spans[k][1])})` : M.span ? " (no interval)" : "", metric === "latency" && busy(c) ? `${c.status}, machine busy` : c.status, c.id]),
      hovertemplate: `<b>%{customdata[0]}</b><br>${plain(l.label)}<br>${M.title} %{customdata[1]} ${M.unit}%{customdata[2]}<extra>%{customdata[3]}</extra>` };
  });
  // The legend has traces of its own, since the sign there is that of a trace's first point, which may be a cross.
  lines.forEach((l, i) => traces.push({ ...traces[i], x: [versions[0]], y: [null], error_y: undefined, customdata: undefined, hoverinfo: "skip", hovertemplate: undefined, showlegend: true, marker: { size: 8, color: SERIES[i % 7], symbol: MARKS[i % 6] } }));
  if (gaps.length) traces.push({ type: "scatter", mode: "markers", name: "no number", showlegend: false, yaxis: "y2", x: gaps.map(g => g[0]), y: gaps.map(g => -g[1]), marker: { size: 9, color: gaps.map(g => g[4]), symbol: gaps.map(g => g[2][1] === "unstable" ? "diamond-open" : g[2][0] === "unsupported" ? "line-ew-open" : "x-thin-open"), line: { width: 2, color: gaps.map(g => g[4]) } },
    customdata: gaps.map(g => [plain(g[3].E.id), plain(g[5]), g[2][1], plain(clip(why(g[3]), 90)), g[3].id]), hovertemplate: "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<br>%{customdata[3]}<extra></extra>" });
  const lanes = gaps.length ? Math.min(0.3, 0.05 + 0.022 * lines.length) : 0, room = el.clientWidth - 84, entry = 46 + 7 * Math.max(...lines.map(l => l.label.length));
  // The legend's room is kept free, since Plotly would find it by drawing again and again.
  const plotted = narrow ? 340 : 400, foot = 58 + 20 * Math.ceil((lines.length + 1) / Math.max(1, Math.floor(room / entry))), height = plotted + 12 + foot;
  if (M.log) { const floor = Math.max(...floors); if (floor > 0) traces.unshift({ type: "scatter", mode: "lines", name: "noise floor", x: [versions[0], versions[versions.length - 1]], y: [floor, floor], line: { dash: "dash", width: 1, color: v("--faint") }, hoverinfo: "skip" }); }
  el.replaceChildren();
  await Plotly.newPlot(el, traces, { ...ground(v), height, margin: { l: narrow ? 52 : 64, r: 20, t: 12, b: foot }, showlegend: true, legend: { orientation: "h", y: -54 / plotted, yanchor: "top", x: 0, font: { color: v("--soft") } }, hovermode: "closest", dragmode: narrow ? false : "zoom",
    xaxis: { ...axisOf(v), type: "category", categoryorder: "array", categoryarray: versions, range: [-0.5, versions.length - 0.5], anchor: gaps.length ? "y2" : "y", title: titleOf(v, axis.replace(/^engine\./, "")) },
    yaxis: { ...axisOf(v), domain: [lanes ? lanes + 0.03 : 0, 1], type: M.log ? "log" : "linear", exponentformat: "power", rangemode: "tozero", title: titleOf(v, M.unit ? `${M.title}, ${M.unit}` : M.title) },
    ...(gaps.length ? { yaxis2: { domain: [0, lanes], range: [-lines.length + 0.4, 0.6], showticklabels: false, showgrid: false, zeroline: false, fixedrange: true, title: titleOf(v, narrow ? "" : "no number"), linecolor: v("--line2") } } : {}) }, PLOTTED);
  el.on("plotly_click", e => { const at = e.points[0].customdata; if (at) location.hash = link("cell/" + at[4]); });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (/^#\/(versions|cell)/.test(location.hash)) route(); });
addView("versions", "Versions", versionsView, { when: D.engines.length > 1 });
