"""One report of the parts of a run: what several jobs or machines found out of the cells of one selection.

Made of their report.json files: each says what became of its cells on its machine, which keys of this machine could not
find. Every selected cell is in it: one that no part reports is `blocked`, for infrastructure, and never left out. The order
of the parts does not matter.
"""

from __future__ import annotations

import datetime
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import history_keep, history_runs, lock, machine, merge_rows, outcome, pipeline, results
from builder.errors import UsageError
from builder.values import FAILING, Cell, digest

if TYPE_CHECKING:
    from builder.pipeline import Work
    from builder.predict import Prediction
    from builder.store import Store

LOST = "no part reported it: its job ended before it wrote a report, or the report did not arrive"


def collate(work: Work, reports: Sequence[Mapping[str, Any]], *, command: str, policy: str) -> dict[str, Any]:
    """The report of the cells of `work` (docs/report-schema.md, without findings), with `run.parts`. Raises UsageError for
    reports of another matrix, lock or selection."""
    once = {digest(dict(report)): report for report in reports}
    parts = [once[name] for name in sorted(once, key=lambda name: (str(once[name]["run"]["id"]), name))]
    _alike(work, parts)
    found = _newest(work, parts)
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    predictions: dict[str, Prediction] = {}
    refuted = _refuted(parts)
    cells: dict[str, dict[str, Any]] = {}
    for at, part in enumerate(parts):
        mine = [cell for cell in work.cells if found.get(cell.id) == at]
        by_id = {cell["id"]: cell for cell in part["cells"]}
        own = [dict(by_id[cell.id]) for cell in mine]
        predictions.update(_foresee(work, mine, own, _machine(part["run"]["machine"]), refuted))
        cells.update({cell["id"]: cell for cell in own})
    lost = [cell for cell in work.cells if cell.id not in found]
    missing = _lost(work, lost)
    predictions.update(_foresee(work, lost, missing, machine.read(), refuted))
    cells.update({cell["id"]: cell for cell in missing})
    return _report(work, parts, [cells[cell.id] for cell in work.cells], predictions, locked, command, policy)


def _alike(work: Work, parts: Sequence[Mapping[str, Any]]) -> None:
    """Raises UsageError for parts that are not of this matrix, or not of one lock, version and selection."""
    selected = {cell.id for cell in work.cells}
    for part in parts:
        run = part["run"]
        if run["matrix"]["sha256"] != work.spec.sha256:
            msg = f"the report of run {run['id']} is of another {work.project.matrix.name} than the one here"
            raise UsageError(msg)
        for name, mine, other in (
            ("lock", parts[0]["run"]["lock"]["sha256"], run["lock"]["sha256"]),
            ("version of EngineMatrix", parts[0]["version"], part["version"]),
        ):
            if mine != other:
                msg = f"runs {parts[0]['run']['id']} and {run['id']} are of another {name} each; parts of one run have the same"
                raise UsageError(msg)
        if part.get("suites"):
            msg = f"the report of run {run['id']} has its suites in sum alone, and no results.sqlite beside it has their cells"
            raise UsageError(msg)
        if others := [cell["slug"] for cell in part["cells"] if cell["id"] not in selected]:
            msg = f"the report of run {run['id']} has {len(others)} cells that {work.select} does not select: {others[0]}, ..."
            raise UsageError(msg)


