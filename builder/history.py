"""What changed between two runs: which cells broke, were mended, fell silent or changed speed, and what changed beside them.

Pure over two views (`history_runs`), but for what it looks up in the store. Cells are joined by their stable id. A cell whose
outcome is the same piece of evidence in both runs did not change and is not looked at further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from builder import history_changes as changes
from builder import history_runs as runs
from builder import history_timing as timing
from builder.diagnose import group_key
from builder.history_changes import Change
from builder.history_keep import SAID
from builder.history_runs import Seen, View
from builder.store import Store

SCHEMA = 1
RUNS = 10
"""How many of the last runs are looked through for cells that were measured twice with nothing changed."""
Kind = Literal[
    "new-failures", "changed-cause", "pass-to-skip", "stale", "slower", "unsettled", "flaky", "fixed", "proven", "faster",
    "not-reached", "first", "rediagnosed",
]  # fmt: skip
KINDS: Mapping[Kind, str] = {
    "new-failures": "worked before and fails now",
    "changed-cause": "failed before and fails otherwise now",
    "pass-to-skip": "worked before and was not tried, or not run, now",
    "stale": "told something before and is not tried any more",
    "slower": "slower, beyond the interval and the threshold",
    "unsettled": "had a figure before, and its timing did not settle now",
    "flaky": "needed another attempt",
    "fixed": "failed before and works now",
    "proven": "only built before, and run and compared now",
    "faster": "faster, beyond the interval and the threshold",
    "not-reached": "the run ended before it came to them; the next one goes on there",
    "first": "never told anything before",
    "rediagnosed": "the same evidence, explained otherwise by another version of this program",
}
"""In the order in which they are told: bad news, good news, the rest."""


class Diff:
    """Compares two views. `result()` is docs/history.md's JSON."""

    def __init__(self, store: Store, old: View, new: View) -> None:
        self.store, self.old, self.new = store, old, new
        self.records = {str(run["id"]): run for run in store.runs()}
        self.found: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self._pins: dict[str, dict[str, dict[str, Any]]] = {}
        self._stacks: dict[tuple[str, str, str], list[Change] | None] = {}
        self._timed: list[tuple[dict[str, Any], timing.Compared, bool]] = []
        self.other_machine = self.busy = 0
        self.silent = 0
        """Cells that told nothing on either side: skipped, left alone, stopped by infrastructure."""

    def result(self) -> dict[str, Any]:
        old, new, older = self._differing()
        for cell in sorted(old.keys() | new.keys()):
            self._cell(old.get(cell), new.get(cell), older.get(cell))
        noise = timing.floor([pair for _, pair, alike in self._timed if alike] + self._earlier_pairs())
        limit = timing.threshold(noise)
        for entry, pair, _ in self._timed:
            verdict = pair.verdict(limit)
            if verdict == "slower":
                self.found["slower"].append({**entry, "timing": pair.as_dict()})
            elif verdict == "faster":
                self.found["faster"].append({**entry, "timing": pair.as_dict()})
        changed = {row["id"] for rows in self.found.values() for row in rows}
        unchanged = len((self.old.cells.keys() | self.new.cells.keys()) - changed) - self.silent
        for rows in self.found.values():
            rows.sort(key=lambda row: (row["slug"], row["id"]))
        return {
            "schema": SCHEMA, "old": _side(self.old), "new": _side(self.new),
            "backwards": self.old.started > self.new.started, "asked": self.old.asked == self.new.asked,
            "changes": changes.run(self.old.last, self.new.last), "kinds": dict(self.found),
            "counts": {kind: len(rows) for kind, rows in self.found.items()}, "unchanged": unchanged,
            "silent": self.silent,
            "timing": {
                "compared": len(self._timed), "other-machine": self.other_machine, "busy": self.busy, "threshold": limit,
                "noise": noise,
                "method": timing.METHOD,
            },
            "regressions": regressions(self.found), "like": runs.like(self.new.last, list(self.records.values())),
        }  # fmt: skip

    def _differing(self) -> tuple[dict[str, Seen], dict[str, Seen], dict[str, Seen]]:
        """Cells of either side whose outcome is another, looked up; and what older runs knew of those that the old side tells
        nothing of."""
        a, b = self.old.cells, self.new.cells
        differ = [cell for cell in a.keys() | b.keys() if cell not in a or cell not in b or not _same(a[cell], b[cell])]
        same = [b[cell] for cell in b.keys() - set(differ)]
        self.silent = sum(seen.status in ("skipped", "unsupported") or seen.outcome.startswith(SAID) for seen in same)
        old = runs.look_up(self.store, [a[cell] for cell in differ if cell in a])
        new = runs.look_up(self.store, [b[cell] for cell in differ if cell in b])
        unknown = [cell for cell, seen in new.items() if seen.telling and not (cell in old and old[cell].telling)]
        mine = {str(run["id"]) for run in (*self.old.runs, *self.new.runs)}
        return old, new, runs.earlier(self.store, unknown, min(self.old.started, self.new.started), without=mine)

    def _cell(self, old: Seen | None, new: Seen | None, older: Seen | None) -> None:
        if new is None or not new.telling:
            if old is not None and old.telling:
                self._fell_silent(old, new)
            else:
                self.silent += 1
            return
        before = old if old is not None and old.telling else older
        if new.get("flaky") and (before is None or before.evidence != new.evidence):
            self._add("flaky", before, new)
        if before is None:
            self._add("first", None, new)
        elif before.evidence == new.evidence:  # the steps are the same; what is said of them may not be
            if before.bad != new.bad or (before.bad and _cause(before) != _cause(new)):
                self._add("rediagnosed", before, new)
        elif before.bad != new.bad:
            self._add("new-failures" if new.bad else "fixed", before, new)
        elif before.bad:
            if _cause(before) != _cause(new):
                self._add("changed-cause", before, new, judged="otherwise" if before.judge != new.judge else "alike")
        elif (before.status, new.status) == ("verified", "built"):
            self._add("pass-to-skip", before, new, why=str(new.get("reason")))
        elif (before.status, new.status) == ("built", "verified"):
            self._add("proven", before, new)
        else:
            self._time(before, new)

    def _fell_silent(self, old: Seen, new: Seen | None) -> None:
        """The old side told something of a cell, and the new one does not."""
        if new is None:
            self._add(
                "stale", old, None, why="not selected" if self.old.asked != self.new.asked else "not among its cells"
            )
        elif new.waiting:
            self._add("not-reached", old, new, why=str(new.get("reason")))
        else:
            why = str(new.get("reason") or "the run did not keep why")
            self._add("stale" if old.bad else "pass-to-skip", old, new, why=f"{new.status}: {why}")

    def _add(self, kind: Kind, old: Seen | None, new: Seen | None, **more: Any) -> None:
        self.found[kind].append({**self._entry(old, new), **more})

    def _entry(self, old: Seen | None, new: Seen | None) -> dict[str, Any]:
        seen = new or old
        assert seen is not None
        shown = seen if seen.get("slug") else old or seen
        found = self._changes(old, new) if old is not None and new is not None else []
        return {
            "id": seen.cell, "slug": shown.get("slug") or seen.cell, "engine": shown.get("engine.id"),
            "model": shown.get("axes.model"),
            "old": old.as_dict() if old else None, "new": new.as_dict() if new else None,
            "expected": new.expected or None if new else None, "cause": _cause(new) if new is not None and new.bad else None,
            "remedy": new.get("remedy") if new else None, "changes": found,
            "unexplained": found == [] and old is not None and new is not None and old.evidence != new.evidence,
        }  # fmt: skip

    def _changes(self, old: Seen, new: Seen) -> list[Change] | None:
        """What changed beside a cell; None where the old run did not keep its lock entries."""
        if not new.get("engine.id"):
            return None
        out: list[Change] = []
        stacks = (new.get("engine.id"), new.get("exporter.id"), *new.tools)
        for name in dict.fromkeys(name for name in stacks if name):
            found = self._stack(old.run, new.run, name)
            if found is None:
                return None
            out += found
        was, now = self.records[old.run], self.records[new.run]
        here = changes.machine(old.get("machine") or was.get("machine"), new.get("machine") or now.get("machine"))
        whole = [one for one in changes.run(was, now) if one["component"] in ("worker code", "EngineMatrix", "processor flags",
                                                                              "environment variables")]  # fmt: skip
        model = new.get("axes.model")
        return out + here + whole + (changes.recipe(model, was, now) if model else [])

    def _stack(self, old: str, new: str, name: str) -> list[Change] | None:
        key = (old, new, name)
        if key not in self._stacks:
            for run in (old, new):
                if run not in self._pins:
                    self._pins[run] = runs.pins(self.store, run)
            self._stacks[key] = changes.stack(name, self._pins[old], self._pins[new])
        return self._stacks[key]

    def _time(self, old: Seen, new: Seen) -> None:
        before, after = timing.windows(old.get("measure")), timing.windows(new.get("measure"))
        if before and new.get("measure") and not after:
            self._add("unsettled", old, new, why=_spread(new.get("measure")))
        if not before or not after:
            return
        was, now = (seen.get("machine") or self.records[seen.run].get("machine") for seen in (old, new))
        if not _alike(was, now):
            self.other_machine += 1
            return
        if timing.busy(old.get("measure"), was) or timing.busy(new.get("measure"), now):
            self.busy += 1
            return
        entry = self._entry(old, new)
        self._timed.append((entry, timing.compare(before, after), entry["changes"] == []))

    def _earlier_pairs(self) -> list[timing.Compared]:
        """Cells that two of the last runs, one after the other, measured anew with nothing changed beside."""
        if not self._timed:
            return []
        mine = {str(run["id"]) for run in (*self.old.runs, *self.new.runs)}
        known = [run for run in self.records.values() if run["started"] <= self.new.last["started"]][-RUNS:]
        found = []
        for before, after in pairwise(known):
            if {str(before["id"]), str(after["id"])} <= mine:
                continue
            a, b = (runs.view(self.store, "", [run]).cells for run in (before, after))
            both = [cell for cell in a.keys() & b.keys() if not _same(a[cell], b[cell])]
            was, now = (runs.look_up(self.store, [side[cell] for cell in both]) for side in (a, b))
            for cell in both:
                one, two = (timing.windows(side[cell].get("measure")) for side in (was, now))
                loaded = any(timing.busy(seen.get("measure"), seen.get("machine")) for seen in (was[cell], now[cell]))
                if one and two and not loaded and self._changes(was[cell], now[cell]) == []:
                    found.append(timing.compare(one, two))
        return found


