"""The TensorRT adapter over every kind of release, on fakes that have each release's own surface (tests/fakes).

What the library itself does of it is in test_adapters.py and test_tensorrt_rtx.py (TensorRT for RTX, real), and in
test_tensorrt_surfaces.py (the fakes' surfaces against the real modules)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder import worker

sys.modules.setdefault("worker", worker)

from fakes import onnxfile, tensorrt_fake  # noqa: E402
from fakes.tensorrt_fake import RELEASES, Cudart, World  # noqa: E402

from worker import adapters, jobs, subgraph_search  # noqa: E402
from worker.adapters import cuda, tensorrt_api, tensorrt_config, tensorrt_engine, tensorrt_layers  # noqa: E402

OLD = ("7.2.3", "8.4.1.5", "8.6.1")
FLAGGED = (*OLD, "10.0.1", "10.16.1.11")
CACHED = RELEASES[1:]
TENSORS = RELEASES[2:]


class Bench:
    """One release: jobs over it, in this process."""

    def __init__(self, release: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release, self.folder, self.world = release, folder, World()
        made = tensorrt_fake.module(release, self.world)
        self.trt, self.name = made, made.__name__
        monkeypatch.setitem(sys.modules, self.name, made)
        self.cudart = Cudart()
        self.cuda = cuda.Cuda  # the real class, over host memory
        monkeypatch.setattr(cuda, "Cuda", lambda: self.cuda(self.cudart))
        self.count = 0

    def job(self, model: str | Path, **more: Any) -> jobs.Job:
        self.count += 1
        place = self.folder / f"job-{self.count}"
        place.mkdir()
        given = {
            "adapter": "tensorrt", "model": str(model), "precision": "fp32", "realised": "graph", "profile": None, "options": {},
            "inputs": [{"name": "x", "dtype": "float32", "shape": [2, 3]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [2, 3]}], "settings": {"module": self.name}, **more,
        }  # fmt: skip
        return jobs.Job("build", given, str(place), lambda _: None)

    def build(self, model: str | Path, **more: Any) -> dict[str, Any]:
        job = self.job(model, **more)
        result: dict[str, Any] = adapters.get("tensorrt").build(job)
        jobs.clean(result, "result", job)  # plain JSON
        self.last = Path(job.dir)
        self.plan = json.loads((self.last / result["engine"]).read_bytes())
        return result

    def load(self, **more: Any) -> Any:
        return adapters.get("tensorrt").load(self.job("", **more), str(self.last / "engine.plan"))


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, tmp_path, monkeypatch)


def over(*releases: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", releases, indirect=True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """y = Conv(x), then Relu; two layers, of which one is heavy."""
    return onnxfile.write(
        tmp_path / "small.onnx", [("Conv", "conv", ["x", "w"], ["c"]), ("Relu", "relu", ["c"], ["y"])], weights=["w"]
    )


@pytest.fixture
def double(tmp_path: Path) -> Path:
    """y = max(x, 0) + max(x, 0), of any batch."""
    nodes = [("Relu", "relu", ["x"], ["r"]), ("Add", "add", ["r", "r"], ["y"])]
    return onnxfile.write(tmp_path / "double.onnx", nodes, shape=["N", 3])


RANGE = {"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}


# The surfaces ----------------------------------------------------------------------------------------------------------


@over(*RELEASES)
def test_a_fake_has_what_its_release_has_and_nothing_else(bench: Bench) -> None:
    trt, major = bench.trt, int(bench.release.split(".")[0])
    config = trt.Builder(tensorrt_api.logger(trt)).create_builder_config()
    assert hasattr(config, "max_workspace_size") == (major < 10)
    assert hasattr(config, "set_memory_pool_limit") == (bench.release not in ("7.2.3",))
    assert hasattr(config, "int8_calibrator") == hasattr(trt, "IInt8EntropyCalibrator2") == (major < 11)
    assert ("FP16" in trt.BuilderFlag.__members__) == (major < 11)
    assert hasattr(trt.Builder, "build_serialized_network") == (major >= 8)
    assert hasattr(trt.ICudaEngine, "num_bindings") == (major < 10)
    with pytest.raises(AttributeError):
        config.no_such_thing = 1
    if major >= 10:
        with pytest.raises(AttributeError):
            config.max_workspace_size = 1
    with pytest.raises(NotImplementedError, match="no behaviour"):
        config.reset()


# Building --------------------------------------------------------------------------------------------------------------


@over(*RELEASES)
def test_every_release_builds_loads_runs_and_tells(bench: Bench, double: Path) -> None:
    result = bench.build(double, profile=RANGE)
    assert result["degraded"] == []
    assert result["found"]["typed"] == ("strongly" if int(bench.release.split(".")[0]) >= 10 else "weakly")
    engine = bench.load(profile=RANGE)
    x = np.array([[1.0, -2.0, 3.0]], dtype=np.float32)
    (y,) = engine.run([x])
    np.testing.assert_array_equal(y, [[2.0, 0.0, 6.0]])
    (y,) = engine.run([np.ones((4, 3), dtype=np.float32)])
    np.testing.assert_array_equal(y, np.full((4, 3), 2.0))
    proof = engine.proof()
    assert proof["degraded"] == []
    assert ("no engine inspector" in proof["found"]["from"]) == (bench.release == "7.2.3")


@over(*RELEASES)
def test_batch_is_explicit_where_there_is_another_kind(bench: Bench) -> None:
    flags = tensorrt_config.network_flags(bench.trt, False)
    assert bool(flags) == (bench.release in OLD)
    network = bench.trt.Builder(tensorrt_api.logger(bench.trt)).create_network(flags)
    assert not network._implicit


@over(*FLAGGED)
def test_fp16_is_a_flag_up_to_10(bench: Bench, small: Path) -> None:
    result = bench.build(small, precision="fp16", realised="flag")
    assert result["found"]["flags"] == ["FP16"]
    assert result["found"]["typed"] == "weakly"
    assert {layer["precision"] for layer in bench.plan["layers"]} == {"HALF"}


@over("11.4.0.106")
def test_fp16_asked_of_a_builder_without_the_flag_is_refused_by_name(bench: Bench, small: Path) -> None:
    with pytest.raises(jobs.Failure, match=r"11\.4\.0\.106 has no BuilderFlag\.FP16"):
        bench.build(small, precision="fp16", realised="flag")


@over("7.2.3", "8.4.1.5")
def test_a_flag_of_later_releases_is_refused_by_name(bench: Bench, small: Path) -> None:
    with pytest.raises(jobs.Failure, match=r"has no BuilderFlag\.BF16"):
        bench.build(small, precision="bf16", realised="flag")


@over("10.16.1.11", "11.4.0.106")
def test_fp16_asked_of_an_fp32_graph_is_degraded(bench: Bench, small: Path) -> None:
    (entry,) = bench.build(small, precision="fp16")["degraded"]
    assert (entry["asked"], entry["got"]) == ("fp16", "fp32")


@over(*FLAGGED[1:])
def test_fp16_that_the_builder_did_not_use_is_degraded_with_numbers(bench: Bench, small: Path) -> None:
    bench.world.stubborn.add("conv")
    assert bench.build(small, precision="fp16", realised="flag")["degraded"] == []  # not known before it is loaded
    proof = bench.load(precision="fp16").proof()
    (entry,) = proof["degraded"]
    assert (entry["asked"], entry["got"]) == ("fp16", "fp32")
    assert "0 of 1 compute operators ran in fp16" in entry["how"]
    assert proof["found"]["operations"] == {"fp16": 1, "fp32": 1}


@over(*RELEASES)
def test_tf32_is_off_unless_asked_for(bench: Bench, small: Path) -> None:
    bench.world.tf32_tactics = True
    bench.build(small)
    assert not bench.plan["tf32"]
    result = bench.build(small, options={"tf32": "true"})
    assert result["found"]["flags"] == ["TF32"]
    assert bench.plan["tf32"]


@over(*CACHED)
def test_tf32_behind_the_back_of_fp32_is_degraded(bench: Bench, small: Path) -> None:
    bench.world.tf32_tactics = True
    bench.build(small, options={"tf32": "true"})
    (entry,) = bench.load().proof()["degraded"]
    assert (entry["asked"], entry["got"]) == ("fp32", "tf32")
    assert "1 of 2 compute layers" in entry["how"]
    assert bench.load(options={"tf32": "true"}).proof()["degraded"] == []


@over(*RELEASES)
def test_workspace(bench: Bench, small: Path) -> None:
    assert bench.build(small, options={"workspace": "65536"})["found"]["workspace"] == 65536
    plain = bench.build(small)["found"]
    # Without it these releases would have none at all.
    assert plain.get("workspace") == (tensorrt_config.WORKSPACE if bench.release == "7.2.3" else None)
    with pytest.raises(jobs.Failure, match="a number of bytes"):
        bench.build(small, options={"workspace": "1 GiB"})


@over(*RELEASES)
def test_version_compatibility(bench: Bench, small: Path) -> None:
    if bench.release in OLD[:2]:
        with pytest.raises(jobs.Failure, match="8.6 is the first"):
            bench.build(small, options={"compatibility": "version"})
        return
    assert bench.build(small, options={"compatibility": "version"})["found"]["flags"] == ["VERSION_COMPATIBLE"]
    bench.load(options={"compatibility": "version"})
    with pytest.raises(jobs.Failure, match="setEngineHostCodeAllowed"):
        bench.load()
    lean = bench.build(small, options={"compatibility": "version-lean"})
    assert lean["found"]["flags"] == ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
    with pytest.raises(jobs.Failure, match="version, version-lean|none, version"):
        bench.build(small, options={"compatibility": "everything"})


@over(*RELEASES)
def test_hardware_compatibility(bench: Bench, small: Path) -> None:
    if bench.release in OLD[:2]:
        with pytest.raises(jobs.Failure, match="no hardware compatibility"):
            bench.build(small, options={"hardware": "ampere-plus"})
        return
    assert bench.build(small, options={"hardware": "ampere-plus"})["found"]["hardware"] == "ampere-plus"
    if bench.release in ("8.6.1", "10.0.1"):
        with pytest.raises(jobs.Failure, match="no hardware compatibility 'same-compute-capability'"):
            bench.build(small, options={"hardware": "same-compute-capability"})
    else:
        bench.build(small, options={"hardware": "same-compute-capability"})


@over(*RELEASES)
def test_refit_is_off_unless_asked_for(bench: Bench, small: Path) -> None:
    assert "REFIT" not in bench.build(small)["found"]["flags"]
    assert "REFIT" in bench.build(small, options={"refit": "true"})["found"]["flags"]
    with pytest.raises(jobs.Failure, match="true or false"):
        bench.build(small, options={"refit": "maybe"})


@over(*RELEASES)
def test_optimization_levels(bench: Bench, small: Path) -> None:
    if bench.release in OLD[:2]:
        with pytest.raises(jobs.Failure, match="no optimization levels"):
            bench.build(small, options={"optimization": "5"})
    else:
        assert bench.build(small, options={"optimization": "5"})["found"]["optimization"] == 5
    with pytest.raises(jobs.Failure, match="0 to 5"):
        bench.build(small, options={"optimization": "9"})


@over("8.6.1", "11.4.0.106")
def test_a_target_is_for_releases_that_build_ahead_of_time(bench: Bench, small: Path) -> None:
    with pytest.raises(jobs.Failure, match="cannot build for a chosen compute capability"):
        bench.build(small, options={"target": "sm89"})


@over("7.2.3", "11.4.0.106")
def test_an_option_that_nothing_reads_is_named(bench: Bench, small: Path) -> None:
    assert bench.build(small, options={"hardwre": "ampere-plus", "workspace": "65536"})["found"]["unread"] == [
        "hardwre"
    ]
    assert "unread" not in bench.build(small, options={"workspace": "65536"})["found"]


# Profiles --------------------------------------------------------------------------------------------------------------


@over(*RELEASES)
def test_several_profiles_and_the_nearest_is_used(bench: Bench, double: Path) -> None:
    result = bench.build(double, profile=RANGE, options={"tune": "min+opt+max"})
    assert result["found"]["profiles"] == ["min", "opt", "max"]
    assert [profile["x"][1] for profile in bench.plan["profiles"]] == [[1, 3], [2, 3], [4, 3]]
    engine = bench.load(profile=RANGE)
    for batch in (1, 4, 2, 3, 4):
        (y,) = engine.run([np.full((batch, 3), 1.5, dtype=np.float32)])
        np.testing.assert_array_equal(y, np.full((batch, 3), 3.0))
    # batch 3 is as far from 2 as from 4: the first of them
    assert [call["profile"] for call in bench.world.executed] == [0, 2, 1, 1, 2]


@over("7.2.3", "10.16.1.11")
def test_a_shape_out_of_range_is_refused_by_name(bench: Bench, double: Path) -> None:
    bench.build(double, profile=RANGE)
    engine = bench.load(profile=RANGE)
    with pytest.raises(jobs.Failure, match=r"refused the shape \(5, 3\) of x"):
        engine.run([np.ones((5, 3), dtype=np.float32)])
    (y,) = engine.run([np.ones((3, 3), dtype=np.float32)])  # and works on
    assert y.shape == (3, 3)


@over("7.2.3", "8.6.1", "11.4.0.106")
def test_a_dynamic_model_without_a_profile_is_the_librarys_refusal(bench: Bench, double: Path) -> None:
    with pytest.raises(jobs.Failure, match="no optimization profile has been defined"):
        bench.build(double)
    with pytest.raises(jobs.Failure, match="min, opt and max"):
        bench.build(double, profile=RANGE, options={"tune": "opt+opt"})
    upside_down = {"x": {"min": [4, 3], "opt": [2, 3], "max": [1, 3]}}
    with pytest.raises(jobs.Failure, match="profile was refused"):
        bench.build(double, profile=upside_down)


# DLA -------------------------------------------------------------------------------------------------------------------


@over("8.6.1", "10.0.1")
def test_dla_with_fallback_names_the_layers_left_to_the_gpu(bench: Bench, small: Path) -> None:
    bench.world.dla_cores, bench.world.not_on_dla = 2, {"Relu"}
    result = bench.build(small, precision="fp16", realised="flag", options={"device": "dla:1"})
    assert result["found"]["dla"] == {"layers": 2, "on_gpu": ["relu"]}
    assert "GPU_FALLBACK" in result["found"]["flags"]
    assert result["degraded"] == [
        {"asked": "dla:1", "got": "dla:1 and gpu", "how": "1 of 2 layers (50 %) on the GPU: relu"}
    ]
    bench.world.tells_of_dla = False  # then it is what the configuration says of each layer
    result = bench.build(small, precision="fp16", realised="flag", options={"device": "dla"})
    assert result["found"]["dla"]["on_gpu"] == ["relu"]
    with pytest.raises(jobs.Failure, match="fallback is not enabled"):
        bench.build(small, precision="fp16", realised="flag", options={"device": "dla", "gpu_fallback": "false"})
    bench.world.not_on_dla = set()
    assert bench.build(small, precision="fp16", realised="flag", options={"device": "dla"})["degraded"] == []
    with pytest.raises(jobs.Failure, match="finds 2 DLA cores here, and core 2 was asked"):
        bench.build(small, options={"device": "dla:2"})
    with pytest.raises(jobs.Failure, match="gpu, dla or dla:<core>"):
        bench.build(small, options={"device": "npu"})


def test_dla_fallbacks_as_releases_word_them() -> None:
    """https://github.com/NVIDIA/TensorRT/issues/2318, https://github.com/lewes6369/TensorRT-Yolov3/issues/86,
    https://github.com/marcoslucianops/DeepStream-Yolo/issues/27, https://github.com/onnx/tensorflow-onnx/issues/1632."""
    messages = [
        "Default DLA is enabled but layer LSTM encoder is not supported on DLA, falling back to GPU.",
        "Default DLA is enabled but layer layer74-act is not running on DLA, falling back to GPU.",
        "DLA supports only 8 subgraphs per DLA core. Switching to GPU for layer conv_6",
        "DLA only supports FP16 and Int8 precision type. Switching (Unnamed Layer* 275) [Gather] device type to GPU.",
        "layer84-route: Concatenation on DLA requires at least two inputs.",
    ]
    found = tensorrt_layers.fallbacks(messages)
    assert found == ["LSTM encoder", "layer74-act", "conv_6", "(Unnamed Layer* 275) [Gather]"]


