// the story of a cell beyond its record: its log around the error, what was loaded of what was declared, its neighbours, its
// timing by windows (builder/report/story.py says how the first three are found; `neighbours` here is as there)
const story = block("story"), along = block("versions");
const hrefOf = path => "../" + path.split("/").map(encodeURIComponent).join("/");
function excerptOf(c) {
  const place = story().at[c.at], x = place === undefined ? null : story().texts[place], wrong = FAILING.has(c.status) || c.status === "blocked";
  if (!x) {
    const stage = wrong && ((c.stages || []).find(s => s.state === "failed" && s.log) || (c.stages || []).filter(s => s.log).pop());
    return stage && h("section", { class: "panel", id: "log" }, h("header", {}, h("h2", {}, "Log"), h("span", { class: "faint" }, `stage ${stage.stage}`)), h("p", { class: "body" }, h("a", { href: hrefOf(stage.log) }, "The whole log")));
  }
  const last = x.first + x.lines.length - 1;
  return h("section", { class: "panel", id: "log" }, h("header", {}, h("h2", {}, "Log"), h("span", { class: "faint" }, `stage ${x.stage}, lines ${x.first} to ${last} of ${x.of.toLocaleString("en")}${x.cut ? " and more" : ""}`, x.at ? "" : "; the error line is not in it, so these are its last ones"), h("a", { href: hrefOf(x.log) }, "the whole log")),
    h("div", { class: "scroll" }, h("table", { class: "log", "aria-label": "Log around the error" }, h("tbody", {}, x.lines.map((text, i) => {
      const n = x.first + i, here = n === x.at;
      return h("tr", here ? { class: `here s-${c.status}`, "aria-current": "true" } : {}, h("th", { scope: "row" }, here ? h("span", {}, h("span", { "aria-hidden": "true" }, "▸"), h("span", { class: "vh" }, "the line that matters: ")) : null, String(n)), h("td", {}, text || " "));
    })))));
}

// ---------------------------------------------------------------- declared and loaded
function declaredOf(c) {
  const rows = story().declared[story().declared_at[c.at]]; if (!rows) return null;
  const mark = r => r.same === true ? status("verified", "the same") : r.same === false ? status("mismatch", "differs") : h("span", { class: "faint" }, "not seen in this process");
  return h("div", { class: "scroll" }, h("table", { class: "data" }, h("thead", {}, h("tr", {}, ["component", "declared", "loaded", ""].map(t => h("th", { scope: "col" }, t)))),
    h("tbody", {}, rows.map(r => h("tr", {}, h("td", {}, h("span", { class: "faint" }, `${r.role} `), r.name), h("td", {}, r.declared), h("td", {}, r.loaded || "–"), h("td", {}, mark(r)))))));
}

