"""The story of a cell: its log around the error, what was loaded of what was declared, and the cells beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_report import fake_report

from builder.report import known, show, story
from builder.report.assemble import complete
from builder.values import FAILING


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return complete(fake_report())


def failing(report: dict[str, Any]) -> dict[str, Any]:
    return next(cell for cell in report["cells"] if cell["signature"] == "openvino-unsupported-onnx-ops")


def log_at(root: Path, cell: dict[str, Any], text: str | bytes) -> Path:
    found = story.log_of(cell)
    assert found is not None
    path = root / found[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---------------------------------------------------------------- the log


def test_the_excerpt_is_of_the_stage_that_failed_and_around_its_line(report: dict[str, Any], tmp_path: Path) -> None:
    cell = failing(report)
    lines = [f"line {i}" for i in range(1, 201)]
    lines[119] = f"worker.jobs.Failure: {cell['line']}"
    log_at(tmp_path, cell, "\n".join(lines) + "\n\n")
    found = story.excerpt(cell, tmp_path)
    assert found is not None
    assert (found["stage"], found["first"], found["at"], found["of"], found["cut"]) == (
        cell["stage"],
        114,
        120,
        200,
        False,
    )
    assert found["lines"][found["at"] - found["first"]] == lines[119] and len(found["lines"]) == 13
    assert found["lines"][0] == "line 114" and found["lines"][-1] == "line 126"


@pytest.mark.parametrize(
    ("line", "log", "at"),
    [
        ("Failure: no such thing", "a\nno such thing\nb", 2),  # the kind of an error is ours
        ("RuntimeError: no such thing", "a\nb\nRuntimeError: no such thing", 3),
        ("…such thing and more…", "a\nthere is no such thing and more to say", 2),  # cut at both ends
        ("no   such thing", "a\n  no such\tthing", 2),
        ("at cuda.cpp:187 it ended", "first\n\x1b[31mat /build/of/theirs/cuda.cpp:187 it ended\x1b[0m", 2),  # without folders
        ("killed by SIGSEGV", "warming up\nFatal Python error: Segmentation fault\n\nthread", 2),
        ("killed by SIGKILL", "warming up\nnothing said", None),
        ("not in the log", "a\nb", None),
        ("", "a\nb", None),
        ("x: ", "x: y", None),  # too little to find anything by
    ],
)  # fmt: skip
def test_the_line_that_matters_is_found(line: str, log: str, at: int | None) -> None:
    found = story.find(line, log.splitlines())
    assert (None if found is None else found + 1) == at


def test_without_the_line_the_end_is_shown_and_said_to_be_that(report: dict[str, Any], tmp_path: Path) -> None:
    cell = {**failing(report), "line": "said elsewhere"}
    log_at(tmp_path, cell, "\n".join(f"line {i}" for i in range(50)))
    found = story.excerpt(cell, tmp_path)
    assert found is not None and found["at"] is None and found["lines"][-1] == "line 49" and found["first"] == 38
    assert "the error line is not in it" in show.text(cell, tmp_path, logs=False)


def test_of_a_long_line_the_part_that_matters_is_shown(report: dict[str, Any], tmp_path: Path) -> None:
    cell = {**failing(report), "line": "…GridSample is not known to it"}
    log_at(tmp_path, cell, "begin " * 300 + "GridSample is not known to it" + " end" * 300)
    found = story.excerpt(cell, tmp_path)
    assert found is not None and found["at"] == 1
    assert "GridSample is not known to it" in found["lines"][0] and len(found["lines"][0]) <= story.LONGEST


def test_a_log_is_not_believed(report: dict[str, Any], tmp_path: Path) -> None:
    cell = failing(report)
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    inside = tmp_path / "artifacts"
    path = log_at(
        inside, cell, b"\xff\x00\x1b]0;owned\x07" + b"x" * 10_000 + f"\n/home/someone/{cell['line']}\n".encode()
    )
    found = story.excerpt(cell, inside)
    assert found is not None and found["at"] == 2
    assert all(len(line) <= story.LONGEST for line in found["lines"]) and "\x1b" not in "".join(found["lines"])
    assert "someone" not in "".join(found["lines"])
    path.unlink()
    assert story.excerpt(cell, inside) is None
    path.symlink_to(outside)
    assert story.excerpt(cell, inside) is None  # it leads out of the artifacts
    path.unlink()
    path.write_text("")
    assert story.excerpt(cell, inside) is None


def test_a_page_holds_excerpts_once_and_within_bounds(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell for cell in report["cells"] if cell["status"] in FAILING and story.log_of(cell)]
    shared = story.log_of(cells[0])
    assert shared is not None
    for stage in cells[1]["stages"]:  # a step that two cells share
        stage["log"] = shared[1] if stage["log"] else None
    alike = {**cells[1], "line": cells[0]["line"]}
    for cell in [cells[0], *cells[2:]]:
        log_at(tmp_path, cell, f"one\n{cell['line']}\ntwo")
    out = story.for_page([cells[0], alike, *cells[2:]], tmp_path)
    assert out["at"][0] == out["at"][1] and len(out["texts"]) < len(cells) == len(out["at"])
    monkeypatch.setattr(story, "ALL", 60)
    assert 0 < len(story.excerpts([cells[0], alike, *cells[2:]], tmp_path)["texts"]) < 4
    monkeypatch.undo()
    monkeypatch.setattr(story, "LOOKED", 60)  # bytes of logs that are read, however many fail
    assert 0 < len(story.excerpts([cells[0], alike, *cells[2:]], tmp_path)["texts"]) < 4
    assert story.excerpts(cells, None) == {"texts": [], "at": {}}


# ---------------------------------------------------------------- declared and loaded


def made(
    engine: dict[str, str], exporter: dict[str, str], modules: dict[str, Any], python: str, libraries: Any = ()
) -> Any:
    return {
        "engine": {"fields": engine}, "exporter": {"fields": exporter}, "python": python,
        "loaded": {"modules": modules, "libraries": [{"name": name} for name in libraries]},
    }  # fmt: skip


def test_what_was_loaded_is_held_against_what_was_declared() -> None:
    cell = made(
        {"tensorrt-rtx": "1.7.1.116", "cuda": "12", "python": "3.12"}, {"torch": "2.13.0", "python": "3.11"},
        {"tensorrt_rtx_bindings": "1.7.0.9", "numpy": "2.5.5"}, "3.12.1", ["libcudart.so.13.0.48", "libc.so.6"],
    )  # fmt: skip
    rows = {(row["role"], row["name"]): (row["loaded"], row["same"]) for row in story.declared(cell)}
    assert rows == {
        ("engine", "tensorrt-rtx"): ("1.7.0.9", False), ("engine", "cuda"): ("13.0.48", False),
        ("engine", "python"): ("3.12.1", True), ("exporter", "torch"): (None, None), ("exporter", "python"): (None, None),
    }  # fmt: skip


def test_a_record_of_the_exporter_tells_nothing_of_the_engine() -> None:
    cell = made(
        {"onnxruntime": "1.23.2", "python": "3.12"},
        {"torch": "2.13.0", "python": "3.11"},
        {"torch": "2.13.0+cpu"},
        "3.11.7",
    )
    rows = {(row["role"], row["name"]): row["same"] for row in story.declared(cell)}
    assert rows == {
        ("engine", "onnxruntime"): None,
        ("engine", "python"): None,
        ("exporter", "torch"): True,
        ("exporter", "python"): True,
    }


@pytest.mark.parametrize(
    ("asked", "got", "same"),
    [("2023.0.2", "2023.0.2-11065-e662b1a3301-releases/2023/0", True), ("3.1", "3.11.7", False), ("1.2", "1.2.0", True),
     ("1.2.0", "1.2", False), ("2.13.0+cpu", "2.13.0+cpu", True)],
)  # fmt: skip
def test_more_digits_are_the_same_version_and_others_are_not(asked: str, got: str, same: bool) -> None:
    cell = made({"lib": asked}, {}, {"lib": {"version": got}}, "3.11.7")
    assert [row["same"] for row in story.declared(cell)] == [same]


# ---------------------------------------------------------------- neighbours


def key(cell: dict[str, Any]) -> dict[str, str]:
    """All that a cell was asked to be, in another way than the module's: its two stacks' versions and its options."""
    out = {f"option {k}": v for k, v in cell["axes"].items()}
    for role in ("engine", "exporter"):
        out |= {f"{role} {k}": v for k, v in cell[role]["fields"].items() if k != "python"}
        out[f"{role} family"] = cell[role]["family"]
    return out


def test_neighbours_differ_in_one_axis_and_the_nearest_are_there(report: dict[str, Any]) -> None:
    cells = report["cells"]
    told = 0
    for cell in cells[::9]:
        own = key(cell)
        rows = story.neighbours(cell, cells)
        assert len({row["cell"]["id"] for row in rows}) == len(rows) and cell["id"] not in {
            row["cell"]["id"] for row in rows
        }
        for row in rows:
            its = key(row["cell"])
            different = {k for k in own.keys() & its.keys() if own[k] != its[k]}
            if row["axis"].endswith(".family"):
                assert f"{row['axis'].split('.')[0]} family" in different
            else:
                assert len({k for k in own.keys() | its.keys() if own.get(k) != its.get(k)}) == 1
        told += len(rows)
    assert told > 100


def test_of_an_ordered_axis_the_next_and_the_nearest_that_ends_otherwise(report: dict[str, Any]) -> None:
    cells = report["cells"]

    def at(version: str) -> dict[str, Any]:
        return next(c for c in cells if c["engine"]["fields"].get("onnxruntime") == version
                    and c["axes"] == {"model": "resnet50", "opset": "21", "precision": "fp32", "shapes": "static"})  # fmt: skip

    def along(cell: dict[str, Any]) -> list[tuple[str, str, str]]:
        return [
            (r["side"], r["value"], r["cell"]["status"])
            for r in story.neighbours(cell, cells)
            if r["axis"] == "engine.onnxruntime"
        ]

    # 1.15.1 to 1.17.3 fail at opset 21, later ones work.
    assert along(at("1.15.1")) == [("higher", "1.16.3", "failed"), ("higher", "1.18.1", "verified")]
    assert along(at("1.17.3")) == [("lower", "1.16.3", "failed"), ("higher", "1.18.1", "verified")]
    assert along(at("1.20.1")) == [
        ("lower", "1.19.2", "verified"),
        ("lower", "1.17.3", "failed"),
        ("higher", "1.22.1", "verified"),
    ]


def test_another_library_is_one_axis_and_the_newest_that_works_is_told(report: dict[str, Any]) -> None:
    cell = next(c for c in report["cells"] if c["engine"]["id"].startswith("openvino-2023.0.2")
                and c["axes"]["model"] == "segmenter" and c["axes"]["opset"] == "17")  # fmt: skip
    rows = [
        (r["value"], r["cell"]["engine"]["id"], r["cell"]["status"])
        for r in story.neighbours(cell, report["cells"])
        if r["axis"] == "engine.family"
    ]
    assert rows == [
        ("onnxruntime", "onnxruntime-1.31.1-py3.12", "verified"),
        ("tensorrt-rtx", "tensorrt-rtx-1.7.1.116-cuda12-py3.12", "built"),
    ]


# ---------------------------------------------------------------- show


def test_show_tells_the_whole_story(report: dict[str, Any], tmp_path: Path) -> None:
    cell = failing(report)
    log_at(tmp_path, cell, f"begun\n{cell['line']}\nended\n")
    text = show.text(cell, tmp_path, logs=False, near=report["cells"])
    for part in (cell["diagnosis"], cell["remedy"], "lines 1 to 3 of 3, stage parse", f">     2 | {cell['line']}"):
        assert part in text
    works = next(r["cell"] for r in story.neighbours(cell, report["cells"]) if r["cell"]["status"] == "verified")
    assert any(line.strip().startswith(works["id"]) and line.endswith("verified") for line in text.splitlines())
    folded = show.text(cell, tmp_path, logs=False, near=report["cells"], width=60)
    long = [
        line for line in folded.splitlines() if len(line) > 60 and line.startswith(("remedy", "diagnosis", "outcome"))
    ]
    assert not long and " ".join(cell["remedy"].split()) in " ".join(folded.split())


def test_show_without_a_cell_is_the_way_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of which one model fails: `show` names why and a cell; `show CELL` the model beside it that works."""
    import fake
    from small import Small

    from builder.cli import main

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "export" and "alpha" in str(job):
            return {"error": {"stage": "export", "type": "ValueError", "message": "no such operator: Fancy"}}
        return fake.well(stage, job, folder)

    monkeypatch.setattr(fake.World.__init__, "__defaults__", (script, 0.0))
    project = Small(tmp_path)
    store = project.run("1")
    monkeypatch.chdir(tmp_path)
    failed = {cell.id for cell in project.work.cells if cell.model == "alpha"}
    assert (
        main(["show"]) == 0 and capsys.readouterr().out == "Nothing failed last time.\n"
    )  # the run is recorded as verified
    store.put_run(
        "2", "2", "2", {}, {cell.id: ("failed" if cell.id in failed else "verified", "") for cell in project.work.cells}
    )
    assert main(["show"]) == 0
    told = capsys.readouterr().out
    assert "2 cells failed" in told and "no such operator: Fancy" in told
    shown = next(word for line in told.splitlines() if "enginematrix show" in line for word in line.split()[-1:])
    assert shown in failed
    assert main(["show", shown]) == 0
    story_of = capsys.readouterr().out
    works = [cell.id for cell in project.work.cells if cell.model == "beta"]
    row = next(line for line in story_of.splitlines() if "model beta" in line)
    assert row.split()[0] in works and row.endswith("verified")
    assert any(
        line.split()[:1] and line.split()[0] in failed and "onnxruntime" in line for line in story_of.splitlines()
    )
    assert main(["show", "--json"]) == 0
    assert {cell["id"] for cell in json.loads(capsys.readouterr().out)} == failed