# Timing caches ---------------------------------------------------------------------------------------------------------


@over(*CACHED)
def test_a_timing_cache_saves_measuring_and_is_handed_back(bench: Bench, small: Path, tmp_path: Path) -> None:
    first = bench.build(small, timing_cache=[])
    assert first["found"]["timing_cache"]["files"] == 0
    before = len(bench.world.measured)
    assert before == 2
    kept = tmp_path / "kept.cache"
    kept.write_bytes((bench.last / first["timing_cache"]).read_bytes())
    again = bench.build(small, timing_cache=[str(kept)])
    assert len(bench.world.measured) == before
    assert again["found"]["timing_cache"]["files"] == 1
    off = bench.build(small, timing_cache=[str(kept)], options={"timing_cache": "off"})
    assert "timing_cache" not in off
    assert len(bench.world.measured) == before + 2


@over("8.4.1.5", "11.4.0.106")
def test_a_timing_cache_of_another_device_is_left_aside_and_named(bench: Bench, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cache"
    other.write_bytes(b"device 1\nconv FLOAT\nrelu FLOAT")
    result = bench.build(small, timing_cache=[str(other)])
    assert result["found"]["timing_cache"]["left"] == ["other.cache"]
    assert bench.world.measured == ["conv FLOAT", "relu FLOAT"]


@over("7.2.3")
def test_a_release_without_timing_caches_says_so(bench: Bench, small: Path) -> None:
    result = bench.build(small, timing_cache=[])
    assert "8.0 is the first" in result["found"]["timing_cache"]["because"]
    assert "timing_cache" not in result


# Calibration -----------------------------------------------------------------------------------------------------------


def samples(folder: Path, count: int = 3) -> list[str]:
    paths = []
    for index in range(count):
        path = folder / f"calibration-{index}.npz"
        np.savez(path, input_0=np.full((2, 3), float(index), dtype=np.float32))
        paths.append(str(path))
    return paths


@over(*FLAGGED)
@pytest.mark.parametrize("kind", ["entropy", "entropy1", "minmax"])
def test_int8_by_calibration(bench: Bench, small: Path, tmp_path: Path, kind: str) -> None:
    more = {"precision": "int8", "realised": "flag", "options": {"calibration": kind}}
    result = bench.build(small, calibration=samples(tmp_path), **more)
    assert result["found"]["calibration"] == {"kind": kind, "samples": 3, "reused": False, "tensors": 2}
    assert result["found"]["flags"] == ["INT8"]
    table = bench.last / result["calibration_table"]
    again = bench.build(small, calibration=[], calibration_table=str(table), **more)
    assert again["found"]["calibration"] == {"kind": kind, "samples": 0, "reused": True, "tensors": 2}
    assert "calibration_table" not in again
    assert {layer["precision"] for layer in bench.plan["layers"]} == {"INT8"}


@over("8.6.1", "11.4.0.106")
def test_int8_without_data_or_calibrators_is_refused(bench: Bench, small: Path, tmp_path: Path) -> None:
    more = {"precision": "int8", "realised": "flag"}
    if bench.release == "11.4.0.106":
        with pytest.raises(jobs.Failure, match=r"no BuilderFlag\.INT8"):
            bench.build(small, calibration=samples(tmp_path), **more)
        return
    with pytest.raises(jobs.BadInput, match="samples or a table"):
        bench.build(small, **more)
    with pytest.raises(jobs.Failure, match="entropy, entropy1, minmax"):
        bench.build(small, calibration=samples(tmp_path), options={"calibration": "guess"}, **more)
    odd = {"inputs": [{"name": "z", "dtype": "float32", "shape": [2, 3]}]}
    with pytest.raises(jobs.BadInput, match="no input x"):
        bench.build(small, calibration=samples(tmp_path), **odd, **more)


@over("8.6.1")
def test_a_graph_with_qdq_needs_no_calibrator_and_gets_none(bench: Bench, tmp_path: Path) -> None:
    quantised = onnxfile.write(
        tmp_path / "qdq.onnx",
        [("QuantizeLinear", "q", ["x", "s"], ["q"]), ("DequantizeLinear", "dq", ["q", "s"], ["y"])], weights=["s"],
    )  # fmt: skip
    assert bench.build(quantised, precision="int8")["found"]["flags"] == ["INT8"]
    with pytest.raises(jobs.Failure, match="Q/DQ nodes already"):
        bench.build(quantised, precision="int8", realised="flag", calibration=samples(tmp_path))


# What a parser refuses -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    nodes = [
        ("Relu", "one", ["x"], ["a"]), ("Strange", "two", ["a"], ["b"]), ("Add", "three", ["x", "x"], ["c"]),
        ("Odd", "four", ["c"], ["d"]), ("Add", "five", ["b", "d"], ["y"]),
    ]  # fmt: skip
    return onnxfile.write(tmp_path / "refused.onnx", nodes)


