"""The worker's protocol, on every Python that it promises to run on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workers.support import ARGUMENTS, BUILDER, FAKE, Fake, gone, hostile_venv

from builder.environment import interpreters
from builder.environment.session import WorkerDied, WorkerSession

MAIN = BUILDER / "worker" / "main.py"
PROMISED = [f"3.{minor}" for minor in range(6, 14)]
REQUIRED = os.environ.get("ENGINEMATRIX_REQUIRE_INTERPRETERS") == "1" or os.environ.get("CI") == "true"
INSTALLED = interpreters.installed(os.environ)


def interpreter(version: str) -> Path:
    if version not in INSTALLED:
        if REQUIRED:
            pytest.fail(f"CPython {version} is required here and is not installed")
        pytest.skip(f"CPython {version} is not installed")
    return INSTALLED[version]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Fake]:
    """A worker that is a child of this process."""
    fake = Fake(tmp_path)
    with fake.session:
        yield fake
    assert gone(fake.mark)


@pytest.fixture(params=["child", pytest.param("container", marks=pytest.mark.docker)])
def fake(request: pytest.FixtureRequest) -> Fake:
    """A worker of each kind: one protocol, one behaviour."""
    return request.getfixturevalue({"child": "local", "container": "contained"}[request.param])


@pytest.mark.parametrize("version", PROMISED)
def test_every_promised_python(version: str, tmp_path: Path) -> None:
    fake = Fake(tmp_path, interpreter(version))
    with fake.session as session:
        assert session.probe["python"].startswith(version + ".")
        echoed = fake.got("echo", text="å – 漢", number=1.5)
        assert echoed["input"]["settings"] == {"do": "echo", "text": "å – 漢", "number": 1.5}
        assert echoed["cwd"] == str(fake.last)
        assert echoed["pid"] == echoed["group"]
        assert fake.do("segfault").end == {"signal": 11, "name": "SIGSEGV"}
        assert fake.do("hang", seconds=0.3).end == {"timeout": 0.3}
        failed = fake.do("raises")
        assert failed.end == {"exit": 0}
        assert failed.output is not None
        assert failed.output["error"]["message"] == "no good: model.onnx"
        end = fake.do("nonfinite")
        assert end.output is not None
        assert end.output["result"]["got"] == {"values": [1.0, None, None]}
        assert "memory" in fake.do("python_memory").end
    assert gone(fake.mark)


@pytest.mark.parametrize("version", PROMISED)
def test_worker_that_connects_itself(version: str, tmp_path: Path) -> None:
    """As one in a container does."""
    python = interpreter(version)
    with tempfile.TemporaryDirectory(prefix="em-", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/control")
        listener.listen(1)
        process = subprocess.Popen([python, "-I", "-B", str(MAIN), "--connect", f"{folder}/control", *ARGUMENTS])
        raw = Raw(listener.accept()[0], process)
        job = {"op": "job", "id": "1", "stage": "build", "dir": str(tmp_path), "input": {"adapter": "fake"}}
        raw.send(json.dumps({**job, "limits": {"seconds": 5.0, "memory": None}}).encode() + b"\n")
        assert [raw.receive()["op"] for _ in range(4)][-1] == "done"
        raw.lines.close()
        raw.socket.close()
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("version", PROMISED)
def test_help_needs_no_site_packages(version: str) -> None:
    done = subprocess.run(
        [interpreter(version), "-S", str(MAIN), "--help"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0
    assert "--control" in done.stdout


def test_worker_code_asks_for_no_newer_python() -> None:
    files = [str(path) for path in (BUILDER / "worker").rglob("*.py")]
    done = subprocess.run(
        [Path(sys.executable).with_name("vermin"), "-t=3.6-", "--no-tips", "--violations", *files],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_probe(local: Fake) -> None:
    probe = local.session.probe
    assert probe["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert probe["distributions"]["pytest"] == pytest.__version__
    assert probe["modules"] == {}


def test_imports_are_told_with_versions_or_errors(tmp_path: Path) -> None:
    python = hostile_venv(
        tmp_path / "venv",
        {
            "good": "__version__ = '1.2'",
            "silent": "",
            "bad": "import no_such_thing",
            "worker": "raise SystemError('shadow')",
        },
    )
    fake = Fake(tmp_path, python, imports=("good", "silent", "bad", "absent"))
    with fake.session as session:
        modules = session.probe["modules"]
        assert modules["good"] == {"version": "1.2", "file": "site-packages/good.py"}
        assert modules["silent"]["version"] is None
        assert modules["bad"]["error"] == "ModuleNotFoundError: No module named 'no_such_thing'"
        assert "absent" in modules["absent"]["error"]
        # A module of the environment named as our package does not get in the way.
        assert fake.do("nothing").ok


def test_packages_that_installed_the_same_file_are_told(tmp_path: Path) -> None:
    python = hostile_venv(tmp_path / "venv", {"shared": "__version__ = '1.2'", "single": ""})
    site = next((tmp_path / "venv").glob("lib/python3*/site-packages"))
    for name, files in (("one_cu12-1.2", ["shared.py", "single.py"]), ("one_cu13-1.2", ["shared.py", "other.py"])):
        (site / f"{name}.dist-info").mkdir()
        (site / f"{name}.dist-info" / "RECORD").write_text("".join(f"{file},sha256=x,9\n" for file in files))
    fake = Fake(tmp_path, python, imports=("shared", "single"))
    with fake.session as session:
        modules = session.probe["modules"]
        assert modules["shared"]["installers"] == ["one-cu12 1.2", "one-cu13 1.2"]
        assert "installers" not in modules["single"]


def test_nothing_of_ours_shadows_a_library(fake: Fake) -> None:
    """The worker's folders are not on the path, so `import compare` or `import timing` never finds ours."""
    path = fake.got("search_path")
    assert not [entry for entry in path if entry.startswith(str(BUILDER))]


