"""The outcome lattice: every way a cell can end, through the real plan, store and scheduler."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import factory
import fake
import pytest

from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.execute.local import Local
from builder.outcome import expectation, outcome, unexpected
from builder.plan import reconcile
from builder.store import Store
from builder.values import Attributes, Cell, Expect


def result(
    tmp_path: Path, script: fake.Script = fake.well, cell: Cell | None = None, **world_values: Any
) -> dict[str, Any]:
    world = fake.World(script)
    families = world_values.pop("families", None)
    not_run = world_values.pop("not_run", "")
    for name, value in world_values.items():
        setattr(world, name, value)
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(families=families).plan([cell or factory.cell()])
    reconcile(plan, store.light(), store.root / "objects")
    local = Local(plan, store, world, fake.Listener(), run="run", jobs=1, cores=1)
    if not not_run:
        local.run()
    chain = plan.chains[0]
    records = store.steps(step.key for step in chain.steps() if step.key)

    def log(path: str) -> str:
        return (store.root / path).read_text() if path else ""

    return outcome(chain, records, local.infrastructure, not_run, log)


def failing(stage: str, answer: dict[str, Any]) -> fake.Script:
    def script(asked: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        return answer if asked == stage else fake.well(asked, job, folder)

    return script


def error(stage: str, message: str = "RuntimeError: it broke") -> dict[str, Any]:
    return {"error": {"stage": stage, "type": "RuntimeError", "message": message, "traceback": ""}}


def test_verified_only_where_a_comparison_matched(tmp_path: Path) -> None:
    found = result(tmp_path)
    assert (found["status"], found["comparison"]["verdict"], found["line"]) == ("verified", "match", None)
    assert [entry["state"] for entry in found["stages"]] == ["ok"] * len(found["stages"])
    assert found["files"]["model"].endswith(".onnx")


@pytest.mark.parametrize(
    "comparison", [{}, {"verdict": "none", "reason": ""}, {"verdict": "mismatch", "reason": "cosine 0.3"}]
)
def test_no_match_is_never_verified(tmp_path: Path, comparison: dict[str, Any]) -> None:
    found = result(tmp_path, failing("run", {"comparison": comparison, "degraded": []}))
    assert found["status"] == "mismatch"
    assert found["line"] in ("cosine 0.3", "no comparison was formed")


def test_not_what_was_asked_is_degraded_with_both(tmp_path: Path) -> None:
    entry = {"asked": "fp16", "got": "fp32", "how": "casts around 40 of 41 nodes"}
    found = result(tmp_path, failing("run", {"comparison": fake.MATCH, "degraded": [entry]}))
    assert (found["status"], found["category"], found["degraded"]) == ("degraded", "precision-fallback", [entry])
    assert "asked fp16, got fp32" in found["reason"]


@pytest.mark.parametrize("asked", ["CUDAExecutionProvider", "delegate xnnpack", "GPU", "dla"])
def test_who_does_the_work_is_another_fallback_than_the_precision(tmp_path: Path, asked: str) -> None:
    entry = {"asked": asked, "got": "the CPU", "how": "by the session's profile"}
    found = result(tmp_path, failing("run", {"comparison": fake.MATCH, "degraded": [entry]}))
    assert (found["status"], found["category"]) == ("degraded", "silent-fallback")
    assert "Install what the device" in found["remedy"]


def test_another_opset_than_asked_is_degraded(tmp_path: Path) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        answer = fake.well(stage, job, folder)
        return {**answer, "opset": 18} if stage == "export" else answer

    found = result(tmp_path, script)
    assert (found["status"], found["category"]) == ("degraded", "opset-changed")
    assert found["line"].startswith("asked opset 17, got opset 18")


def test_a_wrong_answer_outranks_a_degraded_one(tmp_path: Path) -> None:
    entry = {"asked": "fp16", "got": "fp32", "how": "casts"}
    found = result(
        tmp_path, failing("run", {"comparison": {"verdict": "mismatch", "reason": "x"}, "degraded": [entry]})
    )
    assert found["status"] == "mismatch"
    assert found["degraded"] == [entry]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ({"signal": 11, "name": "SIGSEGV"}, "crashed"),
        ({"timeout": 120.0}, "timeout"),
        ({"memory": 1 << 30}, "out-of-memory"),
    ],
)
@pytest.mark.parametrize("stage", ["export", "build", "run"])
def test_how_it_died_is_its_status_at_every_stage(tmp_path: Path, stage: str, end: dict[str, Any], status: str) -> None:
    found = result(tmp_path, failing(stage, {"end": end}))
    assert found["status"] == status
    assert found["category"]
    assert found["stage"] == stage


@pytest.mark.parametrize("stage", ["export", "parse", "build", "load", "run", "compare"])
def test_a_failure_names_its_stage_and_line(tmp_path: Path, stage: str) -> None:
    job = {"parse": "build", "load": "run", "compare": "run"}.get(stage, stage)
    found = result(tmp_path, failing(job, error(stage, "no kernel for GridSample(20)")))
    assert (found["status"], found["stage"]) == ("failed", stage)
    assert "GridSample" in found["line"]
    failed = [entry["stage"] for entry in found["stages"] if entry["state"] == "failed"]
    assert failed == [stage]
    after = [entry["state"] for entry in found["stages"]][[e["stage"] for e in found["stages"]].index(stage) + 1 :]
    assert set(after) <= {"not-reached"}


def test_a_failed_conversion_is_the_cells_own_failure(tmp_path: Path) -> None:
    found = result(tmp_path, failing("convert", error("convert")), factory.cell(precision="fp16"))
    assert (found["status"], found["stage"]) == ("failed", "export")


def test_a_failed_reference_blocks_and_says_so(tmp_path: Path) -> None:
    found = result(tmp_path, failing("reference", error("reference")))
    assert found["status"] == "blocked"
    assert found["reason"].startswith("reference model static")
    assert found["category"] != "infrastructure"
    assert unexpected({**found, "expected": None}) is False


def test_built_where_nothing_here_can_load_it(tmp_path: Path) -> None:
    families = {"engine": dataclasses.replace(factory.family(), run_needs=("nvidia-gpu",))}
    found = result(tmp_path, families=families)
    assert (found["status"], found["comparison"]) == ("built", None)
    assert "NVIDIA GPU" in found["reason"]
    assert found["artifact"]["bytes"] > 0


def test_skipped_where_the_machine_cannot(tmp_path: Path) -> None:
    families = {"engine": dataclasses.replace(factory.family(), needs=("nvidia-gpu",))}
    found = result(tmp_path, families=families)
    assert found["status"] == "skipped"
    assert "NVIDIA GPU" in found["reason"]


def test_a_dead_network_blocks_and_is_infrastructure(tmp_path: Path) -> None:
    broken = {factory.stack().id: InfrastructureError("dns error")}
    found = result(tmp_path, broken=broken)
    assert (found["status"], found["category"]) == ("blocked", "infrastructure")
    assert "dns error" in found["reason"]


def test_packages_that_do_not_fit_fail_at_the_environment(tmp_path: Path) -> None:
    text = "Because engine==1.0 has no wheels with a matching Python version tag"
    found = result(tmp_path, broken={factory.stack().id: PackageError(f"engine-1.0-py3.11: {text}", text)})
    assert (found["status"], found["stage"]) == ("failed", "environment")
    assert "no wheels" in found["line"]


def test_a_missing_import_fails_and_never_skips(tmp_path: Path) -> None:
    probes = {
        factory.stack().id: {
            "modules": {"fake": {"error": "ImportError: libcudart.so.12: cannot open shared object file"}}
        }
    }
    found = result(tmp_path, probes=probes)
    assert (found["status"], found["stage"]) == ("failed", "environment")
    assert "libcudart.so.12" in found["line"]


def test_what_was_interrupted_says_so(tmp_path: Path) -> None:
    found = result(tmp_path, not_run="interrupted before it ran")
    assert (found["status"], found["reason"]) == ("skipped", "interrupted before it ran")


def test_a_timing_that_never_settled_has_no_number(tmp_path: Path) -> None:
    answer = {"settled": False, "median": 0.1, "p90": 0.2, "p99": None, "windows": [], "samples": 300}
    found = result(tmp_path, failing("measure", answer), factory.cell(attributes=Attributes(measure=True)))
    assert found["status"] == "verified"
    assert (found["measure"]["status"], found["measure"]["median"], found["measure"]["p90"]) == ("unstable", None, None)


TODAY = datetime.date(2026, 11, 21)


@pytest.mark.parametrize(
    ("status", "category", "fail", "until", "state", "red"),
    [
        ("failed", "opset", "opset", None, "expected", False),
        ("failed", "opset", "failed", None, "expected", False),
        ("failed", "unsupported_op", "opset", None, "other-failure", True),
        ("failed", "opset", "opset", "2026-11-20", "overdue", True),
        ("failed", "opset", "opset", "2026-11-21", "expected", False),
        ("verified", None, "opset", None, "fixed", False),
        ("built", None, "unsupported-opset", None, "fixed", False),
        ("crashed", "crash", "crashed", None, "expected", False),
    ],
)
def test_expectations(status: str, category: str | None, fail: str, until: str | None, state: str, red: bool) -> None:
    found: dict[str, Any] = {"status": status, "category": category, "signature": None}
    expect = Expect(fail=fail, because="known", until=until, where=factory.PLACE)
    found["expected"] = expectation(expect, found, TODAY)
    assert found["expected"]["state"] == state
    assert unexpected(found) is red


def test_built_says_nothing_of_failures_that_show_when_it_runs() -> None:
    expect = Expect(fail="accuracy", because="known", until=None, where=factory.PLACE)
    assert expectation(expect, {"status": "built", "category": None, "signature": None}, TODAY) is None


@pytest.mark.parametrize("status", ["skipped", "blocked", "unsupported"])
def test_nothing_learnt_is_neither_expected_nor_fixed(status: str) -> None:
    expect = Expect(fail="opset", because="known", until=None, where=factory.PLACE)
    assert expectation(expect, {"status": status, "category": None, "signature": None}, TODAY) is None