@over(*RELEASES)
def test_refused_nodes_are_named_and_the_others_counted(bench: Bench, refused: Path) -> None:
    bench.world.refused = {"Strange", "Odd"}
    with pytest.raises(jobs.Failure) as caught:
        bench.build(refused)
    assert [(entry["node"], entry["operator"]) for entry in caught.value.unsupported] == [("two", "Strange")]
    assert "Plugin not found" in caught.value.unsupported[0]["reason"]
    found = caught.value.found["parser"]
    assert found["nodes"] == 5
    assert found["operators"] == {"Add": True, "Odd": False, "Relu": True, "Strange": False}
    # The parser stops at the first; what comes after is asked about by itself.
    assert found["supported"] == 3 - found["unjudged"].count("five")
    assert "four" in found["unjudged"]


@over(*RELEASES)
def test_errors_are_believed_before_lists(bench: Bench, refused: Path) -> None:
    bench.world.refused, bench.world.flatters = {"Strange"}, True
    with pytest.raises(jobs.Failure) as caught:
        bench.build(refused)
    found = caught.value.found["parser"]
    assert (found["supported"], found["refused"], found["unjudged"]) == (4, 1, [])


@over(*RELEASES)
def test_the_smallest_piece_that_is_refused(bench: Bench, refused: Path) -> None:
    bench.world.refused = {"Strange", "Odd"}
    with pytest.raises(jobs.Failure) as caught:
        bench.build(refused)
    job = bench.job(refused, refused=caught.value.unsupported, message=str(caught.value), failed_at="parse")
    (piece,) = subgraph_search.reduce(job)["subgraphs"]
    assert piece["nodes"] == ["two"]
    assert piece["of"] == 5
    assert piece["smallest"]
    with pytest.raises(jobs.Failure, match="Plugin not found"):
        bench.build(Path(job.path(piece["model"])))


