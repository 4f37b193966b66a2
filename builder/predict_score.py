"""Predictions held against what happened: by rule, by claim, and the claims that an observation refutes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from builder.outcome import degraded_by
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
    signatures: frozenset[str] = frozenset()
    """Those of the categories that say it; none: all of them."""


_ENGINE = frozenset({"parse", "build", "load", "run"})
SHOWS: Mapping[str, Shows] = {
    "wheel": Shows(
        stages=frozenset({"resolve", "environment"}), proof="environment", categories=frozenset({"packaging"}),
        # Not what was published after the cut-off, nor requirements that contradict each other.
        signatures=frozenset({"wheel-tag-mismatch", "no-usable-wheels", "source-build-failed"}),
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
    "portable": Shows(stages=frozenset({"load", "run"}), proof="run", categories=frozenset()),
}  # fmt: skip


_DOMAIN = re.compile(r"support for domain ([\w.]+) is till opset")
"""In what ONNX Runtime says of an opset that it does not take: whose operators they are."""


def seen(claim: Claim, cell: Mapping[str, Any]) -> Seen:
    """What a cell's outcome shows of a claim: that it works, that it fails for that reason, or nothing."""
    shows, status = SHOWS[claim.rule], cell["status"]
    if status in ("skipped", "blocked", "unsupported"):
        return "open"
    if claim.rule == "wheel":
        return _wheel(claim, cell)
    if claim.rule == "portable":
        return _portable(cell)
    if claim.opsets and (wrote := _wrote(cell)) and wrote not in map(str, claim.opsets):
        return "open"  # the engine was given another file than the one that the claim is about
    if claim.rule == "opset" and (of := _DOMAIN.search(cell["line"] or "")) and of[1] != "ai.onnx":
        return (
            "open"  # it is the opset of other operators that is refused (ai.onnx.ml), of which the claim says nothing
        )
    if not shows.categories.isdisjoint(degraded_by(entry) for entry in cell["degraded"]):
        return "failed"  # it went on, and that is not what was asked
    if claim.rule == "export-opset":
        export = next((it["state"] for it in cell["stages"] if it["step"] == "export"), "not-reached")
        return "held" if export == "ok" else "failed" if export == "failed" and _blames(shows, cell) else "open"
    if _blames(shows, cell):
        ours = cell["stage"] != "environment" or _environments(cell)["exporter"] == "ok"
        return "failed" if ours else "open"
    if status in ("verified", "degraded", "mismatch") and cell["stage"] != "build":
        return "held"
    if cell["stage"] == "build" and status in ("built", "degraded"):  # not run here
        return "held" if STAGES.index(shows.proof) <= STAGES.index("build") else "open"
    return "held" if STAGES.index(cell["stage"]) > STAGES.index(shows.proof) else "open"


def _wheel(claim: Claim, cell: Mapping[str, Any]) -> Seen:
    """By what became of that stack's own environment: a cell has two."""
    states = _environments(cell)
    role = "exporter" if cell["exporter"]["family"] == claim.project else "engine"
    if states[role] == "ok":
        return "held"
    # The failure that is told is the first one's.
    first = next((name for name, state in states.items() if state == "failed"), "")
    named = re.search(rf"(Because |`){re.escape(claim.project)}(-[\w-]+)?==", str(cell["line"]).replace("_", "-"))
    return "failed" if role == first and named and _blames(SHOWS["wheel"], cell) else "open"


def _portable(cell: Mapping[str, Any]) -> Seen:
    """Whatever the library's word for it: an engine that its own stack runs is refused here, or takes the process with it."""
    if cell["status"] in ("verified", "mismatch") or (cell["status"] == "degraded" and cell["stage"] != "build"):
        return "held"
    refused = cell["status"] in ("failed", "crashed", "out-of-memory") and cell["stage"] in SHOWS["portable"].stages
    return "failed" if refused else "open"


def _environments(cell: Mapping[str, Any]) -> dict[str, str]:
    """exporter, engine -> the state of its environment."""
    made = [it["state"] for it in cell["stages"] if it["step"] == "environment"]
    return dict(zip(("exporter", "engine"), made, strict=True))


def _blames(shows: Shows, cell: Mapping[str, Any]) -> bool:
    return (
        cell["status"] in FAILING
        and cell["stage"] in shows.stages
        and cell["category"] in shows.categories
        and (not shows.signatures or cell["signature"] in shows.signatures)
    )


def _wrote(cell: Mapping[str, Any]) -> str:
    """The opset that was written where it is not the one that was asked for, else ''."""
    changed = (str(it["got"]) for it in cell["degraded"] if degraded_by(it) == "opset-changed")
    return next((got.split()[-1] for got in changed), "")


def score(predictions: Mapping[str, Prediction], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`predictions` of the report (docs/report-schema.md). `predictions`: cell id -> its prediction."""
    claims: dict[str, Claim] = {}
    results: dict[str, dict[Seen, list[str]]] = {}
    for cell in cells:
        for claim in predictions[cell["id"]].claims:
            claims.setdefault(claim.key, claim)
            found = results.setdefault(claim.key, {"held": [], "failed": [], "open": []})
            found[seen(claim, cell)].append(cell["id"])
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


def shown(
    remembered: Mapping[str, tuple[str, str]], predictions: Mapping[str, Prediction], cells: Sequence[Mapping[str, Any]]
) -> set[str]:
    """The claims whose remembered cell says something of them now, whichever way: what did not run takes nothing back.

    `remembered`: key of a claim -> (cell, what was observed against it)."""
    by_id = {cell["id"]: cell for cell in cells}
    out = set()
    for key, (cell, _) in remembered.items():
        claims = predictions[cell].claims if cell in by_id else ()
        if any(claim.key == key and seen(claim, by_id[cell]) != "open" for claim in claims):
            out.add(key)
    return out
