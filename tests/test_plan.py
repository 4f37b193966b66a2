"""Steps are shared where they may be, keys hold what can change the bytes, and only what is needed runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import factory
import imageparts
import pytest
import stacks

from builder.lock import Image
from builder.machine import Gpu
from builder.plan import Plan, Planner, Step, reconcile, remake, unlocked
from builder.store import Light
from builder.values import Attributes, Docker, ImageRules, Stack


def kinds(plan: Plan) -> dict[str, int]:
    return {kind: row["total"] for kind, row in plan.counts().items()}


def finish(plan: Plan, objects: Path, *, fail: str = "") -> dict[str, Light]:
    """Pretend to run every step in order, with outputs that depend on the key alone."""
    light: dict[str, Light] = {}
    for step in plan.steps:
        if not step.resolve_key():
            continue
        if step.kind == fail:
            light[step.key] = Light(state="failed", output="", limits={})
            continue
        step.output = step.output or f"out-{step.key[:8]}"
        light[step.key] = Light(state="ok", output=step.output, limits={})
        if step.kind == "build":
            (objects / step.output[:2]).mkdir(parents=True, exist_ok=True)
            (objects / step.output[:2] / step.output).touch()
    return light


def test_one_export_feeds_every_engine() -> None:
    engines = [factory.stack(version=f"1.{n}") for n in range(5)]
    plan = factory.planner(*engines).plan([factory.cell(engine) for engine in engines])
    assert kinds(plan) == {"environment": 6, "reference": 1, "export": 1, "build": 5, "run": 5}


def test_precision_in_the_graph_adds_one_conversion_for_all_engines() -> None:
    engines = [factory.stack(version=f"1.{n}") for n in range(3)]
    plan = factory.planner(*engines).plan(
        [factory.cell(e, precision=p) for e in engines for p in ("fp32", "fp16", "int8")]
    )
    assert kinds(plan)["convert"] == 2
    assert kinds(plan)["export"] == 1
    int8 = next(step for step in plan.steps if step.kind == "convert" and step.data["precision"] == "int8")
    assert [need.kind for need in int8.needs] == ["export", "reference", "calibrate"], "int8 reads the calibration data"


def test_precision_by_flag_needs_no_conversion() -> None:
    flags = {"engine": factory.family(precision={"fp32": "graph", "fp16": "flag"})}
    plan = factory.planner(families=flags).plan([factory.cell(precision="fp16")])
    assert "convert" not in kinds(plan)


def test_second_plan_has_nothing_to_do(tmp_path: Path) -> None:
    cells = [factory.cell(precision=p) for p in ("fp32", "fp16", "int8")]
    plan = factory.planner().plan(cells)
    reconcile(plan, {}, tmp_path)
    assert plan.todo()
    light = finish(plan, tmp_path)
    again = factory.planner().plan(cells)
    reconcile(again, light, tmp_path)
    assert again.todo() == []
    assert {chain.run.state for chain in again.chains} == {"stored"}


def test_a_missing_engine_file_is_made_again_with_what_it_needs(tmp_path: Path) -> None:
    plan = factory.planner().plan([factory.cell()])
    light = finish(plan, tmp_path)
    build = next(step for step in plan.steps if step.kind == "build")
    (tmp_path / build.output[:2] / build.output).unlink()
    again = factory.planner().plan([factory.cell()])
    reconcile(again, light, tmp_path)
    assert [step.kind for step in again.todo()] == ["build", "run"], "what is built anew may be other bytes"
    assert again.chains[0].run.key == ""


@pytest.mark.parametrize(
    ("change", "kept", "made"),
    [
        ("adapter", {"export", "reference"}, {"build"}),
        ("compare", {"export", "reference", "build"}, {"run"}),
        ("exporters", set(), {"export", "reference"}),
        ("recipe", set(), {"export", "reference"}),
        ("machine", {"export", "reference"}, {"build"}),
        ("lock", {"export", "reference"}, {"environment", "build"}),
    ],
)
def test_what_changes_is_made_again_and_nothing_else(
    tmp_path: Path, change: str, kept: set[str], made: set[str]
) -> None:
    light = finish(factory.planner().plan([factory.cell()]), tmp_path)
    values: dict[str, object] = {}
    if change == "adapter":
        values["code"] = dataclasses.replace(factory.CODE, adapters={"__init__": "i", "fake": "new"})
    elif change in ("compare", "exporters"):
        values["code"] = dataclasses.replace(factory.CODE, **{change: "new"})
    elif change == "recipe":
        values["recipes"] = {"model": factory.recipe(sha256="new")}
    elif change == "machine":
        values["machine"] = dataclasses.replace(factory.MACHINE, cpu="Other CPU")
    planner = factory.planner(**values)  # type: ignore[arg-type]
    if change == "lock":
        pins = planner.lock.stacks["engine-1.0-py3.11"]
        planner.lock.stacks["engine-1.0-py3.11"] = dataclasses.replace(pins, hashes={pins.packages[0]: ("sha256:new",)})
    plan = planner.plan([factory.cell()])
    reconcile(plan, light, tmp_path)
    states = {step.kind: step.state for step in plan.steps if step.name != "exporter-1.0-py3.11"}
    assert {kind for kind in kept if states[kind] != "stored"} == set()
    assert {kind for kind in made if states[kind] != "run"} == set()


def test_an_axis_the_recipe_does_not_use_does_not_change_the_export() -> None:
    recipes = {"model": factory.recipe(uses=("opset",))}
    plan = factory.planner(recipes=recipes).plan([factory.cell(target=t) for t in ("sm80", "sm89")])
    assert kinds(plan)["export"] == 1
    assert kinds(plan)["build"] == 2


def test_equal_engines_of_two_stacks_are_run_in_each(tmp_path: Path) -> None:
    """Two releases may write the same bytes: what runs them differs all the same."""
    engines = [factory.stack(version="1.0"), factory.stack(version="1.1")]
    plan = factory.planner(*engines).plan([factory.cell(engine) for engine in engines])
    for step in plan.steps:
        if step.kind in ("build", "reference", "export", "environment"):
            step.resolve_key()
            step.output = step.output or step.kind
    first, second = (step for step in plan.steps if step.kind == "run")
    assert first.resolve_key()
    assert second.resolve_key()
    assert first.key != second.key


def test_a_timeout_does_not_answer_for_a_longer_limit(tmp_path: Path) -> None:
    plan = factory.planner().plan([factory.cell()])
    light = finish(plan, tmp_path)
    build = next(step for step in plan.steps if step.kind == "build")
    light[build.key] = Light(state="failed", output="", limits={"timeout": 120.0})

    def state(seconds: float) -> str:
        again = factory.planner().plan([factory.cell(attributes=Attributes(timeout=seconds))])
        reconcile(again, light, tmp_path)
        return next(step.state for step in again.steps if step.kind == "build")

    assert state(60) == "failed"
    assert state(120) == "failed"
    assert state(121) == "run"


def test_failures_are_kept_and_run_again_only_when_asked(tmp_path: Path) -> None:
    plan = factory.planner().plan([factory.cell()])
    light = finish(plan, tmp_path, fail="build")
    again = factory.planner().plan([factory.cell()])
    reconcile(again, light, tmp_path)
    assert again.todo() == []
    retried = factory.planner().plan([factory.cell()])
    reconcile(retried, light, tmp_path, again="failed")
    assert [step.kind for step in retried.todo()] == ["build", "run"]


def test_failed_runs_again_what_is_wrong_though_every_step_went_well(tmp_path: Path) -> None:
    light = finish(factory.planner().plan([factory.cell()]), tmp_path)
    plan = factory.planner().plan([factory.cell()])
    reconcile(plan, light, tmp_path, again="failed")
    assert [step.kind for step in plan.todo()] == ["build", "run"]


def test_a_step_that_was_run_again_makes_another_outcome(tmp_path: Path) -> None:
    light = finish(factory.planner().plan([factory.cell()]), tmp_path, fail="build")
    keys = []
    for run in ("first", "second"):
        plan = factory.planner().plan([factory.cell()])
        reconcile(plan, {key: dataclasses.replace(value, mark=run) for key, value in light.items()}, tmp_path)
        keys.append(plan.chains[0].key())
    assert keys[0] != keys[1]


def test_repro_runs_every_step_of_the_cell(tmp_path: Path) -> None:
    light = finish(factory.planner().plan([factory.cell(precision="fp16")]), tmp_path)
    plan = factory.planner().plan([factory.cell(precision="fp16")])
    reconcile(plan, light, tmp_path, again="all")
    assert {step.kind for step in plan.todo()} == {"reference", "export", "convert", "build", "run"}


def test_no_gpu_skips_the_stack_and_makes_nothing_for_it(tmp_path: Path) -> None:
    families = {"engine": factory.family(needs=("nvidia-gpu",))}
    plan = factory.planner(families=families).plan([factory.cell()])
    reconcile(plan, {}, tmp_path)
    assert plan.todo() == []
    gpu = Gpu(name="NVIDIA L4", compute_capability="8.9", memory=1, uuid="GPU-0")
    with_gpu = factory.planner(families=families, machine=dataclasses.replace(factory.MACHINE, gpus=(gpu,)))
    plan = with_gpu.plan([factory.cell()])
    reconcile(plan, {}, tmp_path)
    assert "build" in {step.kind for step in plan.todo()}


def test_building_without_a_gpu_where_only_loading_needs_one(tmp_path: Path) -> None:
    families = {"engine": factory.family(run_needs=("nvidia-gpu",))}
    plan = factory.planner(families=families).plan([factory.cell()])
    reconcile(plan, {}, tmp_path)
    todo = {step.kind for step in plan.todo()}
    assert "build" in todo
    assert "run" not in todo
    assert "reference" not in todo, "nothing is compared, so no reference is made"


def test_limits_of_a_shared_step_are_the_widest_of_its_cells() -> None:
    engines = [factory.stack(version="1.0"), factory.stack(version="1.1")]
    cells = [
        factory.cell(engine, attributes=Attributes(timeout=t, memory=m))
        for engine, t, m in zip(engines, (60.0, 600.0), (1 << 30, 2 << 30), strict=True)
    ]
    plan = factory.planner(*engines).plan(cells)
    export: Step = next(step for step in plan.steps if step.kind == "export")
    assert (export.seconds, export.memory) == (600.0, 2 << 30)
    assert plan.chains[0].build.seconds == 60.0


# In images -----------------------------------------------------------------------------------------------------------


def templates(folder: Path, body: str = "") -> Path:
    """A folder of families, with a template for the engine's."""
    (imageparts.templates(folder, body) / "tiny").rename(folder / "engine")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return templates(tmp_path / "images")


