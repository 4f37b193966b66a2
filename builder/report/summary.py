"""The end of a run in the terminal: outcomes by engine stack, findings with what to do, and where the report is.

It fits the columns there are, from 40 on: names lose their middle, and where even that is not enough each stack has lines of its
own in place of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.diagnose_unknown import SHOWN as UNKNOWN
from builder.diagnose_unknown import Unknown, unknown
from builder.project import program
from builder.report import terminal
from builder.report.terminal import STYLE, clean, shortened
from builder.report.words import duration
from builder.values import STATUSES

LEAST = 24
"""Columns that a stack's name needs to be told from others; with fewer there is no table."""
NARROW = 60
"""Columns below which sentences do not stand beside their count."""
SHOWN = 10
"""Findings that are named; the others are counted."""
MANY = 50
"""The same where nothing else is asked for."""


def summary(report: Mapping[str, Any], console: Any, where: Path | str | None = None) -> None:
    """Outcomes by engine stack, findings, and where the report is.

    `console` is a rich Console (terminal.console); `report` is docs/report-schema.md, with or without findings.
    """
    from rich.text import Text

    from builder.report import predictions
    from builder.report.assemble import findings
    from builder.report.operators import fold

    report = {**fold(report)[0], "findings": report["findings"]} if "findings" in report else fold(report)[0]
    cells = report["cells"]
    used = [status for status in STATUSES if report["counts"][status]]
    tally: dict[str, dict[str, int]] = {}
    for cell in cells:
        row = tally.setdefault(cell["engine"]["id"], dict.fromkeys(STATUSES, 0))
        row[cell["status"]] += 1
    for line in report.get("suites", ()):
        tally[f"{line['engine']['id']} {line['suite']}"] = line["counts"]
    console.print()
    _stacks(console, tally, used, report["counts"])
    found = report["findings"] if "findings" in report else findings(cells)
    by_id = {cell["id"]: cell for cell in cells}
    shown = [finding for finding in found if not finding["expected"]]
    if shown:
        console.print()
    for finding in shown[:SHOWN]:
        _finding(console, finding, by_id)
    if len(shown) > SHOWN:
        console.print(Text(f"     and {len(shown) - SHOWN} more findings in the report", style="dim"))
    _unknown(console, unknown(found, by_id))
    known = sum(finding["count"] for finding in found if finding["expected"])
    if known:
        console.print(Text(f"{known:>4} expected failures (named under `expect:` in the matrix)", style="dim"))
    scored = report["predictions"]
    if scored["rules"]:
        console.print(_hanging(Text(predictions.headline(scored), style="dim")))
    for claim in predictions.refutations(scored):
        console.print(_hanging(Text(f"a wrong fact: {clean(predictions.refutation(claim))}", style="yellow")))
    console.print()
    took = duration(report["run"]["seconds"])
    console.print(Text(f"{report['counts']['verified']} of {report['selected']} cells verified in {took}"))
    if where:
        console.print(Text.assemble("Report: ", (str(where), terminal.link(where, console.file))), soft_wrap=True)


def _unknown(console: Any, gaps: Sequence[Unknown]) -> None:
    """What no signature explains, and how to see what one would be made from."""
    from rich.text import Text

    if gaps:
        many = sum(gap.count for gap in gaps)
        told = f"{many} undiagnosed: no signature of the catalogue explains them; please send what these print"
        console.print(_hanging(Text(told, style="yellow")))
    for gap in gaps[:UNKNOWN]:
        console.print(_hanging(Text.assemble((clean(gap.command), "bold"), f"  {clean(gap.line)}")))


