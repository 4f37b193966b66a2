"""Building images: four stacks that differ in one package, from cold, by us and by a plain `docker build` of the same
Dockerfiles with the same command (bar: 1.05 times its time); and looking at images that are all there (bar 0.5 s, and no
connection to the engine).

Needs what the tests marked `docker` need. Runs an engine of its own, on a registry and a package index of its own, so
nothing is fetched from anywhere and nobody's caches are touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import synthetic

sys.path[:0] = [str(synthetic.ROOT), str(synthetic.ROOT / "tests")]
import dockerparts  # noqa: E402
import imageparts  # noqa: E402

from builder.environment import build_context, buildkit, buildsecrets, engine, images  # noqa: E402
from builder.environment.images import DockerImage  # noqa: E402

STACKS = 4
ROUNDS = 5
BAR = 1.05


# From cold ---------------------------------------------------------------------------------------------------------


def plain(made: Sequence[DockerImage], cli: engine.Cli) -> None:
    """What one would write in a shell: a build after the other. The contexts are written beforehand."""
    with buildsecrets.lent(os.environ) as lent:
        for image in made:
            target = image.target(image.folder)
            command = [
                cli.path,
                *(["buildx", "build", "--load"] if cli.buildx else ["build"]),
                "-q",
                "--network",
                "host",
            ]
            command += [part for secret in lent.arguments() for part in ("--secret", secret)]
            command += [part for name, value in target.args.items() for part in ("--build-arg", f"{name}={value}")]
            command += ["--tag", target.tag, str(image.folder)]
            done = subprocess.run(command, env=buildkit.environ(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)


def cold(cli: engine.Cli, folder: Path) -> None:
    """Take everything from the engine that a build could use again, and from us what says that it is built."""
    ids = dockerparts.docker("images", "--quiet", "--all").split()
    if ids:
        subprocess.run([cli.path, "rmi", "--force", *ids], env=buildkit.environ(), capture_output=True, check=False)
    dockerparts.docker("builder", "prune", "--all", "--force")
    shutil.rmtree(folder / "images", ignore_errors=True)


def build_from_cold(folder: Path) -> None:
    registry = dockerparts.Registry(folder / "registry")
    manifest = registry.push(dockerparts.base("bookworm"), "nvidia/tiny:24.05")
    index = imageparts.Index(folder / "wheels")
    bulk = os.urandom(20 << 20)
    hashes = dict([
        imageparts.wheel(index.folder, "dep", "1.0", bulk),
        *(imageparts.wheel(index.folder, "tiny", f"1.{number}", bulk[: 4 << 20]) for number in range(STACKS)),
    ])  # fmt: skip
    os.environ["UV_DEFAULT_INDEX"] = index.url()
    os.environ.pop("UV_FIND_LINKS", None)
    os.environ.pop("PIP_FIND_LINKS", None)
    templates = imageparts.templates(folder / "images")

    def stacks() -> list[DockerImage]:
        return [
            imageparts.image(
                folder / "store",
                imageparts.rendered(
                    templates, manifest, {pin: hashes[pin] for pin in ("dep==1.0", f"tiny==1.{number}")},
                    of=imageparts.stack(f"1.{number}"),
                ),
                registry.address,
            )
            for number in range(STACKS)
        ]  # fmt: skip

    cli = engine.builder_cli()

    def ours(jobs: int) -> Callable[[], None]:
        def run() -> None:
            if any(images.build(stacks(), jobs=jobs).values()):
                raise SystemExit("a build failed")

        return run

    def theirs() -> None:
        plain(stacks(), cli)

    with imageparts.engine(folder / "engine") as own:
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = own.host
        ways = {"plain": theirs, "two": ours(2), "one": ours(1)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS + 1):
            order = list(ways) if number % 2 else list(reversed(ways))
            for name in order:
                cold(cli, folder / "store")
                for image in stacks() if name == "plain" else ():
                    build_context.complete(image.store, image.rendered)
                started = time.perf_counter()
                ways[name]()
                if number:  # the first round warms the disk's cache
                    times[name].append(time.perf_counter() - started)
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before
    registry.stop()
    index.stop()
    how = "buildx" if cli.buildx else "docker"
    print(f"{STACKS} images from cold by `{how} build` one after the other: {statistics.median(times['plain']):.2f} s")
    for name, what in (("two", "two at a time"), ("one", "one at a time")):
        ratios = [mine / other for mine, other in zip(times[name], times["plain"], strict=True)]
        middle = statistics.median(ratios)
        print(
            f"  by us, {what}: {statistics.median(times[name]):.2f} s, {middle:.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f}; bar {BAR:g})"
        )


# Nothing to do -----------------------------------------------------------------------------------------------------

ENGINE_IMAGE = """\
image:
  base: "registry.test/library/python:3.12-slim-bookworm"
  checks: {python: python}
