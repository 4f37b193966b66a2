"""What the tests of the page to choose a stack share: a store of runs on several machines, and questions drawn by lot."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from builder import pick, pick_cli
from builder.facts_records import CATALOG
from builder.pick_evidence import Key, Observation, key
from builder.pick_judge import Question
from builder.pick_stacks import COMPONENTS, Candidate, candidates
from builder.report import choose_options

STACKS = candidates(CATALOG)
OPTIONS = choose_options.gpus(CATALOG)
VALUES = choose_options.values(CATALOG, STACKS)
MACHINES: tuple[tuple[tuple[tuple[str, str], ...], str], ...] = (
    ((), ""), ((("NVIDIA GeForce RTX 4090", "8.9"),), "550.54.14"), ((("NVIDIA GeForce RTX 4090", "8.9"),), "470.57.02"),
    ((("NVIDIA A100-SXM4-80GB", "8.0"),), "535.86.10"), ((("Tesla T4", "7.5"), ("NVIDIA L4", "8.9")), "580.65.06"),
    ((("A GPU of tomorrow", "12.0"),), "999.1"),
)  # fmt: skip
"""GPUs and driver."""


def observations(lot: random.Random) -> dict[Key, list[Observation]]:
    """Runs of some of the stacks, on every machine, good and bad, old and new."""
    out: dict[Key, list[Observation]] = {}
    made = [stack for stack in STACKS if stack.keys]
    for number, stack in enumerate(lot.sample(made, 70)):
        python = lot.choice(["3.10", "3.11", "3.12", ""])
        family, own = (stack.family, stack.fields) if stack.family else stack.also[-1]
        for turn in range(lot.randint(1, 6)):
            gpus, driver = lot.choice(MACHINES if stack.device != "cpu" else MACHINES[:1])
            status = lot.choice(["verified", "verified", "failed", "mismatch"])
            fields = {**own, **({"python": python} if python else {})}
            out.setdefault(key(family, own), []).append(Observation(
                family=family, fields=fields, role=lot.choice(["engine", "engine", "exporter"]),
                cell=f"cell{number:03}{turn % 4}", model=lot.choice(["resnet50", "minilm"]),
                precision=lot.choice(["fp32", "fp16", "int8"]), status=status,
                category="" if status == "verified" else "numerics",
                when=f"2026-{lot.randint(1, 11):02}-{lot.randint(1, 20):02}T0{turn}:00:00Z", run="r", gpus=gpus, driver=driver,
                cpu="A processor", latency=lot.choice([None, 0.00123, 0.0456, 0.123]),
            ))  # fmt: skip
    return out


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question, for `pick` and for the page."""

    question: Question
    gpu: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()

    @property
    def fragment(self) -> str:
        named = {0: "", 1: "none"}.get(self.gpu, OPTIONS[self.gpu].name)
        pairs = [("gpu", named), *self.fields.items(), *(("need", need) for need in self.needs)]
        return "#" + "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs if value)


def driver(lot: random.Random) -> str:
    """A version that the catalog names, or one near it, or any."""
    known = lot.choice(VALUES["driver"][1:]).removesuffix(".0.0.0.0")
    return lot.choice([
        known, known, known + ".1", known.split(".")[0] + f".{lot.randint(0, 200)}", known + ".00",
        f"{lot.randint(380, 640)}.{lot.randint(0, 160):02}.{lot.randint(0, 20):02}",
    ])  # fmt: skip


def clauses(lot: random.Random, held: Sequence[str]) -> str:
    """Version clauses around versions that stacks hold."""
    out = []
    for _ in range(lot.choice([0, 1, 1, 1, 2])):
        version = lot.choice(held)
        numbers = version.split("+")[0].split(".")
        cut = ".".join(numbers[: lot.randint(1, len(numbers))])
        operator = lot.choice([">=", "<", "<=", ">", "==", "!=", "~="])
        if operator == "~=":
            text = cut if "." in cut else cut + ".0"
        elif operator in ("==", "!="):
            text = lot.choice([version, cut + ".*" if cut.replace(".", "").isdigit() else cut, cut])
        else:
            text = lot.choice(
                [cut, cut, cut + lot.choice([".1", "rc1", ".post1", ".dev3"]) if cut[-1].isdigit() else cut]
            )
        out.append(operator + text)
    return ",".join(out)


def held(component: str, stacks: Sequence[Candidate] = STACKS) -> list[str]:
    return sorted({stack.components[component] for stack in stacks if stack.components.get(component)})


HELD = {name: versions for name in COMPONENTS if (versions := held(name))}


def ask(lot: random.Random) -> Asked:
    gpu = lot.choice([0, 1, *[lot.randrange(2, len(OPTIONS)) for _ in range(6)]])
    fields = {
        "driver": driver(lot) if lot.random() < 0.5 else "",
        **{
            name: lot.choice(VALUES[name]) if lot.random() < 0.3 else "" for name in ("precision", "python", "platform")
        },
    }
    names = lot.sample(sorted(HELD), lot.choice([0, 1, 1, 1, 2, 2, 3]))
    needs = [name + clauses(lot, HELD[name]) for name in names]
    given: dict[str, Any] = {name: value for name, value in fields.items() if value}
    question = Question(gpu=OPTIONS[gpu].hardware, needs=pick_cli.needs([",".join(needs)]) if needs else {}, **given)
    return Asked(question=question, gpu=gpu, fields=fields, needs=needs)


def picked(asked: Asked, seen: Mapping[Key, Sequence[Observation]], now: Any) -> pick.Picked:
    return pick.pick(asked.question, seen, now=now)
