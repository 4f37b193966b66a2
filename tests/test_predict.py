"""What the facts say of a cell before it runs, and what happens to a fact that a run refutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import factory
import fake
import pytest

from builder import predict
from builder.execute.local import Local
from builder.machine import Gpu
from builder.outcome import outcome
from builder.plan import reconcile
from builder.predict import Claim, Prediction, Predictor
from builder.predict_score import SHOWS, refuted, score, seen, shown
from builder.report.predictions import headline, lines
from builder.store import Store
from builder.values import STAGES, Cell, Requirement, Stack

FAMILIES = {
    "onnxruntime": factory.family("onnxruntime", adapter="onnxruntime"),
    "openvino": factory.family("openvino", adapter="openvino"),
    "tensorrt": factory.family("tensorrt", adapter="tensorrt", device="cuda"),
    "tensorrt-rtx": factory.family("tensorrt-rtx", adapter="tensorrt", device="cuda"),
    "ngc-tensorrt": factory.family("ngc-tensorrt", adapter="tensorrt", device="cuda"),
    "torch": factory.family("torch", exporter="torch"),
    "tensorflow": factory.family("tensorflow", exporter="tensorflow"),
    "onnx": factory.family("onnx", exporter="onnx"),
}
H200 = replace(
    factory.MACHINE, driver="580.65.06", cuda="13.0",
    gpus=(Gpu(name="NVIDIA H200", compute_capability="9.0", memory=1 << 37, uuid="GPU-1"),),
)  # fmt: skip


def stack(
    role: Any, family: str, facts: dict[str, str] | None = None, requirements: tuple[str, ...] = (), **fields: str
) -> Stack:
    return Stack(
        role=role, entry=family, family=family, fields=fields, facts=facts or {},
        requirements=tuple(Requirement(line=line) for line in requirements),
    )  # fmt: skip


TORCH = stack("exporter", "torch", torch="2.13.0", python="3.11")
TF = stack("exporter", "tensorflow", requirements=("tf2onnx==1.17.0",), tensorflow="2.19.1", python="3.11")
ONNX = stack("exporter", "onnx", onnx="1.23.2", python="3.11")


def cell(engine: Stack, exporter: Stack = ONNX, **options: str) -> Cell:
    values = {"opset": "17", "precision": "fp32", "shapes": "static", **options}
    return replace(factory.cell(engine, **values), exporter=exporter)


def ort(version: str, python: str = "3.12", **fields: str) -> Stack:
    return stack("engine", "onnxruntime", onnxruntime=version, python=python, **fields)


def claims(item: Cell, machine: Any = factory.MACHINE, **more: Any) -> dict[str, Claim]:
    found = Predictor(FAMILIES, machine, **more).predict(item)
    return {claim.rule: claim for claim in found.claims}


# Rules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "rule", "state"),
    [
        (cell(ort("1.16.3", "3.11"), opset="17"), "opset", "supported"),
        (cell(ort("1.16.3", "3.11"), opset="21"), "opset", "unsupported"),
        (cell(ort("1.22.1"), opset="23"), "opset", "unsupported"),
        (cell(ort("1.23.2"), opset="23"), "opset", "supported"),
        (cell(ort("99.1.0"), opset="17"), "opset", "unknown"),
        (cell(stack("engine", "openvino", openvino="2025.2.0", python="3.12"), opset="17"), "opset", "supported"),
        (cell(ort("1.16.3", "3.12")), "wheel", "unsupported"),
        (cell(ort("1.16.3", "3.11")), "wheel", "supported"),
        (cell(ort("1.22.1"), TF, opset="21"), "export-opset", "unsupported"),
        (cell(ort("1.22.1"), TF, opset="17"), "export-opset", "supported"),
        (cell(ort("1.22.1"), TORCH, opset="17", **{"torch-exporter": "torchscript"}), "export-opset", "supported"),
        (cell(ort("1.22.1"), TORCH, opset="13", **{"torch-exporter": "dynamo"}), "export-opset", "unknown"),
        (cell(ort("1.17.3"), TORCH, opset="18", **{"torch-exporter": "dynamo"}), "ir", "unsupported"),
        (cell(ort("1.18.1"), TORCH, opset="18", **{"torch-exporter": "dynamo"}), "ir", "supported"),
        (cell(ort("1.17.3"), TORCH, opset="17", **{"torch-exporter": "torchscript"}), "ir", "supported"),
        (cell(ort("1.16.3", "3.11", numpy="2.2.6")), "numpy", "unsupported"),
        (cell(ort("1.20.1", "3.12", numpy="2.2.6")), "numpy", "supported"),
        (cell(stack("engine", "tensorrt-rtx", **{"tensorrt-rtx": "1.4.0.76"}, cuda="12", python="3.12"), target="sm70"),
         "gpu", "unsupported"),
        (cell(stack("engine", "tensorrt", tensorrt="11.0.0.114", cuda="13", python="3.12"), precision="fp8", target="sm80"),
         "precision", "unsupported"),
        (cell(stack("engine", "tensorrt", tensorrt="10.9.0.34", cuda="12", python="3.12"), precision="fp8", target="sm89"),
         "precision", "supported"),
        (cell(stack("engine", "ngc-tensorrt", {"tensorrt": "8.6.1.6", "cuda": "12.3"}, release="24.01"), target="sm60"),
         "precision", "supported"),
    ],
)  # fmt: skip
def test_a_rule_answers_from_the_catalog(item: Cell, rule: str, state: str) -> None:
    claim = claims(item)[rule]
    assert (claim.state, claim.predicts) == (state, state)
    assert claim.because
    if state != "unknown":
        assert claim.facts and all(fact.sources for fact in claim.facts)
    assert bool(claim.change) == (state == "unsupported")


@pytest.mark.parametrize("name", ["opset", "torch-exporter", "precision", "target"])
def test_cells_that_differ_in_what_a_rule_reads_are_asked_about_apart(name: str) -> None:
    """One predictor answers cells of the same question once."""
    rtx = stack("engine", "tensorrt-rtx", **{"tensorrt-rtx": "1.4.0.76"}, cuda="12", python="3.12")
    base = cell(rtx, TORCH, **{"torch-exporter": "torchscript", "target": "sm75"})
    other = {"opset": "21", "torch-exporter": "dynamo", "precision": "fp8", "target": "sm120"}[name]
    one = Predictor(FAMILIES, factory.MACHINE)
    first, second = (one.predict(it).claims for it in (base, replace(base, options={**base.options, name: other})))
    assert {claim.subject for claim in first} != {claim.subject for claim in second}
    assert one.predict(replace(base, options={**base.options, "shapes": "dynamic"})).claims == first


def test_what_would_have_to_change_names_a_release_and_an_opset() -> None:
    claim = claims(cell(ort("1.16.3", "3.11"), opset="21"))["opset"]
    assert claim.change == "export with opset 19 or lower, or take onnxruntime 1.18"
    assert claims(cell(ort("1.16.3", "3.12")))["wheel"].change.startswith(
        "take Python 3.8, 3.9, 3.10, 3.11, or onnxruntime 1.17"
    )


def test_what_a_gpu_has_is_not_yet_what_a_library_has() -> None:
    """TensorRT for RTX before 1.7 builds no INT8 convolution, on GPUs that have INT8."""
    rtx = stack("engine", "tensorrt-rtx", **{"tensorrt-rtx": "1.5.0.114"}, cuda="12", python="3.12")
    assert claims(cell(rtx, precision="int8", target="sm80"))["precision"].state == "unknown"
    assert claims(cell(rtx, precision="fp8", target="sm75"))["precision"].state == "unsupported"


def test_advice_names_what_exists() -> None:
    assert claims(cell(ort("1.22.1"), TF, opset="21"))["export-opset"].change == "ask for opset 18 or lower"
    assert "take onnxruntime 1.19" in claims(cell(ort("1.16.3", "3.11", numpy="2.2.6")))["numpy"].change


def test_without_a_target_this_machines_gpus_and_driver_are_asked_about() -> None:
    item = cell(stack("engine", "tensorrt", tensorrt="8.4.1.5", cuda="11", python="3.10"))
    here = claims(item, H200)
    assert here["gpu"].state == "unsupported" and "9.0" in here["gpu"].subject
    assert here["driver"].state == "supported" and "580.65.06" in here["driver"].subject
    assert not {"gpu", "driver", "precision"} & set(claims(item)), "a machine without a GPU is not asked about one"
    old = replace(H200, driver="470.57.02")
    newer = cell(stack("engine", "tensorrt", tensorrt="10.9.0.34", cuda="12", python="3.12"))
    geforce = replace(
        old, gpus=(Gpu(name="NVIDIA GeForce RTX 3090", compute_capability="8.6", memory=1 << 34, uuid="GPU-2"),)
    )
    assert claims(newer, geforce)["driver"].state == "unsupported"


def test_of_several_kinds_of_gpu_only_what_holds_of_all_is_said() -> None:
    """Which of them an engine is built on is CUDA's choice; a cell that works on one refutes nothing of the other."""
    old = Gpu(name="NVIDIA GeForce GTX 1080", compute_capability="6.1", memory=1 << 33, uuid="GPU-2")
    item = cell(stack("engine", "tensorrt", tensorrt="10.9.0.34", cuda="12", python="3.12"))
    both = claims(item, replace(H200, gpus=(*H200.gpus, old)))["gpu"]
    assert (both.state, both.subject) == ("unknown", "tensorrt 10.9.0.34, compute capability 6.1 or 9.0")
    assert claims(item, replace(H200, gpus=(old, old)))["gpu"].state == "unsupported"
    assert claims(item, replace(H200, gpus=H200.gpus * 4))["gpu"].subject.endswith("capability 9.0")


