"""`enginematrix rules`: what explains the failures of the stored results, and where along releases they begin."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from builder.cli_options import add_selection, work_of
from builder.errors import EXIT_OK

HELP = "Say which axis values explain the failures, with the entry to paste, and between which releases they begin."
BOUNDARIES = 40
"""Boundaries that are printed; the report has them all."""
NAMED = 5
"""Cells that are named as counter-examples."""


def add(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument(
        "--json", action="store_true", help="`rules` and `boundaries` as in report.json (default: text)"
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="only rules about failures that no `expect:` of the matrix foresaw (default: all)",
    )


def call(options: argparse.Namespace) -> int:
    """Print the rules and boundaries of the selected cells. Runs nothing, writes nothing."""
    from builder import facts, pipeline
    from builder.boundaries import boundaries
    from builder.conflict_rules import rules

    cells = pipeline.stored(work_of(options), command="enginematrix rules", policy="never", write=False).report["cells"]
    found: dict[str, Any] = {"rules": rules(cells), "boundaries": boundaries(cells, facts.releases())}
    if options.new:
        found["rules"]["rules"] = [rule for rule in found["rules"]["rules"] if _new(rule, cells)]
    print(
        json.dumps(found, indent=1, ensure_ascii=False)
        if options.json
        else "\n".join(lines(found, cells, new=options.new))
    )
    return EXIT_OK


def _new(rule: dict[str, Any], cells: list[dict[str, Any]]) -> bool:
    mine = set(rule["cells"])
    return any(cell["id"] in mine and (cell["expected"] or {}).get("state") != "expected" for cell in cells)


def lines(found: dict[str, Any], cells: list[dict[str, Any]], *, new: bool = False) -> Iterator[str]:
    """The text of the command."""
    slugs = {cell["id"]: cell["slug"] for cell in cells}
    rules = found["rules"]
    for rule in rules["rules"]:
        yield rule["text"]
        if rule["other"]:
            yield f"    {rule['other']} more fit and fail in another way, which may hide it"
        yield from (f"    works all the same: {slugs[cell]}" for cell in rule["counterexamples"][:NAMED])
        if len(rule["counterexamples"]) > NAMED:
            yield f"    and {len(rule['counterexamples']) - NAMED} more of them"
        if rule["alike"]:
            yield f"    these cells cannot tell it from: {'; '.join(one['when'] for one in rule['alike'])}"
        yield from (f"    {line}" for line in rule["expect"].splitlines())
        if rule["constraint"]:
            yield f"    or, under constraints: {rule['constraint']}"
    for item in rules["unexplained"]:
        number = len(item["cells"])
        why = (
            "nothing passes there that it could be held against"
            if not item["passing"]
            else "no rule is better than luck"
        )
        yield f"{number} {'cell fails' if number == 1 else 'cells fail'} in {item['phase']}, {item['category']}: {why}"
    if not rules["rules"] and not rules["unexplained"]:
        tried = any(cell["status"] not in ("skipped", "blocked", "unsupported") for cell in cells)
        yield (
            f"nothing fails {'unexpectedly ' if new else ''}that a rule could explain"
            if tried
            else "nothing was tried yet: there is nothing to explain"
        )
    if rules["limited"]:
        yield "a search was cut short: a rule of many conditions may be missing"
    for item in found["boundaries"][:BOUNDARIES]:
        row = "row" if item["count"] == 1 else "rows"
        yield f"{item['text']} ({item['count']} {row}: {', '.join(item['models'])})"
    if len(found["boundaries"]) > BOUNDARIES:
        yield f"and {len(found['boundaries']) - BOUNDARIES} more boundaries; --json prints them, report.html shows them"
