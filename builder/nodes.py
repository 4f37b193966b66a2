"""YAML text -> nodes that know their place. The lowest part of the only reader of YAML (`spec.py` is the upper).

Built on the parser's events, not on its composer or constructors, for three reasons:

- every scalar stays the text that was written: `24.10` can never become 24.1;
- no tag is ever executed, duplicate keys are seen, and every node keeps its line and column;
- the C composer recurses without a limit and dies of a segmentation fault on 100,000 opening brackets. Events are flat:
  here depth, size and the expansion of aliases ("billion laughs") have limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from builder.errors import SpecError, SpecErrors
from builder.values import Where

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 100_000
"""Nodes after the expansion of aliases. The largest file of ours has about 3,000."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    plain: bool
    """Written without quotes, so that other tools may read it as a number, a date or a boolean."""
    where: Where
    size: int = 1


@dataclass(frozen=True, slots=True)
class Seq:
    items: tuple[Node, ...]
    where: Where
    size: int


@dataclass(frozen=True, slots=True)
class Map:
    items: Mapping[str, Node]
    keys: Mapping[str, Where]
    where: Where
    size: int


Node: TypeAlias = Text | Seq | Map


class Source:
    """One file: its name in messages, its lines, and the errors found in it so far."""

    def __init__(self, name: str, text: str, errors: list[SpecError] | None = None) -> None:
        self.name = name
        self.lines = text.splitlines()
        self.text = text
        self.errors: list[SpecError] = [] if errors is None else errors

    def where(self, mark: Any) -> Where:
        return Where(file=self.name, line=mark.line + 1, column=mark.column + 1)

    def error(self, where: Where, message: str, hint: str = "") -> None:
        """Note an error."""
        self.errors.append(self.problem(where, message, hint))

    def problem(self, where: Where, message: str, hint: str = "") -> SpecError:
        """An error with its line, made safe for a terminal: no control characters, at most 160 columns."""
        text = self.lines[where.line - 1] if where.file == self.name and where.line <= len(self.lines) else ""
        if where.column > 160:
            text = ""
        shown = "".join(c if c.isprintable() else " " for c in text[:160])
        return SpecError(where, message, hint=hint, text=shown if shown.strip() else "")

    def top(self) -> Where:
        return Where(file=self.name, line=1, column=1)


_TEXT_TAGS = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
_WORDS = {"yes": "a boolean", "no": "a boolean", "on": "a boolean", "off": "a boolean"}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
    (re.compile(r"[-+]?[0-9]+"), lambda t: str(int(t))),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), lambda t: repr(float(t))),
    (re.compile(r"[-+]?0x[0-9a-fA-F_]+|[-+]?0o?[0-7_]+|[-+]?0b[01_]+|[-+]?[0-9][0-9_]*"), lambda t: "another number"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), lambda t: "a number of base 60"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda t: "a number that is not finite"),
)


def altered(text: str) -> str | None:
    """What a tool of YAML 1.1 or 1.2 would make of this plain scalar, if that is not what is written; else None.

    >>> altered("24.10"), altered("24.1"), altered("yes"), altered("1.10.0")
    ('24.1', None, 'a boolean', None)
    """
    lower = text.lower()
    if lower in _WORDS or (lower in ("true", "false") and text != lower):
        return "a boolean"
    if lower == "null" and text != lower:
        return "nothing"
    if len(text) > 60:
        return None
    for pattern, read in _NUMBERS:
        if pattern.fullmatch(text):
            seen = read(text)
            return None if seen == text else seen
    return None


def is_null(node: Node | None) -> bool:
    """`~`, `null` or an empty value, unquoted."""
    return isinstance(node, Text) and node.plain and node.value in ("", "~", "null")


