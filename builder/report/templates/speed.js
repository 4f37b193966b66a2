// speed
function speed(params) {
  const timed = D.tally.timed ? D.cells.filter(c => c.measure) : [], settled = timed.filter(c => c.measure.status === "settled" && c.measure.median);
  const models = (D.axes.model || []).filter(m => settled.some(c => c.axes.model === m)), unstable = timed.filter(c => c.measure.status !== "settled");
  if (!timed.length) return [h("div", { class: "head" }, h("h1", {}, "Speed")), h("section", { class: "panel" }, h("p", { class: "empty" }, "Nothing was timed in this run. A cell is timed when a ", h("code", {}, "set"), " rule of the matrix gives it ", h("code", {}, "measure: true"), "."))];
  const model = models.includes(params.model) ? params.model : models[0];
  const list = settled.filter(c => c.axes.model === model).sort((a, b) => a.measure.median - b.measure.median);
  const plot = h("div", { id: "plot", role: "img", "aria-label": `Median time of ${model} by engine stack; the same numbers are in the table below` }, h("p", { class: "empty" }, "Drawing…"));
  if (list.length) draw(plot, list);
  const top = list.length ? list[list.length - 1].measure.median : 1;
  return [
    h("div", { class: "head" }, h("h1", {}, "Speed"), h("p", {}, "Only timings that settled, on this machine. Compare within one model and one set of options; two neighbours may still be equal.")),
    models.length > 0 && h("div", { class: "tools" }, h("span", { class: "hint" }, "Model"), models.length > 7 ? h("select", { "aria-label": "Model", onchange: e => { location.hash = link("speed", { model: e.target.value }); } }, models.map(m => h("option", { value: m, selected: m === model }, m))) : h("div", { class: "seg", role: "group", "aria-label": "Model" }, models.map(m => h("button", { type: "button", "aria-pressed": String(m === model), onclick: () => { location.hash = link("speed", { model: m }); } }, m)))),
    h("div", { class: "stack" }, list.length > 0 && h("section", { class: "panel" }, plot),
      list.length > 0 && h("section", { class: "panel" }, h("div", { class: "scroll" }, h("table", { class: "data rank" }, h("thead", {}, h("tr", {}, ["engine stack", "options", "", "median ms", "p90 ms", "samples"].map((t, i) => h("th", { scope: "col", class: i > 2 ? "num" : null }, t)))), h("tbody", {}, list.map(c => h("tr", {}, h("td", {}, h("a", { href: link("cell/" + c.id) }, `${c.E.family} ${c.E.label}`)), h("td", { class: "soft" }, options(c).join(" · ")), h("td", { class: "barcell" }, h("div", { class: "bar2", style: { width: `${100 * c.measure.median / top}%` } })), h("td", { class: "num" }, millis(c.measure.median)), h("td", { class: "num soft" }, c.measure.p90 ? millis(c.measure.p90) : "–"), h("td", { class: "num soft" }, String(c.measure.samples)))))))),
      unstable.length > 0 && h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Did not settle"), h("span", { class: "faint" }, "no number, no place in a ranking")), h("div", { class: "body" }, h("ul", { class: "cols" }, unstable.map(c => h("li", {}, h("a", { href: link("cell/" + c.id) }, `${c.E.family} ${c.E.label}`), ` ${c.axes.model} · ${options(c).join(" · ")}`)))))),
  ];
}
let plotly = null; // loaded when this view opens first
function library() {
  return plotly || (plotly = script("assets/plotly.min.js").then(() => window.Plotly, e => { plotly = null; throw e; }));
}
const SERIES = ["#3b82d4", "#12906f", "#c08a1e", "#b45a9e", "#d2622f", "#7a6bd0", "#6b7686"], MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x"];
async function draw(el, list) {
  let Plotly;
  try { Plotly = await library(); } catch (e) { el.replaceChildren(h("p", { class: "empty" }, `${e.message}; the table below has the numbers.`)); return; }
  if (!el.isConnected) return;
  const css = getComputedStyle(document.documentElement), v = n => css.getPropertyValue(n).trim();
  const kinds = [...new Set(list.map(c => options(c).join(" · ")))], narrow = el.clientWidth < 620;
  const ticks = D.engines.filter(E => list.some(c => c.E === E)).map(E => `${narrow ? E.family.replace("onnxruntime", "ort") : E.family} ${E.label}`.replace(/</g, "‹")).reverse();
  const name = c => `${narrow ? c.E.family.replace("onnxruntime", "ort") : c.E.family} ${c.E.label}`.replace(/</g, "‹");
  const plain = t => String(t).replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly reads a little markup in its texts
  const traces = kinds.map((kind, i) => { const cs = list.filter(c => options(c).join(" · ") === kind); return {
    type: "scatter", mode: "markers", name: plain(kind), x: cs.map(c => c.measure.median * 1e3), y: cs.map(name), marker: { size: 10, color: SERIES[i % 7], symbol: MARKS[i % 7] },
    error_x: { type: "data", symmetric: false, array: cs.map(c => c.measure.p90 ? (c.measure.p90 - c.measure.median) * 1e3 : 0), arrayminus: cs.map(() => 0), thickness: 1.2, width: 3, color: SERIES[i % 7] },
    customdata: cs.map(c => [plain(c.E.id), c.measure.p90 ? millis(c.measure.p90) : "–", c.measure.samples, c.id]), hovertemplate: "<b>%{customdata[0]}</b><br>median %{x:.3~f} ms · p90 %{customdata[1]} ms<br>%{customdata[2]} samples<extra>" + plain(kind) + "</extra>" }; });
  el.replaceChildren();
  const axis = { gridcolor: v("--line"), zerolinecolor: v("--line2"), linecolor: v("--line2"), tickfont: { color: v("--soft") } };
  await Plotly.newPlot(el, traces, { height: Math.max(260, 92 + 24 * ticks.length + (narrow ? 22 * kinds.length : 0)), margin: { l: 10, r: 20, t: kinds.length > 1 ? 40 : 14, b: 46 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { family: css.getPropertyValue("--sans"), size: 12.5, color: v("--text") }, showlegend: kinds.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: v("--soft") } }, hoverlabel: { bgcolor: v("--surface"), bordercolor: v("--line2"), font: { color: v("--text"), family: css.getPropertyValue("--sans") }, align: "left" },
    xaxis: { ...axis, title: { text: "median ms, whisker to p90", font: { size: 12, color: v("--faint") } }, rangemode: "tozero" }, yaxis: { ...axis, categoryorder: "array", categoryarray: ticks, automargin: true, gridcolor: v("--line"), range: [-0.7, ticks.length - 0.3] }, hovermode: "closest", dragmode: narrow ? false : "zoom" },
    { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
  el.on("plotly_click", e => { location.hash = link("cell/" + e.points[0].customdata[3]); });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (/^#\/(speed|accuracy)/.test(location.hash)) route(); });
addView("speed", "Speed", speed, { badge: D.tally.timed });
