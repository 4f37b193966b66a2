"""Conflict rules in words: a sentence, a selector, and an entry for `expect:` or `constraints:` that can be pasted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder import versions
from builder.conflict_rules_search import Field

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*|[1-9][0-9]*|[0-9]+(?:\.[0-9]+){2,}")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_SPECIAL = frozenset("*?[")


def short(name: str) -> str:
    """A field as people say it: `onnxruntime` for `engine.onnxruntime`. What both stacks may have keeps its role."""
    role, _, own = name.partition(".")
    return own if role == "engine" and own not in ("", "family", "python") else name


def patterns(chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    """What a matcher writes for these of the known values: a range where it takes exactly them, else the values.

    >>> patterns(["1.15.1", "1.16.3"], ["1.15.1", "1.16.3", "1.17.3"])
    ['<=1.16.3']
    """
    field = Field(name="", values=tuple(known), ordered=all(versions.version(value) is not None for value in known))
    if field.ordered and len(chosen) > 1:
        low, high = chosen[0], chosen[-1]
        for pattern in (f"<={high}", f">={low}", f">={low},<={high}"):
            if [value for value in known if versions.matches(pattern, value)] == list(chosen):
                return [pattern]
    return [f"=={value}" if not _SPECIAL.isdisjoint(value) or versions.is_range(value) else value for value in chosen]


def condition(name: str, chosen: Sequence[str], known: Sequence[str]) -> str:
    """`onnxruntime<=1.17.3`, `opset=13`, `model=a or b`."""
    found = patterns(chosen, known)
    if len(found) == 1 and versions.is_range(found[0]):
        return f"{short(name)}{found[0]}".replace(",", f" and {short(name)}")
    return f"{short(name)}={' or '.join(found)}"


def scalar(value: str) -> str:
    """A value as YAML, quoted unless every tool reads it back as this text."""
    return (
        value
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
        else json.dumps(value, ensure_ascii=value.isascii())
    )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule's conditions by full names, and how many cells bear it out."""

    category: str
    conditions: Sequence[tuple[str, Sequence[str]]]
    known: Mapping[str, Sequence[str]]
    """Of each field of the conditions, all values in the report, in their order."""
    failing: int
    passing: int
    elsewhere: int
    other: int
    silent: int
    """Cells that fit and say nothing: not tried, or not run."""

    def matchers(self) -> list[tuple[str, list[str]]]:
        return [(name, patterns(chosen, self.known[name])) for name, chosen in self.conditions]

    def plain(self) -> list[dict[str, Any]]:
        return [
            {"field": name, "patterns": found, "values": list(chosen)}
            for (name, chosen), (_, found) in zip(self.conditions, self.matchers(), strict=True)
        ]

    def when(self) -> str:
        return " and ".join(condition(name, chosen, self.known[name]) for name, chosen in self.conditions)

    def text(self) -> str:
        """One sentence: true of the cells that show something, and it says how many they are."""
        total = self.failing + self.passing
        all_ = f"all {total} cells" if total > 1 else "the one cell"
        which = f"with {self.when()}" + (" that got that far" if self.silent else "")
        some = f"{all_} {which} {'fail' if total > 1 else 'fails'}"
        if self.passing:
            some = f"{self.failing} of {total} cells {which} fail"
        return f"{some}: {self.category}; {self.elsewhere or 'none'} elsewhere"

    def select(self) -> str:
        """The cells that fit, as `--select` takes them."""
        terms = []
        for name, found in self.matchers():
            if versions.is_range(found[0]) and not found[0].startswith("=="):
                terms += [f"{name}{clause}" for clause in found[0].split(",")]
            else:
                terms.append(f"{name}={','.join(_quoted(value.removeprefix('==')) for value in found)}")
        return " and ".join(terms)

    def match(self) -> str:
        items = []
        for name, found in self.matchers():
            listed = [scalar(pattern) for pattern in found]
            items.append(f"{scalar(name)}: {listed[0] if len(listed) == 1 else '[' + ', '.join(listed) + ']'}")
        return "{" + ", ".join(items) + "}"

    def expect(self) -> str:
        """An entry for `expect:`. Its reason is what was observed: a person who knows the cause should say it instead."""
        return f"- match: {self.match()}\n  fail: {scalar(self.category)}\n  because: {scalar(self.observed())}"

    def constraint(self) -> str | None:
        """An entry for `constraints:`, None where a cell that fits works: a constraint takes cells away, whatever they do."""
        return None if self.passing else f"- {{never: {self.match()}, because: {scalar(self.observed())}}}"

    def observed(self) -> str:
        return f"observed, {self.failing} of {self.failing + self.passing} cells failed: {self.category}"


def _quoted(value: str) -> str:
    if not re.search(r"[\s,()'\"=<>!]", value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'
