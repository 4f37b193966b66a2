// accuracy against speed
const errorOf = c => c.error, floorOf = c => c.floor;
const timeOf = c => c.measure && c.measure.status === "settled" && c.measure.median || null;
function frontOf(list) { // Pareto: nothing that matches the reference is both faster and nearer to it
  const front = new Set(); let best = Infinity;
  for (const c of list.filter(c => timeOf(c) && (c.status === "verified" || c.status === "degraded")).sort((a, b) => timeOf(a) - timeOf(b) || errorOf(a) - errorOf(b))) if (errorOf(c) < best) { best = errorOf(c); front.add(c); }
  return front;
}
function accuracy(params) {
  const compared = D.tally.compared ? D.cells.filter(c => errorOf(c) !== null) : [];
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
addView("accuracy", "Accuracy", accuracy);
