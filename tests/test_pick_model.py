"""A model in a question: its opset and IR version, its file, and the runs that are of it and those that are not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import enginefiles
import pytest
from picking import JUDGE, QUESTION, STACKS, ask, first, picked, project_in, run, seen, state, stored

from builder import pick_evidence, pick_model
from builder.errors import UsageError
from builder.pick_judge import Question
from builder.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path)


def verdict(stack: str, **asked: int) -> Any:
    return JUDGE.verdicts(STACKS[stack], Question(**asked))[0]  # type: ignore[arg-type]


# Opset and IR version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "opset", "expected"),
    [
        ("onnxruntime-1.16.3", 19, "supported"),
        ("onnxruntime-1.16.3", 20, "unsupported"),
        ("onnxruntime-1.16.3", 3, "unknown"),  # below what is documented
        ("onnxruntime-gpu-1.20-cuda12", 21, "supported"),
        ("onnxruntime-gpu-1.20-cuda12", 22, "unsupported"),
        ("tensorrt-11.4.0.106-cuda12", 24, "supported"),
        ("tensorrt-8.6.1-cuda12", 21, "unknown"),  # its parser refuses operators, not opsets
        ("tensorrt-rtx-1.7.1.116-cuda12", 17, "supported"),
        ("tritonserver:24.10-py3", 17, "unknown"),  # which TensorRT it holds is not recorded
        ("torch-2.13.0", 17, "unsupported"),  # takes no ONNX models
    ],
)
def test_opsets(stack: str, opset: int, expected: str) -> None:
    found = verdict(stack, opset=opset)
    assert found.state == expected
    if expected != "unknown":
        assert found.facts and all(fact.sources for fact in found.facts)


def test_what_is_not_recorded_says_what_is() -> None:
    assert "whether tensorrt 8.6.1 takes opset 21 is not recorded; tensorrt 8.6 takes ONNX opsets" in verdict(
        "tensorrt-8.6.1-cuda12", opset=21).because  # fmt: skip
    assert "is not known to hold anything that takes ONNX models" in verdict("torch-2.13.0", opset=17).because


def test_an_image_is_judged_by_what_it_holds() -> None:
    found = verdict("tensorrt:26.07-py3", opset=17)
    assert found.state == "supported"
    assert found.because.startswith("tensorrt:26.07-py3 holds tensorrt 11.")
    assert found.facts[-1].text.startswith("tensorrt:26.07-py3 holds"), "the image's contents are a fact of it, too"


@pytest.mark.parametrize(("ir", "expected"), [(9, "supported"), (10, "unsupported")])
def test_ir_versions(ir: int, expected: str) -> None:
    assert verdict("onnxruntime-1.16.3", ir=ir).state == expected
    assert verdict("openvino-2024.6.0", ir=ir).state == "unknown"


def test_another_opset_is_written_with_another_ir_version() -> None:
    """One that ONNX Runtime 1.16 takes: opset 21 came with IR version 10, opset 19 with 9."""
    found = picked(ask(needs="onnxruntime==1.16.3", opset=21, ir=10))
    assert [item.requirement.key for item in found.conflicts] == ["need:onnxruntime", "opset"]
    assert found.conflicts[1].relax == "convert or export the model to opset 19"
    assert "IR version" not in found.conflicts[1].relax


def test_what_is_known_to_take_the_opset_comes_first() -> None:
    """No IR version of TensorRT is recorded, so that every release of it is unknown: those of a known opset come first."""
    found = picked(ask("RTX 4090", "tensorrt", opset=21, ir=10)).choices
    states = [
        dict(zip(("gpu", "need", "opset", "ir"), (v.state for v in c.verdicts), strict=True))["opset"] for c in found
    ]
    assert {choice.evidence.of for choice in found} == {"unknown"}
    assert set(states) == {"supported", "unknown"} and states == sorted(states)


def test_a_run_at_that_opset_beats_the_documents() -> None:
    question = ask(needs="onnxruntime==1.16.3", opset=20)
    assert picked(question).choices == ()
    ran = seen("onnxruntime-1.16.3", gpus=(), driver="", opset="20")
    choice = first(question, ran)
    assert (choice.evidence.of, choice.verdicts[1].state) == ("verified", "supported")
    assert "against the facts: onnxruntime 1.16 takes ONNX opsets 7 to 19" in choice.verdicts[1].because
    assert picked(question, seen("onnxruntime-1.16.3", gpus=(), driver="", opset="17")).choices == ()


# Runs of the model, and of others -------------------------------------------------------------------------------------

MINILM = Question(gpu=QUESTION.gpu, needs=QUESTION.needs, model="minilm")


def test_runs_of_the_model_verify_it() -> None:
    choice = first(MINILM, seen(model="minilm"), seen(cell="c2", model="resnet50"))
    assert (choice.evidence.of, choice.evidence.verified, choice.evidence.tried) == ("verified", 1, 1)
    assert choice.evidence.notes == ()


def test_runs_of_other_models_do_not() -> None:
    choice = first(MINILM, seen(), seen(cell="c2", model="encoder"))
    assert choice.evidence.of == "verified elsewhere"
    assert choice.evidence.notes == ("with other models (encoder, resnet50), not with minilm",)
    assert (choice.evidence.verified, choice.evidence.tried) == (2, 2)


def test_a_file_is_none_of_the_recipes() -> None:
    choice = first(Question(file="mine.onnx", needs=QUESTION.needs), seen())
    assert choice.evidence.of == "verified elsewhere"
    assert choice.evidence.notes == ("with other models (resnet50), not with mine.onnx",)


def test_the_nearest_run_is_shown() -> None:
    """The model on another GPU says more than another model on this one."""
    other = seen(cell="c2", model="minilm", gpus=(("NVIDIA H200", "9.0"),))
    choice = first(MINILM, seen(), other)
    assert choice.evidence.latest == other
    assert choice.evidence.notes[0].startswith("on NVIDIA H200")


def test_a_run_at_another_opset_says_so() -> None:
    question = Question(gpu=QUESTION.gpu, needs=QUESTION.needs, model="resnet50", opset=17)
    assert first(question, seen(opset="17")).evidence.of == "verified"
    choice = first(question, seen(opset="13"))
    assert choice.evidence.of == "verified elsewhere"
    assert choice.evidence.notes == ("at opset 13, not at 17",)
    assert first(question, seen(opset="")).evidence.notes == ("at opset not recorded, not at 17",)


def test_failing_runs_of_the_model_are_objections() -> None:
    bad = {"model": "minilm", "status": "mismatch", "category": "accuracy"}
    choice = first(MINILM, seen(model="minilm"), seen(cell="c2", **bad), seen(cell="c3", status="failed"))
    assert choice.evidence.of == "verified"
    assert [item.cell for item in choice.evidence.objections] == ["c2"], "of other models none is an objection"
    # Where no model is asked for, nothing is one.
    assert first(QUESTION, seen(), seen(cell="c2", **bad)).evidence.objections == ()
    # On another GPU it objects, and the stack comes after those that nothing speaks against.
    there = picked(MINILM, seen(gpus=(("NVIDIA H200", "9.0"),), **bad)).choices
    last = next(choice for choice in there if choice.evidence.objections)
    assert last.evidence.of in ("documented", "inferred")
    assert last is [choice for choice in there if choice.evidence.of == last.evidence.of][-1]


def test_what_failed_for_just_this_is_no_answer(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    cell = {"id": "a", "status": "mismatch", "category": "accuracy"}
    stored(project.artifacts, {**cell, "axes": {"model": "minilm", "precision": "fp16", "opset": "17"}})
    asked = ("--need", "openvino==2024.6.0", "--model", "minilm", "--precision", "fp16")
    assert run(project, *asked) == 1
    text = capsys.readouterr().out
    assert "fit by the facts, and minilm failed on all of them:" in text
    assert "objection: minilm on 2026-11-01 on cpu: mismatch, accuracy (enginematrix show a)" in text
    assert run(project, *asked, "--emit", "requirements") == 1, "what failed is not handed over"
    assert "openvino==2024.6.0 \\" not in capsys.readouterr().out
    assert run(project, *asked, "--explain", "openvino-2024.6.0") == 1
    assert "fits by the facts, and minilm failed on it" in capsys.readouterr().out
    assert run(project, "--need", "openvino==2024.6.0", "--model", "resnet50") == 0
    capsys.readouterr()
    assert run(project, *asked, "--emit", "json") == 1
    data = json.loads(capsys.readouterr().out)
    assert not data["usable"] and data["choices"][0]["evidence"]["objections"][0]["cell"] == "a"


def test_what_fails_without_a_gpu_has_not_failed_on_one() -> None:
    """TensorRT for RTX builds without a GPU, where nothing can be verified: what failed there is an objection at most."""
    bad = seen(gpus=(), driver="", status="failed", category="gpu-unsupported")
    found = first(ask(needs="tensorrt==10.9.0.34"), bad)
    assert found.evidence.of == "documented" and found.usable
    for choice in picked(Question(needs={"tensorrt": "==10.9.0.34"}, model="resnet50"), bad).choices:
        if choice.stack.id == "tensorrt-10.9.0.34-cuda12":
            assert choice.evidence.of == "documented" and choice.evidence.objections == (bad,)
    # On a CPU it has, for what computes there.
    assert (
        first(ask(needs="openvino==2024.6.0"), seen("openvino-2024.6.0", gpus=(), status="failed")).evidence.of
        == "failed"
    )


def test_what_no_model_was_asked_for_may_be_taken(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """That some model failed on it is said, and is no reason not to take it for another."""
    stored(project.artifacts, {"id": "a", "status": "crashed"})
    assert run(project, "--need", "openvino==2024.6.0") == 0
    assert "1. openvino-2024.6.0: failed on 2026-11-01" in capsys.readouterr().out


def test_objections_are_told_by_kind(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    axes = {"model": "minilm", "precision": "fp32", "opset": "17"}
    kinds = ("crashed", "timeout", "out-of-memory", "failed", "degraded")
    cells = [{"id": f"{kind}{n}", "status": kind, "category": kind, "axes": axes} for kind in kinds for n in (1, 2)]
    stored(project.artifacts, {"id": "good", "axes": axes}, *cells)
    assert run(project, "--need", "openvino==2024.6.0", "--model", "minilm", "--max-age", "1e6") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "objection" in line]
    assert len(lines) == 4 and lines[-1] == "objection: and 2 more kinds of failure"
    assert all(re.fullmatch(r"objection: minilm on 2026-11-01 on cpu: (\S+) \(2 cells, enginematrix show \1[12]\)", line)
               for line in lines[:3])  # fmt: skip


def test_what_was_foretold_is_no_run(tmp_path: Path) -> None:
    path = stored(tmp_path, {"id": "a", "status": "unsupported"}, {"id": "b", "status": "built"})
    assert pick_evidence.read(path) == {}


def test_the_opset_of_a_stored_run(tmp_path: Path) -> None:
    path = stored(tmp_path, {"id": "a", "axes": {"model": "m", "precision": "fp32", "opset": "18"}}, {"id": "b"})
    found = pick_evidence.read(path)[pick_evidence.key("openvino", {"openvino": "2024.6.0"})]
    assert {item.cell: item.opset for item in found} == {"a": "18", "b": ""}


# Files ----------------------------------------------------------------------------------------------------------------


def onnx(folder: Path, name: str = "m.onnx", **values: Any) -> str:
    path = folder / name
    path.write_bytes(enginefiles.onnx(**values))
    return str(path)


def test_a_files_header_is_asked_with(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = onnx(tmp_path, ir=10, opsets={"": 21, "com.microsoft": 1})
    assert run(project, "--model", path, "--need", "onnxruntime", "--limit", "1") == 0
    found = capsys.readouterr()
    assert "Asked: onnxruntime, opset 21, IR version 10, model m.onnx" in found.out
    assert "it also imports operators of com.microsoft 1: who takes them is not recorded" in found.err
    assert run(project, "--model", path, "--need", "onnxruntime<1.18") == 1
    assert "convert or export the model to opset 20" in capsys.readouterr().out


def test_weights_beside_the_file_are_not_needed(tmp_path: Path) -> None:
    found = pick_model.read(onnx(tmp_path, ir=8, opsets={"ai.onnx": 13}, external="weights.bin"))
    assert (found.opset, found.ir) == (13, 8)
    assert "weights.bin" in found.notes[0]


def test_a_model_without_operators_of_onnx_has_no_opset(tmp_path: Path) -> None:
    found = pick_model.read(onnx(tmp_path, opsets={"com.microsoft": 1}))
    assert (found.opset, found.ir) == (0, 8)


def test_a_model_that_onnx_runtime_has_optimised(tmp_path: Path) -> None:
    found = pick_model.read(onnx(tmp_path, opsets={"": 17, "com.microsoft.nchwc": 1}))
    assert any("optimised by onnxruntime" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.onnx", None, "No such file"),
        ("empty.onnx", b"", "empty"),
        ("text.onnx", b"hello, this is no model at all", "of no format known here"),
        ("m.plan", bytes.fromhex("70747274") + bytes(60), "is a TensorRT plan|of no format|cannot be"),
        (
            "m.safetensors",
            enginefiles.safetensors(b'{"__metadata__":{}}', b""),
            "m.safetensors is a safetensors weights",
        ),
    ],
)
def test_files_that_are_no_model(
    name: str, content: bytes | None, message: str, project: Project, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        run(project, "--model", str(tmp_path / name))


def test_a_file_that_is_cut_off(project: Project, tmp_path: Path) -> None:
    path = Path(onnx(tmp_path, weights=bytes(10_000)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UsageError, match="no library takes it"):
        run(project, "--model", str(path))


def test_a_device_is_no_file(project: Project) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        run(project, "--model", "/dev/zero")
    with pytest.raises(UsageError, match="is no path"):
        run(project, "--model", "a/\0b.onnx")


def test_two_answers_to_one_question(project: Project, tmp_path: Path) -> None:
    path = onnx(tmp_path)
    with pytest.raises(UsageError, match="--opset 13: m.onnx has 17; leave one of them out"):
        run(project, "--model", path, "--opset", "13")
    assert run(project, "--model", path, "--opset", "17", "--limit", "1") == 0


def test_a_recipe_comes_before_a_file_of_its_name(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    (project.root / "resnet50").write_bytes(enginefiles.onnx())
    (project.root / "other").write_bytes(enginefiles.onnx(opsets={"": 15}))
    assert run(project, "--model", "resnet50", "--limit", "1") == 0
    assert "Asked: model resnet50\n" in capsys.readouterr().out
    assert run(project, "--model", "other", "--limit", "1") == 0
    assert "Asked: opset 15" in capsys.readouterr().out


def test_an_opset_that_nobody_knows_may_be_tried(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--opset", "99", "--need", "openvino", "--limit", "1") == 0
    assert "opset 99 is newer than the catalog, whose newest is" in capsys.readouterr().err
    assert state("onnxruntime-1.16.3", Question(opset=99)) == {"opset": "unsupported"}
