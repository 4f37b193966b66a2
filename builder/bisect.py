"""`enginematrix bisect`: between which two releases a model begins or ceases to work (or gets slower), for real.

Along one axis, with all else as in a cell of the matrix, over the releases that the matrix holds and those that the catalog
knows. What is stored is evidence already; the rest is tried in `artifacts/lab/` (`trace_lab`), where it stays, so that a second
call runs nothing. The order of the search is `bisect_search`'s; the cell of each release is made by `bisect_releases`; a slowdown
is judged by `bisect_timing`. docs/bisect.md has the method.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from builder import bisect_search as search
from builder import bisect_timing, isolation, lock, pipeline
from builder.bisect_releases import Axis, Release, contexts, releases, where, words
from builder.bisect_search import Change, Verdict
from builder.environment import engine, uv
from builder.errors import EXIT_BUDGET, EngineMatrixError, InfrastructureError, UsageError
from builder.lock import Lock, Pins
from builder.pipeline import Work
from builder.project import utc
from builder.store import Store
from builder.trace_lab import BUDGET, Lab, no_evidence
from builder.values import FAILING, Cell, Stack

SCHEMA = 1
Kind = Literal["failure", "mismatch", "slowdown"]
KINDS: tuple[Kind, ...] = ("failure", "mismatch", "slowdown")
_GOOD = frozenset({"verified", "built"})
_INSTALL = frozenset({"packaging", "resolve-error", "image-unavailable"})
"""Categories that say that there is no such environment, nothing of what happens in it."""
_SAYS: Mapping[Kind, tuple[str, str]] = {
    "failure": ("fails", "works"), "mismatch": ("gives wrong numbers", "gives the right ones"),
    "slowdown": ("is slower", "is as fast"),
}  # fmt: skip
_NO_PYTHON = "no CPython "
"""Begins what `interpreters.find` says where this machine lacks one."""
Told = Callable[[str], None]


class OverBudget(EngineMatrixError):
    """The time is over; what was found out stays."""

    exit_code = EXIT_BUDGET

    def __init__(self) -> None:
        super().__init__("the time budget ended; the next call goes on from here")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What is known of one release."""

    release: str
    verdict: Verdict
    source: Literal["stored", "run", "not tried"]
    status: str
    category: str | None
    line: str
    """What failed; of one that says nothing, why."""
    diagnosis: str | None
    remedy: str | None
    cell: str
    """Id; '' where there is no cell of it."""
    slug: str
    stack: str
    in_matrix: bool
    python: str = ""
    """The Python that it was tried on."""
    infrastructure: bool = False
    timing: Mapping[str, Any] | None = None
    """Of a slowdown: against the good release, `bisect_timing.Compared`."""

    @property
    def text(self) -> str:
        kind = {"good": "good", "bad": "bad", "nothing": "says nothing"}[self.verdict]
        about = self.category or self.status
        if self.timing is not None:
            about = str(self.timing["text"])
        tail = f": {self.line}" if self.verdict == "nothing" else f" ({about})" if about else ""
        return f"{self.release}: {kind}{tail}" + (", stored" if self.source == "stored" else "")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    kind: Kind = "failure"
    good: str | None = None
    bad: str | None = None
    category: str | None = None
    """Count only failures of this category as bad; others say nothing."""
    every: bool = False
    """Try each release, not only as many as it takes."""
    threshold: float = bisect_timing.THRESHOLD


def choose(work: Work, axis: Axis, cells: Sequence[Cell], kind: Kind) -> tuple[list[Cell], int, list[dict[str, Any]]]:
    """(The context to look at, how many there are, what is stored of its cells). Of several: one where something changes, else
    one in which something is bad, else the first. Raises UsageError where there is none."""
    groups = contexts(cells, axis)
    if not groups:
        msg = f"no cell that is asked for has {axis.short}; `enginematrix plan --group all --cells` lists the cells"
        raise UsageError(msg)
    wide = replace(work, cells=tuple(cell for group in groups for cell in group), against={})
    stored = pipeline.stored(wide, command="enginematrix bisect", policy="never", write=False, predict=False).report[
        "cells"
    ]
    known = {cell["id"]: cell for cell in stored}

    def rank(group: list[Cell]) -> tuple[bool, bool]:
        verdicts = {judge(known[cell.id], kind, None)[0] for cell in group}
        return ({"good", "bad"} <= verdicts, "bad" in verdicts)

    best = max(range(len(groups)), key=lambda at: (*rank(groups[at]), -at))
    return groups[best], len(groups), [known[cell.id] for cell in groups[best]]


