"""The scheduler: everything that can run runs once, one failure costs the cells behind it, and timings run alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory
import fake
import pytest

from builder import results
from builder.environment import Place
from builder.environment.session import WorkerDied
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.execute.local import Local
from builder.machine import Gpu
from builder.plan import Again, Chain, Plan, Step, reconcile, remake
from builder.store import Store
from builder.values import Attributes, Cell

ENGINES = [factory.stack(version=f"1.{number}") for number in range(4)]


def go(
    tmp_path: Path, cells: list[Cell], world: fake.World, *, jobs: int = 2, again: Again = "", deadline: float | None = None,
    families: dict[str, Any] | None = None, run: str = "run", dismiss: Callable[[Chain], bool] | None = None,
    gone: bool = False,
) -> tuple[Plan, Local, fake.Listener]:  # fmt: skip
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(*ENGINES, families=families).plan(cells)
    reconcile(plan, store.light(), store.root / "objects", again=again)
    if gone:  # as pipeline.run does
        remake(plan, lambda steps: [it for it in steps if (found := store.step(it.key)) and store.whole(found)])
    listener = fake.Listener()
    local = Local(
        plan, store, world, listener, run=run, jobs=jobs, cores=2, again=again, deadline=deadline, dismiss=dismiss
    )
    assert local.run()
    return plan, local, listener


def states(plan: Plan) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for step in plan.steps:
        out.setdefault(step.kind, []).append(step.state)
    return out


def test_everything_runs_once_and_every_cell_is_told(tmp_path: Path) -> None:
    world = fake.World()
    cells = [factory.cell(engine, precision=p) for engine in ENGINES for p in ("fp32", "fp16")]
    plan, _, listener = go(tmp_path, cells, world)
    assert {state for row in states(plan).values() for state in row} == {"stored"}
    assert sorted(listener.chains) == sorted(cell.id for cell in cells)
    assert (world.stages().count("export"), world.stages().count("convert"), world.stages().count("build")) == (1, 1, 8)
    assert sorted(world.closed) == sorted(world.started), "a worker is stopped when nothing is left for it"
    assert len(world.started) == len(set(world.started)) == 6


def test_a_second_run_starts_nothing(tmp_path: Path) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    go(tmp_path, cells, fake.World())
    world = fake.World()
    go(tmp_path, cells, world)
    assert (world.made, world.started, world.jobs) == ([], [], [])


def test_an_added_cell_reuses_what_there_is(tmp_path: Path) -> None:
    go(tmp_path, [factory.cell(ENGINES[0])], fake.World())
    world = fake.World()
    go(tmp_path, [factory.cell(ENGINES[0]), factory.cell(ENGINES[1])], world)
    assert world.stages() == ["build", "run"]


def test_one_failure_costs_its_own_cell(tmp_path: Path) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "build" and job["options"] == {"target": "bad"}:
            return {"error": {"stage": "parse", "type": "RuntimeError", "message": "no such operator"}}
        return fake.well(stage, job, folder)

    cells = [factory.cell(ENGINES[0], target=target) for target in ("good", "bad", "fine")]
    plan, _, listener = go(tmp_path, cells, fake.World(script))
    assert states(plan)["build"] == ["stored", "failed", "stored"]
    assert states(plan)["run"] == ["stored", "wait", "stored"]
    assert len(listener.chains) == 3


@pytest.mark.parametrize("end", [{"signal": 11, "name": "SIGSEGV"}, {"timeout": 120.0}, {"memory": 1}])
def test_how_a_job_died_is_kept(tmp_path: Path, end: dict[str, Any]) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        return {"end": end} if stage == "run" else fake.well(stage, job, folder)

    plan, local, _ = go(tmp_path, [factory.cell()], fake.World(script))
    run = plan.chains[0].run
    assert run.state == "failed"
    record = local.store.step(run.key)
    assert record is not None
    assert record.record["end"] == end
    assert record.limits == {k: v for k, v in end.items() if k in ("timeout", "memory")}


def test_a_job_killed_from_outside_is_no_evidence(tmp_path: Path) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        return {"end": {"signal": 9, "name": "SIGKILL"}} if stage == "run" else fake.well(stage, job, folder)

    plan, local, _ = go(tmp_path, [factory.cell()], fake.World(script))
    assert "killed from outside" in local.infrastructure[plan.chains[0].run]
    assert local.store.step(plan.chains[0].run.key) is None
    world = fake.World()
    plan, _, _ = go(tmp_path, [factory.cell()], world)
    assert world.stages() == ["run"], "it is tried again, and the rest is reused"


def test_packages_that_do_not_go_together_are_evidence_and_a_dead_network_is_not(tmp_path: Path) -> None:
    world = fake.World()
    world.broken[ENGINES[0].id] = PackageError("no wheels", "no wheels with a matching Python version tag")
    world.broken[ENGINES[1].id] = InfrastructureError("dns error")
    plan, local, listener = go(tmp_path, [factory.cell(engine) for engine in ENGINES[:3]], world)
    environments = {step.name: step for step in plan.steps if step.kind == "environment"}
    assert environments[ENGINES[0].id].state == "failed"
    assert local.store.step(environments[ENGINES[0].id].key) is not None
    assert environments[ENGINES[1].id] in local.infrastructure
    assert local.store.step(environments[ENGINES[1].id].key) is None
    assert plan.chains[2].run.state == "stored"
    assert len(listener.chains) == 3


def test_an_import_that_fails_is_the_environments_failure(tmp_path: Path) -> None:
    world = fake.World()
    world.probes[ENGINES[0].id] = {
        "modules": {"fake": {"error": "ImportError: libcudart.so.12: cannot open shared object file"}}
    }
    plan, local, _ = go(tmp_path, [factory.cell(ENGINES[0])], world)
    environment = plan.chains[0].engine
    assert environment.state == "failed"
    found = local.store.step(environment.key)
    assert found is not None
    assert "libcudart" in found.record["error"]["message"]


def test_an_import_that_crashes_is_the_environments_crash(tmp_path: Path) -> None:
    world = fake.World()
    world.broken[ENGINES[0].id] = WorkerDied("died while importing", signal=signal.SIGILL, exit=None, log="")
    plan, local, _ = go(tmp_path, [factory.cell(ENGINES[0])], world)
    found = local.store.step(plan.chains[0].engine.key)
    assert found is not None
    assert found.record["end"] == {"signal": 4, "name": "SIGILL"}


def test_another_version_than_declared_is_written_down(tmp_path: Path) -> None:
    world = fake.World()
    world.probes[ENGINES[1].id] = {"modules": {"fake": {"version": "1.10"}}}
    plan, local, _ = go(tmp_path, [factory.cell(ENGINES[1])], world)
    found = local.store.step(plan.chains[0].engine.key)
    assert found is not None
    assert found.record["differs"] == [
        {"asked": "fake 1.1", "got": "fake 1.10", "how": "declared version is not the one loaded"}
    ]


def test_timings_run_alone_and_last(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    world = fake.World(pause=0.01)

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        seen.append((stage, world.now))
        return fake.well(stage, job, folder)

    world.script = script
    cells = [factory.cell(engine, attributes=Attributes(measure=engine is not ENGINES[3])) for engine in ENGINES]
    go(tmp_path, cells, world, jobs=4)
    assert [stage for stage, _ in seen][-3:] == ["measure"] * 3
    assert {beside for stage, beside in seen if stage == "measure"} == {1}
    assert world.most > 1, "other steps do run side by side"


def test_a_crash_is_tried_again_only_as_often_as_the_matrix_says(tmp_path: Path) -> None:
    tries = []

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "run":
            tries.append(1)
            if len(tries) < 2:
                return {"end": {"signal": 11, "name": "SIGSEGV"}}
        return fake.well(stage, job, folder)

    plan, local, _ = go(tmp_path, [factory.cell(attributes=Attributes(retry=1))], fake.World(script))
    found = local.store.step(plan.chains[0].run.key)
    assert found is not None
    assert (found.state, found.record["flaky"], len(tries)) == ("ok", True, 2)


def test_the_budget_ends_work_and_keeps_what_is_done(tmp_path: Path) -> None:
    world = fake.World(pause=0.05)
    cells = [factory.cell(engine, target=str(n)) for engine in ENGINES for n in range(10)]
    plan, local, _ = go(tmp_path, cells, world, jobs=1, deadline=time.monotonic() + 0.5)
    assert local.over_budget
    left = [chain for chain in plan.chains if chain.run.state != "stored"]
    assert left, "it was cut short"
    done = len(world.jobs)
    go(tmp_path, cells, world2 := fake.World())
    assert len(world2.jobs) == 1 + 1 + 2 * len(cells) - done


def test_ctrl_c_stops_and_the_next_run_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    cells = [factory.cell(engine, target=str(n)) for engine in ENGINES for n in range(5)]
    plan = factory.planner(*ENGINES).plan(cells)
    reconcile(plan, {}, store.root / "objects")
    world = fake.World(pause=0.05)
    local = Local(plan, store, world, fake.Listener(), run="run", jobs=2, cores=2)
    threading.Timer(0.6, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert not local.run()
    assert 0 < len(world.jobs) < 42
    assert not any(session for session in local.sessions._open)
    go(tmp_path, cells, world2 := fake.World())
    assert 0 < len(world2.jobs) <= 42 - len(world.jobs) + 2, "at most the two that were running are run again"


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    cells = [factory.cell(engine, target=str(n)) for engine in ENGINES for n in range(3)]
    worlds = [fake.World(pause=0.02), fake.World(pause=0.02)]
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            go(tmp_path, cells, worlds[number], run=f"run{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(worlds[0].jobs) + len(worlds[1].jobs) == 1 + 1 + 2 * len(cells), "no step was done twice"


def test_a_corrupt_artifact_is_found_before_it_is_used_and_made_again(tmp_path: Path) -> None:
    cells = [factory.cell(ENGINES[0])]
    plan, local, _ = go(tmp_path, cells, fake.World())
    record = local.store.step(plan.chains[0].export.key)
    assert record is not None
    path = local.store.root / record.record["artifact"]["path"]
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    more = [*cells, factory.cell(ENGINES[1])]
    plan, local, _ = go(tmp_path, more, fake.World(), run="second")
    assert "corrupt" in local.infrastructure[plan.chains[1].build]
    plan, local, _ = go(tmp_path, more, world := fake.World(), run="third")
    assert world.stages() == ["export", "build", "run"]
    assert plan.chains[1].run.state == "stored"


@pytest.mark.parametrize(
    "result", [{"engine": "../../../../secret"}, {"engine": "/etc/passwd"}, {}, {"engine": None}, {"engine": "nothing"}]
)
def test_a_job_that_gives_what_it_should_not_costs_its_own_step(tmp_path: Path, result: dict[str, Any]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        answer = fake.well(stage, job, folder)
        return result if stage == "build" and job["options"] else answer

    cells = [factory.cell(), factory.cell(target="bad")]
    plan, local, _ = go(tmp_path, cells, fake.World(script))
    assert [chain.build.state for chain in plan.chains] == ["stored", "failed"]
    found = local.store.step(plan.chains[1].build.key)
    assert found is not None
    assert found.record["error"]["type"] == "BadOutput"
    assert secret.read_text() == "secret"


def test_a_bug_of_ours_costs_one_step_and_is_told(tmp_path: Path) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "build" and job["options"]:
            raise ZeroDivisionError
        return fake.well(stage, job, folder)

    plan, local, listener = go(tmp_path, [factory.cell(), factory.cell(target="bad")], fake.World(script))
    assert "a bug of ours: ZeroDivisionError" in local.infrastructure[plan.chains[1].build]
    assert local.store.step(plan.chains[1].build.key) is None, "no evidence"
    assert plan.chains[0].run.state == "stored"
    assert len(listener.chains) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_from_outside_are_no_evidence(tmp_path: Path, number: int) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        return {"end": {"signal": int(number)}} if stage == "run" else fake.well(stage, job, folder)

    plan, local, _ = go(tmp_path, [factory.cell()], fake.World(script))
    assert plan.chains[0].run in local.infrastructure
    assert local.store.step(plan.chains[0].run.key) is None


def test_a_worker_that_ends_under_a_job_is_no_evidence(tmp_path: Path) -> None:
    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "run":
            return {"end": {"exit": 0, "note": "the worker itself ended while the job ran"}}
        return fake.well(stage, job, folder)

    plan, local, _ = go(tmp_path, [factory.cell()], fake.World(script))
    assert local.store.step(plan.chains[0].run.key) is None


def test_an_environment_that_is_not_what_it_was_is_not_used(tmp_path: Path) -> None:
    go(tmp_path, [factory.cell(ENGINES[1])], fake.World())
    world = fake.World()
    world.probes[ENGINES[1].id] = {"modules": {"fake": {"version": "9.9"}}}
    cells = [factory.cell(ENGINES[1]), factory.cell(ENGINES[1], target="more")]
    plan, local, _ = go(tmp_path, cells, world, run="second")
    assert "not what it was" in local.infrastructure[plan.chains[1].build]
    assert world.discarded == [ENGINES[1].id]
    assert "build" not in world.stages()
    plan, local, _ = go(tmp_path, cells, fake.World(), run="third")
    assert plan.chains[1].run.state == "stored"


def test_a_lost_engine_is_built_again_and_run_if_it_is_another(tmp_path: Path) -> None:
    go(tmp_path, [factory.cell()], fake.World())
    store = Store(tmp_path / "artifacts")
    for path in (store.root / "objects").glob("*/*.plan"):
        path.unlink()

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        answer = fake.well(stage, job, folder)
        if stage == "build":
            (folder / "engine.plan").write_text("other bytes")
        return answer

    world = fake.World(script)
    plan, _, _ = go(tmp_path, [factory.cell()], world, run="second")
    assert world.stages() == ["build", "run"]
    assert plan.chains[0].run.state == "stored"


def test_all_files_that_are_gone_are_made_again_in_one_run(tmp_path: Path) -> None:
    """What is converted is known by what it is converted from: found stored only once that is exported anew, without a file."""
    cells = [factory.cell(precision="fp16")]
    go(tmp_path, cells, fake.World())
    shutil.rmtree(tmp_path / "artifacts" / "objects")
    world = fake.World()
    plan, local, _ = go(tmp_path, cells, world, run="second", gone=True)
    assert local.infrastructure == {} and plan.chains[0].run.state == "stored"
    assert "convert" in world.stages()


def test_an_import_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    world = fake.World()
    world.broken[ENGINES[0].id] = WorkerDied("the imports took longer", signal=None, exit=None, log="", timeout=120.0)
    plan, local, _ = go(tmp_path, [factory.cell(ENGINES[0])], world)
    found = local.store.step(plan.chains[0].engine.key)
    assert found is not None
    assert (found.record["end"], found.limits) == ({"timeout": 120.0}, {"timeout": 120.0})


def test_the_budget_begins_nothing_after_its_end(tmp_path: Path) -> None:
    world = fake.World(pause=0.3)
    plan, local, _ = go(tmp_path, [factory.cell()], world, jobs=1, deadline=time.monotonic() + 0.1)
    assert local.over_budget
    assert len(world.jobs) <= 1
    assert plan.chains[0].run.state != "stored"


def test_no_gpu_to_load_with_still_builds(tmp_path: Path) -> None:
    families = {"engine": dataclasses.replace(factory.family(), run_needs=("nvidia-gpu",))}
    world = fake.World()
    plan, _, listener = go(tmp_path, [factory.cell()], world, families=families)
    assert plan.chains[0].build.state == "stored"
    assert plan.chains[0].run.state == "skip"
    assert "run" not in world.stages()
    assert len(listener.chains) == 1


# In images -----------------------------------------------------------------------------------------------------------


class Containers(fake.World):
    """Environments that are images: what each of their workers was given."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.places: list[tuple[str, bool, Path]] = []

    def __call__(self, step: Step) -> fake.FakeEnvironment:
        world = self

        class Image(fake.FakeEnvironment):
            def make(self) -> dict[str, Any]:
                return {**super().make(), "tag": "t", "base": "b@d", "platform": "linux/amd64", "key": "k"}

            def start(self, imports: tuple[str, ...], log: Path, seconds: float, *, place: Place) -> fake.FakeSession:
                world.places.append((step.name, place.gpu, log))
                log.write_text(f"log of a worker with{'' if place.gpu else 'out'} GPU\n")
                return super().start(imports, log, seconds, place=place)

        return Image(self, step)


