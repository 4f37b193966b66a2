"""The only writer of `artifacts/`: content-addressed objects, step records, runs and their outcomes.

Every write survives `kill -9` at any instant: objects are written beside and renamed into place, records go through
SQLite's write-ahead log, and a record is written only after the objects that it names. Two runs at once share a store:
equal objects are equal bytes, and a step's lock (an open-file-description lock, gone with its process) lets the second
run wait for the first one's result instead of making it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from builder.errors import EngineMatrixError, InfrastructureError

if TYPE_CHECKING:
    from builder.samples import Series

SCHEMA = 4
CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is made by EngineMatrix.\n"

_TABLES = """
create table if not exists steps (
    key text primary key, kind text not null, name text not null, state text not null, output text not null,
    limits text not null, seconds real not null, created text not null, run text not null, record text not null);
create table if not exists outcomes (key text primary key, cell text not null, record text not null);
create index if not exists outcomes_cell on outcomes (cell);
create table if not exists runs (id text primary key, started text not null, finished text, record text not null);
create table if not exists results (run text not null, cell text not null, status text not null, outcome text not null,
    primary key (run, cell));
create index if not exists results_cell on results (cell);
"""
#: Made when first written: stores that are older have none, and lack nothing.
_REFUTED = "create table if not exists refuted (claim text primary key, cell text not null, observed text not null)"
_KEPT = """
alter table results add column expected text not null default '';
alter table results add column tools text not null default '';
create table pins (key text primary key, record text not null);
create table run_pins (run text not null, stack text not null, pins text not null, primary key (run, stack)) without rowid;
create table conflicts (kind text not null, key text not null, digest text not null, record text not null,
    primary key (kind, key, digest)) without rowid;
"""
_MENDED = """
update results set outcome = coalesce(
    (select key from outcomes where key > results.outcome and key < results.outcome || 'g' order by outcomes.rowid limit 1),
    outcome) where length(outcome) = 64;
"""
_SAMPLES = "create table samples (sha256 text primary key, data blob not null) without rowid;"
MIGRATIONS: Mapping[int, str] = {1: _TABLES, 2: _KEPT, 3: f"{_REFUTED}; {_MENDED}", 4: _SAMPLES}
"""Schema -> what makes it of the one before. 2 (docs/history.md): what each stack of a run was locked to, how each result
stood to its `expect:` entry and which tools stacks made its model, and what `merge` found twice and otherwise. 3: every store
has `refuted`; results of the first runs of all, which named their outcomes without the code that judged them, find them.
4: the raw samples of timings (builder/samples.py), which records name; those of older measurements were not kept."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """What planning needs to know of a stored step: enough to say that it is done, without its record."""

    state: str
    """`ok` or `failed`; an infrastructure failure is never stored."""
    output: str
    """Digest of what later steps depend on ('' when it failed)."""
    limits: Mapping[str, float]
    """The limit that ended it, when one did: {"timeout": s} or {"memory": bytes}."""
    mark: str = ""
    """The run that made it."""

    def answers(self, seconds: float, memory: int) -> bool:
        """Whether the stored result still holds under these limits: a time-out says nothing about a longer limit."""
        return not (
            self.limits.get("timeout", float("inf")) < seconds or self.limits.get("memory", float("inf")) < memory
        )


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A finished step."""

    key: str
    kind: str
    name: str
    state: str
    output: str
    limits: Mapping[str, float] = field(default_factory=dict)
    seconds: float
    created: str
    run: str
    record: Mapping[str, Any]


class StoreError(EngineMatrixError):
    """The results database cannot be read by this program."""


def _disk(error: OSError | sqlite3.Error, path: Path) -> InfrastructureError:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "full" in str(error)
    advice = "free some space and run again; nothing finished is lost" if full else "check the folder and its rights"
    return InfrastructureError(f"{path}: cannot write results: {error}; {advice}")


