"""Cells of suites: what their steps ask of a worker, and what became of each, from the record of the step they share.

A case ends as the lattice has it (values.STATUSES), so that selection, expectation and history treat it as any cell:

    worker's word         outcome
    match                 verified
    mismatch              mismatch
    failed                failed, in the stage it was in
    crashed, timeout      crashed, timeout
    memory                out-of-memory
    built                 built: this machine cannot load the engine
    harness               skipped: this program cannot hand the case over; it says nothing of the library
    left                  skipped: the time was over before it ran
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from builder.diagnose import Diagnosis, diagnose, no_evidence
from builder.plan import Chain, Step
from builder.store import StepRecord
from builder.suite import Suite

_STATUS = {
    "match": "verified", "mismatch": "mismatch", "failed": "failed", "crashed": "crashed", "timeout": "timeout",
    "memory": "out-of-memory", "built": "built", "harness": "skipped", "left": "skipped",
}  # fmt: skip
_STAGES = ("parse", "build", "load", "run", "compare")


def job_input(step: Step, artifact: Callable[[Step], str]) -> dict[str, Any]:
    """The input of a `suite` or `conform` job (builder/worker/README.md); `artifact` gives the file that a step made."""
    suite: Suite = step.data["suite"]
    if step.kind == "suite":
        return {"suite": suite.asked, "names": [case.name for case in suite.cases]}
    assert step.environment is not None
    family = step.environment.data["family"]
    target = step.data["target"]
    return {
        "adapter": family.adapter, "cases": artifact(step.needs[0]), "names": list(step.data["names"]),
        "limit": suite.timeout, "budget": suite.BUDGET, "settings": dict(family.settings), "precision": suite.precision,
        "options": {"target": target} if target else {}, "loads": step.data["loads"],
    }  # fmt: skip


def outcome(
    chain: Chain, records: Mapping[str, StepRecord], infrastructure: Mapping[Step, str], not_run: str
) -> dict[str, Any]:
    """The result of a suite's cell, with the keys that `outcome.outcome` gives and `suite`."""
    cell, suite = chain.cell, chain.suite
    assert suite is not None
    step, export, case = chain.build, chain.export, suite.by_name[cell.options["case"]]
    record = records.get(step.key) if step.state in ("stored", "failed") else None
    result: dict[str, Any] = {
        "id": cell.id, "slug": cell.slug, "folder": cell.folder,
        "status": "verified", "stage": "compare", "reason": "", "category": None,
        "signature": None, "line": None, "diagnosis": None, "remedy": None, "source": None, "flaky": False,
        "axes": {"model": cell.model, **cell.options}, "engine": cell.engine.as_dict(), "exporter": cell.exporter.as_dict(),
        "stages": [], "comparison": None, "degraded": [], "found": None, "measure": None, "artifact": None,
        "files": {"model": None, "cases": []}, "machine": None, "loaded": {}, "python": None,
        "isolation": {"engine": chain.engine.data["isolation"], "exporter": chain.exporter.data["isolation"]},
        "image": None, "command": f"enginematrix repro {cell.id}", "when": None, "seconds": 0.0,
        "suite": {
            "name": suite.name, "strict": suite.strict, "package": suite.package, "version": suite.version,
            "precision": suite.precision, "domain": case.domain, "opset": case.opset,
        },
    }  # fmt: skip
    if export.state == "stored" and export.key in records:
        result["files"]["cases"] = [records[export.key].record["artifact"]["path"]]
    around = records.get(chain.engine.key)
    if around is not None:
        result["python"] = around.record.get("probe", {}).get("python")
        result["image"] = around.record.get("image")
    found = record.record["result"]["cases"][cell.options["case"]] if record and step.state == "stored" else None
    result["stages"] = _stages(chain, records, found)
    if record is not None:
        result.update(machine=record.record.get("machine"), when=record.created)
    if found is not None and record is not None:
        result["loaded"] = record.record.get("loaded") or {}
        result["degraded"] = list((around.record.get("differs") if around else None) or ())
        _judge(result, found, _versions(around))
        return result
    _stopped(result, chain, records, infrastructure, not_run)
    return result


def _judge(result: dict[str, Any], found: Mapping[str, Any], versions: tuple[tuple[str, str], ...]) -> None:
    """One case's result, by its worker's word."""
    status = _STATUS[found["status"]]
    note = f" ({found['note']})" if found.get("note") else ""
    result.update(status=status, stage=found["stage"], seconds=found["seconds"], flaky=bool(found.get("flaky")))
    if status == "skipped":
        result["reason"] = f"not tried: {found['reason']}{note}"
    elif status == "built":
        result["reason"] = f"built; this machine cannot load it{note}"
    elif status == "verified":
        result.update(comparison=_comparison(result, found, "match"), reason=f"outputs are those of the case{note}")
        if result["degraded"]:
            first = result["degraded"][0]
            line = f"asked {first['asked']}, got {first['got']}: {first['how']}"
            result.update(
                status="degraded", category="version-differs", line=line, reason=f"runs and matches, but {line}"
            )
    elif status == "mismatch":
        result.update(
            comparison=_comparison(result, found, "mismatch"), category="accuracy", line=found["reason"],
            reason=f"{found['reason']}{note}",
            diagnosis="The operator ran and its outputs are not those that the case demands, within the case's own tolerance.",
            remedy="Compare with the operator's specification; another release, or another opset, may do as it says.",
        )  # fmt: skip
    else:
        error = found.get("error") or {}
        end = tuple((found.get("end") or {}).items())
        told = _diagnosed(
            found["stage"], status, error.get("type"), error.get("message"), end, found.get("said", ""), versions
        )
        result.update(
            category=told.category, signature=told.signature, line=told.line, diagnosis=told.diagnosis, remedy=told.remedy,
            source=told.source, reason=f"{found['stage']} {_ended(found)}: {told.line}{note}",
        )  # fmt: skip


