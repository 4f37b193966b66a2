"""What runs have shown of a stack: read from the results database, never written. One query, bounded.

The database is opened read-only and need not be there. Of each outcome the newest report counts; of each cell on one kind of
GPU the newest outcome does, so that a later failure takes back an earlier success.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.store import SCHEMA, StoreError
from builder.values import FAILING

LIMIT = 12_000
"""Outcomes that are looked into, newest first: reading one takes about 10 microseconds, and pick has half a second."""
_STATUSES = ("verified", *sorted(FAILING), "unsupported")
_QUERY = f"""
    select seen.cell, seen.status, seen.run, json_extract(outcomes.record, '$.engine.family', '$.engine.fields',
        '$.exporter.family', '$.exporter.fields', '$.axes.model', '$.axes.precision', '$.when', '$.measure.median', '$.machine',
        '$.category'), seen.started
    from (select results.outcome, results.cell, results.status, max(runs.started) as started, runs.id as run
          from runs cross join results on results.run = runs.id
          where results.status in ({", ".join("?" * len(_STATUSES))})
          group by results.outcome order by started desc limit ?) as seen
    join outcomes on outcomes.key = seen.outcome
"""  # noqa: S608


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
        with contextlib.closing(_open(database)) as db:
            version = db.execute("pragma user_version").fetchone()[0]
            if version > SCHEMA:
                msg = f"{database}: written by a newer EngineMatrix (schema {version}, this one reads {SCHEMA})"
                raise StoreError(msg)
            if version < SCHEMA:
                return {}
            rows = db.execute(_QUERY, (*_STATUSES, limit)).fetchall()
            runs = dict(db.execute("select id, json_extract(record, '$.machine') from runs").fetchall())
    except sqlite3.DatabaseError as error:
        msg = f"{database}: damaged ({error}); move it away and pick again"
        raise StoreError(msg) from error
    return _by_stack(rows, runs)


def _open(database: Path) -> sqlite3.Connection:
    """A folder that cannot be written has no place for the write-ahead log's index: then the file as it is."""
    from urllib.parse import quote

    name = f"file:{quote(str(database.resolve()))}"
    db = sqlite3.connect(f"{name}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("pragma user_version")
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"{name}?immutable=1", uri=True)
    return db


def _by_stack(rows: Sequence[tuple[Any, ...]], runs: Mapping[str, str | None]) -> dict[Key, list[Observation]]:
    found: dict[Key, list[Observation]] = {}
    machines: dict[str, dict[str, Any]] = {}

    def machine(text: str | None) -> dict[str, Any]:
        if text not in machines:
            machines[text or ""] = json.loads(text) if text else {}
        return machines[text or ""]

    for cell, status, run, text, started in rows:
        family, fields, exporter, theirs, model, precision, when, latency, own, category = json.loads(text)
        where = own or machine(runs.get(run))
        gpus = tuple((str(gpu["name"]), str(gpu["compute_capability"])) for gpu in where.get("gpus") or ())
        for role, name, values in (("engine", family, fields), ("exporter", exporter, theirs)):
            if not name or (role == "exporter" and status != "verified"):
                continue  # a cell that fails says nothing of the stack that exported its model
            found.setdefault(key(name, values), []).append(Observation(
                family=name, fields=values, role=role, cell=cell, model=model or "", precision=precision or "", status=status,
                category=category or "", when=when or started, run=run, gpus=gpus, driver=where.get("driver") or "",
                cpu=where.get("cpu") or "", latency=latency if role == "engine" else None,
            ))  # fmt: skip
    return found


def newest(observations: Iterable[Observation]) -> list[Observation]:
    """Of each cell on each kind of GPU the newest, newest first."""
    best: dict[tuple[object, ...], Observation] = {}
    for item in observations:
        place = (item.role, item.cell, item.gpus, item.driver)
        if place not in best or item.when > best[place].when:
            best[place] = item
    return sorted(best.values(), key=lambda item: item.when, reverse=True)