def test_forward_compatibility_is_of_images_that_bring_it() -> None:
    families = {**FAMILIES, "ngc-tensorrt": replace(FAMILIES["ngc-tensorrt"], isolation=("docker",))}
    here = replace(H200, driver="535.104.05")
    package = cell(stack("engine", "tensorrt", tensorrt="11.0.0.114", cuda="13", python="3.12"))
    image = cell(stack("engine", "ngc-tensorrt", {"tensorrt": "11.0.0.114", "cuda": "13"}, release="26.04"))
    found = [Predictor(families, here).predict(item).claims for item in (package, image)]
    assert [next(it for it in told if it.rule == "driver").state for told in found] == ["unknown", "supported"]


def test_a_python_that_nobody_asked_pypi_about_is_not_refused() -> None:
    tensorflow = stack("exporter", "tensorflow", tensorflow="2.19.1", python="3.14")
    found = Predictor(FAMILIES, factory.MACHINE).predict(cell(ort("1.31.1", "3.13"), tensorflow)).claims
    states = {claim.project: claim.state for claim in found if claim.rule == "wheel"}
    assert states == {"onnxruntime": "supported", "tensorflow": "unknown"}
    assert claims(cell(ort("1.23.2", "3.14")))["wheel"].state == "unsupported", "its own table names Pythons"


