"""`enginematrix merge`: what other machines found out, into this project's artifacts.

Results are joined by their keys (`merge_rows`), in one transaction for each folder: whenever the process dies, a folder is
merged whole or not at all. What comes from elsewhere is not believed: a database is checked and copied before it is read, an
object must have the bytes that its name says, and a path must lie where the store would have put it. Where there is only a
report.json, it is read as one run (`merge_report`).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder import merge_files, merge_report, merge_rows
from builder.errors import InfrastructureError, UsageError
from builder.merge_files import Files, Merged
from builder.merge_rows import Row, Run, Table
from builder.store import SCHEMA, Store, StoreError, open_readonly

DATABASE = "results.sqlite"


def merge(store: Store, folders: Sequence[Path], *, objects: Files = "") -> list[Merged]:
    """Merge artifacts folders (or databases, or reports where no database is beside them). `objects`: bring the exported
    models, engines and reference cases too. Raises UsageError for a folder without readable results, before anything is
    written; InfrastructureError when the disk refuses."""
    places = [source(folder) for folder in folders]
    own = store.path.resolve()
    if own in [place.resolve() for place in places]:
        msg = f"{store.root}: is this project's own folder of artifacts; name those of other machines"
        raise UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="merge-", dir=store.root / "work") as folder:
        copies = [
            merge_report.store_of(merge_report.read(place), Path(folder) / str(number))
            if place.suffix == ".json" else copied(place, Path(folder) / str(number))
            for number, place in enumerate(places)
        ]  # fmt: skip
        return [
            _merge(store, copy, place, objects) for copy, place in zip(copies, places, strict=True)
        ]  # fmt: skip


def source(folder: Path) -> Path:
    """The database of an artifacts folder, of a project, or the file itself; where there is none, a report.json. Raises
    UsageError."""
    for place in (folder, folder / DATABASE, folder / "artifacts" / DATABASE):
        if place.is_file():
            return place
    if (report := merge_report.find(folder)) is not None:
        return report
    msg = f"{folder}: holds no {DATABASE} and no report.json; name a folder of artifacts that a run left"
    raise UsageError(msg)


def copied(place: Path, folder: Path) -> Store:
    """A copy that this program's schema describes; the original is only read. Raises UsageError."""
    folder.mkdir()
    try:
        with contextlib.closing(open_readonly(place)) as source:
            version = source.execute("pragma user_version").fetchone()[0]
            if version < 1 or source.execute("pragma application_id").fetchone()[0]:
                msg = f"{place}: not a results database of EngineMatrix"
                raise UsageError(msg)
            if version > SCHEMA:
                msg = f"{place}: written by a newer EngineMatrix (schema {version}, this one reads {SCHEMA}); upgrade"
                raise UsageError(msg)
            troubles = [row[0] for row in source.execute("pragma quick_check(1)")]
            if troubles != ["ok"]:
                msg = f"{place}: damaged ({troubles[0]})"
                raise UsageError(msg)
            with contextlib.closing(sqlite3.connect(folder / DATABASE)) as target:
                source.backup(target)
        store = Store(folder)
        _check(store, place)
    except (sqlite3.DatabaseError, StoreError) as error:
        if "full" in str(error):
            msg = f"{folder}: no room for a copy of {place} ({error}); free some space and merge again"
            raise InfrastructureError(msg) from error
        msg = f"{place}: not a readable results database ({error})"
        raise UsageError(msg) from error
    return store


_COLUMNS = {
    "steps": 10, "outcomes": 3, "runs": 4, "results": 6, "pins": 2, "run_pins": 3, "refuted": 3, "conflicts": 4,
    "samples": 2,
}  # fmt: skip


def _check(store: Store, place: Path) -> None:
    """Whether the tables are the store's, and every record one: JSON objects under text keys, pins under their own hash.
    Raises UsageError."""
    import hashlib

    for table, columns in _COLUMNS.items():
        if len(store.read("select name from pragma_table_info(?)", (table,))) != columns:
            msg = f"{place}: table {table} is not that of an EngineMatrix store"
            raise UsageError(msg)
    for table, key in (("steps", "key"), ("outcomes", "key"), ("runs", "id"), ("pins", "key")):
        for name, record in store.read(f"select {key}, record from {table}"):  # noqa: S608
            try:
                good = isinstance(name, str) and isinstance(json.loads(record), dict)
            except (TypeError, ValueError):
                good = False
            if table == "pins":
                good = good and hashlib.sha256(record.encode()).hexdigest() == name
            if not good:
                msg = f"{place}: {table} {str(name)[:80]!r}: not a record"
                raise UsageError(msg)
    for name, data in store.read("select sha256, data from samples"):
        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != name:
            msg = f"{place}: samples {str(name)[:80]!r}: other bytes than their name says"
            raise UsageError(msg)


# Records -----------------------------------------------------------------------------------------------------------


