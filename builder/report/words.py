"""Words and numbers that the report's forms share."""

from __future__ import annotations

MEANING = {
    "verified": "ran, and matched the reference within the tolerance",
    "built": "an engine was produced and could not be run here",
    "degraded": "runs and matches, but not what was asked",
    "mismatch": "ran, and the numbers are wrong",
    "failed": "a stage failed",
    "crashed": "a stage died of a signal",
    "timeout": "a stage did not end within its limit",
    "out-of-memory": "a stage needed more memory than it was allowed",
    "unsupported": "predicted impossible from a fact, and not run",
    "skipped": "this machine cannot run it",
    "blocked": "a step it needs failed",
}


def duration(seconds: float) -> str:
    """`840 ms`, `12.3 s`, `3 min 21 s`, `2 h 05 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in binary units: `24 GiB`, `133 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
