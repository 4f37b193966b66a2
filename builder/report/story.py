"""The story of a cell beyond its record: where in its log the error is, what was loaded of what was declared, and which cells
differ from it in one axis only.

Pure functions over a report's cells (docs/report-schema.md), and the logs beside it, which are read and never believed: what
of them goes on is cleaned of escapes and of this machine's folders.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from builder import versions
from builder.conflict_rules import is_ordered, values
from builder.diagnose_text import clean
from builder.fields import ROLES
from builder.values import FAILING

AROUND = 6
"""Lines of a log that are shown before the line that matters, and after it."""
LONGEST = 400
"""Characters of a line that are shown."""
READ = 4 << 20
"""Bytes of a log that are looked through."""
ALL = 1 << 20
"""Characters of excerpts that a page holds; whoever goes beyond has the link to the log."""
MOST = 1 << 18
"""Bytes of one log that are looked through for a page."""
LOOKED = 32 << 20
"""Bytes of logs that are looked through for a page: tens of thousands of failures are written in seconds."""
GOOD = frozenset({"verified", "built"})

_KIND = re.compile(r"^[A-Za-z_][\w.]*: ")
_SAYS = re.compile(r"\b(?:fatal|critical|error|exception|abort(?:ed)?|failure)\b", re.I)


# ---------------------------------------------------------------- the log


def log_of(cell: Mapping[str, Any]) -> tuple[str, str] | None:
    """(Stage, path) of the log that tells why: of the stage that failed, else of the last one that has a log."""
    stages = [stage for stage in cell["stages"] if stage["log"]]
    stage = next((one for one in stages if one["state"] == "failed"), stages[-1] if stages else None)
    return (stage["stage"], stage["log"]) if stage else None


def excerpt(cell: Mapping[str, Any], root: Path, *, around: int = AROUND, most: int = READ) -> dict[str, Any] | None:
    """The lines of a cell's log around the one that matters: {"log", "stage", "first": number of the first line shown, from
    1, "at": number of the line that matters | None where it is not in the log (then the lines are the log's last ones),
    "of": lines of the log, "cut": whether the log goes on beyond what was read, "lines": [text]}. None where there is no log
    below `root` or it is empty; logs are `root`-relative."""
    found = log_of(cell)
    if found is None:
        return None
    stage, log = found
    path = root / log
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return None
        with path.open("rb") as file:
            text = file.read(most).decode("utf-8", "replace")
            cut = bool(file.read(1))
    except OSError:
        return None
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        return None
    at = find(cell["line"] or "", lines)
    middle = len(lines) - 1 if at is None else at
    first = max(0, middle - around * (1 if at is not None else 2))
    shown = [_short(clean(line), cell["line"] or "" if place == at else "")
             for place, line in enumerate(lines[first : middle + around + 1], start=first)]  # fmt: skip
    return {
        "log": log, "stage": stage, "first": first + 1, "at": None if at is None else at + 1, "of": len(lines), "cut": cut,
        "lines": shown,
    }  # fmt: skip


def find(line: str, lines: Sequence[str]) -> int | None:
    """The place of an outcome's `line` in a log. The line may carry the kind of the error before the text, be cut at either
    end, and has no folders; where it is not there and a process died, the line of the log that says so."""
    wanted = " ".join(line.split()).strip("…").strip()
    if not wanted:
        return None
    bare = _KIND.sub("", wanted)
    wants = [want for want in dict.fromkeys((bare, wanted, bare[:60])) if len(want) >= 4]
    plain: Sequence[str] = lines
    for as_it_is in (True, False):  # most lines are found as they stand, and cleaning a long log takes its time
        if not as_it_is:
            plain = [" ".join(clean(one).split()) for one in lines]
        for want in wants:
            for at, one in enumerate(plain):
                if want in one:
                    return at
    if wanted.startswith("killed by "):
        return next((at for at, one in enumerate(plain) if _SAYS.search(one)), None)
    return None


def _short(line: str, said: str = "") -> str:
    """A line of at most LONGEST characters; of a longer one the part with what is `said` of it."""
    line = line.expandtabs(4).rstrip()
    if len(line) <= LONGEST:
        return line
    start = max(0, line.find(_KIND.sub("", said.strip("… "))[:60]) - 40) if said else 0
    head = "…" if start else ""
    return head + line[start : start + LONGEST - 2] + ("…" if start + LONGEST - 2 < len(line) else "")


def excerpts(cells: Sequence[Mapping[str, Any]], root: Path | None) -> dict[str, Any]:
    """Excerpts for a page: {"texts": [as `excerpt`], "at": {place of a cell among `cells`: place in texts}}. Cells that share
    a log and a line share an excerpt; beyond ALL characters there are no more, those of the first cells of each kind of
    failure first."""
    texts: list[dict[str, Any]] = []
    at: dict[int, int] = {}
    seen: dict[tuple[str, str], int | None] = {}
    left, looked = ALL, 0
    kinds: dict[tuple[str, str, str], int] = {}
    order = []
    for place, cell in enumerate(cells if root is not None else ()):
        if cell["status"] in FAILING or cell["status"] == "blocked":
            kind = (cell["status"], cell["signature"] or "", cell["category"] or "")
            kinds[kind] = kinds.get(kind, 0) + 1
            order.append((kinds[kind], place))
    for _, place in sorted(order):
        cell = cells[place]
        found = log_of(cell)
        if root is None or found is None:
            continue
        key = (found[1], cell["line"] or "")
        if key not in seen:
            if left <= 0 or looked > LOOKED:
                continue
            one = excerpt(cell, root, most=MOST)
            with contextlib.suppress(OSError):
                looked += min(MOST, (root / found[1]).stat().st_size)
            size = sum(map(len, one["lines"])) if one else 0
            seen[key] = len(texts) if one and size <= left else None
            if one and size <= left:
                texts.append(one)
                left -= size
        where = seen[key]
        if where is not None:
            at[place] = where
    return {"texts": texts, "at": at}


# ---------------------------------------------------------------- declared and loaded


def for_page(cells: Sequence[Mapping[str, Any]], root: Path | None) -> dict[str, Any]:
    """What report.html tells of cells beyond their records: `excerpts`, and "declared": [rows of `declared`], each list once,
    with "declared_at": [its place for each cell, -1 where nothing was loaded]."""
    lists: dict[tuple[Any, ...], int] = {}
    rows: list[list[dict[str, Any]]] = []
    places = []
    for cell in cells:
        loaded = cell["loaded"] or {}
        if not loaded.get("modules"):
            places.append(-1)
            continue
        key = (cell["engine"]["id"], cell["exporter"]["id"], cell["python"], str(loaded["modules"]))
        if key not in lists:
            lists[key] = len(rows)
            rows.append(declared(cell))
        places.append(lists[key])
    return {**excerpts(cells, root), "declared": rows, "declared_at": places}


def declared(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was declared of both stacks beside what the process that this cell's record is of really loaded:
    [{"role", "name", "declared", "loaded": version | None where it was not seen, "same": bool | None}]. A version that says more
    (`2.13.0+cpu`, Python 3.11.7 for 3.11) is the same."""
    loaded = cell["loaded"] or {}
    modules = {_plain(name): _version(module) for name, module in (loaded.get("modules") or {}).items()}
    libraries = [
        str(one.get("name")) if isinstance(one, Mapping) else str(one) for one in loaded.get("libraries") or ()
    ]
    seen: dict[str, list[str]] = {}
    for role in ROLES:
        fields = cell[role]["fields"]
        seen[role] = [name for name in fields if _loaded(name, modules, libraries)]
    # A record is of one process: Python's version is that of the stack whose modules were seen in it.
    role_of_python = "engine" if seen["engine"] or not seen["exporter"] else "exporter"
    out = []
    for role in ROLES:
        for name, asked in cell[role]["fields"].items():
            if name == "python":
                got = (cell["python"] or "") if role == role_of_python else ""
            else:
                got = _loaded(name, modules, libraries)
            out.append({"role": role, "name": name, "declared": asked, "loaded": got or None,
                        "same": _same(asked, got) if got else None})  # fmt: skip
    return out


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(module: Any) -> str:
    return str(module.get("version") or "" if isinstance(module, Mapping) else module or "")


