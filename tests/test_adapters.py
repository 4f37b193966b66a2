"""The adapters' shared contract, on real releases in real environments (`-m real`; made once, under .pytest_cache)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.environment import interpreters
from builder.environment.session import JobEnd, WorkerSession

pytestmark = pytest.mark.real

BUILDER = Path(__file__).parent.parent / "builder"
MODELS = Path(__file__).parent / "workers" / "models.py"


@dataclass(frozen=True)
class Release:
    name: str
    python: str
    packages: tuple[str, ...]
    adapter: str
    module: str
    version: str

    def __str__(self) -> str:
        return self.name


def rtx(version: str) -> Release:
    packages = (f"tensorrt_rtx_cu12_libs=={version}", f"tensorrt_rtx_cu12_bindings=={version}")
    return Release(f"tensorrt-rtx-{version}", "3.12", packages, "tensorrt", "tensorrt_rtx_bindings", version)


ORT_OLD = Release(
    "onnxruntime-1.15.1", "3.11", ("onnxruntime==1.15.1", "numpy<2"), "onnxruntime", "onnxruntime", "1.15.1"
)
ORT_NEW = Release("onnxruntime-1.31.1", "3.12", ("onnxruntime==1.31.1",), "onnxruntime", "onnxruntime", "1.31.1")
OV_OLD = Release("openvino-2023.0.2", "3.11", ("openvino==2023.0.2",), "openvino", "openvino", "2023.0.2")
OV_NEW = Release("openvino-2026.4.1", "3.12", ("openvino==2026.4.1",), "openvino", "openvino", "2026.4.1")
RTX_OLD, RTX_NEW = rtx("1.4.0.76"), rtx("1.7.1.116")
CPU = (ORT_OLD, ORT_NEW, OV_OLD, OV_NEW)
RTX = (RTX_OLD, RTX_NEW)
#: What each library maps into a process that used it.
LIBRARY = {"onnxruntime": "onnxruntime", "openvino": "libopenvino", "tensorrt": "libtensorrt_rtx"}


def make(root: Path, name: str, python: str, packages: tuple[str, ...]) -> Path:
    """Interpreter of an environment with these packages, made by uv when it is not there."""
    place = root / name
    if not (place / "whole").exists():
        uv = interpreters.uv_binary()
        found = interpreters.find(python, uv, os.environ)
        shutil.rmtree(place, ignore_errors=True)
        interpreter = place / "bin" / "python"
        for command in (
            [uv, "venv", "-q", "--no-project", "--python", str(found), str(place)],
            [uv, "pip", "install", "-q", "--python", str(interpreter), *packages],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        (place / "whole").touch()
    return place / "bin" / "python"


@pytest.fixture(scope="session")
def root(request: pytest.FixtureRequest) -> Path:
    return request.config.cache.mkdir("real-environments")


@pytest.fixture(scope="session")
def models(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = make(root, "onnx", "3.12", ("onnx>=1.16", "numpy"))
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([python, str(MODELS), str(folder)], check=True)
    return folder


class Bench:
    """One release, ready to run jobs."""

    def __init__(self, release: Release, session: WorkerSession, models: Path, folder: Path) -> None:
        self.release, self.session, self.models, self.folder = release, session, models, folder

    def job(self, stage: str, model: str, **more: Any) -> JobEnd:
        batch: Any = "N" if model == "dynamic" else 1
        settings = {"module": self.release.module} if self.release.adapter == "tensorrt" else {}
        job = {
            "adapter": self.release.adapter, "model": str(self.models / f"{model}.onnx"), "precision": "fp32",
            "realised": "graph", "profile": None, "options": {}, "threads": 1,
            "inputs": [{"name": "x", "dtype": "float32", "shape": [batch, 3, 16, 16]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [batch, 5]}],
            **more, "settings": {**settings, **more.get("settings", {})},
        }  # fmt: skip
        place = self.folder / f"{stage}-{model}-{len(list(self.folder.iterdir()))}"
        end = self.session.run(stage, job, place, seconds=120, memory=8 << 30)
        self.last = place
        return end

    def build(self, model: str, **more: Any) -> tuple[dict[str, Any], str]:
        """(result, engine's path) of a build that works."""
        end = self.job("build", model, **more)
        assert end.ok, (end.end, end.output, (self.last / "log.txt").read_text())
        assert end.output is not None
        assert end.stages == ("parse", "build")
        result = end.output["result"]
        engine = self.last / result["engine"]
        assert engine.stat().st_size > 500
        return result, str(engine)

    def run(self, model: str, *cases: str, tolerance: Any = None, **more: Any) -> dict[str, Any]:
        _, engine = self.build(model, **more)
        end = self.job(
            "run", model, engine=engine, cases=[{"file": str(self.models / f"{c}.npz"), "label": c} for c in cases],
            tolerance=tolerance or {"atol": 1e-5, "rtol": 1e-4}, metric=None, **more,
        )  # fmt: skip
        assert end.ok, (end.end, end.output, (self.last / "log.txt").read_text())
        assert end.stages == ("load", "run", "compare")
        assert end.output is not None
        return end.output["result"]


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, root: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    release: Release = request.param
    # numpy is no dependency of the TensorRT-RTX packages, and building needs none.
    python = make(root, release.name, release.python, release.packages)
    folder = tmp_path_factory.mktemp(release.name)
    session = WorkerSession(
        python=python, worker_dir=BUILDER, imports=(release.module,), log=folder / "session.log",
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    with session:
        jobs = folder / "jobs"
        jobs.mkdir()
        yield Bench(release, session, models, jobs)


def over(*releases: Release) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", releases, indirect=True, ids=str)


@over(*CPU, *RTX)
def test_probe_and_loaded_tell_the_truth(bench: Bench) -> None:
    release = bench.release
    module = bench.session.probe["modules"][release.module]
    assert module["version"].startswith(release.version)
    assert module["file"].startswith("site-packages/")
    for line in release.packages:
        name, _, version = line.partition("==")
        if version:
            assert bench.session.probe["distributions"][name.replace("_", "-")] == version
    end = bench.job("build", "fp32")
    assert end.ok
    assert end.output is not None
    loaded = end.output["loaded"]
    ours = [item for item in loaded["libraries"] if LIBRARY[release.adapter] in item["name"]]
    assert ours
    assert all(item["path"].startswith("site-packages/") for item in ours)
    assert loaded["modules"][release.module].startswith(release.version)
    assert str(bench.models) not in str(loaded)
    assert not any("openvino_telemetry" in name for name in loaded["modules"])


@over(*CPU, *RTX)
def test_unknown_operators_are_refused_at_parse_and_named(bench: Bench) -> None:
    end = bench.job("build", "unknown")
    assert end.end == {"exit": 0}
    assert end.stages == ("parse",)
    assert end.output is not None
    error = end.output["error"]
    assert error["stage"] == "parse"
    operators = {item["operator"].split(".")[-1].split(":")[-1] for item in error["unsupported"]}
    # ONNX Runtime stops at the first.
    assert operators == ({"NoSuchOp"} if bench.release.adapter == "onnxruntime" else {"NoSuchOp", "NoSuchToo"})
    if bench.release.adapter == "tensorrt":
        assert [item["node"] for item in error["unsupported"]] == ["first", "second"]
    assert "NoSuchOp" in error["message"]
    assert str(bench.models) not in error["message"]


@over(ORT_OLD, ORT_NEW)
def test_an_operator_without_a_kernel_is_refused_at_build_and_named(bench: Bench) -> None:
    end = bench.job("build", "double")
    assert end.stages == ("parse", "build")
    assert end.output is not None
    error = end.output["error"]
    assert (error["stage"], error["type"]) == ("build", "NotImplemented")
    assert [(item["node"], item["operator"]) for item in error["unsupported"]] == [("conv", "Conv")]


@over(*CPU, *RTX)
def test_a_broken_file_is_the_librarys_own_error(bench: Bench) -> None:
    end = bench.job("build", "broken")
    assert end.end == {"exit": 0}
    assert end.output is not None
    assert end.output["error"]["stage"] == "parse"
    assert len(end.output["error"]["message"]) > 10


@over(*CPU)
def test_fp32_matches_and_a_wrong_reference_does_not(bench: Bench) -> None:
    result = bench.run("fp32", "fp32")
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert result["degraded"] == []
    heavy = {name: counts for name, counts in result["found"]["precision"].items() if "Conv" in name}
    assert heavy
    assert all(set(counts) == {"fp32"} for counts in heavy.values())
    assert bench.run("fp32", "fp32", "wrong")["comparison"]["verdict"] == "mismatch"


@over(*CPU)
def test_dynamic_shapes(bench: Bench) -> None:
    assert bench.run("dynamic", "fp32", "batch3")["comparison"]["verdict"] == "match"


@over(*CPU)
def test_fp16_in_the_graph_is_computed_in_fp32_here_and_said_so(bench: Bench) -> None:
    """No CPU that these tests run on has fp16 convolutions in these libraries; where one has, this must be told
    apart."""
    result = bench.run("fp16", "fp32", precision="fp16", tolerance={"atol": 1e-2, "rtol": 1e-2})
    assert result["comparison"]["verdict"] == "match"
    assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("fp16", "fp32")]


@over(OV_OLD, OV_NEW)
def test_fp16_asked_of_openvino_by_its_hint(bench: Bench) -> None:
    """Refused by name, or carried out as something else: either way it is told."""
    end = bench.job("build", "fp32", precision="fp16", realised="flag")
    assert end.output is not None
    if end.output["ok"]:
        precisions = end.output["result"]["found"]["precision"]["Convolution"]
        assert ("fp16" in precisions) != bool(end.output["result"]["degraded"])
    else:
        assert "INFERENCE_PRECISION_HINT" in end.output["error"]["message"]


@over(ORT_OLD, ORT_NEW)
def test_int8_is_proved_by_quantised_operators(bench: Bench) -> None:
    result = bench.run("int8", "int8", precision="int8", tolerance={"cosine": 0.98})
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert result["degraded"] == []
    assert "QLinearConv" in result["found"]["precision"]


@over(*CPU)
def test_int8_without_a_quantised_operator_is_degraded(bench: Bench) -> None:
    result = bench.run("int8-input-only", "int8-input-only", precision="int8", tolerance={"cosine": 0.98})
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("int8", "fp32")]


