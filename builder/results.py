"""What a run leaves for people: outcomes, delivered engines, the report's files and the exit code."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import errors, locate_kept
from builder.plan import Chain, Plan, Step
from builder.project import Project, write
from builder.store import Store
from builder.values import FAILING, digest


def judge(chains: Sequence[Chain], store: Store, infrastructure: dict[Step, str], not_run: str) -> list[dict[str, Any]]:
    """Outcomes of chains. They are kept under the hash of all that they are made of, so that a run with nothing to do
    reads one row a cell."""
    from builder import outcome

    code = _outcome_code()
    # Of suites marked as such: who reads what runs have shown of a stack (pick) passes over their thousands of cases.
    keys = {id(chain): chain.key() + code + _mark(chain) for chain in chains}
    kept = store.outcomes(keys.values())
    fresh = [chain for chain in chains if keys[id(chain)] not in kept]
    steps = [step for chain in fresh for step in chain.steps()]
    steps += [need for step in list(steps) for need in (step.environment, *step.needs) if need is not None]
    steps += [step.environment for step in list(steps) if step.environment is not None]
    records = store.steps(step.key for step in steps if step.key)

    def log(path: str) -> str:
        try:
            with (store.root / path).open("rb") as file:
                return file.read(1 << 18).decode(errors="replace")
        except OSError:
            return ""

    new: dict[str, tuple[str, dict[str, Any]]] = {}
    for chain in fresh:
        found = outcome.outcome(chain, records, infrastructure, not_run, log)
        if chain.built_in is not None:
            from builder.portability_grid_check import check

            found["check"] = check(chain, records, found, store.root)
        kept[keys[id(chain)]] = found
        if _lasting(chain, found):
            new[keys[id(chain)]] = (chain.cell.id, found)
    store.put_outcomes(new)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    located = locate_kept.stored(store.root, {chain.cell.id: chain for chain in chains})
    out = []
    for chain in chains:
        own = dict(kept[keys[id(chain)]])
        own["slug"] = chain.cell.slug
        own["engine"], own["exporter"] = chain.cell.engine.as_dict(), chain.cell.exporter.as_dict()
        if chain.cell.built_on is not None:
            own["built_on"] = chain.cell.built_on.as_dict()
        own["key"] = keys[id(chain)]
        own["expected"] = outcome.expectation(chain.cell.expect, own, today)
        if chain.built_in is not None and chain.cell.expect is None:
            from builder.portability_grid_check import foreseen

            own["expected"] = foreseen(own)
        if chain.cell.id in located:
            own["located"] = located[chain.cell.id]
        own["reused"] = not any(step.wanted for step in chain.steps())
        out.append(own)
    return out


def _mark(chain: Chain) -> str:
    """Cells of the portability grid are no evidence of what a stack builds either: an engine of another one failed there."""
    return ".suite" if chain.suite is not None else ".grid" if chain.built_in is not None else ""


def _lasting(chain: Chain, found: dict[str, Any]) -> bool:
    return found["category"] != "infrastructure" and all(
        step.done or found["status"] not in ("skipped", "blocked") for step in chain.steps()
    )


@functools.cache
def _outcome_code() -> str:
    """Hash of what turns records into outcomes, so that a better diagnosis is seen without running anything again."""
    sha = hashlib.sha256()
    here = Path(__file__).parent
    for path in (
        here / "outcome.py",
        here / "conformance.py",
        *sorted(here.glob("diagnose*.py")),
        *sorted(here.glob("portability*.py")),
        *sorted(here.glob("enginefile*.py")),
        *sorted((here / "catalog").glob("*.yaml")),
    ):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def deliver(plan: Plan, store: Store, cells: Sequence[dict[str, Any]], *, again: bool, new: bool = True) -> None:
    """`artifacts/engines/<cell>/`: the engine and a manifest that says where it will load and what became of it, for people
    and deployments. A cell without an engine, or whose engine was not kept, has no folder. Unless `again`, only what is
    missing is delivered; unless `new`, nothing is, and only folders of engines that are gone go."""
    from builder.manifest import manifest

    root = store.root / "engines"
    have = {path.name for path in root.iterdir()} if root.is_dir() else set()
    todo = []
    for chain, cell in zip(plan.chains, cells, strict=True):
        if chain.built_in is not None:
            continue  # its engine is that of the cell that builds it
        built = chain.build.state == "stored" and cell["artifact"] is not None
        if built and (again or chain.cell.folder not in have):
            name = chain.build.output
            if not (store.root / "objects" / name[:2] / name).exists():
                # Not kept, or removed by hand since; what an earlier run delivered is of another build.
                shutil.rmtree(root / chain.cell.folder, ignore_errors=True)
            elif new:
                todo.append((chain, cell))
        elif not built and chain.cell.folder in have and cell["status"] not in ("skipped", "blocked"):
            shutil.rmtree(root / chain.cell.folder, ignore_errors=True)
    records = store.steps(key for chain, _ in todo for key in (chain.build.key, chain.engine.key) if key)
    for chain, cell in todo:
        record = records[chain.build.key]
        source = store.root / record.record["artifact"]["path"]
        folder = root / chain.cell.folder
        folder.mkdir(parents=True, exist_ok=True)
        paths = [store.root / entry["path"] for entry in record.record.get("data", ())]
        for path, target in [
            *((path, folder / path.name) for path in paths),
            (source, folder / ("engine" + source.suffix)),
        ]:
            if path.exists() and (not target.exists() or not target.samefile(path)):
                beside = folder / f".engine.{os.getpid()}"
                beside.unlink(missing_ok=True)
                os.link(path, beside)
                os.replace(beside, target)
        text = json.dumps(manifest(chain, record, records.get(chain.engine.key), cell), indent=1, sort_keys=True)
        store.write_text(folder / "manifest.json", text + "\n")


def write_report(project: Project, report: dict[str, Any], *, always: bool = False) -> bool:
    """Write `artifacts/report/` unless it is there and already says exactly this; whether it was written. Its page to choose a
    stack says more than this run's cells, and is looked at by itself."""
    from builder.report import choose

    mark = project.report / ".digest"
    content = digest(
        [
            report["counts"],
            [
                [c["key"], c["status"], c["expected"], (c.get("located") or {}).get("when"), c.get("repro")]
                for c in report["cells"]
            ],
            report["isolation"],
            report["predictions"],
            _report_code(),
        ]
    )
    there = all((project.report / name).exists() for name in ("report.json", "report.md", "report.html", "junit.xml"))
    same = False
    with contextlib.suppress(OSError):
        known = mark.read_text(encoding="utf-8") == content + _details(project.report)
        same = not always and there and report["run"]["steps"] == 0 and known
    if same:
        choose.write(project, report)
        return False
    from builder.report import build_report
    from builder.report.since import since

    report["since"] = since(Store(project.artifacts), report)
    build_report(report, project.report, choose=True)
    choose.write(project, report, always=always)
    write(mark, content + _details(project.report))
    return True