def test_pypis_answer_is_not_taken_for_another_package() -> None:
    plain, own = (
        stack("engine", "onnxruntime", None, (f"{name}==1.16.3",), onnxruntime="1.16.3", python="3.12")
        for name in ("onnxruntime", "onnxruntime-openvino")
    )
    assert claims(cell(plain))["wheel"].state == "unsupported"
    assert "wheel" not in claims(cell(own))


@pytest.mark.parametrize("opset", ["\u00b2", "\u0661\u0667", "latest", "", "017", "-1", "9" * 40])
def test_an_opset_that_is_no_number_is_asked_nothing(opset: str) -> None:
    assert set(claims(cell(ort("1.22.1"), opset=opset))) == {"wheel"}


def test_a_file_that_may_have_two_opsets_is_refused_only_where_both_are() -> None:
    dynamo = {"torch-exporter": "dynamo", "opset": "13"}
    assert claims(cell(ort("1.22.1"), TORCH, **dynamo))["opset"].state == "supported"
    assert claims(cell(ort("1.10.0", "3.9"), TORCH, **dynamo))["opset"].state == "unknown", (
        "1.10 takes 13 and refuses 18"
    )


def test_an_unknown_rule_keeps_a_cell_from_being_supported() -> None:
    yes, no, open_ = (
        Claim(rule="opset", subject=state, state=state, because=state)  # type: ignore[arg-type]
        for state in ("supported", "unsupported", "unknown")
    )
    assert Prediction(claims=(yes,)).state == "supported"
    assert Prediction(claims=(yes, open_)).state == "unknown"
    assert Prediction(claims=(yes, open_, no)).state == "unsupported"
    assert Prediction(claims=()).state == "unknown", "nobody said anything"


