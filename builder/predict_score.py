"""Predictions held against what happened: by rule, by claim, and the claims that an observation refutes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from builder.predict import RULES, Claim, Prediction
from builder.values import FAILING, STAGES

Seen = Literal["held", "failed", "open"]


@dataclass(frozen=True, kw_only=True)
class Shows:
    """Where what a rule claims would show itself."""

    stages: frozenset[str]
    """A failure of this kind ends a cell in one of them."""
    proof: str
    """A cell that got beyond this stage shows that the claim's thing works."""
    categories: frozenset[str]


_ENGINE = frozenset({"parse", "build", "load", "run"})
SHOWS: Mapping[str, Shows] = {
    "wheel": Shows(
        stages=frozenset({"resolve", "environment"}), proof="environment", categories=frozenset({"packaging"})
    ),
    "export-opset": Shows(
        stages=frozenset({"export"}), proof="export", categories=frozenset({"unsupported-opset", "opset-changed"})
    ),
    "opset": Shows(stages=_ENGINE, proof="build", categories=frozenset({"unsupported-opset"})),
    "ir": Shows(stages=_ENGINE, proof="build", categories=frozenset({"unsupported-ir"})),
    "numpy": Shows(stages=_ENGINE | {"environment", "compare"}, proof="run", categories=frozenset({"python-abi"})),
    "gpu": Shows(stages=_ENGINE, proof="build", categories=frozenset({"gpu-unsupported"})),
    "precision": Shows(stages=_ENGINE, proof="build", categories=frozenset({"precision", "precision-fallback"})),
    "driver": Shows(stages=_ENGINE, proof="run", categories=frozenset({"driver-too-old"})),
}


def seen(rule: str, cell: Mapping[str, Any]) -> Seen:
    """What a cell's outcome shows of a rule: that it works, that it fails for that reason, or nothing."""
    shows, status = SHOWS[rule], cell["status"]
    if status in ("skipped", "blocked", "unsupported"):
        return "open"
    late = status in ("degraded", "mismatch")  # it ran to its end, and is not what was asked
    if status in FAILING and cell["category"] in shows.categories and (late or cell["stage"] in shows.stages):
        return "failed"
    if status in ("verified", "degraded", "mismatch"):
        return "held"
    if status == "built":
        return "held" if STAGES.index(shows.proof) <= STAGES.index("build") else "open"
    return "held" if STAGES.index(cell["stage"]) > STAGES.index(shows.proof) else "open"


def score(predictions: Mapping[str, Prediction], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`predictions` of the report (docs/report-schema.md). `predictions`: cell id -> its prediction."""
    claims: dict[str, Claim] = {}
    results: dict[str, dict[Seen, list[str]]] = {}
    for cell in cells:
        for claim in predictions[cell["id"]].claims:
            claims.setdefault(claim.key, claim)
            found = results.setdefault(claim.key, {"held": [], "failed": [], "open": []})
            found[seen(claim.rule, cell)].append(cell["id"])
    states = [predictions[cell["id"]].state for cell in cells]
    rows = [_claim(claim, results[key]) for key, claim in claims.items()]
    return {
        "skipping": any(cell["status"] == "unsupported" for cell in cells),
        "cells": {name: states.count(name) for name in ("supported", "unsupported", "unknown")},
        "rules": [row for rule in RULES if (row := _rule(rule, rows))["claims"]],
        "claims": rows,
        "refuted": [row["key"] for row in rows if row["verdict"] == "refuted"],
    }  # fmt: skip


def _claim(claim: Claim, found: Mapping[Seen, list[str]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        **claim.as_dict(),
        "held": len(found["held"]),
        "failed": len(found["failed"]),
        "open": len(found["open"]),
    }
    against = {"supported": found["failed"], "unsupported": found["held"], "unknown": []}[claim.state]
    borne = {"supported": found["held"], "unsupported": found["failed"], "unknown": []}[claim.state]
    row["verdict"] = "refuted" if against or claim.refuted else "confirmed" if borne else "open"
    row["evidence"] = (against or borne or found["failed"] or found["held"])[:5]
    return row


def _rule(rule: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Cells by what was predicted and what was seen: {"supported": {"held": 210, "failed": 0, "open": 12}, ...}."""
    mine = [row for row in rows if row["rule"] == rule]
    out: dict[str, Any] = {"rule": rule, "text": RULES[rule], "claims": len(mine)}
    for state in ("supported", "unsupported", "unknown"):
        out[state] = {
            name: sum(row[name] for row in mine if row["state"] == state) for name in ("held", "failed", "open")
        }
    return out


def refuted(scored: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Key of each claim that these cells refute -> (the cell, what was observed, in words)."""
    by_id = {cell["id"]: cell for cell in cells}
    out = {}
    for row in scored["claims"]:
        against = row["failed"] if row["state"] == "supported" else row["held"] if row["state"] == "unsupported" else 0
        if against:
            cell = by_id[row["evidence"][0]]
            why = f" ({cell['category']})" if cell["category"] else ""
            when = f" on {cell['when'][:10]}" if cell["when"] else ""
            out[row["key"]] = (cell["id"], f"cell {cell['id']} was {cell['status']}{why}{when}")
    return out
