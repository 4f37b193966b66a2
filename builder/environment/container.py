"""A worker in a container: the protocol of session.py over a unix socket that the container is given.

The container has no network, a read-only root, no capabilities, limits on memory, processes and CPUs, and of this machine's
files what it is told of, each at its own path (container_config.py). It carries labels that say whose it is, so that one whose
host program was killed is swept away by a later run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import select
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from builder.environment import engine
from builder.environment.container_config import LABEL, Mount, Request, abandoned, config, host_labels, user_of
from builder.environment.container_config import store_labels as store_labels
from builder.environment.session import BaseSession, Process, death, import_arguments
from builder.errors import InfrastructureError, TransientError
from builder.values import Docker

#: Seconds from a container's start until Python in it must have reached us.
CONNECT = 60.0
#: Seconds that a call may take after a container's end, when somebody waits for what it brings.
CLEANUP = 10
#: Exit code of worker/main.py when it cannot reach our socket.
UNREACHABLE = 69
#: Longest path of a unix socket (unix(7): sun_path has 108 bytes, one of them for the end).
SOCKET_PATH = 107

ADVICE = (
    ("could not select device driver", "the engine has no NVIDIA driver: install the NVIDIA Container Toolkit, run `nvidia-ctk "
     "runtime configure --runtime=docker` and restart the engine; or describe the GPUs with CDI and set `docker: {gpus: cdi}`"),
    ("CDI device", "the engine does not know these GPUs: run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, and below "
     "Docker 28.2 enable `features: {cdi: true}` in daemon.json; or set `docker: {gpus: devices}`"),
    ("nvidia-container-cli", "the NVIDIA Container Toolkit could not give it the GPU: does `nvidia-smi` work on this machine?"),
    ("runtime", "the engine lacks this runtime: on Jetson install nvidia-container-toolkit and run `nvidia-ctk runtime configure "
     "--runtime=docker`"),
    ("bind source path does not exist", "the engine sees other files than this program: it must run on the same machine, and not "
     "in a container beside it"),
    ("no space left on device", "the disk of the engine is full: `docker system df` shows by what"),
)  # fmt: skip
"""What the engine's refusal says -> what to do."""


class ImageGone(InfrastructureError):
    """The image is not in the engine: it was removed since it was built or pulled."""