def test_what_never_ran_beside_it_can_be_run_by_a_command(report: dict[str, Any], tmp_path: Path) -> None:
    from builder import pipeline
    from builder.project import Project

    root = Path(__file__).parent.parent
    _, expanded = pipeline.load(Project(matrix=root / "matrix.yaml"))
    cell = next(c for c in expanded.cells if c.engine.entry == "ort" and c.options.get("torch-exporter") == "dynamo")
    told = {
        "engine": cell.engine.as_dict(),
        "exporter": cell.exporter.as_dict(),
        "axes": {"model": cell.model, **cell.options},
    }
    chosen = expanded.select(story.along(told)).cells
    assert cell.id in {c.id for c in chosen} and len({c.engine.id for c in chosen}) == len(chosen) > 3
    assert {(c.model, tuple(c.options.items()), c.exporter.id) for c in chosen} == {
        (cell.model, tuple(cell.options.items()), cell.exporter.id)
    }
    own = failing(report)
    assert "untried" not in show.text(own, tmp_path, logs=False, near=report["cells"], releases=5)
    alone = show.text(own, tmp_path, logs=False, near=[], releases=5)
    assert f"on 5 other releases of its engine in the matrix: `enginematrix run --select '{story.along(own)}'`" in alone


def test_show_tells_how_far_a_time_can_be_trusted(report: dict[str, Any], tmp_path: Path) -> None:
    timed = [{**c, "artifact": None} for c in report["cells"] if c["measure"]]
    cell = next(c for c in timed if c["measure"]["status"] == "settled")
    low, high = sorted(w["median"] * 1e3 for w in cell["measure"]["windows"])[::2]
    assert f", {low:.3f} to {high:.3f} by its windows" in show.text(cell, tmp_path, logs=False)
    loud = {**cell, "machine": {"cpu": "x", "cores": 2, "gpus": [], "driver": None, "platform": "Linux", "glibc": "2.36"},
            "measure": {**cell["measure"], "load": {"foreign": [{"name": "a", "share": 1.0}]}}}  # fmt: skip
    assert "other processes had 50% of the machine" in show.text(loud, tmp_path, logs=False)
    unstable = next(c for c in timed if c["measure"]["status"] == "unstable")
    assert "did not settle: no number (" in show.text(unstable, tmp_path, logs=False)


