"""Small matrices made of plain values, for the tests of what comes after the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.lock import Lock, Pins
from builder.machine import Machine
from builder.plan import Code, Planner
from builder.values import Attributes, Cell, Expect, Family, Recipe, Requirement, Stack, Where

PLACE = Where(file="matrix.yaml", line=1, column=1)
MACHINE = Machine(cpu="Test CPU", flags="abc", cores=2, memory=8 << 30, gpus=(), driver=None)
CODE = Code(common="c", exporters="e", adapters={"__init__": "i", "fake": "f"}, compare="k", timing="t")


def family(name: str = "engine", **values: Any) -> Family:
    default: dict[str, Any] = {
        "name": name, "summary": name, "provides": frozenset({"engine"}), "axes": (name, "python"), "adapter": "fake",
        "exporter": "fake", "device": "cpu", "needs": (), "run_needs": (), "isolation": ("venv",),
        "precision": {"fp32": "graph", "fp16": "graph", "int8": "graph"}, "modules": {"fake": name}, "preload": (),
        "settings": {},
        "sha256": "0", "where": PLACE,
    }  # fmt: skip
    return Family(**{**default, **values})


def stack(role: Any = "engine", name: str = "engine", version: str = "1.0", python: str = "3.11") -> Stack:
    return Stack(
        role=role, entry=name, family=name, fields={name: version, "python": python},
        requirements=(Requirement(line=f"{name}=={version}"),),
    )  # fmt: skip


def recipe(name: str = "model", **values: Any) -> Recipe:
    data = {
        "recipe": name, "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3]}],
        "dims": {"static": {"N": 1}, "dynamic": {"N": {"min": 1, "opt": 2, "max": 4}}}, "calibration": {"samples": 2},
    }  # fmt: skip
    default: dict[str, Any] = {
        "name": name, "summary": name, "exporters": ("exporter",), "source": None, "uses": ("opset", "shapes"),
        "tolerance": {"fp32": {"atol": 1e-4, "rtol": 1e-3}, "fp16": {"cosine": 0.999}, "int8": {"cosine": 0.98}},
        "shapes": ("static", "dynamic"), "calibration": True, "data": data, "directory": ".", "sha256": f"recipe {name}",
        "where": PLACE,
    }  # fmt: skip
    return Recipe(**{**default, **values})


def cell(
    engine: Stack | None = None, *, expect: Expect | None = None, attributes: Attributes | None = None, **options: str
) -> Cell:
    model = options.pop("model", "model")
    return Cell(
        exporter=stack("exporter", "exporter"), engine=engine or stack(), model=model,
        options={"opset": "17", "precision": "fp32", "shapes": "static", **options},
        attributes=attributes or Attributes(), expect=expect,
    )  # fmt: skip


def locked(*stacks: Stack) -> Lock:
    pins = {}
    for item in stacks:
        name = item.requirements[0].line
        pins[item.id] = Pins(
            python=item.fields["python"], requirements=tuple(r.line for r in item.requirements), packages=(name,),
            hashes={name: (f"sha256:{item.id}",)},
        )  # fmt: skip
    return Lock(cutoff="2026-11-20T00:00:00Z", stacks=pins)


def planner(*stacks: Stack, machine: Machine = MACHINE, families: dict[str, Family] | None = None, code: Code = CODE,
            recipes: dict[str, Recipe] | None = None) -> Planner:  # fmt: skip
    every = (stack("exporter", "exporter"), stack("tools", "tools"), stack(), *stacks)
    return Planner(
        families={
            "engine": family(), "exporter": family("exporter", adapter=None), "tools": family("tools", adapter=None),
            **(families or {}),
        },
        recipes=recipes or {"model": recipe()}, reference_stacks={"model": stack("exporter", "exporter")},
        tools=stack("tools", "tools"), lock=locked(*every), machine=machine, code=code,
    )  # fmt: skip


def artifacts(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"
