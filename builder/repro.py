"""`artifacts/repro/`: for each finding one folder that shows its failure with nothing of ours installed, and for the other cells
of the finding a line that says where it is. What a folder holds is repro_folder.py's matter.

Written at the end of a run or a report, and looked at again only when a failing cell came out otherwise: a run with nothing to do
reads one small file. Nothing is started here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from builder.errors import UsageError
from builder.project import program
from builder.values import FAILING, digest

if TYPE_CHECKING:
    from builder.plan import Chain, Step
    from builder.repro_folder import Folder
    from builder.store import StepRecord, Store

FOLDER = "repro"
"""Under `artifacts/`."""
INDEX = "index.json"
SIGN = "expected.json"
"""The file that every folder has."""
SCHEMA = 1
MOST = 200
"""Folders that are made by themselves at most; `repro CELL --folder` makes any other."""
BYTES = 2 << 30
"""What they may take together, counting what they share with the store."""
How = Literal["findings", "all", "none"]
LIMIT = 256 << 20
"""Bytes of one file from which on a copy or an archive does without, and README.md says how to make it."""
TRIES = 3
"""Cells of a finding that are asked for a folder, the smallest models first."""


def leave(chains: Sequence[Chain], store: Store, cells: Sequence[dict[str, Any]], how: How = "findings") -> None:
    """Make the folders of the findings of these cells (`all`: of every failing cell), forget those of cells that no longer fail
    so, and give each failing cell `repro`. Folders of cells that are not among these stay. Raises InfrastructureError where the
    disk refuses."""
    root = store.root / FOLDER
    failing = [cell for cell in cells if cell["status"] in FAILING and "suite" not in cell]
    if not failing and not root.is_dir():
        return
    index = read_index(root)
    if how != "none":
        index = _up_to_date(chains, store, cells, failing, how, index)
    _tell(index, failing)


def _up_to_date(
    chains: Sequence[Chain], store: Store, cells: Sequence[Mapping[str, Any]], failing: Sequence[Mapping[str, Any]], how: How,
    index: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    root = store.root / FOLDER
    # What was not tried this time keeps what it had.
    here = sorted(cell["id"] for cell in cells if cell["status"] not in ("skipped", "blocked"))
    mark = digest([how, [_key(cell) for cell in failing], here, _code()])
    if index.get("mark") == mark and all((root / name / SIGN).is_file() for name in index["folders"]):
        return index
    with store.lock(FOLDER):
        root.mkdir(exist_ok=True)
        leaving = _Leaving(chains, store, set(here), how, read_index(root))
        leaving.all(failing)
        return leaving.finish(mark)


def _key(cell: Mapping[str, Any]) -> list[Any]:
    """What a cell's folder is made of: its result, and what `locate` has found in it since."""
    return [cell["id"], cell["key"], (cell.get("located") or {}).get("when")]


