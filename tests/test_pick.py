"""Which stack to take: questions with answers from the vendors' documents, evidence from runs, conflicts, what is handed over."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from picking import JUDGE, QUESTION, ROOT, STACKS, ask, first, picked, project_in, run, seen, state, stored

from builder import cli, pick_cli, pick_conflict, pick_evidence
from builder.errors import UsageError
from builder.facts_records import CATALOG
from builder.pick_conflict import smallest
from builder.pick_judge import Hardware, Question, Requirement, Verdict
from builder.pick_stacks import Candidate, candidates
from builder.project import Project
from builder.store import StoreError

# What the vendors' documents say ------------------------------------------------------------------------------------

RELEASE_24_01 = "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/rel-24-01.html"
MINOR = "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
FORWARD = "https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html"
TRT_1001 = "https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/support-matrix-10/10.0.1.html"
TRT_1050 = "https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/release-notes-10/10.5.0.html"
TRT_853 = "https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-853/support-matrix/index.html"
TRT_861 = "https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/support-matrix/index.html"
RTX_11 = "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix-1/1.1.html"
CAPABILITIES = "https://developer.nvidia.com/cuda-gpus"
TESTED = "https://www.tensorflow.org/install/source#tested_build_configurations"
ORT_CUDA = "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html"
TORCH_TRT = "https://github.com/pytorch/TensorRT"
CHANGELOG = "https://github.com/NVIDIA/TensorRT/blob/main/CHANGELOG.md"
RELEASE_23_09 = "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/rel-23-09.html"
RELEASE_24_10 = "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/rel-24-10.html"
TORCH_ARCHITECTURES = "https://github.com/Comfy-Org/ComfyUI/pull/16438"
ORT_ONNX = "https://onnxruntime.ai/docs/reference/compatibility.html"
TRT_OPSETS = "https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html"
PYPI = "names of the wheels of PyPI project {}"

FITS = [
    # The notes of 24.01: "CUDA 12.3.2, which requires NVIDIA Driver release 545 or later".
    (RELEASE_24_01, ask("RTX 4090", "tensorrt==8.6.*", driver="545.23.08"), "tensorrt:24.01-py3"),
    # "... if you are running on a data center GPU, you can use ... 470.57 (or later R470), 525.85 ... 535.86".
    (RELEASE_24_01, ask("A100", "tensorrt==8.6.*", driver="470.57.02"), "tensorrt:24.01-py3"),
    (RELEASE_24_01, ask("A100", "tensorrt==8.6.*", driver="535.86.10"), "pytorch:24.01-py3"),
    # CUDA 12.x runs on 525.60.13 and newer.
    (MINOR, ask("RTX 4090", "tensorrt>=10", driver="525.60.13"), "tensorrt-10.9.0.34-cuda12"),
    (MINOR, ask("RTX 3090", "tensorrt>=10", driver="450.80.02"), "tensorrt-10.9.0.34-cuda11"),
    # 10.0 takes compute capability 7.0 to 9.0; 10.5 dropped Volta.
    (TRT_1001, ask("V100", "tensorrt>=10"), "tensorrt-10.0.1-cuda12"),
    (TRT_1050, ask("T4", "tensorrt>=10.5"), "tensorrt-10.5.0-cuda12"),
    # 8.6 took Pascal.
    (TRT_861, ask("P100", "tensorrt>=8.6"), "tensorrt-8.6.1-cuda12"),
    (TORCH_TRT, ask(needs="torch-tensorrt,torch>=2.3,tensorrt>=10", python="3.10"), "torch-tensorrt-2.3.0"),
    (TESTED, ask(needs="tensorflow>=2.15,cuda>=12.2", python="3.11"), "tensorflow-2.15.1"),
    (TESTED, ask(needs="tensorflow>=2.10,<2.11", python="3.7"), "tensorflow-2.10.1"),
    (ORT_CUDA, ask(needs="onnxruntime>=1.17,cuda<12"), "onnxruntime-gpu-1.17-cuda11.8"),
    (PYPI.format("onnxruntime"), ask(needs="onnxruntime>=1.17", python="3.12"), "onnxruntime-1.17.0"),
    (PYPI.format("openvino"), ask(needs="openvino>=2024.1", python="3.12"), "openvino-2024.1.0"),
    (RTX_11, ask("RTX 4090", "tensorrt-rtx"), "tensorrt-rtx-1.4.0.76-cuda12"),
    # 23.09 has CUDA 12.2, which ships with driver 535.54.03.
    (RELEASE_23_09, ask("RTX 4090", "tensorrt", driver="535.54.03"), "tensorrt:23.09-py3"),
    # Data center GPUs on R470 take the containers of CUDA 12.6.
    (RELEASE_24_10, ask("A100", "cuda>=12.6", driver="470.57.02"), "pytorch:24.10-py3"),
    (CHANGELOG, ask("RTX 5090", "tensorrt>=10.8"), "tensorrt:25.01-py3"),
    # PyTorch 2.9 keeps Pascal in its packages for CUDA 12.6 alone.
    (TORCH_ARCHITECTURES, ask("P100", "torch>=2.9,<2.10"), "torch-2.9.0-cuda12.6"),
    (TORCH_ARCHITECTURES, ask("V100", "torch>=2.9,<2.10"), "torch-2.9.0-cuda12.8"),
    (ORT_CUDA, ask(needs="onnxruntime>=1.27,cuda>=13"), "onnxruntime-gpu-1.27-cuda13"),
    (TORCH_TRT, ask(needs="torch-tensorrt>=2.5,<2.6", python="3.12"), "torch-tensorrt-2.5.0"),
    # 1.16 is the first with opset 19 and IR 9; 1.18 with opset 21 and IR 10.
    (ORT_ONNX, ask(needs="onnxruntime", opset=19, ir=9), "onnxruntime-1.16.3"),
    (ORT_ONNX, ask(needs="onnxruntime", opset=21, ir=10), "onnxruntime-1.18.1"),
    (TRT_OPSETS, ask("RTX 4090", "tensorrt", opset=24), "tensorrt-11.4.0.106-cuda12"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "question", "stack"), FITS)
def test_what_the_documents_say_fits(source: str, question: Question, stack: str) -> None:
    assert source.startswith(("https://", "names of the wheels of PyPI project "))
    found = {choice.stack.id: choice for choice in picked(question).choices}
    assert stack in found
    assert set(state(stack, question).values()) == {"supported"}


NOTHING = [
    # CUDA 13.x needs 580.65.06; forward compatibility is not for GeForce.
    (MINOR, ask("RTX 4090", "cuda>=13", driver="525.60.13"), {"driver", "need:cuda"}, "580.65.06"),
    (FORWARD, ask("RTX 4090", "tensorrt>=10.13", driver="470.57.02"), {"driver", "need:tensorrt"}, "525.60.13"),
    (TRT_1001, ask("P100", "tensorrt>=10"), {"gpu", "need:tensorrt"}, "7.0"),
    (TRT_1050, ask("V100", "tensorrt>=10.5"), {"gpu", "need:tensorrt"}, "7.5"),
    # Kepler ended with 8.5.
    (TRT_853, ask("3.5", "tensorrt>=8.6"), {"gpu", "need:tensorrt"}, "5.0"),
    # Blackwell starts with CUDA 12.8, TensorRT 10.8.
    (CAPABILITIES, ask("RTX 5090", "tensorrt<10"), {"gpu", "need:tensorrt"}, "10.8"),
    (CAPABILITIES, ask("V100", "tensorrt", precision="bf16"), {"gpu", "precision"}, "fp16"),
    (PYPI.format("tensorflow"), ask(needs="tensorflow>=2.16", python="3.8"), {"need:tensorflow", "python"}, "3.9"),
    (PYPI.format("onnxruntime"), ask(needs="onnxruntime>=1.20", python="3.8"), {"need:onnxruntime", "python"}, "3.10"),
    (PYPI.format("openvino"), ask(needs="openvino<2024.1", python="3.12"), {"need:openvino", "python"}, "3.11"),
    # CUDA 13 compiles from compute capability 7.5 on.
    (TORCH_ARCHITECTURES, ask("V100", "cuda>=13"), {"gpu", "need:cuda"}, "7.5"),
    (RTX_11, ask("GTX 1080", "tensorrt-rtx<1.6"), {"gpu", "need:tensorrt-rtx"}, "7.5"),
    (CAPABILITIES, ask("T4", "tensorrt", precision="fp8"), {"gpu", "precision"}, "fp16"),
    (TESTED, ask(needs="tensorflow<2.16", python="3.12"), {"need:tensorflow", "python"}, "3.11"),
    (TESTED, ask(needs="tensorflow<2.11,cuda>=12"), {"need:tensorflow", "need:cuda"}, "tensorflow 2."),
    (ORT_CUDA, ask(needs="onnxruntime<1.17,cuda>=12"), {"need:onnxruntime", "need:cuda"}, "onnxruntime 1.17"),
    # The containers of CUDA 12.3 refuse R418 on data center GPUs too.
    (RELEASE_24_01, ask("A100", "cuda>=12.3,<12.4", driver="418.40"), {"driver", "need:cuda"}, "driver to 470"),
    (PYPI.format("openvino"), ask(needs="openvino>=2026", python="3.9"), {"need:openvino", "python"}, "3.10"),
    (TORCH_TRT, ask(needs="torch-tensorrt>=2.3,<2.7", python="3.13"), {"need:torch-tensorrt", "python"}, "3.12"),
    (TORCH_TRT, ask(needs="torch-tensorrt,torch<2.3,tensorrt>=10"), {"need:torch", "need:tensorrt"},
     "torch 2.3"),
    (ORT_ONNX, ask(needs="onnxruntime<1.18", opset=21), {"need:onnxruntime", "opset"}, "to opset 20"),
    (ORT_ONNX, ask(needs="onnxruntime==1.16.*", ir=10), {"need:onnxruntime", "ir"}, "with IR version 9"),
    (ORT_ONNX, ask(needs="onnxruntime==1.14.*", opset=19, ir=9), {"need:onnxruntime", "opset"}, "accept onnxruntime 1.15"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "question", "conflict", "relax"), NOTHING)
def test_what_the_documents_say_cannot_be(source: str, question: Question, conflict: set[str], relax: str) -> None:
    assert source.startswith(("https://", "names of the wheels of PyPI project "))
    found = picked(question)
    assert found.choices == ()
    assert {item.requirement.key for item in found.conflicts} == conflict
    assert relax in " ".join(item.relax for item in found.conflicts)
    for item in found.conflicts:
        assert item.verdict is not None
        assert item.verdict.facts, item
        assert all(fact.sources for fact in item.verdict.facts)


def test_each_relaxation_makes_something_fit() -> None:
    for _, question, _, _ in NOTHING:
        for item in picked(question).conflicts:
            if item.relax and not item.requirement.key.startswith("need:"):
                left = JUDGE.verdicts(STACKS[item.stack], question)
                changed = {item.requirement.key, *pick_conflict._SAME.get(item.requirement.key, ())}
                assert all(verdict.met for verdict in left if verdict.requirement.key not in changed)


def test_the_question_of_the_manual() -> None:
    question = ask("RTX 4090", "tensorrt>=10,pytorch>=2.3", driver="550.54.14", python="3.10", precision="fp16")
    found = picked(question)
    assert [choice.stack.id for choice in found.choices[:2]] == ["pytorch:24.05-py3", "torch-tensorrt-2.9.0"]
    assert found.choices[0].evidence.of == "documented"
    assert "torch-tensorrt-2.3.0" in [choice.stack.id for choice in found.choices]


# Judging --------------------------------------------------------------------------------------------------------------


def test_what_is_not_recorded_is_unknown_and_may_be_tried() -> None:
    question = ask("RTX 4090", driver="550.54.14")
    assert state("onnxruntime-gpu-1.20-cuda12", question) == {"gpu": "unknown", "driver": "supported"}
    assert "onnxruntime-gpu-1.20-cuda12" in [choice.stack.id for choice in picked(question).choices]


def test_a_needed_version_that_is_not_recorded_is_no_answer_but_is_told() -> None:
    found = picked(ask(needs="tensorrt>=12"))
    assert found.choices == ()
    assert "pytorch:26.08-py3" in found.open


def test_a_cuda_of_which_only_the_major_is_known() -> None:
    assert state("tensorrt-11.4.0.106-cuda12", ask(needs="cuda>=12.4"))["need:cuda"] == "unknown"
    assert state("tensorrt-11.4.0.106-cuda12", ask(needs="cuda>=13"))["need:cuda"] == "unsupported"
    assert state("tensorrt-11.4.0.106-cuda12", ask(needs="cuda>=11.8"))["need:cuda"] == "supported"


def test_a_minor_release_of_which_the_patch_is_not_known() -> None:
    stack = "onnxruntime-gpu-1.20-cuda12"
    asked = {clause: state(stack, ask(needs=f"onnxruntime{clause}"))["need:onnxruntime"]
             for clause in (">=1.20.1", ">=1.20.0", "==1.20.*", ">=1.21", "<1.20.1")}  # fmt: skip
    assert list(asked.values()) == ["unknown", "supported", "supported", "unsupported", "unknown"]


def test_a_toolkit_that_compiles_for_a_gpu_is_not_yet_a_library_that_was() -> None:
    """Of 26.08's TensorRT and PyTorch nothing is recorded but the CUDA toolkit beside them."""
    verdict = JUDGE.verdicts(STACKS["pytorch:26.08-py3"], ask("RTX 4090"))[0]
    assert (verdict.state, verdict.inferred) == ("supported", True)
    assert not JUDGE.verdicts(STACKS["tensorrt:25.06-py3"], ask("RTX 4090"))[0].inferred