def test_a_refuted_fact_predicts_nothing_and_a_corrected_one_speaks_again() -> None:
    item = cell(ort("1.16.3", "3.11"), opset="21")
    plain = claims(item)["opset"]
    against = claims(item, refuted={plain.key: "cell 1 was verified"})["opset"]
    assert (against.state, against.predicts, against.refuted) == ("unsupported", "unknown", "cell 1 was verified")
    assert against.key == plain.key
    assert replace(plain, because="the corrected fact").key != plain.key


def test_every_rule_says_where_it_would_show() -> None:
    assert set(SHOWS) == set(predict.RULES)
    from builder.diagnose_catalog import catalog

    assert {it for shows in SHOWS.values() for it in shows.categories} <= set(catalog().categories)
    known = {signature.id for signature in catalog().signatures}
    assert {it for shows in SHOWS.values() for it in shows.signatures} <= known


# Scores --------------------------------------------------------------------------------------------------------------


STEPS = (
    ("environment", "environment"), ("environment", "environment"), ("export", "export"), ("build", "parse"), ("build", "build"),
    ("run", "load"), ("run", "run"), ("run", "compare"),
)  # fmt: skip


def result(
    status: str, stage: str = "compare", category: str | None = None, name: str = "c1", *, got: str = "", **more: Any
) -> dict[str, Any]:
    """A cell that got to a stage; `got`: the opset that was written in place of 17."""
    place = STAGES.index("environment" if stage == "resolve" else stage)
    stages = [
        {"step": step, "stage": it, "state": "ok" if STAGES.index(it) < place else "not-reached"} for step, it in STEPS
    ]
    for entry in stages:
        if STAGES.index(entry["stage"]) == place:
            entry["state"] = "failed" if status in ("failed", "crashed") else "ok"
    if stage in ("resolve", "environment"):  # by default it is the engine's that fails
        stages[0]["state"] = "ok"
    changed = [{"asked": "opset 17", "got": f"opset {got}", "how": "written by the exporter without an error"}]
    return {
        "id": name, "status": status, "stage": stage, "category": category, "when": "2026-11-21T10:00:00Z", "signature": None,
        "line": None, "stages": stages, "degraded": changed if got else [],
        "exporter": {"family": "onnx"}, "engine": {"family": "onnxruntime"}, **more,
    }  # fmt: skip


def about(rule: str, **more: Any) -> Claim:
    default = {"project": "onnxruntime"} if rule == "wheel" else {}
    return Claim(rule=rule, subject="x 1", state="supported", because="it is written", **{**default, **more})


TILL = "Current official support for domain {} is till opset 3."
NO_WHEEL = {
    "signature": "wheel-tag-mismatch",
    "line": "Because onnxruntime==1.16.3 has no wheels with a matching Python ABI",
}