def unfolded(work: Work, report: dict[str, Any], database: Path) -> dict[str, Any]:
    """The report with the cells of its suites among the others, which it tells in sum alone, from the results of its run in a
    database beside it; as it was where they are not all there. Raises UsageError for what is no database."""
    from builder.merge import copied

    wanted = {(line["suite"], line["engine"]["id"]) for line in report["suites"]}
    cells = [cell for cell in work.cells if (cell.model, cell.engine.id) in wanted]
    with tempfile.TemporaryDirectory() as folder:
        store = copied(database, Path(folder) / "copy")
        rows = {
            cell: (status, key) for cell, status, key in store.read(
                "select cell, status, outcome from results join runs on runs.id = results.run order by runs.started, runs.rowid"
            )
        }  # fmt: skip
        own = store.read("select cell, status, outcome from results where run = ?", (report["run"]["id"],))
        rows.update({cell: (status, key) for cell, status, key in own})
        records = store.outcomes(key for cell in cells if cell.id in rows for key in rows[cell.id][1:])
        store.close()
    known = [cell for cell in cells if cell.id in rows and rows[cell.id][1] in records]
    thin = {
        cell["id"]: cell
        for cell in _untried(work, [cell for cell in known if "stages" not in records[rows[cell.id][1]]])
    }
    found = [
        _told(work.project.program, cell, rows[cell.id][1], {**thin.get(cell.id, {}), **records[rows[cell.id][1]]})
        for cell in known
    ]
    counts = Counter((cell["suite"]["name"], cell["engine"]["id"], cell["status"]) for cell in found)
    for line in report["suites"]:
        if any(counts[line["suite"], line["engine"]["id"], status] != n for status, n in line["counts"].items()):
            return report
    whole = {name: value for name, value in report.items() if name != "suites"}
    return {**whole, "cells": [*report["cells"], *found]}


def _told(program: str, cell: Cell, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A cell of a suite as a report has it. record: its outcome."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return {
        **record, "slug": cell.slug, "engine": cell.engine.as_dict(), "exporter": cell.exporter.as_dict(), "key": key,
        "expected": outcome.expectation(cell.expect, record, today), "reused": False,
        "command": f"{program} repro {cell.id}", "prediction": {"state": "unknown", "claims": []},
    }  # fmt: skip


