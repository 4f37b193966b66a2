"""Speed-ups: the ratio, its interval, and when there is none; and the step that measures them, in turns."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import factory
import fake
import pytest

from builder import speed
from builder.execute.local import Local
from builder.outcome import outcome
from builder.plan import reconcile
from builder.store import Store
from builder.values import Attributes


def rounds(factors: list[float], *, times: float = 2.0, spread: float = 0.0, count: int = 40) -> list[Any]:
    """Rounds in which the baseline takes `times` as long as the engine; both are slowed down by the round's factor."""
    draw = random.Random(1)

    def window(base: float) -> list[float]:
        return [base * (1 + spread * draw.uniform(-1, 1)) for _ in range(count)]

    return [(window(times * 1e-3 * factor), window(1e-3 * factor)) for factor in factors]


def test_a_steady_ratio_settles() -> None:
    found = speed.speedup(rounds([1.0] * 8, spread=0.02))
    assert found["status"] == "settled"
    assert found["ratio"] == pytest.approx(2.0, rel=0.02)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert (found["rounds"], found["confidence"]) == (8, 0.95)


def test_what_slows_both_down_changes_no_ratio() -> None:
    """Which two means, taken one after the other, would get wrong."""
    found = speed.speedup(rounds([1, 1, 1, 1, 3, 3, 3, 3], spread=0.01))
    assert found["ratio"] == pytest.approx(2.0, rel=0.02)


def test_rounds_that_disagree_give_no_number_but_their_interval() -> None:
    pairs = [*rounds([1.0] * 4, times=1.0), *rounds([1.0] * 4, times=3.0)]
    found = speed.speedup(pairs)
    assert (found["status"], found["ratio"]) == ("unstable", None)
    assert found["low"] == pytest.approx(1.0)
    assert found["high"] == pytest.approx(3.0)


def test_two_rounds_tell_nothing_of_how_rounds_differ() -> None:
    found = speed.speedup(rounds([1.0, 1.0]))
    assert (found["status"], found["ratio"], found["low"]) == ("unstable", None, None)


def test_the_same_rounds_give_the_same_interval() -> None:
    pairs = rounds([1.0, 1.1, 0.9, 1.0], spread=0.2)
    assert speed.speedup(pairs) == speed.speedup(pairs)


def test_the_interval_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 experiments with a known ratio of 1.5: about 57 of the intervals hold it."""
    monkeypatch.setattr(speed, "RESAMPLES", 300)
    draw = random.Random(3)
    held = 0
    for _ in range(60):
        pairs = [([1.5 * draw.gauss(1, 0.03)] * 5, [draw.gauss(1, 0.03)] * 5) for _ in range(8)]
        found = speed.speedup(pairs)
        held += found["low"] <= 1.5 <= found["high"]
    assert 51 <= held <= 60


def test_a_round_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="without samples"):
        speed.speedup([([1.0], []), ([1.0], [1.0]), ([1.0], [1.0])])


def planned(**exporter: Any) -> Any:
    """The chain of a timed cell whose model its exporter's family may or may not run itself."""
    families = {"exporter": factory.family("exporter", **exporter)}
    return factory.planner(families=families).plan([factory.cell(attributes=Attributes(measure=True))]).chains[0]


def test_a_model_without_a_framework_is_held_against_its_reference() -> None:
    """An ONNX file: against ONNX Runtime, on the file that the cell's own exporter wrote, in the reference's stack."""
    chain = planned(adapter="fake")
    assert chain.speedup is not None
    baseline = chain.speedup.data["baseline"]
    assert baseline.data["build"].needs == (chain.export,)
    assert baseline.environment is chain.exporter
    assert (baseline.data["precision"], baseline.data["options"]) == ("fp32", {})
    assert (baseline.memory, baseline.seconds) == (chain.run.memory, chain.run.seconds) != (0, 0), "the cell's limits"
    assert chain.speedup.data["of"] == "no framework: ONNX Runtime on the CPU in FP32, its reference"