def test_stages_are_told_in_order_as_they_are_entered(fake: Fake) -> None:
    seen: list[str] = []
    end = fake.do("nothing", on_stage=seen.append)
    assert end.ok
    assert end.stages == ("parse", "build")
    assert seen == ["parse", "build"]
    assert end.output is not None
    assert [item["stage"] for item in end.output["stages"]] == ["parse", "build"]
    assert all(item["seconds"] >= 0 for item in end.output["stages"])
    assert json.loads((fake.last / "output.json").read_text()) == end.output
    assert 0 < end.usage["seconds"] < 10
    assert 1 << 20 < end.usage["max_rss"] < 1 << 30


def test_output_of_libraries_goes_to_the_log_not_into_the_protocol(fake: Fake) -> None:
    assert fake.do("output_chatter").ok
    log = fake.log()
    assert "from python\n" in log
    assert "from c\n" in log
    assert "to stderr\n" in log
    assert not (fake.folder / "session.log").read_text()


def test_environment_is_the_one_given(local: Fake) -> None:
    got = local.got("environment")
    assert got["PATH"] == "/usr/bin:/bin"
    assert not [name for name in got if name.startswith(("OMP_", "PYTEST"))]


def test_exit_code_of_a_job_that_leaves(fake: Fake) -> None:
    end = fake.do("exits")
    assert end.end == {"exit": 3}
    assert end.output is None


@pytest.mark.parametrize(
    ("stage", "input", "message"),
    [
        ("build", {"adapter": "nonesuch"}, "no adapter 'nonesuch'"),
        ("build", {}, "no adapter None"),
        ("compile", {"adapter": "fake"}, "no stage 'compile'"),
        ("reference", {"exporter": "nonesuch"}, "no exporter 'nonesuch'"),
    ],
)
def test_a_job_that_cannot_be_done_says_so(fake: Fake, stage: str, input: dict[str, Any], message: str) -> None:
    end = fake.session.run(stage, input, fake.folder / "job", seconds=10, memory=1 << 30)
    assert end.end == {"exit": 1}
    assert end.output is not None
    assert end.output["error"]["type"] == "BadInput"
    assert message in end.output["error"]["message"]


@pytest.mark.parametrize("limits", [{"seconds": 0, "memory": 1}, {"seconds": 1, "memory": -1}])
def test_senseless_limits(fake: Fake, limits: dict[str, Any]) -> None:
    end = fake.do("nothing", **limits)
    assert end.end == {"exit": 1}
    assert end.output is not None
    assert "limits." in end.output["error"]["message"]


def test_output_that_is_not_json(fake: Fake) -> None:
    end = fake.do("unserialisable")
    assert end.end == {"exit": 1}
    assert end.output is not None
    assert end.output["error"]["type"] == "BadOutput"
    assert end.output["error"]["message"] == "result.got.a.1 is not JSON: object"


def test_output_with_nan_is_null_and_says_what_it_was(fake: Fake) -> None:
    end = fake.do("nonfinite")
    assert end.output is not None
    assert end.output["result"]["got"] == {"values": [1.0, None, None]}
    assert end.output["nonfinite"] == {"result.got.values.1": "nan", "result.got.values.2": "-inf"}


def test_output_beyond_reason_is_refused(fake: Fake) -> None:
    end = fake.do("huge")
    assert end.output is not None
    assert end.output["ok"] is False
    assert "larger than" in end.output["error"]["message"]


def test_stale_output_is_never_taken_for_this_jobs(fake: Fake) -> None:
    folder = fake.folder / "job"
    job = {"adapter": "fake", "settings": {"do": "nothing"}}
    assert fake.session.run("build", job, folder, seconds=10, memory=None).ok
    job["settings"] = {"do": "segfault"}
    assert fake.session.run("build", job, folder, seconds=10, memory=None).output is None


