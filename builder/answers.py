"""What an answer of the catalog is made of: facts with sources, a value or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from packaging.version import Version

from builder import versions
from builder.facts_records import Entry
from builder.values import Where

T = TypeVar("T")
E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that the catalog says. `doubt`: how its sources disagree, what is inferred, why it may be wrong; or ''."""

    text: str
    sources: tuple[str, ...]
    where: Where
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """`value` is None when the catalog does not know; `unknown` then says why. A value with an `unknown` is known in part."""

    value: T | None
    facts: tuple[Fact, ...] = ()
    unknown: str = ""


@lru_cache(maxsize=1 << 14)
def number(text: str) -> Version:
    """A version as it orders. Raises ValueError (of packaging) for what is none.

    >>> number("418.87.00") < number("418.163.1"), number("8.6") < number("10.0")
    (True, True)
    """
    return Version(text)


@lru_cache(maxsize=1 << 14)
def minor(text: str) -> str:
    """The minor release that a version belongs to: its first two numbers; a lone major stays as it is.

    >>> minor("10.3.0.26"), minor("2.3.1+cu121"), minor("12.4"), minor("2.10.0a0+b4e4ee8.nv25.12")
    ('10.3', '2.3', '12.4', '2.10')
    """
    parsed = versions.version(text)
    return ".".join(map(str, parsed.release[:2])) if parsed else text


def fact(entry: Entry, text: str) -> Fact:
    """A sentence about a record as a fact, with the record's sources and doubts."""
    doubt = [entry.conflict, entry.doubt, f"inferred: {', '.join(entry.inferred)}" if entry.inferred else ""]
    return Fact(text=text, sources=entry.sources, where=entry.where, doubt="; ".join(part for part in doubt if part))


def find(table: Mapping[str, E], version: str) -> E | None:
    """The record of a version: its own, else the newest of its minor release."""
    if version in table:
        return table[version]
    same = [key for key in table if minor(key) == minor(version)]
    return table[same[-1]] if same else None


def absent(names: Mapping[str, object], version: str, what: str) -> str:
    """Why a version is not among those known, oldest first: it is newer than them, or not recorded."""
    newest = versions.ordered(names)[-1] if names else ""
    parsed, last = versions.version(version), versions.version(newest)
    if parsed is None:
        return f"{version!r} is not a version of {what}"
    if last is not None and parsed > last:
        return f"{what} {version} is newer than the catalog, whose newest is {newest}"
    return f"the catalog does not have {what} {version}"