def _details(folder: Path) -> str:
    """The folders with details that lie beside the page (report/page.py): without its own it is not whole."""
    return "".join(f" {path.name}" for path in sorted(folder.glob("cells-*")))


def _report_code() -> str:
    sha = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*(here / "report").rglob("*"), *here.glob("conflict_rules*.py"), here / "boundaries.py"]):
        if path.is_file() and path.suffix != ".pyc":
            sha.update(path.read_bytes())
    return sha.hexdigest()


def _cells(fail: int) -> str:
    return f"{fail} cell fails" if fail == 1 else f"{fail} cells fail"


def exit_code(report: dict[str, Any], policy: str) -> tuple[int, str]:
    """DESIGN's exit codes under a `--fail-on` policy: never, failed, unexpected, infra."""
    from builder.outcome import unexpected

    cells = report["cells"]
    infra = sum(cell["status"] == "blocked" and cell["category"] == "infrastructure" for cell in cells)
    behind = sum(cell["status"] == "blocked" and cell["category"] != "infrastructure" for cell in cells)
    red = sum(unexpected(cell) for cell in cells) + behind
    failing = sum(cell["status"] in FAILING for cell in cells) + behind
    if report["run"]["interrupted"]:
        return errors.EXIT_INTERRUPTED, "interrupted; run again to continue"
    if policy == "failed" and failing:
        return errors.EXIT_FAILURES, f"{_cells(failing)}, expected or not"
    if policy == "unexpected" and red:
        return errors.EXIT_FAILURES, f"{_cells(red)} that nobody expected to"
    if policy != "never" and infra:
        return (
            errors.EXIT_INFRASTRUCTURE,
            f"{infra} {'cell' if infra == 1 else 'cells'} could not be tried: infrastructure",
        )
    if report["run"]["over_budget"]:
        return errors.EXIT_BUDGET, "the time budget ended; run again to continue"
    return errors.EXIT_OK, "as expected" if failing else "nothing fails"
