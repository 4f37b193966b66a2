"""Runs by name, and what became of each cell in them: read from the store, never written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from builder.errors import UsageError
from builder.store import Store
from builder.values import FAILING

INTERRUPTED, OVER_BUDGET = "interrupted before it ran", "the time budget ended before it ran"
"""Reasons of cells that a run left for the next one."""
_FIELDS = (
    "slug", "stage", "category", "signature", "line", "reason", "diagnosis", "remedy", "engine.id", "exporter.id", "axes.model",
    "flaky", "measure", "machine", "when",
)  # fmt: skip
_PATHS = ", ".join(f"'$.{name}'" for name in _FIELDS)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}$")
_REPRO = re.compile(r"#[0-9a-f]+$")
"""What `repro` selects: one cell."""
_LAST = re.compile(r"last(?:~(\d+))?$")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One cell in one run."""

    cell: str
    run: str
    status: str
    outcome: str
    """Key of its outcome: equal keys are one piece of evidence, told in the same words."""
    expected: str
    """How it stood to its `expect:` entry ('' where there is none, or the run did not keep it)."""
    tools: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    """_FIELDS of its outcome; {} while not looked up, or where the run did not keep it."""

    @property
    def evidence(self) -> str:
        """What was made of the same steps has the same, however it is diagnosed."""
        return self.outcome[:64]

    @property
    def judge(self) -> str:
        """The code that made an outcome of its steps; '' where the key does not say."""
        return self.outcome[64:]

    @property
    def telling(self) -> bool:
        """Whether it says anything of versions; that it is blocked does where what it needs failed for a known cause."""
        if self.status == "blocked":
            return self.data.get("category") not in (None, "infrastructure")
        return self.status in FAILING or self.status in ("verified", "built")

    @property
    def bad(self) -> bool:
        return self.status in FAILING or self.status == "blocked"

    @property
    def waiting(self) -> bool:
        """Whether the run ended before it came to it."""
        return self.status == "skipped" and self.data.get("reason") in (INTERRUPTED, OVER_BUDGET)

    def get(self, name: str) -> Any:
        return self.data.get(name)

    def as_dict(self) -> dict[str, Any]:
        names = ("stage", "category", "signature", "line", "reason", "when")
        return {"run": self.run, "status": self.status, **{name: self.data.get(name) for name in names}}


@dataclass(kw_only=True)
class View:
    """One side of a comparison: a run, or all runs of a day taken together."""

    name: str
    runs: tuple[Mapping[str, Any], ...]
    """Records, oldest first."""
    cells: dict[str, Seen]

    @property
    def last(self) -> Mapping[str, Any]:
        return self.runs[-1]

    @property
    def started(self) -> str:
        return str(self.runs[0]["started"])

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """What was selected from which matrix: where that is the same, nobody took cells away."""
        return tuple(sorted({(str(r.get("select")), str(r.get("matrix", {}).get("sha256"))) for r in self.runs}))