RULES = ImageRules(interpreter="python3", site="own", env={}, checks={"python": "python"})


def docker_planner(images: Path, *, rules: ImageRules = RULES, **values: Any) -> Planner:
    """A planner whose engine family can become images; its base is locked unless `locked` is False."""
    made = factory.planner(families={"engine": factory.family(isolation=("venv", "docker"), image=rules)})
    base = in_image().base
    if values.pop("locked", True):
        one = stacks.image(in_image())
        made.lock.images[base] = Image(index=stacks.sha("i"), platforms={values.pop("on", "linux/amd64"): one})
    for name, pins in made.lock.stacks.items():
        made.lock.stacks[name] = dataclasses.replace(pins, hashes={pin: (stacks.sha(pin),) for pin in pins.packages})
    made.images, made.isolation, made.docker = images, "docker", True
    for name, value in values.items():
        setattr(made, name, value)
    return made


def in_image() -> Stack:
    return dataclasses.replace(factory.stack(), base="docker.io/library/python:3.11-slim-bookworm")


def engine_of(planner: Planner) -> Step:
    return planner.plan([factory.cell(in_image())]).chains[0].engine


def test_an_image_and_an_environment_of_one_stack_share_nothing(images: Path) -> None:
    docker = docker_planner(images).plan([factory.cell(in_image())]).chains[0]
    venv = docker_planner(images, isolation="venv").plan([factory.cell(in_image())]).chains[0]
    assert (docker.engine.data["isolation"], venv.engine.data["isolation"]) == ("docker", "venv")
    assert docker.engine.key != venv.engine.key
    assert docker.build.static != venv.build.static and docker.run.static != venv.run.static
    assert docker.export.static == venv.export.static, "its family has no image: it is the same either way"


