"""`enginematrix badge`: how many cells are verified, as a shield (SVG) or as the JSON that shields.io draws one from.

It says what the last report says, and is green only where nothing is missing: every cell verified, or not so for a reason
that was foreseen; of the matrix and the lock as they are now; and no older than `max_age`. Colour never speaks alone: what is
wrong stands in the text.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.values import FAILING

State = Literal["verified", "partial", "missing", "failing", "stale", "none"]
#: On each of them white text has a contrast of 4.5 at least (WCAG 2.2, 1.4.3).
COLOURS: Mapping[State, str] = {
    "verified": "#1b7a34", "partial": "#0b61b5", "missing": "#8a5a00", "failing": "#b3261e", "stale": "#636363",
    "none": "#636363",
}  # fmt: skip
GREY = "#444444"
PAD = 6
SIZE = 11
MAX_AGE = 7.0
"""Days."""
#: Advance widths in 1/1000 of the size, of the characters from blank to tilde: of DejaVu Sans 2.37, as Chromium measures
#: them. Verdana, which comes first where there is one, was drawn to nearly the same; `textLength` makes up for the rest.
WIDTHS = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636, 636, 636,
    636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787,
    695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278,
    579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Badge:
    """What a shield says."""

    label: str
    message: str
    state: State
    detail: str
    """One sentence more, for the title."""


def of(
    report: Mapping[str, Any] | None, *, label: str, now: datetime.datetime, matrix: str = "", lock: str = "",
    only: Collection[str] | None = None, max_age: float = MAX_AGE,
) -> Badge:  # fmt: skip
    """What is to be said of a report (docs/report-schema.md), None where there is none.

    matrix, lock: SHA-256 of the files as they are now, '' where that is not asked. only: the cells to count; one that the
    report does not have counts as missing. max_age: days."""
    if report is None:
        return Badge(label=label, message="no results", state="none", detail="No run has left a report here.")
    cells, absent = _cells(report, only)
    total = sum(cells.values()) + absent
    verified = cells["verified"]
    said = f"{verified} of {total} verified"
    when = str(report["run"]["finished"])
    detail = f"{said} on {when[:10]}"
    state, rest, why = _judged(report, cells, absent, _stale(report, when, now, matrix, lock, max_age))
    return Badge(label=label, message=f"{said}{rest}", state=state, detail=f"{detail}; {why}.")


def _judged(report: Mapping[str, Any], cells: Mapping[str, int], absent: int, stale: str) -> tuple[State, str, str]:
    """State, what follows the count, and why: the worst that can be said."""
    if cells["red"]:
        return "failing", f", {cells['red']} failing", f"{cells['red']} fail that nobody expected to"
    if stale:
        return "stale", ", stale", stale
    lost = cells["blocked"] + absent
    if lost:
        return "missing", f", {lost} missing", "of those there is no result"
    if report["run"]["interrupted"] or report["run"].get("over_budget"):
        return "missing", ", unfinished", "the run did not get to its end"
    if not cells["verified"]:
        return "none", "", "nothing was proven"
    if cells["untried"]:
        return "partial", f", {cells['untried']} not run", "what was run came out as expected"
    return "verified", "", "all others failed as expected" if cells["foreseen"] else "those are all"


def _cells(report: Mapping[str, Any], only: Collection[str] | None) -> tuple[dict[str, int], int]:
    """How many are `verified`, `red` (failing though nobody expected it), `blocked`, `untried` (only built, or skipped) and
    `foreseen` (a failure that was expected, or ruled out by a fact); and how many of `only` the report does not have."""
    from builder.outcome import unexpected

    out = dict.fromkeys(("verified", "red", "blocked", "untried", "foreseen"), 0)
    cells = [cell for cell in report["cells"] if only is None or cell["id"] in only]
    for cell in cells:
        status = cell["status"]
        if status == "verified":
            out["verified" if not unexpected(cell) else "red"] += 1
        elif status in FAILING:
            out["red" if unexpected(cell) else "foreseen"] += 1
        elif status == "blocked":  # behind a step that failed for a known cause, or nobody knows
            out["blocked" if cell["category"] == "infrastructure" else "red"] += 1
        else:
            out["foreseen" if status == "unsupported" else "untried"] += 1
    for line in report.get("suites", ()) if only is None else ():
        counts = line["counts"]
        failing = sum(counts[status] for status in FAILING)  # a suite that is not strict has none that is red
        out["verified"] += counts["verified"]
        out["foreseen"] += failing + counts["unsupported"]
        out["blocked"] += counts["blocked"]
        out["untried"] += counts["built"] + counts["skipped"]
    return out, 0 if only is None else len(set(only) - {cell["id"] for cell in cells})


def _stale(report: Mapping[str, Any], when: str, now: datetime.datetime, matrix: str, lock: str, max_age: float) -> str:
    """Why the report is not of what there is now, or ''."""
    if matrix and report["run"]["matrix"]["sha256"] != matrix:
        return "the matrix has changed since"
    if lock and report["run"]["lock"]["sha256"] != lock:
        return "the lock has changed since"
    days = (now - datetime.datetime.fromisoformat(when.replace("Z", "+00:00"))).total_seconds() / 86400
    return f"that was {days:.0f} days ago" if days > max_age else ""


def svg(badge: Badge) -> str:
    """The shield. Accessible: it has a title and a name, and its text is text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "badge_templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    label, message = (_plain(text) for text in (badge.label, badge.message))
    left = width(label) + 2 * PAD if label else 0
    return environment.get_template("badge.svg.j2").render(
        label=label, message=message, left=left, width=left + width(message) + 2 * PAD, pad=PAD, colour=COLOURS[badge.state],
        grey=GREY, name=f"{label}: {message}" if label else message, title=_plain(f"{badge.label}: {badge.detail}"),
    )  # fmt: skip


def endpoint(badge: Badge) -> str:
    """The JSON of shields.io's endpoint badge (https://shields.io/badges/endpoint-badge)."""
    content: dict[str, Any] = {
        "schemaVersion": 1, "label": badge.label, "message": badge.message, "color": COLOURS[badge.state].removeprefix("#"),
    }  # fmt: skip
    return json.dumps({**content, **({"isError": True} if badge.state == "failing" else {})}, ensure_ascii=False) + "\n"


def width(text: str) -> int:
    """Pixels of a text at SIZE. Of characters that are not in the table, the wide ones of East Asia take a whole SIZE, the
    others as much as a digit."""
    from unicodedata import east_asian_width

    other = {"W": 1000, "F": 1000}
    units = (WIDTHS[ord(c) - 32] if " " <= c <= "~" else other.get(east_asian_width(c), WIDTHS[16]) for c in text)
    return round(sum(units) * SIZE / 1000)


def _plain(text: str) -> str:
    """Without what XML cannot hold, on one line."""
    return "".join(c if c.isprintable() and c not in "\ufffe\uffff" else "\ufffd" for c in " ".join(text.split()))
