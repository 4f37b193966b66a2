"""An engine adapter that misbehaves as `settings["do"]` says: for tests, by `--adapter fake=FILE`."""

import ctypes
import os
import signal
import subprocess
import sys
import time


def build(job):
    with job.stage("parse"):
        pass
    with job.stage("build"):
        return {"engine": None, "got": ACTIONS[job.input.get("settings", {}).get("do", "nothing")](job)}


def nothing(job):
    return None


def echo(job):
    return {"input": job.input, "cwd": os.getcwd(), "pid": os.getpid(), "group": os.getpgid(0)}


def segfault(job):
    print("before the crash", flush=True)
    ctypes.string_at(1)


def abort(job):
    os.abort()


def hang(job):
    time.sleep(600)


def stubborn(job):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def python_memory(job):
    return len(bytearray(64 << 30))


def cpp_bad_alloc(job):
    """What a C++ library leaves behind when nobody catches its std::bad_alloc."""
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    os.abort()


def refused_text(job):
    raise RuntimeError("onnxruntime said: std::bad_alloc")


def device_memory(job):
    raise RuntimeError("CUDA failure 2: out of memory; failed to allocate memory on GPU 0")


def grandchildren(job):
    """A helper in a session of its own that keeps our pipes open and is orphaned at once; and one that keeps
    forking."""
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "sys.stdout.write('helper %d\\n' % os.getpid()); sys.stdout.flush()\n"
        "end = time.time() + 600\n"
        "while time.time() < end:\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(600); os._exit(0)\n"
        "    time.sleep(0.01)\n"
    )
    subprocess.Popen([sys.executable, "-c", code]).wait()
    time.sleep(float(job.input["settings"].get("for", 0.3)))
    return "left"


def needs_helper(job):
    """Starts a helper that leaves the group and the family, and looks after a while whether it is still there."""
    code = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        helper = int(process.stdout.readline())
        time.sleep(2.0)
        os.kill(helper, 0)
        os.kill(helper, signal.SIGKILL)
    return "the helper lived"


def take(job):
    return len(bytearray(int(job.input["settings"]["megabytes"]) << 20))


def search_path(job):
    return sys.path


def flood(job):
    line = b"x" * 1023 + b"\n"
    os.write(1, b"first line\n")
    for _ in range(100 * 1024):
        os.write(1, line)
    os.write(1, b"last line\n")
    return


def unserialisable(job):
    return {"a": [1, object()]}


def nonfinite(job):
    return {"values": [1.0, float("nan"), float("-inf")]}


def huge(job):
    return "x" * (40 << 20)


def exits(job):
    sys.exit(3)


def raises(job):
    raise ValueError("no good: " + job.path("model.onnx"))


def output_chatter(job):
    print("from python")
    ctypes.CDLL(None).puts(b"from c")
    sys.stderr.write("to stderr\n")
    return


def sleep(job):
    time.sleep(float(job.input["settings"]["seconds"]))
    return os.getpid()


def kill_zygote(job):
    """The leader's parent."""
    leader = os.getppid()
    with open(f"/proc/{leader}/stat") as file:
        zygote = int(file.read().rsplit(")", 1)[1].split()[1])
    os.kill(zygote, signal.SIGKILL)
    time.sleep(600)


def kill_leader(job):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def environment(job):
    return dict(os.environ)


ACTIONS = {name: value for name, value in list(globals().items()) if callable(value) and not name.startswith("_")}