@pytest.mark.parametrize(
    ("rule", "found", "expected"),
    [
        ("opset", result("verified"), "held"),
        ("opset", result("mismatch", category="accuracy"), "held"),
        ("opset", result("failed", "parse", "unsupported-opset"), "failed"),
        ("opset", result("failed", "parse", "unsupported-opset", line=TILL.format("ai.onnx")), "failed"),
        ("opset", result("failed", "parse", "unsupported-opset", line=TILL.format("ai.onnx.ml")), "open"),
        ("opset", result("failed", "export", "unsupported-opset"), "open"),
        ("opset", result("failed", "build", "unsupported-operator"), "open"),
        ("opset", result("failed", "run", "memory"), "held"),
        ("export-opset", result("failed", "export", "unsupported-opset"), "failed"),
        ("export-opset", result("failed", "export", "memory"), "open"),
        ("export-opset", result("failed", "parse", "unsupported-opset"), "held"),
        ("export-opset", result("degraded", "measure", "opset-changed", got="18"), "failed"),
        ("export-opset", result("failed", "parse", "unsupported-ir", got="18"), "failed"),
        ("export-opset", result("mismatch", category="accuracy", got="18"), "failed"),
        ("opset", result("skipped", "environment"), "open"),
        ("opset", result("unsupported", "resolve"), "open"),
        ("opset", result("blocked", "environment", "network"), "open"),
        ("driver", result("built", "build"), "open"),
        ("driver", result("degraded", "build", "opset-changed", got="18"), "open"),
        ("gpu", result("built", "build"), "held"),
        ("gpu", result("degraded", "build", "opset-changed", got="18"), "held"),
        ("numpy", result("crashed", "run", "python-abi"), "failed"),
        ("numpy", result("failed", "environment", "python-abi"), "failed"),
        ("wheel", result("failed", "resolve", "packaging", **NO_WHEEL), "failed"),
        ("wheel", result("failed", "export", "unsupported-opset"), "held"),
    ],
)  # fmt: skip
def test_what_an_outcome_shows_of_a_rule(rule: str, found: dict[str, Any], expected: str) -> None:
    assert seen(about(rule), found) == expected


def test_what_one_stack_lacks_is_not_said_of_the_other() -> None:
    """A cell has two environments; the exporter's was made, or never tried, while the engine's could not be resolved."""
    found = result("failed", "resolve", "packaging", **NO_WHEEL)
    assert [seen(about("wheel", project=it), found) for it in ("onnx", "onnxruntime")] == ["held", "failed"]
    found["stages"][0]["state"] = "not-reached"
    assert seen(about("wheel", project="onnx"), found) == "open"
    found["stages"][0]["state"] = "failed"  # then the error that is told is the exporter's
    assert seen(about("wheel"), found) == "open"
    assert seen(about("wheel", project="onnx"), found) == "open", (
        "onnxruntime is another project, whatever its name begins with"
    )
    torch = result("failed", "environment", "python-abi", line="numpy.dtype size changed")
    torch["stages"][0]["state"], torch["stages"][1]["state"] = "failed", "not-reached"
    assert seen(about("numpy"), torch) == "open", "torch was not built for this NumPy"


@pytest.mark.parametrize(
    "more",
    [
        {"signature": "newer-than-cutoff", "line": "Because there is no version of onnxruntime==1.31.1"},
        {"signature": "requirements-conflict", "line": "Because onnxruntime==1.31.1 depends on numpy>=2"},
        {
            "signature": "no-usable-wheels",
            "line": "onnxruntime-1.16.3-py3.13: Because numpy==1.21.0 has no usable wheels",
        },
    ],
)
def test_other_troubles_of_packages_are_not_a_missing_wheel(more: dict[str, Any]) -> None:
    assert seen(about("wheel"), result("failed", "resolve", "packaging", **more)) == "open"


def test_a_file_of_another_opset_shows_nothing_of_the_one_that_was_meant() -> None:
    refused = result("failed", "parse", "unsupported-opset", got="18")
    ran = result("degraded", "compare", "opset-changed", got="18")
    assert [seen(about("opset", opsets=(17,)), it) for it in (refused, ran)] == ["open", "open"]
    assert [seen(about("opset", opsets=(17, 18)), it) for it in (refused, ran)] == ["failed", "held"]
    assert seen(about("ir", opsets=(17,)), result("failed", "parse", "unsupported-ir", got="18")) == "open"


