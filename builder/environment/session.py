"""The host's side of the worker's protocol (builder/worker/README.md): start a worker, run jobs in it."""

from __future__ import annotations

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
from typing import Any

#: Seconds that a job may go over its limit before the whole worker is taken for dead: the worker itself asks at the
#: limit and kills 2 s later, and cleaning up after a job takes it up to 10 s.
GRACE = 20.0
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


class WorkerSession:
    """A worker in the interpreter `python`, with the package `worker` of the folder `worker_dir`.

    `imports` are imported once, before any job. `env` is the worker's whole environment; its standard output and error
    go to `log`. `arguments` are passed on to worker/main.py (`--adapter NAME=FILE`). Thread-safe; `start` it before
    use.
    """

    def __init__(
        self, *, python: Path, worker_dir: Path, imports: Sequence[str] = (), env: Mapping[str, str], log: Path,
        cwd: Path | None = None, arguments: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.python = python
        self.worker_dir = worker_dir
        self.imports = tuple(imports)
        self.env = dict(env)
        self.log = log
        self.cwd = cwd
        self.arguments = tuple(arguments)
        self.probe: dict[str, Any] = {}
        self._lock = threading.Lock()
        # Not the same lock: whoever sends may have to wait for the worker, which may have to wait for our reader.
        self._sending = threading.Lock()
        self._jobs: dict[str, _Pending] = {}
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._ready: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._gone = threading.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it takes jobs."""
        return self._process is not None and not self._gone.is_set()

    def start(self, timeout: float = 120.0) -> dict[str, Any]:
        """Start it and wait until the imports were tried; returns the probe. May be called again once it has died.

        Raises WorkerDied when an import kills it or takes longer than `timeout` (s), OSError when the interpreter
        cannot be started.
        """
        if self.alive:
            return self.probe
        ours, theirs = socket.socketpair()
        command = [
            str(self.python), "-I", str(self.worker_dir / "worker" / "main.py"), "--control",
            str(theirs.fileno()), *(part for name in self.imports for part in ("--import", name)), *self.arguments,
        ]  # fmt: skip
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with theirs, self.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.cwd,
                    pass_fds=[theirs.fileno()], start_new_session=True,
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        self._socket = ours
        self._gone = threading.Event()
        self._ready = queue.SimpleQueue()
        self._reader = threading.Thread(
            target=self._read, args=(ours, self._process, self._gone, self._ready), name="worker-reader", daemon=True
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
        dir.mkdir(parents=True, exist_ok=True)
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
        try:
            process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._reader and self._reader is not threading.current_thread():
            self._reader.join(timeout=timeout)

    def __enter__(self) -> WorkerSession:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        """A message to a worker that is gone is lost; the reader tells of that."""
        data = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.sendall(data)

    def _read(
        self, control: socket.socket, process: subprocess.Popen[bytes], gone: threading.Event,
        ready: queue.SimpleQueue[dict[str, Any] | None],
    ) -> None:  # fmt: skip
        """In a thread of its own: hand each message to whoever waits for it; at the end, tell all that it is the
        end."""
        try:
            with control.makefile("rb") as lines:
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
        self._finish(process)
        control.close()
        with self._lock:
            gone.set()
            waiting = list(self._jobs.values())
        for pending in waiting:
            pending.inbox.put(None)
        ready.put(None)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """See the worker's processes to their end; they end by themselves once our side of the socket is closed."""
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                _kill_group(process)
                process.wait()

    def _kill(self) -> None:
        """End a worker that does not answer. Closing the socket makes it clean up after itself first."""
        if self._process is not None and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                _kill_group(self._process)
                self._process.wait()

    def _end_of_worker(self) -> dict[str, Any]:
        code = self._process.returncode if self._process else None
        note = "the worker itself ended while the job ran"
        if code is not None and code < 0:
            return {"signal": -code, "name": _signal_name(-code), "note": note}
        return {"exit": code, "note": note}

    def _death(self, message: str, timeout: float | None = None) -> WorkerDied:
        code = self._process.returncode if self._process and timeout is None else None
        tail = self.log_tail()
        if code is not None:
            message += f": {_signal_name(-code) if code < 0 else f'exit code {code}'}"
        return WorkerDied(
            message, signal=-code if code is not None and code < 0 else None,
            exit=code if code is not None and code >= 0 else None, log=tail, timeout=timeout,
        )  # fmt: skip

    def log_tail(self) -> str:
        """The end of what the worker printed outside its jobs (at imports, mostly)."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


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


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
