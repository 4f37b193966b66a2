"""Process tools: what dies with what, limits, and the end of everything that a process started. Linux only."""

import os
import resource
import signal
import time

try:
    import ctypes

    LIBC = ctypes.CDLL(None, use_errno=True)
except (ImportError, OSError):  # a Python built without libffi
    LIBC = None

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent):
    """Be killed when `parent` (pid) is gone. Exits at once if it is gone already.

    The kernel takes the death of the parent's *thread* for this, so a process must only be forked by a main thread.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans():
    """Become the parent of every descendant whose own parent ends, also of those that called setsid or forked twice."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def flush_c():
    """Write out what C libraries still hold in their standard output buffers."""
    if LIBC is not None:
        LIBC.fflush(None)


def limit(memory):
    """No core file; and, when `memory` (bytes) is not None, that much address space beyond what is mapped now."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = virtual_size() + int(memory)
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def virtual_size():
    """Bytes of address space of this process (proc(5), statm)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def kernel_kills():
    """How often the kernel's out-of-memory killer has struck since boot (vmstat's oom_kill), or None when unknown."""
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def descendants(root):
    """pids of the living descendants of `root`, by the parents that /proc tells now. Zombies are not living."""
    children = {}
    dead = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                fields = file.read().rsplit(b")", 1)[1].split()
        except (OSError, IndexError):  # ended meanwhile
            continue
        if fields[0] in (b"Z", b"X"):
            dead.add(int(name))
        children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            todo.append(pid)
            if pid not in dead:
                found.append(pid)
    return found


def go_first():
    """Have the kernel's out-of-memory killer take this process and what it starts before those that watch over it: as if it
    had a fifth of the memory more (proc(5), oom_score_adj)."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("200")
    except OSError:  # it has a higher one already
        pass


def give(directory):
    """Hand a job's files to the owner of its folder: as root in a container we write for a host program that may not be
    root, and that has to read and remove them."""
    owner = os.stat(directory)
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            try:
                os.lchown(os.path.join(folder, name), owner.st_uid, owner.st_gid)
            except OSError:
                pass


def send(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass


def send_group(group, number):
    try:
        os.killpg(group, number)
    except OSError:
        pass


def reap():
    """Collect all ended children. False when there is no child at all, ended or alive."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False


def end_descendants(seconds=10.0, keep=()):
    """Kill everything that this process started and that is still there, but not the pids in `keep`.

    The caller must have called `adopt_orphans`. All are stopped before any is killed, so that a process which keeps
    forking cannot outrun the killing. Returns whether none is left.
    """
    until = time.monotonic() + seconds
    while reap():
        found = [pid for pid in descendants(os.getpid()) if pid not in keep]
        if not found:
            return True
        if time.monotonic() > until:
            return False
        seen = set()
        while set(found) - seen:
            for pid in set(found) - seen:
                send(pid, signal.SIGSTOP)
            seen |= set(found)
            found = [pid for pid in descendants(os.getpid()) if pid not in keep]
        for pid in found:
            send(pid, signal.SIGKILL)
        time.sleep(0.002)
    return True


def wake_on_child():
    """File descriptor that becomes readable when a child ends. Main thread only."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writer)
    return reader


def reset_signals():
    """What a forked child must not keep of its parent's signal handling."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def drain(fd):
    """Read everything that is in a non-blocking pipe now, and forget it."""
    try:
        while os.read(fd, 65536):
            pass
    except OSError:
        pass


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