def test_release_notes_against_the_rules_of_cuda() -> None:
    """24.01's notes ask for 545, CUDA's rules for 525.60.13: on a card of neither kind named, it may be tried."""
    assert state("tensorrt:24.01-py3", ask("RTX 4090", driver="535.54.03"))["driver"] == "unknown"
    assert state("tensorrt:24.01-py3", ask("RTX 4090", driver="470.57.02"))["driver"] == "unsupported"


def test_a_stack_that_leaves_the_gpu_unused_is_none_for_it() -> None:
    assert state("openvino-2024.6.0", ask("RTX 4090"))["gpu"] == "unsupported"
    none = Question(gpu=Hardware(name="none"))
    assert state("openvino-2024.6.0", none)["gpu"] == "supported"
    assert state("tensorrt:24.01-py3", none)["gpu"] == "unsupported"


def test_jetson_boards_and_cards_are_kept_apart() -> None:
    assert state("l4t-tensorrt:r10.3.0-devel", ask("RTX 4090"))["gpu"] == "unsupported"
    assert state("l4t-tensorrt:r10.3.0-devel", ask("Jetson AGX Orin"))["gpu"] == "supported"
    assert state("tensorrt:25.06-py3", ask("Jetson AGX Orin"))["gpu"] == "unknown"
    assert state("l4t-tensorrt:r10.3.0-devel", ask(platform="linux/amd64"))["platform"] == "unsupported"


