"""`enginematrix show CELL`: one cell as text."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder import history_timing
from builder.diagnose import undiagnosed
from builder.diagnose_unknown import command
from builder.project import program
from builder.report import story, versions


def text(
    cell: dict[str, Any], artifacts: Path, *, logs: bool, claims: Sequence[Mapping[str, Any]] = (),
    near: Sequence[Mapping[str, Any]] = (), releases: int = 0, width: int = 0,
) -> str:  # fmt: skip
    """Everything known of a cell, for a terminal. `logs` prints the logs themselves instead of where they are; `claims` is
    what the facts say of it (`predictions` of the report); `near` other cells, of which those that differ in one axis are told;
    `releases`: cells of the matrix that are this one on another release of its engine; `width`: columns that sentences are
    folded to, 0 for none."""
    rows = [
        ("cell", f"{cell['id']}  {cell['slug']}"),
        ("outcome", f"{cell['status']} at {cell['stage']}: {cell['reason']}"),
        ("category", _category(cell)),
        ("error line", cell["line"]),
        ("diagnosis", cell["diagnosis"]),
        ("remedy", cell["remedy"]),
        ("source", cell["source"]),
        ("expected", _expected(cell.get("expected"))),
        ("engine", _stack(cell["engine"])),
        *(("not loaded", line) for line in _declared(cell)),
        ("built on", _stack(cell["built_on"]) if "built_on" in cell else ""),
        ("check said", f"{cell['check']['verdict']}: {cell['check']['because']}" if cell.get("check") else ""),
        ("exporter", _stack(cell["exporter"])),
        ("python", cell["python"]),
        ("isolation", _isolation(cell)),
        ("machine", _machine(cell.get("machine"))),
        ("run", cell["when"]),
        ("reproduce", cell["command"]),
    ]
    out = [_folded(name, value, width) for name, value in rows if value]
    out += _excerpt(cell, artifacts) if not logs else []
    out += _neighbours(cell, near, releases)
    for entry in cell["degraded"]:
        out.append(_folded("differs", f"asked {entry['asked']}, got {entry['got']}: {entry['how']}", width))
    out += _left(cell.get("found") or {})
    if cell["artifact"]:
        folder = artifacts / "engines" / cell["folder"]
        where = folder if folder.exists() else "not kept (`enginematrix run` makes it anew)"
        if "built_on" in cell:
            where = Path(cell["artifact"]["path"])
            where = artifacts / where if (artifacts / where).exists() else "not kept"
        out.append(f"{'engine file':<11} {where} ({cell['artifact']['bytes']} bytes)")
    for claim in claims:
        told = f"refuted, {claim['refuted']}" if claim["refuted"] else f"{claim['state']}: {claim['because']}"
        out.append(_folded("facts", f"{claim['subject']}: {told}", width))
    for piece in (cell.get("files") or {}).get("subgraphs", ()):
        size = f"{len(piece['nodes'])} of {piece['of']} nodes: {', '.join(piece['nodes'][:4])}"
        out.append(f"{'refused':<11} {artifacts / piece['path']} ({size})")
    for picture in (cell.get("files") or {}).get("pictures", ()):
        out.append(f"{'picture':<11} {artifacts / picture['path']} ({picture['name']}: reference, engine, difference)")
    if cell.get("located"):
        from builder.locate_kept import lines

        out += lines(cell["located"], artifacts)
    elif cell["status"] == "mismatch":
        out.append(f"{'where':<11} `{program(cell)} locate {cell['id']}` finds the first tensor that goes wrong")
    if cell.get("repro"):
        told = cell["repro"]
        whose = (
            ""
            if told["own"]
            else f", of a cell that fails alike (`{program(cell)} repro {cell['id']} --folder`: its own)"
        )
        out.append(
            f"{'for others':<11} {artifacts / told['path']}{whose}"
            if told["path"]
            else f"{'for others':<11} no folder: {told['why']}"
        )
    out.append("stages")
    seen: set[str] = set()
    for stage in cell["stages"]:
        took = "" if stage["seconds"] is None else f"{stage['seconds']:9.3f} s"
        where = "" if not stage["log"] else str(artifacts / stage["log"])
        name = stage["step"] if stage.get("step") in ("calibrate", "convert") else stage["stage"]
        out.append(f"  {name:<12} {stage['state']:<12} {took:>12}  {where}".rstrip())
        if logs and stage["log"] and stage["log"] not in seen:
            seen.add(stage["log"])
            content = _read(artifacts / stage["log"])
            out += [f"    | {line}" for line in content.splitlines()]
    out += _comparison(cell["comparison"])
    if cell["measure"]:
        measure = cell["measure"]
        timing = f"median {measure['median'] * 1e3:.3f} ms" if measure["median"] else "did not settle: no number"
        within = versions.interval(measure)
        between = f", {within[0] * 1e3:.3f} to {within[1] * 1e3:.3f} by its windows" if within else ""
        out.append(f"timing      {timing}{between} ({measure['samples']} samples)")
        if history_timing.busy(measure, cell.get("machine")):
            share = versions.others(measure, cell.get("machine"))
            out.append(
                f"  busy      other processes had {share:.0%} of the machine, so that this says little of the engine"
            )
        out += _windows(measure)
        speedup = measure.get("speedup")
        if speedup and speedup["low"] is not None:
            ratio = f"{speedup['ratio']:.2f} x" if speedup["ratio"] else "unstable, between"
            span = f"{speedup['low']:.2f} to {speedup['high']:.2f}"
            of = f" ({measure['baseline']['of']})" if measure["baseline"].get("of") else ""
            out.append(f"speed-up    {ratio} ({span}) over {measure['baseline']['name']}{of}")
        elif measure.get("no_baseline"):
            out.append(f"speed-up    no baseline: {measure['no_baseline']}")
    libraries = (cell["loaded"] or {}).get("libraries") or []
    if libraries:
        out.append(f"loaded libraries ({len(libraries)})")
        out += [f"  {library.get('path') or library['name']}" for library in libraries]
    return "\n".join(out)


def _folded(name: str, value: Any, width: int) -> str:
    """A row, its value folded to the columns of a terminal that has enough of them."""
    line = f"{name:<11} {value}"
    if width < 40 or len(line) <= width:
        return line
    return textwrap.fill(
        line, width, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
        replace_whitespace=False,
    )  # fmt: skip


def _excerpt(cell: Mapping[str, Any], artifacts: Path) -> list[str]:
    """The log around the line that matters, of a cell that failed."""
    if cell["status"] in story.GOOD or cell["status"] in ("unsupported", "skipped"):
        return []
    found = story.excerpt(cell, artifacts)
    if found is None:
        return []
    last = found["first"] + len(found["lines"]) - 1
    told = f"lines {found['first']} to {last} of {found['of']}{' and more' if found['cut'] else ''}, stage {found['stage']}"
    if found["at"] is None:
        told += "; the error line is not in it"
    out = [f"{'log':<11} {artifacts / found['log']} ({told})"]
    for number, line in enumerate(found["lines"], start=found["first"]):
        out.append(f"  {'>' if number == found['at'] else ' '}{number:>6} | {line}".rstrip())
    return out


def _declared(cell: dict[str, Any]) -> list[str]:
    return [
        f"{row['role']} {row['name']}: {row['declared']} was declared, {row['loaded']} was loaded"
        for row in story.declared(cell)
        if row["same"] is False
    ]


def _neighbours(cell: Mapping[str, Any], near: Sequence[Mapping[str, Any]], releases: int) -> list[str]:
    rows = story.neighbours(cell, near)
    out = ["differs from this cell in one axis only"] if rows else []
    sign = {"lower": "below", "higher": "above", "": ""}
    for row in rows:
        other = row["cell"]
        axis, value = row["axis"].removeprefix("engine."), row["value"] or "not given"
        if row["axis"].endswith(".family"):  # another library, and with it all of its stack
            axis, value = "instead", other[row["axis"].removesuffix(".family")]["id"]
        told = other["diagnosis"] if other["status"] != "unsupported" else ""  # which says the reason at length
        told = textwrap.shorten(told or other["line"] or other["reason"] or "", 90, placeholder=" …")
        why = f": {told}" if told and other["status"] not in story.GOOD else ""
        out.append(f"  {other['id']}  {axis + ' ' + value:<46} {sign[row['side']]:<5}  {other['status']}{why}")
    if releases and not any(row["axis"].startswith("engine.") and row["side"] for row in rows):
        told = f"{releases} other release{'s' if releases > 1 else ''} of its engine in the matrix"
        out.append(f"{'untried':<11} on {told}: `{program(cell)} run --select {shlex.quote(story.along(cell))}`")
    return out


def _windows(measure: Mapping[str, Any]) -> list[str]:
    """The medians of the windows, in the order in which they were taken."""
    medians = [window["median"] * 1e3 for window in measure.get("windows") or () if window.get("median")]
    return [f"  windows   {', '.join(f'{value:.3f}' for value in medians)} ms"] if medians else []


def _left(found: dict[str, Any]) -> list[str]:
    """By name, what was left in another precision than asked, and what a delegate left to the library: ten of each."""
    rows = [
        f"{item['operator']} {item['node']} in {item['precision']}".replace("  ", " ")
        for item in found.get("left") or ()
    ]
    own = [f"{item['operator']} {item['node']} by the library itself" for item in found.get("not_delegated") or ()]
    return [f"{'left':<11} {text}" for group in (rows, own if found.get("delegated") else []) for text in group[:10]]


def _isolation(cell: dict[str, Any]) -> str:
    ways = cell["isolation"]
    text: str = (
        ways["engine"] if ways["engine"] == ways["exporter"] else f"{ways['engine']}, exporter {ways['exporter']}"
    )
    image = cell["image"]
    return f"{text}: {image['tag']} from {image['base']}@{image['digest']}" if image else text


def _comparison(comparison: dict[str, Any] | None) -> list[str]:
    if not comparison:
        return []
    out = [f"comparison  {comparison['verdict']}{': ' + comparison['reason'] if comparison.get('reason') else ''}"]
    for row in comparison.get("outputs") or ():
        numbers = ", ".join(
            f"{name} {row[name]:.3g}"
            for name in ("mismatched", "max_abs", "p99_abs", "cosine", "snr_db")
            if row.get(name) is not None
        )
        noise = (row.get("noise") or {}).get("max_abs")
        floor = f", noise floor {noise:.3g}" if noise is not None else ""
        out.append(f"  {row['case']} {row['name']} {row['dtype']}{row['shape']}: {row['verdict']}; {numbers}{floor}")
    if comparison.get("metric"):
        metric = comparison["metric"]
        out.append(f"  {metric['name']} {metric['value']:.4g} (at least {metric['minimum']})")
    return out


def _category(cell: Mapping[str, Any]) -> str:
    if undiagnosed(cell):
        return f"{cell['category']}, undiagnosed: please send what `{command(cell)}` prints"
    return (
        f"{cell['category']} ({cell['signature']})"
        if cell["category"] and cell["signature"]
        else cell["category"] or ""
    )


def _machine(machine: dict[str, Any] | None) -> str:
    if not machine:
        return ""
    gpus = ", ".join(f"{gpu['name']} ({gpu['compute_capability']})" for gpu in machine["gpus"]) or "no GPU"
    driver = f", driver {machine['driver']}" if machine["driver"] else ""
    return f"{machine['cpu']}, {gpus}{driver}, {machine['platform']}, glibc {machine['glibc']}"


def _expected(expected: dict[str, Any] | None) -> str:
    return f"{expected['state']} ({expected['where']}): {expected['because']}" if expected else ""


def _stack(stack: dict[str, Any]) -> str:
    fields = [f"{name} {value}" for name, value in stack["fields"].items()]
    return ", ".join(fields if stack["family"] in stack["fields"] else [stack["family"], *fields])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"({error})"