class ContainerSession(BaseSession):
    """A worker in a container of `image`, in its interpreter `python` (a path, or a name on the image's PATH).

    `worker_dir` holds the package `worker`. `readonly` and `writable` are folders of this machine, there at the same paths;
    jobs' folders lie below `writable`. `gpus`: None for none, () for all, else indices or UUIDs. `memory` (bytes) and `cpus`
    are what all jobs may take together, 0 for no limit. `labels` are those of `store_labels`; those of this process are
    added. `env` is added to the image's own variables; nothing of this machine's is. `arguments` are worker/main.py's.
    """

    def __init__(
        self, *, image: str, python: str, worker_dir: Path, readonly: Sequence[Path], writable: Path,
        imports: Sequence[str] = (), log: Path, settings: Docker, gpus: tuple[str, ...] | None = None,
        user: Literal["any", "root"] = "any", runtime: str = "", memory: int = 0, cpus: int = 0,
        labels: Mapping[str, str], env: Mapping[str, str] | None = None, arguments: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(log=log)
        self.image = image
        self.python = python
        self.main = worker_dir.resolve() / "worker" / "main.py"
        self.writable = writable.resolve()
        self.readonly = tuple(path.absolute() for path in readonly)
        self.imports = tuple(imports)
        self.settings = settings
        self.gpus = gpus
        self.user = user
        self.runtime = runtime
        self.memory = memory
        self.cpus = cpus
        self.labels = dict(labels)
        self.env = dict(env or {})
        self.arguments = tuple(arguments)
        self._container: _Container | None = None
        self._owner: tuple[int, int] | None = None

    @property
    def container(self) -> str | None:
        """Name of the container, None before the first."""
        return self._container.name if self._container else None

    def start(self, timeout: float = 120.0) -> dict[str, Any]:
        """As BaseSession.start; `timeout` (s) is that of the imports, beyond making the container.

        Raises WorkerDied when the worker ends before it is ready, also for want of a Python; ImageGone; InfrastructureError
        when the engine refuses, is gone, or cannot see our files."""
        fresh = not self.alive
        probe = super().start(timeout)
        if fresh and self._container is not None:
            self._container.keep_log()  # what the imports printed
        return probe

    def make(self, dir: Path) -> None:
        """Make a job's folder, which the container's user must be able to write to."""
        if not dir.resolve().is_relative_to(self.writable):
            msg = f"{dir} is not below {self.writable}, the only folder that jobs may write to"
            raise ValueError(msg)
        missing = [path for path in dir.parents if not path.exists()]
        super().make(dir)
        if self._owner is not None:
            for path in (dir, *missing):
                os.chown(path, *self._owner)

    def launch(self) -> Process:
        client = engine.client()
        info = _info(client)
        user = user_of(self.user, info)
        self._owner = user if os.geteuid() == 0 and user[0] != 0 else None
        self._prepare_folders()
        name = f"enginematrix-{secrets.token_hex(8)}"
        with _listening(self._owner) as (listener, path):
            readonly = (self.main.parent, path.parent, *self.readonly)
            command = [self.python, "-I", str(self.main), "--connect", str(path)]
            request = Request(
                image=self.image, command=[*command, *import_arguments(self.imports), *self.arguments], user=user,
                mounts=[*(Mount(path=folder) for folder in readonly), Mount(path=self.writable, writable=True)],
                settings=self.settings, gpus=self.gpus, runtime=self.runtime, memory=self.memory, cpus=self.cpus,
                env=self.env, labels={**self.labels, **host_labels()}, info=info,
            )  # fmt: skip
            container = self._container = _Container(name, self.log)
            try:
                self._create(client, name, config(request))
                container.watch(client)
                container.control = self._accept(listener, container)
            except Exception:
                container.discard()
                raise
            except BaseException:  # Ctrl-C: an engine that was just asked may still be making it
                container.discard(patience=2.0)
                raise
        return container

    def _prepare_folders(self) -> None:
        """Raises InfrastructureError for a folder that is not there, or with files that the container's user could not read."""
        self.writable.mkdir(parents=True, exist_ok=True)
        if self._owner is not None:
            os.chown(self.writable, *self._owner)
        # What is written while the container runs would be closed to it too, and its jobs would fail for want of rights.
        if self._owner is not None and (umask := _umask()) & 0o005:
            msg = f"the umask {umask:03o} keeps files from the container's user {self._owner[0]}; run `umask 022` first"
            raise InfrastructureError(msg)
        for path in (self.main.parent, *self.readonly):
            if not path.exists():
                msg = f"{path} is not there"
                raise InfrastructureError(msg)
            if self._owner is not None and (closed := _closed(path)):
                msg = f"{closed} cannot be read by the container's user {self._owner[0]}; run `chmod -R o+rX {path}`"
                raise InfrastructureError(msg)

    def _create(self, client: Any, name: str, body: Mapping[str, Any]) -> None:
        from docker.errors import APIError, ImageNotFound

        try:
            client.api.create_container_from_config(body, name)
            client.api.start(name)
        except ImageNotFound as error:
            msg = f"the image {self.image} is not in the Docker engine; it was removed, or never built (`make images`)"
            raise ImageGone(msg) from error
        except APIError as error:
            text = str(error.explanation or error)
            if "executable file not found" in text or ("no such file" in text and f"{self.python}:" in text):
                raise death(f"the image has no {self.python}", 127, "", text) from error
            msg = f"the Docker engine refused a container of {self.image}: {text}"
            advice = next((advice for needle, advice in ADVICE if needle in text), "")
            raise InfrastructureError(f"{msg}; {advice}" if advice else msg) from error
        except engine.errors() as error:
            msg = f"the Docker engine did not start a container of {self.image}: {error}"
            raise TransientError(msg) from error

    def _accept(self, listener: socket.socket, container: _Container) -> socket.socket:
        """The worker's connection. Raises WorkerDied when the container ends before, InfrastructureError when it does not
        come or cannot."""
        readable, _, _ = select.select([listener, container.bell], [], [], CONNECT)
        if listener in readable:
            return listener.accept()[0]
        if not readable:
            msg = f"the container of {self.image} did not reach this program within {CONNECT:g} s"
            raise InfrastructureError(msg)
        container.settle()
        log = self.log_tail()
        if container.returncode is None:
            msg = f"the container of {self.image} is lost: {container.note}"
            raise TransientError(msg)
        if container.returncode == UNREACHABLE or "exec format error" in log:
            msg = f"the container of {self.image} cannot work here: {log.strip()[-300:]}"
            raise InfrastructureError(msg)
        raise death("the worker ended before it was ready", container.returncode, container.note, log)


class _Container:
    """A container, from its creation to its removal. `watch` it once it is started."""

    control: socket.socket

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.note = ""
        self.returncode: int | None = None
        self.log = log
        self._before = log.stat().st_size if log.exists() else 0
        self._logging = threading.Lock()
        self._ended = threading.Event()
        self.bell, self._ringer = socket.socketpair()
        """Readable once it has ended."""

    def watch(self, client: Any) -> None:
        threading.Thread(target=self._watch, args=(client,), name=self.name, daemon=True).start()

    def _watch(self, client: Any) -> None:
        try:
            self._set(client.api.wait(self.name, timeout=None)["StatusCode"])
        except Exception:  # whatever a connection that breaks makes of the answer
            self.note = "the Docker engine went away"
        self._ended.set()
        self._ringer.close()

    def _set(self, code: int) -> None:
        """128 + n is signal n: that is how the engine and the worker's guard as PID 1 tell it."""
        self.returncode = 128 - code if 128 < code <= 128 + 64 else code

    def wait(self, timeout: float) -> bool:
        """Also true when the engine went away: nobody could tell, and `discard` ends what might be left."""
        return self._ended.wait(timeout)

    def kill(self) -> None:
        with contextlib.suppress(*_trouble()):
            engine.client(CLEANUP).api.kill(self.name)

    def settle(self) -> None:
        try:
            state = engine.client(CLEANUP).api.inspect_container(self.name)["State"]
        except _trouble():
            return
        if not state["Running"]:
            self.note = ""
            self._set(state["ExitCode"])
        if state.get("OOMKilled"):
            self.note = "something in the container was killed for want of memory"
        self.keep_log()

    def keep_log(self) -> None:
        """Write what the container has printed to the log, after what others had written there."""
        with self._logging, contextlib.suppress(*_trouble()):
            printed = engine.client(CLEANUP).api.logs(self.name)
            with self.log.open("r+b" if self.log.exists() else "wb") as file:
                file.truncate(self._before)
                file.seek(self._before)
                file.write(printed)

    def discard(self, patience: float = 0.0) -> None:
        """`patience`: seconds in which a container that is not there yet may still come."""
        from docker.errors import APIError, NotFound

        self.bell.close()
        self._ringer.close()
        until = time.monotonic() + patience
        gone = time.monotonic() + CLEANUP
        with contextlib.suppress(*_trouble()):
            while True:
                try:
                    engine.client(CLEANUP).api.remove_container(self.name, v=True, force=True)
                    return
                except NotFound:
                    if time.monotonic() >= until:
                        return
                except APIError as error:
                    if error.status_code != 409 or time.monotonic() >= gone:  # 409: somebody else is removing it
                        raise
                time.sleep(0.1)


def _trouble() -> tuple[type[Exception], ...]:
    """With an engine that is going away."""
    return *engine.errors(), InfrastructureError


@contextlib.contextmanager
def _listening(owner: tuple[int, int] | None) -> Iterator[tuple[socket.socket, Path]]:
    """A socket in a folder of its own that only we and the container's user may enter; both go when it is connected."""
    folder = Path(tempfile.mkdtemp(prefix="enginematrix-"))
    if len(os.fsencode(folder)) + len("/control") > SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="enginematrix-", dir="/tmp"))
    folder = folder.resolve()
    path = folder / "control"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            if owner is not None:
                os.chown(path, *owner)
                os.chown(folder, *owner)
            yield listener, path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _closed(path: Path) -> str:
    """The first of a file, or of a folder and all in it, that others may not read; '' for none. Hidden ones are nobody's
    input."""

    def closed(path: str | Path) -> bool:
        mode = Path(path).lstat().st_mode
        wanted = 0 if stat.S_ISLNK(mode) else 0o005 if stat.S_ISDIR(mode) else 0o004
        return mode & wanted != wanted

    if closed(path):
        return str(path)
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # another run's
                if not name.startswith(".") and closed(f"{folder}/{name}"):
                    return f"{folder}/{name}"
    return ""


