# ruff: noqa: F811  (fixtures of the contract test)
"""ONNX Runtime's providers: what is asked of them and what they did, for real on the CPU builds (`-m real`), and on a session
that answers as the documentation of the GPU builds says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.tensorrt_fake import Cudart
from test_adapters import BUILDER, ORT_NEW, ORT_OLD, Bench, Release, bench, models, over, root  # noqa: F401
from worker_parts import part

providers: Any = part("adapters.onnxruntime_providers")
profile: Any = part("adapters.onnxruntime_profile")
timer: Any = part("adapters.onnxruntime_timer")

ORT_MIDDLE = Release("onnxruntime-1.22.1", "3.12", ("onnxruntime==1.22.1",), "onnxruntime", "onnxruntime", "1.22.1")
ORT_NUMPY2 = Release(
    "onnxruntime-1.16.3-numpy2", "3.11", ("onnxruntime==1.16.3", "numpy==2.2.6"), "onnxruntime", "onnxruntime", "1.16.3"
)
#: ONNX Runtime with OpenVINO inside, on the CPU: a second provider that takes nodes for real.
ORT_OPENVINO = Release(
    "onnxruntime-openvino-1.22.0", "3.12", ("onnxruntime-openvino==1.22.0", "openvino==2025.1.0", "numpy"), "onnxruntime",
    "onnxruntime", "1.22.0",
)  # fmt: skip
AZURE = {"providers": ["AzureExecutionProvider", "CPUExecutionProvider"]}
CUDA, CPU, TENSORRT = "CUDAExecutionProvider", "CPUExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.real
@over(ORT_MIDDLE, ORT_NEW)
def test_a_provider_that_is_there_and_takes_no_node_is_degraded(bench: Bench) -> None:
    """The silent one: the session lists the provider that was asked for, and every node ran on the CPU."""
    result = bench.run("fp32", "fp32", settings=AZURE)
    assert result["comparison"]["verdict"] == "match"
    assert result["found"]["providers"] == AZURE["providers"]
    (entry,) = result["degraded"]
    assert (entry["asked"], entry["got"]) == ("AzureExecutionProvider", CPU)
    assert entry["how"].startswith("0 of 3 compute nodes ran on AzureExecutionProvider (0 %), the others on ")
    assert "MatMul fc" in entry["how"]
    assert bench.run("fp32", "fp32")["degraded"] == []


@pytest.mark.real
@over(ORT_OPENVINO)
def test_a_provider_that_takes_nodes_is_believed(bench: Bench) -> None:
    settings = {"providers": ["OpenVINOExecutionProvider", CPU]}
    _, engine = bench.build("fp32", settings={})
    cases = [{"file": str(bench.models / "fp32.npz"), "label": "fp32"}]
    end = bench.job(
        "run",
        "fp32",
        engine=engine,
        cases=cases,
        tolerance={"atol": 1e-2, "rtol": 1e-2},
        metric=None,
        settings=settings,
    )
    assert end.ok, end.output
    assert end.output is not None
    result = end.output["result"]
    taken = {name: count for name, count in result["found"]["nodes_by_provider"].items() if name != CPU}
    fell = [entry for entry in result["degraded"] if entry["asked"] == "OpenVINOExecutionProvider"]
    assert taken == {"OpenVINOExecutionProvider": 1}, result
    assert fell == []


@pytest.mark.real
@over(ORT_NUMPY2)
def test_an_old_release_beside_numpy_2_dies_and_says_of_what(bench: Bench) -> None:
    """It installs and imports; the first run dies of SIGSEGV. That stays a crash, and no reason to skip."""
    _, engine = bench.build("fp32")
    cases = [{"file": str(bench.models / "fp32.npz"), "label": "fp32"}]
    end = bench.job("run", "fp32", engine=engine, cases=cases, tolerance={"atol": 1e-3}, metric=None)
    assert end.end == {"signal": 11, "name": "SIGSEGV"}
    assert not end.ok


@pytest.mark.real
@over(ORT_OLD, ORT_NEW)
def test_a_provider_that_is_none_is_refused_by_name(bench: Bench) -> None:
    end = bench.job("build", "fp32", options={"provider": "cudda"})
    assert end.output is not None
    assert end.output["error"]["message"] == "provider is 'cudda'; it can be cpu, cuda, tensorrt"


def job(precision: str = "fp32", **options: str) -> Any:
    return SimpleNamespace(input={"precision": precision, "options": options, "settings": {}})


def test_which_providers() -> None:
    assert providers.asked(job()) == [CPU]
    assert providers.asked(job(provider="tensorrt")) == [TENSORRT, CUDA, CPU]
    settings = SimpleNamespace(input={"settings": {"providers": "OpenVINOExecutionProvider"}})
    assert providers.asked(settings) == ["OpenVINOExecutionProvider"]


@pytest.mark.parametrize(
    ("version", "options", "given", "variable"),
    [
        ("1.17.3", {}, {}, "0"),  # before the option there is only the environment
        ("1.18.0", {}, {"use_tf32": "0"}, "0"),
        ("1.31.1", {"tf32": "allowed"}, {"use_tf32": "1"}, None),
        ("1.17.3", {"tf32": "allowed"}, {}, None),
    ],
)
def test_fp32_is_fp32_unless_tf32_is_allowed(
    version: str, options: dict[str, str], given: dict[str, str], variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    asked = job(provider="cuda", **options)
    assert providers.options(asked, [CUDA, CPU], version) == [given, {}]
    assert providers.os.environ.get("NVIDIA_TF32_OVERRIDE") == variable
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    providers.options(job(), [CPU], version)
    assert "NVIDIA_TF32_OVERRIDE" not in providers.os.environ, "a CPU has no TF32"


def test_tensorrt_is_allowed_the_precision_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    asked = providers.options(job("int8", provider="tensorrt"), [TENSORRT, CUDA, CPU], "1.22.0")
    assert asked == [{"trt_int8_enable": "True"}, {"use_tf32": "0"}, {}]


def test_tf32_must_be_off_or_allowed() -> None:
    with pytest.raises(ValueError, match="tf32 is 'on'; it can be off or allowed"):
        providers.tf32(job(tf32="on"))


class Session:
    """Answers as a session with the CUDA provider does (https://onnxruntime.ai/docs/api/python/api_summary.html)."""

    def __init__(self, said: str | None, names: list[str] | None = None) -> None:
        self.said, self.names = said, names or [CUDA, CPU]

    def get_providers(self) -> list[str]:
        return self.names

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {CUDA: {"device_id": "0", **({"use_tf32": self.said} if self.said is not None else {})}, CPU: {}}


@pytest.mark.parametrize(
    ("said", "variable", "precision", "capability", "degraded"),
    [
        ("1", None, "fp32", 9, True),
        ("1", "0", "fp32", 9, False),
        ("0", None, "fp32", 9, False),
        (None, None, "fp32", 8, True),  # a release without the option, and nobody said no
        (None, "0", "fp32", 8, False),
        ("1", None, "fp32", 7, False),  # no TF32 before compute capability 8.0
        ("1", None, "fp32", None, True),
        ("1", None, "fp16", 9, False),
    ],
)
def test_tf32_in_place_of_fp32_is_degraded(
    said: str | None, variable: str | None, precision: str, capability: int | None, degraded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if variable is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", variable)
    monkeypatch.setattr(providers, "_capability", lambda: capability)
    state, found = providers.rounded(job(precision), Session(said))
    assert state == f"use_tf32={said}, NVIDIA_TF32_OVERRIDE={variable}"
    assert [(entry["asked"], entry["got"]) for entry in found] == ([("fp32", "tf32")] if degraded else [])
    assert providers.rounded(job(precision), Session(said, [CPU])) == (None, [])


class Runtime:
    """As much of the library as a timing takes, writing down what it is asked."""

    __version__ = "1.31.1"

    def __init__(self, calls: list[str]) -> None:
        self.calls, self.given = calls, []  # type: ignore[var-annotated]
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=lambda array, device, number: (device, number, array))

    def InferenceSession(self, path: str, options: Any, providers: Any, provider_options: Any) -> Any:  # noqa: N802
        self.given.append((path, providers, provider_options))
        return self

    def io_binding(self) -> Any:
        self.bound: dict[str, Any] = {}
        return SimpleNamespace(
            bind_ortvalue_input=self.bound.__setitem__,
            bind_output=lambda name, *where: self.bound.update({name: where}),
        )

    def run_with_iobinding(self, binding: Any) -> None:
        self.calls.append("run")


def test_device_time_is_between_events_of_the_stream_that_the_session_computes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudart = Cudart()
    real = timer.cuda.Cuda
    monkeypatch.setattr(timer.cuda, "Cuda", lambda: real(cudart))
    runtime = Runtime(cudart.calls)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    engine = SimpleNamespace(
        session=Session("0"), job=job(provider="cuda"), asked=[CUDA, CPU], path="engine.onnx", options="options", inputs=["x"],
        asking=["y"],
    )  # fmt: skip
    once = timer.timer(engine, ["array"])
    assert runtime.given == [("engine.onnx", [CUDA, CPU], [{"use_tf32": "0", "user_compute_stream": "7"}, {}])]
    assert runtime.bound == {"x": ("cuda", 0, "array"), "y": ("cuda", 0)}
    cudart.calls.clear()
    assert [once(), once()] == [pytest.approx(0.0015)] * 2
    assert (
        cudart.calls
        == ["cudaEventRecord", "run", "cudaEventRecord", "cudaEventSynchronize", "cudaEventElapsedTime"] * 2
    )
    engine.session = Session(None, [CPU])
    assert timer.timer(engine, ["array"]) is None


@pytest.mark.parametrize(
    ("took", "gave", "scalar"),
    [
        ([{"float": []}], [{"float": []}], True),
        ([{"float": [1]}, {"float": [1, 1]}], [{"float": [1]}], True),
        ([{"float": [1]}, {"float": [1, 2]}], [{"float": [1, 2]}], False),
        ([], [{"float": [4]}], False),
        ([], [], False),  # an older release's profile: nothing is known, so it counts
    ],
)
def test_a_number_made_of_shapes_is_no_placement(tmp_path: Path, took: Any, gave: Any, scalar: bool) -> None:
    event = {"cat": "Node", "name": "sqrt_kernel_time", "args": {
        "op_name": "Sqrt", "provider": CPU, "node_index": "1", "input_type_shape": took, "output_type_shape": gave,
    }}  # fmt: skip
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([event]))
    (node,) = profile.read(str(path))
    assert node["scalar"] is scalar


