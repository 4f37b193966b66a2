"""Which whole stack to take for a GPU, a driver and a set of versions: ranked by evidence, with the facts. Pure but for the
results database, which is read only. Plans nothing, starts nothing, asks no network.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder import knowledge
from builder.facts_records import CATALOG, Catalog
from builder.pick_conflict import Conflict, explain, relaxed
from builder.pick_evidence import Key, Observation, newest
from builder.pick_judge import Hardware, Judge, Question, Verdict
from builder.pick_stacks import Candidate, candidates

Class = Literal["verified", "verified elsewhere", "documented", "inferred", "unknown", "failed"]
CLASSES: tuple[Class, ...] = ("verified", "verified elsewhere", "documented", "inferred", "unknown", "failed")
"""Best first. `documented`: facts with sources support each requirement; `inferred`: as much, but one of them follows from
others or is disputed; `unknown`: nothing speaks against it, and something is not recorded; `failed`: it was run for just this
on that kind of GPU, and did not work."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What runs have shown of a stack for a question."""

    of: Class
    latest: Observation | None = None
    """The newest run that `of` rests on; None where it rests on facts."""
    measured: Observation | None = None
    """The newest of those runs whose latency was measured."""
    verified: int = 0
    tried: int = 0
    """Cells of the question's model and precision, on machines of that kind: how many were verified, of how many."""
    expired: bool = False
    notes: tuple[str, ...] = ()
    objections: tuple[Observation, ...] = ()
    """Newest runs of the very model, opset and precision that was asked for, wherever, that did not work; newest first. ()
    where no model is asked for."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A stack that fits, or is explained."""

    stack: Candidate
    verdicts: tuple[Verdict, ...]
    evidence: Evidence

    @property
    def fits(self) -> bool:
        return all(verdict.met for verdict in self.verdicts)

    @property
    def usable(self) -> bool:
        """Whether it fits, and the very model that was asked for did not fail on it: observation beats documentation."""
        return self.fits and not (self.evidence.of == "failed" and self.evidence.objections)


@dataclass(frozen=True, kw_only=True)
class Picked:
    """The answer. `conflicts` only where `choices` is empty."""

    question: Question
    choices: tuple[Choice, ...]
    conflicts: tuple[Conflict, ...]
    judged: int
    """Stacks that were looked at."""
    open: tuple[str, ...] = ()
    """Stacks that nothing speaks against, but of which a needed component's version is not recorded."""

    @property
    def usable(self) -> bool:
        """Whether any of the choices is."""
        return any(choice.usable for choice in self.choices)


def pick(
    question: Question, observations: Mapping[Key, Sequence[Observation]], *, now: datetime.datetime, max_age: float = 180.0,
    catalog: Catalog = CATALOG,
) -> Picked:  # fmt: skip
    """Every stack that fits, best evidence first, or why there is none. `max_age`: days. Raises SpecErrors."""
    judge = Judge(catalog)
    stacks = candidates(catalog)
    choices = [choice(stack, question, observations, judge, now=now, max_age=max_age) for stack in stacks]
    fitting = ranked([found for found in choices if found.fits])
    judged = [(found.stack, found.verdicts) for found in choices]
    conflicts = () if fitting else explain(judged, question, judge)
    unrecorded = tuple(
        found.stack.id for found in choices
        if not found.fits and all(verdict.state != "unsupported" for verdict in found.verdicts)
    )  # fmt: skip
    return Picked(question=question, choices=tuple(fitting), conflicts=conflicts, judged=len(stacks), open=unrecorded)


