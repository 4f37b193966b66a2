"""Matchers: `{field: pattern}` or `{field: [pattern, ...]}`. AND over the keys, OR within a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder import nodes, versions
from builder.nodes import Map, Node, Seq, Source, Text
from builder.values import Where


@dataclass(frozen=True, kw_only=True)
class Term:
    """One key of a matcher."""

    field: str
    patterns: tuple[str | None, ...]
    """None (`~` in the file) stands for "this field is absent"."""
    where: Where
    places: tuple[Where, ...]

    def accepts(self, value: str | None) -> bool:
        """Whether the field's value fits. An absent field fits nothing but `~`: not even `!=3` speaks of it."""
        if value is None:
            return None in self.patterns
        return any(pattern is not None and versions.matches(pattern, value) for pattern in self.patterns)


@dataclass(frozen=True, kw_only=True)
class Match:
    terms: tuple[Term, ...]
    where: Where

    def over(self, fields: Mapping[str, str]) -> bool:
        """Whether a record fits, all of its fields under their plain names."""
        return all(term.accepts(fields.get(term.field)) for term in self.terms)


def read(source: Source, node: Node) -> Match | None:
    """A matcher from its node; None when an error was noted. Field names are checked by the caller, who knows them."""
    if not isinstance(node, Map):
        source.error(node.where, "expected a matcher such as {model: resnet50, opset: [13, 17]}")
        return None
    terms = []
    for name, value in node.items.items():
        items = value.items if isinstance(value, Seq) else (value,)
        if not items:
            source.error(value.where, f"an empty list matches nothing: {name!r}")
            return None
        patterns, places = [], []
        for item, pattern in _patterns(source, items):
            patterns.append(pattern)
            places.append(item.where)
        if len(patterns) != len(items):
            return None
        terms.append(Term(field=name, patterns=tuple(patterns), where=node.keys[name], places=tuple(places)))
    if not terms:
        source.error(node.where, "an empty matcher", "leave the condition out if it should always hold")
        return None
    return Match(terms=tuple(terms), where=node.where)


def _patterns(source: Source, items: tuple[Node, ...]) -> Iterator[tuple[Node, str | None]]:
    for item in items:
        if not isinstance(item, Text):
            source.error(item.where, "expected text: an exact value, a glob or a version range")
        elif nodes.is_null(item):
            yield item, None
        elif (problem := versions.problem(item.value)) is not None:
            source.error(item.where, problem)
        else:
            yield item, item.value