def _newest(work: Work, parts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Cell -> the part that says most of it: what ran before what did not, then the newest, then the least by digest."""
    best: dict[str, tuple[Any, ...]] = {}
    for at, part in enumerate(parts):
        for cell in part["cells"]:
            status = cell["status"]
            known = (
                2 if status in (*FAILING, "verified", "built") else status != "skipped" and not _infrastructure(cell)
            )
            rank = (int(known), cell["when"] or "", part["run"]["started"], digest(dict(cell)), at)
            best[cell["id"]] = max(rank, best.get(cell["id"], rank))
    return {cell: rank[-1] for cell, rank in best.items()}


def _infrastructure(cell: Mapping[str, Any]) -> bool:
    return bool(cell["category"] == "infrastructure")


# Predictions ---------------------------------------------------------------------------------------------------------


class _Known:
    """What the predictor asks of a store."""

    def __init__(self, refuted: Mapping[str, str]) -> None:
        self._refuted = refuted

    def refuted(self) -> dict[str, tuple[str, str]]:
        return {claim: ("", observed) for claim, observed in self._refuted.items()}


def _refuted(parts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Claims that every part took for refuted when it began: by the others, cells were left alone all the same."""
    said: dict[str, list[str | None]] = {}
    for part in parts:
        for claim in part["predictions"]["claims"]:
            said.setdefault(claim["key"], []).append(claim["refuted"])
    return {key: min(filter(None, texts)) for key, texts in said.items() if all(texts)}


def _foresee(
    work: Work, cells: Sequence[Cell], found: list[dict[str, Any]], on: machine.Machine, refuted: Mapping[str, str]
) -> dict[str, Prediction]:
    """What the facts say of cells on the machine of their part."""
    from typing import cast

    if not cells:
        return {}
    known = cast("Store", _Known(refuted))
    predictions = pipeline.foresee(replace(work, cells=tuple(cells)), on, known, skip=False)
    return pipeline.with_grid(found, predictions)


def _machine(data: Mapping[str, Any]) -> machine.Machine:
    """As far as predictions ask: a report does not say the processor's flags, nor the environment."""
    fields = ("name", "compute_capability", "memory", "uuid", "brand")
    return machine.Machine(
        cpu=data["cpu"], flags="", cores=data["cores"], memory=data["memory"],
        gpus=tuple(machine.Gpu(**{name: gpu[name] for name in fields if name in gpu}) for gpu in data["gpus"]),
        driver=data["driver"], cuda=data.get("cuda"), gpu_trouble=data.get("gpu_trouble", ""),
    )  # fmt: skip


# The report ----------------------------------------------------------------------------------------------------------


def _lost(work: Work, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells that no part reports."""
    found = _untried(work, cells)
    for cell in found:
        cell.update(status="blocked", stage="resolve", category="infrastructure", reason=LOST, line=LOST, signature=None,
                    diagnosis=None, source=None, remedy="Read the log of that job and run it again.", reused=False)  # fmt: skip
    return found


def _untried(work: Work, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells as a run has them that did not come to any of them."""
    if not cells:
        return []
    from builder.store import Store

    these = replace(work, cells=tuple(cells), against={})
    plan = pipeline.make_plan(these, lock.read(work.project.lock) or lock.Lock(cutoff=""), machine.read())
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        found = pipeline.collect(plan, these, store, pipeline.Result(report={}, ran=0))
        store.close()
    return found


def _report(
    work: Work, parts: Sequence[Mapping[str, Any]], cells: list[dict[str, Any]], predictions: Mapping[str, Prediction],
    locked: lock.Lock, command: str, policy: str,
) -> dict[str, Any]:  # fmt: skip
    runs = [part["run"] for part in parts]
    first = _machine(runs[0]["machine"])
    result = pipeline.Result(
        report={}, ran=sum(int(run.get("steps", 0)) for run in runs),
        interrupted=any(run["interrupted"] for run in runs), over_budget=any(run.get("over_budget") for run in runs),
    )  # fmt: skip
    started, finished = min(run["started"] for run in runs), max(run["finished"] for run in runs)
    name = f"{started}-{digest([run['id'] for run in runs])[:8]}"
    report = pipeline.report_of(
        work, locked, first, name, 0.0, command, policy, cells, result, None, predictions
    )  # fmt: skip
    report["run"].update(
        started=started, finished=finished, seconds=_seconds(started, finished), machine=runs[0]["machine"],
        lock=runs[0]["lock"],
        parts=[
            {
                "id": part["run"]["id"], "select": part["run"]["select"], "started": part["run"]["started"],
                "seconds": part["run"]["seconds"], "machine": part["run"]["machine"], "cells": part["selected"],
            }
            for part in parts
        ],
    )  # fmt: skip
    return report


def _seconds(started: str, finished: str) -> float:
    ends = [datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (started, finished)]
    return (ends[1] - ends[0]).total_seconds()


def remember(work: Work, store: Store, report: Mapping[str, Any]) -> None:
    """Keep the whole as a run of its own, so that `diff` compares night with night. Its results name the outcomes of the parts,
    which were merged before. Where no part had anything to do and nothing changed, as after any such run, nothing is kept."""
    run, cells = report["run"], report["cells"]
    if not run["steps"] and not history_keep.moved(store, report, cells):
        return
    names = {part["id"] for part in run["parts"]}
    kept: dict[str, tuple[str, str, str]] = {}
    pins: dict[str, dict[str, Any]] = {}
    for name in sorted(row[0] for row in store.read("select id from runs") if merge_rows.base(row[0]) in names):
        pins.update(history_runs.pins(store, name))
        for cell, *row in store.read("select cell, status, outcome, tools from results where run = ?", (name,)):
            kept[cell] = (row[0], row[1], row[2])
    outcomes: dict[str, tuple[str, str]] = {}
    said: dict[str, dict[str, Any]] = {}
    for cell in cells:
        status, key, _ = kept.get(cell["id"], ("", "", ""))
        if status != cell["status"]:
            content = {field: cell[field] for field in history_keep.SAID_FIELDS}
            key = history_keep.SAID + digest(content)
            said[key] = content
        outcomes[cell["id"]] = (cell["status"], key)
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    recipes = {
        cell.model: work.spec.recipes[cell.model].sha256 for cell in work.cells if cell.model in work.spec.recipes
    }
    summary = history_keep.summary(report, locked, _machine(run["machine"]), recipes)
    store.put_run(
        run["id"], run["started"], run["finished"], {**summary, "parts": sorted(names)}, outcomes,
        expected={cell["id"]: cell["expected"]["state"] for cell in cells if cell["expected"]},
        tools={cell: row[2].split(",") for cell, row in kept.items() if row[2] and cell in outcomes}, pins=pins, said=said,
    )  # fmt: skip


def write(work: Work, report: dict[str, Any]) -> None:
    """Raises OSError."""
    results.write_report(work.project, report, always=True)