def choice(
    stack: Candidate, question: Question, observations: Mapping[Key, Sequence[Observation]], judge: Judge, *,
    now: datetime.datetime, max_age: float,
) -> Choice:  # fmt: skip
    """One stack, judged by facts and then by what was observed. Raises SpecErrors."""
    verdicts = judge.verdicts(stack, question)
    seen = [item for name in stack.keys for item in observations.get(name, ())]
    evidence = weigh(stack, question, seen, now=now, max_age=max_age, catalog=judge.catalog)
    if evidence.of == "verified" and evidence.latest is not None:
        verdicts = tuple(_observed(verdict, question, evidence.latest) for verdict in verdicts)
    if evidence.latest is None:
        evidence = replace(evidence, of=_documented(verdicts))
    return Choice(stack=stack, verdicts=verdicts, evidence=evidence)


def _documented(verdicts: Sequence[Verdict]) -> Class:
    if any(verdict.state != "supported" for verdict in verdicts):
        return "unknown"
    return "inferred" if any(verdict.inferred for verdict in verdicts) else "documented"


def _observed(verdict: Verdict, question: Question, run: Observation) -> Verdict:
    """Observation beats documentation, for what the run had: the GPU, the driver, the precision, the Python."""
    had = {
        # That it ran on a GPU does not show that it needs none.
        "gpu": bool(run.gpus and question.gpu and question.gpu.capabilities), "driver": run.driver == question.driver,
        "precision": run.precision == question.precision,
        "python": run.fields.get("python") == question.python, "opset": run.opset == str(question.opset),
    }  # fmt: skip
    if verdict.state == "supported" or not had.get(verdict.requirement.key):
        return verdict
    text = f"it ran on {run.when[:10]} on {run.machine}; against the facts: {verdict.because}"
    return replace(verdict, state="supported", because=text)


def weigh(
    stack: Candidate, question: Question, seen: Sequence[Observation], *, now: datetime.datetime, max_age: float,
    catalog: Catalog = CATALOG,
) -> Evidence:  # fmt: skip
    """What runs say of a stack. Without any that count, `of` is `unknown` and `latest` None."""
    if question.python:
        seen = [item for item in seen if item.fields.get("python", question.python) == question.python]
    latest = newest(item for item in seen if not question.precision or item.precision == question.precision)
    groups: dict[tuple[str, ...], list[Observation]] = {}
    for item in latest:
        groups.setdefault(_differs(stack, question, item, catalog), []).append(item)
    asked = bool(question.model or question.file)
    mine = [item for differs, items in groups.items() if set(differs) <= {"gpu"} for item in items]
    against = tuple(item for item in newest(mine) if not item.verified) if asked else ()
    here = groups.get((), [])
    if stack.device == "cuda" and not any(item.verified for item in here):
        here = [
            item for item in here if item.gpus
        ]  # what fails where it could not have run has not failed for just this
    if here:
        verified = [item for item in here if item.verified]
        # The newest under the driver that was asked for, else the newest of all.
        verified.sort(key=lambda item: item.driver == question.driver, reverse=True)
        found = _evidence(
            "verified" if verified else "failed", verified or here, question, now, max_age, tried=len(here)
        )
        return replace(found, objections=against)
    # The nearest: of the same model before others', on the same kind of GPU before others.
    for differs, items in sorted(
        groups.items(), key=lambda group: [name in group[0] for name in ("model", "gpu", "opset")]
    ):
        # A run on a CPU says nothing of a GPU.
        able = [item for item in items if stack.device == "cpu" or (item.gpus and item.role == "engine")]
        if verified := [item for item in able if item.verified]:
            note = _elsewhere(differs, verified, question)
            found = _evidence("verified elsewhere", verified, question, now, max_age, note, tried=len(able))
            return replace(found, objections=against)
    return Evidence(of="unknown", objections=against)


def _differs(stack: Candidate, question: Question, run: Observation, catalog: Catalog) -> tuple[str, ...]:
    """In what a run is not just what was asked for: `model`, `gpu`, `opset`."""
    out = []
    if (question.model or question.file) and run.model != question.model:
        out.append("model")
    if not _same_kind(stack, question, run, catalog):
        out.append("gpu")
    if question.opset and run.opset != str(question.opset):
        out.append("opset")
    return tuple(out)


