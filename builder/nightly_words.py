"""A night on a page: what is new first. Pure over the report and its part `nightly`.

The same page as Markdown (at most LINES lines, for a CI summary) and for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.history_changes import words
from builder.history_words import TITLES, WIDTH, plain, wrap
from builder.report.markdown import text
from builder.report.words import duration
from builder.values import STATUSES

SUMMARY = "nightly.md"
"""The page's file, beside the report."""
LINES = 60
SHORTEST = 4
"""Lines of a section that is cut: a blank one, its title, an entry, and that there are more."""
NAMES = 3
"""Cells that an entry names."""
LONG = 200
"""Characters of a line of the page."""
BAD = ("new-failures", "changed-cause", "first", "pass-to-skip", "stale")
NAMED = {**TITLES, "first": "Failing the first time that they were tried"}


@dataclass(kw_only=True)
class Entry:
    """One finding: what leads is printed bold, what is below stands under it."""

    lead: str
    rest: str = ""
    below: list[str] = field(default_factory=list)
    small: str = ""


@dataclass(kw_only=True)
class Section:
    title: str
    entries: list[Entry]
    more: str = ""
    """Where those that find no room are told."""


@dataclass(kw_only=True)
class Page:
    title: str
    lead: list[str]
    sections: list[Section]
    """The most important first: these are cut when the page is full."""
    tail: list[Section]
    """Always on the page, of few lines."""


def page(report: Mapping[str, Any]) -> Page:
    part, run = report["nightly"], report["run"]
    traced = part["trace"]["results"]
    groups = part["changes"]
    more = f"`enginematrix diff {part['against']} {part['run']}`" if part["against"] and part["run"] else "report.html"
    by_kind = {kind: [group for group in groups if group["kind"] == kind] for kind in TITLES}
    sections = [
        Section(title=f"{NAMED[kind]}: {_cells(sum(len(g['cells']) for g in by_kind[kind]))}",
                entries=[_entry(group, traced) for group in _red_first(by_kind[kind])], more=more)
        for kind in BAD if by_kind[kind]
    ]  # fmt: skip
    new = {cell for kind in BAD for group in by_kind[kind] for cell in group["cells"]}
    if late := [one for one in traced if new.isdisjoint(one["cells"]) and one["verdict"] != "not traced"]:
        title = f"Traced now, failing since earlier nights: {_cells(sum(len(one['cells']) for one in late))}"
        sections.append(Section(title=title, entries=[_late(one) for one in late], more="report.json"))
    by_id = {cell["id"]: cell for cell in report["cells"]}
    if part["overdue"]:
        sections.append(
            Section(title=f"Expectations past their date: {_cells(len(part['overdue']))}",
                    entries=_expectations(by_id[name] for name in part["overdue"]), more="report.html")
        )  # fmt: skip
    for kind in ("fixed", "flaky", "slower"):
        if by_kind[kind]:
            title = f"{TITLES[kind]}: {_cells(sum(len(g['cells']) for g in by_kind[kind]))}"
            sections.append(Section(title=title, entries=[_entry(group, traced) for group in by_kind[kind]], more=more))
    if part["expected-fixed"]:
        sections.append(
            Section(title=f"Expected to fail, and working: {_cells(len(part['expected-fixed']))}",
                    entries=_expectations(by_id[name] for name in part["expected-fixed"]), more="report.html")
        )  # fmt: skip
    return Page(
        title=f"Night of {run['started'][:10]}: {_headline(report)}",
        lead=list(_lead(report)),
        sections=sections,
        tail=[*_debts(part["trace"]), _lock(part["lock"]), _coverage(part["coverage"]), *_left(report)],
    )


def _headline(report: Mapping[str, Any]) -> str:
    part = report["nightly"]
    counts: Counter[str] = Counter()
    for group in part["changes"]:
        counts[group["kind"]] += len(group["cells"])
    parts = [f"{NAMED[kind].lower()}: {counts[kind]}" for kind in (*BAD, "fixed") if counts[kind]]
    if part["overdue"]:
        parts.append(f"past their date: {len(part['overdue'])}")
    if not parts:
        parts = ["nothing got worse" if part["against"] else "the first one"]
    return ", ".join(parts)