def test_the_same_image_is_the_same_key(images: Path) -> None:
    one, two = engine_of(docker_planner(images)), engine_of(docker_planner(images))
    assert one.data["rendered"].key == two.data["rendered"].key
    assert one.key == two.key


def test_what_is_in_an_image_and_how_it_is_run_stands_in_its_key(images: Path, tmp_path: Path) -> None:
    """A failure for want of shared memory must not outlive the limit, nor one for want of root the family's `user`."""
    moved = docker_planner(images)
    (base,) = moved.lock.images
    other = stacks.image(in_image(), stacks.sha("another manifest"))
    moved.lock.images[base] = Image(index=stacks.sha("i"), platforms={"linux/amd64": other})
    template = templates(tmp_path / "other", '{% block system %}\nLABEL a="b"\n{% endblock %}')
    found = [
        docker_planner(images), moved, docker_planner(template), docker_planner(images, settings=Docker(shm=1 << 20)),
        docker_planner(images, settings=Docker(pids=100)),
        docker_planner(images, rules=dataclasses.replace(RULES, user="root")),
        docker_planner(images, rules=dataclasses.replace(RULES, runtime="nvidia")),
    ]  # fmt: skip
    steps = [engine_of(planner) for planner in found]
    assert len({step.key for step in steps}) == len({step.output for step in steps}) == len(found)


