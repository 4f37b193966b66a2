"""Which families of the project this machine can realise, how, and why not. Pure, but for reading the project's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from builder import doctor_releases, facts, family, spec
from builder import isolation as ways
from builder.doctor_host import Check, clean
from builder.errors import EngineMatrixError, SpecError
from builder.family import FamilyFile
from builder.fit import below
from builder.project import Project
from builder.values import Family, Stack

Can = Literal["run", "build", "no"]
#: What stands in the way of every stack that needs a GPU, of every stack, of an environment, of an image.
GPU = ("NVIDIA driver", "device nodes", "GPUs", "CUDA_VISIBLE_DEVICES")
ALL = ("system", "disk")
VENV = ("uv",)
DOCKER = ("Docker engine", "BuildKit", "Docker's disk")
DOCKER_GPU = ("GPUs in Docker",)
OLD = "leave them out of the matrix, or see `releases` above for what this GPU and driver take"
WAYS: tuple[ways.Realised, ...] = ("venv", "docker")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to realise a family here."""

    isolation: ways.Realised
    can: Can
    """`run`: engines are built (or models exported) and run; `build`: built, and loaded elsewhere; `no`."""
    why: str = ""
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What this machine can do with a family."""

    name: str
    summary: str
    in_matrix: bool
    isolation: ways.Realised
    """How a run here would realise it."""
    can: Can
    why: str = ""
    mend: str = ""
    ways: tuple[Way, ...] = ()
    engines: bool = False
    """Whether it provides engines; the others only export and compute."""


@dataclass(frozen=True, kw_only=True)
class Families:
    """The project's families as far as they can be read."""

    files: Mapping[str, FamilyFile] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Family -> what is wrong with its file."""
    stacks: tuple[Stack, ...] = ()
    """Those of the matrix."""
    isolation: ways.Isolation = "auto"
    trouble: str = ""
    """Why the matrix could not be read; '' also where there is none."""
    platforms: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Table of the catalog -> what its images are for, where every record says it."""

    def pythons(self, name: str) -> list[str]:
        """Those that a family's stacks in virtual environments ask for: the matrix' own, else all that its rules name."""
        file = self.files[name]
        if "venv" not in file.family.isolation:
            return []
        own = {stack.python for stack in self.stacks if stack.family == name}
        return sorted(own or {use for _, use in file.python}, key=lambda version: int(version.split(".")[1]))


def look(project: Project) -> Families:
    """Read images/*/family.yaml, and the matrix where there is one. Errors in them are part of the answer."""
    files, broken = {}, {}
    for name in family.names(project.images):
        errors: list[SpecError] = []
        path = project.images / name / "family.yaml"
        try:
            file = family.load(path, spec.shown(path, project.root), errors)
        except (EngineMatrixError, OSError) as error:
            broken[name] = clean(error, 300)
            continue
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            broken[name] = clean(f"{errors[0].where}: {errors[0].message}{more}", 300)
        elif file is not None:
            files[name] = file
    stacks: tuple[Stack, ...] = ()
    asked: ways.Isolation = "auto"
    trouble = ""
    if project.matrix.exists():
        try:
            found = spec.load(project.matrix, project.images, project.recipes)
            stacks, asked = found.stacks, found.isolation
        except (EngineMatrixError, OSError) as error:
            trouble = clean(str(error).splitlines()[0] if str(error) else type(error).__name__, 300)
    tables = {file.facts.name for file in files.values() if file.facts is not None}
    return Families(
        files=files, broken=broken, stacks=stacks, isolation=asked, trouble=trouble, platforms=_platforms(tables)
    )


def _platforms(names: set[str]) -> dict[str, frozenset[str]]:
    """Of tables whose every record says it: one that is silent may be anywhere."""
    tables = facts.tables() if names else {}
    found = {name: [record.platforms for record in tables[name].records.values()] for name in names}
    return {name: frozenset(chain.from_iterable(each)) for name, each in found.items() if each and all(each)}


def concerned(families: Families, check: Check) -> list[str]:
    """The families that a check is about."""

    def about(family: Family) -> bool:
        gpu = "nvidia-gpu" in (*family.needs, *family.run_needs)
        if check.need == "gpu":
            return gpu
        if check.need == "docker-gpu":
            return gpu and "docker" in family.isolation
        return check.need == "all" or check.need in family.isolation

    return [name for name, file in families.files.items() if about(file.family)]


def judge(
    families: Families, checks: Sequence[Check], *, docker: bool, platform: str, driver: str, runtimes: Sequence[str]
) -> list[Verdict]:
    """`docker`: whether a run here would find an engine; `driver`: this machine's, '' for none; `runtimes`: the engine's."""
    known = {check.name: check for check in checks}
    out = []
    for name, file in families.files.items():
        found = tuple(
            _way(families, file, way, known, platform, driver, runtimes) for way in WAYS if way in file.family.isolation
        )
        realised = ways.choose(file.family, families.isolation, docker)
        way = next((each for each in found if each.isolation == realised), found[0])
        mend = way.mend
        better = next((each for each in found if _rank(each.can) > _rank(way.can)), None)
        if better is not None:
            mend = f"`--isolation {better.isolation}` can" + (f"; or {mend}" if mend else "")
        out.append(
            Verdict(
                name=name, summary=file.family.summary, in_matrix=any(stack.family == name for stack in families.stacks),
                isolation=realised, can=way.can, why=way.why, mend=mend, ways=found, engines="engine" in file.family.provides,
            )
        )  # fmt: skip
    return out


def _rank(can: Can) -> int:
    return ("no", "build", "run").index(can)


