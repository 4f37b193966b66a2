"""`enginematrix images ...` and `enginematrix compare-isolation`: parse, call, print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.cli_options import add_choosing, cell_of, positive, say, work_of
from builder.errors import (
    EXIT_FAILURES,
    EXIT_INFRASTRUCTURE,
    EXIT_OK,
    EngineMatrixError,
    InfrastructureError,
    UsageError,
)

if TYPE_CHECKING:
    from builder.environment.images import DockerImage
    from builder.lock import Lock
    from builder.pipeline import Work

HELP = "Render, build, push and verify the Docker images of the stacks; open a shell in one."
COMPARE_HELP = "Say where cells came out otherwise in Docker than in virtual environments."

Options = argparse.Namespace
Working = Callable[[Options], "Work"]


def add(images: argparse.ArgumentParser) -> None:
    commands = images.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, call: Callable[[Options, Work], int], text: str, reads: Working = work_of
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(call=lambda options: _call(call, options, reads))
        if reads is work_of:
            add_choosing(sub)
        return sub

    render = command("render", _render, "Write the Dockerfile of every stack into artifacts/images/; needs no Docker.")
    build = command("build", _build, "Build the images that are missing.")
    build.add_argument("-j", "--jobs", metavar="N", type=positive, default=2, help="images at a time (default: 2)")
    for sub in (render, build):
        sub.add_argument(
            "--frozen", action="store_true", help="fail if matrix.lock lacks a stack (default: resolve it)"
        )
    push = command("push", _push, "Push the built images to a registry.")
    push.add_argument("--to", metavar="PREFIX", required=True, help="where to: registry.example.com/team")
    verify = command("verify", _verify, "Look again inside each image: is it what its stack says?")
    verify.add_argument(
        "--rebuild",
        action="store_true",
        help="build each twice without caches and compare layers and files (default: no)",
    )
    verify.add_argument("--json", action="store_true", help="as JSON (default: text)")
    shell = command("shell", _shell, "Open a shell in the image of a cell's engine stack, as its jobs see it.", cell_of)
    shell.add_argument("cell", metavar="CELL")
    shell.add_argument("--exporter", action="store_true", help="in that of its exporter stack (default: the engine's)")


def _call(call: Callable[[Options, Work], int], options: Options, reads: Working) -> int:
    from builder import pipeline
    from builder.store import Store

    options.isolation = "docker"
    work = reads(options)
    if not work.cells:
        print("Nothing to do: no cell failed last time.")
        return EXIT_OK
    with pipeline.in_use(Store(work.project.artifacts)):  # `gc` would take a build's folder for garbage
        return call(options, work)


@dataclass(kw_only=True)
class Found:
    """The stacks that the selected cells need, as images."""

    images: list[DockerImage]
    locked: Lock
    code: int
    """What the command's exit code is at least: EXIT_FAILURES where the lock says that a stack can have none,
    EXIT_INFRASTRUCTURE where it says nothing."""


def _images(work: Work, *, frozen: bool) -> Found:
    """The image of every stack that the selected cells need and that can have one, from the lock; unless `frozen`, the
    registries and the package index are asked for what the lock lacks. Why there is none of a stack is printed.

    Raises LockError, RenderError, UsageError."""
    from builder import fit, lock, machine, pipeline
    from builder.environment import engine
    from builder.environment.images import DockerImage
    from builder.store import Store

    here = machine.read()
    code = EXIT_OK
    try:
        locked = pipeline.ensure_locked(work, here, frozen=frozen, say=say, engine_needed=False)
    except InfrastructureError as error:  # one registry that is away costs no other's images
        say(str(error))
        locked, code = lock.read(work.project.lock) or lock.Lock(cutoff=""), EXIT_INFRASTRUCTURE
    plan = pipeline.make_plan(work, locked, here)
    store = Store(work.project.artifacts)
    out = []
    for step in (step for step in plan.steps if step.kind == "environment"):
        rendered, family, pins = step.data["rendered"], step.data["family"], step.data["pins"]
        if rendered is not None:
            out.append(DockerImage(store, rendered, work.docker, family))
        elif step.data["isolation"] != "docker":
            say(f"{step.name}: its family has no image")
        elif pins is not None and pins.unresolved:
            say(f"{step.name}: {pins.unresolved.removeprefix(f'{step.name}: ')}")
            if all(here.has(need) for need in family.needs):  # else `run` would leave it out, too
                code = code or EXIT_FAILURES
        elif pins is not None and step.stack is not None and (base := locked.images.get(step.stack.base)) is not None:
            reason = fit.trouble(
                step.stack, family, "docker", asked="docker", docker=True, image=base, platform=engine.platform(), machine=here
            )  # fmt: skip
            say(f"{step.name}: {reason}")  # it is for other architectures
        else:  # a GPU that is lacking keeps nobody from making an image, but a run from locking its stack
            say(f"{step.name}: not in the lock; run `enginematrix lock --isolation docker`")
    if not out and not code:
        msg = f"no stack of {work.select!r} has an image that can be made here"
        raise UsageError(msg)
    return Found(images=out, locked=locked, code=code)


def _render(options: Options, work: Work) -> int:
    found = _images(work, frozen=options.frozen)
    for image in found.images:
        print(image.write() / "Dockerfile")
    return found.code


def _build(options: Options, work: Work) -> int:
    from builder.environment import images

    found = _images(work, frozen=options.frozen)
    missing = [image for image in found.images if not image.ready()]
    if not missing:
        if found.images:
            print(f"Nothing to do: {len(found.images)} images are there.")
        return found.code
    fitting = _fitting(missing, found.locked)
    ends = images.build(fitting, jobs=options.jobs) if fitting else {}
    for image in fitting:
        error = ends[image.key]
        name = image.rendered.stack.id
        print(f"{name}: {image.rendered.tag if error is None else str(error).removeprefix(f'{name}: ')}")
    failed = [error for image in fitting if (error := ends[image.key]) is not None]
    refused = len(missing) - len(fitting)
    print(
        f"{len(fitting) - len(failed)} built, {len(found.images) - len(missing)} were there, {len(failed) + refused} failed"
    )
    if any(not isinstance(error, InfrastructureError) for error in failed):
        return EXIT_FAILURES
    return found.code or (EXIT_INFRASTRUCTURE if failed or refused else EXIT_OK)


def _fitting(missing: list[DockerImage], locked: Lock) -> list[DockerImage]:
    """Those whose bases the engine's disk has room for; why others are left out is printed."""
    from builder import pulls
    from builder.environment import engine
    from builder.environment.room import room

    present, free = room()
    needed = pulls.of(missing, locked, engine.platform(), present, free)
    for pull in needed:
        if pull.refused:
            print(f"{pull.stack.id}: {pull.refused}")
    return [image for image, pull in zip(missing, needed, strict=True) if not pull.refused]


