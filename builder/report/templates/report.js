// views by fragment
let backTo = link("cells"), upTo = "", last = ""; // where Escape leads to: from a cell its list, from a list the matrix
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?"), [view, id] = (path || "overview").split("/");
  const params = {};
  for (const pair of (query || "").split("&")) { const at = pair.indexOf("="); if (at > 0) { try { params[pair.slice(0, at)] = decodeURIComponent(pair.slice(at + 1)); } catch { /* not ours */ } } }
  tip.hidden = true; all = restore = null;
  const one = view === "cell" && byId.get(id || "");
  if (one && !one.detailed) {
    const found = details(one), here = location.hash;
    if (found !== one) {
      main.replaceChildren(h("p", { class: "empty", role: "status" }, "Reading the details…"));
      found.then(() => { if (location.hash === here) route(); }, e => { if (location.hash === here) main.replaceChildren(h("h1", {}, one.slug), h("p", { class: "empty" }, `${e.message}.`)); });
      return;
    }
  }
  const name = view === "cell" ? "cells" : VIEWS.has(view) ? view : "overview";
  const nodes = view === "cell" ? cell(id || "") : VIEWS.get(name).show(params);
  main.replaceChildren(...nodes.filter(Boolean));
  document.getElementById("nav").replaceChildren(...[...VIEWS].map(([k, { title, badge: n }]) => h("a", { href: link(k), "aria-current": k === name ? "page" : null }, title, n && h("span", {}, n.toLocaleString("en")))), ...(D.operators ? [h("a", { href: "operators.html" }, "Operators")] : []));
  const tab = document.querySelector("#nav [aria-current]"), bar = document.getElementById("nav"); // the bar scrolls where it is narrow
  if (tab) bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
  document.title = `${view === "cell" && byId.has(id) ? byId.get(id).slug : VIEWS.get(name).title} · ${D.run.matrix.name} · EngineMatrix`;
  const now = view + (id || "");
  if (last && last !== now) { scrollTo(0, 0); main.focus({ preventScroll: true }); said.textContent = document.title; }
  last = now;
}
addEventListener("hashchange", e => {
  const from = new URL(e.oldURL).hash;
  const to = new URL(e.newURL).hash;
  if (!from.startsWith("#/cell/")) backTo = from.startsWith("#/cells") || (from.startsWith("#/matrix") && to.startsWith("#/cell/")) ? from : link("cells");
  if (to.startsWith("#/cells") && !from.startsWith("#/cell")) upTo = from.startsWith("#/matrix") ? from : "";
  route();
});
addEventListener("afterprint", () => { if (restore) restore(); });
addEventListener("beforeprint", () => { if (all) all(); document.querySelectorAll("details").forEach(d => { d.open = true; }); });
addEventListener("keydown", e => {
  if (e.target.closest("input,select,textarea") || e.ctrlKey || e.metaKey || e.altKey) { if (e.key === "Escape" && e.target.id === "filter") e.target.blur(); return; }
  if (e.key === "Escape" && !e.defaultPrevented) { if (location.hash.startsWith("#/cell/")) location.hash = backTo; else if (location.hash.startsWith("#/cells") && upTo) location.hash = upTo; }
  if (e.key === "/") { e.preventDefault(); if (!document.getElementById("filter")) location.hash = link("cells"); setTimeout(() => { const box = document.getElementById("filter"); if (box) { box.focus(); box.select(); } }, 30); }
  if (e.key === "j" || e.key === "k") { const a = document.querySelector(e.key === "j" ? "a[rel=next]" : "a[rel=prev]"); if (a) a.click(); }
});
function showTip(e) {
  const el = e.target.closest && e.target.closest("[data-tip]");
  if (!el) { tip.hidden = true; return; }
  tip.textContent = el.dataset.tip; tip.hidden = false;
  const r = el.getBoundingClientRect(), t = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(innerWidth - t.width - 8, r.left + r.width / 2 - t.width / 2))}px`;
  tip.style.top = `${r.top - t.height - 8 > 4 ? r.top - t.height - 8 : r.bottom + 8}px`;
}
addEventListener("mouseover", showTip); addEventListener("focusin", showTip); addEventListener("scroll", () => { tip.hidden = true; }, true);
addEventListener("keydown", e => { if (e.key === "Escape") tip.hidden = true; });
route();
requestAnimationFrame(() => setTimeout(() => performance.mark("shown"))); // painted, and ready for keys: benchmarks/bench_report.py
