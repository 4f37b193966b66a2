"""Lines of failures: cleaned for people, made alike for grouping, and how much of a text is looked at."""

from __future__ import annotations

import re

MESSAGE_LIMIT = 1 << 16
"""Characters of an exception's message that are looked at."""
LOG_LIMIT = 1 << 18
"""Characters of a log that are looked at: half from its start, half from its end."""
LINE_LIMIT = 400
"""Characters of the error line that is kept."""

ESCAPES = re.compile(
    r"\x1b\[[0-9;:?]{0,40}[ -/]?[@-~]|\x1b\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]"
)
_LOGIN = re.compile(r"(://)[^/\s@]{1,300}@")
_PATH = re.compile(r"(?:file://)?(?<![\w:/.])/(?:[\w.+@~%-]+/)+")
_STAMP = re.compile(
    r"\[?\d{2,4}[-/]\d\d[-/]\d{2,4}[-T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?\]?|^[EWIF]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ "
)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_DURATION = re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|sec|seconds|min)\b")
_SOURCE_LINE = re.compile(r"(\.(?:cc|cpp|cxx|c|cu|h|hpp|py|rs)):{1,2}\d+\b")
_HASH = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b|\b\d{5,}\b")


def clean(text: str) -> str:
    """For people: no escapes, no credentials in addresses, files by their name alone (records never name a machine)."""
    return _PATH.sub("", _LOGIN.sub(r"\1", ESCAPES.sub("", text)))


def normalised(line: str) -> str:
    """For grouping: without timestamps, addresses, durations, long numbers, hashes and source line numbers."""
    line = _STAMP.sub("", clean(line))
    line = _DURATION.sub("#", _ADDRESS.sub("#", line))
    line = _HASH.sub("#", _SOURCE_LINE.sub(r"\1", line))
    return " ".join(line.split())


def line_at(text: str, start: int, end: int) -> str:
    """The line of `text` around `start`, cleaned; where it is too long, the part with the match."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    line = clean(text[first:last]).strip()
    if len(line) <= LINE_LIMIT:
        return line
    at = line.find(clean(text[start : min(end, last)]).strip()[:80])
    return cut(line if at <= 0 else "…" + line[at:])


def cut(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…"
