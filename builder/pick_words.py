"""The answers of `pick` as text and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from builder.answers import Fact
from builder.pick import Choice, Evidence, Picked
from builder.pick_conflict import Conflict
from builder.pick_evidence import Observation
from builder.pick_judge import Question, Verdict

_SIGNS = {"supported": "yes", "unsupported": "no", "unknown": "unknown"}


def lines(found: Picked, limit: int) -> list[str]:
    """The answer as people read it."""
    out = [f"Asked: {_asked(found.question)}", ""]
    if found.choices and not found.usable:
        out.append(f"{len(found.choices)} of {found.judged} known stacks fit by the facts, and {found.question.model} failed "
                   "on all of them:")  # fmt: skip
    elif found.choices:
        out.append(f"{len(found.choices)} of {found.judged} known stacks fit; best evidence first:")
    if found.choices:
        out += _unrun(found)
        for place, choice in enumerate(found.choices[:limit], 1):
            out += ["", *_choice(place, choice, whole=place == 1)]
        if len(found.choices) > limit:
            out += ["", f"{len(found.choices) - limit} more: --limit {len(found.choices)}"]
    else:
        out.append(f"None of {found.judged} known stacks fits: these exclude each other.")
        out += _conflicts(found.conflicts)
    if found.open:
        out += ["", f"Not counted, since what they hold of what is needed is not recorded: {', '.join(found.open[:6])}"
                + (f" and {len(found.open) - 6} more" if len(found.open) > 6 else "")]  # fmt: skip
    return out


def _unrun(found: Picked) -> list[str]:
    """Plainly, where no evidence is of the very model."""
    question = found.question
    model = question.model or question.file
    runs = (run for choice in found.choices for run in (choice.evidence.latest, *choice.evidence.objections) if run)
    if not model or any(run.model == question.model for run in runs):
        return []
    which = (
        f"{model} is no recipe, so that no stored run is of it"
        if question.file
        else f"no run of {model} is stored of these"
    )
    return [f"({which}: whatever is verified here was so with other models)"]


def explain_lines(found: Choice, against: Sequence[Conflict], instead: str) -> list[str]:
    """One stack, each requirement with its sources. `instead`: a release of the same thing that fits, or ''."""
    word = "fits" if found.usable else "does not fit"
    if found.fits and not found.usable:
        word = f"fits by the facts, and {found.evidence.objections[0].model} failed on it"
    out = [f"{found.stack.id} {word}: {_holds(found)}", f"    evidence: {_evidence(found.evidence)}"]
    out += _objections(found.evidence, 10)
    for verdict in found.verdicts:
        out += _verdict(verdict)
    if not found.verdicts:
        out += ["    nothing was asked of it", *_sources(found.stack.facts)]
    if against:
        out += ["", "To mend:", *(f"    {item.requirement.text}: {_relax(item)}" for item in against)]
        out += [f"    or take {instead}, which fits"] if instead else []
    return out


def _asked(question: Question) -> str:
    texts = [requirement.text for requirement in question.requirements]
    if question.gpu is not None and question.gpu.facts:
        texts[0] += f" (compute capability {' or '.join(question.gpu.capabilities)})"
    if question.model or question.file:
        texts.append(f"model {question.model or question.file}")
    return ", ".join(texts) or "nothing in particular"


def _choice(place: int, choice: Choice, *, whole: bool) -> Iterable[str]:
    yield f"{place}. {choice.stack.id}: {_evidence(choice.evidence)}"
    yield f"    {_holds(choice)}"
    yield from _objections(choice.evidence, 3 if whole else 1)
    for verdict in choice.verdicts:
        if whole:
            yield from _verdict(verdict)
        elif verdict.state != "supported":
            yield f"    {verdict.requirement.text}: {_SIGNS[verdict.state]}: {verdict.because}"


def _holds(choice: Choice) -> str:
    stack = choice.stack
    text = ", ".join(f"{name} {version}" for name, version in stack.components.items())
    if stack.pythons:
        text += f"; Python {', '.join(stack.pythons)}"
    return text


def _evidence(evidence: Evidence) -> str:
    run = evidence.latest
    if run is None:
        return evidence.of
    text = f"{evidence.of} on {run.when[:10]} on {run.machine}, {evidence.verified} of {evidence.tried} cells verified"
    if (timed := evidence.measured) is not None and timed.latency is not None:
        where = "" if timed.machine == run.machine else f" on {timed.machine}"
        text += f", {timed.latency * 1000:.3g} ms for {timed.model} in {timed.precision}{where}"
    if evidence.of == "failed":
        text += f" ({run.category or run.status}; enginematrix show {run.cell})"
    return "; ".join((text, *evidence.notes))


def _objections(evidence: Evidence, limit: int) -> Iterable[str]:
    """What speaks against a stack although the facts do not: how runs of the very model ended, by kind and machine."""
    kinds: dict[tuple[str, str, str], list[Observation]] = {}
    for run in evidence.objections:
        kind = ", ".join(dict.fromkeys((run.status, run.category or run.status)))
        kinds.setdefault((run.model, kind, run.machine), []).append(run)
    for (model, kind, machine), runs in list(kinds.items())[:limit]:
        cells = f"{len(runs)} cells, " if len(runs) > 1 else ""
        told = f"{kind} ({cells}enginematrix show {runs[0].cell})"
        yield f"    objection: {model} on {runs[0].when[:10]} on {machine}: {told}"
    if len(kinds) > limit:
        yield f"    objection: and {len(kinds) - limit} more kinds of failure"


def _verdict(verdict: Verdict) -> list[str]:
    inferred = " (inferred)" if verdict.inferred and verdict.state == "supported" else ""
    head = f"    {verdict.requirement.text}: {_SIGNS[verdict.state]}{inferred}: {verdict.because}"
    return [head, *_sources(verdict.facts)]


def _sources(facts: Iterable[Fact]) -> list[str]:
    sources = dict.fromkeys(source for fact in facts for source in fact.sources)
    doubts = dict.fromkeys(fact.doubt for fact in facts if fact.doubt)
    return [*(f"        but: {doubt}" for doubt in doubts), *(f"        source: {source}" for source in sources)]


def _conflicts(conflicts: Iterable[Conflict]) -> Iterable[str]:
    for item in conflicts:
        yield ""
        yield f"  {item.requirement.text}"
        if item.verdict is not None:
            yield f"    {item.verdict.because}"
            yield from _sources(item.verdict.facts)
        yield f"    relax: {_relax(item)}"


def _relax(item: Conflict) -> str:
    return f"{item.relax} ({item.stack})" if item.relax else "changing this alone helps nothing"


def as_dict(found: Picked) -> dict[str, Any]:
    """The whole answer as plain data."""
    question, gpu = found.question, found.question.gpu
    hardware = (
        {"name": gpu.name, "compute_capability": list(gpu.capabilities), "kind": gpu.kind or None} if gpu else None
    )
    return {
        "schema": 1,
        "asked": {
            "gpu": hardware,
            "driver": question.driver or None, "needs": dict(question.needs), "python": question.python or None,
            "model": question.model or None, "precision": question.precision or None, "platform": question.platform or None,
            "model_file": question.file or None, "opset": question.opset or None, "ir": question.ir or None,
        },
        "usable": found.usable,
        "judged": found.judged,
        "choices": [_choice_dict(choice) for choice in found.choices],
        "not_recorded": list(found.open),
        "conflicts": [_conflict_dict(item) for item in found.conflicts],
    }  # fmt: skip


def explained(found: Choice, against: Sequence[Conflict], instead: str) -> dict[str, Any]:
    """One stack as plain data; `instead` as in `explain_lines`."""
    conflicts = [_conflict_dict(item) for item in against]
    return {"schema": 1, **_choice_dict(found), "conflicts": conflicts, "instead": instead or None}


def _choice_dict(choice: Choice) -> dict[str, Any]:
    stack, evidence = choice.stack, choice.evidence
    return {
        "stack": stack.id, "kind": stack.kind, "fits": choice.fits, "image": stack.reference or None,
        "packages": list(stack.packages), "family": stack.family or None, "fields": dict(stack.fields),
        "components": dict(stack.components), "python": list(stack.pythons), "inferred": sorted(stack.inferred),
        "evidence": {
            "class": evidence.of, "verified": evidence.verified, "tried": evidence.tried, "expired": evidence.expired,
            "notes": list(evidence.notes), "latest": _run_dict(evidence.latest) if evidence.latest else None,
            "measured": _run_dict(evidence.measured) if evidence.measured else None,
            "objections": [_run_dict(run) for run in evidence.objections],
        },
        "requirements": [_verdict_dict(verdict) for verdict in choice.verdicts],
        "facts": [_fact_dict(fact) for fact in stack.facts],
    }  # fmt: skip


def _run_dict(run: Observation) -> dict[str, Any]:
    return {
        "cell": run.cell, "run": run.run, "when": run.when, "status": run.status, "category": run.category or None,
        "role": run.role, "model": run.model, "opset": run.opset or None, "precision": run.precision, "machine": run.machine,
        "driver": run.driver or None, "latency_seconds": run.latency,
    }  # fmt: skip


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "requirement": verdict.requirement.text, "key": verdict.requirement.key, "state": verdict.state,
        "inferred": verdict.inferred, "because": verdict.because, "facts": [_fact_dict(fact) for fact in verdict.facts],
    }  # fmt: skip


def _conflict_dict(item: Conflict) -> dict[str, Any]:
    return {
        "requirement": item.requirement.text, "key": item.requirement.key, "relax": item.relax or None,
        "stack": item.stack or None,
        "verdict": _verdict_dict(item.verdict) if item.verdict else None,
    }  # fmt: skip


def _fact_dict(fact: Fact) -> dict[str, Any]:
    return {"text": fact.text, "doubt": fact.doubt, "sources": list(fact.sources), "where": str(fact.where)}
