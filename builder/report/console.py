"""Progress while a run goes on; the summary at its end is summary.py's.

On a terminal that moves its cursor a live display (rich); otherwise, and in CI, one plain line for each finished step and cell,
flushed, so that a log shows where it stands. rich is imported when a display starts, never before.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO

from builder.report import terminal
from builder.report.summary import summary
from builder.report.terminal import MARK, STYLE, clean, shortened
from builder.report.words import duration
from builder.values import FAILING

__all__ = ["MARK", "STYLE", "Progress", "summary"]

RUNNING = 6
"""Running steps that are named; the others are counted."""
WIDEST = 79
"""Columns that the display takes at most. A terminal that gets narrower folds what was painted before, so that painting over it
leaves some of it; what was never wider than a narrow window is not folded."""


class Progress:
    """What a run tells while it goes on. Use as a context manager; every method may be called from any thread."""

    def __init__(self, *, quiet: bool = False, out: TextIO | None = None, live: bool | None = None) -> None:
        """`live` None asks the stream whether it is a terminal that paints over itself. quiet: messages and unexpected failures
        only."""
        self.out = out or sys.stderr
        self.quiet = quiet
        self.live = (terminal.moves(self.out) if live is None else live) and not quiet
        self.cells = self.steps = self.done = self.failed = self.expected = self.steps_done = 0
        self.running: dict[str, float] = {}
        self.lock = threading.RLock()
        self.started = time.monotonic()
        self._display: Any = None
        self._console: Any = None

    def __enter__(self) -> Progress:
        if self.live:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self.out, force_terminal=True)
            self._display = Live(
                get_renderable=self._painted, console=self._console, refresh_per_second=5, transient=True,
                redirect_stdout=terminal.is_terminal(sys.stdout), redirect_stderr=True,
            )  # fmt: skip
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
                        Text.assemble(
                            (f"{terminal.mark_of(status, self.out.encoding)} {status} ", style),
                            clean(slug),
                            (f"  {clean(reason)}", "dim"),
                        )
                    )
            elif not self.quiet or (bad and not expected):
                self._line(f"cell {self.done}/{self.cells} {text}")

    def message(self, text: str) -> None:
        """A line for people, shown in every mode."""
        with self.lock:
            if self._display is not None:
                from rich.text import Text

                self._display.console.print(Text("\n".join(map(clean, text.splitlines()))))
            else:
                self._line(text)

    def left(self) -> float | None:
        """Seconds that remain if steps go on as they went; None before there is anything to judge by."""
        with self.lock:
            if self.steps_done < 3 or self.steps <= self.steps_done:
                return None
            return (time.monotonic() - self.started) / self.steps_done * (self.steps - self.steps_done)

    def _line(self, text: str) -> None:
        encoding = self.out.encoding or "utf-8"
        self.out.write(clean(text).encode(encoding, "replace").decode(encoding) + "\n")
        self.out.flush()

    def _painted(self) -> Any:
        """The display, for a terminal as large as it is at this moment: its size is asked at each painting, so that a resize is
        seen within a fifth of a second, and no signal is needed."""
        columns, rows = terminal.size(self.out)
        self._console.width, self._console.height = columns, rows
        return self._render(min(columns - 1, WIDEST), rows)

    def _render(self, width: int = WIDEST, height: int = 25) -> Any:
        """Lines of at most `width` characters, fewer than `height`."""
        from rich.console import Group
        from rich.text import Text

        def line(*parts: tuple[str, str]) -> Any:
            text = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
            text.truncate(max(width, 1), overflow="ellipsis")
            return text

        with self.lock:
            now = time.monotonic()
            left = self.left()
            head = [(f"{self.done}", "bold"), (f"/{self.cells} cells  ", "")]
            head += [(f"{self.failed} failed", "red" if self.failed else "dim")]
            if self.expected:
                head.append((f"  {self.expected} expected failures", "dim"))
            steps = [(f"{self.steps_done}/{self.steps} steps  {duration(now - self.started)}", "dim")]
            if left is not None:
                steps.append((f"  about {duration(left)} left", "dim"))
            names = sorted(self.running.items(), key=lambda item: item[1])
            room = max(1, min(RUNNING, height - 5))
            rows: list[Any] = [line(*head), line(*self._bar(width - sum(len(text) for text, _ in steps) - 2), *steps)]
            rows += [
                line((f"{duration(now - since):>10}  {shortened(clean(name), width - 12)}", "dim"))
                for name, since in names[:room]
            ]
            if len(names) > room:
                rows.append(line((f"  and {len(names) - room} more running", "dim")))
            return Group(*rows)

    def _bar(self, width: int) -> list[tuple[str, str]]:
        """How much of the steps is done, as a bar of up to 30 characters; nothing where there is no room for one."""
        from rich.console import Console
        from rich.progress_bar import ProgressBar

        if width < 8:
            return []
        bar = ProgressBar(total=max(self.steps, 1), completed=self.steps_done, width=min(30, width))
        console = self._console or Console(width=width, color_system=None)
        return [(segment.text, str(segment.style or "")) for segment in console.render(bar)] + [("  ", "")]