def _elsewhere(differs: Sequence[str], runs: Sequence[Observation], question: Question) -> str:
    words = []
    if "gpu" in differs:
        words.append(f"on {runs[0].machine}, not on what was asked for")
    if "model" in differs:
        models = sorted({run.model for run in runs})
        more = f" and {len(models) - 3} more" if len(models) > 3 else ""
        words.append(f"with other models ({', '.join(models[:3])}{more}), not with {question.model or question.file}")
    if "opset" in differs:
        opsets = sorted({run.opset for run in runs if run.opset}, key=lambda text: (len(text), text))
        words.append(f"at opset {', '.join(opsets) or 'not recorded'}, not at {question.opset}")
    return "; ".join(words)


def _evidence(of: Class, runs: Sequence[Observation], question: Question, now: datetime.datetime, max_age: float,
              note: str = "", *, tried: int) -> Evidence:  # fmt: skip
    """`runs`: those that it rests on, the first of which is shown."""
    run = runs[0]
    notes = [note] if note else []
    days = (now - _instant(run.when, now)).total_seconds() / 86400
    expired = days > max_age
    if expired:
        notes.append(f"expired: {days:.0f} days old, the limit is {max_age:g}")
    if question.driver and run.driver and run.driver != question.driver:
        notes.append(f"under driver {run.driver}, not {question.driver}")
    if run.role == "exporter":
        notes.append("as the exporter of a model, on the CPU")
    return Evidence(
        of=of, latest=run, measured=next((item for item in runs if item.latency is not None), None), tried=tried,
        verified=sum(item.verified for item in runs), expired=expired, notes=tuple(notes),
    )  # fmt: skip


def _instant(text: str, now: datetime.datetime) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def _same_kind(stack: Candidate, question: Question, run: Observation, catalog: Catalog) -> bool:
    """Whether a run was on the kind of GPU that is asked about. Where none is asked about, any machine is of that
    kind; a run that used no GPU shows nothing of one."""
    gpu = question.gpu
    if gpu is None or not gpu.capabilities:
        return True
    if stack.device == "cpu" or run.role == "exporter" or not run.gpus:
        return False
    if not gpu.facts and len(gpu.names) < 2:  # asked by its compute capability, or not in the catalog
        names = {gpu.name.casefold()}
        return any(capability in gpu.capabilities or name.casefold() in names for name, capability in run.gpus)
    return all(_among(name, run, catalog) for name in gpu.names or (gpu.name,))


def _among(name: str, run: Observation, catalog: Catalog) -> bool:
    asked = _gpus(name, catalog)
    return any(name.casefold() == its.casefold() or asked & _gpus(its, catalog) for its, _ in run.gpus)


def _gpus(name: str, catalog: Catalog) -> frozenset[str]:
    """The GPUs of the catalog that a name may mean. Asked once: many runs were on the same few."""
    known = _NAMED.setdefault(catalog, {})
    if name not in known:
        known[name] = frozenset(entry.key for entry in knowledge.gpu(name, catalog=catalog).value or ())
    return known[name]


_NAMED: dict[Catalog, dict[str, frozenset[str]]] = {}


def ranked(choices: Sequence[Choice]) -> list[Choice]:
    """Best evidence first; within a class the fresh before the expired, what no run of the model speaks against before the
    rest, what is known to take its opset and IR version before what is not, and the newest before the old: by the day of the
    run, or, of stacks that nobody ran, by how many newer releases of the same thing fit too."""
    newer: dict[str, list[int]] = {}
    for found in choices:
        newer.setdefault(found.stack.group, []).append(found.stack.order)
    places = {group: {order: place for place, order in enumerate(sorted(set(orders), reverse=True))}
              for group, orders in newer.items()}  # fmt: skip

    def rank(found: Choice) -> tuple[object, ...]:
        run = found.evidence.latest
        day = "".join(chr(255 - ord(mark)) for mark in run.when[:10]) if run else ""
        place = places[found.stack.group][found.stack.order]
        return (
            CLASSES.index(found.evidence.of),
            found.evidence.expired,
            found.evidence.of != "verified" and bool(found.evidence.objections),
            sum(
                verdict.requirement.key in ("opset", "ir") and verdict.state != "supported"
                for verdict in found.verdicts
            ),
            day,
            place,
            found.stack.kind,
            found.stack.group,
        )

    return sorted(choices, key=rank)


