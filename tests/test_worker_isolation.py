"""A job that crashes, hangs, floods, forks or takes all memory costs itself alone; whoever is killed, nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers.support import Fake, gone, host_script, hostile_venv, marked

from builder.environment.session import WorkerDied


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Fake]:
    """A worker that is a child of this process."""
    fake = Fake(tmp_path)
    with fake.session:
        yield fake
    assert gone(fake.mark)


@pytest.fixture(params=["child", pytest.param("container", marks=pytest.mark.docker)])
def fake(request: pytest.FixtureRequest) -> Iterator[Fake]:
    """A worker of each kind: one protocol, one behaviour."""
    fake = request.getfixturevalue({"child": "local", "container": "contained"}[request.param])
    yield fake
    assert fake.do("nothing").ok, "the worker must have survived"


def standing(fake: Fake) -> set[int]:
    """The guard and the zygote: what may be there between jobs."""
    return set(marked(fake.mark))


def test_segfault(fake: Fake) -> None:
    end = fake.do("segfault")
    assert end.end == {"signal": 11, "name": "SIGSEGV"}
    assert end.output is None
    assert end.stages == ("parse", "build")
    assert "before the crash" in fake.log()
    # faulthandler's: where in Python it was
    assert "in segfault" in fake.log()
    assert not list(fake.last.glob("core*"))


def test_abort(fake: Fake) -> None:
    assert fake.do("abort").end == {"signal": 6, "name": "SIGABRT"}


def test_hang(fake: Fake) -> None:
    end = fake.do("hang", seconds=0.5)
    assert end.end == {"timeout": 0.5}
    assert 0.5 <= end.usage["seconds"] < 1.5


def test_hang_that_ignores_sigterm(fake: Fake) -> None:
    end = fake.do("stubborn", seconds=0.5)
    assert end.end == {"timeout": 0.5}
    assert 2.4 <= end.usage["seconds"] < 4


def test_python_memory_error(fake: Fake) -> None:
    end = fake.do("python_memory", memory=1 << 30)
    assert end.end["memory"] == 1 << 30
    assert "MemoryError" in end.end["how"]
    assert end.output is not None
    assert end.output["error"]["stage"] == "build"


def test_memory_really_is_limited(fake: Fake) -> None:
    assert "memory" in fake.do("take", memory=256 << 20, megabytes="300").end
    assert fake.do("take", memory=512 << 20, megabytes="300").ok


def test_uncaught_bad_alloc(fake: Fake) -> None:
    assert "memory" in fake.do("cpp_bad_alloc").end
    # Without a limit on it, nothing is known of memory: it is the abort that it is.
    assert fake.do("cpp_bad_alloc", memory=None).end == {"signal": 6, "name": "SIGABRT"}


def test_a_library_that_reports_bad_alloc(fake: Fake) -> None:
    assert "memory" in fake.do("refused_text").end


def test_memory_of_a_device_is_not_the_limit(fake: Fake) -> None:
    end = fake.do("device_memory")
    assert end.end == {"exit": 0}
    assert end.output is not None
    assert "CUDA" in end.output["error"]["message"]


def test_helpers_that_leave_the_session_are_found(fake: Fake) -> None:
    """Orphaned at once, in a session of its own, holding our pipes, forking all the time."""
    before = standing(fake)
    started = time.monotonic()
    assert fake.got("grandchildren") == "left"
    assert time.monotonic() - started < 5, "its open pipe must not hold up the end"
    assert "helper" in fake.log()
    assert standing(fake) == before


def test_helpers_of_a_job_that_hangs(fake: Fake) -> None:
    before = standing(fake)
    assert fake.do("grandchildren", seconds=0.6, **{"for": "600"}).end == {"timeout": 0.6}
    assert standing(fake) == before


def test_another_jobs_helpers_are_left_alone(fake: Fake) -> None:
    """The end of one job must not touch what another has started."""
    result = []
    job = {"adapter": "fake", "settings": {"do": "needs_helper"}}
    thread = threading.Thread(
        target=lambda: result.append(fake.session.run("build", job, fake.folder / "long", seconds=20, memory=None))
    )
    thread.start()
    time.sleep(0.3)
    for _ in range(3):
        assert fake.do("grandchildren", **{"for": "0.1"}).ok
    thread.join()
    assert result[0].output["result"]["got"] == "the helper lived"


def test_flood_is_bounded(fake: Fake) -> None:
    assert fake.do("flood").ok
    path = fake.last / "log.txt"
    assert path.stat().st_size < 5 << 20
    text = fake.log()
    assert text.startswith("first line\n")
    assert text.endswith("last line\n")
    assert "bytes left out" in text


def test_leader_killed(fake: Fake) -> None:
    before = standing(fake)
    end = fake.do("kill_leader")
    assert end.end["signal"] == 9
    assert "watched over" in end.end["note"]
    assert standing(fake) == before


def test_zygote_killed(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.session.start()
    end = fake.do("kill_zygote")
    assert (end.end["signal"], end.end["name"]) == (9, "SIGKILL")
    assert "worker itself" in end.end["note"]
    assert gone(fake.mark)
    assert not fake.session.alive
    fake.session.start()
    assert fake.do("nothing").ok
    fake.session.close()
    assert gone(fake.mark)


def test_guard_killed(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.session.start()
    assert fake.session.pid
    threading.Timer(0.3, os.kill, (fake.session.pid, signal.SIGKILL)).start()
    assert fake.do("grandchildren", **{"for": "600"}).end["signal"] == 9
    assert gone(fake.mark)


@pytest.mark.parametrize("action", ["hang", "stubborn", "grandchildren"])
def test_host_killed(tmp_path: Path, action: str) -> None:
    host = host_script(
        tmp_path,
        "fake = Fake(folder)\n"
        "fake.session.start()\n"
        "print(fake.mark, flush=True)\n"
        f"fake.do({action!r}, on_stage=lambda stage: print(stage, flush=True), **{{'for': '600'}})\n",
    )
    assert host.stdout
    mark = host.stdout.readline().strip()
    while host.stdout.readline() != "build\n":
        pass
    time.sleep(0.3)
    assert len(marked(mark)) >= 4, "guard, zygote, leader and job"
    host.kill()
    host.wait()
    host.stdout.close()
    assert gone(mark)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with modules that misbehave when imported."""
    helper = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import os, time; os.setsid(); time.sleep(600)'])\n"
    )
    return hostile_venv(
        tmp_path_factory.mktemp("hostile") / "venv",
        {
            "crashes": "import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
            "leaves": "import os; os._exit(7)",
            "exits": "import sys; sys.exit(7)",
            "hangs": helper + "import time; time.sleep(600)",
            # A loop that no signal handler and no other thread of Python's gets a chance in.
            "spins": "import ctypes, re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
            "helped": helper,
        },
    )


