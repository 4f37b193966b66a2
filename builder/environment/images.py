"""A stack as a Docker image, built by BuildKit from what `render.py` wrote; its cells run in containers of it.

`artifacts/images/<stack id>/` holds the build context (build_context.py), `build.log`, and `image.json`, written last: an
image is there when that file has the key of what was rendered. So looking costs no call to the engine; an image that the
engine has lost meanwhile (pruned) is found out when it is started, and built again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import backoff
from builder.environment import Place, build_context, buildkit, buildsecrets, engine, install_worker, reference
from builder.environment.build_log import ImageError, failure
from builder.environment.finished import push, shell, verify
from builder.environment.rebuild import Comparison, rebuild_twice
from builder.errors import EngineMatrixError, InfrastructureError
from builder.render import Rendered
from builder.store import Store
from builder.values import Docker, Family

if TYPE_CHECKING:
    from builder.environment.container import ContainerSession

__all__ = ["Comparison", "DockerImage", "ImageError", "build", "push", "rebuild_twice", "shell", "verify"]

STATE = "image.json"
LOG = "build.log"
WAVE = "wave.log"


class DockerImage:
    """The image of one stack. `settings` are the engine's and the registries', `family` says how it is made and run."""

    def __init__(self, store: Store, rendered: Rendered, settings: Docker, family: Family) -> None:
        self.store = store
        self.rendered = rendered
        self.settings = settings
        self.family = family
        self.key = rendered.key
        self.name = rendered.stack.id
        self.folder = build_context.folder(store, rendered)

    def state(self) -> dict[str, Any] | None:
        """What image.json says of it: {"key", "id", "tag", "seconds", "base", "builder", "pushed"}; None when it is not
        built, or was from something else."""
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) and state.get("key") == self.key and state.get("id") else None

    def ready(self) -> bool:
        return self.state() is not None

    def remember(self, state: Mapping[str, Any]) -> None:
        """Write image.json. Raises InfrastructureError when the disk refuses."""
        self.store.write_text(self.folder / STATE, json.dumps(dict(state), indent=1))

    def write(self) -> Path:
        """Write the Dockerfile and its files; the folder. Starts nothing."""
        return build_context.write(self.store, self.rendered)

    def make(self) -> dict[str, Any]:
        state = self.state()
        if state is not None:
            return {**state, "reused": True}
        error = build([self], jobs=1)[self.key]
        if error is not None:
            raise error
        return {**(self.state() or {}), "reused": False}

    def start(self, imports: tuple[str, ...], log: Path, seconds: float, *, place: Place) -> ContainerSession:
        """A worker in a container of it; an engine that is away is waited for. Raises session.WorkerDied as every environment
        does, InfrastructureError when the engine fails, and what `make` raises when it has to be built again."""
        return backoff.retry(self.name, lambda: self._started(imports, log, seconds, place), backoff.ENGINE)

    def _started(self, imports: tuple[str, ...], log: Path, seconds: float, place: Place) -> ContainerSession:
        from builder.environment.container import ImageGone

        for again in (False, True):
            session = self._session(imports, log, place)
            try:
                session.start(seconds)
            except ImageGone:
                if again:
                    raise
                self.discard()
                self.make()
            else:
                return session
        raise AssertionError

    def _session(self, imports: tuple[str, ...], log: Path, place: Place) -> ContainerSession:
        from builder.environment.container import ContainerSession
        from builder.environment.container_config import store_labels

        rules = self.family.image
        root = self.store.root.resolve()
        below = place.writable.resolve()
        run = below.relative_to(root / "work").parts[0] if below.is_relative_to(root / "work") else ""
        return ContainerSession(
            image=str((self.state() or {}).get("id") or self.rendered.tag), python=self.rendered.python, imports=imports, log=log,
            worker_dir=install_worker(root), readonly=place.readonly, writable=place.writable, settings=self.settings,
            gpus=() if place.gpu else None, user=rules.user if rules else "any", runtime=rules.runtime if rules else "",
            memory=_memory(), cpus=len(os.sched_getaffinity(0)), labels=store_labels(root, run),
        )  # fmt: skip

    def discard(self) -> None:
        """Forget it: the next `make` builds it anew, from BuildKit's layers where they are right."""
        with self.store.lock(f"image {self.key}"):
            (self.folder / STATE).unlink(missing_ok=True)

    def target(self, context: Path) -> buildkit.Target:
        """What BuildKit is asked for. Raises UsageError for a bad mirror."""
        args = {"REGISTRY": reference.mirror_of(self.rendered.stack.base, self.settings.mirrors)}
        if epoch := re.search(r"^ARG SOURCE_DATE_EPOCH=(\d+)$", self.rendered.dockerfile, re.M):
            args["SOURCE_DATE_EPOCH"] = epoch[
                1
            ]  # the frontend takes it for the image's own times only when it is given
        return buildkit.Target(
            name=self.name, context=context, dockerfile=context / "Dockerfile", tag=self.rendered.tag,
            platform=self.rendered.platform, args=args,
        )  # fmt: skip


