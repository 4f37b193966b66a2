"""An engine adapter that looks at what a container lets it do: for tests, by `--adapter look=FILE`. Python 3.6 and newer."""

import os
import socket
import subprocess
import time


def build(job):
    with job.stage("build"):
        return {"engine": None, "got": ACTIONS[job.input["settings"]["do"]](job)}


def _tried(action):
    """Name of the error, or 'done'."""
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return "done"


def network(job):
    with open("/proc/net/dev") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]

    def reach():
        socket.create_connection(("192.0.2.1", 80), timeout=3).close()

    return {"interfaces": interfaces, "connect": _tried(reach)}


def write(job):
    """What happens to a write at each path."""
    return {path: _tried(lambda path=path: open(path, "w").close()) for path in job.input["settings"]["paths"]}


def self(job):
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    with open("/proc/1/cmdline") as file:
        first = file.read().split("\0")
    shm = os.statvfs("/dev/shm")
    return {
        "uid": os.getuid(), "gid": os.getgid(), "status": status, "first": first, "environ": dict(os.environ),
        "shm": shm.f_frsize * shm.f_blocks, "umask": os.umask(0o022), "cpus": _read("cpu"),
    }  # fmt: skip


def _read(name):
    paths = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    for path in paths:
        if os.path.exists(path):
            with open(path) as file:
                return file.read().split()[0]
    return None


def setuid(job):
    """The effective user of a program that is root's and has the setuid bit."""
    become = _tried(lambda: os.setuid(0))
    return {"id": subprocess.check_output(["/usr/local/bin/suid-id", "-u"]).decode().strip(), "setuid": become}


def forks(job):
    """How many processes there can be, and what stops it."""
    started = []
    try:
        while len(started) < 2000:
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            started.append(pid)
        why = ""
    except OSError as error:
        why = os.strerror(error.errno)
    return {"started": len(started), "why": why}


def files(job):
    """Leave files that are awkward to read and remove."""
    os.makedirs(job.path("a/b"))
    for name, mode in (("a/b/secret", 0o600), ("plain", 0o644)):
        with open(job.path(name), "w") as file:
            file.write("text")
        os.chmod(job.path(name), mode)
    os.chmod(job.path("a/b"), 0o700)
    os.symlink("/etc/hostname", job.path("link"))


def runs_from_tmp(job):
    with open("/tmp/script", "w") as file:
        file.write("#!/bin/sh\necho ran\n")
    os.chmod("/tmp/script", 0o755)
    return subprocess.check_output(["/tmp/script"]).decode().strip()


def fill(job):
    """Touch so many megabytes."""
    size = int(job.input["settings"]["megabytes"]) << 20
    return len(bytearray(os.urandom(1 << 20)) * (size >> 20))


def orphans(job):
    """Zombies that nobody has collected."""
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(os.path.join("/proc", name, "stat")) as file:
                    found += file.read().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                pass
    return found


ACTIONS = {name: value for name, value in list(globals().items()) if callable(value) and not name.startswith("_")}