class _Leaving:
    """One pass over the findings. What other selections left stays; of these cells all is said anew."""

    def __init__(
        self, chains: Sequence[Chain], store: Store, here: set[str], how: How, before: Mapping[str, Any]
    ) -> None:
        self.store, self.how, self.before = store, how, before
        self.root = store.root / FOLDER
        self.chains = {chain.cell.id: chain for chain in chains}
        self.old: Mapping[str, Mapping[str, Any]] = before.get("folders", {})
        # Of what was removed by hand, or by `gc`, nothing is said any more.
        there = {name for name in self.old if (self.root / name / SIGN).is_file()}
        self.folders = {name: dict(one) for name, one in self.old.items() if one["cell"] not in here and name in there}
        self.same = {c: name for c, name in before.get("same", {}).items() if c not in here and name in self.folders}
        self.none = {c: why for c, why in before.get("none", {}).items() if c not in here}
        self.slugs = {c: slug for c, slug in before.get("slugs", {}).items() if c in self.same}
        self.made = self.bytes = 0

    def all(self, failing: Sequence[Mapping[str, Any]]) -> None:
        from builder.report.assemble import findings

        by_id = {cell["id"]: cell for cell in failing}
        for finding in findings(failing):
            group = [by_id[cell] for cell in finding["cells"]]
            shown = self._finding(group, str(finding["title"]))
            for cell in group:
                name = self.chains[cell["id"]].cell.folder
                if shown and name not in shown:
                    self.same[cell["id"]], self.slugs[cell["id"]] = shown[0], name
                    self.none.pop(cell["id"], None)

    def _finding(self, group: Sequence[Mapping[str, Any]], title: str) -> list[str]:
        """Names of the folders that show it. Of those that have none `none` says why."""
        shown: list[str] = []
        why = ""
        for asked, cell in enumerate(sorted(group, key=lambda one: (_size(one, self.store), one["slug"]))):
            if self.how == "findings" and (shown or asked == TRIES):
                break
            name = self.chains[cell["id"]].cell.folder
            why = self._folder(cell, name, title)
            if why:
                self.none[cell["id"]] = why
            else:
                shown.append(name)
        if not shown:
            self.none.update({cell["id"]: self.none.get(cell["id"], why) for cell in group})
        return shown

    def _folder(self, cell: Mapping[str, Any], name: str, title: str) -> str:
        """Make one, unless it is there; why not, or ""."""
        key = digest([_key(cell), _code()])
        old = self.old.get(name)
        if old is not None and old["key"] == key and (self.root / name / SIGN).is_file():
            self.folders[name] = dict(old)
            self.made, self.bytes = self.made + 1, self.bytes + old["bytes"]
            return ""
        from builder import repro_folder
        from builder.repro_match import Refusal
        from builder.repro_scrub import scrub

        by_hand = f"`{program(cell)} repro {cell['id']} --folder` makes one"
        if self.how == "findings" and self.made >= MOST:
            return f"{MOST} folders are made by themselves; {by_hand}"
        try:
            folder = _make(self.chains[cell["id"]], cell, self.store, BYTES)  # links take no room
            size = folder.size()
            if self.how == "findings" and self.bytes + size > BYTES:
                return f"folders that are made by themselves take {BYTES >> 20} MiB at most; {by_hand}"
            repro_folder.write(folder, self.root / name, link=True)
        except Refusal as error:
            return str(error)
        except OSError as error:
            return f"it could not be written: {error.strerror}"
        self.folders[name] = {
            "cell": cell["id"], "key": key, "bytes": size, "status": cell["status"], "title": scrub(title)[:300],
        }  # fmt: skip
        self.made, self.bytes = self.made + 1, self.bytes + size
        return ""

    def finish(self, mark: str) -> dict[str, Any]:
        """Remove what is gone, write pointers and index."""
        for name in set(self.old) - set(self.folders):
            shutil.rmtree(self.root / name, ignore_errors=True)
        pointers = {
            f"{self.slugs[cell]}.txt": _POINTER.format(name=name, cell=cell) for cell, name in self.same.items()
        }
        was = {f"{slug}.txt": self.before["same"].get(cell) for cell, slug in self.before.get("slugs", {}).items()}
        now = {f"{self.slugs[cell]}.txt": name for cell, name in self.same.items()}
        there = {path.name for path in self.root.glob("*.txt")}
        for file in there - set(pointers):
            (self.root / file).unlink(missing_ok=True)
        for file, text in pointers.items():
            if file not in there or was.get(file) != now[file]:
                (self.root / file).write_text(text, encoding="utf-8")
        index = {
            "schema": SCHEMA, "mark": mark, "folders": dict(sorted(self.folders.items())),
            "same": dict(sorted(self.same.items())), "none": dict(sorted(self.none.items())),
            "slugs": dict(sorted(self.slugs.items())),
        }  # fmt: skip
        self.store.write_text(self.root / "README.md", _words(index))
        self.store.write_text(self.root / INDEX, json.dumps(index, indent=1) + "\n")
        return index


_POINTER = """\
The same failure as in {name}/, a folder that shows it.
This cell's own: enginematrix repro {cell} --folder
"""


def _make(chain: Chain, cell: Mapping[str, Any], store: Store, limit: int = LIMIT) -> Folder:
    """Raises Refusal; also for what goes wrong here, which is our bug and no reason to lose a report."""
    from builder import repro_case, repro_folder
    from builder.repro_match import Refusal
    from builder.repro_scrub import scrub

    try:
        return repro_folder.make(repro_case.read(chain, cell, _records([chain], store), store), limit)
    except Refusal:
        raise
    except Exception as error:
        msg = f"a bug of ours: {type(error).__name__}: {scrub(str(error))[:200]}"
        raise Refusal(msg) from error


def _records(chains: Iterable[Chain], store: Store) -> dict[str, StepRecord]:
    steps: list[Step] = []
    for chain in chains:
        own = list(chain.steps())
        own += [need for step in own for need in step.needs]
        steps += own + [step.environment for step in own if step.environment is not None]
    return store.steps(step.key for step in steps if step.key)