def test_where_nothing_runs_the_model_itself_there_is_no_baseline() -> None:
    assert planned(adapter=None).no_baseline == "model runs in its own framework in no stack of this cell"
    chain = planned(adapter="fake", device="cuda")
    assert chain.no_baseline == "model has no framework of its own, and its reference runs on cuda, not on cpu"


def script(slow: float, fast: float, fail: str = "") -> Any:
    """Jobs whose windows hold one time: eager's `slow`, the engine's `fast`."""

    def answer(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "export" and job.get("takes") == "module":
            (folder / "module.safetensors").write_text("weights")
            return {"model": "module.safetensors", **fake.GRAPH}
        if stage == "measure" and job["method"].get("windows") == 1:
            mode = job["options"].get("mode", "engine")
            if fail == mode:
                return {
                    "error": {"stage": "load", "type": "RuntimeError", "message": "no more memory", "traceback": ""}
                }
            samples = [slow if mode == "eager" else fast] * 30
            (folder / "samples.json").write_text(json.dumps({"unit": "s", "windows": [samples]}))
            return {"settled": True, "median": samples[0], "samples_file": "samples.json", "windows": [], "samples": 30}
        return fake.well(stage, job, folder)

    return answer


def run(tmp_path: Path, answer: Any) -> tuple[dict[str, Any], fake.World]:
    stack = factory.stack("exporter", "torch")
    family = factory.family("torch", takes="module", adapter="torch", exporter="torch", precision={"fp32": "flag"})
    planner = factory.planner(stack, families={"torch": family})
    planner.reference_stacks = {"model": stack}
    cell = factory.cell(attributes=Attributes(measure=True))
    plan, store, world = planner.plan([cell]), Store(tmp_path / "artifacts"), fake.World(answer)
    reconcile(plan, store.light(), store.root / "objects")
    local = Local(plan, store, world, fake.Listener(), run="run", jobs=1, cores=2)
    local.run()
    chain = plan.chains[0]
    steps = [*chain.steps(), *(need for step in chain.steps() for need in step.needs)]
    return outcome(chain, store.steps(s.key for s in steps if s.key), local.infrastructure, "", lambda path: ""), world


def test_the_report_has_the_speed_up_and_its_baseline(tmp_path: Path) -> None:
    cell, world = run(tmp_path, script(0.004, 0.001))
    assert cell["status"] == "verified"
    measure = cell["measure"]
    assert measure["speedup"]["ratio"] == pytest.approx(4.0)
    assert measure["baseline"]["median"] == pytest.approx(0.004)
    assert measure["baseline"]["stack"].startswith("torch")
    assert measure["baseline"]["of"] == "torch itself, eager, in FP32"
    assert measure["no_baseline"] is None
    turns = [name for stage, name, job in world.jobs if stage == "measure" and job["method"].get("windows") == 1]
    assert len(turns) == 2 * speed.ROUNDS
    assert turns[:4] == [turns[0], turns[1], turns[1], turns[0]], "in turns, the order turned round each time"
    assert all(job["threads"] == 2 for stage, _, job in world.jobs if stage == "measure")


def test_a_baseline_that_fails_is_no_failure_of_the_cell(tmp_path: Path) -> None:
    cell, _ = run(tmp_path, script(0.004, 0.001, fail="eager"))
    assert cell["status"] == "verified"
    assert cell["measure"]["median"] == 0.001
    assert cell["measure"]["speedup"] is None
    assert "timing the baseline beside the other failed: no more memory" in cell["measure"]["no_baseline"]


def test_a_baseline_that_leaves_no_samples_is_no_failure_of_the_cell(tmp_path: Path) -> None:
    def answer(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = script(0.004, 0.001)(stage, job, folder)
        found.pop("samples_file", None)
        return found

    cell, _ = run(tmp_path, answer)
    assert (cell["status"], cell["measure"]["speedup"]) == ("verified", None)
    assert "no samples of a timing" in cell["measure"]["no_baseline"]


def test_with_nothing_changed_nothing_is_compared_again(tmp_path: Path) -> None:
    run(tmp_path, script(0.004, 0.001))
    cell, world = run(tmp_path, script(0.004, 0.001))
    assert world.jobs == []
    assert cell["measure"]["speedup"]["ratio"] == pytest.approx(4.0)
