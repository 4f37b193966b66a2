"""What the tests of pick share: questions, observations, a store, the command."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder import pick, pick_cli, pick_evidence
from builder.facts_records import CATALOG
from builder.pick import Choice, Picked
from builder.pick_evidence import Observation
from builder.pick_judge import Judge, Question
from builder.pick_stacks import candidates
from builder.project import Project
from builder.store import Store

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
ROOT = Path(__file__).parent.parent
STACKS = {stack.id: stack for stack in candidates(CATALOG)}
JUDGE = Judge(CATALOG)


def ask(gpu: str = "", needs: str = "", **values: Any) -> Question:
    found = pick.hardware(gpu) if gpu else None
    assert not isinstance(found, str), found
    return Question(gpu=found, needs=pick_cli.needs([needs]) if needs else {}, **values)


def picked(question: Question, *observations: Observation, max_age: float = 180.0) -> Picked:
    seen: dict[Any, list[Observation]] = {}
    for item in observations:
        seen.setdefault(pick_evidence.key(item.family, item.fields), []).append(item)
    return pick.pick(question, seen, now=NOW, max_age=max_age)


def state(stack: str, question: Question) -> dict[str, str]:
    return {verdict.requirement.key: verdict.state for verdict in JUDGE.verdicts(STACKS[stack], question)}


def seen(stack: str = "tensorrt-10.9.0.34-cuda12", **values: Any) -> Observation:
    chosen = STACKS[stack]
    default: dict[str, Any] = {
        "family": chosen.family, "fields": {**chosen.fields, "python": "3.12"}, "role": "engine", "cell": "c1",
        "model": "resnet50",
        "precision": "fp16", "status": "verified", "category": "", "when": "2026-11-01T00:00:00Z", "run": "r",
        "gpus": (("NVIDIA GeForce RTX 4090", "8.9"),), "driver": "550.54.14", "cpu": "cpu", "latency": None,
    }  # fmt: skip
    return Observation(**{**default, **values})


def first(question: Question, *observations: Observation, **options: float) -> Choice:
    return picked(question, *observations, **options).choices[0]


def stored(root: Path, *cells: Mapping[str, Any], run: str = "r1", started: str = "2026-11-01T00:00:00Z",
           gpus: tuple[str, ...] = ()) -> Path:  # fmt: skip
    store = Store(root)
    where = {"cpu": "cpu", "driver": "550.1" if gpus else None,
             "gpus": [{"name": name, "compute_capability": "8.9"} for name in gpus]}  # fmt: skip
    records, results = {}, {}
    for cell in cells:
        name = str(cell["id"])
        records[f"{run}-{name}"] = (name, {
            "engine": {"family": "openvino", "fields": {"openvino": "2024.6.0", "python": "3.12"}},
            "exporter": {"family": "torch", "fields": {"torch": "2.13.0", "python": "3.11"}},
            "axes": {"model": "resnet50", "precision": "fp32"}, "when": started, "measure": None, **cell,
        })  # fmt: skip
        results[name] = (str(cell.get("status", "verified")), f"{run}-{name}")
    store.put_outcomes(records)
    store.put_run(run, started, started, {"machine": where}, results)
    return root / "results.sqlite"


def run(project: Project, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", default=str(project.matrix))
    pick_cli.add(parser)
    return pick_cli.call(parser.parse_args(arguments))


def project_in(folder: Path) -> Project:
    """A project with this one's families and recipes, and nothing else."""
    for name in ("images", "recipes"):
        (folder / name).symlink_to(ROOT / name)
    return Project(matrix=folder / "matrix.yaml")


QUESTION = ask("RTX 4090", "tensorrt>=10", driver="550.54.14")
