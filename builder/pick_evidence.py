"""What runs have shown of a stack: read from the results database, never written. Bounded: the newest outcomes are looked into.

The database is opened read-only and need not be there. Of each outcome the newest report counts; of each cell on one kind of
GPU the newest outcome does, so that a later failure takes back an earlier success.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from builder.store import SCHEMA, StoreError, open_readonly
from builder.values import FAILING

LIMIT = 8_000
"""Outcomes that are looked into, newest first: reading one takes about 10 microseconds, and pick has half a second."""
EXPORTERS = ("torch", "tensorflow", "ngc-pytorch", "ngc-tensorflow")
"""Families whose stacks are known by what was exported from them; the others only convert."""
_STATUSES = ("verified", *sorted(FAILING))
"""Of cells that were run: `unsupported` was foretold, `built` never ran, the others say nothing of versions."""
_FIELDS = (
    "engine",
    "exporter",
    "machine",
    "axes.model",
    "axes.precision",
    "axes.opset",
    "when",
    "measure.median",
    "category",
)
_EXTRACTED = ", ".join(f"json_extract(outcomes.record, '$.{name}')" for name in _FIELDS)
_RUNS = "select id, started from runs order by id desc"
"""Runs are named by their start, so that their key gives them newest first; what is not needed is not read."""
_RESULTS = f"""
    select outcome, cell, status from results where run = ? and status in ({", ".join("?" * len(_STATUSES))})
        and outcome not like '%.suite' and outcome not like '%.grid'
"""  # noqa: S608
_OUTCOME = f"select {_EXTRACTED} from outcomes where key = ?"  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What became of one cell, of one of its two stacks."""

    family: str
    fields: Mapping[str, str]
    role: str
    """`engine` or `exporter`."""
    cell: str
    model: str
    precision: str
    status: str
    category: str
    when: str
    """ISO 8601, UTC."""
    run: str
    gpus: tuple[tuple[str, str], ...]
    """(name, compute capability) of the machine; () : it has none, and all ran on the CPU."""
    driver: str
    cpu: str
    latency: float | None
    """Median, seconds; None where it was not measured."""
    opset: str = ""
    """The one asked for, which in a verified cell is the one written; '' where its matrix had no such axis."""

    @property
    def verified(self) -> bool:
        return self.status == "verified"

    @property
    def machine(self) -> str:
        gpus = " + ".join(sorted({name for name, _ in self.gpus}))
        return f"{gpus} (driver {self.driver or 'unknown'})" if gpus else self.cpu or "unknown machine"


Key = tuple[str, frozenset[tuple[str, str]]]


def key(family: str, fields: Mapping[str, str]) -> Key:
    """Names a stack whatever its Python. A stack with fields of its own (another NumPy) is another."""
    return family, frozenset((name, value) for name, value in fields.items() if name != "python")


def read(database: Path, *, limit: int = LIMIT) -> dict[Key, list[Observation]]:
    """The newest observations by stack, at most `limit` outcomes; {} where there is no database. Raises StoreError."""
    if not database.is_file():
        return {}
    try:
        with contextlib.closing(open_readonly(database)) as db:
            version = db.execute("pragma user_version").fetchone()[0]
            if version > SCHEMA:
                msg = f"{database}: written by a newer EngineMatrix (schema {version}, this one reads {SCHEMA})"
                raise StoreError(msg)
            if version < 1:  # what is read here every schema has
                return {}
            rows = _newest(db, limit)
            runs = dict(db.execute("select id, json_extract(record, '$.machine') from runs").fetchall())
    except sqlite3.DatabaseError as error:
        msg = f"{database}: damaged ({error}); move it away and pick again"
        raise StoreError(msg) from error
    return _by_stack(rows, runs)


def _newest(db: sqlite3.Connection, limit: int) -> list[tuple[Any, ...]]:
    """The newest report of each of the newest outcomes: cell, status, run, its start, and what _FIELDS names."""
    newest: dict[str, tuple[Any, ...]] = {}
    for run, started in db.execute(_RUNS).fetchall():
        if len(newest) >= limit:
            break
        for outcome, cell, status in db.execute(_RESULTS, (run, *_STATUSES)):
            if outcome not in newest:
                if len(newest) >= limit:
                    break
                newest[outcome] = (cell, status, run, started)
    found = ((report, db.execute(_OUTCOME, (outcome,)).fetchone()) for outcome, report in newest.items())
    return [(*report, *record) for report, record in found if record is not None]


def _by_stack(rows: Sequence[tuple[Any, ...]], runs: Mapping[str, str | None]) -> dict[Key, list[Observation]]:
    found: dict[Key, list[Observation]] = {}
    for cell, status, run, started, engine, exporter, machine, model, precision, opset, when, latency, category in rows:
        gpus, driver, cpu = _machine(machine or runs.get(run) or "{}")
        for role, text in (("engine", engine), ("exporter", exporter)):
            if not text or (role == "exporter" and status != "verified"):
                continue  # a cell that fails says nothing of the stack that exported its model
            name, family, fields = _stack(text)
            if role == "exporter" and family not in EXPORTERS:
                continue
            found.setdefault(name, []).append(Observation(
                family=family, fields=fields, role=role, cell=cell, model=model or "", precision=precision or "", status=status,
                category=category or "", when=when or started, run=run, gpus=gpus, driver=driver, cpu=cpu,
                latency=latency if role == "engine" else None, opset=str(opset or ""),
            ))  # fmt: skip
    return found


@lru_cache(maxsize=4096)
def _stack(text: str) -> tuple[Key, str, Mapping[str, str]]:
    data = json.loads(text)
    return key(data["family"], data["fields"]), data["family"], data["fields"]


@lru_cache(maxsize=4096)
def _machine(text: str) -> tuple[tuple[tuple[str, str], ...], str, str]:
    """GPUs, driver and processor of a machine's record."""
    data = json.loads(text)
    gpus = tuple((str(gpu["name"]), str(gpu["compute_capability"])) for gpu in data.get("gpus") or ())
    return gpus, data.get("driver") or "", data.get("cpu") or ""


def newest(observations: Iterable[Observation]) -> list[Observation]:
    """Of each cell on each kind of GPU the newest, newest first."""
    best: dict[tuple[object, ...], Observation] = {}
    for item in observations:
        place = (item.role, item.cell, item.gpus, item.driver)
        if place not in best or item.when > best[place].when:
            best[place] = item
    return sorted(best.values(), key=lambda item: item.when, reverse=True)