def in_containers(
    tmp_path: Path, world: Containers, *, gpu: bool, rendered: object = "Dockerfile", unlocked: str = "", run: str = "run",
    isolation: str = "docker", cells: list[Cell] | None = None, **family: Any,
) -> tuple[Plan, Local]:  # fmt: skip
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(*ENGINES, families={"engine": factory.family(**family)}, machine=GPU).plan(
        cells or [factory.cell(ENGINES[0])]
    )
    for step in plan.steps:
        if step.kind == "environment":
            step.data = {**step.data, "isolation": isolation, "rendered": rendered}
    reconcile(plan, store.light(), store.root / "objects")
    local = Local(plan, store, world, fake.Listener(), run=run, jobs=1, cores=2, gpu=gpu, unlocked=unlocked)
    assert local.run()
    return plan, local


GPU = dataclasses.replace(
    factory.MACHINE, gpus=(Gpu(name="NVIDIA L4", compute_capability="8.9", memory=1, uuid="GPU-0"),), driver="550"
)


@pytest.mark.parametrize(
    ("needs", "run_needs", "gpu", "isolation", "expected"),
    [
        ((), (), True, "docker", {False}),
        ((), ("nvidia-gpu",), True, "docker", {False, True}),  # imported and built without, run with
        (("nvidia-gpu",), ("nvidia-gpu",), True, "docker", {True}),  # one worker for all, its imports too
        (("nvidia-gpu",), (), True, "docker", {True}),
        ((), ("nvidia-gpu",), False, "docker", {False}),
        (("nvidia-gpu",), ("nvidia-gpu",), True, "venv", {False}),  # there the GPUs are simply there
    ],
)
def test_a_container_is_given_gpus_for_the_stages_that_need_them(
    tmp_path: Path, needs: tuple[str, ...], run_needs: tuple[str, ...], gpu: bool, isolation: str, expected: set[bool]
) -> None:
    world = Containers()
    plan, _ = in_containers(tmp_path, world, gpu=gpu, isolation=isolation, needs=needs, run_needs=run_needs)
    assert plan.chains[0].run.state == "stored"
    given = [with_gpu for name, with_gpu, _ in world.places if name == ENGINES[0].id]
    assert set(given) == expected and len(given) == len(expected)
    assert {with_gpu for name, with_gpu, _ in world.places if name != ENGINES[0].id} == {False}, "exporters need none"
    assert sorted(world.closed) == sorted(world.started), "both workers of an environment are stopped"


