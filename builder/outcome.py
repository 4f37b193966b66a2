"""What became of a cell, from the records of its steps. Pure: no clock, no files but through what it is given.

The lattice cannot lie: a cell is `verified` only where a comparison was formed and matched and nothing differs from what
was asked; a step that died is `crashed`, `timeout` or `out-of-memory`, never `skipped`; what never ran says so.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder import portability_grid
from builder.diagnose import Diagnosis, diagnose, no_evidence
from builder.plan import Chain, Step, before
from builder.store import StepRecord
from builder.values import FAILING, Expect

if TYPE_CHECKING:
    from builder.predict import Claim

Log = Callable[[str], str]


def outcome(
    chain: Chain, records: Mapping[str, StepRecord], infrastructure: Mapping[Step, str], not_run: str, log: Log
) -> dict[str, Any]:
    """The cell's result as `docs/report-schema.md` has it, but for what depends on the run (expected, reused).

    records: key -> record of every stored step; infrastructure: steps that ended without evidence; not_run: why steps
    that could have run did not ("" when none were left out)."""
    if chain.suite is not None:
        from builder.conformance import outcome as of_case

        return of_case(chain, records, infrastructure, not_run)
    cell = chain.cell
    stages = _stages(chain, records)
    grid = {"built_on": cell.built_on.as_dict()} if cell.built_on is not None else {}
    result: dict[str, Any] = {
        "id": cell.id, "slug": cell.slug, "folder": cell.folder,
        "status": "verified", "stage": "compare", "reason": "", "category": None,
        "signature": None, "line": None, "diagnosis": None, "remedy": None, "source": None, "flaky": False,
        "axes": {"model": cell.model, **cell.options}, "engine": cell.engine.as_dict(), "exporter": cell.exporter.as_dict(),
        "stages": stages, "comparison": None, "degraded": _degraded(chain, records), "found": None, "measure": None,
        "artifact": None, "files": _files(chain, records), "loaded": {}, "python": None,
        "isolation": isolation(chain), "image": None,
        "command": f"enginematrix repro {cell.id}", "when": None,
        "seconds": 0.0, **grid,
    }  # fmt: skip
    mine = [records[step.key] for step in chain.steps() if step.key in records and step.state in ("stored", "failed")]
    own = [record for record in mine if record.kind in ("build", "run", "measure", "speedup")]
    result["seconds"] = round(sum(record.seconds for record in own), 4)
    result["when"] = max((record.created for record in own or mine), default=None)
    result["flaky"] = any(record.record.get("flaky") for record in mine)
    result["machine"] = (own or mine)[-1].record.get("machine") if own or mine else None
    engine = records.get(chain.engine.key)
    if engine is not None:
        result["python"] = engine.record.get("probe", {}).get("python")
        result["image"] = engine.record.get("image")
    build = records.get(chain.build.key) if chain.build.state == "stored" else None
    run = records.get(chain.run.key) if chain.run.state == "stored" else None
    for record in (build, run):
        if record is not None:
            result["loaded"] = record.record.get("loaded") or result["loaded"]
            # What the builder says (flags, layers as parsed), and over it what the loaded engine says (layers as fused).
            found = {**(result["found"] or {}), **(record.record["result"].get("found") or {})}
            result["found"] = found or None
    if chain.build.state == "failed" and chain.build.key in records:
        result["found"] = (records[chain.build.key].record.get("error") or {}).get("found")
    if build is not None:
        result["artifact"] = build.record.get("artifact")
    if run is not None:
        result["comparison"] = _with_noise(run.record["result"].get("comparison"), records.get(chain.reference.key))
    if chain.measure is not None and chain.measure.state == "stored":
        result["measure"] = _measure(records[chain.measure.key].record["result"])
        result["measure"].update(_speed(chain, records, build))

    stopped = _stopped(chain, infrastructure)
    if chain.against is not None and chain.left_alone:
        _leave_alone(result, chain.against)
    elif stopped is None and chain.run.state == "skip":
        result.update(status="built", stage="build", reason=f"built; {chain.run.skipped}")
        if result["degraded"]:
            _degrade(result)
    elif stopped is None and run is not None and run.record["result"].get("unloaded"):
        unloaded = run.record["result"]["unloaded"]
        result.update(status="built", stage="build", reason=f"built; {unloaded}, and the library does not refuse it")
        if result["degraded"]:
            _degrade(result)
    elif stopped is None:
        _judge(result)
    elif stopped.state == "skip":
        result.update(status="skipped", stage="environment", reason=stopped.skipped)
    elif stopped in infrastructure:
        text = infrastructure[stopped]
        result.update(
            status="blocked", stage=_stage_of(stopped), **no_evidence(_stage_of(stopped), text),
            reason=f"{stopped.kind} {stopped.name} could not be done: {text}",
        )  # fmt: skip
    elif stopped.state == "failed":
        is_own = stopped is not chain.reference and stopped in tuple(chain.steps())
        if chain.built_in is not None:  # what it is about is whether this stack loads what another one built
            is_own = stopped is chain.engine or stopped is chain.run
        moved = cell.built_on is not None and cell.built_on.id != cell.engine.id
        _fail(result, stopped, records[stopped.key], records, log, own=is_own, moved=moved)
    else:
        result.update(status="skipped", stage=_last_stage(stages), reason=not_run or "not run")
    return result


def _with_noise(comparison: Any, reference: StepRecord | None) -> Any:
    """A comparison with the reference's noise floor beside each output's error: what the framework in FP32 differs from itself
    by, computed in another way. By places: exporters rename outputs."""
    about = (reference.record["result"].get("noise") if reference is not None else None) or {}
    floors: dict[str, list[Mapping[str, Any]]] = {}
    for entry in about.get("outputs") or ():
        floors.setdefault(entry["case"], []).append(entry)
    if not comparison or not floors:
        return comparison
    outputs = []
    for output in comparison["outputs"]:
        of = floors.get(output["case"]) or [{}]
        first = of.pop(0) if output["case"] in floors and of else {}
        noise = {name: first[name] for name in ("max_abs", "max_rel", "scale") if name in first} or None
        outputs.append({**output, "noise": noise})
    return {**comparison, "outputs": outputs, "noise_by": about.get("method")}


def _leave_alone(result: dict[str, Any], claim: Claim) -> None:
    """Predicted not to work, and not tried."""
    result.update(
        status="unsupported", stage="resolve", reason=f"{claim.subject}: {claim.because}", category=None,
        line=None, diagnosis=f"Not tried. It needs that {claim.meaning}; the facts say: {claim.because}.",
        remedy=_sentence(claim.change),
        source="; ".join(dict.fromkeys(source for fact in claim.facts for source in fact.sources)) or None,
    )  # fmt: skip


def _sentence(text: str) -> str | None:
    return f"{text[0].upper()}{text[1:]}; or run it all the same with --no-predict." if text else None


def isolation(chain: Chain) -> dict[str, str]:
    """How the cell's two stacks are realised: docker or venv."""
    return {"engine": chain.engine.data["isolation"], "exporter": chain.exporter.data["isolation"]}


