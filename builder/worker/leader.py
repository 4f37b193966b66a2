"""One process per job that stands between the zygote and the job: forks it, keeps its log, holds it to its limits, and
ends everything that it started, wherever that went (setsid, double fork): orphans fall to the leader.
"""

import json
import os
import select
import signal
import sys
import time

from worker import jobs, processes

#: The log keeps its first and its last bytes; a flood between them is counted and left out.
LOG_HEAD = 4 << 20
LOG_TAIL = 256 << 10
#: Seconds between asking a job to end and killing it.
GRACE = 2.0


def signal_end(number):
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "signal %d" % number
    return {"signal": number, "name": name}


def lead(message, command, report, zygote):
    """Run one job. Tells on `report`: from the job itself its pid and stages, at last the end and its usage."""
    os.setpgid(0, 0)
    processes.adopt_orphans()
    wake = processes.wake_on_child()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directory = message["dir"]
    for name in ("output.json", "output.json.part", "memory.txt"):
        try:
            os.unlink(os.path.join(directory, name))
        except OSError:
            pass
    log = Log(os.path.join(directory, "log.txt"))
    kills = processes.kernel_kills()
    started = time.monotonic()
    own = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        processes.reset_signals()
        processes.die_with_parent(own)
        for fd in (command, wake):
            os.close(fd)
        log.give()
        jobs.enter(message, report)  # never returns
    try:
        os.setpgid(pid, pid)
    except OSError:  # it did so itself, or has ended
        pass
    log.take()
    seconds = message["limits"]["seconds"]
    why = _wait(pid, log, command, wake, started + seconds)
    processes.send_group(pid, signal.SIGKILL)  # the job is not collected yet, so the number is still its own
    _, status, usage = os.wait4(pid, 0)
    took = time.monotonic() - started
    clean = processes.end_descendants(keep=())
    log.close()
    processes.give(directory)
    if why == "timeout":
        end = {"timeout": seconds}
    elif why == "cancelled":
        end = {"cancelled": True}
    elif os.WIFSIGNALED(status):
        end = signal_end(os.WTERMSIG(status))
    else:
        end = {"exit": os.WEXITSTATUS(status)}
    memory = message["limits"].get("memory")
    if why is None:
        refused = out_of_memory(end, memory, directory, log, kills)
        if refused:
            end = {"memory": memory, "how": refused}
    if not clean:
        end["note"] = "something that the job started could not be ended"
    usage = {
        "seconds": took, "user": usage.ru_utime, "system": usage.ru_stime, "max_rss": usage.ru_maxrss * 1024,
    }  # fmt: skip
    processes.write_all(report, json.dumps({"end": end, "usage": usage}).encode() + b"\n")


def _wait(pid, log, command, wake, deadline):
    """Until the job ended. Returns why it was made to: None (it was not), "timeout", "cancelled"."""
    poll = select.poll()
    for fd in (log.reader, command, wake):
        poll.register(fd, select.POLLIN)
    why, kill_at = None, None
    while True:
        now = time.monotonic()
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return why
        if why is None and now >= deadline:
            why, kill_at = "timeout", now + GRACE
            processes.send_group(pid, signal.SIGTERM)
        if kill_at is not None and now >= kill_at:
            processes.send_group(pid, signal.SIGKILL)
            processes.send(pid, signal.SIGKILL)
            kill_at = now + 1.0
        left = (kill_at if kill_at is not None else deadline) - now
        for fd, _ in poll.poll(max(0, int(min(left, 3600) * 1000) + 1)):
            if fd == log.reader:
                if not log.pump():
                    poll.unregister(log.reader)
            elif fd == wake:
                processes.drain(wake)
            else:
                asked = os.read(command, 16)
                poll.unregister(command)
                if why is None:
                    why = "cancelled"
                    processes.send_group(pid, signal.SIGTERM)
                kill_at = time.monotonic() + (GRACE if asked else 0)  # no word: the zygote is gone, and so is the host


def out_of_memory(end, memory, directory, log, kills):
    """Why the end is for want of memory, or "" when there is no evidence of it.

    Evidence is one of: the job itself was refused memory (MemoryError, std::bad_alloc or the system's ENOMEM text; it
    then says so in `memory.txt`), under a limit; it aborted over an uncaught std::bad_alloc, in the log's last lines;
    it was killed by SIGKILL, which we did not send, while the kernel counted an out-of-memory kill. A segmentation
    fault is never taken for it: nothing tells a null pointer after a failed allocation from any other.
    """
    try:
        path = os.path.join(directory, "memory.txt")
        with open(path) as file:
            refused = file.read()
        os.unlink(path)
        if memory is not None:
            return refused
    except OSError:
        pass
    if end.get("signal") == signal.SIGABRT and b"std::bad_alloc" in log.last(4096) and memory is not None:
        return "aborted over an uncaught std::bad_alloc"
    now = processes.kernel_kills()
    if end.get("signal") == signal.SIGKILL and kills is not None and now is not None and now > kills:
        return "killed while the kernel's out-of-memory killer struck"
    return ""


class Log:
    """What the job writes on standard output and error, through a pipe, so that a flood cannot fill the disk."""

    def __init__(self, path):
        self.reader, self.writer = os.pipe()
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self.head = 0
        self.left_out = 0
        self.tail = b""
        self.recent = b""

    def give(self):
        """In the job: standard output and error are the pipe, standard input is empty."""
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.dup2(self.writer, 1)
        os.dup2(self.writer, 2)
        for fd in (empty, self.reader, self.writer, self.file):
            if fd > 2:
                os.close(fd)
        sys.stdin = open(0, closefd=False)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, "__%s__" % name, stream)

    def take(self):
        """In the leader: read the pipe."""
        os.close(self.writer)
        os.set_blocking(self.reader, False)

    def pump(self):
        """Take what is in the pipe. False at its end."""
        try:
            data = os.read(self.reader, 1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.recent = (self.recent + data)[-4096:]
        room = LOG_HEAD - self.head
        if room > 0:
            self._write(data[:room])
            self.head += min(room, len(data))
            data = data[room:]
        if data:
            self.tail += data
            if len(self.tail) > 2 * LOG_TAIL:
                self.left_out += len(self.tail) - LOG_TAIL
                self.tail = self.tail[-LOG_TAIL:]
        return True

    def last(self, size):
        return self.recent[-size:]

    def close(self):
        """Take the rest, up to what a pipe holds (a process that could not be ended may still be writing)."""
        for _ in range(64):
            before = (self.head, self.left_out, len(self.tail))
            if not self.pump() or before == (self.head, self.left_out, len(self.tail)):
                break
        if len(self.tail) > LOG_TAIL:
            self.left_out += len(self.tail) - LOG_TAIL
            self.tail = self.tail[-LOG_TAIL:]
        if self.left_out:
            self._write(b"\n[... %d bytes left out ...]\n" % self.left_out)
        self._write(self.tail)
        os.close(self.file)

    def _write(self, data):
        try:
            processes.write_all(self.file, data)
        except OSError:  # a full disk does not make the job fail
            pass
