"""One mapping of a specification, read key by key: every wrong key and value becomes an error at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from builder import nodes, versions
from builder.nodes import Map, Node, Seq, Source, Text
from builder.values import Where

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of entries, axes, groups, families and models: they become file names and parts of ids."""
VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}")
"""Values of axes and fields, which also become parts of requirement lines."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmg])i?b?", re.IGNORECASE)


class Section:
    """A mapping whose keys are known. Unknown keys are noted at once, with the nearest known one."""

    def __init__(self, source: Source, node: Node | None, allowed: Sequence[str] | None, what: str) -> None:
        self.source = source
        self.what = what
        self.node = node if isinstance(node, Map) else Map({}, {}, node.where if node else source.top(), 1)
        self.ok = isinstance(node, Map)
        if not self.ok:
            source.error(self.node.where, f"{what} must be a mapping")
        for key, where in self.node.keys.items():
            if allowed is not None and key not in allowed:
                source.error(where, f"unknown key {key!r} in {what}", versions.nearest(key, allowed))

    def __contains__(self, key: str) -> bool:
        return key in self.node.items

    def get(self, key: str) -> Node | None:
        return self.node.items.get(key)

    def where(self, key: str) -> Where:
        node = self.node.items.get(key)
        return node.where if node is not None else self.node.where

    def error(self, key: str, message: str, hint: str = "") -> None:
        self.source.error(self.where(key), message, hint)

    def missing(self, key: str, hint: str = "") -> None:
        self.source.error(self.node.where, f"{self.what} has no {key!r}", hint)

    def text(self, key: str, *, required: bool = False, hint: str = "") -> str:
        """The text under a key; '' when it is absent or wrong (and noted, if `required`)."""
        node = self.get(key)
        if node is None:
            if required:
                self.missing(key, hint)
            return ""
        if not isinstance(node, Text) or nodes.is_null(node) or not node.value.strip():
            self.source.error(node.where, f"{key!r} must be text", hint)
            return ""
        return " ".join(node.value.split())

    def name(self, key: str, *, required: bool = True) -> str:
        """A text that may become a file name or a part of an id."""
        text = self.text(key, required=required)
        if text and not NAME.fullmatch(text):
            self.error(key, f"{text!r} is not a name: letters, digits, '.', '_' and '-' only")
            return ""
        return text

    def values(self, key: str, pattern: re.Pattern[str] | None = VALUE) -> list[Text]:
        """A scalar, or a list of distinct scalars, as text nodes; [] when absent or wrong."""
        node = self.get(key)
        if node is None:
            return []
        items = node.items if isinstance(node, Seq) else (node,)
        out: list[Text] = []
        seen: dict[str, Where] = {}
        if not items:
            self.source.error(node.where, f"{key!r} is an empty list")
        for item in items:
            if not isinstance(item, Text) or nodes.is_null(item):
                self.source.error(item.where, f"{key!r} takes text or a list of texts")
            elif item.value in seen:
                first = seen[item.value]
                self.source.error(item.where, f"duplicate value {item.value!r} in {key!r}",
                                  f"it is already at {first.line}:{first.column}")  # fmt: skip
            elif pattern is not None and not pattern.fullmatch(item.value):
                self.source.error(item.where, f"{item.value!r} cannot be a value of {key!r}",
                                  "letters, digits and '.', '_', '+', '!', '-' only")  # fmt: skip
            else:
                seen[item.value] = item.where
                out.append(item)
        return out

    def choice(self, key: str, choices: Sequence[str], *, required: bool = False, default: str = "") -> str:
        text = self.text(key, required=required)
        if text and text not in choices:
            self.error(key, f"{text!r} is not a value of {key!r}", versions.nearest(text, choices))
            return default
        return text or default

    def choices(self, key: str, choices: Sequence[str]) -> tuple[str, ...]:
        out = []
        if isinstance(node := self.get(key), Seq) and not node.items:
            return ()
        for item in self.values(key):
            if item.value in choices:
                out.append(item.value)
            else:
                hint = versions.nearest(item.value, choices)
                self.source.error(item.where, f"{item.value!r} is not a value of {key!r}", hint)
        return tuple(out)

    def boolean(self, key: str, default: bool) -> bool:
        text = self.text(key)
        if text not in ("", "true", "false"):
            self.error(key, f"{key!r} must be true or false")
        return default if text not in ("true", "false") else text == "true"

    def integer(self, key: str, default: int, *, least: int = 0) -> int:
        text = self.text(key)
        if text == "":
            return default
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or int(text) < least:
            self.error(key, f"{key!r} must be a whole number of at least {least}")
            return default
        return int(text)

    def duration(self, key: str) -> float | None:
        """Seconds of `250ms`, `90s`, `10m`, `2h`; None when absent or wrong."""
        text = self.text(key)
        if text == "":
            return None
        match = _DURATION.fullmatch(text)
        if match is None or float(match[1]) == 0:
            self.error(key, f"{text!r} is not a time", "write 90s, 10m or 2h")
            return None
        return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]

    def size(self, key: str) -> int | None:
        """Bytes of `512m`, `4g`; None when absent or wrong."""
        text = self.text(key)
        if text == "":
            return None
        match = _SIZE.fullmatch(text)
        if match is None or float(match[1]) == 0:
            self.error(key, f"{text!r} is not an amount of memory", "write 512m or 4g")
            return None
        return int(float(match[1]) * {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[match[2].lower()])

    def sections(self, key: str, allowed: Sequence[str] | None, what: str) -> Iterator[Section]:
        """The mappings of a list."""
        node = self.get(key)
        if node is None or nodes.is_null(node):
            return
        if not isinstance(node, Seq):
            self.source.error(node.where, f"{key!r} must be a list of mappings")
            return
        for item in node.items:
            section = Section(self.source, item, allowed, what)
            if section.ok:
                yield section

    def children(self, key: str) -> Iterator[tuple[str, Node, Where]]:
        """The entries of a mapping whose keys are names that the writer chose."""
        node = self.get(key)
        if node is None or nodes.is_null(node):
            return
        if not isinstance(node, Map):
            self.source.error(node.where, f"{key!r} must be a mapping")
            return
        for name, value in node.items.items():
            if not NAME.fullmatch(name):
                self.source.error(node.keys[name], f"{name!r} is not a name",
                                  "letters, digits, '.', '_' and '-' only")  # fmt: skip
            else:
                yield name, value, node.keys[name]