def _stopped(chain: Chain, infrastructure: Mapping[Step, str]) -> Step | None:
    """The step that decides a cell that did not get to its end; None when it did. What this machine cannot do comes
    before what failed, since nothing was tried; a step that waits is decided by the one it waits for."""
    around = (chain.engine, chain.exporter, chain.built_in)
    skipped = next((step for step in around if step is not None and step.state == "skip"), None)
    if skipped is not None:
        return skipped
    wanted: list[Step | None] = [chain.exporter, chain.built_in, chain.engine, chain.obtain, chain.export]
    wanted += [chain.calibrate, chain.convert, chain.build]
    if chain.run.state != "skip":
        wanted += [chain.reference, chain.run, chain.measure]
    for step in (step for step in wanted if step is not None):
        if step.state == "stored":
            continue
        before = [
            need for need in (step.environment, *step.needs, *(n.environment for n in step.needs)) if need is not None
        ]
        cause = next((need for need in before if need.state == "failed" or need in infrastructure), step)
        if step.kind == "environment" and cause is step and step.state != "failed" and step not in infrastructure:
            continue  # nothing had to run in it
        return cause
    return None


def _judge(result: dict[str, Any]) -> None:
    """Every step ran: does it match, and is it what was asked?"""
    comparison = result["comparison"] or {}
    verdict = comparison.get("verdict", "none")
    if verdict != "match":
        reason = comparison.get("reason") or "no comparison was formed"
        also = f" It is not what was asked either: {_not_asked(result)}." if result["degraded"] else ""
        locate = "`enginematrix locate CELL` finds the first tensor that goes wrong"
        result.update(
            status="mismatch", stage="compare", reason=reason, category="accuracy", line=reason,
            diagnosis=f"The engine ran and its outputs are not those of the reference within the recipe's tolerance.{also}",
            remedy=f"{_remedy(result['degraded'][0])} If the numbers are wrong then too, {locate}." if result["degraded"]
            else f"{locate}; try fp32, another opset or another release to see which of them brings the difference.",
        )  # fmt: skip
        return
    result.update(status="verified", stage="measure" if result["measure"] else "compare")
    result["reason"] = "outputs match the reference"
    if result["degraded"]:
        _degrade(result)


