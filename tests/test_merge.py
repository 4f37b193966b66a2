"""Results of several machines merge in any order and as often as one likes; nothing is believed, nothing half-written."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from fake_report import fake_report
from histories import ENGINE, cell, locked, run, schema1
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import ROOT
from small import Small

from builder import cli, history, machine, merge_rows, pipeline
from builder.errors import InfrastructureError, UsageError
from builder.merge import merge
from builder.merge_files import Merged
from builder.plan import reconcile
from builder.report.assemble import complete
from builder.store import StepRecord, Store
from builder.values import STATUSES, digest

TABLES = ("steps", "outcomes", "runs", "results", "pins", "run_pins", "refuted", "conflicts")
DAY = "2026-11-20T01:00:00Z"


def state(store: Store) -> dict[str, list[Any]]:
    """All that a store says."""
    return {table: sorted(store.read(f"select * from {table}")) for table in TABLES}


def step(key: str, **values: Any) -> StepRecord:
    default: dict[str, Any] = {
        "key": key, "kind": "build", "name": key, "state": "ok", "output": "o", "seconds": 1.0, "created": DAY, "run": "r",
        "record": {},
    }  # fmt: skip
    return StepRecord(**{**default, **values})


def made(folder: Path, content: dict[str, Any]) -> Path:
    """A folder of artifacts with this in its results."""
    store = Store(folder)
    for key, values in content["steps"]:
        store.put_step(step(key, **values))
    for name, statuses, version in content["runs"]:
        run(
            store,
            name,
            [cell(f"c{n}", status) for n, status in enumerate(statuses)],
            lock=locked(ENGINE, numpy=version),
        )
    if content["refuted"]:
        store.put_refuted({claim: ("cell", seen) for claim, seen in content["refuted"].items()}, [])
    store.close()
    return folder


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["k1", "k2", "k3"]),
        st.fixed_dictionaries({
            "state": st.sampled_from(["ok", "failed"]), "output": st.sampled_from(["", "o1", "o2"]),
            "created": st.sampled_from(["2026-11-20", "2026-11-21"]), "run": st.sampled_from(["r1", "r2"]),
            "kind": st.sampled_from(["build", "run"]),
        }),
    ), max_size=4,
)  # fmt: skip
CONTENT = st.fixed_dictionaries({
    "steps": STEPS,
    "runs": st.lists(
        st.tuples(
            st.sampled_from([f"{DAY}-aaaa", "2026-11-21T01:00:00Z-bbbb"]),
            st.lists(st.sampled_from(["verified", "failed", "skipped"]), min_size=1, max_size=2),
            st.sampled_from(["2.0.1", "2.1.0"]),
        ), max_size=2,
    ),
    "refuted": st.dictionaries(st.sampled_from(["claim"]), st.sampled_from(["one", "two"])),
})  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(CONTENT, min_size=3, max_size=3))
def test_order_and_repetition_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, Any]]
) -> None:
    root = tmp_path_factory.mktemp("merge")
    folders = [made(root / str(number), content) for number, content in enumerate(contents)]
    states = []
    for number, order in enumerate(permutations(folders)):
        store = Store(root / f"to{number}")
        merge(store, order)
        states.append(state(store))
    assert all(each == states[0] for each in states), "commutative"
    merge(store, [*folders, folders[0]])
    assert state(store) == states[0], "idempotent"
    part, whole = Store(root / "part"), Store(root / "whole")
    merge(part, folders[1:])
    part.close()
    merge(whole, [folders[0], part.root])
    assert state(whole) == states[0], "associative"
    own = Store(folders[0])  # a project's own results are one side like any other
    merge(own, folders[1:])
    assert state(own) == states[0]
    shutil.rmtree(root)


def test_what_only_one_has_is_all_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "own")
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    run(one, f"{DAY}-aaaa", [cell("a")])
    run(two, "2026-11-21T01:00:00Z-bbbb", [cell("a", "failed")], lock=locked(ENGINE, numpy="2.1.0"))
    two.put_step(step("k", record={"error": "é"}))
    found = merge(store, [one.root, two.root])
    assert [each.new["runs"] for each in found] == [1, 1]
    assert store.step("k") == two.step("k")
    row = history.diff(store, "last~1", "last")["kinds"]["new-failures"][0]
    assert row["changes"] == [{"stack": ENGINE, "component": "numpy", "old": "2.0.1", "new": "2.1.0"}]
    assert [each.new for each in merge(store, [one.root, two.root])] == [dict.fromkeys(found[0].new, 0)] * 2


def test_another_result_under_one_key_is_kept_and_told_once(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "own"), Store(tmp_path / "other")
    store.put_step(step("k", output="mine", created="2026-11-21"))
    other.put_step(step("k", state="failed", output="", created="2026-11-20"))
    (merged,) = merge(store, [other.root])
    assert merged.conflicts == ["step build k: failed (no output, 2026-11-20) and ok (mine, 2026-11-21); both are kept"]
    assert store.light()["k"].state == "failed", "the earlier one stands"
    kept = store.read("select kind, key, record from conflicts")
    assert [(kind, key, json.loads(record)[4]) for kind, key, record in kept] == [("steps", "k", "mine")]
    assert merge(store, [other.root])[0].conflicts == []


def test_a_time_that_came_out_otherwise_is_no_conflict(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "own"), Store(tmp_path / "other")
    store.put_step(step("k", kind="measure", output="1 ms"))
    other.put_step(step("k", kind="measure", output="1.1 ms"))
    assert merge(store, [other.root])[0].conflicts == []
    assert store.read("select * from conflicts") == []


def test_two_machines_that_named_a_run_alike_keep_both(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "own"), Store(tmp_path / "other")
    run(store, f"{DAY}-aaaa", [cell("a")])
    run(other, f"{DAY}-aaaa", [cell("b", "failed")])
    (merged,) = merge(store, [other.root])
    names = [row["id"] for row in store.runs()]
    assert len(names) == 2 and f"{DAY}-aaaa" in names
    assert "2 runs gave themselves this id" in merged.conflicts[0]
    assert {row[0] for row in store.read("select cell from results")} == {"a", "b"}
    found = history.diff(store, *sorted(names))
    assert [*found["old"]["runs"], *found["new"]["runs"]] == sorted(names)
    assert merge(store, [other.root])[0].conflicts == []


def test_results_of_schema_1_merge_and_stay_as_they_are(tmp_path: Path) -> None:
    folder = schema1(tmp_path / "old")
    before = (folder / "results.sqlite").read_bytes()
    store = Store(tmp_path / "own")
    assert merge(store, [folder])[0].new["runs"] == 2
    assert (folder / "results.sqlite").read_bytes() == before
    assert os.listdir(folder) == ["results.sqlite"]


def test_what_the_write_ahead_log_still_holds_is_merged(tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.put_step(step("k"))
    assert (other.root / "results.sqlite-wal").stat().st_size
    store = Store(tmp_path / "own")
    merge(store, [other.root])
    assert store.step("k") is not None


# Files ---------------------------------------------------------------------------------------------------------------


def with_object(folder: Path, text: bytes = b"engine") -> tuple[Store, dict[str, Any]]:
    other = Store(folder)
    file = folder / "work" / "model.onnx"
    file.write_bytes(text)
    entry = other.add_object(file)
    log = folder / "work" / "log.txt"
    log.write_text("log")
    kept = other.keep_log("ab" * 32, log)
    other.put_step(step("ab" * 32, record={"artifact": entry, "log": kept}))
    return other, entry


@pytest.mark.parametrize("how", ["copy", "link"])
def test_objects_come_when_they_are_asked_for(tmp_path: Path, how: Any) -> None:
    other, entry = with_object(tmp_path / "other")
    store = Store(tmp_path / "own")
    (merged,) = merge(store, [other.root])
    assert (merged.objects, merged.logs, store.present(entry)) == (0, 1, False)
    (merged,) = merge(store, [other.root], objects=how)
    assert (merged.objects, merged.refused) == (1, [])
    assert store.intact(entry)
    assert (store.root / entry["path"]).samefile(other.root / entry["path"]) == (how == "link")
    assert (store.root / entry["path"]).stat().st_mode & 0o222 == 0
    assert merge(store, [other.root], objects=how)[0].objects == 0


def test_an_object_with_other_bytes_than_its_name_says_is_refused(tmp_path: Path) -> None:
    other, entry = with_object(tmp_path / "other")
    path = other.root / entry["path"]
    path.chmod(0o644)
    path.write_bytes(b"engin3")
    store = Store(tmp_path / "own")
    (merged,) = merge(store, [other.root], objects="copy")
    assert "other bytes than its name says" in merged.refused[0]
    assert not (store.root / entry["path"]).exists()


@pytest.mark.parametrize(
    "path", ["../../evil", "/etc/hostname", "objects/ab/../../../evil", "objects/aa/" + "a" * 64 + "/.."]
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "evil").write_text("evil")
    other = Store(tmp_path / "deep" / "other")
    other.put_step(step("k", record={"artifact": {"path": path, "sha256": "0", "bytes": 4}, "log": path}))
    store = Store(tmp_path / "own")
    (merged,) = merge(store, [other.root], objects="copy")
    assert len(merged.refused) == 2 and merged.objects == merged.logs == 0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    other, entry = with_object(tmp_path / "other")
    secret = tmp_path / "secret"
    secret.write_bytes(b"engine")
    (other.root / entry["path"]).unlink()
    (other.root / entry["path"]).symlink_to(secret)
    (merged,) = merge(Store(tmp_path / "own"), [other.root], objects="copy")
    assert "not in that folder" in merged.refused[0]


# What cannot be merged -----------------------------------------------------------------------------------------------


def broken(folder: Path, how: str) -> Path:
    if how == "nothing":
        folder.mkdir()
        return folder
    store = Store(folder)
    store.put_step(step("k"))
    store.close()
    with sqlite3.connect(folder / "results.sqlite") as db:
        if how == "future":
            db.execute("pragma user_version = 99")
        elif how == "no record":
            db.execute("update steps set record = '[1]'")
        elif how == "no JSON":
            db.execute("update steps set record = 'x'")
        elif how == "pins":
            db.execute("insert into pins values ('0', '{}')")
        elif how == "empty":
            db.execute("pragma user_version = 0")
        elif how == "column":
            db.execute("alter table steps add column more text")
    db.close()
    if how == "text":
        (folder / "results.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 30)
    return folder


@pytest.mark.parametrize(
    ("how", "says"),
    [("nothing", "holds no results.sqlite"), ("future", "newer EngineMatrix"), ("no record", "not a record"),
     ("no JSON", "not a record"), ("pins", "not a record"), ("empty", "not a results database"),
     ("column", "table steps is not that"),
     ("text", "not a readable")],
)  # fmt: skip
def test_one_bad_folder_and_nothing_is_written(tmp_path: Path, how: str, says: str) -> None:
    good = Store(tmp_path / "good")
    good.put_step(step("good"))
    store = Store(tmp_path / "own")
    with pytest.raises(UsageError, match=says):
        merge(store, [good.root, broken(tmp_path / "bad", how)])
    assert store.light() == {}
    assert list((store.root / "work").iterdir()) == []


def test_its_own_folder_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "own")
    with pytest.raises(UsageError, match="own folder"):
        merge(store, [tmp_path / "own"])


def test_a_merge_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Store(tmp_path / "other")
    other.put_step(step("k"))
    run(other, f"{DAY}-aaaa", [cell("a")])
    store = Store(tmp_path / "own")

    def dies(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(merge_rows, "runs", dies)
    with pytest.raises(InfrastructureError, match="free some space"):
        merge(store, [other.root])
    assert store.light() == {}
    monkeypatch.undo()
    assert merge(store, [other.root])[0].new["runs"] == 1


def test_a_merge_that_is_killed_leaves_nothing_half(tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    for number in range(50):
        other.put_step(step(f"k{number}"))
    run(other, f"{DAY}-aaaa", [cell("a")])
    store = Store(tmp_path / "own")
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from builder import merge, merge_rows
        from builder.store import Store
        def wait(found):
            print("in the middle", flush=True)
            time.sleep(60)
        merge_rows.runs = wait
        merge.merge(Store(Path(sys.argv[1])), [Path(sys.argv[2])])
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root), str(other.root)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"in the middle\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert store.light() == {} and store.runs() == []
    (merged,) = merge(store, [other.root])
    assert (merged.new["steps"], merged.new["runs"]) == (50, 1)


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_merges_what_a_run_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ran, idle = Small(tmp_path / "a"), Small(tmp_path / "b")
    ran.run("1")
    matrix = str(tmp_path / "b" / "matrix.yaml")
    assert cli.main(["-f", matrix, "merge", str(tmp_path / "a"), "--objects", "copy"]) == 0
    assert "1 runs" in capsys.readouterr().out
    assert {step.kind for step in idle.plan()[0].todo()} == set(), "what the other made is not made again"
    idle.run("2")
    assert idle.world.jobs == []
    assert cli.main(["-f", matrix, "merge", str(tmp_path / "nothing")]) == 2
    assert cli.main(["-f", matrix, "merge", str(tmp_path / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["conflicts"] == []


def test_what_did_not_come_along_is_made_again_where_something_reads_it(tmp_path: Path) -> None:
    """Records without their files: a report needs none of them, a run makes what it reads."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ran, idle = Small(tmp_path / "a"), Small(tmp_path / "b")
    ran.run("1")
    store = Store(idle.artifacts)
    merge(store, [ran.artifacts])
    told = pipeline.make_plan(idle.work, idle.lock, machine.read())
    reconcile(told, store.light(), store.root / "objects", engines=False)
    assert {chain.run.state for chain in told.chains} == {"stored"}
    plan, _ = pipeline.planned(idle.work, idle.lock, machine.read(), store)
    assert {step.kind for step in plan.todo()} >= {"obtain", "export", "build"}