def test_a_precision_that_fell_back_did_so_whatever_else_is_not_as_asked() -> None:
    fell = {"asked": "fp16", "got": "fp32", "how": "computed so on this CPU"}
    found = result("degraded", "compare", "opset-changed", got="18")
    assert seen(about("precision"), found) == "held"
    assert seen(about("precision"), {**found, "degraded": [*found["degraded"], fell]}) == "failed"


def scored(state: Any, *found: dict[str, Any], told: str = "") -> dict[str, Any]:
    claim = Claim(rule="opset", subject="x 1, ONNX opset 9", state=state, because="it is written", refuted=told)
    return score({it["id"]: Prediction(claims=(claim,)) for it in found}, found)


def test_predictions_are_scored_by_rule_and_wrong_facts_are_named() -> None:
    good = scored("supported", result("verified", name="a"), result("failed", "build", "memory", name="b"))
    assert good["rules"][0]["supported"] == {"held": 1, "failed": 0, "open": 1}
    assert (good["refuted"], good["claims"][0]["verdict"]) == ([], "confirmed")
    assert "(0 fail for that reason)" in headline(good)

    bad = scored("supported", result("verified", name="a"), result("failed", "parse", "unsupported-opset", name="b"))
    assert bad["claims"][0]["verdict"] == "refuted" and bad["claims"][0]["evidence"] == ["b"]
    assert "(1 fail for that reason)" in headline(bad)
    assert any("x 1, ONNX opset 9 was predicted supported" in line and "b" in line for line in lines(bad))

    works = scored("unsupported", result("verified", name="a"))
    told = refuted(works, [result("verified", name="a")])
    assert list(told.values()) == [("a", "cell a was verified on 2026-11-21")]
    fails = scored("unsupported", result("failed", "parse", "unsupported-opset", name="a"))
    assert (fails["claims"][0]["verdict"], refuted(fails, [])) == ("confirmed", {})
    assert scored("unknown", result("failed", "parse", "unsupported-opset", name="a"))["refuted"] == []


def test_the_figures_say_that_a_refuted_fact_predicts_nothing() -> None:
    told = headline(scored("unsupported", result("verified"), told="cell 1 was verified"))
    assert told.endswith(
        "0 unsupported (1 work all the same), 1 unknown; refuted before, so that it predicts nothing: 1"
    )
    assert "refuted before" not in headline(scored("unsupported", result("verified")))


