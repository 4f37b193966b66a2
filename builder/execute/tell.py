"""From the scheduler's events to the progress display: a finished chain becomes a finished cell."""

from __future__ import annotations

from builder.plan import Chain
from builder.report.console import Progress


class Tell:
    """A `Listener` that shows."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def step_started(self, name: str) -> None:
        self.progress.step_started(name)

    def step_finished(self, name: str, seconds: float, ok: bool) -> None:
        self.progress.step_finished(name, seconds, ok)

    def message(self, text: str) -> None:
        self.progress.message(text)

    def chain_finished(self, chain: Chain) -> None:
        """The provisional status: enough for a live count; the outcome proper is made when the run ends."""
        stopped = next((step for step in chain.steps() if step.state != "stored"), None)
        expected = chain.cell.expect is not None
        if stopped is None:
            self.progress.cell_finished(chain.cell.slug, "done", "", expected)
        elif stopped.state == "skip":
            done = stopped is chain.run
            self.progress.cell_finished(chain.cell.slug, "built" if done else "skipped", stopped.skipped, expected)
        else:
            self.progress.cell_finished(chain.cell.slug, "failed", f"{stopped.kind} {stopped.name}", expected)