def test_nodes_that_fell_back_are_counted_and_named() -> None:
    nodes = [{"name": f"conv{n}", "operator": "Conv", "provider": CUDA} for n in range(3)]
    nodes.append({"name": "nms", "operator": "NonMaxSuppression", "provider": CPU})
    (entry,) = providers.fallen([CUDA, CPU], [CUDA, CPU], nodes)
    assert (entry["asked"], entry["got"]) == (CUDA, CPU)
    assert entry["how"] == (
        f"3 of 4 compute nodes ran on {CUDA} (75 %), the others on {CPU} 1: NonMaxSuppression nms, by the session's profile"
    )
    assert providers.fallen([CUDA, CPU], [CUDA, CPU], nodes[:3]) == []
    assert providers.fallen([CPU], [CPU], nodes) == []
    assert providers.fallen([CUDA, CPU], [CPU], nodes) == [], "that the provider is absent is said elsewhere"


def test_a_profile_is_read_node_by_node(tmp_path: Any) -> None:
    def event(name: str, operator: str, *types: str, **more: Any) -> dict[str, Any]:
        arguments = {"op_name": operator, "provider": CUDA, "node_index": "1",
                     "input_type_shape": [{kind: [1]} for kind in types], **more}  # fmt: skip
        return {"cat": "Node", "name": f"{name}_kernel_time", "args": arguments}

    events = [
        event("c", "Conv", "float16"), event("c", "Conv", "float16"), event("q", "QLinearConv", "uint8", "float"),
        event("s", "Add", "int64"), {"cat": "Session", "name": "run"},
        {"cat": "Node", "name": "c_fence_before", "args": {}},
    ]  # fmt: skip
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    found = [(node["name"], node["operator"], node["precision"]) for node in profile.read(str(path))]
    assert found == [("c", "Conv", "fp16"), ("q", "QLinearConv", "int8"), ("s", "Add", "int64")]
    assert not path.exists()