# Loading and running ---------------------------------------------------------------------------------------------------


@over(*TENSORS)
def test_outputs_whose_shape_depends_on_the_data(bench: Bench, tmp_path: Path) -> None:
    model = onnxfile.write(tmp_path / "nonzero.onnx", [("NonZero", "nz", ["x"], ["y"])])
    if bench.release == "8.6.1":
        bench.build(model)
        assert bench.plan["outputs"][0][1] == "INT32"
    else:
        bench.build(model)
    engine = bench.load()
    (y,) = engine.run([np.array([[0, 5, 0], [7, 0, 9]], dtype=np.float32)])
    np.testing.assert_array_equal(y, [[0, 1, 1], [1, 0, 2]])
    (y,) = engine.run([np.zeros((2, 3), dtype=np.float32)])
    assert y.shape == (2, 0)


@over(*OLD[:2])
def test_bindings_have_fixed_shapes_alone(bench: Bench, tmp_path: Path) -> None:
    bench.build(onnxfile.write(tmp_path / "nonzero.onnx", [("NonZero", "nz", ["x"], ["y"])]))
    with pytest.raises(jobs.Failure, match="outputs of fixed shapes alone"):
        bench.load().run([np.ones((2, 3), dtype=np.float32)])


@over("7.2.3", "8.6.1")
def test_int64_is_read_as_int32_and_never_cut_short(bench: Bench, tmp_path: Path) -> None:
    bench.build(onnxfile.write(tmp_path / "ids.onnx", [("Identity", "id", ["x"], ["y"])], element=7))
    engine = bench.load()
    (y,) = engine.run([np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int64)])
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(jobs.Failure, match="int32 cannot hold"):
        engine.run([np.full((2, 3), 1 << 40, dtype=np.int64)])