def _umask() -> int:
    """This process's umask, without changing it for a moment, as os.umask would for all threads (proc(5), status)."""
    found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(encoding="utf-8"), re.M)
    return int(found[1], 8) if found else 0


@functools.lru_cache(maxsize=4)
def _info(client: Any) -> Mapping[str, Any]:
    try:
        return dict(client.info())
    except engine.errors() as error:
        msg = f"the Docker engine does not describe itself: {error}"
        raise TransientError(msg) from error


def sweep(client: Any, store: Path) -> int:
    """Remove the containers of this store whose host program is gone; how many. Those of a run that is going on stay, and so
    do everybody else's. Raises InfrastructureError when the engine fails."""
    from docker.errors import APIError

    mine = f"{LABEL}store={store_labels(store, '')[f'{LABEL}store']}"
    removed = 0
    try:
        for found in client.api.containers(all=True, filters={"label": mine}):
            if abandoned(found.get("Labels") or {}):
                # Another run may be sweeping too: it is gone then (404), or going (409).
                with contextlib.suppress(APIError):
                    client.api.remove_container(found["Id"], v=True, force=True)
                    removed += 1
    except engine.errors() as error:
        msg = f"the Docker engine did not list its containers: {error}"
        raise InfrastructureError(msg) from error
    return removed