def _merge(store: Store, other: Store, place: Path, objects: Files) -> Merged:
    """Files first: a record is written only after what it names, and a second try brings what is missing."""
    folder = place.parent
    merged = Merged(folder=folder, told=place.suffix == ".json")
    records = [json.loads(row[0]) for row in other.read("select record from steps")]
    merge_files.logs(store, folder, records, merged)
    if objects:
        merge_files.objects(store, folder, records, merged, objects)
    other.close()
    with store.beside(other.path) as db:
        for table in merge_rows.TABLES:
            merged.new[table.name] = _table(db, table, merged)
        for named_by_content in ("pins", "samples"):
            db.execute(f"insert or ignore into main.{named_by_content} select * from other.{named_by_content}")  # noqa: S608
        merged.new["runs"] = _runs(db, merged)
    return merged


def _table(db: sqlite3.Connection, table: Table, merged: Merged) -> int:
    """Join one table; how many keys are new here."""
    columns = [row[0] for row in db.execute("select name from pragma_table_info(?)", (table.name,))]
    key = columns[0]
    new = db.execute(
        f"insert into main.{table.name} select * from other.{table.name} where {key} not in (select {key} from main.{table.name})"  # noqa: S608
    ).rowcount
    same = " and ".join(f"a.{name} is b.{name}" for name in columns)
    unequal = (
        f"select a.{key} from main.{table.name} a join other.{table.name} b on a.{key} = b.{key} where not ({same})"  # noqa: S608
    )
    keys = {row[0] for row in db.execute(unequal)}
    keys |= {row[0] for row in db.execute("select key from other.conflicts where kind = ?", (table.name,))}
    for name in sorted(keys):
        rows: list[Row] = []
        for side in ("main", "other"):
            rows += db.execute(f"select * from {side}.{table.name} where {key} = ?", (name,)).fetchall()  # noqa: S608
            query = f"select record from {side}.conflicts where kind = ? and key = ?"  # noqa: S608
            rows += [tuple(json.loads(row[0])) for row in db.execute(query, (table.name, name))]
        known = {
            row[0]
            for row in db.execute("select digest from main.conflicts where kind = ? and key = ?", (table.name, name))
        }
        main, *conflicts = merge_rows.join(table, rows)
        marks = ",".join("?" * table.columns)
        db.execute(f"insert or replace into main.{table.name} values ({marks})", main[1])  # noqa: S608
        db.execute("delete from main.conflicts where kind = ? and key = ?", (table.name, name))
        db.executemany(
            "insert into main.conflicts values (?,?,?,?)",
            [(table.name, name, said, json.dumps(row)) for said, row in conflicts],
        )
        if len(conflicts) > len(known):
            told = " and ".join(_told(table, row) for _, row in (main, *conflicts))
            merged.conflicts.append(f"{table.name.removesuffix('s')} {_name(table, main[1])}: {told}; both are kept")
    return int(new)


def _name(table: Table, row: Row) -> str:
    return f"{row[1]} {row[2]}" if table is merge_rows.STEPS else str(row[1])


def _told(table: Table, row: Row) -> str:
    if table is merge_rows.STEPS:
        return f"{row[3]} ({row[4][:12] or 'no output'}, {row[7]})"
    return "/".join(str(part) for part in table.says(row))


def _runs(db: sqlite3.Connection, merged: Merged) -> int:
    """Join the runs, each with its results; how many are new here."""
    theirs = _by_base(db, "other", None)
    ours = _by_base(db, "main", set(theirs))
    new = 0
    for base, found in theirs.items():
        mine = ours.get(base, {})
        wanted = merge_rows.runs([*mine.values(), *found.values()])
        if wanted == mine:
            continue
        new += len(wanted) - len(mine)
        if len(wanted) > 1:
            merged.conflicts.append(
                f"run {base}: {len(wanted)} runs gave themselves this id; kept as {', '.join(wanted)}"
            )
        for name in mine:
            for table, column in (("runs", "id"), ("results", "run"), ("run_pins", "run")):
                db.execute(f"delete from main.{table} where {column} = ?", (name,))  # noqa: S608
        for name, run in wanted.items():
            db.execute("insert into main.runs values (?,?,?,?)", (name, *run.row))
            db.executemany("insert into main.results values (?,?,?,?,?,?)", [(name, *row) for row in run.results])
            db.executemany("insert into main.run_pins values (?,?,?)", [(name, *row) for row in run.pins])
    return new


def _by_base(db: sqlite3.Connection, side: str, only: set[str] | None) -> dict[str, dict[str, Run]]:
    """The id that runs gave themselves -> by the ids under which they are kept."""
    out: dict[str, dict[str, Run]] = {}
    for name, *row in db.execute(f"select id, started, finished, record from {side}.runs order by id").fetchall():  # noqa: S608
        base = merge_rows.base(name)
        if only is not None and base not in only:
            continue
        results = db.execute(
            f"select cell, status, outcome, expected, tools from {side}.results where run = ? order by cell", (name,)  # noqa: S608
        )  # fmt: skip
        pins = db.execute(f"select stack, pins from {side}.run_pins where run = ? order by stack", (name,))  # noqa: S608
        run = Run(base=base, row=tuple(row), results=tuple(results.fetchall()), pins=tuple(pins.fetchall()))
        out.setdefault(base, {})[name] = run
    return out