def find(name: str, stacks: Sequence[Candidate]) -> Candidate | None:
    """A stack by the name that `pick` prints, by its image's whole name, or by the name of its environment
    (`onnxruntime-1.17.3-py3.12`)."""
    wanted = name.removeprefix("nvcr.io/nvidia/")
    for stack in stacks:
        if stack.id == wanted or (stack.reference and stack.reference == name):
            return stack
    whole, _, tail = wanted.rpartition("-py")
    if whole and tail.replace(".", "").isdigit():
        return find(whole, stacks)
    return None


def why(found: Choice, question: Question, stacks: Sequence[Candidate], judge: Judge) -> tuple[Conflict, ...]:
    """What speaks against one stack, and the nearest value of each with which it would fit: of a needed version, the nearest
    that some release of the same thing has."""
    group = [stack for stack in stacks if stack.group == found.stack.group]
    releases = [(stack, judge.verdicts(stack, question)) for stack in group]
    out = []
    for verdict in found.verdicts:
        if not verdict.met:
            key = verdict.requirement.key
            judged = releases if key.startswith("need:") else [(found.stack, _only(found.verdicts, key))]
            relax, stack = relaxed(verdict.requirement, judged, question, judge)
            out.append(Conflict(requirement=verdict.requirement, verdict=verdict, relax=relax, stack=stack))
    return tuple(out)


def _only(verdicts: Sequence[Verdict], key: str) -> tuple[Verdict, ...]:
    """The verdicts as if all but one requirement were met: of one stack, each is mended by itself."""
    return tuple(item for item in verdicts if item.requirement.key == key or item.met)


def hardware(name: str, catalog: Catalog = CATALOG) -> Hardware | str:
    """The GPU of a name ("RTX 4090"), or of a compute capability ("8.9", "sm89"); or why there is none, with the nearest."""
    import re

    match = re.fullmatch(r"(?:sm_?|compute_?|cc ?)?([1-9][0-9]?)\.?([0-9])[a-f]?", name.strip(), re.IGNORECASE)
    if match:
        capability = f"{match[1]}.{match[2]}"
        return Hardware(name=f"of compute capability {capability}", capabilities=(capability,))
    answer = knowledge.gpu(name, catalog=catalog)
    if answer.value is None:
        return answer.unknown
    capabilities = tuple(sorted({entry.capability for entry in answer.value}, key=knowledge.number))
    kinds = {entry.kind for entry in answer.value}
    return Hardware(
        name=name, capabilities=capabilities, kind=kinds.pop() if len(kinds) == 1 else "", facts=answer.facts
    )


def of_machine(gpus: Sequence[tuple[str, str]], catalog: Catalog = CATALOG) -> Hardware:
    """The GPUs of a machine, (name, compute capability) each, as one question: a stack must take all of them."""
    if not gpus:
        return Hardware(name="none")
    names = tuple(dict.fromkeys(name for name, _ in gpus))
    answers = [knowledge.gpu(name, catalog=catalog) for name in names]
    kinds = {entry.kind for answer in answers for entry in answer.value or ()}
    sure = len(kinds) == 1 and all(answer.value for answer in answers)
    return Hardware(
        name=" + ".join(names), names=names if len(names) > 1 else (),
        capabilities=tuple(sorted({capability for _, capability in gpus}, key=knowledge.number)),
        kind=kinds.pop() if sure else "", facts=tuple(dict.fromkeys(fact for answer in answers for fact in answer.facts)),
    )  # fmt: skip
