"""Look at this machine: what the project's families need, what is there, and how to mend what is not.

Each look runs in a thread of its own and each judgement by itself: one that crashes or hangs is told as such and costs no
other. Nothing is installed, started to stay, or asked of the network; a Docker engine that DOCKER_HOST names is asked.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from builder import doctor_engine as engines
from builder import doctor_families as families
from builder import doctor_gpu as gpus
from builder import doctor_gpu_checks as gpu_checks
from builder import doctor_libraries as libraries
from builder import doctor_library_checks as library_checks
from builder import doctor_machine as machine
from builder import doctor_releases as releases
from builder.doctor_families import Families, Verdict
from builder.doctor_host import Check, Host, Need, clean
from builder.environment import engine
from builder.project import Project

SCHEMA = 1
#: Seconds that any one look may take: NVML and nvidia-smi one after the other (doctor_gpu.SECONDS each), and some.
PATIENCE = 25.0
BUG = "that is a bug of ours: tell it with this text"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Report:
    checks: tuple[Check, ...]
    families: tuple[Verdict, ...]
    broken: tuple[tuple[str, str], ...]
    """(family, what is wrong with its file)."""
    concerned: tuple[tuple[str, ...], ...]
    """For each check the families that it is about."""
    seconds: float

    @property
    def problems(self) -> list[str]:
        """What is broken and a family of the project needs."""
        pairs = zip(self.checks, self.concerned, strict=True)
        out = [check.name for check, names in pairs if check.state == "problem" and names]
        return [*out, *(f"images/{name}/family.yaml" for name, _ in self.broken)]

    def as_dict(self) -> dict[str, Any]:
        """As docs/doctor.md has it; JSON values."""
        return {
            "schema": SCHEMA,
            "problems": self.problems,
            "seconds": round(self.seconds, 3),
            "checks": [
                {
                    "name": check.name, "state": check.state, "found": check.found, "matters": check.matters,
                    "mend": check.mend, "families": list(names), "data": dict(check.data),
                }
                for check, names in zip(self.checks, self.concerned, strict=True)
            ],
            "families": [
                {
                    "name": each.name, "summary": each.summary, "in_matrix": each.in_matrix, "can": each.can,
                    "isolation": each.isolation, "why": each.why, "mend": each.mend,
                    "ways": [
                        {"isolation": way.isolation, "can": way.can, "why": way.why, "mend": way.mend} for way in each.ways
                    ],
                }
                for each in self.families
            ],
            "broken": [{"name": name, "error": text} for name, text in self.broken],
        }  # fmt: skip


class Unanswered(Exception):
    """A look that crashed or did not end."""


class Look(Generic[T]):
    """A question that is asked in the background."""

    def __init__(self, call: Callable[[], T], patience: float) -> None:
        self._call = call
        self._patience = patience
        self._until = time.monotonic() + patience
        self._answer: list[T] = []
        self._failed = ""
        # Not waited for at the end: a look that hangs in the kernel (a dead network disk) must not hang us.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except BaseException as error:
            self._failed = crash(error)

    def result(self) -> T:
        """Raises Unanswered."""
        self._thread.join(max(self._until - time.monotonic(), 0))
        if self._answer:
            return self._answer[0]
        raise Unanswered(self._failed or f"no answer within {self._patience:g} s")


def crash(error: BaseException) -> str:
    """An exception in words: what, and where in which module."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {clean(error)}{where}"


