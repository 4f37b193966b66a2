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
from typing import Any, Literal

from builder import repro_case, repro_folder
from builder.errors import UsageError
from builder.plan import Chain, Step
from builder.repro_case import Refusal
from builder.repro_scrub import scrub
from builder.store import StepRecord, Store
from builder.values import FAILING, digest

FOLDER = "repro"
"""Under `artifacts/`."""
INDEX = "index.json"
SCHEMA = 1
MOST = 200
"""Folders that are made by themselves at most; `repro CELL --folder` makes any other."""
BYTES = 2 << 30
"""What they may take together, counting what they share with the store."""
How = Literal["findings", "all", "none"]
TRIES = 3
"""Cells of a finding that are asked for a folder, the smallest models first."""


def leave(chains: Sequence[Chain], store: Store, cells: Sequence[Mapping[str, Any]], how: How = "findings") -> None:
    """Make the folders of the findings of these cells (`all`: of every failing cell), and forget those of cells that no longer
    fail so. Folders of cells that are not among these stay. Raises OSError where nothing can be written."""
    root = store.root / FOLDER
    failing = [cell for cell in cells if cell["status"] in FAILING and "suite" not in cell]
    if how == "none" or (not failing and not root.is_dir()):
        return
    mark = digest([how, [[cell["id"], cell["key"]] for cell in failing], sorted(cell["id"] for cell in cells), _code()])
    index = read_index(root)
    if index.get("mark") == mark:
        return
    with store.lock(FOLDER):
        _leave(chains, store, cells, failing, how, mark)


def _leave(
    chains: Sequence[Chain], store: Store, cells: Sequence[Mapping[str, Any]], failing: Sequence[Mapping[str, Any]], how: How,
    mark: str,
) -> None:  # fmt: skip
    from builder.report.assemble import findings

    root = store.root / FOLDER
    root.mkdir(exist_ok=True)
    by_id = {cell["id"]: cell for cell in failing}
    chain_of = {chain.cell.id: chain for chain in chains if chain.cell.id in by_id}
    before = read_index(root)
    here = {cell["id"] for cell in cells}
    # What other selections left stays; of these cells all is said anew.
    folders = {name: one for name, one in before.get("folders", {}).items() if one["cell"] not in here}
    same = {cell: name for cell, name in before.get("same", {}).items() if cell not in here and name in folders}
    none = {cell: why for cell, why in before.get("none", {}).items() if cell not in here}
    made, taken = 0, 0
    for finding in findings(failing):
        group = [by_id[cell] for cell in finding["cells"]]
        done: list[str] = []
        why = ""
        for cell in sorted(group, key=lambda one: (_size(one, store), one["slug"])) if how == "findings" else group:
            chain = chain_of[cell["id"]]
            if how == "findings" and (done or (why and cell["id"] in none and len(none) > MOST)):
                break
            if made >= MOST and how == "findings":
                why = f"{MOST} folders were made; `enginematrix repro CELL --folder` makes others"
                break
            name = chain.cell.folder
            own = digest([cell["key"], _code()])
            old = before.get("folders", {}).get(name)
            if old is not None and old["key"] == own and (root / name / "expected.json").is_file():
                folders[name], taken = old, taken + old["bytes"]
                done.append(name)
                continue
            try:
                folder = _make(chain, cell, store)
                if taken + folder.size() > BYTES and how == "findings":
                    why = f"the folders take {BYTES >> 30} GiB; `enginematrix repro CELL --folder` makes this one"
                    break
                repro_folder.write(folder, root / name, link=True)
            except Refusal as error:
                why = str(error)
                none[cell["id"]] = why
                if how == "findings" and sum(one["id"] in none for one in group) >= TRIES:
                    break
                continue
            folders[name] = {"cell": cell["id"], "key": own, "bytes": folder.size(), "title": scrub(finding["title"])[:300],
                             "status": cell["status"]}  # fmt: skip
            made, taken = made + 1, taken + folder.size()
            done.append(name)
        for cell in group:
            if done and chain_of[cell["id"]].cell.folder not in done:
                same[cell["id"]] = done[0]
                none.pop(cell["id"], None)
            elif not done:
                none.setdefault(cell["id"], why)
    for name in set(before.get("folders", {})) - set(folders):
        shutil.rmtree(root / name, ignore_errors=True)
    slugs = {cell["id"]: chain_of[cell["id"]].cell.folder for cell in failing}
    slugs |= {
        cell: slug
        for cell, slug in before.get("slugs", {}).items()
        if cell not in here and (cell in same or cell in none)
    }
    index = {
        "schema": SCHEMA, "mark": mark, "folders": dict(sorted(folders.items())), "same": dict(sorted(same.items())),
        "none": dict(sorted(none.items())), "slugs": {cell: slugs[cell] for cell in sorted({*same, *none}) if cell in slugs},
    }  # fmt: skip
    _point(root, before, index)
    store.write_text(root / "README.md", _words(index))
    store.write_text(root / INDEX, json.dumps(index, indent=1) + "\n")