// ---------------------------------------------------------------- neighbours
const isVersion = t => /^v?\d+(\.\d+)*([._-]?(a|b|c|rc|alpha|beta|pre|preview|post|rev|r|dev)[._-]?\d*)*(\+[a-z0-9._-]+)?$/i.test(t);
const WORKS = new Set(["verified", "built"]);
function valuesOf(c) { // as conflict_rules.values
  const out = { ...c.axes };
  for (const [role, S] of [["engine", c.E], ["exporter", c.X]]) { for (const f of Object.keys(S.fields)) out[`${role}.${f}`] = S.fields[f]; out[`${role}.family`] = S.family; out[role] = S.entry; }
  return out;
}
function apart(own, its) { // the one axis in which two cells differ, else null
  let different = new Set([...Object.keys(own), ...Object.keys(its)].filter(k => own[k] !== its[k]));
  for (const role of ["engine", "exporter"]) {
    const mine = [...different].filter(k => k === role || k.startsWith(role + ".")), python = `${role}.python`, family = `${role}.family`;
    if (mine.includes(family)) { different = new Set([...different].filter(k => !mine.includes(k) && k in own && k in its)); different.add(family); }
    else if (mine.some(k => k !== role && k !== python)) { different.delete(role); different.delete(python); }
    else if (mine.includes(python)) different.delete(role);
  }
  return different.size === 1 ? [...different][0] : null;
}
const axisRank = a => a.endsWith(".family") ? (a.startsWith("engine") ? 4 : 5) : a.startsWith("engine.") ? 0 : a.startsWith("exporter.") ? 2 : 1;
const bySlug = (a, b) => (a.slug < b.slug ? -1 : a.slug > b.slug ? 1 : 0);
const releaseOf = S => S.fields[S.family] || Object.values(S.fields)[0] || "";
const alike = (a, b) => a === b || (Object.keys(a).length === Object.keys(b).length && Object.keys(a).every(k => a[k] === b[k]));
function neighboursOf(c) { // [{axis, value, side, cell}]
  const own = valuesOf(c), found = new Map();
  for (const o of D.cells) {
    // Most of a hundred thousand are told to be far away by what is at hand: two other stacks, or another stack and other options.
    if (o === c || (o.E !== c.E && o.X !== c.X)) continue;
    if ((o.E !== c.E || o.X !== c.X) && o.E.family === c.E.family && o.X.family === c.X.family && !alike(o.axes, c.axes)) continue;
    const its = valuesOf(o), axis = apart(own, its);
    if (axis) { if (!found.has(axis)) found.set(axis, []); found.get(axis).push([its[axis] || "", o]); }
  }
  const out = [];
  for (const axis of [...found.keys()].sort((a, b) => axisRank(a) - axisRank(b) || (a < b ? -1 : 1))) {
    const value = own[axis] || "", rows = found.get(axis);
    if (axis.endsWith(".family")) {
      const S = axis.startsWith("engine") ? "E" : "X";
      const telling = rows.filter(r => r[1].status !== "skipped" && r[1].status !== "blocked"); // which say nothing of another library
      for (const family of [...new Set(telling.map(r => r[0]))].sort()) {
        const ranked = telling.filter(r => r[0] === family).map(r => r[1]).sort((a, b) => compare(releaseOf(b[S]), releaseOf(a[S])) || bySlug(a, b)), chosen = [ranked[0]];
        if (!WORKS.has(ranked[0].status)) { const other = ranked.slice(1).find(o => WORKS.has(o.status)); if (other) chosen.push(other); }
        out.push(...chosen.map(o => ({ axis, value: family, side: "", cell: o })));
      }
    } else if ([value, ...rows.map(r => r[0])].every(isVersion)) {
      const at = new Map(); for (const [v, o] of rows) { if (!at.has(v)) at.set(v, []); at.get(v).push(o); }
      const order = [...at.keys()].sort(compare), works = WORKS.has(c.status);
      for (const [side, line] of [["lower", order.filter(v => compare(v, value) < 0).reverse()], ["higher", order.filter(v => compare(v, value) > 0)]]) {
        const told = line.slice(0, 1);
        if (told.length && at.get(told[0]).every(o => WORKS.has(o.status) === works)) told.push(...line.slice(1).filter(v => at.get(v).some(o => WORKS.has(o.status) !== works)).slice(0, 1));
        for (const v of told) out.push(...at.get(v).sort(bySlug).map(o => ({ axis, value: v, side, cell: o })));
      }
    } else out.push(...rows.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : bySlug(a[1], b[1]))).map(([v, o]) => ({ axis, value: v, side: "", cell: o })));
  }
  return out;
}
// As story.along: this cell on every release that the matrix has of its engine.
const quoted = v => /[\s,()'"=<>!*?]/.test(v) ? (v.includes('"') ? `'${v}'` : `"${v}"`) : v;
const alongOf = c => Object.entries({ engine: c.E.entry, exporter: c.X.entry, ...c.axes, ...Object.fromEntries(Object.entries(c.X.fields).map(([k, v]) => [`exporter.${k}`, v])) }).map(([k, v]) => `${k}=${quoted(v)}`).join(" and ");
const shell = t => `'${t.replace(/'/g, `'"'"'`)}'`;
const AXIS = { "engine.family": "another library", "exporter.family": "another framework" };
// how a command about this matrix begins: as the cell's own does
const programOf = c => c.command.split(" repro ")[0];
function beside(c) {
  const list = neighboursOf(c);
  const said = n => n.axis === "engine.family" ? `${n.cell.E.family} ${n.cell.E.label}` : n.axis === "exporter.family" ? n.cell.X.id : n.value || "none given";
  const row = (n, i) => h("tr", {}, h("td", { class: "soft" }, i && list[i - 1].axis === n.axis ? "" : AXIS[n.axis] || n.axis.replace(/^engine\./, "")),
    h("td", {}, h("span", { class: "faint", "aria-hidden": "true" }, n.side === "lower" ? "↓ " : n.side === "higher" ? "↑ " : ""), said(n), n.side && h("span", { class: "vh" }, ` (${n.side})`)),
    h("td", {}, h("a", { class: `st s-${n.cell.status}`, href: link("cell/" + n.cell.id) }, icon(n.cell.status), n.cell.status)), h("td", { class: "soft why" }, WORKS.has(n.cell.status) ? "" : clip(why(n.cell), 120).replace(/`/g, "")));
  const table = list.length > 0 && h("div", { class: "scroll" }, h("table", { class: "data near" }, h("thead", {}, h("tr", {}, ["axis", "value", "outcome", "why"].map(t => h("th", { scope: "col" }, t)))), h("tbody", {}, list.map(row))));
  const untried = !list.some(n => n.axis.startsWith("engine.") && n.side) && D.engines.some(E => E !== c.E && E.entry === c.E.entry), command = `${programOf(c)} run --select ${shell(alongOf(c))}`;
  return h("section", { class: "panel", id: "beside" }, h("header", {}, h("h2", {}, "Beside it"), h("span", { class: "faint" }, list.length ? "cells that differ from this one in one axis only" : "no cell of this report differs from this one in one axis only")), table,
    untried && h("div", { class: "body" }, h("p", { class: "soft" }, "Not run on the other releases of its engine. This does:"), h("div", { class: "cmd" }, h("code", {}, command), h("button", { class: "btn", type: "button", onclick: e => copy(command, e.target) }, "Copy"))));
}

// ---------------------------------------------------------------- timing, by windows
function timingOf(c) {
  const m = c.measure; if (!m) return null;
  const settled = m.status === "settled", series = (m.raw || []).filter(s => s.windows && s.windows.length);
  const known = series.length ? series : [{ series: "call", used: settled ? 3 : 0, windows: (m.windows || []).map(w => ({ runs: w.runs, median: w.median })) }];
  const kv = rows => h("dl", { class: "kv" }, rows.filter(r => r && r[1]).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
  const plot = h("div", { id: "windows", class: "plot small" }), table = h("div", { class: "scroll" });
  const show = one => {
    const ws = one.windows, full = ws.some(w => w.min !== undefined), cols = full ? [["min", "least"], ["p25", "25 %"], ["median", "median"], ["p75", "75 %"], ["max", "most"]] : [["median", "median"]];
    table.replaceChildren(h("table", { class: "data" }, h("caption", { class: "vh" }, `Windows of ${one.series}, in the order in which they were taken, in ms`), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "window"), h("th", { scope: "col", class: "num" }, "runs"), cols.map(x => h("th", { scope: "col", class: "num" }, `${x[1]} ms`)), h("th", { scope: "col" }, ""))),
      h("tbody", {}, ws.map((w, i) => h("tr", {}, h("td", {}, String(i + 1)), h("td", { class: "num" }, String(w.runs)), cols.map(x => h("td", { class: "num" }, millis(w[x[0]]))), h("td", { class: "faint" }, i >= ws.length - one.used ? "in the figures" : ""))))));
    plot.setAttribute("role", "img"); plot.setAttribute("aria-label", `Windows of ${one.series}: medians ${ws.map(w => millis(w.median)).join(", ")} ms; the table below has the same numbers`);
    drawWindows(plot, one);
  };
  if (known[0].windows.length) show(known[0]);
  const span = along().interval[c.at], share = along().busy[c.at];
  return h("section", { class: "panel", id: "timing" }, h("header", {}, h("h2", {}, "Timing"), h("span", { class: "faint" }, m.status), known.length > 1 && h("select", { "aria-label": "Series", onchange: e => show(known[+e.target.value]) }, known.map((s, i) => h("option", { value: String(i) }, s.series)))),
    settled ? kv([["median", `${millis(m.median)} ms`], ["interval", span && `${millis(span[0])} to ${millis(span[1])} ms (${100 * along().level} %, by its windows)`], ["p90", m.p90 && `${millis(m.p90)} ms`], ["p99", m.p99 && `${millis(m.p99)} ms`], ["samples", m.samples.toLocaleString("en")], ["machine", share !== undefined && `busy: other processes had ${Math.round(100 * share)} % of it, so that this says little of the engine`]]) : h("p", { class: "empty" }, "The windows never agreed, so there is no number."),
    known[0].windows.length > 0 && [plot, series.length > 0 && h("p", { class: "body faint" }, "Box: half of a window's samples and their median; whiskers: the least and the most."), h("details", { class: "body" }, h("summary", {}, "The windows as a table"), table)],
    !series.length && h("p", { class: "body faint" }, "The store keeps no raw samples of this timing, only the medians of its windows: it was taken before samples were kept."));
}
async function drawWindows(el, one) {
  let Plotly;
  try { Plotly = await library(); } catch (e) { el.replaceChildren(h("p", { class: "empty" }, `${e.message}; the table has the numbers.`)); return; }
  if (!el.isConnected) return;
  const v = palette(), ws = one.windows, full = ws.some(w => w.min !== undefined), from = ws.length - one.used, ms = k => ws.map(w => w[k] * 1e3);
  const part = (name, pick, color) => { const at = ws.map((_, i) => i).filter(pick); if (!at.length) return null; const of = k => at.map(i => ws[i][k] * 1e3), x = at.map(i => String(i + 1));
    return full ? { type: "box", name, x, q1: of("p25"), median: of("median"), q3: of("p75"), lowerfence: of("min"), upperfence: of("max"), marker: { color }, line: { width: 1.5 }, width: 0.5 }
      : { type: "scatter", mode: "markers", name, x, y: of("median"), marker: { size: 9, color, symbol: name === "in the figures" ? "circle" : "circle-open" }, hovertemplate: "window %{x}: %{y:.3~f} ms<extra></extra>" }; };
  const traces = [part("before it settled", i => i < from, v("--faint")), part("in the figures", i => i >= from, SERIES[0])].filter(Boolean);
  el.replaceChildren();
  await Plotly.newPlot(el, traces, { ...ground(v), height: 240, margin: { l: 10, r: 14, t: 10, b: 40 }, showlegend: traces.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: v("--soft") } },
    xaxis: { ...axisOf(v), type: "category", categoryorder: "array", categoryarray: ws.map((_, i) => String(i + 1)), title: titleOf(v, "window") }, yaxis: { ...axisOf(v), automargin: true, title: titleOf(v, "ms"), range: full ? undefined : [0, 1.15 * Math.max(...ms("median"))] } }, PLOTTED);
}
// A view that is drawn again since its address changed: the focus goes on where it was.
function steady(e) {
  const controls = () => [...main.querySelectorAll("select,button,input")], at = controls().indexOf(e.target);
  const back = () => { const el = controls()[at]; if (el && (document.activeElement === document.body || !document.activeElement)) el.focus({ preventScroll: true }); };
  addEventListener("hashchange", back, { once: true });
  setTimeout(() => removeEventListener("hashchange", back), 500); // the same address again is no change
}
// what every plot of these views shares
const PLOTTED = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const palette = () => { const css = getComputedStyle(document.documentElement); return n => css.getPropertyValue(n).trim(); };
const ground = v => ({ paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { family: v("--sans"), size: 12.5, color: v("--text") }, hoverlabel: { bgcolor: v("--surface"), bordercolor: v("--line2"), font: { color: v("--text"), family: v("--sans") }, align: "left" } });
const axisOf = v => ({ gridcolor: v("--line"), zerolinecolor: v("--line2"), linecolor: v("--line2"), tickfont: { color: v("--soft") } });
const titleOf = (v, text) => ({ text, font: { size: 12, color: v("--faint") } });
