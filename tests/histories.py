"""Invented runs in a real store, for the tests of what compares and merges them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.history_keep import SAID
from builder.store import Store
from builder.values import digest

MACHINE = {
    "cpu": "Invented Processor 3000",
    "cores": 8,
    "memory": 32 << 30,
    "gpus": [],
    "driver": None,
    "kernel": "6.1",
}
GPU = {"name": "NVIDIA L4", "compute_capability": "8.9", "memory": 24 << 30, "uuid": "GPU-1"}
ENGINE, EXPORTER, TOOLS = "onnxruntime-1.30.0-py3.12", "onnx-1.23.2-py3.12", "onnx-tools-py3.12"
LOCK: dict[str, dict[str, Any]] = {
    ENGINE: {
        "python": "3.12",
        "isolation": "venv",
        "packages": {"onnxruntime": ["1.30.0", "aa"], "numpy": ["2.0.1", "bb"]},
    },
    EXPORTER: {"python": "3.12", "isolation": "venv", "packages": {"onnx": ["1.23.2", "cc"]}},
    TOOLS: {"python": "3.12", "isolation": "venv", "packages": {"onnx": ["1.23.2", "cc"], "sympy": ["1.14", "dd"]}},
}


def locked(stack: str, **versions: str) -> dict[str, Any]:
    """LOCK with other versions in one stack."""
    packages = {**LOCK[stack]["packages"], **{name: [version, "ee"] for name, version in versions.items()}}
    return {**LOCK, stack: {**LOCK[stack], "packages": packages}}


def cell(name: str, status: str = "verified", **values: Any) -> dict[str, Any]:
    """An outcome's record, as far as comparisons read it."""
    out = {
        "id": name, "slug": f"{ENGINE}.{name}", "status": status, "stage": "compare" if status == "verified" else "build",
        "reason": "outputs match" if status == "verified" else "build failed", "category": None, "signature": None,
        "line": None, "diagnosis": None, "remedy": None, "axes": {"model": "resnet50"}, "engine": {"id": ENGINE},
        "exporter": {"id": EXPORTER}, "flaky": False, "measure": None, "machine": MACHINE, "when": "2026-11-20T00:00:00Z",
    }  # fmt: skip
    if status in ("failed", "crashed", "mismatch", "degraded", "timeout"):
        out.update(category="unsupported-operator", line="GridSample is not supported", remedy="take another release")
    return {**out, **values}


def measured(*windows: float, settled: bool = True) -> dict[str, Any]:
    """`measure` of a cell whose windows had these medians (s)."""
    return {
        "status": "settled" if settled else "unstable", "median": sorted(windows)[len(windows) // 2] if settled else None,
        "samples": 25 * len(windows), "windows": [{"median": value, "runs": 25} for value in windows],
    }  # fmt: skip


def run(
    store: Store, name: str, cells: list[dict[str, Any]], *, lock: Mapping[str, Any] = LOCK,
    expected: Mapping[str, str] | None = None, reused: str = "", judged: str = "0" * 16, **record: Any,
) -> None:  # fmt: skip
    """Keep a run whose id and start are `name`. `reused`: the run whose evidence this one's is. `judged`: by which code."""
    default = {
        "id": name, "select": "group nightly", "matrix": {"sha256": "m"},
        "lock": {"sha256": digest(lock), "tools": {"uv": "0.9"}},
        "machine": MACHINE, "code": "c", "version": "0.1.0", "recipes": {"resnet50": "r" * 64},
        "processor": {"flags": "f", "environment": "e"}, "counts": {}, "interrupted": False, "over_budget": False,
    }  # fmt: skip
    results, outcomes, said = {}, {}, {}
    for one in cells:
        if one["status"] in ("skipped", "unsupported") or one["category"] == "infrastructure":
            key = SAID + digest(one)
            said[key] = one
        else:
            key = digest([reused or name, one["id"]]) + judged
            outcomes[key] = (one["id"], one)
        results[one["id"]] = (one["status"], key)
    store.put_outcomes(outcomes)
    tools = {one["id"]: [TOOLS] for one in cells}
    store.put_run(
        name, name, name, {**default, **record}, results, expected=expected or {}, tools=tools, pins=lock, said=said
    )


def schema1(folder: Path) -> Path:
    """A store as version 0.1.0 left it."""
    import sqlite3

    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / "results.sqlite")
    db.executescript((Path(__file__).parent / "inputs" / "store-schema1.sql").read_text())
    db.close()
    return folder
