"""A file that may be hostile, read by offset and never more than a bounded part of it; and what is told of its header."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 4096
BUDGET = 64 << 20
"""Bytes that are read of one file at most. A header that needs more says so; lengths in the file never decide it."""


class Exhausted(Exception):
    """The budget is spent: the header is larger than any honest one."""


class Damaged(Exception):
    """The format is known and what it says cannot be: `str(error)` says what."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself. Empty text and None: it does not say."""

    format: str
    """Key of `enginefile.FORMATS`."""
    library: str = ""
    """The library that reads it, as `--with` names it; '' where the format belongs to none."""
    version: str = ""
    """The version of that library that wrote it."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The rest, by name; values are text, numbers and lists of them, made fit for printing."""
    capabilities: tuple[str, ...] | None = None
    """Compute capabilities that it was built for ("8.9")."""
    built_on: str = ""
    """Compute capability of the GPU that it was built on."""
    platform: str = ""
    """"linux-x86_64"."""
    damage: str = ""
    """Why no library will take it, whatever the machine."""
    notes: tuple[str, ...] = ()


class Content:
    """Bytes of an open file by offset. Raises Exhausted when more than `budget` bytes were asked for."""

    def __init__(self, descriptor: int, size: int, *, budget: int = BUDGET) -> None:
        self.size = size
        self._descriptor = descriptor
        self._left = budget
        self._start = 0
        self._window = b""

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`: fewer where the file ends."""
        if offset < 0 or length <= 0 or offset >= self.size:
            return b""
        length = min(length, self.size - offset)
        inside = offset - self._start
        if inside >= 0 and inside + length <= len(self._window):
            return self._window[inside : inside + length]
        wanted = max(length, WINDOW)
        self._left -= wanted
        if self._left < 0:
            raise Exhausted
        self._start, self._window = offset, os.pread(self._descriptor, wanted, offset)
        return self._window[:length]

    def number(self, layout: str, offset: int) -> int:
        """One number (`struct` layout, such as "<I"). Raises Damaged where the file ends before it."""
        data = self.at(offset, struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            msg = f"it ends at byte {self.size}, within what must be at byte {offset}"
            raise Damaged(msg)
        return int(struct.unpack(layout, data)[0])


def text(data: bytes | str, limit: int = 200) -> str:
    """Text of the file, cut and without what a terminal would obey."""
    said = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    said = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in said[: limit + 1])
    return said if len(said) <= limit else said[:limit] + "..."