@over("10.16.1.11", "11.4.0.106")
def test_bfloat16_goes_in_and_out(bench: Bench, tmp_path: Path) -> None:
    bench.build(onnxfile.write(tmp_path / "bf16.onnx", [("Identity", "id", ["x"], ["y"])], element=16))
    x = np.array([[1.0, -2.5, 3.14159], [1e30, np.inf, np.nan]], dtype=np.float32)
    (y,) = bench.load().run([x])
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, x, rtol=2**-8)
    assert y[0, 1] == -2.5


@over(*RELEASES)
def test_memory_is_kept_from_call_to_call(bench: Bench, double: Path) -> None:
    bench.build(double, profile=RANGE)
    engine = bench.load(profile=RANGE)
    engine.run([np.ones((2, 3), dtype=np.float32)])
    made = bench.cudart.calls.count("cudaMalloc")
    for _ in range(5):
        engine.run([np.ones((1, 3), dtype=np.float32)])
    assert bench.cudart.calls.count("cudaMalloc") == made == 2
    engine.run([np.ones((4, 3), dtype=np.float32)])
    assert bench.cudart.calls.count("cudaFree") == 2  # grown, not added
    assert len(bench.cudart.live) == 2


@over("7.2.3", "11.4.0.106")
def test_no_device_memory_is_cudas_own_error(bench: Bench, double: Path) -> None:
    bench.build(double, profile=RANGE)
    engine = bench.load(profile=RANGE)
    bench.cudart.room = 4
    with pytest.raises(jobs.Failure, match=r"cudaMalloc: out of memory \(CUDA error 2\)"):
        engine.run([np.ones((2, 3), dtype=np.float32)])