def test_import_that_crashes(tmp_path: Path, python: Path) -> None:
    fake = Fake(tmp_path, python, imports=["crashes"])
    with pytest.raises(WorkerDied) as caught:
        fake.session.start()
    assert caught.value.signal == signal.SIGSEGV
    assert caught.value.exit is None
    assert "last words" in caught.value.log
    assert "SIGSEGV" in str(caught.value)
    assert gone(fake.mark)


def test_import_that_leaves(tmp_path: Path, python: Path) -> None:
    fake = Fake(tmp_path, python, imports=["leaves"])
    with pytest.raises(WorkerDied) as caught:
        fake.session.start()
    assert (caught.value.signal, caught.value.exit) == (None, 7)


def test_import_that_calls_sys_exit_is_an_import_that_fails(tmp_path: Path, python: Path) -> None:
    fake = Fake(tmp_path, python, imports=["exits"])
    with fake.session as session:
        assert session.probe["modules"]["exits"] == {"error": "SystemExit: 7"}
        assert fake.do("nothing").ok


@pytest.mark.parametrize("module", ["hangs", "spins"])
def test_import_that_hangs(tmp_path: Path, python: Path, module: str) -> None:
    fake = Fake(tmp_path, python, imports=[module])
    with pytest.raises(WorkerDied, match="longer than 0.5 s"):
        fake.session.start(timeout=0.5)
    assert gone(fake.mark)


@pytest.mark.parametrize("module", ["hangs", "spins"])
def test_host_killed_during_an_import(tmp_path: Path, python: Path, module: str) -> None:
    host = host_script(
        tmp_path,
        f"fake = Fake(folder, Path({str(python)!r}), imports=[{module!r}])\n"
        "print(fake.mark, flush=True)\n"
        "fake.session.start()\n",
    )
    assert host.stdout
    mark = host.stdout.readline().strip()
    until = time.monotonic() + 5
    while len(marked(mark)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    assert marked(mark)
    host.kill()
    host.wait()
    host.stdout.close()
    assert gone(mark)


def test_helper_of_an_import_lives_and_ends_with_the_worker(tmp_path: Path, python: Path) -> None:
    fake = Fake(tmp_path, python, imports=["helped"])
    with fake.session:
        time.sleep(0.3)
        before = standing(fake)
        assert len(before) == 3, "guard, zygote, helper"
        assert fake.do("grandchildren").ok
        assert fake.do("kill_leader").end["signal"] == 9
        assert standing(fake) == before
    assert gone(fake.mark)


def test_interrupt_in_the_caller_cancels_its_job(tmp_path: Path) -> None:
    host = host_script(
        tmp_path,
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "fake = Fake(folder)\n"
        "with fake.session:\n"
        "    print(fake.mark, flush=True)\n"
        "    try:\n"
        "        fake.do('hang', on_stage=lambda stage: print(stage, flush=True))\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', fake.do('nothing').ok, flush=True)\n",
    )
    assert host.stdout
    mark = host.stdout.readline().strip()
    while host.stdout.readline() != "build\n":
        pass
    host.send_signal(signal.SIGINT)
    assert host.communicate(timeout=20)[0] == "interrupted True\n"
    assert gone(mark)


def test_full_log_folder_does_not_fail_the_job(fake: Fake) -> None:
    """The log is a convenience: a job whose log cannot be written still tells how it ended."""
    folder = fake.folder / f"job-{fake.count + 1}"
    folder.mkdir()
    done = subprocess.run(["ln", "-s", "/dev/full", str(folder / "log.txt")], check=False)
    assert done.returncode == 0
    assert fake.do("output_chatter").ok
