"""One job at a time on a GPU, several GPUs at once: fake GPUs, real locks, real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import factory
import fake
import pytest
from workers.support import Fake

from builder.errors import InfrastructureError
from builder.execute.gpus import Gpus, usable
from builder.execute.local import Local
from builder.machine import Gpu
from builder.plan import reconcile
from builder.store import Store

ROOT = Path(__file__).parent.parent
UUIDS = ("GPU-11111111-aaaa", "GPU-22222222-bbbb")

#: Takes a GPU a few times, and writes down when it had which.
HOLDER = """
import json, sys, time
from pathlib import Path
from builder.execute.gpus import Gpus
folder, uuids, times, pause = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), float(sys.argv[4])
held = []
for _ in range(times):
    with Gpus(uuids, lambda: folder).one(lambda: False) as uuid:
        begun = time.monotonic()
        print("holding", uuid, flush=True)
        time.sleep(pause)
        held.append([uuid, begun, time.monotonic()])
    time.sleep(0.005)
print(json.dumps(held))
"""


def holder(folder: Path, uuids: tuple[str, ...], times: int, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), ",".join(uuids), str(times), str(pause)], cwd=ROOT,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def overlaps(held: list[list[Any]]) -> list[tuple[Any, Any]]:
    """Pairs of holdings of one GPU that are not apart."""
    return [
        (one, other)
        for index, one in enumerate(held)
        for other in held[index + 1 :]
        if one[0] == other[0] and one[1] < other[2] and other[1] < one[2]
    ]


def at_once(held: list[list[Any]]) -> bool:
    """Whether two GPUs were in use at one moment."""
    return any(a[0] != b[0] and a[1] < b[2] and b[1] < a[2] for a in held for b in held)


def test_the_overlap_that_is_looked_for_is_found() -> None:
    assert overlaps([["g", 0, 2], ["g", 1, 3]])
    assert not overlaps([["g", 0, 1], ["g", 1, 2], ["h", 0, 9]])


def test_processes_never_share_a_gpu_and_use_both(tmp_path: Path) -> None:
    holders = [holder(tmp_path, UUIDS, 4, 0.05) for _ in range(4)]
    held = [entry for one in holders for entry in json.loads(one.communicate(timeout=60)[0].splitlines()[-1])]
    assert len(held) == 16
    assert not overlaps(held)
    assert at_once(held)


def test_a_killed_holder_gives_its_gpu_back(tmp_path: Path) -> None:
    one = holder(tmp_path, UUIDS[:1], 1, 600)
    assert one.stdout is not None
    assert one.stdout.readline().startswith("holding")
    gpus = Gpus(UUIDS[:1], lambda: tmp_path)
    begun = time.monotonic()
    with pytest.raises(InfrastructureError, match="interrupted"), gpus.one(lambda: time.monotonic() > begun + 0.2):
        pass
    one.kill()
    one.communicate()
    with gpus.one(lambda: time.monotonic() > begun + 30) as uuid:
        assert uuid == UUIDS[0]


def gpu_plan(tmp_path: Path, engines: int = 4) -> tuple[Any, Store]:
    """A plan of one engine on the GPU and one on the CPU for each of so many versions."""
    stacks = [factory.stack(version=f"1.{n}") for n in range(engines)]
    plain = [factory.stack(name="plain", version=f"1.{n}") for n in range(2)]
    families = {"engine": factory.family(device="cuda"), "plain": factory.family("plain")}
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(*stacks, *plain, families=families).plan([factory.cell(s) for s in (*stacks, *plain)])
    reconcile(plan, store.light(), store.root / "objects")
    return plan, store


class Recorder:
    """A script for fake jobs that notes which GPU each had, and when."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.lock = threading.Lock()
        self.held: list[list[Any]] = []
        self.without: list[list[Any]] = []

    def __call__(self, stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        begun = time.monotonic()
        time.sleep(self.pause)
        with self.lock:
            (self.held if job.get("gpu") else self.without).append([job.get("gpu"), begun, time.monotonic(), stage])
        return fake.well(stage, job, folder)


def test_the_scheduler_uses_every_gpu_each_by_one_job(tmp_path: Path) -> None:
    plan, store = gpu_plan(tmp_path)
    script = Recorder(0.05)
    Local(plan, store, fake.World(script), fake.Listener(), run="run", jobs=4, cores=4, gpus=UUIDS).run()
    assert {uuid for uuid, *_ in script.held} == set(UUIDS)
    assert {entry[3] for entry in script.held} == {"build", "run"}
    assert len(script.held) == 2 * 4, "engines of the CPU were given none"
    assert not overlaps(script.held)
    assert at_once(script.held)


def test_what_needs_no_gpu_does_not_wait_for_one(tmp_path: Path) -> None:
    plan, store = gpu_plan(tmp_path)
    script = Recorder(0.05)
    Local(plan, store, fake.World(script), fake.Listener(), run="run", jobs=2, cores=2, gpus=UUIDS[:1]).run()
    assert not overlaps(script.held)
    beside = [
        w for w in script.without for h in script.held if w[3] in ("build", "run") and w[1] < h[2] and h[1] < w[2]
    ]
    assert beside, "the engines of the CPU ran beside those of the one GPU"


def test_two_runs_share_no_gpu(tmp_path: Path) -> None:
    """Two stores, as two checkouts of one user have: the locks are the machine's."""
    script = Recorder(0.03)
    runs = []
    for name in ("one", "two"):
        plan, store = gpu_plan(tmp_path / name, engines=2)
        runs.append(Local(plan, store, fake.World(script), fake.Listener(), run=name, jobs=2, cores=2, gpus=UUIDS))
    threads = [threading.Thread(target=run.run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(script.held) == 2 * 2 * 2
    assert not overlaps(script.held)


def test_without_gpus_jobs_are_given_none(tmp_path: Path) -> None:
    plan, store = gpu_plan(tmp_path, engines=1)
    script = Recorder(0.0)
    Local(plan, store, fake.World(script), fake.Listener(), run="run", jobs=1, cores=1).run()
    assert script.held == []


def test_a_job_sees_its_gpu_and_no_other(tmp_path: Path) -> None:
    worker = Fake(tmp_path)
    with worker.session:
        end = worker.session.run(
            "build", {"adapter": "fake", "settings": {"do": "environment"}, "gpu": UUIDS[1]}, tmp_path / "job", seconds=30,
            memory=None,
        )  # fmt: skip
        assert end.output is not None
        assert end.output["result"]["got"]["CUDA_VISIBLE_DEVICES"] == UUIDS[1]
        assert "CUDA_VISIBLE_DEVICES" not in worker.got("environment")


H200 = Gpu(name="NVIDIA H200", compute_capability="9.0", memory=1, uuid="GPU-aaa-1")
MORE = [dataclasses.replace(H200, uuid=f"GPU-{letter}-1") for letter in ("bbb", "ccc")]
L4 = Gpu(name="NVIDIA L4", compute_capability="8.9", memory=1, uuid="GPU-ddd-1")


@pytest.mark.parametrize(
    ("gpus", "visible", "found"),
    [
        ([], None, ()),
        ([H200, *MORE], None, ("GPU-aaa-1", "GPU-bbb-1", "GPU-ccc-1")),
        ([H200, *MORE], "2,0", ("GPU-ccc-1", "GPU-aaa-1")),
        ([H200, *MORE], "GPU-bbb", ("GPU-bbb-1",)),
        ([H200, *MORE], "", ()),
        ([H200, *MORE], "1,-1,0", ("GPU-bbb-1",)),
        ([H200, *MORE], "1,1", ("GPU-bbb-1",)),
        ([H200, L4, *MORE], None, ("GPU-aaa-1", "GPU-bbb-1", "GPU-ccc-1")),
        ([H200, L4], "1,0", ("GPU-ddd-1",)),
    ],
)
def test_usable_gpus(gpus: list[Gpu], visible: str | None, found: tuple[str, ...]) -> None:
    assert usable(gpus, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == found
