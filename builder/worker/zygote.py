"""The worker's two standing processes, and what they say to the host.

    guard   imports no library. Sees the host go (hang-up of the control socket) even while the zygote hangs in an
            import, sees the zygote die, and then ends everything that any of them started.
    zygote  imports the libraries once, then forks a leader for each job (leader.py), which forks the job itself.

Whichever process dies, the rest goes: the zygote dies with the guard, a leader ends its job when the zygote's end of
its pipe closes, and a job dies with its leader.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import time
import warnings

from worker import jobs, leader, loaded, processes

#: A job's output above this is not taken for a result (bytes).
OUTPUT_LIMIT = 32 << 20


def serve(control, imports):
    """Be the guard; the zygote is its child. Ends as the zygote ended: same exit code or same signal. As PID 1 of a
    container no signal of its own ends it: there exit code 128 + n stands for signal n, as a shell has it."""
    processes.limit(None)
    processes.adopt_orphans()
    wake = processes.wake_on_child()
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            processes.reset_signals()
            processes.die_with_parent(guard)
            os.close(wake)
            Zygote(control).run(imports)
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    pass
            os._exit(code)  # never the libraries' exit handlers: they may hang, or crash over forked threads
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, signal.SIGKILL))
    status = _watch(control, wake, pid)
    processes.end_descendants()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if guard != 1:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
            os.kill(guard, number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))


def _watch(control, wake, pid):
    """Wait for the zygote's end; when the host is gone, give it a moment to clean up, then kill it."""
    poll = select.poll()
    poll.register(control, 0)  # nothing but hang-up, which is always told
    poll.register(wake, select.POLLIN)
    kill_at = None
    while True:
        for fd, _ in poll.poll(None if kill_at is None else 50):
            if fd == control:
                poll.unregister(control)
                kill_at = time.monotonic() + 1.0
            else:
                processes.drain(wake)
        status = _reap(pid)
        if status is not None:
            return status
        if kill_at is not None and time.monotonic() > kill_at:
            processes.send(pid, signal.SIGKILL)


def _reap(zygote):
    """Collect what has ended: the orphans of a container fall to its PID 1. The zygote's status when it has, or None."""
    status = None
    while True:
        try:
            found, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if found == 0:
            return status
        if found == zygote:
            status = how