def named(text: str, runs: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The runs that `text` names: `last`, `last~2`, a date (UTC), an id or a unique beginning of one. Raises UsageError."""
    if not runs:
        msg = "no run is stored here; `enginematrix run` makes one"
        raise UsageError(msg)
    if back := _LAST.match(text):
        number = int(back[1] or 0)
        if number >= len(runs):
            are = "is" if len(runs) == 1 else "are"
            msg = f"{text!r}: only {_runs(len(runs))} {are} stored here, so that the oldest is last~{len(runs) - 1}"
            raise UsageError(msg)
        return (runs[-1 - number],)
    found = [run for run in runs if run["id"] == text] or [run for run in runs if str(run["id"]).startswith(text)]
    if found and (len(found) == 1 or _DATE.match(text)):
        return tuple(found)
    if found:
        names = ", ".join(str(run["id"]) for run in found[:4]) + (", ..." if len(found) > 4 else "")
        msg = f"{text!r} begins the names of {_runs(len(found))}: {names}; say more of it"
        raise UsageError(msg)
    names = ", ".join(str(run["id"]) for run in runs[-3:])
    msg = f"{text!r} is no run: name one by its id or its beginning, by date, or as last, last~1 (newest here: {names})"
    raise UsageError(msg)


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def like(of: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """The newest run before one that asked for the same cells of a matrix of the same name; '' where there is none."""
    asked = (of.get("select"), of.get("matrix", {}).get("name"))
    at = next((number for number, run in enumerate(runs) if run["id"] == of["id"]), len(runs))
    before = runs[:at]  # as they were kept: runs of one second have ids in any order
    found = [str(run["id"]) for run in before if (run.get("select"), run.get("matrix", {}).get("name")) == asked]
    return found[-1] if found else ""


def default(runs: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What is compared when nothing is said: the last run that was no `repro` of one cell and no part of a merged one, and the
    one before it that asked for the same cells; where there is none, the one before it. Raises UsageError for fewer than two
    runs."""
    parts = {str(name) for run in runs for name in run.get("parts", ())}
    runs = [run for run in runs if str(run["id"]) not in parts]
    whole = [run for run in runs if not _REPRO.match(str(run.get("select")))]
    if len(whole) < 2:
        return str(named("last~1", runs)[0]["id"]), str(named("last", runs)[0]["id"])
    new = whole[-1]
    return like(new, whole) or str(whole[-2]["id"]), str(new["id"])


def view(store: Store, name: str, runs: Sequence[Mapping[str, Any]]) -> View:
    """What became of each cell: in the newest of the runs in which it was told anything of, else in the newest."""
    cells: dict[str, Seen] = {}
    for run in runs:
        fresh = _results(store, str(run["id"]))
        both = fresh.keys() & cells.keys()
        was, now = look_up(store, [cells[cell] for cell in both]), look_up(store, [fresh[cell] for cell in both])
        cells.update(fresh)
        cells.update({cell: was[cell] for cell in both if was[cell].telling and not now[cell].telling})
    return View(name=name, runs=tuple(runs), cells=cells)


def _results(store: Store, run: str) -> dict[str, Seen]:
    rows = store.read("select cell, status, outcome, expected, tools from results where run = ?", (run,))
    return {row[0]: _seen(run, *row) for row in rows}


def _seen(run: str, cell: str, status: str, outcome: str, expected: str, tools: str) -> Seen:
    names = tuple(name for name in tools.split(",") if name)
    return Seen(cell=cell, run=run, status=status, outcome=outcome, expected=expected, tools=names)


def look_up(store: Store, cells: Iterable[Seen]) -> dict[str, Seen]:
    """The same cells with what their outcomes say, by cell."""
    wanted = {seen.cell: seen for seen in cells}
    keys = list({seen.outcome for seen in wanted.values() if not seen.data})
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        query = f"select key, json_extract(record, {_PATHS}) from outcomes where key in ({marks})"  # noqa: S608
        found.update({key: dict(zip(_FIELDS, json.loads(row), strict=True)) for key, row in store.read(query, part)})
    return {
        cell: replace(seen, data=found[seen.outcome]) if seen.outcome in found else seen
        for cell, seen in wanted.items()
    }


def earlier(store: Store, cells: Sequence[str], before: str, *, without: Iterable[str]) -> dict[str, Seen]:
    """The newest result that told anything of each cell, of runs that started before an instant."""
    left = set(without)
    out: dict[str, Seen] = {}
    for start in range(0, len(cells), 500):
        part = list(cells[start : start + 500])
        marks = ",".join("?" * len(part))
        query = (
            f"select results.run, cell, status, outcome, expected, tools from results join runs on runs.id = results.run "  # noqa: S608
            f"where cell in ({marks}) and started < ? order by started desc, runs.rowid desc"
        )
        rows = [_seen(*row) for row in store.read(query, [*part, before]) if row[0] not in left]
        while rows:  # by cell the newest first, and the next one only where that told nothing
            first: dict[str, Seen] = {}
            rest = []
            for seen in rows:
                if seen.cell in out:
                    continue
                if seen.cell in first:
                    rest.append(seen)
                else:
                    first[seen.cell] = seen
            out.update({cell: seen for cell, seen in look_up(store, first.values()).items() if seen.telling})
            rows = rest
    return out


def pins(store: Store, run: str) -> dict[str, dict[str, Any]]:
    """Stack id -> what it was locked to in a run; {} for runs of before that was kept."""
    query = "select stack, record from run_pins join pins on pins.key = run_pins.pins where run = ?"
    return {stack: json.loads(record) for stack, record in store.read(query, (run,))}