# Reports alone -------------------------------------------------------------------------------------------------------


@functools.cache
def _whole() -> str:
    return json.dumps(complete(fake_report()))


def told(number: int, name: str, statuses: list[str]) -> dict[str, Any]:
    """A report that is valid: the cells of `fake_report`, some of them, as a run of this name."""
    whole = json.loads(_whole())
    cells = []
    for place, status in enumerate(statuses):
        found = next(cell for cell in whole["cells"] if cell["status"] == status and not cell["expected"])
        cells.append({**found, "id": f"{place:012x}", "key": digest([number, place, status]) + "0" * 16})
    counts = {**dict.fromkeys(STATUSES, 0), **Counter(statuses)}
    claims = {key for cell in cells for key in cell["prediction"]["claims"]}
    scored = [claim for claim in whole["predictions"]["claims"] if claim["key"] in claims]
    used = Counter(key for cell in cells for key in cell["prediction"]["claims"])
    scored = [{**claim, "held": used[claim["key"]], "failed": 0, "open": 0} for claim in scored]
    run_ = {**whole["run"], "id": name, "started": DAY, "finished": DAY}
    report = {**whole, "run": run_, "cells": cells, "counts": counts, "selected": len(cells),
              "predictions": {**whole["predictions"], "claims": scored}}  # fmt: skip
    return complete({k: v for k, v in report.items() if k not in ("findings", "undiagnosed", "rules", "boundaries")})


