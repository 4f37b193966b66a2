"""What is asked of an engine file, and an answer: `loads`, `will-not-load` or `unknown`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from builder import versions

Verdict = Literal["loads", "will-not-load", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    capability: str
    """Compute capability, as "8.9"."""
    name: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name} (compute capability {self.capability})"
            if self.name
            else f"compute capability {self.capability}"
        )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one wants to know. Empty: not asked."""

    libraries: Mapping[str, str] = field(default_factory=dict)
    """Name of portability_rules.LIBRARIES -> version."""
    gpus: tuple[Gpu, ...] = ()
    """Any of them will do."""
    no_gpu: str = ""
    """Why the machine that is asked about has none."""
    platform: str = ""
    """As "linux-x86_64"."""
    cuda: str = ""
    """The newest CUDA that the driver supports."""
    here: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    about: str
    verdict: Verdict
    because: str
    rule: str
    """Key of RULES."""


def yes(about: str, because: str, rule: str) -> Answer:
    return Answer(about=about, verdict="loads", because=because, rule=rule)


def no(about: str, because: str, rule: str) -> Answer:
    return Answer(about=about, verdict="will-not-load", because=because, rule=rule)


def unknown(about: str, because: str, rule: str) -> Answer:
    return Answer(about=about, verdict="unknown", because=because, rule=rule)


def release(version: str) -> tuple[int, ...]:
    parsed = versions.version(version)
    return parsed.release if parsed else ()


def same(built: str, asked: str) -> bool | None:
    """Whether two versions are the same; None where the one asked is shorter and agrees as far as it goes."""
    mine, other = release(built), release(asked)
    if mine[: len(other)] != other[: len(mine)]:
        return False
    return True if len(other) >= len(mine) else None