def _built(found: Sequence[DockerImage]) -> list[DockerImage]:
    there = [image for image in found if image.ready()]
    for image in found:
        if image not in there:
            say(f"{image.rendered.stack.id}: not built; run `enginematrix images build`")
    if not there:
        msg = "no image is built; run `enginematrix images build`"
        raise UsageError(msg)
    return there


def _push(options: Options, work: Work) -> int:
    from builder.environment import images

    code = EXIT_OK
    for image in _built(_images(work, frozen=True).images):
        try:
            pushed = images.push([image], options.to)
        except UsageError as error:
            msg = f"--to {options.to!r} is no place for images; write registry.example.com/team"
            raise UsageError(msg) from error
        except InfrastructureError as error:  # one that the registry refuses costs no other
            say(str(error))
            code = EXIT_INFRASTRUCTURE
        else:
            for name, digest in pushed.items():
                print(f"{name}@{digest}", flush=True)
    return code


def _verify(options: Options, work: Work) -> int:
    out: list[dict[str, Any]] = []
    code = EXIT_OK
    for image in _built(_images(work, frozen=True).images):
        name = image.rendered.stack.id
        entry, lines, bad = _verified(image, rebuild=options.rebuild)
        out.append({"stack": name, **entry})
        code = code if not bad or code == EXIT_FAILURES else bad
        if not options.json:
            print("\n".join(f"{name}: {line}" for line in lines), flush=True)
    if options.json:
        print(json.dumps(out, indent=1))
    return code


def _verified(image: DockerImage, *, rebuild: bool) -> tuple[dict[str, Any], Sequence[str], int]:
    """(what JSON says of it, lines of text, exit code) of one image. What goes wrong with one costs no other."""
    from builder.environment import images

    try:
        if rebuild:
            comparison = images.rebuild_twice(image)
            return comparison.as_dict(), comparison.lines(), EXIT_OK if comparison.identical else EXIT_FAILURES
        problems = images.verify(image)
    except EngineMatrixError as error:
        infrastructure = isinstance(error, InfrastructureError)
        return {"error": str(error)}, str(error).splitlines(), EXIT_INFRASTRUCTURE if infrastructure else EXIT_FAILURES
    return {"problems": problems}, problems or ["as promised"], EXIT_FAILURES if problems else EXIT_OK


def _shell(options: Options, work: Work) -> int:
    from builder.environment import images

    cell = work.cells[0]
    wanted = (cell.exporter if options.exporter else cell.engine).id
    for image in _images(work, frozen=True).images:
        if image.rendered.stack.id == wanted:
            if not image.ready():
                say(f"building {wanted}; its log: {image.folder / images.LOG}")
            image.make()
            return images.shell(image, work.project.artifacts)
    msg = f"{wanted} has no image that can be made here"
    raise UsageError(msg)


def add_compare(parser: argparse.ArgumentParser) -> None:
    add_choosing(parser)
    parser.add_argument("--json", action="store_true", help="as JSON (default: text)")


def compare(options: argparse.Namespace) -> int:
    from builder import pipeline
    from builder.isolation_compare import lines

    found = pipeline.compare_isolation(work_of(options))
    if found is None:
        raise UsageError("no image was ever made here; `enginematrix run --isolation docker` runs cells in Docker")
    print(json.dumps(found, indent=1) if options.json else "\n".join(lines(found)))
    return EXIT_FAILURES if found["differences"] else EXIT_OK