def _make(chain: Chain, cell: Mapping[str, Any], store: Store, limit: int = repro_folder.LIMIT) -> repro_folder.Folder:
    """Raises Refusal; also for what goes wrong here, which is our bug and no reason to lose a report."""
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
        return (store.root / path).stat().st_size if path else 0
    return 1 << 60


def _point(root: Path, before: Mapping[str, Any], index: Mapping[str, Any]) -> None:
    """`<cell>.txt` for each cell whose failure another one's folder shows. Only what is not there yet is written."""
    there = {path.name for path in root.glob("*.txt")}
    wanted = {}
    for cell, name in index["same"].items():
        wanted[f"{index['slugs'][cell]}.txt"] = (
            f"The same failure as in {name}/, a folder that shows it.\nThis cell's own: enginematrix repro {cell} --folder\n"
        )
    old = {
        f"{before['slugs'][cell]}.txt": name
        for cell, name in before.get("same", {}).items()
        if cell in before.get("slugs", {})
    }
    new = {f"{index['slugs'][cell]}.txt": name for cell, name in index["same"].items()}
    for name in there - set(wanted):
        (root / name).unlink(missing_ok=True)
    for name, text in wanted.items():
        if name not in there or old.get(name) != new[name]:
            (root / name).write_text(text, encoding="utf-8")


def _words(index: Mapping[str, Any]) -> str:
    """README.md of `artifacts/repro/`."""
    rows = ["# Failures, each as a folder that shows it", ""]
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


def tell(root: Path, cells: Iterable[dict[str, Any]]) -> None:
    """Give the failing ones of these cells `repro` (docs/report-schema.md): where a folder shows their failure, or why there is
    none."""
    index = read_index(root)
    if not index:
        return
    own = {one["cell"]: name for name, one in index["folders"].items()}
    for cell in cells:
        if cell["status"] not in FAILING:
            continue
        name = own.get(cell["id"]) or index["same"].get(cell["id"])
        if name:
            cell["repro"] = {"path": f"{FOLDER}/{name}", "own": cell["id"] in own, "why": None}
        elif cell["id"] in index["none"]:
            cell["repro"] = {"path": None, "own": False, "why": index["none"][cell["id"]]}


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
    limit: int = repro_folder.LIMIT,
) -> Export:
    """One cell's folder, or its archive, wherever it is wanted (default: where a run would leave it). Raises UsageError for a
    cell that shows no failure, or one that no script can show; OSError."""
    if cell["status"] not in FAILING:
        msg = f"{cell['id']} ({cell['slug']}) is {cell['status']}: there is no failure to show"
        raise UsageError(msg)
    try:
        folder = _make(chain, cell, store, limit)
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
        if path.exists() and not (path / "expected.json").is_file() and (not path.is_dir() or any(path.iterdir())):
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