@over(*RELEASES)
def test_device_time_is_between_two_events_and_copies_nothing(bench: Bench, double: Path) -> None:
    bench.build(double, profile=RANGE)
    engine = bench.load(profile=RANGE)
    timer = engine.device_timer([np.ones((2, 3), dtype=np.float32)])
    bench.cudart.calls.clear()
    ran = len(bench.world.executed)
    assert timer() == pytest.approx(0.0015)
    assert timer() == pytest.approx(0.0015)
    assert len(bench.world.executed) == ran + 2
    assert set(bench.cudart.calls) == {"cudaEventRecord", "cudaEventSynchronize", "cudaEventElapsedTime"}


@over("8.6.1", "10.16.1.11")
def test_an_engine_of_another_release_is_the_librarys_refusal(bench: Bench, small: Path) -> None:
    bench.build(small)
    bench.plan["release"] = "8.5.3"
    (bench.last / "engine.plan").write_text(json.dumps(bench.plan))
    with pytest.raises(jobs.Failure, match="Version tag does not match"):
        bench.load()


@over("7.2.3", "10.0.1")
def test_an_engine_without_the_input_is_refused_by_name(bench: Bench, small: Path) -> None:
    bench.build(small)
    with pytest.raises(jobs.Failure, match="has no input image; it has x"):
        bench.load(inputs=[{"name": "image", "dtype": "float32", "shape": [2, 3]}])