def test_platforms_of_images_are_those_that_are_recorded() -> None:
    arm = ask(platform="linux/arm64")
    known = [
        stack.id for stack in STACKS.values() if stack.group.startswith("ngc") and "linux/arm64" in stack.platforms
    ]
    assert known and all(state(name, arm)["platform"] == "supported" for name in known)
    assert JUDGE.verdicts(STACKS[known[0]], arm)[0].facts
    assert state("tensorrt:20.01-py3", arm)["platform"] == "unknown"
    verdict = JUDGE.verdicts(STACKS["openvino-2024.6.0"], arm)[0]
    assert (verdict.state, verdict.because.partition(": ")[2]) == ("unknown", "it is known to be for linux/amd64")
    best = [choice.stack for choice in picked(arm).choices if choice.evidence.of == "documented"]
    assert {stack.id for stack in best if stack.group != "l4t"} <= {*known} and best


def test_an_image_of_the_month_says_what_another_has() -> None:
    stack = STACKS["tritonserver:23.05-py3"]
    assert "tensorrt" in stack.inferred
    assert "tensorrt:23.05-py3, on the same base" in stack.facts[1].text


def verdicts(text: str) -> tuple[Verdict, ...]:
    """ "+-?" -> supported, unsupported, unknown."""
    states = {"+": "supported", "-": "unsupported", "?": "unknown"}
    return tuple(
        Verdict(requirement=Requirement(key=name, text=name), state=states[mark], because="")  # type: ignore[arg-type]
        for name, mark in zip(("gpu", "driver", "python", "need:tensorrt"), text, strict=True)
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["++++"], ()),
        (["???+"], ()),
        (["+++?"], ("need:tensorrt",)),
        (["-+++", "-+-+"], ("gpu",)),
        (["-+++", "+-++"], ("gpu", "driver")),
        (["-+++", "+--+", "+++-"], ("gpu", "driver", "need:tensorrt")),
        (["--++", "+-+-", "-++-"], ("gpu", "driver")),
        ([], ("gpu",)),
    ],
)
def test_the_smallest_conflict_is_smallest(rows: list[str], expected: tuple[str, ...]) -> None:
    stack = STACKS["openvino-2024.6.0"]
    requirements = [verdict.requirement for verdict in verdicts("++++")]
    found = smallest([(stack, verdicts(row)) for row in rows], requirements)
    assert tuple(requirement.key for requirement in found) == expected


