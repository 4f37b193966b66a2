"""The signatures of failures: `catalog/failures.yaml`, read once, when the first failure is diagnosed.

A signature's pattern is compiled when a text holds what it cannot match without.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.diagnose_text import clean

#: Categories that say something about this machine or the network and nothing about versions: never evidence, never
#: reused. The catalogue states the same; a test compares them.
INFRASTRUCTURE = frozenset(
    {"network", "disk", "registry", "interpreter", "killed", "container-runtime", "driver-mismatch", "infrastructure"}
)

CATALOG = Path(__file__).parent / "catalog" / "failures.yaml"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One entry of the catalogue; the file's head explains the fields."""

    order: int
    id: str
    category: str
    severity: str
    stages: frozenset[str]
    end: str | None
    versions: Mapping[str, str]
    regex: str
    diagnosis: str
    remedy: str
    source: str
    example: str
    lasting: bool

    def concerns(self, versions: Mapping[str, str]) -> bool:
        """Whether every module that the signature is about was loaded in a release that it is about."""
        from packaging.specifiers import SpecifierSet

        return all(
            module in versions and SpecifierSet(wanted).contains(versions[module], prereleases=True)
            for module, wanted in self.versions.items()
        )

    def search(self, text: str) -> re.Match[str] | None:
        """The first match; the pattern is compiled only when the text holds what it cannot match without."""
        if not self.regex:
            return None
        literals = required(self.regex)
        if literals and not any(literal in text for literal in literals):
            return None
        return compiled(self.regex).search(text)

    def explain(self, match: re.Match[str], versions: Mapping[str, str]) -> str:
        found = {name: clean(value).strip() if value else "?" for name, value in match.groupdict().items()}
        if "operators" in found:  # a list of nodes: how often and in which order says nothing of what is missing
            found["operators"] = ", ".join(sorted(set(re.split(r",\s*", found["operators"]))))
        return self.diagnosis.format_map({**versions, **found})


@dataclass(frozen=True, kw_only=True)
class Catalog:
    signatures: tuple[Signature, ...]
    categories: Mapping[str, Mapping[str, Any]]
    noise: tuple[str, ...]


@functools.cache
def catalog() -> Catalog:
    """The catalogue, read once. Raises KeyError or yaml.YAMLError when the file is damaged: our bug, not a failure."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data = yaml.load(CATALOG.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (a safe loader, in C)
    signatures = tuple(
        Signature(
            order=order,
            id=entry["id"],
            category=entry["category"],
            severity=entry.get("severity", "error"),
            stages=frozenset(entry.get("stages", ())),
            end=entry.get("end"),
            versions=entry.get("versions", {}),
            regex=entry.get("regex", ""),
            diagnosis=entry["diagnosis"],
            remedy=entry["remedy"],
            source=entry["source"],
            example=entry.get("example", ""),
            lasting=entry.get("lasting", False),
        )
        for order, entry in enumerate(data["signatures"])
    )
    return Catalog(signatures=signatures, categories=data["categories"], noise=tuple(data["noise"]))


@functools.cache
def signature(name: str) -> Signature | None:
    return next((s for s in catalog().signatures if s.id == name), None)


@functools.cache
def compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex)


_TOKEN = re.compile(
    r"(?P<escaped>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?(?:P<\w+>|[:=!]|<[=!]))?)|(?P<close>\))"
    r"|(?P<optional>[?*]\??|\{\d+(?:,\d*)?\}\??)|(?P<more>\+\??)|(?P<or>\|)|(?P<any>[.^$])|(?P<plain>.)",
    re.DOTALL,
)


@functools.cache
def required(regex: str) -> tuple[str, ...]:
    """Texts of which every match of `regex` holds at least one; empty when there is no such guarantee.

    Takes only what is certain: plain characters outside groups and sets, cut at everything optional or repeated; the
    longest such run of each alternative.
    """
    if "(?i)" in regex:
        return ()
    alternatives: list[list[str]] = [[""]]
    depth = 0
    for token in _TOKEN.finditer(regex):
        kind, text = token.lastgroup, token.group()
        runs = alternatives[-1]
        depth += (kind == "open") - (kind == "close")
        if depth == 0 and kind == "plain":
            runs[-1] += text
        elif depth == 0 and kind == "escaped" and not text[1].isalnum():
            runs[-1] += text[1]
        elif depth == 0 and kind == "or":
            alternatives.append([""])
        elif depth == 0 and kind == "optional":
            runs[-1] = runs[-1][:-1]
            runs.append("")
        elif runs[-1]:
            runs.append("")
    longest = tuple(max(runs, key=len) for runs in alternatives)
    return longest if all(len(text) >= 3 for text in longest) else ()
