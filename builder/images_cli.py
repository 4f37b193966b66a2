"""`enginematrix images ...` and `enginematrix compare-isolation`: parse, call, print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import EXIT_FAILURES, EXIT_INFRASTRUCTURE, EXIT_OK, InfrastructureError, UsageError

if TYPE_CHECKING:
    from builder.environment.images import DockerImage
    from builder.pipeline import Work

Options = argparse.Namespace
Selecting = Callable[[argparse.ArgumentParser], None]
Working = Callable[[Options], "Work"]


def add(images: argparse.ArgumentParser, selection: Selecting, work: Working, one: Working) -> None:
    """The commands below `images`. `selection` adds the options that choose cells, `work` and `one` read them."""
    commands = images.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, call: Callable[[Options, Work], int], text: str, reads: Working = work
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(call=lambda options: call(options, _in_docker(options, reads)))
        if reads is work:
            selection(sub)
        return sub

    command("render", _render, "Write the Dockerfile of every stack into artifacts/images/; needs no Docker.")
    build = command("build", _build, "Build the images that are missing.")
    build.add_argument("-j", "--jobs", metavar="N", type=int, default=2, help="images at a time (default: 2)")
    push = command("push", _push, "Push the built images to a registry.")
    push.add_argument("--to", metavar="PREFIX", required=True, help="where to: registry.example.com/team")
    verify = command("verify", _verify, "Look again inside each image: is it what its stack says?")
    verify.add_argument(
        "--rebuild",
        action="store_true",
        help="build each twice without caches and compare layers and files (default: no)",
    )
    verify.add_argument("--json", action="store_true", help="as JSON (default: text)")
    shell = command("shell", _shell, "Open a shell in the image of a cell's engine stack, as its jobs see it.", one)
    shell.add_argument("cell", metavar="CELL")
    shell.add_argument("--exporter", action="store_true", help="in that of its exporter stack (default: the engine's)")


def _in_docker(options: Options, reads: Working) -> Work:
    options.isolation = "docker"
    return reads(options)


def _images(work: Work, *, ensure: bool = True) -> list[DockerImage]:
    """The image of every stack that the selected cells need and that can have one, from the lock; `ensure`: ask the
    registries and the package index for what the lock lacks. Raises LockError, RenderError, UsageError."""
    from builder import machine, pipeline
    from builder.environment.images import DockerImage
    from builder.store import Store

    here = machine.read()
    locked = pipeline.ensure_locked(work, here, frozen=not ensure, say=_say)
    plan = pipeline.make_plan(work, locked, here)
    store = Store(work.project.artifacts)
    out = []
    for step in (step for step in plan.steps if step.kind == "environment"):
        rendered, family, pins = step.data["rendered"], step.data["family"], step.data["pins"]
        if rendered is not None:
            out.append(DockerImage(store, rendered, work.docker, family))
        elif step.data["isolation"] != "docker":
            _say(f"{step.name}: its family has no image")
        elif step.skipped:
            _say(f"{step.name}: {step.skipped}")
        else:
            _say(f"{step.name}: {pins.unresolved if pins else 'not in the lock'}")
    if not out:
        msg = f"no stack of {work.select!r} has an image that can be made here"
        raise UsageError(msg)
    return out


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _render(options: Options, work: Work) -> int:
    for image in _images(work):
        print(image.write() / "Dockerfile")
    return EXIT_OK


def _build(options: Options, work: Work) -> int:
    from builder.environment import images

    found = _images(work)
    missing = [image for image in found if not image.ready()]
    if not missing:
        print(f"Nothing to do: {len(found)} images are there.")
        return EXIT_OK
    ends = images.build(missing, jobs=options.jobs)
    for image in missing:
        error = ends[image.key]
        print(f"{image.rendered.stack.id}: {image.rendered.tag if error is None else error}")
    failed = [error for error in ends.values() if error is not None]
    print(f"{len(missing) - len(failed)} built, {len(found) - len(missing)} were there, {len(failed)} failed")
    if not failed:
        return EXIT_OK
    return EXIT_INFRASTRUCTURE if all(isinstance(e, InfrastructureError) for e in failed) else EXIT_FAILURES


def _built(found: Sequence[DockerImage]) -> list[DockerImage]:
    there = [image for image in found if image.ready()]
    for image in found:
        if image not in there:
            _say(f"{image.rendered.stack.id}: not built; run `enginematrix images build`")
    if not there:
        msg = "no image is built; run `enginematrix images build`"
        raise UsageError(msg)
    return there


def _push(options: Options, work: Work) -> int:
    from builder.environment import images

    for name, digest in images.push(_built(_images(work, ensure=False)), options.to).items():
        print(f"{name}@{digest}")
    return EXIT_OK


def _verify(options: Options, work: Work) -> int:
    from builder.environment import images

    out: list[dict[str, Any]] = []
    wrong = 0
    for image in _built(_images(work, ensure=False)):
        name = image.rendered.stack.id
        if options.rebuild:
            comparison = images.rebuild_twice(image)
            out.append({"stack": name, **comparison.as_dict()})
            lines, bad = comparison.lines(), not comparison.identical
        else:
            problems = images.verify(image)
            out.append({"stack": name, "problems": problems})
            lines, bad = problems or ["as promised"], bool(problems)
        wrong += bad
        if not options.json:
            print("\n".join(f"{name}: {line}" for line in lines))
    if options.json:
        print(json.dumps(out, indent=1))
    return EXIT_FAILURES if wrong else EXIT_OK


def _shell(options: Options, work: Work) -> int:
    from builder.environment import images

    cell = work.cells[0]
    wanted = (cell.exporter if options.exporter else cell.engine).id
    for image in _images(work, ensure=False):
        if image.rendered.stack.id == wanted:
            image.make()
            return images.shell(image, work.project.artifacts)
    msg = f"{wanted} has no image"
    raise UsageError(msg)