def left(folder: Path, report: dict[str, Any]) -> Path:
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "report.json").write_text(json.dumps(report))
    return folder


SOURCES = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([f"{DAY}-aaaa", f"{DAY}-bbbb"]),
        st.lists(st.sampled_from(["verified", "failed", "skipped"]), min_size=1, max_size=2),
    ), min_size=3, max_size=3,
)  # fmt: skip


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sources=SOURCES)
def test_order_and_repetition_do_not_matter_with_reports_either(
    tmp_path_factory: pytest.TempPathFactory, sources: list[tuple[bool, str, list[str]]]
) -> None:
    """Runs as databases and as reports, also the same run as both."""
    root = tmp_path_factory.mktemp("reports")
    folders = []
    for number, (whole, name, statuses) in enumerate(sources):
        report = told(0, name, statuses)
        if whole:
            own = Store(root / str(number))
            cells = [cell(entry["id"], entry["status"]) for entry in report["cells"]]
            run(own, name, cells, started=DAY)
            own.write_all([("update runs set started = ?", [(DAY,)])])
            own.close()
            folders.append(root / str(number))
        else:
            folders.append(left(root / str(number), report))
    states = []
    for number, order in enumerate(permutations(folders)):
        store = Store(root / f"to{number}")
        merge(store, order)
        states.append(state(store))
    assert all(each == states[0] for each in states), "commutative"
    merge(store, [*folders, folders[0]])
    assert state(store) == states[0], "idempotent"
    part, together = Store(root / "part"), Store(root / "together")
    merge(part, folders[1:])
    part.close()
    merge(together, [folders[0], part.root])
    assert state(together) == states[0], "associative"
    by_run: dict[str, set[bool]] = {}
    for name, record in store.read("select id, record from runs"):
        by_run.setdefault(name.partition("~")[0], set()).add(json.loads(record).get("from") == "report.json")
    for name in by_run:
        full = [set(enumerate(s)) for whole, n, s in sources if whole and n == name]
        alone = [set(enumerate(s)) for whole, n, s in sources if not whole and n == name]
        assert (True in by_run[name]) == any(not any(each <= f for f in full) for each in alone), (
            "its own run takes its place"
        )
    shutil.rmtree(root)


