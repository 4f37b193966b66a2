"""The host's side of the worker's protocol (builder/worker/README.md): start a worker, run jobs in it.

`BaseSession` is the protocol alone; what starts the worker gives it a `Process`. `WorkerSession` starts one on this machine,
`container.ContainerSession` one in a container.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

#: Seconds that a job may go over its limit before the whole worker is taken for dead: the worker itself asks at the
#: limit and kills 2 s later, and cleaning up after a job takes it up to 10 s.
GRACE = 20.0
#: Seconds that a worker has to clean up after itself before it is ended by force.
KILL = 15.0
#: Bytes of the log that an error shows.
TAIL = 4000


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended. The dicts are those of builder/worker/README.md."""

    end: dict[str, Any]
    usage: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] | None = None
    stages: tuple[str, ...] = ()
    """The stages that it entered, in order."""

    @property
    def ok(self) -> bool:
        return self.end == {"exit": 0} and self.output is not None and self.output.get("ok") is True


class WorkerDied(Exception):
    """The worker ended when it should not have: by an import, by a crash, or it was killed.

    `signal` is a signal's number or None, `exit` an exit code or None (neither is known while it still hangs), `log`
    the end of what it printed.
    """

    def __init__(
        self, message: str, *, signal: int | None, exit: int | None, log: str, timeout: float | None = None
    ) -> None:
        self.timeout = timeout
        """Seconds after which it was given up, when it was."""
        self.signal = signal
        self.exit = exit
        self.log = log
        super().__init__(message)


_S = TypeVar("_S", bound="BaseSession")