def test_two_workers_of_one_environment_have_logs_of_their_own(tmp_path: Path) -> None:
    world = Containers()
    plan, local = in_containers(tmp_path, world, gpu=True, run_needs=("nvidia-gpu",))
    logs = [log for name, _, log in world.places if name == ENGINES[0].id]
    assert len(set(logs)) == 2
    found = local.store.step(plan.chains[0].engine.key)
    assert found is not None
    assert (local.store.root / found.record["log"]).read_text() == "log of a worker without GPU\n"
    assert found.record["image"] == {"tag": "t", "base": "b", "digest": "d", "platform": "linux/amd64", "key": "k"}


@pytest.mark.parametrize("why", ["", "registry.example.com does not answer"])
def test_a_stack_whose_image_is_not_locked_is_no_evidence(tmp_path: Path, why: str) -> None:
    world = Containers()
    plan, local = in_containers(tmp_path, world, gpu=False, rendered=None, unlocked=why)
    assert world.made == world.jobs == []
    for step in (step for step in plan.steps if step.kind == "environment"):
        assert local.infrastructure[step] == (why or "not in the lock; run `enginematrix lock`")
        assert local.store.step(step.key) is None


def test_a_stack_without_an_entry_in_the_lock_is_no_evidence_either(tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    planner = factory.planner(*ENGINES)
    del planner.lock.stacks[ENGINES[0].id]
    plan = planner.plan([factory.cell(engine) for engine in ENGINES[:2]])
    reconcile(plan, {}, store.root / "objects")
    local = Local(plan, store, fake.World(), fake.Listener(), run="run", jobs=2, cores=2, unlocked="the index is away")
    assert local.run()
    assert local.infrastructure[plan.chains[0].engine] == "the index is away"
    assert store.step(plan.chains[0].engine.key) is None
    assert plan.chains[1].run.state == "stored", "and costs nobody else"


def test_an_image_that_cannot_be_had_is_evidence_and_is_asked_for_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")

    def planned() -> Plan:
        planner = factory.planner(*ENGINES)
        pins = planner.lock.stacks[ENGINES[0].id]
        planner.lock.stacks[ENGINES[0].id] = dataclasses.replace(pins, unresolved="nvcr.io/x/y:1: no such tag")
        plan = planner.plan([factory.cell(ENGINES[0])])
        reconcile(plan, store.light(), store.root / "objects")
        return plan

    plan = planned()
    assert Local(plan, store, fake.World(), fake.Listener(), run="run", jobs=2, cores=2).run()
    found = store.step(plan.chains[0].engine.key)
    assert found is not None
    assert (found.state, found.record["error"]["stage"]) == ("failed", "resolve")
    assert found.record["error"]["message"] == "nvcr.io/x/y:1: no such tag"
    assert planned().todo() == []


def test_what_could_never_be_imported_ahead_does_not_make_it_another_environment(tmp_path: Path) -> None:
    """Families name modules of newer releases too: those that are not there are simply not imported."""
    world = fake.World()
    lacking = {"fake": {"version": "1.0"}, "fake.new": {"error": "ModuleNotFoundError: No module named 'fake.new'"}}
    world.probes[ENGINES[0].id] = {"modules": lacking}
    go(tmp_path, [factory.cell(ENGINES[0])], world)
    cells = [factory.cell(ENGINES[0]), factory.cell(ENGINES[0], target="more")]
    plan, local, _ = go(tmp_path, cells, world, run="second")
    assert (local.infrastructure, world.discarded) == ({}, [])
    assert plan.chains[1].run.state == "stored"
    world.probes[ENGINES[0].id] = {"modules": {**lacking, "fake.new": {"version": None}}}
    plan, local, _ = go(tmp_path, [*cells, factory.cell(ENGINES[0], target="third")], world, run="third")
    assert world.discarded == [ENGINES[0].id], "one that came since does"


def objects(tmp_path: Path, plan: Plan) -> list[bool]:
    root = tmp_path / "artifacts" / "objects"
    return [(root / chain.build.output[:2] / chain.build.output).exists() for chain in plan.chains]


def different(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """As `well`, each engine with bytes of its own."""
    answer = fake.well(stage, job, folder)
    if stage == "build":
        (folder / answer["engine"]).write_text(str(folder))
    return answer


def test_engines_that_are_not_kept_go_when_their_cells_are_finished(tmp_path: Path) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    kept = cells[1].id
    plan, _, _ = go(tmp_path, cells, fake.World(different), dismiss=lambda chain: chain.cell.id != kept)
    assert objects(tmp_path, plan) == [False, True, False, False]
    assert states(plan)["run"] == ["stored"] * 4, "what was found out stays"

    again = factory.planner(*ENGINES).plan(cells)
    store = Store(tmp_path / "artifacts")
    reconcile(again, store.light(), store.root / "objects", engines=False)
    assert not again.todo()
    wanted = factory.planner(*ENGINES).plan(cells)
    reconcile(wanted, store.light(), store.root / "objects")
    assert [step.why for step in wanted.todo() if step.kind == "build"] == ["its engine file is gone"] * 3


def test_an_engine_stays_while_another_cell_that_built_the_same_bytes_is_not_finished(tmp_path: Path) -> None:
    world = fake.World(pause=0.02)
    cells = [factory.cell(engine) for engine in ENGINES]
    plan, local, _ = go(tmp_path, cells, world, dismiss=lambda chain: True)
    assert len({chain.build.output for chain in plan.chains}) == 1
    assert not local.infrastructure
    assert states(plan)["run"] == ["stored"] * 4, "no run lost its engine to another's end"
    assert objects(tmp_path, plan) == [False] * 4


@pytest.mark.parametrize("kept", range(4))
def test_an_engine_that_one_of_its_cells_keeps_stays_whichever_ends_last(tmp_path: Path, kept: int) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    keeps = cells[kept].id
    plan, _, _ = go(tmp_path, cells, fake.World(), jobs=1, dismiss=lambda chain: chain.cell.id != keeps)
    assert len({chain.build.output for chain in plan.chains}) == 1
    assert objects(tmp_path, plan) == [True] * 4


def test_an_engine_that_a_cell_of_an_earlier_run_keeps_stays(tmp_path: Path) -> None:
    cells = [factory.cell(engine) for engine in ENGINES]
    go(tmp_path, cells[:1], fake.World())
    plan, _, _ = go(tmp_path, cells, fake.World(), run="second", dismiss=lambda chain: chain.cell.id != cells[0].id)
    assert objects(tmp_path, plan) == [True] * 4


def test_what_was_delivered_goes_with_an_engine_that_is_not_kept(tmp_path: Path) -> None:
    """Else its folder would hold another build than the one that its cell's result is of."""
    plan, local, _ = go(tmp_path, [factory.cell(engine) for engine in ENGINES], fake.World(different))
    cells = results.judge(plan.chains, local.store, {}, "")
    results.deliver(plan, local.store, cells, again=True)
    folders = [tmp_path / "artifacts" / "engines" / chain.cell.folder for chain in plan.chains]
    assert [(folder / "manifest.json").exists() for folder in folders] == [True] * 4
    found = local.store.step(plan.chains[2].build.key)
    assert found is not None
    local.store.discard(found.record["artifact"])
    (folders[3] / "manifest.json").unlink()
    results.deliver(plan, local.store, cells, again=True, new=False)
    assert [folder.exists() for folder in folders] == [True, True, False, True]
    assert not (folders[3] / "manifest.json").exists(), "nothing new is delivered"
