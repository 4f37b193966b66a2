"""A report.json as a source of results: outcomes without steps, logs or artifacts, and marked as such.

It is held against the published schema and against itself before anything of it is used. In a results database its cells
stand under keys of their own, which nothing looks up that judges a cell: a report says what became of cells, and proves
nothing of steps. Where the run's own database comes as well, before or after, that takes the report's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.errors import UsageError
from builder.store import Store
from builder.values import digest

REPORT = "report.json"
ORIGIN = "report.json"
"""`from` of the runs and outcomes that only a report told of."""
LIMIT = 2 << 30
"""Bytes of a report that is read at all."""
_KEY = re.compile(r"([0-9a-f]{80})(\.suite|\.grid)?$")
_RUN = re.compile(r"[0-9TZ:-]{20}-[0-9a-z-]{1,40}$")
_BELOW = re.compile(r"[A-Za-z0-9_.][^\x00-\x1f\\:]*$")
#: What a cell of a report says of that run alone, and not of the evidence.
_OF_THE_RUN = frozenset({"key", "expected", "prediction", "reused", "located"})


def find(folder: Path) -> Path | None:
    """The report of a folder of artifacts, of a project or of a report, or the file itself; None where there is none."""
    if folder.suffix == ".json" and folder.is_file():
        return folder
    places = (folder / REPORT, folder / "report" / REPORT, folder / "artifacts" / "report" / REPORT)
    return next((place for place in places if place.is_file()), None)


def read(path: Path) -> dict[str, Any]:
    """A report that is one. Raises UsageError."""
    try:
        if path.stat().st_size > LIMIT:
            msg = f"{path}: larger than any report ({path.stat().st_size >> 20} MiB)"
            raise UsageError(msg)
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: not readable as JSON ({error})"
        raise UsageError(msg) from error
    if (trouble := _trouble(report)) is not None:
        msg = f"{path}: {trouble}"
        raise UsageError(msg)
    return dict(report)


def _trouble(report: Any) -> str | None:
    """Why it is no report that can be believed, in words."""
    import jsonschema

    from builder.report import check_report

    if not isinstance(report, dict) or report.get("schema") != 1:
        found = report.get("schema") if isinstance(report, dict) else None
        return f"not a report.json of schema 1 (docs/report-schema.md), but {found if found is not None else 'something else'}"
    error = jsonschema.Draft202012Validator(schema()).iter_errors(report)
    if (first := next(error, None)) is not None:
        return f"not as docs/report.schema.json has it: {first.json_path}: {first.message[:200]}"
    if not _RUN.match(str(report["run"]["id"])):
        return f"{str(report['run']['id'])[:80]!r} is no id of a run"
    if (outside := next((path for path in _paths(report["cells"]) if not _inside(path)), None)) is not None:
        return f"names a file that lies elsewhere: {outside[:120]!r}"
    if contradictions := check_report(report):
        return f"contradicts itself: {contradictions[0]}"
    return None


def _paths(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Every file below the artifacts that a cell names."""
    for cell in cells:
        yield from (str(stage["log"]) for stage in cell["stages"] if stage.get("log"))
        yield from _named(cell.get("artifact"))
        yield from _named(cell.get("files"))
        yield from _named((cell.get("located") or {}).get("subgraph"))


def _named(value: Any, key: str = "") -> Iterator[str]:
    """The texts in a tree that stand where a path does."""
    if isinstance(value, str):
        if key in ("path", "model", "cases", "inputs"):
            yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _named(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)


def _inside(path: str) -> bool:
    """Whether it is relative and stays below, whoever makes a link or a path of it."""
    return bool(_BELOW.match(path)) and ".." not in path.split("/")


def schema() -> dict[str, Any]:
    """The published JSON Schema of report.json."""
    for place in (Path(__file__).parent.parent / "docs", Path(__file__).parent / "report"):
        if (place / "report.schema.json").is_file():
            return dict(json.loads((place / "report.schema.json").read_text(encoding="utf-8")))
    msg = "report.schema.json is missing from this installation"
    raise UsageError(msg)


def store_of(report: Mapping[str, Any], folder: Path) -> Store:
    """A store in a new folder that holds what the report says: one run with its results. A function of the report alone."""
    store = Store(folder)
    run = report["run"]
    outcomes = {key(cell): (str(cell["id"]), _outcome(cell)) for cell in report["cells"]}
    store.put_outcomes(outcomes)
    record = {"counts": report["counts"], "exit": report["exit"], "version": report["version"], **run, "from": ORIGIN}
    store.put_run(
        run["id"], run["started"], run["finished"], record,
        {cell["id"]: (cell["status"], key(cell)) for cell in report["cells"]},
        expected={cell["id"]: cell["expected"]["state"] for cell in report["cells"] if cell["expected"]},
    )  # fmt: skip
    return store


def key(cell: Mapping[str, Any]) -> str:
    """Of an outcome that only a report told of: what it was made of (64), the code that judged it (16), and the mark."""
    found = _KEY.match(str(cell["key"]))
    made, mark = (found[1], found[2] or "") if found else (digest(dict(cell)) + "0" * 16, "")
    return f"{made}.report{mark}"


def _outcome(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in cell.items() if name not in _OF_THE_RUN}, "from": ORIGIN}
