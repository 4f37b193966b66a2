"""A comparison of two runs names what changed, and nothing else."""

from __future__ import annotations

import json
import sqlite3
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from histories import ENGINE, GPU, LOCK, MACHINE, TOOLS, cell, locked, measured, run, schema1
from teams import Team, Workers, work_with

from builder import history, history_changes, history_runs, history_timing, history_words, pick_evidence
from builder import store as store_module
from builder.errors import UsageError
from builder.locking import stacks_of
from builder.pipeline import select
from builder.project import Project
from builder.store import Store

OLD, NEW = "2026-11-20T01:00:00Z-aaaa", "2026-11-21T01:00:00Z-bbbb"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def told(found: dict[str, Any]) -> dict[str, list[str]]:
    """Kind -> cells, without the empty ones."""
    return {kind: [row["id"] for row in rows] for kind, rows in found["kinds"].items() if rows}


def two(store: Store, old: list[dict[str, Any]], new: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    run(store, OLD, old)
    run(store, NEW, new, **values)
    return history.diff(store, OLD, NEW)


# Kinds ---------------------------------------------------------------------------------------------------------------


def test_each_change_is_of_one_kind(store: Store) -> None:
    skipped = cell("gone", "skipped", reason="needs an NVIDIA GPU")
    other = {"category": "unsupported-opset", "line": "opset 23 is not known"}
    found = two(
        store,
        [cell("same"), cell("broke"), cell("mended", "failed"), cell("moved", "failed"), cell("alike", "failed"), cell("gone"),
         cell("lost", "failed"), cell("absent"), cell("built"), cell("shaky")],
        [cell("same"), cell("broke", "crashed"), cell("mended"), cell("moved", "failed", **other), cell("alike", "failed"),
         skipped, cell("lost", "skipped", reason="needs an NVIDIA GPU"), cell("built", "built", reason="built; needs a GPU"),
         cell("shaky", flaky=True), cell("added", "failed")],
    )  # fmt: skip
    assert told(found) == {
        "new-failures": ["broke"], "changed-cause": ["moved"], "pass-to-skip": ["built", "gone"], "stale": ["absent", "lost"],
        "flaky": ["shaky"], "fixed": ["mended"], "first": ["added"],
    }  # fmt: skip
    assert (found["unchanged"], found["silent"]) == (2, 0), "those that were tried again with the same outcome"
    why = {row["id"]: row.get("why") for kind in ("pass-to-skip", "stale") for row in found["kinds"][kind]}
    assert why == {
        "built": "built; needs a GPU", "gone": "skipped: needs an NVIDIA GPU", "lost": "skipped: needs an NVIDIA GPU",
        "absent": "not among its cells",
    }  # fmt: skip
    assert found["regressions"] == 1 + 1 + 2 + 2


def test_the_same_evidence_is_no_change_and_is_not_compared(store: Store) -> None:
    run(store, OLD, [cell("a", "failed"), cell("b")])
    run(store, NEW, [cell("a", "failed"), cell("b")], reused=OLD, lock=locked(ENGINE, numpy="2.1.0"))
    found = history.diff(store, OLD, NEW)
    assert told(found) == {}
    assert found["unchanged"] == 2


def test_evidence_that_is_explained_otherwise_is_no_changed_cause(store: Store) -> None:
    run(store, OLD, [cell("a", "failed")])
    run(store, NEW, [cell("a", "failed", category="unsupported-opset", line="better")], reused=OLD, judged="1" * 16)
    assert told(history.diff(store, OLD, NEW)) == {"rediagnosed": ["a"]}


def test_a_cause_that_another_version_found_is_no_regression(store: Store) -> None:
    run(store, OLD, [cell("a", "failed")])
    run(store, NEW, [cell("a", "failed", category="unsupported-opset", line="other words")], judged="1" * 16)
    found = history.diff(store)
    assert told(found) == {"changed-cause": ["a"]}
    assert found["regressions"] == 0
    text = " ".join(" ".join(history_words.lines(found)).split())
    assert "beside: the diagnosis, of another version of this program" in text
    assert "unsupported-opset: other words (was unsupported-operator: GridSample is not supported)" in text


def test_what_a_budget_left_is_not_reached_and_no_regression(store: Store) -> None:
    found = two(
        store, [cell("a")], [cell("a", "skipped", reason="the time budget ended before it ran")], over_budget=True
    )
    assert told(found) == {"not-reached": ["a"]}
    assert found["regressions"] == 0
    assert not found["new"]["complete"]


def test_cells_that_told_nothing_are_no_unchanged_ones(store: Store) -> None:
    gpu, budget = "needs an NVIDIA GPU", "the time budget ended before it ran"
    old = [cell("a"), cell("same", "skipped", reason=gpu), cell("other", "skipped", reason=budget)]
    found = two(store, old, [cell("a"), cell("same", "skipped", reason=gpu), cell("other", "skipped", reason=gpu)])
    assert told(found) == {}
    assert (found["unchanged"], found["silent"]) == (1, 2)
    assert "1 cell unchanged, 2 told nothing in either" in "\n".join(history_words.lines(found))


def test_what_infrastructure_stopped_is_not_a_failure(store: Store) -> None:
    away = cell("a", "blocked", category="infrastructure", reason="no network")
    assert told(two(store, [cell("a")], [away])) == {"pass-to-skip": ["a"]}


def test_a_result_is_held_against_the_last_night_that_tried_it(store: Store) -> None:
    """Nights have budgets: the one before may have left the cell out."""
    run(store, "2026-11-19T01:00:00Z-0000", [cell("a"), cell("b")])
    run(store, OLD, [cell("a", "skipped", reason="the time budget ended before it ran")])
    run(store, NEW, [cell("a", "failed"), cell("b", "failed")])
    found = history.diff(store, "last~1", "last")
    assert told(found) == {"new-failures": ["a", "b"]}
    assert {row["old"]["run"] for row in found["kinds"]["new-failures"]} == {"2026-11-19T01:00:00Z-0000"}


def test_cells_that_somebody_took_away_are_no_regression(store: Store) -> None:
    found = two(store, [cell("a"), cell("b")], [cell("a")], matrix={"sha256": "other"})
    assert told(found) == {"stale": ["b"]}
    assert found["kinds"]["stale"][0]["why"] == "not selected"
    assert found["regressions"] == 0


def test_an_expected_failure_is_told_and_is_no_regression(store: Store) -> None:
    found = two(
        store,
        [cell("a"), cell("b")],
        [cell("a", "failed"), cell("b", "failed")],
        expected={"a": "expected", "b": "overdue"},
    )
    assert told(found) == {"new-failures": ["a", "b"]}
    assert found["regressions"] == 1


# What changed beside -------------------------------------------------------------------------------------------------


def test_lock_entries_of_each_of_a_cells_stacks_stand_beside(store: Store) -> None:
    lock = {**locked(ENGINE, numpy="2.1.0"), TOOLS: locked(TOOLS, sympy="1.15")[TOOLS]}
    lock["nobody's"] = LOCK[ENGINE]
    row = two(store, [cell("a")], [cell("a", "failed")], lock=lock)["kinds"]["new-failures"][0]
    assert row["changes"] == [
        {"stack": ENGINE, "component": "numpy", "old": "2.0.1", "new": "2.1.0"},
        {"stack": TOOLS, "component": "sympy", "old": "1.14", "new": "1.15"},
    ]
    assert not row["unexplained"]


def test_the_machine_the_recipe_and_the_worker_stand_beside(store: Store) -> None:
    here = {**MACHINE, "gpus": [GPU], "driver": "580.65"}
    found = two(
        store, [cell("a")], [cell("a", "failed", machine=here)], machine=here, code="other", recipes={"resnet50": "s" * 64}
    )  # fmt: skip
    beside = {(one["component"], one["old"], one["new"]) for one in found["kinds"]["new-failures"][0]["changes"]}
    assert beside == {
        ("driver", "", "580.65"), ("GPU", "none", "NVIDIA L4 (8.9) x1"), ("worker code", "c", "other"),
        ("recipe resnet50", "r" * 12, "s" * 12),
    }  # fmt: skip
    assert ("driver", "580.65") in {(one["component"], one["new"]) for one in found["changes"]}


def test_another_tools_stack_is_a_change(store: Store) -> None:
    lock = {name: entry for name, entry in LOCK.items() if name != TOOLS}
    run(store, OLD, [cell("a")], lock=lock)
    run(store, NEW, [cell("a", "failed")])
    row = history.diff(store)["kinds"]["new-failures"][0]
    assert row["changes"] == [{"stack": TOOLS, "component": "stack", "old": "not used", "new": "used"}]


def test_that_nothing_changed_is_said(store: Store) -> None:
    row = two(store, [cell("a")], [cell("a", "failed")])["kinds"]["new-failures"][0]
    assert (row["changes"], row["unexplained"]) == ([], True)


def test_other_files_of_one_release_are_a_change(store: Store) -> None:
    row = two(store, [cell("a")], [cell("a", "failed")], lock=locked(ENGINE, numpy="2.0.1"))["kinds"]["new-failures"][0]
    assert row["changes"] == [
        {"stack": ENGINE, "component": "numpy", "old": "2.0.1 (files bb)", "new": "2.0.1 (files ee)"}
    ]


# Times ---------------------------------------------------------------------------------------------------------------


def test_a_cell_is_slower_only_beyond_interval_and_threshold(store: Store) -> None:
    base = measured(0.0100, 0.0101, 0.0102)
    names = {
        "slower": measured(0.0120, 0.0121, 0.0122), "faster": measured(0.0080, 0.0081, 0.0082),
        "little": measured(0.0108, 0.0108, 0.0109), "overlaps": measured(0.0099, 0.0118, 0.0119),
        "unsettled": measured(0.01, 0.02, 0.03, settled=False),
    }  # fmt: skip
    found = two(
        store, [cell(name, measure=base) for name in names], [cell(name, measure=value) for name, value in names.items()],
        lock=locked(ENGINE, onnxruntime="1.30.1"),
    )  # fmt: skip
    assert told(found) == {"slower": ["slower"], "unsettled": ["unsettled"], "faster": ["faster"]}
    row = found["kinds"]["slower"][0]
    assert row["timing"]["ratio"] == pytest.approx(0.0121 / 0.0101)
    assert (row["timing"]["low"], row["timing"]["high"]) == (
        pytest.approx(0.0120 / 0.0102),
        pytest.approx(0.0122 / 0.01),
    )
    assert row["changes"][0]["component"] == "onnxruntime"
    assert found["timing"]["compared"] == 4
    assert found["kinds"]["unsettled"][0]["why"] == "its windows' medians lay between 10 and 30 ms"


def test_runs_before_give_the_noise_floor_too(store: Store) -> None:
    names = [f"c{n}" for n in range(5)]
    for number, seconds in enumerate((0.0100, 0.0103)):
        run(
            store, f"2026-11-1{number}T01:00:00Z-aaaa", [cell(name, measure=measured(*[seconds] * 3)) for name in names]
        )
    found = two(
        store, [cell("a", measure=measured(0.01, 0.01, 0.01))], [cell("a", measure=measured(0.0108, 0.0108, 0.0108))],
        lock=locked(ENGINE, onnxruntime="1.30.1"),
    )  # fmt: skip
    assert found["timing"]["noise"] == pytest.approx(0.03)
    assert found["timing"]["threshold"] == pytest.approx(0.09)
    assert told(found) == {}, "8 % is not beyond three times 3 %"


def test_the_interval_is_that_of_all_resamples() -> None:
    old, new = [0.010, 0.011, 0.0125], [0.011, 0.0120, 0.0121]
    draws = list(product(range(3), repeat=3))
    ratios = sorted(
        median(new[i] for i in after) / median(old[i] for i in before) for before in draws for after in draws
    )  # fmt: skip
    tail = int(len(ratios) * 0.025)
    found = history_timing.compare(old, new)
    assert [found.low, found.high] == pytest.approx([ratios[tail], ratios[-1 - tail]])
    wide = history_timing.compare([0.010, 0.011, 0.012, 0.013, 0.014], [0.010, 0.011, 0.012, 0.013, 0.014])
    assert wide.low > 0.010 / 0.014, "with five windows the outermost is no median often enough"


@pytest.mark.parametrize("sample", [[], [0.1, 0.2], [0.1, 0.2, 0.0], [0.1, 0.2, float("nan")]])
def test_what_is_no_sample_is_refused(sample: list[float]) -> None:
    with pytest.raises(ValueError, match="odd number of positive"):
        history_timing.compare(sample, [0.1, 0.1, 0.1])


def test_the_windows_are_those_that_the_worker_settles_on() -> None:
    from builder.worker import timing

    assert timing.METHOD["last"] == history_timing.WINDOWS
    assert timing.METHOD["agree"] == history_timing.THRESHOLD


def test_cells_that_did_not_change_give_the_noise_floor(store: Store) -> None:
    """Where all that nobody touched is 4 % slower, 10 % says nothing."""
    quiet = {f"quiet{n}": measured(0.0104, 0.0104, 0.0104) for n in range(6)}
    new = {**quiet, "slower": measured(0.0110, 0.0110, 0.0110), "much": measured(0.0120, 0.0120, 0.0120)}
    found = two(
        store, [cell(name, measure=measured(0.01, 0.01, 0.01)) for name in new],
        [cell(name, measure=value) for name, value in new.items()],
    )  # fmt: skip
    assert found["timing"]["noise"] == pytest.approx(0.04)
    assert told(found) == {"slower": ["much"]}


def test_times_that_were_taken_beside_other_work_are_not_compared(store: Store) -> None:
    """A process on another core of eight is a fortieth of the machine; half of them is not."""
    base = {**measured(0.01, 0.01, 0.01), "load": {"foreign": [{"name": "rm", "share": 0.2}]}}
    busy = {
        **measured(0.02, 0.02, 0.02),
        "load": {"foreign": [{"name": "make", "share": 0.4}, {"name": "cc", "share": 0.1}]},
    }
    quiet = {**busy, "load": {"foreign": []}}
    found = two(
        store, [cell("a", measure=base), cell("b", measure=base)], [cell("a", measure=busy), cell("b", measure=quiet)]
    )  # fmt: skip
    assert told(found) == {"slower": ["b"]}
    assert found["timing"]["busy"] == 1
    assert "1 not, measured while other processes were at work" in " ".join(history_words.lines(found))


def test_what_a_merged_report_does_not_say_is_no_change() -> None:
    """A report says nothing of the processor's flags: `none -> 4d70835a6ce9` were false of the machine."""
    old, new = {"processor": {"flags": "", "environment": ""}}, {"processor": {"flags": "f", "environment": "e"}}
    assert history_changes.run(old, new) == history_changes.run(new, old) == []
    other = {"processor": {"flags": "g", "environment": "e"}}
    assert [one["component"] for one in history_changes.run(new, other)] == ["processor flags"]


def test_times_of_another_processor_are_not_compared(store: Store) -> None:
    new = [cell("a", measure=measured(0.02, 0.02, 0.02), machine={**MACHINE, "cpu": "Another"})]
    found = two(store, [cell("a", measure=measured(0.01, 0.01, 0.01))], new)
    assert told(found) == {}
    assert found["timing"]["other-machine"] == 1


# Naming runs ---------------------------------------------------------------------------------------------------------


def test_runs_are_named_by_id_beginning_date_and_from_the_last(store: Store) -> None:
    for name in ("2026-11-20T01:00:00Z-aaaa", "2026-11-20T02:00:00Z-bbbb", "2026-11-21T01:00:00Z-cccc"):
        run(store, name, [cell("a")])
    names = {
        ("last~2", "last"): ("2026-11-20T01:00:00Z-aaaa", "2026-11-21T01:00:00Z-cccc"),
        ("2026-11-20T02", "2026-11-21T"): ("2026-11-20T02:00:00Z-bbbb", "2026-11-21T01:00:00Z-cccc"),
    }
    for (old, new), runs in names.items():
        found = history.diff(store, old, new)
        assert (*found["old"]["runs"], *found["new"]["runs"]) == runs
    day = history.diff(store, "2026-11-20", "last")
    assert len(day["old"]["runs"]) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [("last~3", "oldest is last~2"), ("2026-11-20T", "begins the names of 2 runs"), ("2025-01-01", "is no run"), ("", "begins")],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_with_advice(store: Store, text: str, says: str) -> None:
    for name in ("2026-11-20T01:00:00Z-aaaa", "2026-11-20T02:00:00Z-bbbb", "2026-11-21T01:00:00Z-cccc"):
        run(store, name, [cell("a")])
    with pytest.raises(UsageError, match=says):
        history.diff(store, text, "last")


def test_a_run_is_not_compared_with_itself(store: Store) -> None:
    run(store, OLD, [cell("a")])
    with pytest.raises(UsageError, match="are the same"):
        history.diff(store, "last", OLD)
    with pytest.raises(UsageError, match="only 1 run is stored"):
        history.diff(store, "last~1", "last")


def test_without_names_the_last_two_of_one_selection_are_compared(store: Store) -> None:
    """A `repro` in between, or a run of one model, is not what broke last night."""
    with pytest.raises(UsageError, match="no run is stored"):
        history.diff(store)
    names = [f"2026-11-2{number}T01:00:00Z-aaaa" for number in range(5)]
    selections = ["group nightly", "model=resnet50", "group nightly", "#0123456789ab", "#0123456789ab"]
    run(store, names[0], [cell("a")])
    with pytest.raises(UsageError, match="only 1 run is stored"):
        history.diff(store)
    for name, selection in zip(names[1:], selections[1:], strict=True):
        run(store, name, [cell("a")], select=selection)
    found = history.diff(store)
    assert (found["old"]["runs"], found["new"]["runs"]) == ([names[0]], [names[2]])
    assert history.diff(store, names[1])["new"]["runs"] == [names[4]]


def test_of_a_day_the_newest_result_that_tells_something_counts(store: Store) -> None:
    """As when a night is split over several runs."""
    run(store, OLD, [cell("a"), cell("b")])
    run(store, NEW, [cell("a", "failed"), cell("b", "skipped", reason="interrupted before it ran")])
    run(store, "2026-11-21T02:00:00Z-cccc", [cell("a", "skipped", reason="no GPU"), cell("b", "failed")])
    assert told(history.diff(store, "2026-11-20", "2026-11-21")) == {"new-failures": ["a", "b"]}


# Words ---------------------------------------------------------------------------------------------------------------


def test_equal_changes_are_told_once_in_100_columns(store: Store) -> None:
    cells = [cell(f"c{n:02}") for n in range(20)]
    line = "unsupported operator GridSample " + "x" * 300 + "\x1b[31m"
    found = two(
        store, cells, [cell(one["id"], "failed", line=line) for one in cells], lock=locked(ENGINE, onnxruntime="1.30.1")
    )
    text = list(history_words.lines(found))
    assert max(map(len, text)) <= 100
    assert sum("GridSample" in row for row in text) == 1
    assert any("20 cells: verified -> failed" in row for row in text)
    assert any("beside: onnxruntime 1.30.0 -> 1.30.1 (onnxruntime-1.30.0-py3.12)" in row for row in text)
    assert any("17 more" in row for row in text)
    assert "\x1b" not in "".join(text)
    page = history_words.markdown(found)
    assert "## New failures: 20 cells" in page and "\x1b" not in page
    assert len(page.splitlines()) < 30


# The store -----------------------------------------------------------------------------------------------------------


def test_a_store_of_schema_1_is_migrated_and_compared(tmp_path: Path) -> None:
    folder = schema1(tmp_path / "artifacts")
    evidence = pick_evidence.read(folder / "results.sqlite")
    assert sum(map(len, evidence.values())) == 3, "before it is migrated"
    store = Store(folder)
    assert store.read("pragma user_version") == [(store_module.SCHEMA,)]
    assert len(store.light()) == 12
    found = history.diff(store, "last~1", "last")
    assert told(found) == {"first": ["dcfe25b655b8"]}
    assert pick_evidence.read(folder / "results.sqlite") == evidence
    run(store, "2026-11-22T01:00:00Z-cccc", [cell("00d0858bc367", "failed")])
    row = history.diff(store, "last~1", "last")["kinds"]["new-failures"][0]
    assert row["changes"] is None, "the older run did not keep its lock"
    assert not row["unexplained"]


def test_outcomes_that_were_named_without_the_code_that_judged_them_are_found(tmp_path: Path) -> None:
    folder = schema1(tmp_path / "artifacts")
    with sqlite3.connect(folder / "results.sqlite") as db:
        db.execute("update results set outcome = substr(outcome, 1, 64)")
    db.close()
    (row,) = history.diff(Store(folder), "last~1", "last")["kinds"]["first"]
    assert row["new"]["category"] is not None and row["engine"] == "onnxruntime-1.30.0-py3.12"


def test_a_new_store_and_a_migrated_one_have_the_same_tables(tmp_path: Path) -> None:
    schemas = []
    for store in (Store(schema1(tmp_path / "old")), Store(tmp_path / "new")):
        rows = store.read("select name from sqlite_master where type = 'table' order by name")
        schemas.append({name: store.read(f"pragma table_info({name})") for (name,) in rows})
    assert schemas[0] == schemas[1]


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = schema1(tmp_path / "artifacts")
    broken = {**store_module.MIGRATIONS, 2: store_module.MIGRATIONS[2] + "create table pins (again text);"}
    monkeypatch.setattr(store_module, "MIGRATIONS", broken)
    with pytest.raises(Exception, match="pins already exists"):
        Store(folder)
    monkeypatch.undo()
    with sqlite3.connect(folder / "results.sqlite") as db:
        assert db.execute("pragma user_version").fetchone() == (1,)
        assert db.execute("select name from sqlite_master where name = 'pins'").fetchone() is None
    db.close()
    assert len(Store(folder).runs()) == 2


def test_a_run_is_kept_whole_or_not_at_all(store: Store) -> None:
    run(store, OLD, [cell("a")])
    with pytest.raises(sqlite3.IntegrityError):
        store.put_run("x", "x", None, {}, {"c": ("verified", None)})  # type: ignore[dict-item]
    assert [row["id"] for row in store.runs()] == [OLD]


def test_runs_of_one_second_stand_in_the_order_in_which_they_were_kept(store: Store) -> None:
    started = "2026-11-21T01:00:00Z"
    for mark, status in (("ffff", "failed"), ("0000", "verified")):
        store.put_run(f"{started}-{mark}", started, started, {}, {"a": (status, f"key-{mark}")})
    assert [row["id"][-4:] for row in store.runs()] == ["ffff", "0000"]
    assert store.latest_status() == {"a": "verified"}


def test_equal_pins_are_kept_once(store: Store) -> None:
    for number in range(5):
        run(store, f"2026-11-2{number}T01:00:00Z-aaaa", [cell("a")])
    assert store.read("select count(*) from pins") == [(3,)]
    assert store.read("select count(*) from run_pins") == [(15,)]


# Two nights ----------------------------------------------------------------------------------------------------------


def test_two_nights_with_a_release_that_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole program with fake workers: the second night's comparison names the component."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nothing")
    workers = Workers()
    work_with(workers, monkeypatch)
    team = Team(tmp_path, capsys)
    team("run --quiet --isolation venv")
    work = select(Project(matrix=tmp_path / "matrix.yaml"), group="all", expression=None)
    stack = next(stack for stack in stacks_of(work, work.cells) if stack.id == "onnxruntime-1.31.1-py3.12")
    pins = team.lock.stacks[stack.id]
    moved = tuple(sorted(name for name in pins.packages if not name.startswith("packaging")) + ["packaging==26.4"])
    hashes = {**pins.hashes, "packaging==26.4": ("sha256:" + "0" * 64,)}
    team.lock.stacks[stack.id] = type(pins)(
        python=pins.python, requirements=pins.requirements, packages=moved, hashes=hashes
    )
    team.save()
    well = workers.script

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "run":
            return {"error": {"type": "ValueError", "message": "no kernel for Conv", "stage": "run"}}
        return well(stage, job, folder)

    workers.script = script
    team("run --quiet --isolation venv", code=1)
    found = json.loads(team("diff --json --fail-on new", code=1)[0])
    (row,) = found["kinds"]["new-failures"]
    assert row["changes"] == [{"stack": stack.id, "component": "packaging", "old": "26.3", "new": "26.4"}]
    assert row["id"] == team.cells[stack.id]
    assert found["counts"]["stale"] == found["counts"]["pass-to-skip"] == 0
    assert "beside: packaging 26.3 -> 26.4" in team("diff")[0]
    assert "packaging 26.3" in team("diff last~1 last --markdown")[0]
    assert team("diff --runs")[0].count("\n") == 2
    assert "is no run" in team("diff yesterday", code=2)[1]


def test_of_runs_of_one_second_the_one_that_was_kept_before_is_the_last_like_it(store: Store) -> None:
    started = "2026-11-21T01:00:00Z"
    for mark in ("5555", "ffff", "0000"):
        store.put_run(
            f"{started}-{mark}", started, started, {"select": "s", "matrix": {"name": "m"}}, {"a": ("failed", mark)}
        )
    found = history_runs.default(store.runs())
    assert [name[-4:] for name in found] == ["ffff", "0000"]