def test_what_a_report_tells_is_marked_and_judges_nothing(tmp_path: Path) -> None:
    report = told(1, f"{DAY}-aaaa", ["verified", "failed"])
    store = Store(tmp_path / "own")
    (merged,) = merge(store, [left(tmp_path / "other", report)])
    assert merged.told and "a report alone" in next(merged.lines()) and merged.as_dict()["report-alone"]
    (kept,) = store.runs()
    assert (kept["from"], kept["select"]) == ("report.json", report["run"]["select"])
    assert store.latest_status() == {cell["id"]: cell["status"] for cell in report["cells"]}
    assert store.outcomes([cell["key"] for cell in report["cells"]]) == {}, "no key that judging looks up"
    records = [json.loads(row[0]) for row in store.read("select record from outcomes")]
    assert {record["from"] for record in records} == {"report.json"}
    assert store.light() == {}
    assert merge(store, [tmp_path / "other" / "report" / "report.json"])[0].new["runs"] == 0


def test_reports_are_compared_as_runs_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "own")
    late = told(2, "2026-11-21T01:00:00Z-bbbb", ["failed"])
    late["run"].update(started="2026-11-21T01:00:00Z", finished="2026-11-21T01:00:00Z")
    merge(store, [left(tmp_path / "a", told(1, f"{DAY}-aaaa", ["verified"])), left(tmp_path / "b", late)])
    assert [row["id"] for row in history.diff(store, "last~1", "last")["kinds"]["new-failures"]] == ["0" * 12]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: r.pop("counts"), "not as docs/report.schema.json"),
        (lambda r: r["cells"][0].update(status="great"), "not as docs/report.schema.json"),
        (lambda r: r["counts"].update(failed=3), "contradicts itself"),
        (lambda r: r.update(selected=7), "contradicts itself"),
        (lambda r: r.update(schema=2), "not a report.json of schema 1"),
        (lambda r: r["run"].update(id="../../evil"), "no id of a run"),
        (lambda r: r["run"].update(id="x" * 300), "no id of a run"),
    ],
)
def test_a_report_that_is_not_one_is_refused_before_anything_is_written(tmp_path: Path, spoil: Any, says: str) -> None:
    report = told(1, f"{DAY}-aaaa", ["verified"])
    spoil(report)
    good = Store(tmp_path / "good")
    good.put_step(step("good"))
    store = Store(tmp_path / "own")
    with pytest.raises(UsageError, match=says):
        merge(store, [good.root, left(tmp_path / "bad", report)])
    assert store.light() == {} and store.runs() == []


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "[" * 100_000, '"text"'])
def test_what_is_no_json_or_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"report\.json"):
        merge(Store(tmp_path / "own"), [path])


