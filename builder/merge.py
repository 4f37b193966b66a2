"""`enginematrix merge`: what other machines found out, into this project's artifacts.

Results are joined by their keys (`merge_rows`), in one transaction for each folder: whenever the process dies, a folder is
merged whole or not at all. What comes from elsewhere is not believed: a database is checked and copied before it is read, an
object must have the bytes that its name says, and a path must lie where the store would have put it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from builder import merge_rows
from builder.errors import InfrastructureError, UsageError
from builder.merge_rows import Row, Run, Table
from builder.store import SCHEMA, Store, StoreError, file_sha256

DATABASE = "results.sqlite"
Files = Literal["", "copy", "link"]
_PATH = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{64}[^/\x00]*(/[^/\x00]+)?$")
_LOG = re.compile(r"logs/[0-9a-f]{2}/[0-9a-f]{64}\.txt$")


@dataclass(kw_only=True)
class Merged:
    """What one folder brought."""

    folder: Path
    new: dict[str, int] = field(default_factory=dict)
    """Table (steps, outcomes, runs, refuted) -> records that were not here before."""
    conflicts: list[str] = field(default_factory=list)
    """Same key, other result, each in words: both are kept."""
    objects: int = 0
    logs: int = 0
    refused: list[str] = field(default_factory=list)
    """Files that are not what they should be, each in words; they stay where they are."""

    def lines(self) -> Iterator[str]:
        brought = ", ".join(f"{number} {name}" for name, number in self.new.items() if number)
        files = f"; {self.objects} objects and {self.logs} logs" if self.objects or self.logs else ""
        yield f"{self.folder}: {brought or 'nothing new'}{files}"
        yield from (f"  conflict: {text}" for text in self.conflicts)
        yield from (f"  refused: {text}" for text in self.refused)

    def as_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "new": self.new, "objects": self.objects, "logs": self.logs,
            "conflicts": self.conflicts, "refused": self.refused,
        }  # fmt: skip


def merge(store: Store, folders: Sequence[Path], *, objects: Files = "") -> list[Merged]:
    """Merge artifacts folders (or databases). `objects`: bring the exported models, engines and reference cases too. Raises
    UsageError for a folder without readable results, before anything is written; InfrastructureError when the disk refuses."""
    places = [_database(folder) for folder in folders]
    own = store.path.resolve()
    if own in [place.resolve() for place in places]:
        msg = f"{store.root}: is this project's own folder of artifacts; name those of other machines"
        raise UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="merge-", dir=store.root / "work") as folder:
        copies = [_copy(place, Path(folder) / str(number)) for number, place in enumerate(places)]
        return [
            _merge(store, copy, place.parent, objects) for copy, place in zip(copies, places, strict=True)
        ]  # fmt: skip


def _database(folder: Path) -> Path:
    """The database of an artifacts folder, of a project, or the file itself. Raises UsageError."""
    for place in (folder, folder / DATABASE, folder / "artifacts" / DATABASE):
        if place.is_file():
            return place
    msg = f"{folder}: holds no {DATABASE}; name a folder of artifacts that a run left"
    raise UsageError(msg)


def _copy(place: Path, folder: Path) -> Store:
    """A copy that this program's schema describes; the original is only read. Raises UsageError."""
    folder.mkdir()
    try:
        with contextlib.closing(_open(place)) as source:
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


def _open(place: Path) -> sqlite3.Connection:
    """Read-only; a folder that cannot be written has no place for the write-ahead log's index: then the file as it is."""
    name = f"file:{quote(str(place.resolve()))}"
    db = sqlite3.connect(f"{name}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("pragma user_version")
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"{name}?immutable=1", uri=True)
    return db


_COLUMNS = {
    "steps": 10, "outcomes": 3, "runs": 4, "results": 6, "pins": 2, "run_pins": 3, "refuted": 3, "conflicts": 4,
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


# Records -----------------------------------------------------------------------------------------------------------


def _merge(store: Store, other: Store, folder: Path, objects: Files) -> Merged:
    """Files first: a record is written only after what it names, and a second try brings what is missing."""
    merged = Merged(folder=folder)
    records = [json.loads(row[0]) for row in other.read("select record from steps")]
    _logs(store, folder, records, merged)
    if objects:
        _objects(store, folder, records, merged, objects)
    other.close()
    with store.beside(other.path) as db:
        for table in merge_rows.TABLES:
            merged.new[table.name] = _table(db, table, merged)
        db.execute("insert or ignore into main.pins select * from other.pins")
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


# Files -------------------------------------------------------------------------------------------------------------


def _logs(store: Store, folder: Path, records: Sequence[Mapping[str, Any]], merged: Merged) -> None:
    """Bring the logs of steps, which are evidence and small."""
    for path in sorted({str(record["log"]) for record in records if record.get("log")}):
        source, target = folder / path, store.root / path
        if not _LOG.match(path):
            merged.refused.append(f"log {path[:120]!r}: not where a log belongs")
            continue
        if target.exists() or not _plain(folder, source):
            continue
        _place(source, target, "copy")
        merged.logs += 1


def _objects(store: Store, folder: Path, records: Sequence[Mapping[str, Any]], merged: Merged, how: Files) -> None:
    """Bring the files that steps name; each must be what its name says. Sources of models are fetched again when needed."""
    from builder.collector import _entries

    wanted: dict[str, dict[str, Any]] = {}
    for record in records:
        try:
            wanted.update({str(entry["path"]): entry for entry in _entries(record)})
        except (TypeError, KeyError, AttributeError):
            merged.refused.append("a record that names its files in no way that is known here")
    for path, entry in sorted(wanted.items()):
        source, target = folder / path, store.root / path
        if not _PATH.match(path) or ".." in Path(path).parts:
            merged.refused.append(f"object {path[:120]!r}: not where an object belongs")
        elif target.exists() and store.present(entry):
            continue
        elif not _plain(folder, source):
            merged.refused.append(f"object {path}: not in that folder")
        elif file_sha256(source) != entry.get("sha256"):
            merged.refused.append(f"object {path}: other bytes than its name says")
        else:
            _place(source, target, how)
            merged.objects += 1


def _plain(folder: Path, path: Path) -> bool:
    """Whether a file is one, and in the folder: no link leads elsewhere."""
    return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())


def _place(source: Path, target: Path, how: Files) -> None:
    """Put a file into place at once. Raises InfrastructureError."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        if how == "link":
            os.link(source, beside)
        else:
            shutil.copyfile(source, beside, follow_symlinks=False)
            beside.chmod(0o444 if target.parts[-3:-2] == ("objects",) else 0o644)
        os.replace(beside, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        advice = "; without a common file system, --objects copy" if how == "link" else ""
        msg = f"{target}: cannot be written: {error}{advice}"
        raise InfrastructureError(msg) from error