def _degrade(result: dict[str, Any]) -> None:
    first = result["degraded"][0]
    built = result["status"] == "built"
    line = f"asked {first['asked']}, got {first['got']}"
    result.update(
        status="degraded", category=degraded_by(first), line=f"{line}: {first['how']}",
        reason=("built, not run here, and " if built else "runs and matches, but ") + f"{line} ({first['how']})",
        diagnosis=f"Without an error, the cell is not what was asked: {_not_asked(result)}.",
        remedy=_remedy(first),
    )  # fmt: skip


def _not_asked(result: Mapping[str, Any]) -> str:
    """`asked fp16, got fp32`, of everything that is not what was asked."""
    pairs = dict.fromkeys(f"asked {entry['asked']}, got {entry['got']}" for entry in result["degraded"])
    return "; ".join(pairs)


#: What is asked is a precision, or else who does the work: a provider, a device, a delegate, an engine's segment.
_PRECISION = re.compile(r"\b(fp|bf|f|int|tf)(4|8|16|32|64)\b", re.IGNORECASE)
_REMEDIES = {
    "opset-changed": "Ask for the opset that the exporter really writes, or take the exporter that writes the one asked for.",
    "precision-fallback": "Run this precision on a device that computes in it, or ask for the precision that is used here.",
    "silent-fallback": "Install what the device or provider asked for needs, or ask for the one that does the work here.",
    "version-differs": "Something else on the path shadows the declared package; look at the loaded libraries of this cell.",
}


def _remedy(entry: Mapping[str, Any]) -> str:
    """What to do about one thing that is not what was asked."""
    if entry["got"] == "tf32":
        return (
            "Leave the option `tf32` off where FP32 is meant: with it products have 10 bits of mantissa in place of 23."
        )
    return _REMEDIES.get(degraded_by(entry), "Ask for what the library really does, or take another release.")


def degraded_by(entry: Mapping[str, Any]) -> str:
    """The category of one thing that is not what was asked."""
    asked = str(entry["asked"])
    if asked.startswith("opset"):
        return "opset-changed"
    if "declared version" in str(entry["how"]) or asked.startswith("one package for "):
        return "version-differs"
    return "precision-fallback" if _PRECISION.search(asked) else "silent-fallback"


def _fail(
    result: dict[str, Any],
    step: Step,
    record: StepRecord,
    records: Mapping[str, StepRecord],
    log: Log,
    *,
    own: bool,
    moved: bool = False,
) -> None:
    data = record.record
    end = data.get("end") or {}
    error = data.get("error")
    stage = _failed_stage(step, data)
    status = "failed"
    if "signal" in end:
        status = "crashed"
    elif "timeout" in end:
        status = "timeout"
    elif "memory" in end:
        status = "out-of-memory"
    environment = records.get(step.environment.key) if step.environment is not None else None
    around = environment.record if environment else {}
    modules = around.get("probe", {}).get("modules", {})
    versions = {name: str(module["version"]) for name, module in modules.items() if module.get("version")}
    text = log(around.get("log") or "") + log(data.get("log") or "")
    found: Diagnosis = diagnose(stage, status, error, end, text, versions)
    reason = f"{_WHAT.get(step.kind, step.kind)} {_ended(end)}: {found.line}"
    if not own:
        status, reason = "blocked", f"{step.kind} {step.name}, which it needs, failed: {found.line}"
    result.update(
        status=status, stage=stage, reason=reason, category=found.category, signature=found.signature, line=found.line,
        diagnosis=found.diagnosis, remedy=found.remedy, source=found.source,
    )  # fmt: skip
    result["loaded"] = data.get("loaded") or result["loaded"]
    if moved and own:
        result.update(portability_grid.refusal(result))


_WHAT = {
    "convert": "conversion of the exported model", "calibrate": "calibration of the exported model",
    "environment": "environment",
}  # fmt: skip


def _ended(end: Mapping[str, Any]) -> str:
    if "signal" in end:
        return "died of " + str(end.get("name") or f"signal {end['signal']}")
    if "timeout" in end:
        return f"did not end within {float(end['timeout']):g} s"
    if "memory" in end:
        return f"needed more than {int(end['memory']) / 2**30:.1f} GiB"
    return "failed"


def _failed_stage(step: Step, data: Mapping[str, Any]) -> str:
    if step.kind in ("export", "calibrate", "convert", "reference", "obtain"):
        return "export" if step.kind != "obtain" else "obtain"
    error = data.get("error") or {}
    if error.get("stage") and error["stage"] not in ("convert",):
        return str(error["stage"])
    entered = [entry["stage"] for entry in data.get("stages") or ()]
    return str(entered[-1]) if entered else _stage_of(step)


