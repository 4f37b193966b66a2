"""Stacks in the order and by the names under which the report's page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version


def ordered(stacks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stacks once each: families as they come, versions in their own order."""
    unique = {stack["id"]: dict(stack) for stack in stacks}
    families = list(dict.fromkeys(stack["family"] for stack in unique.values()))
    for stack in unique.values():
        more = [f"{k} {v}" for k, v in stack["fields"].items() if k not in (stack["family"], "python")]
        stack["version"] = stack["fields"].get(stack["family"]) or (more.pop(0) if more else stack["id"])
        stack["more"] = ", ".join(more)
        stack["label"] = f"{stack['version']} {stack['more']}".strip()
    return sorted(
        unique.values(),
        key=lambda s: (
            families.index(s["family"]),
            [_version(v) for k, v in s["fields"].items() if k != "python"],
            s["id"],
        ),
    )


def _version(text: str) -> tuple[int, Version | str]:
    try:
        return 0, Version(text)
    except InvalidVersion:
        return 1, text