class Zygote:
    def __init__(self, control):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=control)
        self.jobs = {}  # leader's pid -> Running
        self.poll = select.poll()
        self.leaving = False
        self.own = frozenset()

    def run(self, imports):
        processes.adopt_orphans()
        probe = loaded.probe(imports)
        jobs.preload()
        # Python 3.12 and newer warn of forking a process with threads (those that libraries started at import). It is
        # what the design asks for: the child uses no object that such a thread could hold.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*")
        # Helpers that an import started belong to the zygote and live as long as it.
        self.own = frozenset(processes.descendants(os.getpid()))
        gc.collect()
        # From Python 3.7: keep the collector from touching, and so copying, the shared pages in every child.
        getattr(gc, "freeze", lambda: None)()
        self.wake = processes.wake_on_child()
        self.poll.register(self.socket, select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        self.send({"op": "ready", "probe": probe})
        buffer = b""
        while not self.leaving:
            for fd, _ in self.poll.poll():
                if fd == self.wake:
                    processes.drain(self.wake)
                elif fd == self.socket.fileno():
                    try:
                        data = self.socket.recv(1 << 20)
                    except OSError:
                        data = b""
                    if not data:
                        self.leaving = True
                        break
                    buffer += data
                    *lines, buffer = buffer.split(b"\n")
                    for line in lines:
                        self.take(line)
                else:
                    for job in list(self.jobs.values()):
                        if job.report == fd:
                            self.listen(job)
            self.reap()
        self.leave()

    def send(self, message):
        try:
            self.socket.sendall(json.dumps(message, allow_nan=False).encode() + b"\n")
        except OSError:  # the host is gone
            self.leaving = True

    def take(self, line):
        """One message of the host. Whatever is wrong with it is told; it never ends the zygote."""
        try:
            message = json.loads(line.decode("utf-8"))
            op = message["op"]
        except (ValueError, TypeError, KeyError) as error:
            self.send({"op": "error", "message": "not a message: %s: %s" % (type(error).__name__, error)})
            return
        if op == "job":
            wrong = invalid(message)
            if wrong and not isinstance(message.get("id"), str):
                self.send({"op": "error", "message": wrong})
            elif wrong:
                error = {"stage": str(message.get("stage")), "type": "BadInput", "message": wrong, "traceback": ""}
                self.finish(message["id"], {"exit": 1}, {}, {"ok": False, "stages": [], "error": error, "loaded": {}})
            else:
                self.start(message)
        elif op == "cancel":
            for job in self.jobs.values():
                if job.id == message.get("id"):
                    job.cancel()
        elif op == "exit":
            self.leaving = True
        else:
            self.send({"op": "error", "message": "unknown op %r" % (op,)})

    def start(self, message):
        command_reader, command = os.pipe()
        report, report_writer = os.pipe()
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            for fd in (command_reader, command, report, report_writer):
                os.close(fd)
            text = "cannot start a process: %s" % error
            wrong = {"stage": message["stage"], "type": "BadInput", "message": text, "traceback": ""}
            self.finish(message["id"], {"exit": 1}, {}, {"ok": False, "stages": [], "error": wrong, "loaded": {}})
            return
        if pid == 0:
            code = 1
            try:
                processes.reset_signals()
                os.close(command)
                os.close(report)
                for job in self.jobs.values():  # else a leader would not see the zygote's end of its own pipe close
                    os.close(job.command)
                    os.close(job.report)
                os.close(self.wake)
                os.close(self.socket.detach())
                leader.lead(message, command_reader, report_writer, zygote)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        os.close(command_reader)
        os.close(report_writer)
        os.set_blocking(report, False)
        self.jobs[pid] = Running(message, pid, command, report)
        self.poll.register(report, select.POLLIN)

    def listen(self, job):
        """What the leader and the job said: pid, stages, the end."""
        while True:
            try:
                data = os.read(job.report, 65536)
            except OSError:  # no more for now
                break
            if not data:
                self.silence(job)
                break
            job.buffer += data
        *lines, job.buffer = job.buffer.split(b"\n")
        for line in lines:
            message = json.loads(line.decode())
            if "pid" in message:
                self.send({"op": "started", "id": job.id, "pid": message["pid"]})
            elif "stage" in message:
                self.send({"op": "stage", "id": job.id, "stage": message["stage"]})
            elif "end" in message:
                job.end = message

    def silence(self, job):
        try:
            self.poll.unregister(job.report)
        except KeyError:  # it is already
            pass

    def reap(self):
        """Jobs whose leader has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.jobs.get(pid)
            if job is None:
                continue
            self.listen(job)
            del self.jobs[pid]
            self.silence(job)
            os.close(job.command)
            os.close(job.report)
            if job.end is None:
                self.end_orphans()
                number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                end = leader.signal_end(number) if number else {"exit": os.WEXITSTATUS(status)}
                job.end = {"end": dict(end, note="the process that watched over the job ended before it"), "usage": {}}
            self.finish(job.id, job.end["end"], job.end["usage"], read_output(job))

    def end_orphans(self):
        """Kill what a leader that was killed has left: descendants that are neither a job's nor from an import."""
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            found = set(processes.descendants(os.getpid())) - self.own - set(self.jobs)
            for pid in list(self.jobs):
                found.difference_update(processes.descendants(pid))
            if not found:
                return
            for pid in found:
                processes.send(pid, signal.SIGKILL)
            time.sleep(0.002)

    def finish(self, identity, end, usage, output):
        self.send({"op": "done", "id": identity, "end": end, "usage": usage, "output": output})

    def leave(self):
        """End all jobs: their leaders see the pipe close and clean up; then whatever else was started."""
        for job in self.jobs.values():
            os.close(job.command)
        until = time.monotonic() + 5.0
        while self.jobs and time.monotonic() < until:
            pid = os.waitpid(-1, os.WNOHANG)[0]
            self.jobs.pop(pid, None) if pid else time.sleep(0.005)
        processes.end_descendants()


class Running:
    """A job that is going on, as the zygote sees it."""

    def __init__(self, message, pid, command, report):
        self.id = message["id"]
        self.stage = message["stage"]
        self.dir = message["dir"]
        self.pid = pid
        self.command = command
        self.report = report
        self.buffer = b""
        self.end = None

    def cancel(self):
        try:
            os.write(self.command, b"c")
        except OSError:
            pass


def invalid(message):
    """What is wrong with a job message, or None."""
    for name, kind in (("id", str), ("stage", str), ("dir", str), ("input", dict), ("limits", dict)):
        if not isinstance(message.get(name), kind):
            return "a job needs %r, a %s" % (name, kind.__name__)
    seconds, memory = message["limits"].get("seconds"), message["limits"].get("memory")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        return "limits.seconds must be a number above 0, not %r" % (seconds,)
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0):
        return "limits.memory must be a number of bytes above 0 or null, not %r" % (memory,)
    if not (os.path.isabs(message["dir"]) and os.path.isdir(message["dir"])):
        return "not an absolute path of a folder: %r" % message["dir"]
    return None


def read_output(job):
    """What the job left in output.json; None when it left nothing whole."""
    try:
        with open(os.path.join(job.dir, "output.json"), "rb") as file:
            data = file.read(OUTPUT_LIMIT + 1)
        if len(data) > OUTPUT_LIMIT:
            text = "the output is larger than %d bytes" % OUTPUT_LIMIT
            error = {"stage": job.stage, "type": "BadOutput", "message": text, "traceback": ""}
            return {"ok": False, "stages": [], "error": error, "loaded": {}}
        return json.loads(data.decode("utf-8"))
    except (OSError, ValueError):
        return None