def _ended(found: Mapping[str, Any]) -> str:
    end = found.get("end") or {}
    if "timeout" in end:
        return f"did not end within {end['timeout']:g} s"
    if "signal" in end or "exit" in end:
        return f"died of {end.get('name') or 'exit code ' + str(end.get('exit'))}"
    return "failed"


def _comparison(result: Mapping[str, Any], found: Mapping[str, Any], verdict: str) -> dict[str, Any]:
    """As builder/worker/README.md has it, of all outputs of a case as one: thousands of cells have one each."""
    reason = found.get("reason", "")
    entry = {
        "case": result["axes"]["case"], "name": "", "dtype": None, "shape": None, "nonfinite_equal": None, "mismatched": None,
        "max_abs": found.get("max_abs"), "mean_abs": None, "p99_abs": None, "max_rel": None, "cosine": None, "snr_db": None,
        "verdict": verdict, "reason": reason,
    }  # fmt: skip
    tolerance = {"atol": found["atol"], "rtol": found["rtol"]}
    return {"verdict": verdict, "reason": reason, "tolerance": tolerance, "outputs": [entry], "metric": None}


@functools.lru_cache(maxsize=100_000)
def _diagnosed(
    stage: str, status: str, kind: str | None, message: str | None, end: tuple[tuple[str, Any], ...], said: str,
    versions: tuple[tuple[str, str], ...],
) -> Diagnosis:  # fmt: skip
    """Many cases fail with the same words."""
    error = {"type": kind, "message": message or "", "traceback": ""} if kind else None
    return diagnose(stage, status, error, dict(end), said, dict(versions))


def _versions(environment: StepRecord | None) -> tuple[tuple[str, str], ...]:
    modules = environment.record.get("probe", {}).get("modules", {}) if environment else {}
    return tuple((name, str(module["version"])) for name, module in modules.items() if module.get("version"))


def _stages(
    chain: Chain, records: Mapping[str, StepRecord], found: Mapping[str, Any] | None
) -> list[dict[str, Any]]:  # fmt: skip
    """The stages of a case: those of the steps that it shares with others, then its own up to where it ended."""
    out = []
    for step, stage in ((chain.exporter, "environment"), (chain.engine, "environment"), (chain.export, "export")):
        record = records.get(step.key) if step.state in ("stored", "failed") else None
        state = {"stored": "ok", "failed": "failed", "skip": "skipped"}.get(step.state, "not-reached")
        log = record.record.get("log") if record else None
        out.append(
            {
                "stage": stage,
                "state": state,
                "seconds": record.seconds if record else None,
                "log": log,
                "step": step.kind,
            }
        )
    record = records.get(chain.build.key) if chain.build.state in ("stored", "failed") else None
    log = record.record.get("log") if record else None
    reached = found is not None and found["status"] != "left"
    for stage in _STAGES:
        state, seconds = "ok" if reached else "not-reached", None
        if reached and found is not None and stage == found["stage"]:
            seconds, reached = found["seconds"], False
            if found["status"] not in ("match", "built", "mismatch"):
                state = "skipped" if found["status"] == "harness" else "failed"
        elif stage == "load" and found is not None and found["stage"] != "load":
            continue  # a session of these libraries is built where it runs
        entry = {"stage": stage, "state": state, "seconds": seconds, "log": log if state != "not-reached" else None}
        out.append({**entry, "step": chain.build.kind})
    return out


def _stopped(
    result: dict[str, Any], chain: Chain, records: Mapping[str, StepRecord], infrastructure: Mapping[Step, str], not_run: str
) -> None:  # fmt: skip
    """A case whose shared steps did not get to it."""
    order = (chain.engine, chain.exporter, chain.export, chain.build)
    skipped = next((step for step in order if step.state == "skip"), None)
    lost = next((step for step in order if step in infrastructure), None)
    failed = next((step for step in order if step.state == "failed"), None)
    stage = {"environment": "environment", "suite": "export", "conform": "run"}
    if skipped is not None:
        result.update(status="skipped", stage="environment", reason=skipped.skipped)
    elif lost is not None:
        text = infrastructure[lost]
        result.update(status="blocked", stage=stage[lost.kind], **no_evidence(stage[lost.kind], text),
                      reason=f"{lost.kind} {lost.name} could not be done: {text}")  # fmt: skip
    elif failed is not None:
        data = records[failed.key].record
        error = data.get("error") or {}
        end = tuple((data.get("end") or {}).items())
        told = _diagnosed(stage[failed.kind], "failed", error.get("type"), error.get("message"), end, "",
                          _versions(records.get(chain.engine.key)))  # fmt: skip
        result.update(
            status="blocked", stage=stage[failed.kind], category=told.category, signature=told.signature, line=told.line,
            diagnosis=told.diagnosis, remedy=told.remedy, source=told.source,
            reason=f"{failed.kind} {failed.name}, which it needs, failed: {told.line}",
        )  # fmt: skip
    else:
        result.update(status="skipped", stage="resolve", reason=not_run or "not run")
