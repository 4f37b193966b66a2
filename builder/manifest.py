"""An engine's manifest: what it was built from and with, and where it will load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.plan import Chain
from builder.store import StepRecord
from builder.values import Stack


def manifest(
    chain: Chain,
    build: StepRecord,
    environment: StepRecord | None,
    outcome: Mapping[str, Any],
    stack: Stack | None = None,
) -> dict[str, Any]:
    """Facts only, each from the step's own record. `loads` states what the engine format is tied to: the library at its
    exact version for TensorRT and TensorRT-RTX plans (and the compute capabilities it was built for), the same
    library and CPU for OpenVINO blobs and ONNX Runtime's optimised models. `stack`: that which built it, where it is not the
    cell's own."""
    cell = chain.cell
    family = chain.build.data["family"]
    probe = environment.record.get("probe", {}) if environment else {}
    versions = {name: module.get("version") for name, module in probe.get("modules", {}).items()}
    target = cell.options.get("target")
    return {
        "schema": 1,
        "cell": {"id": cell.id, "slug": cell.slug},
        "outcome": {"status": outcome["status"], "reason": outcome["reason"], "when": outcome["when"]},
        "engine": {
            "file": "engine" + _suffix(build), "sha256": build.record["artifact"]["sha256"],
            "bytes": build.record["artifact"]["bytes"],
            # Files with its weights, which must lie beside it under these names.
            "data": [
                {"file": str(entry["path"]).rsplit("/", 1)[-1], "sha256": entry["sha256"], "bytes": entry["bytes"]}
                for entry in build.record.get("data", ())
            ],
        },
        "built": {
            "when": build.created, "seconds": build.seconds, "stack": (stack or cell.engine).as_dict(), "modules": versions,
            "isolation": chain.engine.data["isolation"], "image": environment.record.get("image") if environment else None,
            "distributions": probe.get("distributions", {}), "loaded": build.record.get("loaded", {}),
            "from": {"model": cell.model, "exporter": cell.exporter.as_dict(), "options": dict(cell.options)},
        },
        "loads": {
            "library": versions, "device": family.device,
            "compute_capability": f"{target[2:-1]}.{target[-1]}" if target and target.startswith("sm") else None,
            # Whether it was loaded and run where it was built: null where that was not possible.
            "here": chain.run.state == "stored" if chain.run.state != "skip" else None,
        },
        "found": build.record["result"].get("found"),
    }  # fmt: skip


def _suffix(build: StepRecord) -> str:
    path = str(build.record["artifact"]["path"])
    name = path.rsplit("/", 1)[-1]
    return "." + name.split(".", 1)[1] if "." in name else ""