class Store:
    """`artifacts/`. Raises InfrastructureError when the disk refuses, StoreError for a database from the future."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._local = threading.local()
        self._checked: set[str] = set()
        try:
            for name in ("objects", "logs", "work", "env", "sources"):
                (root / name).mkdir(parents=True, exist_ok=True)
            tag = root / "CACHEDIR.TAG"
            if not tag.exists():
                self.write_text(tag, CACHEDIR_TAG)
            self._prepare()
        except (OSError, sqlite3.OperationalError) as error:
            raise _disk(error, root) from error
        except sqlite3.DatabaseError as error:
            msg = f"{self.path}: not a readable results database ({error}); move it away and run again"
            raise StoreError(msg) from error

    def _prepare(self) -> None:
        """Make or check the database. One at a time: SQLite does not wait when two switch a new one to write-ahead at once."""
        with self.lock("database"):
            db = self._db
            db.execute("pragma journal_mode = wal")
            version = db.execute("pragma user_version").fetchone()[0]
            if version > SCHEMA:
                msg = (
                    f"{self.path}: written by a newer EngineMatrix (schema {version}, this one reads {SCHEMA}); "
                    f"upgrade, or move the folder away"
                )
                raise StoreError(msg)
            for number in range(version + 1, SCHEMA + 1):  # each whole or not at all, whenever the process dies
                try:
                    db.executescript(f"begin immediate; {MIGRATIONS[number]} pragma user_version = {number}; commit")
                except sqlite3.Error:
                    if db.in_transaction:
                        db.execute("rollback")
                    raise

    @property
    def path(self) -> Path:
        return self.root / "results.sqlite"

    @property
    def _db(self) -> sqlite3.Connection:
        """One connection a thread; autocommit, so that each record is durable when its call returns."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            db.execute("pragma synchronous = normal")
            self._local.db = db
        return db

    def close(self) -> None:
        """Let go of this thread's connection; the next call opens another."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        self._local.db = None
        if db is not None:
            db.close()

    # Steps ------------------------------------------------------------------------------------------------------

    def light(self) -> dict[str, Light]:
        """Every stored step's key with what planning needs."""
        none: Mapping[str, float] = {}
        return {
            key: Light(state=state, output=output, limits=none if limits == "{}" else json.loads(limits), mark=run)
            for key, state, output, limits, run in self._read("select key, state, output, limits, run from steps")
        }

    def step(self, key: str) -> StepRecord | None:
        return next(iter(self.steps([key]).values()), None)

    def steps(self, keys: Iterable[str]) -> dict[str, StepRecord]:
        found: dict[str, StepRecord] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            query = (
                f"select key, kind, name, state, output, limits, seconds, created, run, record from steps "  # noqa: S608
                f"where key in ({marks})"
            )
            for row in self._read(query, part):
                found[row[0]] = StepRecord(
                    key=row[0], kind=row[1], name=row[2], state=row[3], output=row[4], limits=json.loads(row[5]),
                    seconds=row[6], created=row[7], run=row[8], record=json.loads(row[9]),
                )  # fmt: skip
        return found

    def put_step(self, record: StepRecord, samples: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Keep a finished step, and the packed samples (SHA-256 -> bytes) that it names, in one transaction."""
        row = (
            record.key, record.kind, record.name, record.state, record.output, json.dumps(dict(record.limits)),
            record.seconds, record.created, record.run, text(record.record),
        )  # fmt: skip
        self.write_all([
            *([("insert or ignore into samples values (?,?)", list(samples.items()))] if samples else []),
            ("insert or replace into steps values (?,?,?,?,?,?,?,?,?,?)", [row]),
        ])  # fmt: skip

    def forget(self, keys: Iterable[str]) -> None:
        """Drop step records, so that the steps run again."""
        for key in keys:
            self._write("delete from steps where key = ?", (key,))

    def partition(self, wanted: set[str], runs: set[str]) -> tuple[list[str], list[dict[str, Any]]]:
        """Keys of steps that neither stand in `wanted` nor were made by one of `runs`, and the other steps' records."""
        gone, kept = [], []
        for key, run, record in self._read("select key, run, record from steps"):
            if key in wanted or run in runs:
                kept.append(json.loads(record))
            else:
                gone.append(key)
        return gone, kept

    def timing_samples(self, cell: str | Mapping[str, Any]) -> list[Series]:
        """Every raw sample of a cell's timing, by series: of a cell as the report has it, or by its id, of its newest result.

        [] where it was not timed, or its samples are gone (`gc`) or were never kept (stores before schema 4). Raises
        StoreError where the bytes are not what the record says."""
        from builder.samples import unpack

        if isinstance(cell, str):
            query = (
                "select outcomes.record from results join runs on runs.id = results.run "
                "join outcomes on outcomes.key = results.outcome where results.cell = ? "
                "order by runs.started desc, runs.rowid desc limit 1"
            )
            rows = self._read(query, (cell,))
            cell = json.loads(rows[0][0]) if rows else {}
        found = []
        for entry in (cell.get("measure") or {}).get("raw") or ():
            rows = self._read("select data from samples where sha256 = ?", (entry["sha256"],))
            try:
                found += [unpack(entry, data) for (data,) in rows]
            except ValueError as error:
                msg = f"{self.path}: {error}; run `gc`, and measure again"
                raise StoreError(msg) from error
        return found

    def sample_sizes(self) -> dict[str, int]:
        """SHA-256 -> bytes of all packed samples."""
        return dict(self._read("select sha256, length(data) from samples"))

    def forget_samples(self, names: Iterable[str]) -> None:
        self._write_many("delete from samples where sha256 = ?", [(name,) for name in names])

    # Outcomes and runs ------------------------------------------------------------------------------------------

    def outcomes(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            for key, found_text in self._read(f"select key, record from outcomes where key in ({marks})", part):  # noqa: S608
                found[key] = json.loads(found_text)
        return found

    def have_outcomes(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have an outcome."""
        wanted, found = list(keys), set()
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            found |= {row[0] for row in self._read(f"select key from outcomes where key in ({marks})", part)}  # noqa: S608
        return found

    def put_outcomes(self, outcomes: Mapping[str, tuple[str, Mapping[str, Any]]]) -> None:
        """key -> (cell id, record), in one transaction."""
        rows = [(key, cell, text(record)) for key, (cell, record) in outcomes.items()]
        self._write_many("insert or replace into outcomes values (?,?,?)", rows)

    def latest_status(self) -> dict[str, str]:
        """cell id -> status of its newest result in any run."""
        rows = self._read(
            "select results.cell, results.status from results join runs on runs.id = results.run "
            "order by runs.started, runs.rowid"
        )
        return dict(rows)

    def put_run(
        self,
        run: str,
        started: str,
        finished: str | None,
        record: Mapping[str, Any],
        cells: Mapping[str, tuple[str, str]],
        *,
        expected: Mapping[str, str] = MappingProxyType({}),
        tools: Mapping[str, Sequence[str]] = MappingProxyType({}),
        pins: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        said: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Keep a run with all its results, in one transaction.

        cells: id -> (status, outcome key); expected: id -> how it stood to its `expect:` entry; tools: id -> its tools
        stacks; pins: stack id -> what it was locked to; said: outcome key -> record of what ended without evidence.
        """
        stacks = {stack: text(entry) for stack, entry in pins.items()}
        keys = {stack: hashlib.sha256(entry.encode()).hexdigest() for stack, entry in stacks.items()}
        rows = [
            (run, cell, status, outcome, expected.get(cell, ""), ",".join(tools.get(cell, ())))
            for cell, (status, outcome) in cells.items()
        ]
        self.write_all([
            ("insert or replace into runs values (?,?,?,?)", [(run, started, finished, json.dumps(record, sort_keys=True))]),
            ("insert or replace into results values (?,?,?,?,?,?)", rows),
            ("insert or ignore into outcomes values (?,?,?)", [(key, it["id"], text(it)) for key, it in said.items()]),
            ("insert or ignore into pins values (?,?)", [(keys[stack], entry) for stack, entry in stacks.items()]),
            ("insert or replace into run_pins values (?,?,?)", [(run, stack, key) for stack, key in keys.items()]),
        ])  # fmt: skip

    def write_all(self, statements: Iterable[tuple[str, Sequence[Sequence[Any]]]]) -> None:
        """Statements with the rows each is executed for, in one transaction. Raises InfrastructureError."""
        db = self._db
        try:
            db.execute("begin immediate")
            for query, rows in statements:
                db.executemany(query, rows)
            db.execute("commit")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("rollback")
            if isinstance(error, sqlite3.OperationalError):
                raise _disk(error, self.path) from error
            raise

    @contextlib.contextmanager
    def beside(self, other: Path) -> Iterator[sqlite3.Connection]:
        """One transaction in which another database is there as `other`: all that is written stays, or nothing. Raises
        InfrastructureError."""
        db = self._db
        db.execute("attach database ? as other", (str(other),))
        try:
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("rollback")
                if isinstance(error, sqlite3.OperationalError):
                    raise _disk(error, self.path) from error
                raise
        finally:
            with contextlib.suppress(sqlite3.Error):
                db.execute("detach database other")

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of a `select`, for what compares and merges runs. Raises StoreError."""
        return self._read(query, values)

    def refuted(self) -> dict[str, tuple[str, str]]:
        """Claim of the facts -> (cell, what was observed against it)."""
        if not self._read("select 1 from sqlite_master where name = 'refuted'"):
            return {}
        return {claim: (cell, observed) for claim, cell, observed in self._read("select * from refuted")}

    def put_refuted(self, refuted: Mapping[str, tuple[str, str]], gone: Iterable[str] = ()) -> None:
        """Remember what was observed against the facts, and forget the claims in `gone`. Touches no others: another run may
        write its own at the same time."""
        known = self.refuted()
        forget = [(claim,) for claim in gone if claim in known and claim not in refuted]
        new = [(claim, *row) for claim, row in refuted.items() if known.get(claim) != row]
        if not forget and not new:
            return
        self._write(_REFUTED, ())
        self._write_many("delete from refuted where claim = ?", forget)
        self._write_many("insert or replace into refuted values (?,?,?)", new)

    def runs(self) -> list[dict[str, Any]]:
        rows = self._read("select id, started, finished, record from runs order by started, rowid")
        return [{**json.loads(r[3]), "id": r[0], "started": r[1], "finished": r[2]} for r in rows]

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            msg = f"{self.path}: damaged ({error}); move it away and run again"
            raise StoreError(msg) from error

    def _write(self, query: str, values: tuple[Any, ...]) -> None:
        try:
            self._db.execute(query, values)
        except sqlite3.OperationalError as error:
            raise _disk(error, self.path) from error

    def _write_many(self, query: str, rows: list[tuple[Any, ...]]) -> None:
        db = self._db
        try:
            db.execute("begin immediate")
            db.executemany(query, rows)
            db.execute("commit")
        except sqlite3.OperationalError as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("rollback")
            raise _disk(error, self.path) from error

    # Objects ----------------------------------------------------------------------------------------------------

    def add_object(self, file: Path) -> dict[str, Any]:
        """Move a file into the store; {"sha256", "bytes", "path" (relative to the store)}. The suffix is kept, since
        some libraries choose their reader by it."""
        try:
            sha = file_sha256(file)
            relative = Path("objects", sha[:2], sha + file.suffix)
            target = self.root / relative
            size = file.stat().st_size
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                file.chmod(0o444)
                os.replace(file, target)
            elif target.stat().st_size != size or not self.intact(
                {"sha256": sha, "path": str(relative), "bytes": size}
            ):
                os.replace(file, target)
        except OSError as error:
            raise _disk(error, self.root) from error
        self._checked.add(str(relative))
        return {"sha256": sha, "bytes": size, "path": str(relative)}

    def add_bundle(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """Move files that name each other into the store, under their own names and side by side: an ONNX file and the weights
        beside it. As `add_object`, one entry a file; their folder has a name made of all of them."""
        try:
            hashes = {file.name: file_sha256(file) for file in files}
            whole = hashlib.sha256(
                "".join(f"{name}\0{sha}\n" for name, sha in sorted(hashes.items())).encode()
            ).hexdigest()
            relative = Path("objects", whole[:2], whole)
            entries: list[dict[str, Any]] = [
                {"sha256": hashes[file.name], "bytes": file.stat().st_size, "path": str(relative / file.name)}
                for file in files
            ]
            for file, entry in zip(files, entries, strict=True):
                target = self.root / entry["path"]
                if not self.intact(entry):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file.chmod(0o444)
                    os.replace(file, target)
                self._checked.add(str(entry["path"]))
        except OSError as error:
            raise _disk(error, self.root) from error
        return entries

    def present(self, entry: Mapping[str, Any]) -> bool:
        """Whether an object is there with its size: the cheap look that planning takes."""
        try:
            return bool((self.root / entry["path"]).stat().st_size == entry["bytes"])
        except OSError:
            return False

    def whole(self, record: StepRecord) -> bool:
        """Whether every file that a record names is there."""
        entries = [record.record["artifact"]] if record.record.get("artifact") else []
        entries += [case["artifact"] for case in record.record.get("cases", ())]
        entries += [*record.record.get("calibration", ()), *record.record.get("data", ())]
        if record.kind == "obtain" and record.state == "ok" and not (self.root / "sources" / record.output).is_dir():
            return False
        return all(self.present(entry) for entry in entries)

    def intact(self, entry: Mapping[str, Any]) -> bool:
        """Whether an object's bytes are still what its name says; read once in a process."""
        path = str(entry["path"])
        if path in self._checked:
            return self.present(entry)
        if not self.present(entry) or file_sha256(self.root / path) != entry["sha256"]:
            return False
        self._checked.add(path)
        return True

    def discard(self, entry: Mapping[str, Any]) -> None:
        """Remove a corrupt object."""
        self._checked.discard(str(entry["path"]))
        (self.root / entry["path"]).unlink(missing_ok=True)

    # Files ------------------------------------------------------------------------------------------------------

    def work(self, run: str, name: str) -> Path:
        """A fresh folder for one job of one run."""
        path = self.root / "work" / run / name
        try:
            if path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True)
        except OSError as error:
            raise _disk(error, self.root) from error
        return path

    def keep_log(self, key: str, log: Path) -> str | None:
        """Keep a job's log under its step's key; the path relative to the store."""
        if not log.exists():
            return None
        relative = Path("logs", key[:2], key + ".txt")
        target = self.root / relative
        try:
            target.parent.mkdir(exist_ok=True)
            os.replace(log, target)
        except OSError as error:
            raise _disk(error, self.root) from error
        return str(relative)

    def write_text(self, path: Path, text: str) -> None:
        """Write beside, then rename: nobody ever reads half a file."""
        beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            beside.write_text(text, encoding="utf-8")
            os.replace(beside, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise _disk(error, path) from error

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[int]:
        """Hold a step against every other run on this store. Locks one byte of one file, at an offset that the key gives.
        The kernel lets go of it when every process that has the yielded descriptor is gone: a child that works on
        what is locked is given it too."""
        offset = int(hashlib.sha256(key.encode()).hexdigest()[:14], 16)
        with (self.root / "locks").open("ab") as file:
            # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for open-file-description locks)
            fcntl.fcntl(file, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
            yield file.fileno()

    def sweep(self, *, older_than: float = 86400.0) -> None:
        """Remove work folders that a killed run left behind (seconds since they were touched)."""
        now = time.time()
        for path in (self.root / "work").iterdir():
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > older_than:
                    shutil.rmtree(path, ignore_errors=True)


def open_readonly(database: Path) -> sqlite3.Connection:
    """A results database that is only read, be it another program's. A folder that cannot be written has no place for the
    write-ahead log's index: then the file as it is. Raises sqlite3.DatabaseError."""
    from urllib.parse import quote

    name = f"file:{quote(str(database.resolve()))}"
    db = sqlite3.connect(f"{name}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("pragma user_version")
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"{name}?immutable=1", uri=True)
    return db


def text(record: Mapping[str, Any]) -> str:
    """A record as JSON. What is no text (a lone surrogate from a library's message) becomes `?`."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace").decode()


def file_sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()
