"""Facts against observations, in words: the figures of the report's `predictions` (docs/report-schema.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(scored: Mapping[str, Any]) -> str:
    """One sentence: what was predicted, and how often what happened says otherwise."""
    cells = scored["cells"]
    wrong = sum(row["supported"]["failed"] for row in scored["rules"])
    worked = sum(row["unsupported"]["held"] for row in scored["rules"])
    told = sum(bool(claim["refuted"]) for claim in scored["claims"])
    before = (
        f"; refuted before, so that {'it predicts' if told == 1 else 'they predict'} nothing: {told}" if told else ""
    )
    return (
        f"predicted from facts: {cells['supported']} supported ({wrong} fail for that reason), "
        f"{cells['unsupported']} unsupported ({worked} work all the same), {cells['unknown']} unknown{before}"
    )


def rows(scored: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rule, and what was seen of the cells that it speaks for: supported, unsupported, unknown."""
    return [
        (row["rule"], _seen(row["supported"], "held", "failed"), _seen(row["unsupported"], "failed", "held"),
         _seen(row["unknown"], "held", "failed"))
        for row in scored["rules"]
    ]  # fmt: skip


def _seen(counts: Mapping[str, int], first: str, second: str) -> str:
    words = {"held": "held", "failed": "failed so", "open": "not seen"}
    parts = [f"{counts[name]} {words[name]}" for name in (first, second, "open") if counts[name]]
    return ", ".join(parts) or "·"


def refutations(scored: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [claim for claim in scored["claims"] if claim["verdict"] == "refuted"]


def refutation(claim: Mapping[str, Any]) -> str:
    """A wrong fact, and what refutes it."""
    facts = "; ".join(f"{fact['text']} ({fact['where']})" for fact in claim["facts"])
    said = f"{claim['subject']} was predicted {claim['state']} by: {facts or claim['because']}"
    return f"{said}. Observed otherwise: {claim['refuted'] or 'cells ' + ', '.join(claim['evidence'])}"


def lines(scored: Mapping[str, Any]) -> list[str]:
    """For a terminal: the sentence, a table by rule, and what is refuted."""
    if not scored["rules"]:
        return ["predicted from facts: nothing, since no rule applies to these cells"]
    table = [("rule", "supported", "unsupported", "unknown"), *rows(scored)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    out = [headline(scored)]
    out += [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]
    out += [f"  refuted: {refutation(claim)}" for claim in refutations(scored)]
    return out
