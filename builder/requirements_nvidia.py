"""What an image demands of the machine's GPU and driver (NVIDIA_REQUIRE_CUDA), evaluated. Pure.

The NVIDIA container toolkit evaluates the same text when a container with a GPU starts, and refuses to start it:
alternatives are separated by blanks, conditions that must hold together by commas; `cuda`, `driver` and `arch` compare
as versions, `brand` as text without regard to case, and what the machine does not know is taken for met
(libnvidia-container, src/cli/dsl.c and src/cli/configure.c; nvidia-container-toolkit, internal/requirements).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_CONDITION = re.compile(r"([^<>=!]+)(<=|>=|!=|<|>|=)([^<>=!]+)")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_VERSIONS = ("cuda", "driver", "arch")
_VIRTUAL = ("vapps", "vpc", "vcs", "vws", "cloudgaming")
"""Brands that CUDA's images write so (13.0.2's `brand=vapps`), and the toolkit's own code with `nvidia` before them."""


class _Unreadable(Exception):
    """A condition that is none."""


def unsatisfied(requirement: str, *, cuda: str | None, driver: str | None, brand: str, arch: str) -> str:
    """Why a machine does not meet `requirement` ("cuda>=12.4 brand=tesla,driver>=470,driver<471"), in words; "" when it
    does.

    `cuda`: the newest CUDA that the driver supports ("12.2"); `driver`: its version; `brand`: the GPU's ("tesla",
    "geforce"...); `arch`: its compute capability ("8.9"). None or "" is taken for met, as the toolkit does.
    """
    machine = {"cuda": cuda or "", "driver": driver or "", "brand": _brand(brand), "arch": arch}
    asked = False
    wanted = []
    try:
        for alternative in requirement.split():
            conditions = [found for text in alternative.split(",") if text and (found := _parse(text)) is not None]
            if not conditions:
                continue  # conditions on something that the toolkit does not know either
            asked = True
            if all(_holds(machine, *condition) for condition in conditions):
                return ""
            brands = [condition for condition in conditions if condition[0] == "brand"]
            if all(_holds(machine, *condition) for condition in brands):  # else it is for other GPUs than this one
                rest = [condition for condition in conditions if condition not in brands]
                wanted.append(",".join("".join(condition) for condition in rest))
    except _Unreadable as error:
        return f"the image's requirement cannot be read: {error}"
    if not asked:
        return ""
    here = ", ".join(f"{name} {value}" for name, value in machine.items() if value)
    if not wanted:
        return f"nothing in the image's requirement is for brand {machine['brand']} (here: {here})"
    return f"needs {', or '.join(dict.fromkeys(wanted))} (here: {here})"


def _parse(text: str) -> tuple[str, str, str] | None:
    """(name, operator, value); None for a name that the toolkit skips. Raises _Unreadable."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise _Unreadable(repr(text[:80]))
    name, compare, value = match[1].lower(), match[2], match[3]
    if name == "brand":
        if compare not in ("=", "!="):
            raise _Unreadable(repr(text[:80]))
        return name, compare, _brand(value)
    if name not in _VERSIONS:
        return None
    if not re.fullmatch(r"[0-9.]+", value) or not value.strip("."):
        raise _Unreadable(repr(text[:80]))
    return name, compare, value


def _holds(machine: Mapping[str, str], name: str, compare: str, value: str) -> bool:
    have = machine[name]
    if not have:
        return True
    if name == "brand":
        return _COMPARE[compare](have, value)
    return _COMPARE[compare](_version(have), _version(value))


def _version(text: str) -> tuple[int, ...]:
    """Its numbers, without the zeros at the end: 12.0 is 12."""
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _brand(text: str) -> str:
    name = text.lower()
    return name.removeprefix("nvidia") if name.removeprefix("nvidia") in _VIRTUAL else name