def _stage_of(step: Step) -> str:
    return {"calibrate": "export", "convert": "export", "reference": "export"}.get(step.kind, step.kind)


def _last_stage(stages: Sequence[Mapping[str, Any]]) -> str:
    done = [entry["stage"] for entry in stages if entry["state"] == "ok"]
    return str(done[-1]) if done else "resolve"


def _degraded(chain: Chain, records: Mapping[str, StepRecord]) -> list[dict[str, Any]]:
    """Everything that is not what was asked, from every step."""
    out: list[dict[str, Any]] = []
    for step in dict.fromkeys((chain.exporter, chain.built_in, chain.engine)):
        if step is not None and step.key in records:
            out += records[step.key].record.get("differs") or []
    asked = chain.cell.options.get("opset")
    export = records.get(chain.export.key) if chain.export.state == "stored" else None
    if asked and export is not None:
        written = export.record["result"].get("opset")
        if str(written) != asked:
            out.append(
                {
                    "asked": f"opset {asked}",
                    "got": f"opset {written}",
                    "how": "written by the exporter without an error",
                }
            )
    for step in (chain.build, chain.run):
        if step.state == "stored" and step.key in records:
            out += [e for e in records[step.key].record["result"].get("degraded") or [] if e not in out]
    return out


def _files(chain: Chain, records: Mapping[str, StepRecord]) -> dict[str, Any]:
    """Where the model this cell built from, the cases it was compared on and the smallest pieces of the model that the
    engine refused lie, relative to `artifacts/`."""
    graph = chain.convert or chain.export
    model = records.get(graph.key) if graph.state == "stored" else None
    reference = records.get(chain.reference.key) if chain.reference.state == "stored" else None
    refused = records.get(chain.build.key) if chain.build.state == "failed" else None
    run = records.get(chain.run.key) if chain.run.state == "stored" else None
    return {
        "model": model.record["artifact"]["path"] if model else None,
        "cases": [case["artifact"]["path"] for case in reference.record["cases"]] if reference else [],
        "subgraphs": [_piece(piece) for piece in refused.record.get("subgraphs", ())] if refused else [],
        "pictures": [_picture(picture) for picture in run.record.get("pictures", ())] if run else [],
    }


def _picture(picture: Mapping[str, Any]) -> dict[str, Any]:
    """An output drawn beside the reference's, as the report has it."""
    names = ("case", "name", "kind", "width", "height", "step", "difference", "broken")
    return {"path": picture["artifact"]["path"], **{name: picture.get(name) for name in names}}


def _piece(piece: Mapping[str, Any]) -> dict[str, Any]:
    """A piece of a model that was refused, as the report has it."""
    names = ("node", "operator", "nodes", "of", "smallest", "reason")
    return {"path": piece["artifact"]["path"], **{name: piece.get(name) for name in names}}


