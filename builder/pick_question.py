"""What is asked of a stack, requirement by requirement, and the verdict on each. Plain values; builder/pick_judge.py judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from builder.answers import Fact

State = Literal["supported", "unsupported", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The GPU that is asked about. A name may stand for several capabilities; none of them: the machine has no GPU."""

    name: str
    capabilities: tuple[str, ...] = ()
    kind: str = ""
    """`geforce`, `datacenter` ...; '' where it is not known."""
    facts: tuple[Fact, ...] = ()
    names: tuple[str, ...] = ()
    """Of a machine with GPUs of several kinds: all of them. A stack must then take each of its capabilities."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the stack is for. Empty: not asked."""

    gpu: Hardware | None = None
    driver: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Component -> version clauses (">=10,<11"); '' for any version."""
    python: str = ""
    model: str = ""
    """The name of a recipe; stored runs are of recipes."""
    precision: str = ""
    platform: str = ""
    opset: int = 0
    """ONNX opset of the model that it must take; 0: not asked."""
    ir: int = 0
    """ONNX IR version of that model; 0: not asked."""
    file: str = ""
    """The model's file, where it is no recipe: no stored run is of it."""

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """What is asked, one by one. The model is none: no document says of a model that it runs; only runs do. What
        documents speak of is its opset and its IR version."""
        out = []
        if self.gpu is not None:
            asked = f"GPU {self.gpu.name}" if self.gpu.capabilities else "no GPU"
            out.append(Requirement(key="gpu", text=asked))
        if self.driver:
            out.append(Requirement(key="driver", text=f"driver {self.driver}"))
        out += [Requirement(key=f"need:{name}", text=f"{name}{clause}") for name, clause in self.needs.items()]
        if self.opset:
            out.append(Requirement(key="opset", text=f"opset {self.opset}"))
        if self.ir:
            out.append(Requirement(key="ir", text=f"IR version {self.ir}"))
        for name in ("precision", "python", "platform"):
            value = getattr(self, name)
            if value:
                out.append(Requirement(key=name, text=f"{name} {value}"))
        return tuple(out)


@dataclass(frozen=True, kw_only=True)
class Requirement:
    key: str
    """`gpu`, `driver`, `python`, `precision`, `platform`, `opset`, `ir`, `need:tensorrt`."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One requirement on one stack. `because`: one sentence."""

    requirement: Requirement
    state: State
    because: str
    facts: tuple[Fact, ...] = ()
    inferred: bool = False
    """Rests on a fact that was not read but follows, or that its sources dispute."""

    @property
    def met(self) -> bool:
        """Whether the stack may be chosen as far as this goes. What a needed component's version is must be known; of
        everything else, what is not recorded may be tried."""
        return self.state == "supported" or (self.state == "unknown" and not self.requirement.key.startswith("need:"))
