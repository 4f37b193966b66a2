"""A comparison of two runs in words: for a terminal of 100 columns, and as Markdown for a CI summary. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from builder.history import KINDS
from builder.history_changes import words

WIDTH = 100
NAMES = 3
"""Cells that a group names."""
GROUPS, OTHERS = 12, 3
"""Groups that Markdown shows of a kind, of bad news and of other: a summary is a page."""
_BAD = ("new-failures", "changed-cause", "pass-to-skip")
TITLES = {
    "new-failures": "New failures", "changed-cause": "Changed cause", "pass-to-skip": "Pass to skip", "stale": "Stale",
    "slower": "Slower", "unsettled": "No longer settled", "flaky": "Flaky", "fixed": "Fixed", "proven": "Now verified",
    "faster": "Faster", "not-reached": "Not reached", "first": "First results", "rediagnosed": "Diagnosed otherwise",
}  # fmt: skip


def headline(found: Mapping[str, Any]) -> str:
    """One sentence: "new failures: 2, fixed: 1; 317 cells unchanged"."""
    parts = [f"{TITLES[kind].lower()}: {n}" for kind, n in found["counts"].items() if n]
    silent = f", {found['silent']} told nothing in either" if found["silent"] else ""
    return f"{', '.join(parts) or 'no change'}; {_cells(found['unchanged'])} unchanged{silent}"


def header(found: Mapping[str, Any]) -> Iterator[str]:
    """What is compared, and what changed as a whole."""
    for word in ("old", "new"):
        side = found[word]
        runs = side["runs"]
        name = runs[0] if len(runs) == 1 else f"{side['name']} ({len(runs)} runs)"
        yield f"{word}: {name}, {_cells(side['cells'])} ({side['select'] or 'unknown selection'})" + (
            "" if side["complete"] else ", ended early"
        )
    if found["backwards"]:
        yield "note: the old side began after the new one"
    if not found["asked"]:
        yield "note: another matrix or selection; cells that only one of them holds are no regressions"
        if found["like"] and found["like"] not in found["old"]["runs"]:
            command = f"enginematrix diff {found['like']} {found['new']['runs'][-1]}"
            yield f"note: `{command}` compares with the last run of the same selection"
    for line in words(found["changes"]):
        yield f"changed: {line}"


def groups(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], list[Mapping[str, Any]]]]:
    """Equal ones together, most cells first: (what became of them, what changed beside, the cells)."""
    out: dict[str, tuple[str, list[str], list[Mapping[str, Any]]]] = {}
    for row in rows:
        became, beside = became_of(row), besides(row)
        key = json.dumps([row["cause"] or became, row["expected"], beside])
        out.setdefault(key, (became, beside, []))[2].append(row)
    return sorted(out.values(), key=lambda group: -len(group[2]))


def became_of(row: Mapping[str, Any]) -> str:
    """One cell's change: "verified -> failed at parse, unsupported-operator: GridSample is not ..."."""
    if timing := row.get("timing"):
        return (
            f"{(timing['ratio'] - 1) * 100:+.1f} % ({_milliseconds(timing['old'])} -> {_milliseconds(timing['new'])}, "
            f"interval {(timing['low'] - 1) * 100:+.1f} to {(timing['high'] - 1) * 100:+.1f} %)"
        )
    old, new = row["old"], row["new"]
    if new is None:
        return f"was {old['status']}; {row['why']}"
    arrow = f"{old['status']} -> {new['status']}" if old and old["status"] != new["status"] else str(new["status"])
    if row.get("why"):
        return f"{arrow}: {row['why'].removeprefix(new['status'] + ': ')}"
    if row["cause"] is None:
        return arrow + (
            f" (was {old['category'] or old['stage']}: {old['line'] or old['reason']})" if _was_bad(old) else ""
        )
    told = f"{arrow} at {new['stage']}, {new['category'] or 'no category'}: {new['line'] or new['reason']}"
    if "judged" in row:
        told += f" (was {old['category'] or old['stage']}: {textwrap.shorten(str(old['line'] or old['reason']), 90)})"
    return told + (" (expected)" if row["expected"] == "expected" else "")


