"""Findings, and the files of a report, written so that a reader never sees a half-written one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder import diagnose
from builder.diagnose import group_key
from builder.values import FAILING

#: Outcomes that are explained: the failing ones, and what a failed step keeps from running.
EXPLAINED = FAILING | {"blocked"}

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.I)


def findings(cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Equal failures across cells, most cells first (docs/report-schema.md, FINDING).

    Equal: same status, category, signature and diagnosis; where no signature filled one, the same got in place of what was
    asked, or the same normalised line. What is
    stated of a group holds for each of its cells; only `line` is the first cell's, and `lines` says how many there
    are.
    """
    groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell["status"] not in EXPLAINED:
            continue
        line = cell["line"] or cell["reason"]
        if cell["status"] in ("mismatch", "degraded") and not cell["signature"]:
            # What was got in place of what was asked is the cause, whichever output shows it and however a library tells of it.
            line = cell["diagnosis"] if cell["degraded"] else _NUMBER.sub("#", f"{line} {cell['diagnosis']}")
        key = group_key(cell["status"], cell["category"], cell["signature"], line, cell["diagnosis"])
        groups.setdefault((key, _is_expected(cell)), []).append(cell)
    out = [_finding(group, expected) for (_, expected), group in groups.items()]
    return sorted(out, key=lambda f: (-f["count"], f["status"], f["title"], f["cells"]))


def _is_expected(cell: Mapping[str, Any]) -> bool:
    return bool(cell["expected"]) and cell["expected"]["state"] == "expected"


def _finding(group: Sequence[Mapping[str, Any]], expected: bool) -> dict[str, Any]:
    first = group[0]
    lines = Counter(cell["line"] for cell in group)

    def shared(name: str) -> Any:
        values = {cell[name] for cell in group}
        return first[name] if len(values) == 1 else None

    return {
        "category": first["category"], "signature": first["signature"], "line": first["line"], "lines": len(lines),
        "diagnosis": shared("diagnosis"), "remedy": shared("remedy"), "source": shared("source"),
        "status": first["status"],
        "title": shared("diagnosis") or first["line"] or first["reason"] or first["status"], "expected": expected,
        "cells": [cell["id"] for cell in group], "count": len(group),
        "engines": list(dict.fromkeys(cell["engine"]["id"] for cell in group)),
        "models": list(dict.fromkeys(cell["axes"]["model"] for cell in group)),
    }  # fmt: skip


def undiagnosed(cells: Iterable[Mapping[str, Any]]) -> int:
    """How many cells failed in a way that the catalogue does not know: its gaps are counted, not hidden."""
    return sum(diagnose.undiagnosed(cell) for cell in cells)


def complete(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with `findings`, `undiagnosed`, `coverage`, `rules` and `boundaries`."""
    from builder import boundaries, conflict_rules, facts  # imported here: they compare versions
    from builder.report.coverage import coverage

    cells = report["cells"]
    return {
        **report, "findings": findings(cells), "undiagnosed": undiagnosed(cells), "coverage": coverage(cells),
        "rules": conflict_rules.rules(cells), "boundaries": boundaries.boundaries(cells, facts.releases()),
    }  # fmt: skip


def stacks(engines: Iterable[Mapping[str, Any]], limit: int = 0) -> str:
    """Engine stacks in few words: `onnxruntime 1.15.1, 1.16.3; tensorrt-rtx 1.7.1.116 (cuda 12, 13)`; where they are
    more than `limit` (0: no limit) their number: `8 onnxruntime, 5 tensorrt-rtx stacks`."""
    unique = {engine["id"]: engine for engine in engines}
    if limit and len(unique) > limit:
        number = Counter(engine["family"] for engine in unique.values())
        return ", ".join(f"{n} {family}" for family, n in number.items()) + " stacks"
    # A release with a package added is another stack than the same one without.
    families: dict[str, dict[tuple[str, tuple[str, ...]], dict[str, list[str]]]] = {}
    for engine in unique.values():
        fields = dict(engine["fields"])
        version = fields.pop(engine["family"], "")
        fields.pop("python", None)
        more = families.setdefault(engine["family"], {}).setdefault((version, tuple(fields)), {})
        for name, value in fields.items():
            if value not in more.setdefault(name, []):
                more[name].append(value)
    out = []
    for family, versions in families.items():
        named = [
            version + (f" ({'; '.join(f'{k} ' + ', '.join(v) for k, v in more.items())})" if more else "")
            for (version, _), more in versions.items()
        ]
        out.append(f"{family} {', '.join(named)}".strip())
    return "; ".join(out)


def build_report(report: dict[str, Any], out: Path, *, choose: bool = False) -> None:
    """Write report.json, report.md, report.html, junit.xml and assets into the folder `out`. `choose`: choose.html is, or will
    be, beside them (builder/report/choose.py), and report.html leads to it.

    `report` is docs/report-schema.md without findings. Each file is written beside and renamed, report.json last, so
    an interrupted write leaves the old report or the new one. Raises OSError when the folder cannot be written.
    """
    from builder.report import junit, markdown, operators, operators_page, page

    folded, cases = operators.fold(report)
    full = complete({**folded, **({"operators": True} if cases else {})})
    out.mkdir(parents=True, exist_ok=True)
    for source in page.assets():
        _copy(source, out / "assets" / source.name)
    if cases:
        data = operators.table(report, cases)
        write(out / "operators.html", operators_page.render(data))
        write(out / "operators.csv", operators.csv_text(data))
        write(out / "operators.json", json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        for name in operators.FILES:  # those of another selection
            (out / name).unlink(missing_ok=True)
    html = page.render(full, choose=choose, root=out.parent, out=out)
    write(out / "report.html", html)
    page.sweep(out, html)
    write(out / "report.md", markdown.render(full))
    write(out / "junit.xml", junit.render(full))
    write(out / "report.json", document(full))


def document(report: Mapping[str, Any]) -> Iterator[str]:
    """report.json in pieces: a line for each cell and for each other entry, so that it can be searched by line, and that it is
    never in memory as a whole (a cell is about 7 KB)."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for at, (name, value) in enumerate(report.items()):
        yield ("{\n" if at == 0 else ",\n") + encode(name) + ": "
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield ("[\n" if number == 0 else ",\n") + encode(item)
            yield "\n]" if value else "[]"
        else:
            yield encode(value)
    yield "\n}\n"


def write(path: Path, text: str | Iterable[str]) -> None:
    """The whole file, given at once or in pieces, or none of it. What UTF-8 cannot hold (lone surrogates of undecodable paths)
    becomes `?`."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines([text] if isinstance(text, str) else text)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    try:
        shutil.copyfile(source, name)
        Path(name).chmod(0o644)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