@over("8.4.1.5", "11.4.0.106")
def test_an_engine_built_without_details_tells_names_alone(bench: Bench, small: Path) -> None:
    bench.build(small, precision="fp16", realised="graph")
    bench.plan["detailed"] = False
    (bench.last / "engine.plan").write_text(json.dumps(bench.plan))
    proof = bench.load(precision="fp16").proof()
    assert proof["degraded"] == []
    assert proof["found"]["engine_layers"] == ["conv", "relu"]
    assert "without details" in proof["found"]["from"]


@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="no NVIDIA GPU here")
def test_cuda_on_a_gpu() -> None:
    gpu = cuda.Cuda()
    stream, buffers = gpu.stream(), cuda.Buffers(gpu)
    sent = np.arange(1 << 20, dtype=np.float32)
    back = np.zeros_like(sent)
    first, last = gpu.event(), gpu.event()
    free, total = gpu.memory()
    assert 0 < free <= total
    gpu.record(first, stream)
    address = buffers.get("x", sent.nbytes)
    gpu.to_device(address, sent, stream)
    gpu.to_host(back, address, stream)
    gpu.record(last, stream)
    assert 0 < gpu.between(first, last) < 10
    gpu.wait(stream)
    np.testing.assert_array_equal(back, sent)
    assert buffers.get("x", 16) == address
    with pytest.raises(jobs.Failure, match="cudaMalloc"):
        gpu.allocate(1 << 60)


# What the inspector says -----------------------------------------------------------------------------------------------