def test_jobs_run_side_by_side(fake: Fake) -> None:
    ends: list[Any] = []

    def one(number: int) -> None:
        job = {"adapter": "fake", "settings": {"do": "sleep", "seconds": "0.5"}}
        ends.append(fake.session.run("build", job, fake.folder / f"side-{number}", seconds=20, memory=None))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 2.0
    pids = [end.output["result"]["got"] for end in ends]
    assert len(set(pids)) == 6


def test_cancel_ends_what_is_running_and_the_session_goes_on(fake: Fake) -> None:
    timer = threading.Timer(0.3, fake.session.cancel)
    timer.start()
    started = time.monotonic()
    assert fake.do("hang").end == {"cancelled": True}
    assert time.monotonic() - started < 2.0
    timer.join()
    assert fake.do("nothing").ok


def test_large_inputs_pass(fake: Fake) -> None:
    text = "x" * 3_000_000
    assert len(fake.got("echo", text=text)["input"]["settings"]["text"]) == len(text)


def test_a_job_in_a_session_that_is_not_there(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    with pytest.raises(WorkerDied):
        fake.do("nothing")
    fake.session.start()
    fake.session.close()
    with pytest.raises(WorkerDied):
        fake.do("nothing")


def test_close_ends_running_jobs(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    fake.session.start()
    timer = threading.Timer(0.3, fake.session.close)
    timer.start()
    end = fake.do("stubborn")
    assert "note" in end.end
    timer.join()
    assert gone(fake.mark)


def test_missing_interpreter(tmp_path: Path) -> None:
    session = WorkerSession(python=tmp_path / "python", worker_dir=BUILDER, env={}, log=tmp_path / "log")
    with pytest.raises(OSError, match="No such file"):
        session.start()
    assert not session.alive


class Raw:
    """The worker at the other end of a bare socket."""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.socket = control
        self.lines = control.makefile("rb")
        assert self.receive()["op"] == "ready"

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> dict[str, Any]:
        return json.loads(self.lines.readline())


@pytest.fixture
def raw() -> Iterator[Raw]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-B", str(MAIN), "--control", str(theirs.fileno()), *ARGUMENTS]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    raw = Raw(ours, process)
    yield raw
    raw.lines.close()
    raw.socket.close()
    assert raw.process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'"text"',
        b"\xff\xfe",
        b'{"op": "dance"}',
        b'{"op": "job"}',
        b'{"op": "job", "id": 7}',
    ],
)
def test_a_line_that_means_nothing_is_answered_and_survived(raw: Raw, line: bytes, tmp_path: Path) -> None:
    raw.send(line + b"\n")
    assert raw.receive()["op"] == "error"
    job = {"op": "job", "id": "1", "stage": "build", "dir": str(tmp_path), "input": {"adapter": "fake"}}
    raw.send(json.dumps({**job, "limits": {"seconds": 5.0, "memory": None}}).encode() + b"\n")
    messages = [raw.receive()["op"] for _ in range(4)]
    assert messages == ["started", "stage", "stage", "done"]


@pytest.mark.parametrize(
    "wrong",
    [{"dir": "relative"}, {"dir": "/no/such/folder"}, {"input": []}, {"stage": None}, {"limits": {}},
     {"limits": {"seconds": "10"}}, {"limits": {"seconds": True}}, {"limits": {"seconds": 1.0, "memory": "8G"}}],
)  # fmt: skip
def test_invalid_job_messages(raw: Raw, wrong: dict[str, Any], tmp_path: Path) -> None:
    job = {"op": "job", "id": "1", "stage": "build", "dir": str(tmp_path), "input": {}, "limits": {"seconds": 1.0}}
    raw.send(json.dumps({**job, **wrong}).encode() + b"\n")
    message = raw.receive()
    assert (message["op"], message["id"], message["end"]) == ("done", "1", {"exit": 1})
    assert message["output"]["error"]["type"] == "BadInput"


def test_messages_in_pieces_and_in_one(raw: Raw, tmp_path: Path) -> None:
    jobs = b""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        job = {"op": "job", "id": name, "stage": "build", "dir": str(tmp_path / name), "input": {"adapter": "fake"},
               "limits": {"seconds": 5.0, "memory": None}}  # fmt: skip
        jobs += json.dumps(job).encode() + b"\n"
    raw.send(jobs[:50])
    time.sleep(0.05)
    raw.send(jobs[50:])
    done = set()
    while len(done) < 2:
        message = raw.receive()
        if message["op"] == "done":
            assert message["output"]["ok"]
            done.add(message["id"])
    assert done == {"a", "b"}


def test_fake_adapter_is_only_there_when_given(tmp_path: Path) -> None:
    assert FAKE.exists()
    with WorkerSession(
        python=Path(sys.executable), worker_dir=BUILDER, env={"PATH": "/usr/bin:/bin"}, log=tmp_path / "log"
    ) as session:
        end = session.run("build", {"adapter": "fake"}, tmp_path / "job", seconds=10, memory=None)
        assert end.end == {"exit": 1}
