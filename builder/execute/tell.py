"""From the scheduler's events to the progress display: a finished chain becomes a finished cell with its outcome."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from builder.plan import Chain
from builder.report.console import Progress


@contextlib.contextmanager
def unread() -> Iterator[None]:
    """A reader that went away (`| head`) does not end the run: what is written has nowhere to go from then on."""
    try:
        yield
    except BrokenPipeError:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


class Tell:
    """A `Listener` that shows. `judge` gives a finished chain's outcome."""

    def __init__(self, progress: Progress, judge: Callable[[Chain], dict[str, Any]]) -> None:
        self.progress = progress
        self.judge = judge

    def step_started(self, name: str) -> None:
        with unread():
            self.progress.step_started(name)

    def step_finished(self, name: str, seconds: float, ok: bool) -> None:
        with unread():
            self.progress.step_finished(name, seconds, ok)

    def message(self, text: str) -> None:
        with unread():
            self.progress.message(text)

    def chain_finished(self, chain: Chain) -> None:
        """Cells that were up to date before the run began are not news."""
        if chain.suite is not None:  # thousands of them: their steps are told, and the page of operators tells the rest
            with self.progress.lock:
                self.progress.done += 1
            return
        if any(step.wanted for step in chain.steps()):
            found = self.judge(chain)
            told = found["line"] or (found["reason"] if found["status"] in ("skipped", "blocked") else "")
            expected = (found["expected"] or {}).get("state") == "expected"
            with unread():
                self.progress.cell_finished(chain.cell.slug, found["status"], told, expected)