def _memory() -> int:
    """Bytes that a container may take: the machine's, less a tenth for whoever runs it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10


# Building ----------------------------------------------------------------------------------------------------------

Ends = dict[str, EngineMatrixError | None]


def build(images: Sequence[DockerImage], *, jobs: int, timeout: float = buildkit.TIMEOUT) -> Ends:
    """Build those that are not there, `jobs` at a time; key -> None, or why not: ImageError (evidence about its versions) or
    InfrastructureError. One that fails costs no other.

    With buildx, `jobs` of them at a time are one bake, whose first failure ends the rest of it: what of such a wave is left
    is then built one by one. `timeout`: seconds for each wave. Raises DockerMissing when nothing here can build."""
    cli = engine.builder_cli()
    alike: dict[str, list[DockerImage]] = {}
    for image in sorted(images, key=lambda image: (image.rendered.stack.base, image.name)):  # neighbours share layers
        alike.setdefault(image.key, []).append(image)
    firsts = [group[0] for group in alike.values()]
    ends: Ends = {}
    with buildsecrets.lent(os.environ) as secrets:
        network = images[0].settings.build_network if images else "default"
        options = buildkit.Options(network=network, secrets=secrets, timeout=timeout)
        size = max(1, jobs)
        waves = [firsts[start : start + size] for start in range(0, len(firsts), size)] if cli.buildx else []
        for wave in waves:
            if len(wave) > 1:
                ends |= _wave(cli, wave, options)
        rest = [image for image in firsts if image.key not in ends]
        ends |= dict(
            zip([image.key for image in rest], _each(lambda image: _one(cli, image, options), rest, size), strict=True)
        )
    for key, group in alike.items():
        state = group[0].state()
        for twin in group[1:] if state is not None else ():  # another store, the same Dockerfile: the same image
            try:
                twin.write()
                twin.remember({**(state or {}), "stack": twin.name})
            except InfrastructureError as error:
                ends[key] = error
    return ends


def _each(
    call: Callable[[DockerImage], EngineMatrixError | None], images: Sequence[DockerImage], jobs: int
) -> list[EngineMatrixError | None]:
    """`call` of each, `jobs` at a time; Ctrl-C ends the commands that run."""
    with ThreadPoolExecutor(max_workers=jobs) as pool, backoff.shared() as shared:
        try:
            return list(pool.map(shared(call), images))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            buildkit.stop()
            raise


def _wave(cli: engine.Cli, wave: Sequence[DockerImage], options: buildkit.Options) -> Ends:
    """Build several in one bake. Those that it did not come to are left out of the answer."""
    with contextlib.ExitStack() as locks:
        for image in sorted(wave, key=lambda image: image.key):  # one order for all: two runs never wait for each other
            locks.enter_context(image.store.lock(f"image {image.key}"))
        ends: Ends = {image.key: None for image in wave if image.ready()}  # another run was first
        todo = [image for image in wave if image.key not in ends]
        targets = []
        for image in list(todo):
            try:
                targets.append(image.target(build_context.complete(image.store, image.rendered)))
            except EngineMatrixError as error:
                ends[image.key] = error
                todo.remove(image)
        if not todo:
            return ends
        started = time.monotonic()
        log = todo[0].folder / WAVE  # kept where the wave fails: single builds write over build.log
        try:
            ended = buildkit.bake(cli, targets, options, log)
        except InfrastructureError as error:
            return {**ends, **{image.key: error for image in todo}}
        if ended.code:
            return ends
        log.unlink(missing_ok=True)
        for image in todo:
            ends[image.key] = _note(cli, image, time.monotonic() - started, log=ended.text)
        return ends


def _one(cli: engine.Cli, image: DockerImage, options: buildkit.Options) -> EngineMatrixError | None:
    try:
        with image.store.lock(f"image {image.key}"):
            if image.ready():
                return None
            return backoff.retry(image.name, lambda: _built(cli, image, options), backoff.ENGINE)
    except EngineMatrixError as error:
        return error


def _built(cli: engine.Cli, image: DockerImage, options: buildkit.Options) -> EngineMatrixError | None:
    """Raises TransientError for what another try may mend."""
    target = image.target(build_context.complete(image.store, image.rendered))
    started = time.monotonic()
    ended = buildkit.build(cli, target, options, image.folder / LOG)
    if ended.code:
        raise failure(image.name, ended.text)
    return _note(cli, image, time.monotonic() - started)


def _note(cli: engine.Cli, image: DockerImage, seconds: float, log: str = "") -> EngineMatrixError | None:
    """Write image.json: the image is there. `log`: what build.log shall say, where it does not yet."""
    try:
        found = buildkit.inspect(cli, image.rendered.tag)
    except InfrastructureError as error:
        return error
    if found is None:
        msg = f"{image.name}: built, and the Docker engine has no {image.rendered.tag}: does buildx build for another engine?"
        return InfrastructureError(msg)
    digest = re.search(r"^FROM \S+@(sha256:[0-9a-f]{64})", image.rendered.dockerfile, re.M)
    state = {
        "stack": image.name, "key": image.key, "id": found["Id"], "tag": image.rendered.tag, "seconds": round(seconds, 3),
        "base": image.rendered.stack.base + (f"@{digest[1]}" if digest else ""), "platform": image.rendered.platform,
        "builder": "buildx" if cli.buildx else "docker", "pushed": {},
    }  # fmt: skip
    try:
        if log:
            image.store.write_text(image.folder / LOG, log)
        image.remember(state)
    except InfrastructureError as error:
        return error
    return None
