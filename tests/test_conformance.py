"""Suites of small models in shared processes: each case is held to its own deeds, whatever its neighbours do."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workers.support import BUILDER, gone, marked
from workers.support import MARK as ENVIRONMENT

from builder.environment.session import JobEnd, WorkerSession

ADAPTER = Path(__file__).parent / "workers" / "conform_adapter.py"
_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float64": 11}


def value(name: str, data: Any, offset: int) -> dict[str, Any]:
    if data is None:
        return {"name": name, "kind": "none"}
    if isinstance(data, list):
        return {"name": name, "kind": "strings", "shape": [len(data)], "text": data}
    return {
        "name": name,
        "kind": "tensor",
        "type": _TYPES[str(data.dtype)],
        "shape": list(data.shape),
        "at": [offset, data.nbytes],
    }


def write_cases(path: Path, actions: dict[str, str], data: Any = None) -> Path:
    """A file of cases whose models are texts and whose outputs are their inputs."""
    given_data = np.arange(6, dtype="float32").reshape(2, 3) if data is None else data
    entries = []
    with zipfile.ZipFile(path, "w") as archive:

        def put(name: str, content: bytes) -> list[int]:
            info = zipfile.ZipInfo(name)
            archive.writestr(info, content)
            return [info.header_offset + 30 + len(name), len(content)]

        for name, action in actions.items():
            at = put(f"{name}/x", given_data.tobytes() if isinstance(given_data, np.ndarray) else b"")[0]
            entries.append({
                "name": name, "operator": "Test", "domain": "", "opset": 1, "rtol": 1e-3, "atol": 1e-7,
                "model": put(f"{name}/model.onnx", action.encode()),
                "inputs": [value("x", given_data, at)], "outputs": [value("y", given_data, at)],
            })  # fmt: skip
        about = {"format": 1, "package": "onnx", "version": "0", "kind": "node", "cases": entries}
        start, size = put("index.json", json.dumps(about).encode())
        archive.comment = f"enginematrix-cases {start} {size}".encode()
    return path


class Worker:
    def __init__(self, folder: Path) -> None:
        self.folder, self.mark, self.count = folder, f"conform-{id(self)}", 0
        self.session = WorkerSession(
            python=Path(sys.executable), worker_dir=BUILDER, imports=("numpy",), log=folder / "session.log",
            env={"PATH": "/usr/bin:/bin", ENVIRONMENT: self.mark}, arguments=("--adapter", f"conform={ADAPTER}"),
        )  # fmt: skip
        self.session.start()

    def end(self, cases: Path, names: list[str], *, limit: float = 5.0, budget: float = 60.0, **more: Any) -> JobEnd:
        self.count += 1
        job = {"adapter": "conform", "cases": str(cases), "names": names, "limit": limit, "budget": budget, "settings": {},
               "options": {}, "precision": "f32", "loads": True, **more}  # fmt: skip
        return self.session.run("conform", job, self.folder / f"job-{self.count}", seconds=120, memory=8 << 30)

    def run(self, actions: dict[str, str], *, data: Any = None, **more: Any) -> dict[str, Any]:
        end = self.end(write_cases(self.folder / f"{self.count}.zip", actions, data), list(actions), **more)
        assert end.ok, (end, (self.folder / f"job-{self.count}" / "log.txt").read_text())
        assert end.output is not None
        result: dict[str, Any] = end.output["result"]
        assert set(result["cases"]) == set(actions)
        return result


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(tmp_path_factory.mktemp("conform"))
    yield made
    made.session.close()
    assert gone(made.mark), marked(made.mark)


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {name: case["status"] for name, case in result["cases"].items()}


def test_each_ends_as_it_does(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "wrong", "c": "refuse", "d": "memory", "e": "fewer", "f": "fine"})
    cases = result["cases"]
    assert statuses(result) == {
        "a": "match",
        "b": "mismatch",
        "c": "failed",
        "d": "memory",
        "e": "mismatch",
        "f": "match",
    }
    assert cases["a"]["max_abs"] == 0.0 and cases["a"]["stage"] == "compare"
    assert cases["b"]["max_abs"] == 1.0 and cases["b"]["reason"] == "output 0 differs in 6 of 6 values, by up to 1"
    assert cases["c"]["stage"] == "parse" and cases["c"]["error"]["type"] == "ValueError"
    assert cases["c"]["error"]["message"] == "no operator Nowhere in case/model.onnx"  # no place of this machine
    assert cases["e"]["reason"] == "gave 0 outputs, the case has 1"
    assert not any(case.get("flaky") for case in cases.values())
    assert result["children"] == 4  # all of them, two wrong ones alone, and once more the others that failed


def test_a_crash_costs_the_case_that_crashes_alone(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "crash", "c": "fine", "d": "crash-building", "e": "leave", "f": "fine"})
    cases = result["cases"]
    assert statuses(result) == dict(
        zip("abcdef", ("match", "crashed", "match", "crashed", "crashed", "match"), strict=True)
    )
    assert cases["b"]["end"] == {"signal": 11, "name": "SIGSEGV"} and cases["b"]["stage"] == "run"
    assert cases["d"]["stage"] == "build" and cases["e"]["end"] == {"exit": 7}
    assert "Segmentation fault" in cases["b"]["said"]
    assert not any(case.get("flaky") for case in cases.values())


def test_a_hang_costs_the_case_that_hangs_alone(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "hang", "c": "fine"}, limit=1.0)
    assert statuses(result) == {"a": "match", "b": "timeout", "c": "match"}
    assert result["cases"]["b"]["end"] == {"timeout": 1.0}


def test_who_breaks_the_process_is_blamed_and_not_who_dies_of_it(worker: Worker) -> None:
    actions = (
        {f"a{index}": "fine" for index in range(9)} | {"p": "poison"} | {f"b{index}": "fine" for index in range(4)}
    )
    result = worker.run(actions | {"q": "fragile", "z": "fine"})
    cases = result["cases"]
    assert cases["p"]["status"] == "crashed" and cases["p"]["end"]["name"] == "SIGSEGV"
    assert "q, run behind it, died of SIGSEGV" in cases["p"]["note"] and "ended as match" in cases["p"]["note"]
    assert cases["q"]["status"] == "match" and cases["q"]["flaky"] and "broken by p" in cases["q"]["note"]
    assert {name: case["status"] for name, case in cases.items() if name != "p"} == dict.fromkeys(
        cases.keys() - {"p"}, "match"
    )


def test_a_case_that_is_wrong_only_among_others_is_run_alone(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "moody", "c": "wrong"})
    cases = result["cases"]
    assert statuses(result) == {"a": "match", "b": "match", "c": "mismatch"}
    assert cases["b"]["flaky"] and "this is how it ends alone" in cases["b"]["note"] and not cases["c"].get("flaky")


def test_many_that_are_wrong_only_among_others_are_all_run_alone(worker: Worker) -> None:
    """More of them than are probed."""
    result = worker.run({"a": "fine", **{f"b{index}": "moody" for index in range(40)}, "c": "wrong"})
    assert {name: status for name, status in statuses(result).items() if status != "match"} == {"c": "mismatch"}
    assert all(result["cases"][f"b{index}"]["flaky"] for index in range(40))


def test_a_case_that_hangs_only_among_others_ends_as_it_does_alone(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "tired", "c": "fine"}, limit=1.0)
    assert statuses(result) == {"a": "match", "b": "match", "c": "match"}
    assert result["cases"]["b"]["flaky"] and "did not end within 1 s" in result["cases"]["b"]["note"]


def test_a_process_that_holds_too_much_makes_way(worker: Worker) -> None:
    result = worker.run({"a": "hog", "b": "fine", "c": "hog", "d": "fine"})
    assert set(statuses(result).values()) == {"match"} and result["children"] == 3


def test_what_there_was_no_time_for_is_left(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "hang", "c": "fine"}, limit=30.0, budget=1.5)
    assert statuses(result) == {"a": "match", "b": "left", "c": "left"}


def test_what_cannot_be_handed_over_is_no_failure_of_the_library(worker: Worker) -> None:
    result = worker.run({"a": "fine", "b": "refuse"}, data=["one", "two"])
    assert statuses(result) == {"a": "harness", "b": "failed"}  # the model was refused before


def test_what_cannot_be_loaded_here_is_built(worker: Worker) -> None:
    result = worker.run({"a": "crash", "b": "refuse"}, loads=False)
    assert statuses(result) == {"a": "built", "b": "failed"}


def test_a_damaged_file_of_cases_is_bad_input(worker: Worker, tmp_path: Path) -> None:
    whole = write_cases(tmp_path / "cases.zip", {"a": "fine"}).read_bytes()
    for name, content in {"empty": b"", "text": b"no zip", "cut": whole[:-30], "head": whole[200:]}.items():
        path = tmp_path / name
        path.write_bytes(content)
        end = worker.end(path, ["a"])
        assert end.output is not None and end.output["error"]["type"] == "BadInput", (name, end)
    end = worker.end(tmp_path / "cases.zip", ["a", "nowhere"])
    assert end.output is not None and "1 cases are not in the file: nowhere" in end.output["error"]["message"]


# -- values and comparison


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The worker's modules, imported as it imports them: as `worker`, in a folder without the host's own."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "worker").symlink_to(BUILDER / "worker")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "worker"}
    for name in before:
        del sys.modules[name]
    sys.path.append(str(folder))
    try:
        yield SimpleNamespace(
            data=importlib.import_module("worker.conform_data"),
            compare=importlib.import_module("worker.conform_compare"),
        )
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name == "worker" or name.startswith("worker.")]:
            del sys.modules[name]
        sys.modules.update(before)  # other tests hold these very modules


#: name -> codes and their numbers, of the tables in https://onnx.ai/onnx/technical/float8.html, float4.html and of the OCP
#: formats' specification: largest, smallest normal, smallest subnormal, one, special values.
KNOWN = {
    "float8e4m3fn": {0x7E: 448.0, 0x08: 2.0**-6, 0x01: 2.0**-9, 0x38: 1.0, 0xB8: -1.0, 0x7F: np.nan, 0xFF: np.nan, 0x80: 0.0},
    "float8e4m3fnuz": {0x7F: 240.0, 0x08: 2.0**-7, 0x01: 2.0**-10, 0x40: 1.0, 0x80: np.nan, 0xFF: -240.0},
    "float8e5m2": {0x7B: 57344.0, 0x04: 2.0**-14, 0x01: 2.0**-16, 0x3C: 1.0, 0x7C: np.inf, 0xFC: -np.inf, 0x7D: np.nan},
    "float8e5m2fnuz": {0x7F: 57344.0, 0x04: 2.0**-15, 0x01: 2.0**-17, 0x40: 1.0, 0x80: np.nan},
    "float8e8m0": {0x7F: 1.0, 0x00: 2.0**-127, 0xFE: 2.0**127, 0xFF: np.nan},
    "float4e2m1": dict(enumerate([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])),
    "bfloat16": {0x3F80: 1.0, 0xC000: -2.0, 0x7F80: np.inf, 0x7FC0: np.nan, 0x0001: 2.0**-133},
    "uint4": dict(enumerate(range(16))), "int4": {0: 0, 7: 7, 8: -8, 15: -1},
    "uint2": dict(enumerate(range(4))), "int2": {0: 0, 1: 1, 2: -2, 3: -1},
}  # fmt: skip


def test_the_types_that_numpy_lacks(parts: SimpleNamespace) -> None:
    assert {name for name, _ in parts.data.CODED.values()} == set(KNOWN)
    for number, (name, bits) in parts.data.CODED.items():
        for code, expected in KNOWN[name].items():
            data = code.to_bytes(max(1, bits // 8), "little")
            assert np.array_equal(parts.data.Coded(number, [1], data).numbers(), [expected], equal_nan=True), (
                name,
                hex(code),
            )


def test_packed_values_of_odd_length(parts: SimpleNamespace) -> None:
    assert parts.data.Coded(22, [3], bytes([0x21, 0x0F])).numbers().tolist() == [1, 2, -1]


@settings(max_examples=200, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=6),
    atol=st.sampled_from([0.0, 1e-7, 1e-3, 0.5]), rtol=st.sampled_from([0.0, 1e-3, 0.5]),
)  # fmt: skip
def test_numbers_are_judged_as_numpy_judges(
    parts: SimpleNamespace, pairs: list[tuple[float, float]], atol: float, rtol: float
) -> None:  # fmt: skip
    want, have = (np.array(side, dtype="float32") for side in zip(*pairs, strict=True))
    try:
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(have.astype("float64"), want.astype("float64"), rtol=rtol, atol=atol)
        fine = True
    except AssertionError:
        fine = False
    reason, most = parts.compare.compare([want], [have], rtol, atol)
    assert (reason == "") == fine, (want, have, reason)
    assert most is None or most >= 0


def test_kinds_of_values(parts: SimpleNamespace) -> None:
    compare, coded = parts.compare.compare, parts.data.Coded
    one, text = np.float32([1, 2]), np.array(["a", "b"], dtype=object)

    def reason(want: Any, have: Any) -> str:
        return str(compare([want], [have], 1e-3, 1e-7)[0])

    assert reason(text, text.copy()) == "" and reason(text, np.array([b"a", b"b"], dtype=object)) == ""
    assert reason(text, np.array(["a", "c"], dtype=object)) == "output 0 differs in 1 of 2 texts"
    assert reason(one, one.astype("float64")) == "output 0 is float64, expected float32"
    assert reason(one, one.reshape(2, 1)) == "output 0 has shape [2, 1], expected [2]"
    assert reason([one, one], [one, one]) == "" and reason([one], [one, one]) != "" and reason([one], one) != ""
    assert reason([one], [one + 1]) == "output 0 is a sequence: item 0 differs in 2 of 2 values, by up to 1"
    assert reason(None, None) == "" and reason(None, one) == "output 0 is float32 [2], expected nothing"
    bf16 = np.float32([1.0, 100.0]).view("uint32") >> 16
    near = bf16 + np.uint32([0, 2])  # two last places off
    far = bf16 + np.uint32([0, 4])
    pack = lambda codes: coded(16, [2], codes.astype("uint16").tobytes())  # noqa: E731
    assert reason(pack(bf16), pack(near)) == "" and "by up to" in reason(pack(bf16), pack(far))
    assert reason(pack(bf16), one) == "output 0 is float32, expected bfloat16"
    assert "NaN or infinity" in reason(one, np.float32([1, np.nan]))
    assert compare([np.zeros(0, "f4")], [np.zeros(0, "f4")], 0, 0) == ("", 0.0)
