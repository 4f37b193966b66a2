"""Patterns over values: PEP 440 ranges, globs and exact text. The one meaning of `>=1.15,<2` in the whole product.

A pattern that begins with one of ``< > = ! ~`` is a list of clauses, separated by commas, all of which must hold.
Ordering clauses compare by PEP 440 (so `>1.7` does not take `1.7.post1`, and `>=2.13.0` takes `2.13.0+cpu`);
`==X` and `!=X` compare by PEP 440 when both sides are versions, and as a glob otherwise (`!=fp32`, `!=sm1*`).
Anything else is a glob if it has ``* ? [``, and exact text if not. Pre-releases count like any version.

Everything is cached by distinct text, since a matrix asks the same few questions ten thousand times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import cache, lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

OPERATORS = "<>=!~"
_CLAUSE = re.compile(r"\s*(~=|===|==|!=|<=|>=|<|>)\s*(\S+)\s*")
_GLOB = frozenset("*?[")


@cache
def version(text: str) -> Version | None:
    """The text as a PEP 440 version, or None."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def is_range(pattern: str) -> bool:
    """Whether the pattern is a list of version clauses."""
    return pattern[:1] in OPERATORS and pattern != ""


def is_pattern(text: str) -> bool:
    """Whether the text is a range or a glob, so that it must be expanded from known values."""
    return is_range(text) or not _GLOB.isdisjoint(text)


@cache
def problem(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    if pattern == "":
        return "an empty pattern"
    if not is_range(pattern):
        return None
    for clause in pattern.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            return f"{clause.strip()!r} is not a version clause such as '>=1.15'"
        if match[1] not in ("==", "!=") and _specifier(match[1] + match[2]) is None:
            return f"{match[2]!r} is not a version, so {match[1]!r} cannot compare with it"
    return None


@cache
def _specifier(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text, prereleases=True)
    except InvalidSpecifier:
        return None


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@lru_cache(maxsize=1 << 16)
def matches(pattern: str, value: str) -> bool:
    """Whether a value fits a pattern. The pattern has no `problem`.

    >>> matches(">=1.15,<2", "1.16.3"), matches("1.1*", "1.16.3"), matches("24.1", "24.10"), matches("!=fp32", "fp16")
    (True, True, False, True)
    """
    if not is_range(pattern):
        return pattern == value or (not _GLOB.isdisjoint(pattern) and _glob(pattern).match(value) is not None)
    return all(_clause(clause, value) for clause in pattern.split(","))


def _clause(clause: str, value: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        return False
    operator, operand = match[1], match[2]
    parsed = version(value)
    specifier = _specifier(operator + operand)
    if specifier is not None and parsed is not None:
        return specifier.contains(parsed)
    if operator in ("==", "!="):
        return (_glob(operand).match(value) is not None) == (operator == "==")
    return False


def expand(pattern: str, known: Sequence[str]) -> list[str]:
    """The known versions that fit a range or glob, oldest first; pre-releases only if the pattern names one."""
    wants = any(part is not None and part.is_prerelease for part in map(version, re.split(r"[<>=!~,\s]+", pattern)))
    found = [v for v in known if matches(pattern, v) and (wants or (p := version(v)) is None or not p.is_prerelease)]
    return ordered(found)


def ordered(values: Iterable[str]) -> list[str]:
    """Oldest first by PEP 440; what is not a version comes first, as text."""
    lowest = Version("0.dev0")
    return sorted(values, key=lambda v: (version(v) or lowest, v))


def newest_patch(values: Sequence[str]) -> list[str]:
    """The newest of each (major, minor), in the order of their first appearance.

    >>> newest_patch(["1.17.0", "1.17.3", "1.18.0"])
    ['1.17.3', '1.18.0']
    """
    best: dict[object, str] = {}
    for value in ordered(values):
        parsed = version(value)
        best[parsed.release[:2] if parsed else value] = value
    return [value for value in values if value in set(best.values())]


def nearest(word: str, names: Iterable[str]) -> str:
    """A hint for a misspelt name: `perhaps 'tensorrt'?`, or the names there are when none is near and they are few."""
    from difflib import get_close_matches  # imported here: only errors need it

    known = sorted(set(names))
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"perhaps {close[0]!r}?"
    if 0 < len(known) <= 12:
        return "there are " + ", ".join(known) if len(known) > 1 else f"there is only {known[0]}"
    return ""