def _loaded(name: str, modules: Mapping[str, str], libraries: Iterable[str]) -> str:
    """The version that was loaded of a component, by its module, or for CUDA by its runtime library."""
    if name == "cuda":
        found = (re.fullmatch(r"libcudart\.so\.(\d[\d.]*)", one) for one in libraries)
        return next((match[1] for match in found if match), "")
    if name in modules:
        return modules[name]
    near = [key for key in modules if key.startswith(name + "-") or key.endswith("-" + name)]
    return modules[near[0]] if len(near) == 1 else ""


def _same(asked: str, got: str) -> bool:
    plain = got.split("+")[0].split("-")[0]
    return plain == asked.split("+")[0] or plain.startswith(asked + ".")


# ---------------------------------------------------------------- neighbours


def neighbours(cell: Mapping[str, Any], cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cells that differ from this one in one axis: [{"axis", "value", "own": the cell's own value, "side": "lower" | "higher" |
    "", "cell"}], by axis, versions of the engine first. Of an ordered axis (versions, opsets) the next lower and the next
    higher one and, where that ends as the cell does, the nearest that ends otherwise; of another library the newest and, where
    that does not work, the newest that does; of any other axis all.

    A stack's Python and its entry's name go along with its version; what only one of two families has (a target) goes along
    with the family.
    """
    own = values(cell)
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for other in cells:
        if other["id"] != cell["id"] and (axis := apart(own, its := values(other))) is not None:
            found.setdefault(axis, []).append((its.get(axis, ""), other))
    out: list[dict[str, Any]] = []
    for axis in sorted(found, key=lambda name: (_rank(name), name)):
        value = own.get(axis, "")
        rows = found[axis]
        if axis.endswith(".family"):
            chosen = _newest(axis.removesuffix(".family"), rows)
        elif is_ordered([value, *(other for other, _ in rows)]):
            chosen = _nearest(cell, value, rows)
        else:
            chosen = [("", other, its) for other, its in sorted(rows, key=lambda row: (row[0], row[1]["slug"]))]
        out += [{"axis": axis, "value": other, "own": value, "side": side, "cell": its} for side, other, its in chosen]
    return out


def along(cell: Mapping[str, Any]) -> str:
    """The selector of this cell on every release that the matrix has of its engine: what to run where no neighbour ever ran."""
    terms = {"engine": cell["engine"]["entry"], "exporter": cell["exporter"]["entry"], **cell["axes"]}
    terms |= {f"exporter.{name}": value for name, value in cell["exporter"]["fields"].items()}
    return " and ".join(f"{name}={_quoted(str(value))}" for name, value in terms.items())


def _quoted(value: str) -> str:
    if not re.search(r"[\s,()'\"=<>!*?]", value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def apart(own: Mapping[str, str], its: Mapping[str, str]) -> str | None:
    """The one axis in which two cells differ, or None where it is none or several."""
    different = {name for name in own.keys() | its.keys() if own.get(name) != its.get(name)}
    for role in ROLES:
        family = f"{role}.family"
        mine = {name for name in different if name == role or name.startswith(role + ".")}
        if family in mine:  # another library: all of its stack, and the axes that only it has
            different -= mine | {name for name in different if name not in own or name not in its}
            different.add(family)
        elif mine - {role, f"{role}.python"}:
            different -= {role, f"{role}.python"}
        elif f"{role}.python" in mine:
            different.discard(role)
    return different.pop() if len(different) == 1 else None


def _rank(axis: str) -> int:
    if axis.endswith(".family"):
        return 4 if axis.startswith("engine") else 5
    return 0 if axis.startswith("engine.") else 2 if axis.startswith("exporter.") else 1


def _nearest(
    cell: Mapping[str, Any], value: str, rows: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    order = versions.ordered({value, *(other for other, _ in rows)})
    at = order.index(value)
    by_value: dict[str, list[Mapping[str, Any]]] = {}
    for other, its in rows:
        by_value.setdefault(other, []).append(its)
    works = cell["status"] in GOOD
    out = []
    for side, line in (("lower", order[:at][::-1]), ("higher", order[at + 1 :])):
        told = list(islice(line, 1))
        if told and all((its["status"] in GOOD) == works for its in by_value[told[0]]):
            told += islice((v for v in line[1:] if any((i["status"] in GOOD) != works for i in by_value[v])), 1)
        out += [(side, other, its) for other in told for its in sorted(by_value[other], key=lambda one: one["slug"])]
    return out


def _newest(role: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, str, Mapping[str, Any]]]:
    families: dict[str, list[Mapping[str, Any]]] = {}
    for family, its in rows:
        if its["status"] not in ("skipped", "blocked"):  # which says nothing of another library
            families.setdefault(family, []).append(its)
    out = []
    for family, cells in sorted(families.items()):
        order = versions.ordered({_release(its[role]) for its in cells})[::-1]
        ranked = sorted(cells, key=lambda its: (order.index(_release(its[role])), its["slug"]))
        chosen = ranked[:1]
        if chosen[0]["status"] not in GOOD:
            chosen += [its for its in ranked[1:] if its["status"] in GOOD][:1]
        out += [("", family, its) for its in chosen]
    return out


def _release(stack: Mapping[str, Any]) -> str:
    """A stack's own version; of a stack that has none by its name, its first field."""
    fields = stack["fields"]
    return str(fields.get(stack["family"]) or next(iter(fields.values()), ""))