def test_gc_keeps_the_steps_of_a_run_that_was_renamed(tmp_path: Path) -> None:
    """Two machines gave a run one id; the steps of both name it, and only the run was renamed."""
    small = Small(tmp_path)
    store = small.run("2026-11-20T01:00:00Z-aaaa")
    other = Store(tmp_path / "other")
    other.put_step(step("theirs", run="2026-11-20T01:00:00Z-aaaa"))
    run(other, "2026-11-20T01:00:00Z-aaaa", [cell("x")])
    merge(store, [other.root])
    renamed = [row["id"] for row in store.runs()]
    assert any("~" in name for name in renamed)
    assert small.collect(keep_runs=2, dry_run=True).get("records", 0) == 0
    last = store.runs()[-1]["id"]
    assert small.collect(keep_runs=1, dry_run=True).get("records", 0) == 0, last
    assert small.collect(keep_runs=0, dry_run=True)["records"] >= 1


def test_gc_keeps_the_steps_of_the_parts_of_a_merged_run(tmp_path: Path) -> None:
    small = Small(tmp_path)
    store = small.run("2026-11-20T01:00:00Z-aaaa")
    store.put_step(step("part", run="2026-11-20T01:00:00Z-aaaa"))
    parts = ["2026-11-20T01:00:00Z-aaaa", *(f"2026-11-21T01:00:0{n}Z-part" for n in range(6))]
    for part in parts[1:]:
        store.put_run(part, part, part, {}, {})
    whole = "2026-11-20T00:59:00Z-bbbb"  # as its first part began
    store.put_run(whole, whole, whole, {"parts": parts}, {})
    assert small.collect(keep_runs=1, dry_run=True).get("records", 0) == 0
    assert small.collect(keep_runs=0, dry_run=True)["records"] >= 1


def test_what_merged_says_of_nothing() -> None:
    assert list(Merged(folder=Path("x")).lines()) == ["x: nothing new"]
