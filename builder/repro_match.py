"""What must be seen again for a failure to be the same: `match` of expected.json, which repro_judge.py reads. Only what the
library itself said or did: its error line, its signal, which outputs are wrong and how, what was got in the place of what was
asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder import outcome, repro_judge

SHARES = {"int8": 0.5}
"""As worker/adapters has them: the share of the operators that must run in what was asked."""
SHARE = 0.9
_OURS = frozenset(
    {"Failure", "NoDevice", "NoCompiler", "BadInput", "BadOutput", "WorkerError", "WorkerDied", "Pickled"}
)
"""Types of the worker's own: what they say is in its words, but for TensorRT, whose logger's words they carry."""
_OURS_OF_TENSORRT = re.compile(r"^tensorrt\w* [\d.]+ (has|cannot|did not|finds)\b|; it (is|can be) ")


class Refusal(Exception):
    """Why no plain script can show this cell's failure."""


def match(
    cell: Mapping[str, Any], data: Mapping[str, Any], adapter: str | None, message: str, log: str
) -> dict[str, Any]:
    """Of a cell as report.json has it. `data`: the record of the step that failed; `adapter`: what drove it ("" for exporters
    without one), None where an environment was made; `message`, `log`: what was said, scrubbed. Raises Refusal where nothing
    that the library said tells it."""
    status, end = cell["status"], data.get("end") or {}
    if status == "crashed":
        return {"by": "signal", "name": str(end.get("name") or f"signal {end.get('signal')}")}
    if status == "timeout":
        return {"by": "timeout", "seconds": float(end["timeout"])}
    if status == "out-of-memory":
        return {"by": "memory", "bytes": int(end["memory"])}
    if status == "mismatch":
        return _mismatch(cell["comparison"])
    if status == "degraded":
        entry = cell["degraded"][0]
        kind = outcome.degraded_by(entry)
        if kind == "precision-fallback":
            asked = str(entry["asked"])
            return {
                "by": "degraded", "kind": "precision", "asked": asked, "got": str(entry["got"]),
                "share": SHARES.get(asked, SHARE),
            }  # fmt: skip
        word = {"opset-changed": "opset", "version-differs": "version"}[kind]
        got = str(entry["got"])
        return {
            "by": "degraded",
            "kind": word,
            "asked": entry["asked"],
            "got": got.removeprefix("opset ").split("+")[0].split("-")[0],
        }
    error = data.get("error") or {}
    kind = str(error.get("type") or "")
    if adapter is not None and kind in _OURS and (adapter != "tensorrt" or _OURS_OF_TENSORRT.search(message)):
        msg = f"the refusal is in EngineMatrix's own words ({cell['line']}): what the library lacks was found before it was asked"
        raise Refusal(msg)
    return {"by": "error", "text": _telling(str(cell["line"] or ""), kind, message, log)}


def _telling(line: str, kind: str, message: str, log: str) -> str:
    """The part of the error line that the library itself said. Raises Refusal where it said nothing."""
    said = repro_judge.normal(f"{message}\n{log}")
    text = line.strip("… ")
    first = next((one for one in message.splitlines() if one.strip()), "")
    tries = [text.removeprefix(f"{kind}: "), text, text.partition(": ")[2], first, first.partition(": ")[2]]
    for one in tries:
        if len(repro_judge.normal(one)) >= 8 and repro_judge.normal(one) in said:
            return one
    if kind.isidentifier() and kind not in _OURS:
        return kind
    msg = "the library gave no reason that could be recognised"
    raise Refusal(msg)


def _mismatch(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Which outputs are wrong, and how: in the words of the script's own comparison."""
    tolerance = comparison.get("tolerance") or {}
    outputs = []
    for row in comparison["outputs"]:
        wrong = []
        reason = str(row.get("reason") or "")
        if row["verdict"] != "mismatch":
            continue
        if reason == "missing":
            wrong.append("missing")
        if "has shape" in reason:
            wrong.append("shape")
        if re.search(r"\bis \w+, the reference", reason):
            wrong.append("dtype")
        if row.get("nonfinite_equal") is False:
            wrong.append("nonfinite")
        if row.get("mismatched") is not None and row["mismatched"] > (tolerance.get("mismatch") or 0):
            wrong.append("elements")
        if row.get("cosine") is not None and row["cosine"] < tolerance.get("cosine", -1):
            wrong.append("cosine")
        outputs.append({"case": row["case"], "name": row["name"], "wrong": wrong})
    metric = comparison.get("metric") or {}
    by_metric = metric.get("verdict") == "mismatch" and metric.get("name") in METRICS
    if not any(row["wrong"] for row in outputs) and not by_metric:
        msg = f"how its outputs are wrong is not what a short script compares: {comparison.get('reason')}"
        raise Refusal(msg)
    told = {name: metric[name] for name in ("name", "minimum", "value")} if by_metric else None
    return {"by": "mismatch", "outputs": outputs, "metric": told}


METRICS = ("top1-agreement", "embedding-cosine")
"""Metrics of recipes that metric.j2 has."""
