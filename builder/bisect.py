"""`enginematrix bisect`: between which two releases a model begins or ceases to work (or gets slower), for real.

Along one axis, with all else as in a cell of the matrix, over the releases that the matrix holds and those that the catalog
knows. What is stored is evidence already; the rest is tried in `artifacts/lab/` (`trace_lab`), where it stays, so that a second
call runs nothing. The order of the search is `bisect_search`'s; the cell of each release is made by `bisect_releases`; a slowdown
is judged by `bisect_timing`. docs/bisect.md has the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from builder import bisect_search as search
from builder import bisect_timing, pipeline
from builder.bisect_evidence import Kind, OverBudget, Question, Source, Tried, judge
from builder.bisect_locks import Locks
from builder.bisect_releases import Axis, Release, contexts, releases, where, words
from builder.bisect_search import Change, Verdict
from builder.bisect_words import Finding, plural
from builder.errors import InfrastructureError, UsageError
from builder.pipeline import Work
from builder.store import Store
from builder.trace_lab import BUDGET, Lab, no_evidence
from builder.values import Cell

SCHEMA = 1
_NO_PYTHON = "no CPython "
"""Begins what `interpreters.find` says where this machine lacks one."""
Told = Callable[[str], None]


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
        self.locks = Locks(work, self.lab.store)
        self.locks.need(self.base, [axis.stack(self.base)] if axis.role else [])
        self.found: dict[int, Tried] = {}
        self.runs = 0
        """Releases that something was run for."""
        self.bracket: Change | None = None
        """How far the search has come."""
        self.against: Release | None = None
        """Of a slowdown: the release that others are timed against."""

    @property
    def known(self) -> dict[int, Verdict]:
        return {at: tried.verdict for at, tried in self.found.items()}

    # The search -----------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Search. Raises UsageError where what was given as good or bad is not, InfrastructureError where an end could not be
        tried for its sake."""
        over = False
        change: Change | None = None
        self.bracket = None
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
        most = search.bound(left)
        self.say(f"{self._sides(change)}; {left} {plural('release', left)} between them not tried: at most {most} "
                 f"{plural('run', most)}")  # fmt: skip
        return search.narrow(change, inside, self._try, lambda now: self._step(now, len(search.between(now, inside))))

    def _sides(self, change: Change) -> str:
        return self._finding(change, False).sides(change)

    def _step(self, change: Change, left: int) -> None:
        self.bracket = change
        steps = search.bound(left)
        self.say(f"{self._sides(change)}: {steps} {plural('step', steps)} to go")

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
                is_ = "" if tried.verdict == "nothing" else "is "
                raise UsageError(f"--{verdict} {value} {is_}{tried.text.partition(': ')[2]}")
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
            pins = self.locks.known(self.axis.stack(cell)) if self.axis.role else None
            if self.axis.role and pins is None:
                return None
            if pins is not None and pins.unresolved:
                continue
            outcome = self.lab.peek(self._plain(cell), self.locks.whole())
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
                    reason = self.locks.ensure(self.axis.stack(cell))
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
        (outcome,) = self.lab.run([self._plain(cell)], self.locks.whole(), again=again)
        if outcome["reason"] == BUDGET:
            raise OverBudget
        return outcome

    def _judged(self, release: Release, cell: Cell, outcome: Mapping[str, Any], source: Source) -> Tried:
        verdict, why = judge(outcome, self.question.kind, self.question.category)
        if self.question.kind != "slowdown" or verdict != "good" or self.against is None:
            return self._tried(release, cell, outcome, verdict, why, source)
        assert self.against.cell is not None
        if self.against.value == release.value:
            return self._tried(release, cell, outcome, "good", "", source)
        timed = bisect_timing.against(self.lab, self.against.cell, cell, self.locks.whole(), self.question.threshold)
        if timed.lost == BUDGET:
            raise OverBudget
        tried = self._tried(release, cell, outcome, timed.verdict, timed.why, source)
        return replace(tried, timing=timed.as_dict(), line=timed.text if timed.verdict == "bad" else tried.line)

    def _tried(
        self, release: Release, cell: Cell, outcome: Mapping[str, Any], verdict: Verdict, why: str,
        source: Source,
    ) -> Tried:  # fmt: skip
        line = why if verdict != "bad" else str(outcome["line"] or outcome["reason"] or "")
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

    # Telling --------------------------------------------------------------------------------------------------------

    def _finding(self, change: Change | None, over: bool) -> Finding:
        return Finding(
            name=self.axis.short, kind=self.question.kind, releases=[release.value for release in self.releases],
            found=self.found, change=change, bracket=self.bracket, over=over, every=self.question.every,
        )  # fmt: skip

    def _result(self, change: Change | None, over: bool) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "model": self.base.model, "axis": self.axis.name, "for": self.question.kind,
            "context": words(self.base, self.axis), "where": where(self.base, self.axis),
            **self._finding(change, over).as_dict(), "runs": self.runs, "steps": self.lab.ran,
            "command": self._command(self.found[change.bad]) if change is not None else None,
        }  # fmt: skip

    def _command(self, bad: Tried) -> str:
        program = self.lab.work.project.program
        if bad.in_matrix and self.question.kind != "slowdown":
            return f"{program} repro {bad.cell}"
        return (
            f"{program} bisect --model {self.base.model} --axis {self.axis.name} "
            f"--where '{where(self.base, self.axis)}' --try {bad.release}"
        )

    def again(self, value: str) -> dict[str, Any]:
        """The outcome of a release, run anew, as reports have it. Raises UsageError where it cannot be run."""
        release = self.releases[self.place[value]]
        if release.cell is None:
            raise UsageError(f"{value}: {release.why_not}")
        reasons = []
        for cell in (release.cell, *release.others):
            reason = self.locks.ensure(self.axis.stack(cell)) if self.axis.role else ""
            if not reason:
                return dict(self._run(cell, again=True))
            reasons.append(reason)
        raise UsageError(f"{value} cannot be installed: {reasons[0]}")