def read(path: Path, name: str, errors: list[SpecError]) -> str | None:
    """The text of a regular UTF-8 file of at most `MAX_BYTES`; None when an error was noted instead."""
    where = Where(file=name, line=1, column=1)
    try:
        if not path.is_file():
            errors.append(SpecError(where, "no such file" if not path.exists() else "not a regular file"))
            return None
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        errors.append(SpecError(where, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
        return None
    if len(data) > MAX_BYTES:
        errors.append(SpecError(where, f"larger than {MAX_BYTES} bytes", hint="a specification is a short text"))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        place = Where(file=name, line=line, column=column)
        errors.append(SpecError(place, f"not UTF-8: byte 0x{data[error.start]:02x}", hint="save the file as UTF-8"))
        return None


def load(path: Path, name: str, errors: list[SpecError], *, keep_text: bool = True) -> tuple[Source, Node] | None:
    """Read and compose one file. None when that failed; the reason was then added to `errors`."""
    text = read(path, name, errors)
    if text is None:
        return None
    source = Source(name, text, errors)
    node = compose(source, keep_text=keep_text)
    return None if node is None else (source, node)


class _StopError(Exception):
    """The file cannot be understood any further; the error has been noted."""


def compose(source: Source, *, keep_text: bool = True) -> Node | None:
    """The single document of a source as nodes; None when an error that hides the rest was noted.

    With `keep_text` (matrix.yaml, family.yaml) a plain scalar whose spelling another YAML tool would alter is an error.
    """
    try:
        return _Composer(source, keep_text).document()
    except _StopError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = source.where(mark) if mark else source.top()
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        line = source.lines[where.line - 1] if where.line <= len(source.lines) else ""
        tab = "\t" in line[: len(line) - len(line.lstrip())] or line[where.column - 1 : where.column] == "\t"
        source.error(where, f"not YAML: {problem}", "indent with spaces, not tabs" if tab else "")
    except yaml.reader.ReaderError as error:
        before = source.text[: max(0, error.position)]
        column = len(before) - (before.rfind("\n") + 1) + 1
        where = Where(file=source.name, line=before.count("\n") + 1, column=column)
        source.error(where, f"a character that YAML does not allow: U+{ord(source.text[error.position]):04X}"
                     if error.position < len(source.text) else f"not YAML: {error.reason}")  # fmt: skip
    return None


class _Composer:
    def __init__(self, source: Source, keep_text: bool) -> None:
        self.source = source
        self.keep_text = keep_text
        self.anchors: dict[str, Node | None] = {}
        self.nodes = 0
        self.events: Iterator[Any] = iter(yaml.parse(source.text, Loader=_LOADER))

    def stop(self, where: Where, message: str, hint: str = "") -> _StopError:
        self.source.error(where, message, hint)
        return _StopError()

    def document(self) -> Node:
        node: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent) and node is not None:
                raise self.stop(self.source.where(event.start_mark), "a second document", "one file, one document")
            if isinstance(event, yaml.NodeEvent):
                node = self.node(event, 0)
        if node is None:
            raise self.stop(self.source.top(), "the file is empty")
        return node

    def node(self, event: Any, depth: int) -> Node:
        where = self.source.where(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            anchor = str(event.anchor)
            if anchor not in self.anchors:
                raise self.stop(where, f"alias *{event.anchor} has no anchor before it")
            known = self.anchors[anchor]
            if known is None:
                raise self.stop(where, f"alias *{event.anchor} refers to itself")
            self.count(known.size, where)
            return known
        if depth > MAX_DEPTH:
            raise self.stop(where, f"nested deeper than {MAX_DEPTH} levels")
        self.count(1, where)
        if event.tag not in _TEXT_TAGS:
            raise self.stop(where, f"tag {event.tag!r}: tags are not allowed here")
        if event.anchor:
            self.anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in (None, "") and event.tag is None
            node = Text(event.value, plain, where)
            if plain and self.keep_text and (seen := altered(event.value)) is not None:
                self.source.error(where, f"{event.value} is read as {seen} by other YAML tools",
                                  f'quote it: "{event.value}"')  # fmt: skip
        elif isinstance(event, yaml.SequenceStartEvent):
            items = [self.node(inner, depth + 1) for inner in self.until(yaml.SequenceEndEvent)]
            node = Seq(tuple(items), where, 1 + sum(item.size for item in items))
        else:
            node = self.mapping(where, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def until(self, end: type) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def mapping(self, where: Where, depth: int) -> Map:
        items: dict[str, Node] = {}
        keys: dict[str, Where] = {}
        merged: list[Map] = []
        events = self.until(yaml.MappingEndEvent)
        for event in events:
            key = self.node(event, depth + 1)
            value = self.node(next(events), depth + 1)
            if not isinstance(key, Text):
                self.source.error(key.where, "a key must be plain text")
            elif key.value == "<<" and key.plain:
                merged.extend(self.merge(value))
            elif key.value in items:
                first = keys[key.value].line
                self.source.error(key.where, f"duplicate key {key.value!r}", f"it is already on line {first}")
            else:
                items[key.value] = value
                keys[key.value] = key.where
        for other in merged:
            for name, value in other.items.items():
                if name not in items:
                    items[name] = value
                    keys[name] = other.keys[name]
        return Map(items, keys, where, 1 + len(items) + sum(value.size for value in items.values()))

    def merge(self, value: Node) -> list[Map]:
        parts = value.items if isinstance(value, Seq) else (value,)
        maps = [part for part in parts if isinstance(part, Map)]
        if len(maps) != len(parts):
            self.source.error(value.where, "'<<' takes a mapping or a list of mappings")
        return maps

    def count(self, size: int, where: Where) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            raise self.stop(where, f"expands to more than {MAX_NODES} nodes")


_CORE_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_CORE_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def typed(node: Node) -> Any:
    """Plain JSON data by YAML 1.2's core schema: ints, floats, booleans, null, text, lists, dicts.

    Raises ValueError for a number too long to be one.
    """
    if isinstance(node, Map):
        return {key: typed(value) for key, value in node.items.items()}
    if isinstance(node, Seq):
        return [typed(item) for item in node.items]
    if not node.plain:
        return node.value
    text = node.value
    if is_null(node):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _CORE_INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _CORE_FLOAT.fullmatch(text):
        return float(text)
    return text


def texts(node: Node) -> Any:
    """Plain data in which every scalar stays text, apart from null."""
    if isinstance(node, Map):
        return {key: texts(value) for key, value in node.items.items()}
    if isinstance(node, Seq):
        return [texts(item) for item in node.items]
    return None if is_null(node) else node.value


def data(path: Path) -> Any:
    """A data file of ours (catalogue) as plain data, scalars as text. Raises SpecErrors."""
    errors: list[SpecError] = []
    loaded = load(path, path.name, errors)
    if errors or loaded is None:
        raise SpecErrors(errors)
    return texts(loaded[1])
