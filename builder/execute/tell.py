"""From the scheduler's events to the progress display: a finished chain becomes a finished cell with its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.plan import Chain
from builder.report.console import Progress


class Tell:
    """A `Listener` that shows. `judge` gives a finished chain's outcome."""

    def __init__(self, progress: Progress, judge: Callable[[Chain], dict[str, Any]]) -> None:
        self.progress = progress
        self.judge = judge

    def step_started(self, name: str) -> None:
        self.progress.step_started(name)

    def step_finished(self, name: str, seconds: float, ok: bool) -> None:
        self.progress.step_finished(name, seconds, ok)

    def message(self, text: str) -> None:
        self.progress.message(text)

    def chain_finished(self, chain: Chain) -> None:
        """Cells that were up to date before the run began are not news."""
        if any(step.wanted for step in chain.steps()):
            found = self.judge(chain)
            told = found["line"] or (found["reason"] if found["status"] in ("skipped", "blocked") else "")
            expected = (found["expected"] or {}).get("state") == "expected"
            self.progress.cell_finished(chain.cell.slug, found["status"], told, expected)