def test_what_a_run_refuted_is_remembered_until_its_cell_shows_otherwise(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    assert store.refuted() == {}
    store.put_refuted({"k1": ("a", "seen"), "k2": ("b", "seen")})
    store.put_refuted({"k3": ("c", "seen")})
    assert set(Store(tmp_path).refuted()) == {"k1", "k2", "k3"}
    store.put_refuted({"k4": ("a", "seen")}, ["k1", "unheard-of"])
    other.put_refuted({}, ["k4"])
    assert set(store.refuted()) == {"k2", "k3"}


def test_two_runs_that_refute_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run writes between this one's look and its write."""
    store, other = Store(tmp_path), Store(tmp_path)
    store.put_refuted({"k1": ("a", "seen")})
    look = store.refuted

    def late() -> dict[str, tuple[str, str]]:
        found = look()
        monkeypatch.undo()
        other.put_refuted({"theirs": ("b", "seen")})
        return found

    monkeypatch.setattr(store, "refuted", late)
    store.put_refuted({"mine": ("c", "seen")}, ["k1"])
    assert set(store.refuted()) == {"mine", "theirs"}


def test_what_did_not_run_takes_nothing_back() -> None:
    claim = about("opset")
    remembered = {claim.key: ("c1", "cell c1 failed"), "gone": ("c1", "a fact that was corrected")}
    predictions = {"c1": Prediction(claims=(claim,))}
    for found in (
        result("skipped", "environment"),
        result("failed", "build", "memory"),
        result("blocked", "environment"),
    ):
        assert shown(remembered, predictions, [found]) == set()
    assert shown(remembered, predictions, [result("verified")]) == {claim.key}
    assert shown(remembered, predictions, []) == set(), "it was not selected"


# What becomes of cells -------------------------------------------------------------------------------------------------


CLAIM = Claim(
    rule="opset",
    subject="engine 1.0, ONNX opset 21",
    state="unsupported",
    because="it takes up to 19",
    change="take 2.0",
)
ENGINES = [factory.stack(version="1.1"), factory.stack(version="1.0")]  # the fakes say that they are 1.0


def planned(tmp_path: Path, cells: list[Cell], against: dict[str, Claim]) -> Any:
    planner = factory.planner(*ENGINES)
    planner.against = against
    plan = planner.plan(cells)
    store = Store(tmp_path / "artifacts")
    reconcile(plan, store.light(), store.root / "objects")
    return plan, store


def go(plan: Any, store: Store, script: Any = fake.well) -> None:
    assert Local(plan, store, fake.World(script), fake.Listener(), run="run", jobs=1, cores=1).run()


def told(plan: Any, store: Store, place: int) -> dict[str, Any]:
    chain = plan.chains[place]
    records = store.steps(step.key for step in plan.steps if step.key)
    return outcome(chain, records, {}, "not run", lambda path: "")


def test_what_cannot_work_is_left_alone_and_carries_its_fact(tmp_path: Path) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    plan, store = planned(tmp_path, cells, {cells[0].id: CLAIM})
    go(plan, store)
    left, ran = told(plan, store, 0), told(plan, store, 1)
    assert (left["status"], left["stage"], left["artifact"]) == ("unsupported", "resolve", None)
    assert CLAIM.subject in left["reason"] and left["remedy"].startswith("Take 2.0")
    assert ran["status"] == "verified"
    assert not plan.chains[0].build.wanted
    again, _ = planned(tmp_path, cells, {cells[0].id: CLAIM})
    assert not again.todo(), "left alone is left alone"


def test_what_was_tried_has_the_outcome_of_what_happened(tmp_path: Path) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    go(*planned(tmp_path, cells, {}))
    plan, store = planned(tmp_path, cells, {cells[1].id: CLAIM})
    assert told(plan, store, 1)["status"] == "verified" and not plan.todo()
    keys = {chain.key() for chain in plan.chains}
    plain, _ = planned(tmp_path, cells, {})
    assert {chain.key() for chain in plain.chains} == keys, "a prediction that does nothing changes nothing"


def test_a_step_that_fails_for_another_cell_shows_what_happens(tmp_path: Path) -> None:
    """Both cells share the export: that it fails was observed, and an observation is better than a fact."""

    def broken(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "export":
            return {"error": {"stage": "export", "type": "E", "message": "no"}}
        return fake.well(stage, job, folder)

    cells = [factory.cell(engine) for engine in ENGINES]
    plan, store = planned(tmp_path, cells, {cells[0].id: CLAIM})
    go(plan, store, broken)
    assert [told(plan, store, place)["status"] for place in (0, 1)] == ["failed", "failed"]


def test_a_reference_that_fails_tries_nothing(tmp_path: Path) -> None:
    """It is the model's, whatever the engine: nothing was seen of a cell that was left alone."""

    def broken(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "reference":
            return {"error": {"stage": "export", "type": "E", "message": "no"}}
        return fake.well(stage, job, folder)

    cells = [factory.cell(engine) for engine in ENGINES]
    plan, store = planned(tmp_path, cells, {cells[0].id: CLAIM})
    go(plan, store, broken)
    assert [told(plan, store, place)["status"] for place in (0, 1)] == ["unsupported", "blocked"]
    again, _ = planned(tmp_path, cells, {cells[0].id: CLAIM})
    assert not again.todo()
    assert told(again, store, 0)["status"] == "unsupported"
