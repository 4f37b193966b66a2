"""The fields of a cell by the names that rules and selectors use.

`model`, each option axis, `engine` and `exporter` (the entries of matrix.yaml), `engine.FIELD` and `exporter.FIELD` for
what a stack has (its axes, `family`, and the facts that the catalog knows of it: `engine.cuda`, `engine.driver`), and a bare
`FIELD` where only one of the two roles has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from builder import versions
from builder.values import Stack

ROLES = ("engine", "exporter")


class FieldError(Exception):
    """An unknown or ambiguous field name."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(f"{message}; {hint}" if hint else message)


def of_stack(stack: Stack, key: str) -> str | None:
    """A stack's field: '' its entry, `family`, one of its axes or facts; None when it has no such thing."""
    if key == "":
        return stack.entry
    return stack.family if key == "family" else stack.value(key)


class Fields:
    """The names and values that a matrix has. Canonical: `model`, `opset`, `engine.`, `engine.cuda`, `exporter.`."""

    def __init__(
        self, exporters: Sequence[Stack], engines: Sequence[Stack], options: Mapping[str, Sequence[str]],
        extra: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.values: dict[str, tuple[str, ...]] = {name: tuple(values) for name, values in options.items()}
        self.names: dict[str, str] = {name: name for name in options}
        self.options = tuple(options)
        owners: dict[str, list[str]] = {}
        for role, stacks in zip(ROLES, (engines, exporters), strict=True):
            keys = dict.fromkeys(key for stack in stacks for key in ("", "family", *stack.fields, *stack.facts))
            for key in keys:
                found = (of_stack(stack, key) for stack in stacks)
                self.values[f"{role}.{key}"] = tuple(dict.fromkeys(value for value in found if value is not None))
                self.names[f"{role}.{key}".rstrip(".")] = f"{role}.{key}"
                if key:
                    owners.setdefault(key, []).append(f"{role}.{key}")
        self.ambiguous: dict[str, list[str]] = {}
        for key, names in owners.items():
            if len(names) == 1:
                self.names.setdefault(key, names[0])
            else:
                self.ambiguous[key] = names
        for name in extra:
            self.names[name] = name
            self.values[name] = ()

    def resolve(self, name: str) -> str:
        """The canonical name. Raises FieldError."""
        found = self.names.get(name)
        if found is not None:
            return found
        if name in self.ambiguous:
            raise FieldError(f"{name!r} is a field of both stacks", "write " + " or ".join(self.ambiguous[name]))
        raise FieldError(f"unknown field {name!r}", versions.nearest(name, self.names))