class Process(Protocol):
    """The worker's first process (its guard), wherever it runs, with our end of its control socket."""

    control: socket.socket
    note: str
    """What else is known of its end, '' for nothing."""

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: -n for signal n. None while it runs, and when nobody can tell."""

    def wait(self, timeout: float) -> bool:
        """Whether it has ended within `timeout` s."""

    def kill(self) -> None:
        """End it and what it started, by force. Never raises."""

    def settle(self) -> None:
        """After its end and before anybody is told of it: fetch what it printed and how it ended. Never raises."""

    def discard(self) -> None:
        """After its end: remove what is left of it. Never raises."""


class BaseSession(abc.ABC):
    """Jobs of one worker. Thread-safe; `start` it before use. The worker's standard output and error go to `log`."""

    def __init__(self, *, log: Path) -> None:
        self.log = log
        self.probe: dict[str, Any] = {}
        self._lock = threading.Lock()
        # Not the same lock: whoever sends may have to wait for the worker, which may have to wait for our reader.
        self._sending = threading.Lock()
        self._jobs: dict[str, _Pending] = {}
        self._numbers = itertools.count(1)
        self._process: Process | None = None
        self._reader: threading.Thread | None = None
        self._ready: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._gone = threading.Event()

    @abc.abstractmethod
    def launch(self) -> Process:
        """Start the worker's first process."""

    def make(self, dir: Path) -> None:
        """Make a job's folder."""
        dir.mkdir(parents=True, exist_ok=True)

    @property
    def alive(self) -> bool:
        """Whether it takes jobs."""
        return self._process is not None and not self._gone.is_set()

    def start(self, timeout: float = 120.0) -> dict[str, Any]:
        """Start it and wait until the imports were tried; returns the probe. May be called again once it has died.

        Raises WorkerDied when an import kills it or takes longer than `timeout` (s), and what `launch` raises.
        """
        if self.alive:
            return self.probe
        self.log.parent.mkdir(parents=True, exist_ok=True)
        process = self._process = self.launch()
        self._gone = threading.Event()
        self._ready = queue.SimpleQueue()
        self._reader = threading.Thread(
            target=self._read, args=(process, self._gone, self._ready), name="worker-reader", daemon=True
        )
        self._reader.start()
        try:
            probe = self._ready.get(timeout=timeout)
        except queue.Empty:
            self._kill()
            raise self._death(f"the imports took longer than {timeout:g} s", timeout=timeout) from None
        except BaseException:  # Ctrl-C
            self._kill()
            raise
        if probe is None:
            self._reader.join(timeout=KILL)
            raise self._death("the worker ended before it was ready")
        self.probe = probe
        return probe

    def run(
        self, stage: str, input: Mapping[str, Any], dir: Path, *, seconds: float, memory: int | None,
        on_stage: Callable[[str], None] | None = None,
    ) -> JobEnd:  # fmt: skip
        """Run one job and wait for its end. `dir` is its own folder, made here. `memory` is the address space (bytes)
        it may take beyond the worker's, None for no limit (CUDA maps far more than it uses).

        However the job ends is told by the JobEnd; when the worker died under it, `end` has the worker's signal and a
        `note`. Raises WorkerDied only when the worker was dead before the job began.
        """
        self.make(dir)
        pending = _Pending(on_stage)
        with self._lock:
            if not self.alive:
                raise self._death("the worker is not running")
            name = str(next(self._numbers))
            self._jobs[name] = pending
        message = {
            "op": "job", "id": name, "stage": stage, "dir": str(dir.resolve()), "input": input,
            "limits": {"seconds": seconds, "memory": memory},
        }  # fmt: skip
        try:
            self._send(message)
            return self._await(pending, seconds)
        except BaseException:  # Ctrl-C in the caller's thread: the job must not go on without it
            self._send({"op": "cancel", "id": name})
            raise
        finally:
            with self._lock:
                self._jobs.pop(name, None)

    def _await(self, pending: _Pending, seconds: float) -> JobEnd:
        until = time.monotonic() + seconds + GRACE
        while True:
            try:
                message = pending.inbox.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                # The second line: the worker should have ended the job long ago.
                self._kill()
                note = "the worker did not end the job in time and was killed"
                return JobEnd(end={"timeout": seconds, "note": note}, stages=tuple(pending.stages))
            if message is None:
                return JobEnd(end=self._end_of_worker(), stages=tuple(pending.stages))
            if message["op"] == "stage":
                pending.stages.append(message["stage"])
                if pending.on_stage:
                    pending.on_stage(message["stage"])
            elif message["op"] == "done":
                return JobEnd(
                    end=message["end"], usage=message["usage"], output=message["output"], stages=tuple(pending.stages)
                )

    def cancel(self) -> None:
        """Ask all running jobs to end; each `run` then returns with `{"cancelled": true}`."""
        with self._lock:
            names = list(self._jobs)
        for name in names:
            self._send({"op": "cancel", "id": name})

    def close(self, timeout: float = 10.0) -> None:
        """End the worker and everything that it started. Jobs that are running end as if it had died."""
        process = self._process
        if process is None:
            return
        self._send({"op": "exit"})
        if not process.wait(timeout):
            self._kill()
        if self._reader and self._reader is not threading.current_thread():
            self._reader.join(timeout=timeout)

    def __enter__(self: _S) -> _S:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        """A message to a worker that is gone is lost; the reader tells of that."""
        data = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            if self._process is not None:
                self._process.control.sendall(data)

    def _read(
        self, process: Process, gone: threading.Event, ready: queue.SimpleQueue[dict[str, Any] | None]
    ) -> None:  # fmt: skip
        """In a thread of its own: hand each message to whoever waits for it; at the end, tell all that it is the
        end."""
        try:
            with process.control.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    if message["op"] == "ready":
                        ready.put(message["probe"])
                    elif message["op"] == "error":
                        raise ValueError(f"the worker did not understand: {message['message']}")
                    else:
                        with self._lock:
                            pending = self._jobs.get(message["id"])
                        if pending:
                            pending.inbox.put(message)
        except (OSError, ValueError):  # a line cut short by its death, or a protocol error: both end this worker
            pass
        # Its processes end by themselves once our side of the socket is closed.
        if not process.wait(0.2):
            _end(process)
        process.settle()
        process.control.close()
        with self._lock:
            gone.set()
            waiting = list(self._jobs.values())
        for pending in waiting:
            pending.inbox.put(None)
        ready.put(None)
        process.discard()

    def _kill(self) -> None:
        """End a worker that does not answer, and see it gone."""
        if self._process is not None:
            _end(self._process)
        if self._reader is not None:
            self._reader.join(timeout=KILL)

    def _end_of_worker(self) -> dict[str, Any]:
        code = self._process.returncode if self._process else None
        note = "the worker itself ended while the job ran"
        if self._process and self._process.note:
            note += f": {self._process.note}"
        if code is not None and code < 0:
            return {"signal": -code, "name": _signal_name(-code), "note": note}
        return {"exit": code, "note": note}

    def _death(self, message: str, timeout: float | None = None) -> WorkerDied:
        code = self._process.returncode if self._process and timeout is None else None
        return death(message, code, self._process.note if self._process else "", self.log_tail(), timeout)

    def log_tail(self) -> str:
        """The end of what the worker printed outside its jobs (at imports, mostly)."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


class WorkerSession(BaseSession):
    """A worker in the interpreter `python`, with the package `worker` of the folder `worker_dir`.

    `imports` are imported once, before any job. `env` is the worker's whole environment. `arguments` are passed on to
    worker/main.py (`--adapter NAME=FILE`).
    """

    def __init__(
        self, *, python: Path, worker_dir: Path, imports: Sequence[str] = (), env: Mapping[str, str], log: Path,
        cwd: Path | None = None, arguments: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(log=log)
        self.python = python
        self.worker_dir = worker_dir
        self.imports = tuple(imports)
        self.env = dict(env)
        self.cwd = cwd
        self.arguments = tuple(arguments)
        self.pid: int | None = None

    def launch(self) -> Process:
        """Raises OSError when the interpreter cannot be started."""
        ours, theirs = socket.socketpair()
        main = self.worker_dir / "worker" / "main.py"
        command = [str(self.python), "-I", str(main), "--control", str(theirs.fileno())]
        try:
            with theirs, self.log.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603
                    [*command, *import_arguments(self.imports), *self.arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.cwd,
                    pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        self.pid = process.pid
        return _Child(ours, process)


class _Child:
    """A worker that is a child of this process: it writes its log itself and leaves nothing behind."""

    note = ""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.control = control
        self._popen = process

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode

    def wait(self, timeout: float) -> bool:
        try:
            self._popen.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def settle(self) -> None:
        pass

    def discard(self) -> None:
        pass


class _Pending:
    """A job that someone waits for; None in its inbox is the worker's end."""

    def __init__(self, on_stage: Callable[[str], None] | None) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.stages: list[str] = []
        self.on_stage = on_stage


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: Process) -> None:
    """Closing the socket makes a worker clean up after itself; by force only when it does not."""
    with contextlib.suppress(OSError):
        process.control.shutdown(socket.SHUT_RDWR)
    if not process.wait(KILL):
        process.kill()
        process.wait(KILL / 3)


def import_arguments(imports: Sequence[str]) -> list[str]:
    return [part for name in imports for part in ("--import", name)]


def death(message: str, code: int | None, note: str, log: str, timeout: float | None = None) -> WorkerDied:
    """`code` is as subprocess has it: -n for signal n."""
    if code is not None:
        message += f": {_signal_name(-code) if code < 0 else f'exit code {code}'}"
    if note:
        message += f" ({note})"
    signal_number = -code if code is not None and code < 0 else None
    return WorkerDied(
        message, signal=signal_number, exit=code if code is not None and code >= 0 else None, log=log, timeout=timeout
    )