def judge(outcome: Mapping[str, Any], kind: Kind, category: str | None) -> tuple[Verdict, str]:
    """What an outcome says to the question, and why where that is nothing. For a slowdown: whether it can be timed at all."""
    if lost := no_evidence(dict(outcome)):
        return "nothing", lost
    status = outcome["status"]
    about = str(outcome["line"] or outcome["reason"] or status)
    if outcome["stage"] == "resolve" or (outcome["stage"] == "environment" and outcome["category"] in _INSTALL):
        return "nothing", f"cannot be installed: {about}"
    if status in _GOOD or (kind != "failure" and status == "degraded"):
        if status == "built" and kind != "failure":
            return "nothing", str(outcome["reason"])
        return "good", ""
    if kind == "failure" and (status in FAILING or status == "blocked"):
        if category is None or category in (outcome["category"], outcome["signature"], status):
            return "bad", ""
        return "nothing", f"fails otherwise: {outcome['category'] or status}: {about}"
    if kind == "mismatch" and status == "mismatch":
        return "bad", ""
    return "nothing", f"fails before that can be told: {outcome['category'] or status}: {about}"


class Bisect:
    """One search. `run` gives docs/bisect.md's JSON."""

    def __init__(
        self, work: Work, store: Store, axis: Axis, context: Sequence[Cell], stored: Sequence[Mapping[str, Any]],
        question: Question, *, deadline: float | None = None, say: Told = lambda text: None, only: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """The caller holds `pipeline.in_use` of the store. `only`: releases that are asked for by name, known or not."""
        self.work, self.axis, self.question, self.say = work, axis, question, say
        self.lab = Lab(work, store, deadline=deadline, say=say)
        named = [value for value in (question.good, question.bad, *only) if value is not None]
        self.releases = releases(work, axis, context, only=named)
        self.base = context[0]
        self.place = {release.value: at for at, release in enumerate(self.releases)}
        self.stored = {str(outcome["id"]): outcome for outcome in stored}
        self.locked = lock.read(work.project.lock) or Lock(cutoff=utc())
        self.kept = lock.read(self._lock_file) or Lock(cutoff=self.locked.cutoffs()[1])
        self.found: dict[int, Tried] = {}
        self.runs = 0
        """Releases that something was run for."""
        self.against: Release | None = None
        """Of a slowdown: the release that others are timed against."""

    @property
    def _lock_file(self) -> Any:
        return self.lab.store.root / "bisect.lock"

    @property
    def known(self) -> dict[int, Verdict]:
        return {at: tried.verdict for at, tried in self.found.items()}

    # The search -----------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Search. Raises UsageError where what was given as good or bad is not, InfrastructureError where an end could not be
        tried for its sake."""
        over = False
        change: Change | None = None
        try:
            self._recall()
            change = self._search()
        except OverBudget:
            over = True
        finally:
            self.lab.tidy()
        return self._result(change, over)

    def _search(self) -> Change | None:
        low, high = self._range()
        places = range(low, high + 1)
        inside = {at: verdict for at, verdict in self.known.items() if at in places}
        if self.question.every:
            inside.update({at: self._try(at) for at in places if at not in inside})
        found = search.ends(places, inside, self._try)
        if not found:
            return None
        change = found[-1]  # the newest, where the stored results show several
        left = len(search.between(change, inside))
        self.say(f"{self._told(change)}; {left} {_plural('release', left)} between them not tried: at most {search.bound(left)} "
                 f"{_plural('run', search.bound(left))}")  # fmt: skip
        return search.narrow(change, inside, self._try, lambda now: self._step(now, len(search.between(now, inside))))

    def _told(self, change: Change) -> str:
        return f"{self.releases[change.good].value} is good, {self.releases[change.bad].value} bad"

    def _step(self, change: Change, left: int) -> None:
        steps = search.bound(left)
        self.say(f"{self._told(change)}: {steps} {_plural('step', steps)} to go")

    def _range(self) -> tuple[int, int]:
        """The places to look in. The given ends are tried first, so that they are what they were given as."""
        given = {}
        if self.question.kind == "slowdown" and self.question.good is None:
            given["good"] = self._first_good()
        for verdict, value in (("good", self.question.good), ("bad", self.question.bad)):
            if value is None:
                continue
            at = self.place[value]
            if self.question.kind == "slowdown" and verdict == "good":
                self.against = self.releases[at]
            if at not in self.found:
                self._try(at)
            tried = self.found[at]
            if tried.infrastructure:
                raise InfrastructureError(f"--{verdict} {value} could not be tried: {tried.line}")
            if tried.verdict != verdict:
                msg = (
                    f"says nothing: {tried.line}"
                    if tried.verdict == "nothing"
                    else f"is {tried.text.partition(': ')[2]}"
                )
                raise UsageError(f"--{verdict} {value} {msg}")
            given[verdict] = at
        last = len(self.releases) - 1
        if len(given) == 2:
            return min(given.values()), max(given.values())
        if "good" in given:
            return given["good"], last
        return (0, given["bad"]) if "bad" in given else (0, last)

    # Evidence -------------------------------------------------------------------------------------------------------

    def _recall(self) -> None:
        """What is known of each release without running anything: from the matrix's results, then from the lab's."""
        slow = self.question.kind == "slowdown"
        for at, release in enumerate(self.releases):
            if release.cell is None:
                self.found[at] = self._untried(release, release.why_not)
            elif not slow and (stored := self.stored.get(release.cell.id)) is not None:
                verdict, why = judge(stored, self.question.kind, self.question.category)
                if not no_evidence(dict(stored)):
                    self.found[at] = self._tried(release, release.cell, stored, verdict, why, "stored")
        if slow:
            return
        for at, release in enumerate(self.releases):
            if at not in self.found and (tried := self._of_lab(release)) is not None:
                self.found[at] = tried

    def _of_lab(self, release: Release) -> Tried | None:
        """What earlier calls found out of a release, None where something would have to be run."""
        assert release.cell is not None
        for cell in (release.cell, *release.others):
            pins = self._pins_known(self.axis.stack(cell)) if self.axis.role else None
            if self.axis.role and pins is None:
                return None
            if pins is not None and pins.unresolved:
                continue
            outcome = self.lab.peek(self._plain(cell), self._lock())
            return None if outcome is None else self._judged(release, cell, outcome, "stored")
        return None

    def _try(self, at: int) -> Verdict:
        if self.lab.over:
            raise OverBudget
        release = self.releases[at]
        before = self.lab.ran
        tried = self._trial(release)
        if self.lab.ran > before:
            self.runs += 1
        elif tried.source == "run":
            tried = replace(tried, source="stored")
        self.found[at] = tried
        self.say(f"  {tried.text}")
        return tried.verdict

    def _trial(self, release: Release) -> Tried:
        """Run a release, on another Python where its project has nothing for the family's one."""
        if release.cell is None:
            return self._untried(release, release.why_not)
        reasons: list[str] = []
        for cell in (release.cell, *release.others):
            if self.axis.role:
                try:
                    reason = self._lock_stack(self.axis.stack(cell))
                except InfrastructureError as error:
                    return self._untried(release, str(error), infrastructure=True)
                if reason:
                    reasons.append(reason)
                    continue
            if reasons:
                had = self.axis.stack(release.cell).python
                self.say(f"  {release.value}: not on Python {had}; tried on {self.axis.stack(cell).python}")
            outcome = self._run(cell)
            if _NO_PYTHON in str(outcome["line"]) and cell is not (release.cell, *release.others)[-1]:
                reasons.append(str(outcome["line"]))
                continue
            return self._judged(release, cell, outcome, "run")
        return self._untried(release, f"cannot be installed: {reasons[0]}")

    def _run(self, cell: Cell, *, again: bool = False) -> Mapping[str, Any]:
        """The outcome of a cell in the lab. Raises OverBudget."""
        (outcome,) = self.lab.run([self._plain(cell)], self._lock(), again=again)
        if outcome["reason"] == BUDGET:
            raise OverBudget
        return outcome

    def _judged(
        self, release: Release, cell: Cell, outcome: Mapping[str, Any], source: Literal["stored", "run"]
    ) -> Tried:
        verdict, why = judge(outcome, self.question.kind, self.question.category)
        if self.question.kind != "slowdown" or verdict != "good" or self.against is None:
            return self._tried(release, cell, outcome, verdict, why, source)
        assert self.against.cell is not None
        if self.against.value == release.value:
            return self._tried(release, cell, outcome, "good", "", source)
        timed = bisect_timing.against(self.lab, self.against.cell, cell, self._lock(), self.question.threshold)
        if timed.lost == BUDGET:
            raise OverBudget
        tried = self._tried(release, cell, outcome, timed.verdict, timed.why, source)
        return replace(tried, timing=timed.as_dict())

    def _tried(
        self, release: Release, cell: Cell, outcome: Mapping[str, Any], verdict: Verdict, why: str,
        source: Literal["stored", "run"],
    ) -> Tried:  # fmt: skip
        line = (
            why
            if verdict == "nothing"
            else ""
            if verdict == "good"
            else str(outcome["line"] or outcome["reason"] or "")
        )
        return Tried(
            release=release.value, verdict=verdict, source=source, status=outcome["status"], category=outcome["category"],
            line=line, diagnosis=outcome["diagnosis"], remedy=outcome["remedy"], cell=cell.id, slug=cell.slug,
            stack=self.axis.stack(cell).id if self.axis.role else cell.engine.id, in_matrix=release.in_matrix,
            python=(self.axis.stack(cell) if self.axis.role else cell.engine).python,
            infrastructure=outcome["category"] == "infrastructure",
        )  # fmt: skip

    def _untried(self, release: Release, why: str, *, infrastructure: bool = False) -> Tried:
        return Tried(
            release=release.value, verdict="nothing", source="not tried", status="", category=None, line=why, diagnosis=None,
            remedy=None, cell=release.cell.id if release.cell else "", slug=release.cell.slug if release.cell else "", stack="",
            in_matrix=release.in_matrix, infrastructure=infrastructure,
        )  # fmt: skip

    def _first_good(self) -> int:
        """Of a slowdown without a given good end: the oldest release of the matrix that works."""
        for at, release in enumerate(self.releases):
            if not release.in_matrix or release.cell is None:
                continue
            outcome = self._run(release.cell)
            if judge(outcome, "slowdown", None)[0] == "good":
                self.against = release
                self.found[at] = self._tried(release, release.cell, outcome, "good", "", "run")
                self.say(f"{release.value} is the oldest release of the matrix that works: others are timed against it")
                return at
        raise UsageError(
            "no release of the matrix works here, so that there is nothing to time others against; give --good"
        )

    def _plain(self, cell: Cell) -> Cell:
        """A cell without a timing of its own: that decides nothing here."""
        return replace(cell, attributes=replace(cell.attributes, measure=False))

    # Locks ----------------------------------------------------------------------------------------------------------

    def _lock(self) -> Lock:
        """The matrix's lock, with what earlier searches resolved."""
        return Lock(
            cutoff=self.locked.cutoff, tools=self.locked.tools, sources=self.locked.sources, images=self.locked.images,
            stacks={**self.kept.stacks, **self.locked.stacks},
        )  # fmt: skip

    def _pins_known(self, stack: Stack) -> Pins | None:
        return self._lock().entry(stack)

    def _lock_stack(self, stack: Stack) -> str:
        """See that a stack is locked; why it cannot be, '' where it can. Raises InfrastructureError when the index is away."""
        family = self.work.spec.families[stack.family]
        pins = self._pins_known(stack)
        if (
            isolation.choose(family, self.work.isolation, engine.available()) == "docker"
            and stack.base not in self.locked.images
        ):
            return f"its image {stack.base} is not in the lock; put the release into the matrix"
        if pins is None:
            cutoff = self.kept.cutoff
            try:
                pins = uv.resolve(stack, cutoff)
            except uv.PackageError as error:
                none = Pins(python=stack.python, requirements=lock.lines(stack), packages=(), hashes={})
                pins = replace(none, unresolved=str(error))
            self.kept.stacks[stack.id] = pins
            self.lab.store.write_text(self._lock_file, self.kept.dumps())
        return _short(pins.unresolved)

    # Telling --------------------------------------------------------------------------------------------------------

    def _result(self, change: Change | None, over: bool) -> dict[str, Any]:
        everything = search.changes(self.known)
        others = [one for one in everything if change is None or (one.low, one.high) != (change.low, change.high)]
        tried = [self.found[at] for at in sorted(self.found)]
        gap = [self.found[at] for at in range(change.low + 1, change.high) if at in self.found] if change else []
        left = len(self.releases) - len(self.found)
        bad = self.found[change.bad] if change else None
        return {
            "schema": SCHEMA, "model": self.base.model, "axis": self.axis.name, "for": self.question.kind,
            "context": words(self.base, self.axis), "where": where(self.base, self.axis),
            "releases": [release.value for release in self.releases], "tried": [_plain_dict(one) for one in tried],
            "boundary": self._boundary(change, gap) if change else None,
            "others": [self._boundary(one, []) for one in others], "monotone": len(everything) <= 1,
            "not_tried": left, "runs": self.runs, "steps": self.lab.ran, "over_budget": over,
            "sentence": self._sentence(change, gap, others, over),
            "diagnosis": bad.diagnosis if bad else None, "remedy": bad.remedy if bad else None, "line": bad.line if bad else None,
            "command": self._command(bad) if bad else None,
        }  # fmt: skip

    def _boundary(self, change: Change, gap: Sequence[Tried]) -> dict[str, Any]:
        return {
            "good": self.releases[change.good].value, "bad": self.releases[change.bad].value,
            "kind": "breaks" if change.first == "good" else "mended",
            "between": [{"release": one.release, "why": one.line, "infrastructure": one.infrastructure} for one in gap],
        }  # fmt: skip

    def _sentence(self, change: Change | None, gap: Sequence[Tried], others: Sequence[Change], over: bool) -> str:
        name, (is_bad, is_good) = self.axis.short, _SAYS[self.question.kind]
        if change is None:
            if over:
                return f"The time budget ended before a change of {name} was found; the next call goes on from here."
            told = {one.verdict for one in self.found.values()} - {"nothing"}
            if not told:
                return f"No release of {name} could be tried."
            return f"No change of {name} was found: every release that was tried {is_good if told == {'good'} else is_bad}."
        low, high = self.releases[change.low].value, self.releases[change.high].value
        first, last = (is_bad, is_good) if change.first == "good" else (is_good, is_bad)
        out = f"{name} {high} is the first release that {first}, {low} the last that {last}"
        pythons = [self.found[at].python for at in (change.low, change.high)]
        if pythons[0] != pythons[1]:
            out += f" ({low} was tried on Python {pythons[0]}, {high} on {pythons[1]})"
        if gap:
            names = ", ".join(one.release for one in gap)
            out += f"; {names} between them {'says' if len(gap) == 1 else 'say'} nothing ({gap[0].line})"
        if others:
            more = "; ".join(f"{self.releases[one.low].value} and {self.releases[one.high].value}" for one in others)
            out += f". It is not the only change: what is known also differs between {more}"
            out += "" if self.question.every else "; --all tries every release"
        return out + "."

    def _command(self, bad: Tried) -> str:
        if bad.in_matrix and self.question.kind != "slowdown":
            return f"enginematrix repro {bad.cell}"
        return (
            f"enginematrix bisect --model {self.base.model} --axis {self.axis.name} "
            f"--where '{where(self.base, self.axis)}' --try {bad.release}"
        )

    def again(self, value: str) -> dict[str, Any]:
        """The outcome of a release, run anew, as reports have it. Raises UsageError where it cannot be run."""
        release = self.releases[self.place[value]]
        if release.cell is None:
            raise UsageError(f"{value}: {release.why_not}")
        reasons = []
        for cell in (release.cell, *release.others):
            reason = self._lock_stack(self.axis.stack(cell)) if self.axis.role else ""
            if not reason:
                return dict(self._run(cell, again=True))
            reasons.append(reason)
        raise UsageError(f"{value} cannot be installed: {reasons[0]}")


def _short(reason: str) -> str:
    """What uv says of a set that cannot be, without the stack's name and what it concludes."""
    first = reason.partition("\n")[0]
    found = re.search(r": Because (.*?)(?:,? and you require .*|, we can conclude .*)?$", first)
    return found[1] if found else first


def _plain_dict(tried: Tried) -> dict[str, Any]:
    return {**asdict(tried), "text": tried.text}


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
