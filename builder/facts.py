"""The catalog: known releases (`catalog/releases.yaml`), and what NVIDIA's images hold (`catalog/images.yaml`).

Data with sources, read when something asks for it. A value of a table may become a part of an image's name, a requirement
line or a label, so it is held to the same pattern as a value that is written in matrix.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from builder import nodes, versions
from builder.errors import SpecError, SpecErrors
from builder.nodes import Source
from builder.section import NAME, VALUE, Section
from builder.values import Where

CATALOG = Path(__file__).parent / "catalog"
TABLE_KEYS = ("axis", "about", "facts", "records")
ABOUT_KEYS = ("platforms", "read-in", "inferred", "conflict", "note", "source")
"""Keys of a record that are no facts: about them. catalog/images.yaml says what each means."""
PLATFORMS = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one image."""

    facts: Mapping[str, str]
    inferred: tuple[str, ...]
    """Facts that were not read in the image but follow from others."""
    conflict: str
    """How sources disagree, '' if they do not."""
    note: str
    sources: tuple[str, ...]
    where: Where
    platforms: tuple[str, ...] = ()
    """Where the image is known to be (`linux/arm64` is SBSA, in the l4t table Jetson); (): not recorded, not nowhere."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The facts of a family: value of its axis -> record, oldest release first."""

    name: str
    axis: str
    names: tuple[str, ...]
    """Every fact that some record has."""
    records: Mapping[str, Record]


@lru_cache(maxsize=1)
def releases() -> dict[str, tuple[str, ...]]:
    """name -> known release versions, oldest first, from `catalog/releases.yaml`. Raises SpecErrors."""
    data = nodes.data(CATALOG / "releases.yaml")
    return {name: tuple(versions.ordered(entry["versions"])) for name, entry in data["releases"].items()}


@lru_cache(maxsize=1)
def tables() -> dict[str, Table]:
    """The tables of `catalog/images.yaml`. Raises SpecErrors."""
    return read(CATALOG / "images.yaml")


def read(path: Path) -> dict[str, Table]:
    """The tables of a file. Raises SpecErrors with every mistake in it."""
    errors: list[SpecError] = []
    loaded = nodes.load(path, path.name, errors)
    if loaded is None:
        raise SpecErrors(errors)
    source, node = loaded
    top = Section(source, node, ("sources", "tables"), "the catalog")
    references = {name: value.value for name, value, _ in top.children("sources") if isinstance(value, nodes.Text)}
    found = {}
    for name, value, _ in top.children("tables"):
        table = Section(source, value, TABLE_KEYS, f"table {name!r}")
        names = tuple(item.value for item in table.values("facts", NAME))
        rows = {}
        for key, row, where in table.children("records"):
            record = _record(source, Section(source, row, [*names, *ABOUT_KEYS], f"record {key!r}"), names, references)
            if not VALUE.fullmatch(key):
                source.error(where, f"{key!r} cannot be a value of an axis")
            rows[key] = record
        ordered = {key: rows[key] for key in versions.ordered(rows)}
        found[name] = Table(name=name, axis=table.name("axis"), names=names, records=ordered)
    if errors:
        raise SpecErrors(errors)
    return found


def _record(source: Source, row: Section, names: tuple[str, ...], references: Mapping[str, str]) -> Record:
    facts = {}
    for name in names:
        if name in row:
            text = row.text(name)
            if text and not VALUE.fullmatch(text):
                row.error(name, f"{text!r} cannot be a fact", "letters, digits and '.', '_', '+', '!', '-' only")
            facts[name] = text
    sources = row.values("source", NAME)
    if not sources:
        row.missing("source", "no fact without its source")
    for item in sources:
        if item.value not in references:
            hint = versions.nearest(item.value, references)
            source.error(item.where, f"no source {item.value!r} in this file", hint)
    return Record(
        facts=facts, inferred=row.choices("inferred", [name for name in names if name in facts]), conflict=row.text("conflict"),
        note=row.text("note"), sources=tuple(references.get(item.value, "") for item in sources), where=row.node.where,
        platforms=_platforms(row),
    )  # fmt: skip


def _platforms(row: Section) -> tuple[str, ...]:
    found = tuple(item.value for item in row.values("platforms", None))
    for item in found:
        if item not in PLATFORMS:
            row.error("platforms", f"{item!r} is not a platform", versions.nearest(item, PLATFORMS))
    return found