def _stages(chain: Chain, records: Mapping[str, StepRecord]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    wanted: list[tuple[Step, tuple[str, ...]]] = [
        (chain.exporter, ("environment",)), *([(chain.built_in, ("environment",))] if chain.built_in else []),
        (chain.engine, ("environment",)), *([(chain.obtain, ("obtain",))] if chain.obtain else []), (chain.export, ("export",)),
        *([(chain.calibrate, ("export",))] if chain.calibrate else []),
        *([(chain.convert, ("export",))] if chain.convert else []), (chain.build, ("parse", "build")),
        (chain.run, ("load", "run", "compare")), *([(chain.measure, ("measure",))] if chain.measure else []),
    ]  # fmt: skip
    for step, names in wanted:
        record = records.get(step.key) if step.state in ("stored", "failed") else None
        seconds = (
            {e["stage"]: e.get("seconds") for e in (record.record.get("stages") or ()) if "stage" in e}
            if record
            else {}
        )
        log = record.record.get("log") if record else None
        failed = _failed_stage(step, record.record) if record is not None and step.state == "failed" else None
        reached = True
        unloaded = record is not None and bool((record.record.get("result") or {}).get("unloaded"))
        for name in names:
            if step.state == "skip" or unloaded:
                state = "skipped"
            elif record is None or not reached:
                state = "not-reached"
            elif name == failed or (failed is not None and name == names[-1]):
                state, reached = "failed", False
            else:
                state = "ok"
            if state == "failed" and name != failed and failed in names:
                state = "not-reached"
            took = seconds.get(name)
            if took is None and record is not None and len(names) == 1:
                took = record.seconds
            entry = {
                "stage": name,
                "state": state,
                "seconds": took,
                "log": log if state in ("ok", "failed") else None,
                "step": step.kind,
            }
            out.append(entry)
    return out


def _measure(result: Mapping[str, Any]) -> dict[str, Any]:
    samples = result.get("samples")
    return {
        "status": "settled" if result.get("settled") else "unstable",
        "median": result.get("median") if result.get("settled") else None,
        "p90": result.get("p90") if result.get("settled") else None,
        "p99": result.get("p99") if result.get("settled") else None,
        "samples": samples if isinstance(samples, int) else len(samples or ()),
        "windows": result.get("windows") or [],
        "load": result.get("load"),
    }


def _speed(chain: Chain, records: Mapping[str, StepRecord], build: StepRecord | None) -> dict[str, Any]:
    """What stands beside the latency: throughput by batch, build time, engine size, memory, and the speed-up over the
    framework's baseline with its interval, or why there is none."""
    assert chain.measure is not None
    timed = records[chain.measure.key].record
    result = timed["result"]
    out: dict[str, Any] = {name: result.get(name) for name in ("batch", "throughput", "batches", "device", "memory")}
    out["device"] = _without_file(out["device"])
    out["batches"] = [
        {**(_without_file(entry) or {}), "device": _without_file(entry.get("device"))} for entry in out["batches"] or ()
    ]
    out.update(build_seconds=None, build_memory=None, engine_bytes=None, baseline=None, speedup=None)
    if build is not None:
        entries = build.record.get("stages") or ()
        out["build_seconds"] = sum(entry.get("seconds") or 0.0 for entry in entries) or None
        out["build_memory"] = (build.record.get("usage") or {}).get("max_rss")
        out["engine_bytes"] = (build.record.get("artifact") or {}).get("bytes")
    out["raw"] = list(timed.get("samples") or ())
    step = chain.speedup
    out["no_baseline"] = chain.no_baseline or None
    if step is None:
        return out
    record = records.get(step.key)
    if step.state == "stored" and record is not None:
        out["baseline"], out["speedup"] = record.record["result"]["baseline"], record.record["result"]["speedup"]
        out["raw"] += record.record.get("samples") or ()
    elif step.state == "failed" and record is not None:
        text = str((record.record.get("error") or {}).get("message", "")).splitlines() or [""]
        out["no_baseline"] = f"timing the {record.record.get('side')} beside the other failed: {text[0]}"
    else:
        lost = next((need for need in before(step) if need.state == "failed"), None)
        out["no_baseline"] = f"{lost.kind} {lost.name} failed" if lost else "the comparison was not run"
    return out


def _without_file(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A series' figures without the name of a file that is gone: `raw` names the samples."""
    return None if entry is None else {name: value for name, value in entry.items() if name != "samples_file"}


#: Failures that may only show when an engine is loaded and run.
_AFTER_BUILDING = frozenset({
    "mismatch", "accuracy", "degraded", "precision-fallback", "silent-fallback", "crashed", "crash", "timeout",
    "out-of-memory", "memory", "gpu-memory", "failed", "load-error", "run-error", "compare-error", "measure-error",
    "engine-version", "engine-gpu", "python-abi", "no-gpu", "driver-too-old",
})  # fmt: skip


def expectation(expect: Expect | None, result: Mapping[str, Any], today: datetime.date) -> dict[str, Any] | None:
    """How a result stands to the cell's `expect:` entry; None where there is none, or nothing was learnt."""
    if expect is None or result["status"] in ("skipped", "blocked", "unsupported"):
        return None
    fails = result["status"] in FAILING
    if not fails and result["status"] == "built" and expect.fail in _AFTER_BUILDING:
        return None  # it could still show itself where the engine is loaded
    if not fails:
        state = "fixed"
    elif expect.fail not in (result["status"], result["category"], result["signature"]):
        state = "other-failure"
    elif expect.until is not None and today > datetime.date.fromisoformat(expect.until):
        state = "overdue"
    else:
        state = "expected"
    return {
        "state": state, "fail": expect.fail, "because": expect.because, "until": expect.until, "where": str(expect.where),
    }  # fmt: skip


def unexpected(result: Mapping[str, Any]) -> bool:
    """Whether a result is red: it fails, and nobody said so beforehand (or no longer)."""
    expected = result.get("expected")
    if result.get("suite") and not result["suite"]["strict"]:
        return expected is not None and expected["state"] in ("overdue", "other-failure")
    return result["status"] in FAILING and (expected is None or expected["state"] != "expected")