def _way(
    families: Families, file: FamilyFile, way: ways.Realised, known: Mapping[str, Check], platform: str, driver: str,
    runtimes: Sequence[str],
) -> Way:  # fmt: skip
    family = file.family
    needs, run_needs = "nvidia-gpu" in family.needs, "nvidia-gpu" in family.run_needs
    gpu = next((known[each] for each in GPU if each in known and known[each].state == "problem"), None)
    if gpu is None and not known["GPUs"].data.get("gpus"):
        gpu = known["GPUs"]
    blocking = _blocking(known, (*ALL, *(VENV if way == "venv" else DOCKER)))
    if blocking is not None:
        return _no(way, blocking)
    if way == "docker":
        there = families.platforms.get(file.facts.name if file.facts is not None else "")
        if there is not None and platform not in there:
            why = f"its images are for {', '.join(sorted(there))}, this machine is {platform}"
            return Way(isolation=way, can="no", why=why, mend="run it on such a machine")
    if needs and gpu is not None:
        return _no(way, gpu, "needs an NVIDIA GPU. ")
    missing = _missing(families, family.name, known) if way == "venv" else []
    if missing and len(missing) == len(families.pythons(family.name)):
        why = f"needs Python {', '.join(missing)}, which is not here and may not be fetched"
        return Way(isolation=way, can="no", why=why, mend=f"`uv python install {' '.join(missing)}`")
    if run_needs and gpu is not None:
        return Way(isolation=way, can="build", why=f"nothing here loads them. {gpu.name}: {gpu.found}", mend=gpu.mend)
    older, too_old = _releases(families, file, known, driver) if needs or run_needs else (False, "")
    if older:
        return Way(isolation=way, can="no" if needs else "build", why=too_old, mend=OLD)
    if missing:
        why = f"but for its stacks with Python {', '.join(missing)}, which is not here and may not be fetched"
        return Way(isolation=way, can="run", why=why, mend=f"`uv python install {' '.join(missing)}`")
    found = (
        _gpu_image(families, file, known, driver, runtimes)
        if run_needs and way == "docker"
        else Way(isolation=way, can="run")
    )
    if found.can == "no" or not too_old:
        return found
    return replace(found, why="; ".join(filter(None, (found.why, too_old))), mend=found.mend or OLD)


def _releases(families: Families, file: FamilyFile, known: Mapping[str, Check], driver: str) -> tuple[bool, str]:
    """Whether no GPU here, or not this driver, takes any of a family's stacks in the matrix (else of its known images); and
    how many of them it does not take."""
    what, rows = _rows(families, file)
    here = doctor_releases.capabilities(known["GPUs"].data.get("gpus") or ())
    asked = driver if file.facts is None else ""  # images of the catalog have a floor of their own: _driver
    found = {key: doctor_releases.refusal(row, here, asked) for key, row in rows.items()}
    refused = {key: why for key, why in found.items() if why}
    if not refused:
        return False, ""
    first, why = next(iter(refused.items()))
    text = f"{len(refused)} of {len(rows)} {what} cannot run here (the first is {first}: {why})"
    return len(refused) == len(rows), text


def _rows(families: Families, file: FamilyFile) -> tuple[str, Mapping[str, Mapping[str, str]]]:
    """What a family's stacks in the matrix hold, else its known images; by stack or release."""
    stacks = {
        stack.id: {**stack.facts, **stack.fields} for stack in families.stacks if stack.family == file.family.name
    }
    if stacks:
        return "stacks of the matrix", stacks
    return "known releases", {key: record.facts for key, record in (file.facts.records if file.facts else {}).items()}


def _missing(families: Families, name: str, known: Mapping[str, Check]) -> list[str]:
    """The Pythons that a family asks for, are not here, and may not be fetched."""
    lacking = known["interpreters"].data if "interpreters" in known else {}
    if lacking.get("may_fetch"):
        return []
    return [version for version in families.pythons(name) if version in lacking.get("missing", ())]


def _gpu_image(
    families: Families, file: FamilyFile, known: Mapping[str, Check], driver: str, runtimes: Sequence[str]
) -> Way:
    """Images whose containers are given the GPU that is here."""
    passing = _blocking(known, DOCKER_GPU)
    if passing is not None:
        return _no("docker", passing, "its containers get no GPU. ")
    rules = file.family.image
    if rules is not None and rules.runtime and rules.runtime not in runtimes:
        why = f"needs the engine's runtime {rules.runtime!r}, which it does not have"
        mend = "`sudo nvidia-ctk runtime configure --runtime=docker`, then restart the engine"
        return Way(isolation="docker", can="no", why=why, mend=mend)
    can, why = _driver(families, file, driver)
    return Way(isolation="docker", can=can, why=why, mend="move the driver to a newer branch" if why else "")


def _driver(families: Families, file: FamilyFile, driver: str) -> tuple[Can, str]:
    """How many of a family's stacks in the matrix (else of the known releases) ask for a newer driver, by the catalog."""
    rules = file.family.image
    if rules is None or not rules.driver or not driver:
        return "run", ""
    what, rows = _rows(families, file)
    floors = {key: row.get(rules.driver, "") for key, row in rows.items()}
    new = [key for key, floor in floors.items() if floor and below(driver, floor)]
    if not new:
        return "run", ""
    why = f"{len(new)} of {len(floors)} {what} ask for a newer driver than {driver} (the first is {new[0]})"
    return "run" if len(new) < len(floors) else "no", why


def _blocking(known: Mapping[str, Check], names: Sequence[str]) -> Check | None:
    """The first of these checks that says no; a check that itself failed says so too, since nothing is known then."""
    return next((known[name] for name in names if name in known and known[name].state in ("problem", "absent")), None)


def _no(way: ways.Realised, check: Check, before: str = "") -> Way:
    return Way(isolation=way, can="no", why=f"{before}{check.name}: {check.found}", mend=check.mend)
