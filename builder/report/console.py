"""Progress while a run goes on, and the summary at its end.

On a terminal a live display (rich); otherwise one plain line for each finished step and cell, flushed, so that a CI log
shows where it stands. rich is imported when a display starts, never before.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from builder.report.words import duration
from builder.values import FAILING, STATUSES

STYLE = {
    "verified": "green", "built": "blue", "degraded": "yellow", "mismatch": "magenta", "failed": "red",
    "crashed": "bold red", "timeout": "red", "out-of-memory": "red", "unsupported": "dim", "skipped": "dim",
    "blocked": "yellow",
}  # fmt: skip
MARK = {
    "verified": "✓", "built": "◐", "degraded": "◆", "mismatch": "≠", "failed": "✗", "crashed": "↯", "timeout": "◷",
    "out-of-memory": "▣", "unsupported": "⊘", "skipped": "-", "blocked": "⊖",
}  # fmt: skip
RUNNING = 6
"""Running steps that are named; the others are counted."""


class Progress:
    """What a run tells while it goes on. Use as a context manager; every method may be called from any thread."""

    def __init__(self, *, quiet: bool = False, out: TextIO | None = None, live: bool | None = None) -> None:
        """`live` None asks the stream whether it is a terminal. quiet: messages and unexpected failures only."""
        self.out = out or sys.stderr
        self.quiet = quiet
        self.live = (self.out.isatty() if live is None else live) and not quiet
        self.cells = self.steps = self.done = self.failed = self.expected = self.steps_done = 0
        self.running: dict[str, float] = {}
        self.lock = threading.RLock()
        self.started = time.monotonic()
        self._display: Any = None

    def __enter__(self) -> Progress:
        if self.live:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.out, force_terminal=True)
            self._display = Live(get_renderable=self._render, console=console, refresh_per_second=5, transient=True)
            self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.__exit__(kind, error, trace)
            self._display = None

    def total(self, n_cells: int, n_steps: int) -> None:
        """How much there is: cells to report, steps to run."""
        with self.lock:
            self.cells, self.steps = n_cells, n_steps
            self.started = time.monotonic()

    def step_started(self, name: str) -> None:
        with self.lock:
            self.running[name] = time.monotonic()

    def step_finished(self, name: str, seconds: float, ok: bool) -> None:
        with self.lock:
            self.running.pop(name, None)
            self.steps_done += 1
            if not self.quiet and self._display is None:
                self._line(
                    f"[{self.steps_done}/{self.steps}] {'ok    ' if ok else 'failed'} {duration(seconds):>8}  {name}"
                )

    def cell_finished(self, slug: str, status: str, reason: str, expected: bool) -> None:
        """`expected`: this failure is in the matrix's `expect:` list and is not red."""
        with self.lock:
            self.done += 1
            bad = status in FAILING
            self.failed += bad and not expected
            self.expected += bad and expected
            text = f"{status}{' (expected)' if bad and expected else ''}: {slug}{f': {reason}' if reason else ''}"
            if self._display is not None:
                if bad and not expected:
                    from rich.text import Text

                    style = STYLE.get(status, "")
                    self._display.console.print(
                        Text.assemble((f"{MARK.get(status, '·')} {status} ", style), slug, (f"  {reason}", "dim"))
                    )
            elif not self.quiet or (bad and not expected):
                self._line(f"cell {self.done}/{self.cells} {text}")

    def message(self, text: str) -> None:
        """A line for people, shown in every mode."""
        with self.lock:
            if self._display is not None:
                from rich.text import Text

                self._display.console.print(Text(text))
            else:
                self._line(text)

    def left(self) -> float | None:
        """Seconds that remain if steps go on as they went; None before there is anything to judge by."""
        with self.lock:
            if self.steps_done < 3 or self.steps <= self.steps_done:
                return None
            return (time.monotonic() - self.started) / self.steps_done * (self.steps - self.steps_done)

    def _line(self, text: str) -> None:
        # Text of libraries may hold what a terminal obeys; a log shows it as text.
        clean = "".join(c if c.isprintable() else " " for c in text)
        encoding = self.out.encoding or "utf-8"
        self.out.write(clean.encode(encoding, "replace").decode(encoding) + "\n")
        self.out.flush()

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self.lock:
            now = time.monotonic()
            left = self.left()
            parts: list[tuple[str, str]] = [(f"{self.done}", "bold"), (f"/{self.cells} cells", "")]
            parts += [("  ", ""), (f"{self.failed} failed", "red" if self.failed else "dim")]
            if self.expected:
                parts.append((f"  {self.expected} expected failures", "dim"))
            parts.append((f"  {self.steps_done}/{self.steps} steps  {duration(now - self.started)}", "dim"))
            if left is not None:
                parts.append((f"  about {duration(left)} left", "dim"))
            bar = Table.grid(padding=(0, 2))
            bar.add_row(
                ProgressBar(total=max(self.steps, 1), completed=self.steps_done, width=30), Text.assemble(*parts)
            )
            names = sorted(self.running.items(), key=lambda item: item[1])
            rows: list[Any] = [bar]
            rows += [
                Text(f"  {duration(now - since):>10}  {name}", style="dim", no_wrap=True, overflow="ellipsis")
                for name, since in names[:RUNNING]
            ]
            if len(names) > RUNNING:
                rows.append(Text(f"  and {len(names) - RUNNING} more running", style="dim"))
            return Group(*rows)


