"""What builds leave for later ones, and the smallest piece of a model that was refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.execute.beside import Caches, smallest
from builder.store import Store

GPU = {"gpus": [{"name": "H200", "compute_capability": "9.0"}], "driver": "580.65"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def step(version: str = "10.16.1", cuda: str = "12", takes: str = "onnx") -> Any:

    stack = SimpleNamespace(id=f"tensorrt-{version}", family="tensorrt", value={"tensorrt": version, "cuda": cuda}.get)
    return SimpleNamespace(stack=stack, environment=SimpleNamespace(data={"family": SimpleNamespace(takes=takes)}))


def job(tmp_path: Path, **more: Any) -> dict[str, Any]:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    return {
        "settings": {"timing_cache": "shared", "calibration": "entropy"},
        "options": {},
        "model": str(model),
        **more,
    }


def build(caches: Caches, at: Any, tmp_path: Path, name: str, leaves: bytes | None) -> list[bytes]:
    """One build: what it was given, after it left `leaves`."""
    folder = tmp_path / name
    folder.mkdir()
    given = job(tmp_path)
    caches.hand(at, given, folder)
    contents = [Path(path).read_bytes() for path in given["timing_cache"]]
    result = {}
    if leaves is not None:
        (folder / "timing.cache").write_bytes(leaves)
        result["timing_cache"] = "timing.cache"
    caches.take(at, given, result, folder)
    return contents


def test_a_timing_cache_goes_from_build_to_build(store: Store, tmp_path: Path) -> None:
    caches = Caches(store, GPU)
    assert build(caches, step(), tmp_path, "one", b"a") == []
    assert build(caches, step(), tmp_path, "two", b"a b") == [b"a"]
    assert build(caches, step(), tmp_path, "three", None) == [b"a b"]
    assert build(caches, step(), tmp_path, "four", b"a b") == [b"a b"]  # the same bytes again
    assert build(caches, step(), tmp_path, "five", b"c") == [b"a b"]


def test_two_builds_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    caches = Caches(store, GPU)
    build(caches, step(), tmp_path, "before", b"a")
    one, two = job(tmp_path), job(tmp_path)
    for name, given in (("one", one), ("two", two)):
        (tmp_path / name).mkdir()
        caches.hand(step(), given, tmp_path / name)
        (tmp_path / name / "timing.cache").write_bytes(f"a {name}".encode())
    caches.take(step(), one, {"timing_cache": "timing.cache"}, tmp_path / "one")
    caches.take(step(), two, {"timing_cache": "timing.cache"}, tmp_path / "two")
    assert sorted(build(caches, step(), tmp_path, "after", b"a one two")) == [b"a one", b"a two"]
    stored = sorted(path.read_bytes() for path in caches.timing(step()).glob("*.cache"))
    assert stored == [b"a one two"]


def test_timing_caches_are_apart_by_release_gpu_and_driver(store: Store, tmp_path: Path) -> None:
    build(Caches(store, GPU), step(), tmp_path, "one", b"a")
    for name, at, machine in (
        ("release", step("10.16.2"), GPU),
        ("cuda", step(cuda="13"), GPU),
        ("gpu", step(), {**GPU, "gpus": [{"name": "L4", "compute_capability": "8.9"}]}),
        ("driver", step(), {**GPU, "driver": "590.1"}),
    ):
        assert build(Caches(store, machine), at, tmp_path, name, None) == []
    two = {**GPU, "gpus": GPU["gpus"] * 2}
    assert build(Caches(store, two), step(), tmp_path, "two of a kind", None) == [b"a"]


def test_without_a_gpu_or_where_a_family_has_none_nothing_is_handed(store: Store, tmp_path: Path) -> None:
    for machine, settings in (({"gpus": []}, {"timing_cache": "shared"}), (GPU, {})):
        given = {**job(tmp_path), "settings": settings}
        Caches(store, machine).hand(step(), given, tmp_path)
        assert "timing_cache" not in given
        assert "calibration_table" not in given


def test_what_is_no_file_of_the_jobs_folder_is_left_alone(store: Store, tmp_path: Path) -> None:
    caches = Caches(store, GPU)
    folder = tmp_path / "job"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    given = job(tmp_path)
    caches.hand(step(), given, folder)
    for name in ("../secret", "link", str(tmp_path / "secret"), "absent", 7, None):
        caches.take(step(), given, {"timing_cache": name}, folder)
    assert not caches.timing(step()).exists()


def test_a_calibration_table_is_handed_to_the_next_build_of_the_same_kind(store: Store, tmp_path: Path) -> None:
    caches = Caches(store, {"gpus": []})
    sample = tmp_path / "calibration-0.npz"
    sample.write_bytes(b"sample")
    folder = tmp_path / "job"
    folder.mkdir()
    given = job(tmp_path, calibration=[str(sample)], options={"workspace": "1"})
    caches.hand(step(), given, folder)
    assert "calibration_table" not in given
    (folder / "calibration.table").write_bytes(b"table")
    caches.take(step(), given, {"calibration_table": "calibration.table"}, folder)

    def handed(at: Any = None, **more: Any) -> bytes | None:
        again = job(tmp_path, **{"calibration": [str(sample)], **more})
        caches.hand(at or step(), again, folder)
        return Path(again["calibration_table"]).read_bytes() if "calibration_table" in again else None

    assert handed() == b"table"  # a workspace changes no range
    assert handed(options={"calibration": "minmax"}) is None
    assert handed(at=step("10.0.1")) is None
    sample.write_bytes(b"another sample")
    assert handed() is None


def answers(output: Any, files: dict[str, bytes] | None = None) -> Any:
    asked = []

    def run(stage: str, given: dict[str, Any], folder: Path, seconds: float) -> Any:
        asked.append((stage, given))
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        return SimpleNamespace(output=output)

    run.asked = asked  # type: ignore[attr-defined]
    return run


ERROR = {"stage": "parse", "message": "no", "unsupported": [{"node": "n", "operator": "Odd", "reason": "no"}]}


def test_a_piece_is_kept_as_an_object(store: Store, tmp_path: Path) -> None:
    piece = {"model": "subgraph-0.onnx", "nodes": ["n"]}
    run = answers({"ok": True, "result": {"subgraphs": [piece]}}, {"subgraph-0.onnx": b"onnx"})
    (found,) = smallest(step(), job(tmp_path), ERROR, tmp_path / "job", store, run)
    assert (store.root / found["artifact"]["path"]).read_bytes() == b"onnx"
    ((stage, given),) = run.asked
    assert (stage, given["refused"], given["failed_at"]) == ("subgraph", ERROR["unsupported"], "parse")
    assert not (tmp_path / "job-subgraph").exists()


def test_an_equal_failure_is_told_where_to_look(store: Store, tmp_path: Path) -> None:
    piece = {"model": "p.onnx", "operators": ["Relu", "Odd"], "smallest": True}
    run = answers(
        {"ok": True, "result": {"subgraphs": [piece, {**piece, "operators": ["Tanh"], "smallest": False}]}},
        {"p.onnx": b""},
    )
    other = {**ERROR, "message": "something else"}
    for at, error in (
        (step(), ERROR),
        (step(), ERROR),
        (step(), other),
        (step("11.0.0"), ERROR),
    ):  # another release: alike
        smallest(at, job(tmp_path), error, tmp_path / "job", store, run)
    assert [given["alike"] for _, given in run.asked] == [[], [["Relu", "Odd"]], [], [["Relu", "Odd"]]]
    path = next((store.root / "caches" / "refused").glob("*.json"))
    for damage in ("", "{", '{"a": 1}', '[["a", 3], "b"]'):
        path.write_text(damage)
        smallest(step(), job(tmp_path), ERROR, tmp_path / "job", store, run)


@pytest.mark.parametrize(
    "output",
    [None, "text", {"ok": False, "error": {}}, {"ok": True, "result": []}, {"ok": True, "result": {"subgraphs": ["x"]}},
     {"ok": True, "result": {"subgraphs": [{"model": "../job.onnx"}]}}],
)  # fmt: skip
def test_a_search_that_died_or_lies_costs_its_answer_alone(output: Any, store: Store, tmp_path: Path) -> None:
    (tmp_path / "job.onnx").write_bytes(b"not of the job")
    assert smallest(step(), job(tmp_path), ERROR, tmp_path / "job", store, answers(output)) == []


@pytest.mark.parametrize(("takes", "stage"), [("module", "parse"), ("tflite", "build"), ("onnx", "load")])
def test_only_a_refused_onnx_file_is_cut(takes: str, stage: str, store: Store, tmp_path: Path) -> None:
    run = answers({"ok": True, "result": {"subgraphs": []}})
    assert smallest(step(takes=takes), job(tmp_path), {**ERROR, "stage": stage}, tmp_path / "job", store, run) == []
    assert run.asked == []