def examine(project: Project, host: Host | None = None, *, patience: float = PATIENCE) -> Report:
    """Every check, and what each family can do here. Raises nothing that the machine or the project's files cause."""
    started = time.monotonic()
    host = host or Host()
    checks: list[Check] = []

    def add(name: str, need: Need, call: Callable[[], list[Check]]) -> None:
        """What a judgement says, or that it could not be made."""
        try:
            checks.extend(call())
        except Unanswered as error:
            checks.append(_failed(name, need, str(error)))
        except Exception as error:
            checks.append(_failed(name, need, crash(error)))

    gpu = Look(partial(gpus.look, host), patience)
    library = Look(partial(libraries.look, host), patience)
    docker = Look(partial(engines.look, host), patience)
    files = Look(partial(families.look, project), patience)
    pythons = Look(partial(machine.installed, host), patience)
    disk = Look(partial(machine.look_at_disk, project.artifacts), patience)
    plain = {
        name: Look(partial(call, host), patience)
        for name, call in (
            ("system", machine.system), ("memory", machine.memory), ("cores", machine.cores),
            ("/dev/shm", machine.shared_memory), ("uv", machine.uv),  # noqa: S108
        )
    }  # fmt: skip

    seen = _or(gpu, gpus.Seen(loaded=False))
    known = _or(files, Families())
    add("GPUs", "gpu", lambda: gpu_checks.judge(gpu.result()))
    add(releases.NAME, "gpu", lambda: releases.judge(gpu.result().gpus, seen.driver))
    add("libraries", "gpu", lambda: library_checks.judge(library.result(), driver=seen.kernel, cuda=seen.cuda))
    add("Docker engine", "docker", lambda: engines.judge(docker.result(), gpu=bool(seen.gpus), driver=seen.driver))
    for name, look in plain.items():
        add(name, "venv" if name == "uv" else "all", look.result)
    add("disk", "all", lambda: machine.disk(disk.result()))
    fetch = host.environ.get("UV_PYTHON_DOWNLOADS", "automatic") != "never"
    needed = sorted({version for name in known.files for version in known.pythons(name)})
    add("interpreters", "venv", lambda: machine.pythons(pythons.result(), needed, fetch=fetch))
    add("project", "all", lambda: _project(files.result(), project))
    verdicts: list[Verdict] = []

    def judge() -> list[Check]:
        runtimes = _or(docker, engines.Seen()).runtimes
        verdicts.extend(
            families.judge(
                known,
                checks,
                docker=engine.available(),
                platform=engine.platform(),
                driver=seen.driver,
                runtimes=runtimes,
            )
        )
        return []

    add("families", "all", judge)
    # Where no family could be read, a check that failed still counts.
    everybody = tuple(known.files) or ("all",)
    concerned = tuple(
        everybody if check.data.get("crashed") else tuple(families.concerned(known, check)) for check in checks
    )
    return Report(
        checks=tuple(checks), families=tuple(verdicts), broken=tuple(known.broken.items()), concerned=concerned,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _or(look: Look[T], other: T) -> T:
    try:
        return look.result()
    except Unanswered:
        return other


def _failed(name: str, need: Need, why: str) -> Check:
    hangs = why.startswith("no answer")
    mend = "something that it asks hangs: a driver, a disk that is away, an engine" if hangs else BUG
    return Check(
        name=name, state="problem", need=need, found=f"could not be looked at: {why}", mend=mend, data={"crashed": why},
        matters="nothing is known of it, so it is taken for broken",
    )  # fmt: skip


def _project(known: Families, project: Project) -> list[Check]:
    name, matters = "project", "the families are in images/, and the matrix says which of them are used"
    if not known.files and not known.broken:
        return [
            Check(name=name, state="absent", found=f"no images/*/family.yaml beside {project.matrix.name}", matters=matters,
                  mend="run it in a checkout of EngineMatrix, or name its matrix with `-f`")
        ]  # fmt: skip
    count = f"{len(known.files)} {'family' if len(known.files) == 1 else 'families'}"
    data = {"families": sorted(known.files), "matrix": project.matrix.exists(), "stacks": len(known.stacks)}
    if known.trouble:
        found = f"{count}; the matrix cannot be read: {known.trouble}"
        return [
            Check(
                name=name,
                state="warning",
                found=found,
                matters=matters,
                mend="`enginematrix plan` tells all of it",
                data=data,
            )
        ]
    used = len({stack.family for stack in known.stacks})
    more = (
        f", of which the matrix uses {used} in {len(known.stacks)} stacks"
        if used
        else f", and no {project.matrix.name}"
    )
    return [Check(name=name, state="ok", found=count + more, matters=matters, data=data)]
