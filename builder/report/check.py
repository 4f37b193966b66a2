"""Does a report contradict itself? The outcome lattice, held against what the cells carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from builder.report.assemble import EXPLAINED
from builder.values import FAILING, STAGES, STATUSES

_EXPECTED = ("expected", "fixed", "overdue", "other-failure")


def check_report(report: Mapping[str, Any]) -> list[str]:
    """Everything in the report that cannot be true at once, as sentences; empty when there is nothing."""
    return list(_check(report))


def _check(report: Mapping[str, Any]) -> Iterator[str]:
    cells = report["cells"]
    suites = report.get("suites", [])
    reported = len(cells) + sum(line["cells"] for line in suites)
    if report["selected"] != reported:
        yield f"{report['selected']} cells were selected and {reported} are reported"
    for line in suites:
        if line["cells"] != sum(line["counts"].values()):
            yield f"suite {line['suite']} on {line['engine']['id']} has {line['cells']} cells and counts others"
    for cell_id, n in Counter(cell["id"] for cell in cells).items():
        if n > 1:
            yield f"cell {cell_id} is reported {n} times"
    tally = Counter(cell["status"] for cell in cells)
    for line in suites:
        tally.update(line["counts"])
    for status in sorted({*STATUSES, *tally, *report["counts"]}):
        if status not in STATUSES:
            yield f"{status!r} is not an outcome"
        elif report["counts"].get(status) != tally[status]:
            yield f"counts say {report['counts'].get(status)} {status}, the cells {tally[status]}"
    for cell in cells:
        for problem in _cell(cell):
            yield f"cell {cell['id']} ({cell['status']}): {problem}"
    yield from _predictions(report)
    if "findings" in report:
        yield from _findings(report)
    if "rules" in report:
        yield from _rules(report)


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    status = cell["status"]
    verdict = (cell["comparison"] or {}).get("verdict")
    states = [stage["state"] for stage in cell["stages"]]
    if cell["stage"] not in STAGES:
        yield f"{cell['stage']!r} is not a stage"
    if status == "verified":
        if verdict != "match":
            yield f"verified with the verdict {verdict!r}"
        elif not cell["comparison"]["outputs"]:
            yield "verified without any compared output"
        elif any(output["verdict"] != "match" for output in cell["comparison"]["outputs"]):
            yield "verified although an output does not match"
        if cell["degraded"]:
            yield "verified although something is not what was asked"
    if status == "built" and cell["comparison"]:
        yield "built, not run, and yet compared"
    if status == "built" and cell["measure"]:
        yield "built, not run, and yet timed"
    if status == "mismatch" and verdict == "match":
        yield "mismatch with a matching comparison"
    if status == "degraded" and not cell["degraded"]:
        yield "degraded, and nothing says from what to what"
    if status in ("verified", "built") and "failed" in states:
        yield "a stage failed"
    if status in ("verified", "built") and (cell["category"] or cell["line"]):
        yield "carries a failure's category or line"
    if status in ("failed", "crashed", "timeout", "out-of-memory") and verdict is not None:
        yield "failed, and yet compared"
    if status in FAILING and not (cell["category"] and cell["line"]):
        yield "fails without a category or line"
    if status in ("skipped", "blocked", "unsupported") and not cell["reason"]:
        yield "did not run, and no reason is given"
    measure = cell["measure"]
    if measure and measure["status"] == "settled" and not (measure["median"] and measure["median"] > 0):
        yield "a settled timing without a median"
    if measure and measure["status"] == "unstable" and measure["median"] is not None:
        yield "a timing that did not settle has a number"
    expected = cell["expected"]
    if expected:
        if expected["state"] not in _EXPECTED:
            yield f"{expected['state']!r} is no state of an expectation"
        elif (expected["state"] == "fixed") != (status not in FAILING):
            yield f"the expected failure is {expected['state']!r}"


def _findings(report: Mapping[str, Any]) -> Iterator[str]:
    status = {cell["id"]: cell["status"] for cell in report["cells"]}
    explained = Counter(cell_id for finding in report["findings"] for cell_id in finding["cells"])
    for finding in report["findings"]:
        if finding["count"] != len(finding["cells"]):
            yield f"finding {finding['title']!r} counts {finding['count']} of {len(finding['cells'])} cells"
        if wrong := [cell_id for cell_id in finding["cells"] if status.get(cell_id) != finding["status"]]:
            yield f"finding {finding['title']!r} names cells of another outcome: {', '.join(wrong[:3])}"
    for cell_id, outcome in status.items():
        if explained[cell_id] != (outcome in EXPLAINED):
            yield f"cell {cell_id} ({outcome}) is in {explained[cell_id]} findings"


def _rules(report: Mapping[str, Any]) -> Iterator[str]:
    from builder.conflict_rules import category_of, values

    cells = {cell["id"]: cell for cell in report["cells"]}
    for rule in report["rules"]["rules"]:
        name = f"the rule {rule['when']!r}"
        if (rule["failing"], rule["passing"]) != (len(rule["cells"]), len(rule["counterexamples"])):
            yield f"{name} counts other cells than it names"
        if gone := [i for i in (*rule["cells"], *rule["counterexamples"]) if i not in cells]:
            yield f"{name} names cells that are not reported: {', '.join(gone[:3])}"
            continue
        accepted = [(condition["field"], condition["values"]) for condition in rule["conditions"]]
        for cell_id in (*rule["cells"], *rule["counterexamples"]):
            if not all(values(cells[cell_id]).get(field) in chosen for field, chosen in accepted):
                yield f"{name} names cell {cell_id}, which it does not fit"
        if wrong := [i for i in rule["cells"] if category_of(cells[i]) != rule["category"]]:
            yield f"{name} explains cells that do not fail so: {', '.join(wrong[:3])}"
        if wrong := [i for i in rule["counterexamples"] if cells[i]["status"] in FAILING]:
            yield f"{name} has counter-examples that fail: {', '.join(wrong[:3])}"
        if rule["constraint"] and rule["passing"]:
            yield f"{name} has counter-examples, and would take them away as a constraint"
    for boundary in report["boundaries"]:
        for place in boundary["where"]:
            for change, pair in zip(boundary["changes"], place["cells"], strict=False):
                works = [cell_id in cells and cells[cell_id]["status"] not in FAILING for cell_id in pair]
                if works != [not change["works"], change["works"]]:
                    yield f"the boundary {boundary['text']!r} is not between cells {' and '.join(pair)}"


def _predictions(report: Mapping[str, Any]) -> Iterator[str]:
    claims = {claim["key"]: claim for claim in report["predictions"]["claims"]}
    for cell in report["cells"]:
        mine = [claims[key] for key in cell["prediction"]["claims"] if key in claims]
        if len(mine) != len(cell["prediction"]["claims"]):
            yield f"cell {cell['id']} rests on a claim that the report does not have"
        states = {"unknown" if claim["refuted"] else claim["state"] for claim in mine}
        expected = "unsupported" if "unsupported" in states else "supported" if states == {"supported"} else "unknown"
        if cell["prediction"]["state"] != expected:
            yield f"cell {cell['id']} is predicted {cell['prediction']['state']}, and its claims say {expected}"
        if cell["status"] == "unsupported" and cell["prediction"]["state"] != "unsupported":
            yield f"cell {cell['id']} was left alone without a fact against it"
    tally = Counter(key for cell in report["cells"] for key in cell["prediction"]["claims"])
    for key, claim in claims.items():
        if claim["held"] + claim["failed"] + claim["open"] != tally[key]:
            yield f"the claim {claim['subject']!r} counts other cells than it is of"
    if not report["predictions"]["skipping"] and report["counts"].get("unsupported"):
        yield "cells were left alone although no prediction was to do that"