def _lead(report: Mapping[str, Any]) -> Iterator[str]:
    part, run, leave = report["nightly"], report["run"], report["exit"]
    time = duration(part["seconds"]) + (f" of {duration(part['budget'])}" if part["budget"] is not None else "")
    yield f"Exit {leave['code']} (--fail-on {leave['policy']}): {leave['because'] or 'as expected'}."
    counts = ", ".join(f"{report['counts'][status]} {status}" for status in STATUSES if report["counts"][status])
    yield f"Group {part['group']} of {run['matrix']['name']}: {_cells(report['selected'])}: {counts}; {time}."
    if red := part["red"]:
        most = "" if red["findings"] == 1 else f", of {red['findings']} kinds, most of them"
        yield f"Failing and not expected to, old and new: {_cells(red['cells'])}{most}: {red['title']}"
    if not part["against"]:
        yield "There is no night before to compare with."
        return
    told = {*BAD, "fixed", "flaky", "slower"} - {"first"}  # of first results only those that fail are named
    silent = {kind: n for kind, n in part["counts"].items() if n and kind not in told}
    others = "".join(f", {TITLES[kind].lower()}: {n}" for kind, n in silent.items())
    same = f"; {_cells(part['unchanged'])} unchanged{others}" if part["unchanged"] is not None else "; no cell ran anew"
    yield f"Compared with {part['against']}{same}."
    if not part["asked"]:
        yield "The matrix or the selection is another one than then: cells that only one of them holds are no regressions."
    if part["backwards"]:
        yield "The clock was set back in between; what is told of older nights may be out of order."
    if part["beside"]:
        yield f"Changed beside the lock: {'; '.join(part['beside'])}."