def failures(report: Mapping[str, Any], console: Any) -> None:
    """What fails, most cells first, what nobody expected before all else: why, what to do, and a cell to look at."""
    from rich.text import Text

    from builder.report.assemble import findings

    cells = report["cells"]
    found = report["findings"] if "findings" in report else findings(cells)
    by_id = {cell["id"]: cell for cell in cells}
    known = [finding for finding in found if finding["expected"]]
    for group in ([finding for finding in found if not finding["expected"]], known):
        if group is known and known:
            console.print(Text("expected, by `expect:` in the matrix", style="dim"))
        for finding in group[:MANY]:
            _finding(console, finding, by_id)
        if len(group) > MANY:
            console.print(Text(f"     and {len(group) - MANY} more findings in the report", style="dim"))
    gone = sum(cell["status"] in ("skipped", "unsupported") for cell in cells)
    if gone:
        why = f"{gone} more failed last time, and what they are made of changed since: run again to see"
        console.print(_hanging(Text(why, style="dim")))
    if not found and not gone:
        console.print(Text("Nothing failed last time."))


def _stacks(
    console: Any, tally: Mapping[str, Mapping[str, int]], used: Sequence[str], counts: Mapping[str, int]
) -> None:
    from rich.table import Table
    from rich.text import Text

    marks = terminal.marks(console.encoding)
    longest = max((len(name) for name in tally), default=0)
    for words, gap in (
        (True, 2),
        (False, 2),
        (False, 1),
    ):  # the roomiest that leaves the names whole, else the least one
        heads = [f"{marks[status]} {status}" if words else marks[status] for status in used]
        numbers = [max(len(str(counts[status])), len(head)) + gap for status, head in zip(used, heads, strict=True)]
        room = console.width - sum(numbers)
        if longest <= room:
            break
    if room < min(LEAST, longest):
        _listed(console, tally, used, counts, marks)
        return
    table = Table(
        box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim", show_footer=True, footer_style="bold"
    )
    table.add_column("engine stack", "all", no_wrap=True)
    for status, head in zip(used, heads, strict=True):
        table.add_column(Text(head, style=STYLE[status]), str(counts[status]), justify="right", no_wrap=True)
    none = "." if marks is terminal.ASCII else "·"
    for name, row in tally.items():
        numbers_ = (Text(str(row[s]), style=STYLE[s]) if row[s] else Text(none, style="dim") for s in used)
        table.add_row(Text(shortened(name, room)), *numbers_)
    console.print(table)
    if not words:
        console.print(Text(", ".join(f"{marks[status]} {status}" for status in used), style="dim"))


def _listed(
    console: Any, tally: Mapping[str, Mapping[str, int]], used: Sequence[str], counts: Mapping[str, int],
    marks: Mapping[str, str],
) -> None:  # fmt: skip
    """Two lines for each stack, where there is no room for a table."""
    from rich.text import Text

    for name, row in [*tally.items(), ("all", counts)]:
        console.print(Text(shortened(name, console.width), style="bold" if row is counts else ""))
        parts = [part for s in used if row[s] for part in ((f"{marks[s]}{row[s]}", STYLE[s]), " ")]
        console.print(_hanging(Text.assemble(*parts)), style=None)
    console.print(Text(", ".join(f"{marks[status]} {status}" for status in used), style="dim"))


def _finding(console: Any, finding: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.text import Text

    from builder.report.assemble import stacks

    where = stacks((by_id[cell]["engine"] for cell in finding["cells"]), 6)
    count = f"{finding['count']:>4} {'cell ' if finding['count'] == 1 else 'cells'} "
    head = Text.assemble(
        (finding["status"], STYLE[finding["status"]]), f"  {clean(finding['title'])}", (f"  {where}", "dim")
    )
    if console.width < NARROW:
        console.print(_hanging(Text.assemble((count, "bold"), head), ""))
    else:
        console.print(_hanging(head, Text(count, style="bold")))
    under = "    " if console.width < NARROW else " " * len(count)
    if finding["remedy"]:
        console.print(_hanging(Text(clean(finding["remedy"]), style="dim"), under))
    console.print(
        _hanging(Text(f"{program(by_id[finding['cells'][0]])} show {finding['cells'][0]}", style="dim"), under)
    )


def _hanging(text: Any, before: Any = "     ") -> Any:
    """Text beside what stands before its first line, and under itself from then on."""
    from rich.table import Table

    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(before, text)
    return grid
