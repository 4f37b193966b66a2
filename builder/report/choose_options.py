"""What the page lets a person choose, and what there is instead: GPUs, drivers and the values at which an answer changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder import knowledge, pick, pick_conflict, versions
from builder.answers import Fact
from builder.facts_records import PRECISIONS, Branch, Capability, Catalog, Forward, Gpu, Minimum, MinorVersions, Toolkit
from builder.pick_judge import Hardware, Question
from builder.pick_stacks import Candidate
from builder.report.choose_tables import Pool

PLATFORMS = ("linux/amd64", "linux/arm64")
_END = ".0.0.0.0"
"""An end of a driver's version that does not change its value: such a text stands in no fact, so that where it does stand in a
sentence it is the one that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice of GPU."""

    hardware: Hardware | None
    label: str
    detail: str = ""
    search: str = ""
    """Other names, in small letters."""
    name: str = ""
    """What `--gpu` takes; '' for none."""
    also: tuple[str, ...] = ()
    """Other names that mean just this."""


def gpus(catalog: Catalog) -> list[Option]:
    """Any, none, each GPU of the catalog, each compute capability. Raises SpecErrors."""
    out = [
        Option(hardware=None, label="any", detail="not asked"),
        Option(hardware=pick.of_machine((), catalog), label="no GPU", detail="the CPU alone", search="none cpu"),
    ]
    entries = list(catalog.table(Gpu).values())
    for entry in entries:
        found = pick.hardware(entry.name, catalog)
        if isinstance(found, str):  # its own name must find it; tests/test_choose.py says that each does
            continue
        detail = f"{entry.kind}, {' or '.join(found.capabilities)}"
        search = " ".join((entry.key, *entry.alias, detail, *(f"{size}gb" for size in entry.memory))).lower()
        words = entry.name.split()
        ways = (*entry.alias, *(" ".join(words[skip:]) for skip in range(1, len(words))))
        also = tuple(way for way in ways if any(map(str.isdigit, way)) and _facts(way, catalog) == found.facts)
        out.append(Option(hardware=found, label=entry.name, detail=detail, search=search, name=entry.name, also=also))
    out += _lines([entry.name for entry in entries], catalog)
    out[2:] = sorted(out[2:], key=lambda option: _name_order(option.label))
    for capability in versions.ordered(catalog.table(Capability)):
        found = pick.hardware(capability, catalog)
        if isinstance(found, Hardware):
            short = f"sm{capability.replace('.', '')}"
            out.append(Option(hardware=found, label=f"compute capability {capability}", detail=short,
                              search=f"{capability} {short}", name=short))  # fmt: skip
    return out


def _lines(names: Sequence[str], catalog: Catalog) -> list[Option]:
    """What people call several GPUs at once: "A100" for its 40 and its 80 GiB."""
    begun = [" ".join(name.split()[:size]) for name in names for size in range(1, len(name.split()))]
    out: list[Option] = []
    told = set()
    for name in dict.fromkeys(begun):
        found = pick.hardware(name, catalog)
        if name in names or not any(map(str.isdigit, name)) or isinstance(found, str) or len(found.facts) < 2:
            continue
        if found.facts in told:  # a word more that tells them no better
            continue
        told.add(found.facts)
        detail = f"any of {len(found.facts)}, {' or '.join(found.capabilities)}"
        out.append(Option(hardware=found, label=name, detail=detail, search=detail, name=name))
    return out


def _facts(name: str, catalog: Catalog) -> tuple[Fact, ...]:
    found = pick.hardware(name, catalog)
    return () if isinstance(found, str) else found.facts


def _name_order(name: str) -> list[tuple[int, int, str]]:
    """RTX 3090 before RTX 10000."""
    import re

    words = re.findall(r"\d+|[a-z]+", name.lower())
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words]


def branches(catalog: Catalog) -> list[list[str]]:
    """Driver branches to suggest, newest first: [version, what is known of it]. Raises SpecErrors."""
    out = []
    for entry in reversed(list(catalog.table(Branch).values())):
        told = [
            entry.designation,
            f"until {entry.end}" if entry.end else "",
            f"CUDA {entry.cuda}" if entry.cuda else "",
        ]
        out.append([entry.key, ", ".join(filter(None, told))])
    return out


def drivers(catalog: Catalog, stacks: Sequence[Candidate]) -> list[str]:
    """Versions, oldest first, of which each stands for itself up to the next: every version that the catalog names, and each
    branch's first and the one after its last. Raises SpecErrors."""
    named = {entry.driver for table in (Toolkit, MinorVersions, Minimum) for entry in catalog.table(table).values()}  # type: ignore[attr-defined]
    for forward in catalog.table(Forward).values():
        named |= {*forward.accepted, *forward.rejected}
    named |= {entry.until for entry in catalog.table(MinorVersions).values()} | set(catalog.table(Branch))
    named |= {stack.driver for stack in stacks}
    known = {text for text in named if versions.version(text) is not None}
    majors = {int(text.split(".")[0]) for text in known}
    known |= {str(major + more) for major in majors for more in (0, 1)} | {"0"}
    distinct = {knowledge.number(text): text for text in sorted(known)}
    return [text + _END for _, text in sorted(distinct.items())]