#: As recorded: https://github.com/NVIDIA/TensorRT/issues/2418 (8.4) and /issues/4020 (10.x), the README of
#: samples/sampleEditableTimingCache (10.9), shortened.
RECORDED = {"Layers": [
    {"Name": "GlobalAveragePool_5", "LayerType": "CaskPooling",
     "Inputs": [{"Name": "input.12", "Location": "Device", "Dimensions": [1, 64, 540, 960],
                 "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
     "Outputs": [{"Name": "input.16", "Location": "Device", "Dimensions": [1, 64, 1, 1],
                  "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
     "ParameterType": "Pooling", "TacticValue": "0xe6818811f865a21a",
     "TacticName": "sm50_xmma_pooling_fw_4d_FP16FP32NHWC_Average_FastDiv_GenericWindowWidth_CAlign4"},
    {"Name": "Reformatting CopyNode for Input Tensor 0 to resnetv15_conv0_fwd", "LayerType": "Reformat",
     "Inputs": [{"Name": "data", "Format/Datatype": "Row major linear FP32"}],
     "Outputs": [{"Name": "Reformatted", "Format/Datatype": "Row major Int8 format"}],
     "ParameterType": "Reformat", "Origin": "REFORMAT", "TacticValue": "0x00000000000003e8", "Metadata": ""},
    {"Name": "resnetv15_conv0_fwd + resnetv15_relu0_fwd", "LayerType": "CaskConvActPool",
     "Inputs": [{"Name": "Reformatted", "Format/Datatype": "Row major Int8 format"}], "Outputs": [],
     "Weights": {"Type": "Int8", "Count": 9408}, "ParameterType": "Convolution",
     "Metadata": "[ONNX Layer: resnetv15_conv0_fwd]\u001e[ONNX Layer: resnetv15_relu0_fwd]"},
    {"Name": "matMul1_myl0_0", "LayerType": "gemm", "Inputs": [{"Name": "input", "Format/Datatype": "Float"}],
     "Outputs": [{"Name": "out", "Format/Datatype": "Float"}], "StreamId": 0, "Metadata": "",
     "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x64_stage3_warpsize2x1x2_tensor16x8x8"},
    {"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin", "Inputs": [{"Name": "i", "Format/Datatype": "Row major linear FP32"}],
     "Outputs": [{"Name": "o", "Format/Datatype": "Row major linear FP32"}]},
]}  # fmt: skip


def test_recorded_layers_are_read() -> None:
    layers = tensorrt_layers.read(json.dumps(RECORDED))
    assert [layer["precision"] for layer in layers] == ["fp16", "fp32", "int8", "tf32", ""]
    assert [tensorrt_layers.computes(layer) for layer in layers] == [True, False, True, True, False]
    assert layers[2]["operations"] == ["resnetv15_conv0_fwd", "resnetv15_relu0_fwd"]
    job = jobs.Job("run", {"precision": "int8"}, ".", lambda _: None)
    found, degraded = tensorrt_layers.judge(job, layers)
    assert found["operations"] == {"fp16": 1, "fp32": 1, "int8": 2, "tf32": 1}
    assert degraded == []  # one of two heavy layers is the bar for int8
    assert "1 regions do not tell" in found["from"]
    job.input["precision"] = "fp32"
    _, degraded = tensorrt_layers.judge(job, layers)
    assert [(entry["asked"], entry["got"]) for entry in degraded] == [("fp32", "int8"), ("fp32", "tf32")]


def test_where_the_arithmetic_is_not_told_nothing_is_judged() -> None:
    """A transformer is one region in TensorRT 8: the FP32 layers beside it say nothing of the FP16 asked for."""
    beside = {"Name": "scale", "LayerType": "PointWiseV2", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]}
    layers = tensorrt_layers.read(json.dumps({"Layers": [RECORDED["Layers"][-1], beside]}))
    job = jobs.Job("run", {"precision": "fp16"}, ".", lambda _: None)
    found, degraded = tensorrt_layers.judge(job, layers)
    assert degraded == []
    assert "1 regions do not tell" in found["from"]
    _, degraded = tensorrt_layers.judge(job, layers[1:])
    assert [(entry["asked"], entry["got"]) for entry in degraded] == [("fp16", "fp32")]


@pytest.mark.parametrize(
    ("message", "nodes"),
    [
        ("Error Code 10: Internal Error (Could not find any implementation for node conv + relu.)", ["conv", "relu"]),
        ("Could not find any implementation for node {ForeignNode[conv...fc]}.", ["conv", "fc"]),
        (
            "Could not find any implementation for node {ForeignNode[conv...fc]} due to insufficient workspace.",
            ["conv", "fc"],
        ),
        ("Assertion failed", []),
    ],
)
def test_layers_named_in_a_builders_error(message: str, nodes: list[str]) -> None:
    layers = [("conv", "CONVOLUTION", "fp32"), ("relu", "ACTIVATION", "fp32"), ("fc", "MATRIX_MULTIPLY", "fp32")]
    failure = tensorrt_layers.named(jobs.Failure(message), layers)
    assert [entry["node"] for entry in failure.unsupported] == nodes


# Arrays ----------------------------------------------------------------------------------------------------------------


class Dtype:
    def __init__(self, name: str) -> None:
        self.name = name


def test_bfloat16_rounds_to_nearest_even() -> None:
    x = np.array([1.0, 1.00390625, 1.01171875, -0.0, 3e38, np.nan, -np.inf], dtype=np.float32)
    packed = tensorrt_engine.pack(x, Dtype("BF16"))
    assert [hex(value) for value in packed] == ["0x3f80", "0x3f80", "0x3f82", "0x8000", "0x7f62", "0x7fc0", "0xff80"]
    back = tensorrt_engine.unpack(packed, Dtype("BF16"))
    assert back[1] == 1.0
    assert back[2] == 1.015625


def test_a_type_that_no_array_can_be_made_of_is_refused_by_name() -> None:
    with pytest.raises(jobs.Failure, match="FP8"):
        tensorrt_engine.pack(np.zeros(2, dtype=np.float32), Dtype("FP8"))