"""


class Counting:
    """A socket that nobody should connect to."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.host = f"unix://{path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            self.count += 1
            connection.close()


def look_at_images(folder: Path) -> None:
    from builder import images_cli, lock, locking, pipeline
    from builder.project import Project

    synthetic.write(folder, 1000)
    shutil.copytree(synthetic.ROOT / "images", folder / "images", dirs_exist_ok=True)
    for name in ("engine", "source"):
        path = folder / "images" / name / "family.yaml"
        path.write_text(path.read_text().replace("isolation: [venv]", "isolation: [venv, docker]") + ENGINE_IMAGE)
        (folder / "images" / name / "Dockerfile.j2").write_text('{% extends "base.Dockerfile.j2" %}\n')
    work = pipeline.select(Project(matrix=folder / "matrix.yaml"), group="all", expression=None, asked="docker")
    layer = lock.Layer(digest="sha256:" + "1" * 64, size=1, diff_id="sha256:" + "2" * 64)
    base = lock.PlatformImage(manifest="sha256:" + "3" * 64, config="sha256:" + "4" * 64, facts={}, layers=(layer,))
    stacks = locking.stacks_of(work, work.cells)
    pins = {
        stack.id: lock.Pins(
            python=stack.python, requirements=lock.lines(stack), packages=lock.lines(stack),
            hashes=dict.fromkeys(lock.lines(stack), ("sha256:" + "0" * 64,)),
        )
        for stack in stacks
    }  # fmt: skip
    locked = lock.Lock(
        cutoff="2026-11-20T00:00:00Z", stacks=pins,
        images={stack.base: lock.Image(index=base.manifest, platforms={engine.platform(): base}) for stack in stacks},
    )  # fmt: skip
    (folder / "matrix.lock").write_text(locked.dumps())
    there = images_cli._images(work)
    for image in there:
        image.write()
        image.remember({"key": image.key, "id": "sha256:" + "5" * 64, "tag": image.rendered.tag})
    counting = Counting(folder / "docker.sock")
    os.environ["DOCKER_HOST"] = counting.host
    started = time.perf_counter()
    assert all(image.ready() for image in there)
    print(f"ready() of {len(there)} images: {(time.perf_counter() - started) * 1000:.2f} ms")
    command = [sys.executable, "-m", "builder", "images", "build", "--group", "all"]
    figures = synthetic.median(command, folder)
    synthetic.show(f"`images build` of {len(there)} images, all there", figures, 0.5)
    print(f"  connections to the engine: {counting.count} (bar 0)")


if __name__ == "__main__":
    host = os.environ.get("DOCKER_HOST")
    with tempfile.TemporaryDirectory() as name:
        look_at_images(Path(name))
    os.environ.pop("DOCKER_HOST")
    if host is not None:
        os.environ["DOCKER_HOST"] = host
    if trouble := dockerparts.trouble():
        print(f"builds not measured: {trouble}")
    else:
        with tempfile.TemporaryDirectory() as name:
            build_from_cold(Path(name))
