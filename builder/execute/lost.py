"""Jobs that ended without evidence: what then happened says something of network, disk or machine, and nothing of versions."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.diagnose import diagnose
from builder.diagnose_text import LOG_LIMIT
from builder.errors import InfrastructureError, TransientError

#: Signals that come from outside: a person, a CI system, a service manager. A library's own death is none of these.
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A job that ended without evidence. `lasting`: another try would end so too; `advice`: what to do, after the reason."""

    why: str
    advice: str = ""
    lasting: bool = False

    def error(self, what: str, tries: str = "") -> InfrastructureError:
        kind = InfrastructureError if self.lasting else TransientError
        return kind(f"{what}: {self.why}{f' ({tries})' if tries else ''}{f'; {self.advice}' if self.advice else ''}")


def lost_in(stage: str, error: Mapping[str, Any] | None, end: Mapping[str, Any] | None, log: str) -> Lost | None:
    """Infrastructure that an error, or what was printed, tells of: a full disk, a download that a job tried itself, a driver
    that does not fit its kernel module. The catalogue knows the words (builder/diagnose.py)."""
    stage = "export" if stage in ("reference", "calibrate", "convert") else stage
    found = diagnose(stage, "failed", error, end, log)
    if not found.infrastructure or found.signature is None:
        return None
    advice = found.remedy or ""
    return Lost(why=found.line, advice=f"{advice[:1].lower()}{advice[1:].rstrip('.')}", lasting=not found.transient)


def no_evidence(end: Any, *, stopped: bool) -> str:
    """Why a job's end says nothing about versions, or "". `stopped`: we are ending the workers ourselves."""
    lost = end.output is None and str(end.end.get("note", "")).startswith("the worker itself ended")
    if end.end.get("cancelled") or (stopped and end.output is None):
        return INTERRUPTED
    if end.end.get("signal") in OUTSIDE:
        return f"killed from outside ({signal.Signals(end.end['signal']).name})"
    return "its worker ended under it" if lost else ""


def lost(end: Any, folder: Path, *, stopped: bool) -> Lost | None:
    """Why a job's end, or what it left in its folder, says nothing about versions; None when it does. `stopped`: we are
    ending the workers ourselves."""
    if why := no_evidence(end, stopped=stopped):
        return Lost(why=why, lasting=why == INTERRUPTED)
    output = end.output if isinstance(end.output, dict) else {}
    if end.end.get("exit") is None or output.get("ok"):  # a limit that it ran into, or all is well
        return None
    told = output.get("error")
    error: dict[str, Any] = told if isinstance(told, dict) else {}
    stage = str(error.get("stage") or (end.stages[-1] if end.stages else ""))
    try:
        with (folder / "log.txt").open("rb") as file:
            log = file.read(2 * LOG_LIMIT).decode("utf-8", "replace")
    except OSError:
        log = ""
    return lost_in(stage, error, end.end, log)