def test_where_images_come_from_stands_in_no_key(images: Path) -> None:
    mirrored = Docker(mirrors={"docker.io": "mirror.example.com"}, build_network="host", gpus="cdi")
    assert engine_of(docker_planner(images)).key == engine_of(docker_planner(images, settings=mirrored)).key


def test_an_image_that_is_not_locked_is_not_its_virtual_environment(images: Path, tmp_path: Path) -> None:
    """What was made in an environment of the same packages is no evidence for it: nothing is stored, all is to run."""
    venv = docker_planner(images, isolation="venv", locked=False).plan([factory.cell(in_image())])
    light = finish(venv, tmp_path / "objects")
    plan = docker_planner(images, locked=False).plan([factory.cell(in_image())])
    reconcile(plan, light, tmp_path / "objects")
    chain = plan.chains[0]
    assert unlocked(chain.engine)
    assert (chain.engine.state, chain.build.state, chain.run.state) == ("run", "run", "wait")
    assert chain.engine in plan.environments()


def test_a_refused_base_is_in_the_key_and_is_no_reason_to_ask_again(images: Path) -> None:
    keys = set()
    for refused in ("", "the tag lies", "there is no such tag"):
        planner = docker_planner(images)
        name = in_image().id
        planner.lock.stacks[name] = dataclasses.replace(planner.lock.stacks[name], refused=refused)
        step = engine_of(planner)
        assert step.data["pins"].unresolved == refused
        assert (step.data["rendered"] is None) is bool(refused)
        assert not unlocked(step)
        keys.add(step.key)
    assert len(keys) == 3
    planner = docker_planner(images, isolation="venv")
    planner.lock.stacks[name] = dataclasses.replace(planner.lock.stacks[name], refused="the tag lies")
    assert engine_of(planner).data["pins"].unresolved == "", "an environment of the same packages does without"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"docker": False}, "engine needs a Docker engine, and none is here"),
        ({"on": "linux/arm64"}, "engine has no image for linux/amd64"),
        ({"refused": {"engine-1.0-py3.11": "needs about 9 GB of disk"}}, "engine needs about 9 GB of disk"),
    ],
)
def test_what_cannot_be_realised_here_is_skipped_with_the_reason(
    images: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    plan = docker_planner(images, **values).plan([factory.cell(in_image())])
    reconcile(plan, {}, tmp_path)
    assert plan.chains[0].engine.state == "skip"
    assert plan.chains[0].engine.skipped.startswith(reason)
    assert plan.todo() == [] == plan.environments()


def test_a_stack_that_exports_and_builds_is_one_image(images: Path) -> None:
    cell = dataclasses.replace(factory.cell(in_image()), exporter=dataclasses.replace(in_image(), role="exporter"))
    chain = docker_planner(images).plan([cell]).chains[0]
    assert chain.exporter is chain.engine
    assert chain.export.environment is chain.build.environment


def test_what_a_step_to_run_reads_and_is_gone_is_made_again_with_what_that_takes() -> None:
    cells = [factory.cell(precision="int8"), factory.cell(factory.stack(version="2.0"), precision="int8")]
    planner = factory.planner(factory.stack(version="2.0"))
    plan = planner.plan(cells)
    first, second = plan.chains
    for step in plan.steps:
        if step not in (second.build, second.run):
            step.state, step.output = "stored", f"bytes of {step.kind}"
            step.resolve_key()
    second.build.wanted = second.run.wanted = True
    second.build.resolve_key()
    assert second.build.key and first.convert is not None and first.convert is second.convert
    gone = {first.convert, first.export}
    remake(plan, lambda steps: [step for step in steps if step not in gone or step.state != "stored"])
    assert {step.kind for step in plan.todo()} == {"export", "convert", "build", "run"}
    assert first.build.state == "stored", "an engine that is there stays"
    assert (second.build.state, second.build.key) == ("wait", ""), "its graph may come out otherwise"
    assert first.export.key, "what it is made from has not changed"