def summary(report: Mapping[str, Any], console: Any, where: Path | str | None = None) -> None:
    """Outcomes by engine stack, findings, and where the report is.

    `console` is a rich Console; `report` is docs/report-schema.md, with or without findings.
    """
    from rich.table import Table
    from rich.text import Text

    from builder.report import predictions
    from builder.report.assemble import findings, stacks
    from builder.report.operators import fold

    report = {**fold(report)[0], "findings": report["findings"]} if "findings" in report else fold(report)[0]
    cells = report["cells"]
    used = [status for status in STATUSES if report["counts"][status]]
    tally: dict[str, dict[str, int]] = {}
    for cell in cells:
        row = tally.setdefault(cell["engine"]["id"], dict.fromkeys(STATUSES, 0))
        row[cell["status"]] += 1
    for line in report.get("suites", ()):
        tally[f"{line['engine']['id']} {line['suite']}"] = line["counts"]
    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=True, footer_style="bold")
    table.add_column("engine stack", "all", no_wrap=True)
    wide = max((len(name) for name in tally), default=0) + sum(len(status) + 4 for status in used) <= console.width
    for status in used:
        head = Text(f"{MARK[status]} {status}" if wide else MARK[status], style=STYLE[status])
        table.add_column(head, str(report["counts"][status]), justify="right", no_wrap=True)
    for name, row in tally.items():
        table.add_row(
            Text(name), *(Text(str(row[s]), style=STYLE[s]) if row[s] else Text("·", style="dim") for s in used)
        )
    console.print()
    console.print(table)
    if not wide:
        console.print(Text(", ".join(f"{MARK[status]} {status}" for status in used), style="dim"))
    found = report["findings"] if "findings" in report else findings(cells)
    by_id = {cell["id"]: cell for cell in cells}
    shown = [finding for finding in found if not finding["expected"]]
    if shown:
        console.print()
    for finding in shown[:10]:
        where_found = stacks((by_id[cell]["engine"] for cell in finding["cells"]), 6)
        count = f"{finding['count']:>4} {'cell ' if finding['count'] == 1 else 'cells'}"
        console.print(
            Text.assemble(
                (count, "bold"),
                " ",
                (finding["status"], STYLE[finding["status"]]),
                "  ",
                finding["title"],
                (f"  {where_found}", "dim"),
            )
        )
        if finding["remedy"]:
            console.print(Text(f"            {finding['remedy']}", style="dim"))
    if len(shown) > 10:
        console.print(Text(f"     and {len(shown) - 10} more findings in the report", style="dim"))
    known = sum(finding["count"] for finding in found if finding["expected"])
    if known:
        console.print(Text(f"{known:>4} expected failures (named under `expect:` in the matrix)", style="dim"))
    scored = report["predictions"]
    if scored["rules"]:
        console.print(Text(f"     {predictions.headline(scored)}", style="dim"))
    for claim in predictions.refutations(scored):
        console.print(Text(f"     a wrong fact: {predictions.refutation(claim)}", style="yellow"))
    console.print()
    took = duration(report["run"]["seconds"])
    console.print(Text(f"{report['counts']['verified']} of {report['selected']} cells verified in {took}"))
    if where:
        console.print(Text(f"Report: {where}"), soft_wrap=True)