# ---------------------------------------------------------------- known-good stacks


def test_known_good_counts_what_ran_and_matched(report: dict[str, Any]) -> None:
    entries = {entry["engine"]: entry for entry in known.stacks(report["cells"])}
    assert set(entries) == {cell["engine"]["id"] for cell in report["cells"]}
    assert sum(entry["verified"] for entry in entries.values()) == report["counts"]["verified"]
    for name, entry in entries.items():
        cells = [cell for cell in report["cells"] if cell["engine"]["id"] == name]
        assert entry["failing"] == sum(cell["status"] in FAILING for cell in cells)
        assert sum(row[2] for row in entry["coverage"]) == entry["verified"]
        assert (entry["since"] is None) == (entry["verified"] == 0)
    order = [name for name in entries if name.startswith("onnxruntime")]
    assert order[0] == "onnxruntime-1.31.1-py3.12" and order[-1] == "onnxruntime-1.15.1-py3.11"
    assert entries["tensorrt-rtx-1.7.1.116-cuda13-py3.12"]["verified"] == 0  # built is not verified


def test_the_commands_are_of_exactly_that_stack(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from builder.cli import main

    entries = {entry["engine"]: entry for entry in known.stacks(report["cells"])}
    monkeypatch.chdir(Path(__file__).parent.parent)
    for name in ("onnxruntime-1.23.2-py3.12", "onnxruntime-1.16.3-py3.11", "tensorrt-rtx-1.7.1.116-cuda13-py3.12"):
        command = entries[name]["pick"] if name in entries else _pick_of(name)
        assert command is not None
        assert main([*shlex.split(command)[1:], "--offline"]) == 0
        assert capsys.readouterr().out.splitlines()[0].startswith(f"# {name}, ")
    command = entries["onnxruntime-1.20.1-py3.12"]["run"]
    words = shlex.split(command)
    assert main(["plan", *words[2:]]) == 0
    assert "over 1 engine stacks" in capsys.readouterr().out


def _pick_of(name: str) -> str | None:
    version = name.split("-")[1]
    engine = {"id": name, "entry": "ort", "family": "onnxruntime", "fields": {"onnxruntime": version, "python": "3.12"}}
    return known._pick(engine, {"isolation": {"engine": "venv"}}, known._pickable())


def test_no_pick_for_what_pick_has_not() -> None:
    engine = {"id": "onnxruntime-1.16.3-numpy2.2.6-py3.11", "family": "onnxruntime",
              "fields": {"onnxruntime": "1.16.3", "numpy": "2.2.6", "python": "3.11"}}  # fmt: skip
    assert known._pick(engine, {"isolation": {"engine": "venv"}}, known._pickable()) is None


def test_since_when_is_an_unbroken_row(tmp_path: Path) -> None:
    from builder.store import Store

    store = Store(tmp_path)
    nights = {
        "a": ["verified", "verified", "verified"], "b": ["verified", "failed", "verified"],
        "c": ["verified", "skipped", "verified"],
        "d": ["verified", "verified", "crashed"], "e": ["skipped", "blocked", "verified"],
    }  # fmt: skip
    for night in range(3):
        when = f"2026-11-{night + 1:02d}T01:00:00Z"
        store.put_run(
            f"{when}-x", when, when, {}, {cell: (row[night], f"{cell}{night}") for cell, row in nights.items()}
        )
    store.close()
    since = known.verified_since(tmp_path / "results.sqlite")
    assert {cell: when[8:10] for cell, when in since.items()} == {"a": "01", "b": "03", "c": "01", "e": "03"}
    assert known.verified_since(tmp_path / "nothing.sqlite") == {}
    (tmp_path / "broken.sqlite").write_bytes(os.urandom(4096))
    assert known.verified_since(tmp_path / "broken.sqlite") == {}
