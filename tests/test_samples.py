"""Raw timing samples: every one that a job took is kept, and read back as it was; what is no sample is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_speed import run, script

from builder import merge, samples
from builder.store import SCHEMA, StepRecord, Store, StoreError

SAMPLES = [[0.001, 0.002, 0.0015], [0.001] * 4, [0.003, 0.001]]


def left(folder: Path, name: str, windows: Any, unit: str = "s") -> str:
    (folder / name).write_text(json.dumps({"unit": unit, "windows": windows}))
    return name


def result(folder: Path, **more: Any) -> dict[str, Any]:
    """What a `measure` job gives whose three windows hold SAMPLES."""
    windows = [{"runs": len(window), "median": window[0]} for window in SAMPLES]
    return {
        "settled": True, "median": 0.001, "p90": None, "p99": None, "samples": 9, "windows": windows,
        "samples_file": left(folder, "samples.json", SAMPLES), **more,
    }  # fmt: skip


@given(st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=1), min_size=1))
def test_what_is_packed_is_what_is_read(windows: list[list[float]]) -> None:
    told, data = samples.entry("call", windows, 1)
    assert hashlib.sha256(data).hexdigest() == told["sha256"]
    assert [list(window) for window in samples.unpack(told, data).windows] == windows
    for window, five in zip(windows, told["windows"], strict=True):
        assert (five["runs"], five["min"], five["max"]) == (len(window), min(window), max(window))
        assert five["min"] <= five["p25"] <= five["median"] <= five["p75"] <= five["max"]


def test_samples_take_less_than_four_bytes_each() -> None:
    """Times of a real clock: nanoseconds, around one value."""
    draw = random.Random(1)
    windows = [[round(draw.lognormvariate(-7, 0.05), 9) for _ in range(1000)] for _ in range(3)]
    _, data = samples.entry("call", windows, 3)
    assert len(data) < 4 * 3000
    assert len(data) < len(json.dumps(windows)) / 3


def test_bytes_that_do_not_belong_to_a_record_are_refused() -> None:
    told, data = samples.entry("call", SAMPLES, 3)
    more = copy.deepcopy(told)
    more["windows"][0]["runs"] += 1
    for entry, found in ((more, data), (told, data[:-3]), (told, b"x" + data), (told, zlib.compress(b"\0" * (1 << 22))),
                         (told, zlib.compress(b"\0" * 35))):  # fmt: skip
        with pytest.raises(ValueError, match="not the 9|not the 10"):
            samples.unpack(entry, found)


def test_every_series_of_a_job_is_found(tmp_path: Path) -> None:
    names = {name: left(tmp_path, name, [[value]]) for name, value in (("b.json", 1.0), ("bd.json", 2.0))}
    one = [{"runs": 1, "median": 1.0}]
    of_gpu = {"settled": True, "windows": one, "samples_file": names["bd.json"]}
    batch = {"batch": 8, "settled": False, "windows": one, "samples_file": names["b.json"], "device": of_gpu}
    device = {"settled": True, "windows": [], "samples_file": left(tmp_path, "d.json", [[3.0]] * 5)}
    skipped = {"batch": 16, "settled": False, "device": None, "skipped": "the time was over"}
    found = samples.of_job(tmp_path, result(tmp_path, device=device, batches=[batch, skipped]))
    assert found == {
        "call": (SAMPLES, 3), "device": ([[3.0]] * 5, 3), "batch 8": ([[1.0]], 0), "batch 8 device": ([[2.0]], 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([[0.001], [0.002]], r"have \[1, 1\] samples, the result says \[3, 4, 2\]"),
        ([], "without samples"), ([[]], "without samples"), ([[-1.0]], "no time"), ([[float("nan")]], "no time"),
        ([["x"]], "could not convert"), (7, "not a file of samples"), (None, "not a file of samples"),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_refused(tmp_path: Path, windows: Any, words: str) -> None:
    given = result(tmp_path)
    left(tmp_path, "samples.json", windows)
    with pytest.raises(ValueError, match=words):
        samples.of_job(tmp_path, given)


def test_samples_in_another_unit_or_nowhere_are_refused(tmp_path: Path) -> None:
    given = result(tmp_path)
    left(tmp_path, "samples.json", SAMPLES, unit="ms")
    with pytest.raises(ValueError, match="in 'ms'"):
        samples.of_job(tmp_path, given)
    (tmp_path / "samples.json").unlink()
    with pytest.raises(ValueError, match="not a file of samples"):
        samples.of_job(tmp_path, given)
    assert samples.of_job(tmp_path, {"settled": True, "windows": []}) == {}, "a result that names no file"


# Through a run ------------------------------------------------------------------------------------------------------


def taking(slow: float, fast: float, broken: bool = False) -> Any:
    """As test_speed's jobs; the cell's own measurement leaves SAMPLES."""
    inner = script(slow, fast)

    def answer(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "measure" and job["method"].get("windows") != 1:
            given = result(folder)
            if broken:
                left(folder, "samples.json", [[0.1]])
            return given
        found: dict[str, Any] = inner(stage, job, folder)
        return found

    return answer


def test_every_sample_of_a_run_is_read_from_the_store(tmp_path: Path) -> None:
    cell, _ = run(tmp_path, taking(0.004, 0.001))
    told = {entry["series"]: entry for entry in cell["measure"]["raw"]}
    assert list(told) == ["call", "speedup engine", "speedup baseline"]
    assert [window["runs"] for window in told["call"]["windows"]] == [3, 4, 2]
    store = Store(tmp_path / "artifacts")
    call, engine, baseline = store.timing_samples(cell)
    assert [list(window) for window in call.windows] == [pytest.approx(window) for window in SAMPLES]
    assert (call.unit, call.used) == ("s", 3)
    assert [len(window) for window in engine.windows] == [30] * 8
    assert list(baseline.windows[0]) == pytest.approx([0.004] * 30)
    schema = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(cell["measure"], {**schema["$defs"]["cell"]["properties"]["measure"], "$defs": schema["$defs"]})
    again, world = run(tmp_path, taking(0.004, 0.001))
    assert world.jobs == [] and again["measure"]["raw"] == cell["measure"]["raw"]


def test_samples_that_are_not_what_the_result_says_fail_the_measurement(tmp_path: Path) -> None:
    cell, _ = run(tmp_path, taking(0.004, 0.001, broken=True))
    assert (cell["status"], cell["stage"]) == ("failed", "measure")
    assert "its windows have [1] samples, the result says [3, 4, 2]" in cell["line"]
    assert cell["measure"] is None


def test_by_the_id_of_a_cell_the_newest_result_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for run_id, value in (("1", 0.25), ("2", 0.5)):
        told, data = samples.entry("call", [[value]], 0)
        step = StepRecord(key=run_id, kind="measure", name="n", state="ok", output="", seconds=1.0, created="", run=run_id,
                          record={"samples": [told]})  # fmt: skip
        store.put_step(step, {told["sha256"]: data})
        store.put_outcomes({f"key{run_id}": ("cell", {"id": "cell", "measure": {"raw": [told]}})})
        store.put_run(run_id, f"2026-11-2{run_id}", None, {}, {"cell": ("verified", f"key{run_id}")})
    assert [series.windows for series in store.timing_samples("cell")] == [((0.5,),)]
    assert store.timing_samples("other") == []
    assert store.timing_samples({"measure": None}) == []
    assert store.timing_samples({"measure": {"median": 0.1}}) == [], "a result of before samples were kept"
    store.forget_samples(store.sample_sizes())
    assert store.timing_samples("cell") == []


def test_damaged_samples_are_no_samples(tmp_path: Path) -> None:
    store = Store(tmp_path)
    told, data = samples.entry("call", [[0.5]], 0)
    store.write_all([("insert into samples values (?,?)", [(told["sha256"], data[:-1])])])
    with pytest.raises(StoreError, match="measure again"):
        store.timing_samples({"measure": {"raw": [told]}})


def measured(folder: Path, value: float) -> dict[str, Any]:
    """A store with one measurement; the cell."""
    store = Store(folder)
    told, data = samples.entry("call", [[value]], 0)
    step = StepRecord(key=f"{value}", kind="measure", name="n", state="ok", output="", seconds=1.0, created="", run="r",
                      record={"samples": [told]})  # fmt: skip
    store.put_step(step, {told["sha256"]: data})
    store.close()
    return {"measure": {"raw": [told]}}


def test_samples_of_another_machine_come_with_its_results(tmp_path: Path) -> None:
    cell = measured(tmp_path / "there", 0.5)
    store = Store(tmp_path / "here")
    for _ in range(2):
        merge.merge(store, [tmp_path / "there"])
        assert [series.windows for series in store.timing_samples(cell)] == [((0.5,),)]
    assert len(store.sample_sizes()) == 1


def test_samples_that_are_not_what_their_name_says_are_not_merged(tmp_path: Path) -> None:
    measured(tmp_path / "there", 0.5)
    with sqlite3.connect(tmp_path / "there" / "results.sqlite") as db:
        db.execute("update samples set data = x'00'")
    db.close()
    with pytest.raises(merge.UsageError, match="other bytes than their name says"):
        merge.merge(Store(tmp_path / "here"), [tmp_path / "there"])


def test_a_store_of_before_reads_and_writes_samples(tmp_path: Path) -> None:
    Store(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a" / "results.sqlite") as db:
        db.executescript("drop table samples; pragma user_version = 3;")
    db.close()
    cell = measured(tmp_path / "a", 0.25)
    store = Store(tmp_path / "a")
    assert store.read("pragma user_version") == [(SCHEMA,)]
    assert [series.windows for series in store.timing_samples(cell)] == [((0.25,),)]