def _red_first(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(groups, key=lambda group: (group["expected"] == "expected", -len(group["cells"])))


def _entry(group: Mapping[str, Any], traced: Sequence[Mapping[str, Any]]) -> Entry:
    """The cells, the category, the component, the remedy."""
    mine = set(group["cells"])
    found = [one for one in traced if not mine.isdisjoint(one["cells"])] if group["kind"] in BAD else []
    below = [f"cause: {cause}" for cause in causes(traced, group["kind"], group["cells"])][:2]
    if not below and group["beside"]:
        more = f" and {len(group['beside']) - 3} more" if len(group["beside"]) > 3 else ""
        below = [f"changed beside: {'; '.join(group['beside'][:3])}{more}"]
    below += list(dict.fromkeys(f"not traced: {one['why']}" for one in found if one["verdict"] == "not traced"))[:1]
    if group["remedy"]:
        below.append(f"remedy: {group['remedy']}")
    names = ", ".join(group["cells"][:NAMES])
    more = f" and {len(group['cells']) - NAMES} more" if len(group["cells"]) > NAMES else ""
    return Entry(
        lead=_cells(len(group["cells"])), rest=group["became"], below=below, small=f"{names}{more}: {group['slugs'][0]}"
    )


def causes(traced: Sequence[Mapping[str, Any]], kind: str, cells: Iterable[str]) -> list[str]:
    """What tracing found of some cells that changed alike, once each; nothing of those that did not get worse."""
    mine = set(cells) if kind in BAD else set()
    found = [one for one in traced if not mine.isdisjoint(one["cells"]) and one["verdict"] != "not traced"]
    return list(dict.fromkeys(_cause(one) for one in found))


def _late(one: Mapping[str, Any]) -> Entry:
    """A failure of an earlier night whose turn has come."""
    below = [f"cause: {_cause(one)}"] + ([f"remedy: {one['remedy']}"] if one["remedy"] else [])
    small = f"{', '.join(one['cells'][:NAMES])}: {one['slug']}"
    rest = f"{one['category'] or 'no category'}: {one['line']}"
    return Entry(lead=_cells(len(one["cells"])), rest=rest, below=below, small=small)


def _cause(one: Mapping[str, Any]) -> str:
    """What tracing found: "numpy 1.26.4 -> 2.2.6 (onnxruntime-1.16.3-py3.11), tried: fails with it, works without"."""
    stack = f" ({one['stack']})" if one["stack"] else ""
    if one["verdict"] == "named":
        return f"{one['component']}{stack}, tried: it fails with it and works without it; {one['why']}"
    if one["component"]:
        return f"{one['component']}{stack}, {one['verdict']}: {one['meaning']}; {one['why']}"
    return f"{one['verdict']}: {one['why'] or one['meaning']}"


def _expectations(cells: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Entries of `expect:`, each with its cells."""
    out: dict[str, Entry] = {}
    number: dict[str, list[str]] = {}
    for cell in cells:
        expected = cell["expected"]
        number.setdefault(expected["where"], []).append(cell["id"])
        until = f", until {expected['until']}" if expected.get("until") else ""
        rest = f"{expected['where']}: {expected['fail']}{until}: {expected['because']}"
        out.setdefault(expected["where"], Entry(lead="", rest=rest))
    for where, entry in out.items():
        entry.lead = _cells(len(number[where]))
        entry.small = ", ".join(number[where][:NAMES])
    return list(out.values())


def _debts(trace: Mapping[str, Any]) -> list[Section]:
    """What tracing left."""
    left = sum(len(one["cells"]) for one in trace["untraced"])
    said = [f"{_cells(left)} left for the next night, for want of time"] if left else []
    said += [f"{_cells(len(trace['again']))} will be tried again by the next night"] if trace["again"] else []
    said += [trace["trouble"]] if trace["trouble"] else []
    return [Section(title=f"Tracing: {'; '.join(said)}", entries=[])] if said else []


def _lock(lock: Mapping[str, Any]) -> Section:
    moved = words(lock["moved"])
    if lock["asked"] == "frozen":
        said = "left as it was (frozen)"
    elif lock["away"]:
        away = textwrap.shorten(lock["away"], 160)
        said = f"not refreshed for {len(lock['kept'])} of {lock['stacks']} stacks: {away}"
    else:
        said = f"{lock['stacks']} stacks asked for, up to {lock['cutoff']}"
    entries = [Entry(lead=line) for line in moved[:6]]
    if len(moved) > 6:
        entries.append(Entry(lead="", rest=f"and {len(moved) - 6} more (`enginematrix diff`)"))
    kept = [f"{name} kept: {why}" for name, why in lock["kept"].items() if not lock["away"]] + list(lock["troubles"])
    entries += [Entry(lead="", rest=line) for line in kept[:2]]
    if len(kept) > 2:
        entries.append(Entry(lead="", rest=f"and {len(kept) - 2} more that could not be moved"))
    number = f"{len(moved)} components moved" if len(moved) != 1 else "1 component moved"
    return Section(title=f"Lock: {number if moved else 'nothing moved'}; {said}", entries=entries)


def _coverage(found: Mapping[str, Any]) -> Section:
    """Shares of all pairs, so that they add up."""
    if not found["pairs"]:
        return Section(title="Coverage: one axis value each, no pairs", entries=[])
    nights = [*found["before"], found]
    series = " -> ".join(_share(night["fresh"], night["pairs"]) for night in nights[-5:])
    parts = [
        f"{found[name]} {words_}"
        for name, words_ in (
            ("stale", "only of what changed since"), ("left", "not tried yet"),
            ("unreachable", "ruled out by facts or out of this machine's reach"),
        )
        if found[name]
    ]  # fmt: skip
    also = f"; {', '.join(parts)}" if parts else ""
    said = f"{found['fresh']} of {found['pairs']} pairs of axis values have fresh evidence{also}"
    rest = Entry(lead="", rest=f"{said}; {found['cells_fresh']} of {_cells(found['cells'])}")
    return Section(title=f"Coverage of pairs: {series}", entries=[rest])


def _left(report: Mapping[str, Any]) -> list[Section]:
    left = report["nightly"]["left"]
    if not left:
        return []
    why = "it was interrupted" if report["run"]["interrupted"] else "the budget ended"
    return [Section(title=f"Left for the next night: {_cells(len(left))}, since {why}", entries=[])]


# Printing ----------------------------------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any]) -> str:
    """At most LINES lines."""
    found = page(report)
    head = [f"# {text(found.title)}", "", *(f"- {text(line, 400)}" for line in found.lead)]
    tail = [line for section in found.tail for line in _markdown(section, LINES)]
    room = LINES - len(head) - len(tail)
    sections = found.sections
    if len(sections) > room // SHORTEST:  # those that come last are told in one line
        sections, rest = sections[: (room - 2) // SHORTEST], sections[(room - 2) // SHORTEST :]
        tail = ["", f"## {text('; '.join(section.title for section in rest), 600)}", *tail]
        room -= 2
    out = list(head)
    for at, section in enumerate(sections):
        later = SHORTEST * (len(sections) - at - 1)
        lines = _markdown(section, room - later)
        room -= len(lines)
        out += lines
    return "\n".join(out + tail) + "\n"


def _markdown(section: Section, room: int) -> list[str]:
    out = ["", f"## {text(section.title)}"]
    for at, entry in enumerate(section.entries):
        lines = [f"- {f'**{text(entry.lead)}** ' if entry.lead else ''}{text(entry.rest, LONG)}".rstrip()]
        lines += [f"  <br>{text(line, LONG)}" for line in entry.below]
        lines += [f"  <br><sub>{text(entry.small, LONG)}</sub>"] if entry.small else []
        left = len(section.entries) - at
        if len(out) + len(lines) + (left > 1) > room:
            if at == 0:  # one at least, in one line
                out.append(lines[0])
                left -= 1
            if left:
                out.append(f"- and {left} more" + (f" ({section.more})" if section.more else ""))
            return out
        out += lines
    return out


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal: the whole page, none wider than WIDTH but where a name is."""
    found = page(report)
    yield from wrap(found.title, "")
    for line in found.lead:
        yield from wrap(line, "")
    for section in (*found.sections, *found.tail):
        yield ""
        yield from wrap(section.title, "")
        for entry in section.entries[:12]:
            yield from wrap(
                f"{entry.lead}: {entry.rest}" if entry.lead and entry.rest else entry.lead or entry.rest, "  "
            )
            for line in entry.below:
                yield from wrap(line, "      ")
            if entry.small:
                small = plain(f"      {entry.small}")
                yield small if len(small) <= WIDTH else small[: WIDTH - 1] + "…"
        if len(section.entries) > 12:
            yield f"  and {len(section.entries) - 12} more ({section.more})"


def _share(part: int, whole: int) -> str:
    """Never 100 % unless it is all."""
    share = 100 * part / whole if whole else 0.0
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