def pythons(stacks: Sequence[Candidate]) -> list[str]:
    return versions.ordered({knowledge.minor(python) for stack in stacks for python in stack.pythons})


def values(catalog: Catalog, stacks: Sequence[Candidate]) -> dict[str, list[str]]:
    """Requirement -> its values, in their order. Raises SpecErrors."""
    return {
        "driver": drivers(catalog, stacks), "precision": ["fp32", *PRECISIONS], "python": pythons(stacks),
        "platform": list(PLATFORMS),
    }  # fmt: skip


def instead(
    key: str, question: Question, stacks: Sequence[Candidate], catalog: Catalog
) -> Iterator[tuple[str, str, Question]]:
    """Other values of a requirement, nearest first: (value, what to do, the question with it); see pick_conflict."""
    asked = next(found for found in question.requirements if found.key == key)
    yield from pick_conflict._values(asked, stacks, question, catalog)


def _asking(key: str, value: str) -> Question:
    fields: dict[str, Any] = {key: value}
    return Question(**fields)


def floors(stacks: Sequence[Candidate], catalog: Catalog) -> list[tuple[str, list[int] | None]]:
    """Drivers to move to, oldest first, with the places of the stacks that alone bring it up; None: it stands by itself."""
    question = Question(driver="0")
    always = {value for value, _, _ in instead("driver", question, (), catalog)}
    by: dict[str, list[int]] = {}
    for place, stack in enumerate(stacks):
        if stack.driver:
            by.setdefault(stack.driver, []).append(place)
    return [
        (value, None if value in always else by.get(value, []))
        for value, _, _ in instead("driver", question, stacks, catalog)
    ]


def driver_words(catalog: Catalog, own: str) -> str:
    """What to do about a driver; `own` stands for the version."""
    value, words, _ = next(instead("driver", Question(driver="0"), (), catalog))
    return words.replace(value, own)


def others(
    values: Mapping[str, Sequence[str]], stacks: Sequence[Candidate], catalog: Catalog, texts: Pool
) -> dict[str, list[list[list[int]]]]:
    """Requirement -> for each of its values the other ones, nearest first: [place of the value, what to do]. Of drivers, which
    are any, see `floors`. Raises SpecErrors."""
    out = {}
    for key, known in values.items():
        if key != "driver":
            at = {value: place for place, value in enumerate(known)}
            ways: list[list[tuple[str, str, Question]]] = [
                list(instead(key, _asking(key, value), stacks, catalog)) for value in known
            ]
            out[key] = [[[at[value], texts.add(words)] for value, words, _ in way if value in at] for way in ways]
    return out


def other_gpus(
    options: Sequence[Option], stacks: Sequence[Candidate], catalog: Catalog, texts: Pool
) -> tuple[list[list[list[int]]], list[Hardware | None]]:
    """For each option the other GPUs, nearest first: [place of the GPU, what to do, place of the option that is it or -1]; and
    all GPUs, those of the options first. Raises SpecErrors."""
    gpus = [option.hardware for option in options]
    named = {gpu.name: place for place, gpu in enumerate(gpus) if gpu is not None}
    known: dict[Hardware, int] = {}
    ways: dict[tuple[tuple[str, ...], str], list[list[int]]] = {}
    out: list[list[list[int]]] = []
    for option in options:
        gpu = option.hardware
        if gpu is None:
            out.append([])
            continue
        alike = (gpu.capabilities, gpu.kind)
        if alike not in ways:
            ways[alike] = []
            for _, words, question in instead("gpu", Question(gpu=gpu), stacks, catalog):
                other = question.gpu
                assert other is not None
                if other not in known:
                    known[other] = len(gpus)
                    gpus.append(other)
                ways[alike].append([known[other], texts.add(words), named.get(other.name, -1)])
        out.append(ways[alike])
    return out, gpus
