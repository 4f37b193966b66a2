"""What a terminal can do: its columns, colours and links; text that no library's message can command it with.

Facts about the stream alone (and the environment), asked each time, since a window is resized while a run goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from builder.values import STATUSES, Status

PIPED = 100
"""Columns of what is written to no terminal: the log of a CI system shows as many."""
STYLE: Mapping[str, str] = {
    "verified": "green", "built": "blue", "degraded": "yellow", "mismatch": "magenta", "failed": "red",
    "crashed": "bold red", "timeout": "red", "out-of-memory": "red", "unsupported": "dim", "skipped": "dim",
    "blocked": "yellow",
}  # fmt: skip
MARK: Mapping[str, str] = {
    "verified": "✓", "built": "◐", "degraded": "◆", "mismatch": "≠", "failed": "✗", "crashed": "↯", "timeout": "◷",
    "out-of-memory": "▣", "unsupported": "⊘", "skipped": "-", "blocked": "⊖",
}  # fmt: skip
ASCII: Mapping[str, str] = {
    "verified": "v", "built": "b", "degraded": "d", "mismatch": "#", "failed": "x", "crashed": "!", "timeout": "t",
    "out-of-memory": "m", "unsupported": "u", "skipped": "-", "blocked": "o",
}  # fmt: skip
assert set(MARK) == set(ASCII) == set(STYLE) == set(STATUSES)


def dumb() -> bool:
    """Whether the terminal moves no cursor and knows no escapes, as it says itself."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def is_terminal(stream: IO[Any]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def moves(stream: IO[Any]) -> bool:
    """Whether a display that paints over itself is of use: on a terminal, and not in the log of a CI system, which keeps every
    painting of it."""
    return is_terminal(stream) and not dumb() and os.environ.get("CI", "").lower() in ("", "0", "false")


def size(stream: IO[Any]) -> tuple[int, int]:
    """(Columns, rows) of the terminal as it is now; of no terminal COLUMNS and LINES, else PIPED columns."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):  # no terminal, or no file at all
        found = shutil.get_terminal_size((PIPED, 25))
    return found.columns or 80, found.lines or 25  # a pseudo-terminal may say that it has none


def console(stream: IO[Any]) -> Any:
    """A rich Console for what is written once: as wide as the terminal, without colours where there is none, where it is dumb and
    with NO_COLOR."""
    from rich.console import Console

    columns, rows = size(stream)
    return Console(file=stream, width=columns, height=rows, highlight=False)


def marks(encoding: str | None) -> Mapping[str, str]:
    """A sign for each outcome that the stream's encoding has."""
    try:
        "".join(MARK.values()).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return MARK


def clean(text: str) -> str:
    """Text of libraries may hold what a terminal obeys; it is shown as text, in one line."""
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(name: str, width: int) -> str:
    """At most `width` characters: the middle goes, since the beginning names the library and the end tells releases and cells
    apart."""
    if len(name) <= width:
        return name
    if width < 3:
        return name[:width]
    tail = (width - 1) * 3 // 5
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def link(path: Path | str, stream: IO[Any]) -> str:
    """rich's style of a text that leads to a file (OSC 8), on a terminal that knows escapes; else none: colours that somebody
    forces on a log (FORCE_COLOR) are no reason for links in it."""
    return f"link {Path(path).absolute().as_uri()}" if is_terminal(stream) and not dumb() else ""


def linked(path: Path | str, stream: IO[Any]) -> str:
    """A path as text that leads to the file where the stream is a terminal that knows links; else the path alone."""
    if not is_terminal(stream) or dumb():
        return str(path)
    return f"\x1b]8;;{Path(path).absolute().as_uri()}\x1b\\{path}\x1b]8;;\x1b\\"


def mark_of(status: Status | str, encoding: str | None = "utf-8") -> str:
    return marks(encoding).get(status, ".")