@over(*CPU)
def test_measure(bench: Bench) -> None:
    _, engine = bench.build("fp32")
    method = {"warmup_seconds": 0.05, "window_seconds": 0.05, "agree": 10.0}
    cases = [{"file": str(bench.models / "fp32.npz"), "label": "static"}]
    end = bench.job("measure", "fp32", engine=engine, cases=cases, method=method)
    assert end.ok
    assert end.stages == ("load", "measure")
    assert end.output is not None
    result = end.output["result"]
    assert result["settled"]
    assert 0 < result["median"] < 0.1
    assert (bench.last / result["samples_file"]).exists()


@over(ORT_OLD, ORT_NEW)
def test_a_provider_that_is_not_there_is_degraded(bench: Bench) -> None:
    settings = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    end = bench.job("build", "fp32", settings=settings)
    assert end.output is not None
    if end.output["ok"]:
        assert end.output["result"]["degraded"][0]["asked"] == "CUDAExecutionProvider"
    else:
        assert "CUDAExecutionProvider" in end.output["error"]["message"]


@over(*RTX)
@pytest.mark.parametrize("target", ["sm75", "sm80", "sm86", "sm89", "sm120"])
def test_rtx_builds_ahead_of_time(bench: Bench, target: str) -> None:
    result, engine = bench.build("fp16", precision="fp16", options={"target": target})
    assert result["found"]["target"] == target
    assert result["degraded"] == []
    assert result["found"]["precision"]["CONVOLUTION"] == {"fp16": 1}
    assert Path(engine).suffix == ".plan"