def _was_bad(old: Mapping[str, Any] | None) -> bool:
    return old is not None and bool(old["category"])


def besides(row: Mapping[str, Any]) -> list[str]:
    """What changed beside a cell."""
    judged = ["the diagnosis, of another version of this program"] if row.get("judged") == "otherwise" else []
    if row["changes"] is None:
        return [*judged, "unknown: the older run did not keep its lock entries"]
    if row["unexplained"] and not judged:
        return ["nothing that is recorded: not this lock, this machine, this recipe, this worker"]
    return judged + words(row["changes"])


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal, none wider than WIDTH but where a name is."""
    for line in (*header(found), headline(found)):
        yield from wrap(line, "")
    for kind, meaning in KINDS.items():
        rows = found["kinds"][kind]
        if not rows:
            continue
        yield ""
        yield f"{TITLES[kind]}: {_cells(len(rows))} ({meaning})"
        for became, beside, cells in groups(rows):
            yield from wrap(f"{_cells(len(cells))}: {became}", "  ")
            for line in beside:
                yield from wrap(f"beside: {line}", "      ")
            if remedy := next((row["remedy"] for row in cells if row["remedy"]), None):
                yield from wrap(f"remedy: {remedy}", "      ")
            yield from (_fit(f"      {row['id']}  {row['slug']}") for row in cells[:NAMES])
            if len(cells) > NAMES:
                yield f"      and {len(cells) - NAMES} more (--json names them)"
    yield from _timing(found["timing"])


def _timing(timing: Mapping[str, Any]) -> Iterator[str]:
    parts = [f"{_cells(timing['compared'])} compared"]
    if timing["other-machine"]:
        parts.append(f"{timing['other-machine']} not, measured on another machine")
    if timing["busy"]:
        parts.append(f"{timing['busy']} not, measured while other processes were at work")
    if not timing["compared"] and len(parts) == 1:
        return
    noise = "not known" if timing["noise"] is None else f"{timing['noise'] * 100:.1f} %"
    yield ""
    yield from wrap(f"times: {'; '.join(parts)}; threshold {timing['threshold'] * 100:.1f} %, noise floor {noise}", "")


def markdown(found: Mapping[str, Any]) -> str:
    """At most a page and a bit, in GitHub's Markdown."""
    from builder.report.markdown import text

    out = [f"# {text(headline(found))}", "", *(f"- {text(line)}" for line in header(found))]
    for kind, meaning in KINDS.items():
        rows = found["kinds"][kind]
        if not rows:
            continue
        out += ["", f"## {TITLES[kind]}: {_cells(len(rows))}", "", f"*{meaning}*", ""]
        together = groups(rows)
        limit = GROUPS if kind in _BAD else OTHERS
        for became, beside, cells in together[:limit]:
            out.append(f"- **{_cells(len(cells))}** {text(became)}")
            out += [f"  <br>beside: {text(line)}" for line in beside]
            names = ", ".join(text(row["id"]) for row in cells[:NAMES])
            out.append(f"  <br><sub>{names}{f' and {len(cells) - NAMES} more' if len(cells) > NAMES else ''}</sub>")
        if len(together) > limit:
            out.append(f"- and {len(together) - limit} more kinds of change (`enginematrix diff` shows them)")
    out += [f"\n{text(line)}" for line in _timing(found["timing"]) if line]
    return "\n".join(out) + "\n"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"


def wrap(line: str, indent: str) -> Iterable[str]:
    """At most four lines of WIDTH."""
    return textwrap.wrap(plain(line), WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", max_lines=4) or [
        ""
    ]


def plain(line: str) -> str:
    """What a library printed, or another machine sent, may hold anything; a terminal gets text."""
    return "".join(sign if sign.isprintable() else " " for sign in line)


def _fit(line: str) -> str:
    line = plain(line)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
