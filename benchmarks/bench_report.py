"""A report of 10,000 cells (written in 3 s, first view in 1 s, a filter in 100 ms) and of 100,000 (opens).

`python benchmarks/bench_report.py [--cells 10000 100000] [--runs 5]`; the browser is Chromium, the page is opened from disk.
Writing is timed in this process, as a run pays for it: the report is there, its files are not. First view: from the start of
the navigation until the overview is painted and takes keys (a mark that the page sets); filter: from the last key's delay of
60 ms being over until what fits is painted. Medians of several runs, the fastest and the slowest in brackets; CPU time beside
the wall clock, since a machine that does other things tells little by its clock.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import synthetic
import synthetic_report

sys.path[:0] = [str(synthetic.ROOT)]

WRITE, FIRST, FILTER = 3.0, 1.0, 0.1
FILTERS = (
    "model=model07",
    "onnxruntime>=1.2 and not status=verified",
    "QuantizeLinear(17)",
    "opset=1* or category=accuracy",
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--enable-precise-memory-info"]  # fmt: skip
TYPE = """async text => {
    const box = document.getElementById("filter"), before = performance.getEntriesByName("filtered").length;
    box.value = text; box.dispatchEvent(new Event("input"));
    const wait = () => new Promise(done => setTimeout(done, 5));
    for (let i = 0; i < 6000 && performance.getEntriesByName("filtered").length === before; i++) await wait();
    return performance.getEntriesByName("filtered").at(-1).duration / 1000;
}"""
OPEN = """async ([address, wanted]) => {
    const start = performance.now();
    location.hash = address;
    for (let i = 0; i < 15000 && !document.querySelector(wanted); i++) await new Promise(done => setTimeout(done, 2));
    await new Promise(requestAnimationFrame);
    return (performance.now() - start) / 1000;
}"""
VIEWS = (("matrix", "#/matrix", ".mx .sq"), ("matrix split in three", "#/matrix?by=opset", ".mx.two-axis .sq"),
         ("cells", "#/cells", ".cells tbody a"), ("versions", "#/versions", "main h1"))  # fmt: skip


def write(report: dict[str, Any], out: Path) -> tuple[float, float]:
    """(Wall, CPU) seconds of writing all files of a report into an empty folder."""
    from builder.report import build_report

    shutil.rmtree(out, ignore_errors=True)
    clock, cpu = time.perf_counter(), time.process_time()
    build_report(report, out)
    return time.perf_counter() - clock, time.process_time() - cpu


def figures(times: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(times), min(times), max(times)


def size(path: Path) -> float:
    """Of a file or a folder, in MB."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*"))) / 1e6


def browse(address: str, cell: str, runs: int) -> dict[str, list[float]]:
    """What a browser needs, in seconds (memory: bytes of the script's heap after all of it), each in a process of its own."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        for _ in range(runs):
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(address)
            page.wait_for_function("performance.getEntriesByName('shown').length > 0")
            note("first view", page.evaluate("performance.getEntriesByName('shown')[0].startTime / 1000"))
            for name, fragment, wanted in VIEWS:
                note(f"open {name}", page.evaluate(OPEN, [fragment, wanted]))
            for view in ("cells", "matrix"):
                page.evaluate(OPEN, [f"#/{view}", "#filter"])
                for text in FILTERS:
                    note(f"filter {view}", page.evaluate(TYPE, text))
            note("open a cell", page.evaluate(OPEN, [f"#/cell/{cell}", ".steps"]))
            note("heap", page.evaluate("performance.memory.usedJSHeapSize"))
            browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000], help="(default: 10000 100000)")
    parser.add_argument("--runs", type=int, default=5, help="(default: 5)")
    options = parser.parse_args()
    for cells in options.cells:
        bars = cells <= 10_000  # of the larger one nothing is asked but that it opens

        def show(what: str, times: Sequence[float], bar: float, cells: int = cells, bars: bool = bars) -> None:
            if bars:
                synthetic.show(f"{cells:,} cells: {what}", figures(times), bar)
            else:
                middle, least, most = figures(times)
                print(f"{f'{cells:,} cells: {what}':<58} {middle:7.3f} s  ({least:.3f} to {most:.3f})")

        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "report"
            report = synthetic_report.report(cells)
            times = [write(report, out) for _ in range(options.runs if bars else 1)]
            show("written", [wall for wall, _ in times], WRITE)
            show("written, CPU time", [cpu for _, cpu in times], WRITE)
            cell = report["cells"][cells // 2]["id"]
            del report
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            beside = sum(size(path) for path in out.glob("cells-*"))
            print(f"    report.html {size(out / 'report.html'):.1f} MB, details beside it {beside:.1f} MB, "
                  f"report.json {size(out / 'report.json'):.1f} MB; this process at most {peak} MiB")  # fmt: skip
            found = browse((out / "report.html").as_uri(), cell, options.runs if bars else min(3, options.runs))
            heap = found.pop("heap")
            for what, seconds in found.items():
                show(what, seconds, FILTER if what.startswith("filter") else FIRST)
            print(f"    the page's scripts hold {statistics.median(heap) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