@over(*RTX)
def test_rtx_fp16_asked_of_an_fp32_graph_is_degraded(bench: Bench) -> None:
    result, _ = bench.build("fp32", precision="fp16", options={"target": "sm89"})
    assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("fp16", "fp32")]


@over(*RTX)
def test_rtx_targets_differ_by_release(bench: Bench) -> None:
    end = bench.job("build", "fp32", options={"target": "sm121"})
    assert end.output is not None
    if bench.release is RTX_OLD:
        assert end.output["error"]["type"] == "AttributeError"
        assert "SM121" in end.output["error"]["message"]
    else:
        assert end.ok


@over(*RTX)
def test_rtx_dynamic_needs_its_profile(bench: Bench) -> None:
    shapes = {"min": [1, 3, 16, 16], "opt": [2, 3, 16, 16], "max": [4, 3, 16, 16]}
    bench.build("dynamic", options={"target": "sm89"}, profile={"x": shapes})
    end = bench.job("build", "dynamic", options={"target": "sm89"})
    assert end.output is not None
    assert end.output["error"]["stage"] == "build"
    assert "no optimization profile has been defined" in end.output["error"]["message"]


@over(*RTX)
def test_rtx_load_without_a_gpu_is_the_librarys_refusal(bench: Bench) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    _, engine = bench.build("fp32", options={"target": "sm89"})
    end = bench.job("run", "fp32", engine=engine, cases=[], tolerance={"atol": 1e-3}, metric=None)
    assert end.stages == ("load",)
    assert end.output is not None
    assert end.output["error"]["stage"] == "load"
    assert "Cuda Runtime" in end.output["error"]["message"]


@over(*CPU, *RTX)
def test_the_smallest_refused_piece_is_refused_again(bench: Bench) -> None:
    model = "double" if bench.release.adapter == "onnxruntime" else "unknown"
    end = bench.job("build", model)
    assert end.output is not None
    error = end.output["error"]
    end = bench.job(
        "subgraph", model, refused=error.get("unsupported", []), message=error["message"], failed_at=error["stage"]
    )
    assert end.ok, (end.end, end.output, (bench.last / "log.txt").read_text())
    assert end.output is not None
    piece = end.output["result"]["subgraphs"][0]
    assert piece["smallest"]
    assert len(piece["nodes"]) == 1
    again = bench.job("build", str(bench.last / piece["model"]).removesuffix(".onnx"))
    assert again.output is not None
    assert not again.output["ok"]
    assert again.output["error"]["stage"] == error["stage"]
    assert again.output["error"]["type"] == error["type"]