# Evidence -------------------------------------------------------------------------------------------------------------


def test_a_run_on_that_kind_of_gpu_comes_first() -> None:
    choice = first(QUESTION, seen(), seen(cell="c2", latency=0.002))
    assert (choice.stack.id, choice.evidence.of) == ("tensorrt-10.9.0.34-cuda12", "verified")
    assert (choice.evidence.verified, choice.evidence.tried, choice.evidence.notes) == (2, 2, ())
    assert choice.evidence.measured is not None and choice.evidence.measured.latency == 0.002


@pytest.mark.parametrize(
    ("asked", "ran", "same"),
    [
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("A100 40GB", "NVIDIA A100-SXM4-80GB", False),
        ("8.0", "NVIDIA A100-SXM4-80GB", True),
        ("sm80", "Card of Tomorrow", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090 Laptop GPU", False),
        ("RTX 4090", "NVIDIA GeForce RTX 4080", False),
    ],
)
def test_what_is_the_same_kind_of_gpu(asked: str, ran: str, same: bool) -> None:
    run = seen(gpus=((ran, "8.0"),))
    found = next(item for item in picked(ask(asked, "tensorrt>=10"), run).choices if item.evidence.latest is not None)
    assert found.evidence.of == ("verified" if same else "verified elsewhere")


def test_a_run_on_another_gpu_comes_second() -> None:
    elsewhere = seen("tensorrt-10.8.0.43-cuda12", gpus=(("NVIDIA H200", "9.0"),), driver="580.1")
    found = picked(QUESTION, seen(), elsewhere).choices
    assert [choice.evidence.of for choice in found[:3]] == ["verified", "verified elsewhere", "documented"]
    assert "NVIDIA H200" in found[1].evidence.notes[0]


def test_the_newest_run_comes_first() -> None:
    older = seen("tensorrt-10.9.0.34-cuda12", when="2026-10-01T00:00:00Z")
    newer = seen("tensorrt-10.8.0.43-cuda12", when="2026-11-01T00:00:00Z")
    assert first(QUESTION, older, newer).stack.id == "tensorrt-10.8.0.43-cuda12"


def test_old_runs_and_other_drivers_are_said_to_be_so() -> None:
    old = seen("tensorrt-10.8.0.43-cuda12", when="2026-01-01T00:00:00Z", driver="535.1")
    choice = picked(QUESTION, old, seen(when="2025-11-01T00:00:00Z"), max_age=360).choices
    assert [found.stack.id for found in choice[:2]] == ["tensorrt-10.8.0.43-cuda12", "tensorrt-10.9.0.34-cuda12"]
    assert choice[0].evidence.notes == ("under driver 535.1, not 550.54.14",)
    assert choice[1].evidence.expired
    assert choice[1].evidence.notes == ("expired: 385 days old, the limit is 360",)


def test_a_later_failure_takes_back_an_earlier_success() -> None:
    later = seen(status="crashed", category="crashed", when="2026-11-02T00:00:00Z")
    found = picked(QUESTION, seen(), later).choices
    assert found[-1].stack.id == "tensorrt-10.9.0.34-cuda12"
    assert found[-1].evidence.of == "failed"
    assert first(QUESTION, seen(), seen(cell="c2", status="failed")).evidence.verified == 1


def test_only_runs_of_the_precision_and_the_python_count() -> None:
    for values in ({"precision": "int8"}, {"python": "3.10"}):
        question = Question(gpu=QUESTION.gpu, needs=QUESTION.needs, **values)  # type: ignore[arg-type]
        assert all(choice.evidence.latest is None for choice in picked(question, seen()).choices)


def test_observation_beats_documentation() -> None:
    """The facts say that TensorRT 10.9 has no kernels for Pascal: it ran there all the same."""
    question = ask("P100", "tensorrt>=10", driver="550.54.14")
    assert picked(question).choices == ()
    choice = first(question, seen(gpus=(("Tesla P100-PCIE-16GB", "6.0"),)))
    assert choice.evidence.of == "verified"
    assert "against the facts: TensorRT 10.9 takes compute capabilities" in choice.verdicts[0].because


@pytest.mark.parametrize(
    ("family", "fields", "needs", "stack"),
    [
        ("torch-cuda", {"torch": "2.11.0"}, "torch==2.11.0", "torch-2.11.0-cuda13.0"),  # what PyPI has is of CUDA 13.0
        ("torch-cuda", {"torch": "2.10.0"}, "torch==2.10.0", "torch-2.10.0-cuda12.8"),
        ("torch-cuda", {"torch": "2.11.0", "compute-platform": "cu126"}, "torch==2.11.0", "torch-2.11.0-cuda12.6"),
        (
            "onnxruntime-gpu",
            {"onnxruntime-gpu": "1.28.0"},
            "onnxruntime==1.28.*,cuda>=12",
            "onnxruntime-gpu-1.28-cuda13",
        ),
    ],
)
def test_a_run_of_a_family_is_one_of_the_packages_that_it_is_made_of(
    family: str, fields: dict[str, str], needs: str, stack: str
) -> None:
    """Seen on an H200, by benchmarks/gpu: of which GPUs these packages are compiled for, nothing is recorded."""
    question = ask("H200", needs, driver="580.159.04")
    gpus = (("NVIDIA H200", "9.0"),)
    ran = seen(family=family, fields={**fields, "python": "3.12"}, gpus=gpus, driver="580.159.04")
    assert first(question).evidence.of != "verified"
    choice = first(question, ran)
    assert (choice.stack.id, choice.evidence.of) == (stack, "verified")
    system = seen(family=family, fields={**fields, "libraries": "system"}, gpus=gpus, driver="580.159.04")
    assert first(question, system).evidence.of != "verified"  # another stack


def test_a_run_on_the_cpu_shows_nothing_of_a_gpu() -> None:
    question = ask("RTX 4090", "tensorflow")
    run = seen("tensorflow-2.19.1", gpus=(), driver="", role="exporter")
    assert all(choice.evidence.latest is None for choice in picked(question, run).choices)
    assert first(ask(needs="tensorflow"), run).evidence.of == "verified"


def test_a_stack_with_fields_of_its_own_is_another() -> None:
    trap = seen(
        "onnxruntime-1.16.3", fields={"onnxruntime": "1.16.3", "numpy": "2.2.6", "python": "3.11"}, status="crashed"
    )
    choice = next(
        found for found in picked(ask(needs="onnxruntime"), trap).choices if found.stack.id == "onnxruntime-1.16.3"
    )
    assert choice.evidence.latest is None


# The results database -------------------------------------------------------------------------------------------------


def test_without_a_database_there_is_no_evidence(tmp_path: Path) -> None:
    assert pick_evidence.read(tmp_path / "none" / "results.sqlite") == {}
    (tmp_path / "results.sqlite").touch()
    assert pick_evidence.read(tmp_path / "results.sqlite") == {}


def test_observations_come_from_stored_results(tmp_path: Path) -> None:
    cells = ({"id": "a", "measure": {"median": 0.5}}, {"id": "b", "status": "skipped"}, {"id": "c", "status": "failed"})
    path = stored(tmp_path, *cells, gpus=("RTX 4090",))  # fmt: skip
    found = pick_evidence.read(path)
    engine = found[pick_evidence.key("openvino", {"openvino": "2024.6.0"})]
    assert {(item.cell, item.status, item.latency) for item in engine} == {
        ("a", "verified", 0.5),
        ("c", "failed", None),
    }
    assert engine[0].gpus == (("RTX 4090", "8.9"),)
    # A cell that fails says nothing of its exporter.
    assert [item.cell for item in found[pick_evidence.key("torch", {"torch": "2.13.0"})]] == ["a"]


def test_a_result_on_the_machine_of_its_last_step(tmp_path: Path) -> None:
    own = {"cpu": "other", "driver": "1.0", "gpus": [{"name": "H200", "compute_capability": "9.0"}]}
    found = pick_evidence.read(stored(tmp_path, {"id": "a", "machine": own}, gpus=("RTX 4090",)))
    item = found[pick_evidence.key("openvino", {"openvino": "2024.6.0"})][0]
    assert (item.gpus, item.driver, item.machine) == ((("H200", "9.0"),), "1.0", "H200 (driver 1.0)")


def test_only_the_newest_results_are_read(tmp_path: Path) -> None:
    stored(tmp_path, {"id": "a"}, {"id": "b"}, run="r1", started="2026-10-01T00:00:00Z")
    path = stored(tmp_path, {"id": "c"}, run="r2", started="2026-11-01T00:00:00Z")
    found = pick_evidence.read(path, limit=1)
    assert [item.cell for items in found.values() for item in items if item.role == "engine"] == ["c"]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = stored(tmp_path, {"id": "a"})
    before = path.read_bytes()
    pick_evidence.read(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As another user where we are root, who may write everywhere."""
    path = stored(tmp_path, {"id": "a"})
    assert pick_evidence.read(path), "and all that it imports is imported: the other user may not read our Python"
    # pytest keeps others out of its folders.
    above = {f: f.stat().st_mode for f in tmp_path.parents if Path(tempfile.gettempdir()) in f.parents}
    for folder in above:
        folder.chmod(0o755)
    tmp_path.chmod(0o555)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            code = 0 if pick_evidence.read(path) and not os.access(tmp_path, os.W_OK) else 2
        finally:
            os._exit(code)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        tmp_path.chmod(0o755)
        for folder, mode in above.items():
            folder.chmod(mode)


def test_a_damaged_database_and_one_from_the_future(tmp_path: Path) -> None:
    (tmp_path / "results.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        pick_evidence.read(tmp_path / "results.sqlite")
    path = stored(tmp_path / "future", {"id": "a"})
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    with pytest.raises(StoreError, match="newer EngineMatrix"):
        pick_evidence.read(path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "RTX 409"), "perhaps 'RTX 4090'"),
        (("--need", "tensort>=10"), "no stack has a 'tensort'; perhaps 'tensorrt'"),
        (("--need", "tensorrt 10"), "write tensorrt==10"),
        (("--need", "tensorrt>=ten"), "'ten' is not a version"),
        (("--need", ">=10"), "begin with a name"),
        (("--need", ""), "begin with a name"),
        (("--need", "python>=3.10"), "use --python"),
        (("--python", "3"), "--python takes a release"),
        (("--driver", "new"), "--driver takes a version"),
        (("--driver", "12.4"), "write --need 'cuda==12.4"),
        (("--driver", "99999999999"), "--driver takes a version"),
        (("--driver", ""), "--driver takes a version"),
        (("--gpu", " "), "--gpu takes a name"),
        (("--gpu", "x" * 5000), "5000 characters, which no name or version has"),
        (("--need", "tensorrt>=" + "9" * 5000), "5010 characters"),
        (("--need", "tensorrt @ somewhere"), "write a name and versions by PEP 440 only"),
        (("--python", ""), "--python is empty"),
        (("--platform", "linux/riscv64"), "perhaps 'linux/arm64'"),
        (("--max-age", "nan"), "--max-age takes days"),
        (("--opset", "0"), "--opset takes a number from 1 on"),
        (("--opset", "seventeen"), "--opset takes a number from 1 on"),
        (("--ir", "-1"), "--ir takes a number from 1 on"),
        (("--model", ""), "--model takes a recipe"),
        (("--model", "x" * 5000), "5000 characters"),
        (("--model", "x" * 500), "--model does not know"),
        (("--precision", "fp15"), "perhaps 'fp16'"),
        (("--platform", "windows"), "linux/amd64"),
        (("--model", "resnet5"), "perhaps 'resnet50'"),
        (("--explain", "pytorch:24.1-py3"), "the catalog has no stack"),
        (("--max-age", "-1"), "--max-age takes days"),
        (("--limit", "0"), "--limit a number"),
        (("--need", "openvino", "--emit", "docker"), "none of the .* stacks that fit is an image"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, project: Project) -> None:
    with pytest.raises(UsageError, match=message):
        run(project, *arguments)


def test_bad_input_ends_with_its_own_exit_code(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """2: bad input; 1: nothing fits; 0: something does, also where nothing was asked."""
    for arguments, code in ((["--gpu", "RTX 409"], 2), (["--need", "tensorrt==99"], 1), ([], 0), (["--opset", "x"], 2)):
        assert cli.main(["--file", str(project.matrix), "pick", *arguments]) == code
        found = capsys.readouterr()
        assert (found.err != "") == (code == 2) and (found.out != "") == (code != 2)
        assert "Traceback" not in found.err


def test_without_a_project_no_model_is_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe here and no stored run of any"):
        run(Project(matrix=tmp_path / "matrix.yaml"), "--model", "resnet50")


def test_what_a_name_may_be_written_as(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--precision", "FP16", "--driver", "R550", "--platform", "AMD64", "--limit", "1") == 0
    assert "Asked: driver 550, precision fp16, platform linux/amd64\n" in capsys.readouterr().out
    assert run(project, "--gpu", "none", "--need", "openvino", "--limit", "1") == 0
    assert "Asked: no GPU, openvino\n" in capsys.readouterr().out
    assert run(project, "--gpu", "9.9", "--limit", "1") == 0, "what is not in the catalog may be tried"
    assert "does not have compute capability 9.9; it has" in capsys.readouterr().err


def test_a_model_that_no_run_is_of(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stored(project.artifacts, {"id": "a"}, started="2026-11-20T00:00:00Z")
    assert run(project, "--need", "openvino", "--model", "minilm", "--limit", "1") == 0
    assert (
        "(no run of minilm is stored of these: whatever is verified here was so with other models)"
        in capsys.readouterr().out
    )
    assert run(project, "--need", "openvino", "--model", "resnet50", "--limit", "1") == 0
    assert "with other models" not in capsys.readouterr().out


def test_text_and_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stored(project.artifacts, {"id": "a", "measure": {"median": 0.0123}}, started="2026-11-20T00:00:00Z")
    assert run(project, "--need", "openvino>=2024", "--limit", "1", "--max-age", "1e6") == 0
    text = capsys.readouterr().out
    assert (
        "1. openvino-2024.6.0: verified on 2026-11-20 on cpu, 1 of 1 cells verified, 12.3 ms for resnet50 in fp32"
        in text
    )
    assert "source: " in text
    assert run(project, "--need", "openvino>=2024", "--emit", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["choices"][0]["evidence"]["latest"]["cell"] == "a"


def test_what_was_left_out_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(project.artifacts, {"id": "a"}, {"id": "b"})
    monkeypatch.setattr(pick_evidence, "LIMIT", 2)
    assert run(project, "--need", "openvino") == 0
    assert "only the newest 2 outcomes were looked into" in capsys.readouterr().err


def test_nothing_fits_in_words(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--gpu", "RTX 4090", "--driver", "470.57.02", "--need", "tensorrt>=10.13") == 1
    text = capsys.readouterr().out
    assert "CUDA 12.x runs on driver 525.60.13 or newer" in text
    assert "relax: move the driver to 525.60.13 or newer" in text
    assert "relax: accept tensorrt 10.12" in text
    assert "source: CUDA Compatibility, Minor Version Compatibility" in text
    # Nothing to hand over: the reason, and the exit code of "nothing fits".
    assert (
        run(project, "--gpu", "RTX 4090", "--driver", "470.57.02", "--need", "tensorrt>=10.13", "--emit", "docker") == 1
    )


def test_explain(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--explain", "nvcr.io/nvidia/pytorch:24.01-py3", "--gpu", "RTX 5090") == 1
    text = capsys.readouterr().out
    assert "compute capability 12.0 starts with CUDA 12.8" in text
    assert "use a GPU of compute capability 9.0" in text
    assert "or take pytorch:" in text
    assert run(project, "--explain", "onnxruntime-1.16.3-py3.11", "--python", "3.11") == 0
    assert "onnxruntime-1.16.3 fits" in capsys.readouterr().out


def test_it_never_imports_the_planner() -> None:
    import subprocess
    import sys

    code = "import sys; from builder import pick, pick_cli, pick_words, pick_emit; print('builder.plan' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "False"


def test_candidates_have_sources() -> None:
    assert len(STACKS) == len(candidates(CATALOG))
    unsourced = [stack.id for stack in STACKS.values() if not all(fact.sources for fact in stack.facts)]
    assert unsourced == []


def test_needs() -> None:
    assert pick_cli.needs(["tensorrt>=10, <11,pytorch>=2.3", "trt!=10.2"]) == {
        "tensorrt": ">=10,<11,!=10.2",
        "torch": ">=2.3",
    }
    assert isinstance(STACKS["tensorrt:24.01-py3"], Candidate)