def _same(old: Seen, new: Seen) -> bool:
    return (old.outcome, old.status) == (new.outcome, new.status)


def _cause(seen: Seen) -> str:
    """What equal failures share, as in the report's findings."""
    line = seen.get("line") or seen.get("reason")
    return group_key(seen.status, seen.get("category"), seen.get("signature"), line, seen.get("diagnosis"))


def _spread(measure: Mapping[str, Any]) -> str:
    medians = [window["median"] for window in measure.get("windows") or () if isinstance(window, Mapping)]
    if not medians:
        return "its timing did not settle"
    return f"its windows' medians lay between {min(medians) * 1000:.4g} and {max(medians) * 1000:.4g} ms"


def _alike(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether times on two machines can be held against each other: same processor, cores and GPUs."""
    if not old or not new:
        return False
    return [old.get("cpu"), old.get("cores"), changes.gpus(old)] == [
        new.get("cpu"),
        new.get("cores"),
        changes.gpus(new),
    ]


def _side(view: View) -> dict[str, Any]:
    last = view.last
    return {
        "name": view.name, "runs": [run["id"] for run in view.runs], "started": view.started, "select": last.get("select"),
        "cells": len(view.cells), "lock": last.get("lock", {}).get("sha256"), "machine": last.get("machine"),
        "complete": not any(run.get("interrupted") or run.get("over_budget") for run in view.runs),
    }  # fmt: skip


def regressions(found: Mapping[Kind, Sequence[Mapping[str, Any]]]) -> int:
    """Cells that got worse and that nobody expected to: what `--fail-on new` counts. Of the stale ones those that are still
    asked for; a matrix or a selection without them was somebody's decision. A cause that another version of the diagnosis found
    may be the old one in other words."""
    bad = [
        row
        for kind in ("new-failures", "changed-cause") for row in found[kind]
        if row["expected"] != "expected" and row.get("judged") != "otherwise"
    ]  # fmt: skip
    stale = [row for row in found["stale"] if row["why"] != "not selected"]
    return len(bad) + len(found["pass-to-skip"]) + len(stale)


def diff(store: Store, old: str | None = None, new: str | None = None) -> dict[str, Any]:
    """Two runs by name (`history_runs.named`); without names see `history_runs.default`, without the second one the last run.
    Raises UsageError for a name that is none, or the same run twice."""
    known = store.runs()
    if old is None:
        old, new = runs.default(known)
    new = new or "last"
    a, b = runs.named(old, known), runs.named(new, known)
    if [run["id"] for run in a] == [run["id"] for run in b]:
        from builder.errors import UsageError

        msg = f"{old!r} and {new!r} are the same: {', '.join(str(run['id']) for run in a[:3])}"
        raise UsageError(msg)
    return Diff(store, runs.view(store, old, a), runs.view(store, new, b)).result()
