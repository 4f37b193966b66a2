"""`enginematrix show CELL`: one cell as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def text(cell: dict[str, Any], artifacts: Path, *, logs: bool, claims: Sequence[Mapping[str, Any]] = ()) -> str:
    """Everything known of a cell, for a terminal. `logs` prints the logs themselves instead of where they are; `claims` is
    what the facts say of it (`predictions` of the report)."""
    rows = [
        ("cell", f"{cell['id']}  {cell['slug']}"),
        ("outcome", f"{cell['status']} at {cell['stage']}: {cell['reason']}"),
        ("category", _with(cell["category"], cell["signature"])),
        ("error line", cell["line"]),
        ("diagnosis", cell["diagnosis"]),
        ("remedy", cell["remedy"]),
        ("source", cell["source"]),
        ("expected", _expected(cell.get("expected"))),
        ("engine", _stack(cell["engine"])),
        ("built on", _stack(cell["built_on"]) if "built_on" in cell else ""),
        ("check said", f"{cell['check']['verdict']}: {cell['check']['because']}" if cell.get("check") else ""),
        ("exporter", _stack(cell["exporter"])),
        ("python", cell["python"]),
        ("isolation", _isolation(cell)),
        ("machine", _machine(cell.get("machine"))),
        ("run", cell["when"]),
        ("reproduce", cell["command"]),
    ]
    out = [f"{name:<11} {value}" for name, value in rows if value]
    for entry in cell["degraded"]:
        out.append(f"{'differs':<11} asked {entry['asked']}, got {entry['got']}: {entry['how']}")
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
        out.append(f"{'facts':<11} {claim['subject']}: {told}")
    for piece in (cell.get("files") or {}).get("subgraphs", ()):
        size = f"{len(piece['nodes'])} of {piece['of']} nodes: {', '.join(piece['nodes'][:4])}"
        out.append(f"{'refused':<11} {artifacts / piece['path']} ({size})")
    for picture in (cell.get("files") or {}).get("pictures", ()):
        out.append(f"{'picture':<11} {artifacts / picture['path']} ({picture['name']}: reference, engine, difference)")
    if cell.get("located"):
        from builder.locate_kept import lines

        out += lines(cell["located"], artifacts)
    elif cell["status"] == "mismatch":
        out.append(f"{'where':<11} `enginematrix locate {cell['id']}` finds the first tensor that goes wrong")
    out.append("stages")
    seen: set[str] = set()
    for stage in cell["stages"]:
        took = "" if stage["seconds"] is None else f"{stage['seconds']:9.3f} s"
        where = "" if not stage["log"] else str(artifacts / stage["log"])
        out.append(f"  {stage['stage']:<12} {stage['state']:<12} {took:>12}  {where}".rstrip())
        if logs and stage["log"] and stage["log"] not in seen:
            seen.add(stage["log"])
            content = _read(artifacts / stage["log"])
            out += [f"    | {line}" for line in content.splitlines()]
    out += _comparison(cell["comparison"])
    if cell["measure"]:
        measure = cell["measure"]
        timing = f"median {measure['median'] * 1e3:.3f} ms" if measure["median"] else "did not settle: no number"
        out.append(f"timing      {timing} ({measure['samples']} samples)")
        speedup = measure.get("speedup")
        if speedup and speedup["low"] is not None:
            ratio = f"{speedup['ratio']:.2f} x" if speedup["ratio"] else "unstable, between"
            span = f"{speedup['low']:.2f} to {speedup['high']:.2f}"
            out.append(f"speed-up    {ratio} ({span}) over {measure['baseline']['name']}")
        elif measure.get("no_baseline"):
            out.append(f"speed-up    no baseline: {measure['no_baseline']}")
    libraries = (cell["loaded"] or {}).get("libraries") or []
    if libraries:
        out.append(f"loaded libraries ({len(libraries)})")
        out += [f"  {library.get('path') or library['name']}" for library in libraries]
    return "\n".join(out)


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


def _with(category: str | None, signature: str | None) -> str:
    return f"{category} ({signature})" if category and signature else category or ""


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