def _size(cell: Mapping[str, Any], store: Store) -> int:
    """Bytes of the model that a cell was built from: a finding is shown with the smallest."""
    path = (cell.get("files") or {}).get("model")
    with contextlib.suppress(OSError):
        return (store.root / path).stat().st_size if path else 1 << 60
    return 1 << 60


def _words(index: Mapping[str, Any]) -> str:
    """README.md of `artifacts/repro/`."""
    rows = [
        "# Failures, each as a folder that shows it",
        "",
        "Models and inputs are hard links into the store: change copies (`enginematrix repro CELL --folder DIR`).",
        "",
    ]
    shared: dict[str, int] = {}
    for name in index["same"].values():
        shared[name] = shared.get(name, 0) + 1
    for name, one in index["folders"].items():
        others = f" (and {shared[name]} other cells: `*.txt`)" if shared.get(name) else ""
        rows.append(f"- [{name}]({name}/README.md): {one['status']}: {one['title']}{others}")
    reasons: dict[str, list[str]] = {}
    for cell, why in index["none"].items():
        reasons.setdefault(why, []).append(cell)
    if reasons:
        rows += ["", "## Without a folder", ""]
        rows += [
            f"- {', '.join(cells[:5])}{', ...' if len(cells) > 5 else ''} ({len(cells)}): {why}"
            for why, cells in reasons.items()
        ]
    return "\n".join(rows) + "\n"


def read_index(root: Path) -> dict[str, Any]:
    """What was left; {} where nothing was, or by another version."""
    try:
        found = json.loads((root / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


def _tell(index: Mapping[str, Any], failing: Iterable[dict[str, Any]]) -> None:
    """Give cells `repro` (docs/report-schema.md): where a folder shows their failure, or why there is none."""
    if not index:
        return
    own = {one["cell"]: name for name, one in index["folders"].items()}
    for cell in failing:
        name = own.get(cell["id"]) or index["same"].get(cell["id"])
        if name:
            cell["repro"] = {"path": f"{FOLDER}/{name}", "own": cell["id"] in own, "why": None}
        elif cell["id"] in index["none"]:
            cell["repro"] = {"path": None, "own": False, "why": index["none"][cell["id"]]}


def unused(root: Path, folders: set[str]) -> list[Path]:
    """What `gc` may remove: folders and pointers of cells that are in no matrix any more. `folders`: the names of those that
    are. What is removed is left again by the next run, where it fails still."""
    gone = [path for path in (root / FOLDER).glob("*") if path.name.removesuffix(".txt") not in folders]
    return [path for path in gone if path.name not in (INDEX, "README.md")]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What `export` wrote."""

    path: Path
    bytes: int
    left_out: Mapping[str, int]


def export(
    chain: Chain,
    cell: Mapping[str, Any],
    store: Store,
    target: Path | None,
    *,
    zipped: bool,
    limit: int = LIMIT,
) -> Export:
    """One cell's folder, or its archive, wherever it is wanted (default: where a run would leave it). Raises UsageError for a
    cell that shows no failure, or one that no script can show; OSError."""
    from builder import repro_folder
    from builder.repro_match import Refusal

    if cell["status"] not in FAILING:
        msg = f"{cell['id']} ({cell['slug']}) is {cell['status']}: there is no failure to show"
        raise UsageError(msg)
    try:
        folder = _make(chain, cell, store, limit if target is not None or zipped else max(limit, BYTES))
    except Refusal as error:
        msg = f"{cell['id']} ({cell['slug']}): {error}; `enginematrix show {cell['id']} --log` has all that is known"
        raise UsageError(msg) from error
    name = chain.cell.folder
    ours = store.root / FOLDER / name
    path = target or ours
    if zipped:
        path = path.with_name(f"{path.name}.zip") if path.suffix != ".zip" else path
        path.parent.mkdir(parents=True, exist_ok=True)
        repro_folder.archive(folder, path, name)
    else:
        if path.exists() and not (path / SIGN).is_file() and (not path.is_dir() or any(path.iterdir())):
            msg = f"{path}: is there already and is no such folder; name another"
            raise UsageError(msg)
        path.parent.mkdir(parents=True, exist_ok=True)
        repro_folder.write(folder, path, link=path == ours)
    return Export(path=path, bytes=folder.size(), left_out=folder.left_out)


@functools.cache
def _code() -> str:
    """Hash of what makes folders, so that a better one takes the place of what an older version made."""
    sha = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("repro*.py"), *(here / "repro_templates").iterdir()]):
        if path.is_file():
            sha.update(path.read_bytes())
    return sha.hexdigest()[:16]
