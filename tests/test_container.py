"""Workers in containers: what they are asked for, what they may, and how they end."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dockerparts
import pytest
from workers.containers import ContainerFake, left, owner
from workers.support import BUILDER, FAKE, gone, host_script, marked

from builder.environment import container, container_config, engine, session
from builder.environment.container import ImageGone, store_labels, sweep
from builder.environment.container_config import LABEL, Mount, Request, abandoned, config, host_labels
from builder.environment.session import WorkerDied
from builder.errors import InfrastructureError
from builder.values import Docker

HOME_OF_ROOT = Path(pwd.getpwuid(0).pw_dir)
"""Where images have theirs too."""

docker = pytest.mark.docker


# What the engine is asked for ------------------------------------------------------------------------------------------


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "image": "sha256:0", "command": ["python3", "-I", "main.py"], "user": (1000, 1000), "settings": Docker(),
        "mounts": [Mount(path=Path("/data/in")), Mount(path=Path("/data/out"), writable=True)],
        "gpus": None, "runtime": "", "memory": 8 << 30, "cpus": 2, "env": {}, "labels": {"a": "b"}, "info": {"NCPU": 4},
    }  # fmt: skip
    return Request(**{**values, **changes})


def host(**changes: Any) -> dict[str, Any]:
    return config(request(**changes))["HostConfig"]


def env(**changes: Any) -> dict[str, str]:
    return dict(item.split("=", 1) for item in config(request(**changes))["Env"])


def test_what_is_asked_for() -> None:
    body = config(request())
    assert body == {
        "Image": "sha256:0", "Entrypoint": ["python3"], "Cmd": ["-I", "main.py"], "User": "1000:1000", "WorkingDir": "/",
        "Env": ["HOME=/tmp", "USER=enginematrix", "NVIDIA_VISIBLE_DEVICES=void"], "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["NONE"]}, "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none", "ReadonlyRootfs": True, "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
            "Mounts": [
                {"Type": "bind", "Source": "/data/in", "Target": "/data/in", "ReadOnly": True},
                {"Type": "bind", "Source": "/data/out", "Target": "/data/out", "ReadOnly": False},
            ],
            "CapDrop": ["ALL"], "CapAdd": [], "SecurityOpt": ["no-new-privileges"], "PidsLimit": 4096,
            "Memory": 8 << 30, "MemorySwap": 8 << 30, "NanoCpus": 2 * 10**9, "ShmSize": 1 << 30, "IpcMode": "private",
            "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "1"}},
            "Init": False, "RestartPolicy": {"Name": "no"}, "UsernsMode": "",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [
        ((), {"Driver": "", "Capabilities": [["gpu"]], "Count": -1}),
        (("0", "GPU-8932f937"), {"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["0", "GPU-8932f937"]}),
    ],
)
def test_gpus_by_device_request(gpus: tuple[str, ...], devices: dict[str, Any]) -> None:
    assert host(gpus=gpus)["DeviceRequests"] == [devices]
    assert "NVIDIA_VISIBLE_DEVICES" not in env(gpus=gpus), "the engine sets it"


@pytest.mark.parametrize(
    ("gpus", "names"),
    [((), ["nvidia.com/gpu=all"]), (("0", "MIG-1/2"), ["nvidia.com/gpu=0", "nvidia.com/gpu=MIG-1/2"])],
)
def test_gpus_by_cdi(gpus: tuple[str, ...], names: list[str]) -> None:
    asked = {"settings": Docker(gpus="cdi"), "gpus": gpus}
    assert host(**asked)["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": names}]
    assert env(**asked)["NVIDIA_VISIBLE_DEVICES"] == "void", "not a second time by a runtime"


def test_gpus_by_runtime() -> None:
    """Jetson: the runtime maps the libraries of the board, and obeys the variable."""
    asked = {"runtime": "nvidia", "gpus": (), "settings": Docker(gpus="cdi")}
    assert host(**asked)["Runtime"] == "nvidia"
    assert "DeviceRequests" not in host(**asked)
    assert env(**asked)["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert env(runtime="nvidia", gpus=("0", "1"))["NVIDIA_VISIBLE_DEVICES"] == "0,1"


def test_no_gpu_asked_for_is_none_given() -> None:
    """Also where an engine's default runtime obeys what NVIDIA's images say of themselves."""
    assert not {"DeviceRequests", "Runtime"} & set(host(runtime="nvidia"))
    assert env(runtime="nvidia")["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_auto_is_cdi_where_the_engine_knows_the_gpus(tmp_path: Path) -> None:
    def cdi(info: dict[str, Any], gpus: Any = "auto") -> bool:
        return container_config.uses_cdi(Docker(gpus=gpus), info)

    assert not cdi({})
    assert cdi({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]})
    assert not cdi({"DiscoveredDevices": [{"Source": "cdi", "ID": "intel.com/gpu=0"}]})
    folders = {"CDISpecDirs": [str(tmp_path), "/no/such/folder"]}
    assert not cdi(folders)
    (tmp_path / "intel.yaml").write_text("kind: intel.com/gpu\n")
    assert not cdi(folders)
    (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    assert cdi(folders)
    assert not cdi(folders, "devices")
    assert cdi({}, "cdi")


def test_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 100)
    rootless = {"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}
    assert container_config.user_of("any", {}) == (1000, 100)
    assert container_config.user_of("root", {}) == (0, 0)
    assert container_config.user_of("any", rootless) == (0, 0), "its root is the caller"
    assert host(user=(0, 0))["CapAdd"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER"], "it works in the caller's folders"
    assert host(user=(0, 0), info=rootless)["CapAdd"] == []
    assert host(user=(1000, 100))["CapAdd"] == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert container_config.user_of("any", {}) == (65534, 65534)
    assert container_config.user_of("root", {}) == (0, 0)
    assert host(user=(0, 0))["CapAdd"] == []


def test_what_the_engine_says_of_itself() -> None:
    security = {"SecurityOptions": ["name=selinux", "name=userns"]}
    assert host(info=security)["SecurityOpt"] == ["no-new-privileges", "label=disable"]
    assert host(info=security)["UsernsMode"] == "host"
    assert host(info={"NCPU": 2})["NanoCpus"] == 0, "all there are is no limit"
    assert host(info={"NCPU": 4, "CpuCfsQuota": False})["NanoCpus"] == 0
    assert host(cpus=0)["NanoCpus"] == 0
    assert host(cpus=3)["NanoCpus"] == 3 * 10**9


def test_checkout_below_the_images_own_root_folder() -> None:
    below = [Mount(path=HOME_OF_ROOT / "project" / "artifacts" / "work", writable=True)]
    assert [mount["Target"] for mount in host(mounts=below)["Mounts"]] == [str(HOME_OF_ROOT), str(below[0].path)]
    assert len(host(mounts=below, user=(0, 0))["Mounts"]) == 1


def test_labels_of_the_living_and_the_gone() -> None:
    ours = host_labels()
    assert not abandoned(ours)
    assert abandoned({**ours, f"{LABEL}pid": "4194305"}), "beyond the largest pid"
    assert abandoned({**ours, f"{LABEL}started": "1"}), "another process has its pid now"
    assert abandoned({**ours, f"{LABEL}boot": "another"})
    assert not abandoned({**ours, f"{LABEL}pidns": "pid:[1]", f"{LABEL}pid": "4194305"}), "nobody can tell"
    assert not abandoned({})
    child = subprocess.Popen(["sleep", "60"])
    labels = {**ours, f"{LABEL}pid": str(child.pid), f"{LABEL}started": container_config.started(child.pid)}
    assert not abandoned(labels)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert abandoned(labels), "a zombie holds nothing"
    child.wait()
    assert abandoned(labels)


def test_store_label_is_of_the_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert store_labels(tmp_path, "r") == store_labels(tmp_path / "link", "r")
    assert store_labels(tmp_path, "r") != store_labels(tmp_path / "other", "r")


def test_exit_code_of_a_worker_that_cannot_connect() -> None:
    done = subprocess.run(
        ["python3", "-I", BUILDER / "worker" / "main.py", "--connect", "/no/such"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == container.UNREACHABLE
    assert done.stderr == "cannot reach the host's socket /no/such: [Errno 2] No such file or directory\n"


# Real containers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> str:
    return dockerparts.python_base("3.11")


@pytest.fixture(scope="module")
def hostile() -> str:
    """An image with modules that misbehave when imported, and a program that is root's with the setuid bit."""
    site = "/usr/lib/python3/dist-packages"
    modules = {
        "crashes": "import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
        "leaves": "import os; os._exit(7)",
        "hangs": "import time; time.sleep(600)",
        "speaks": "print('imported', flush=True)",
        "floods": "import os\nfor _ in range(400): os.write(1, b'x' * 99999 + b'\\n')",
        "grows": "import os\nx = bytearray(os.urandom(1 << 20)) * 1024",
    }
    files = {f"{site}/{name}.py": text for name, text in modules.items()}
    return dockerparts.derived(
        dockerparts.python_base("3.11"), files=files,
        run="cp /usr/bin/id /usr/local/bin/suid-id && chmod u+s /usr/local/bin/suid-id",
    )  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, image: str) -> Iterator[Callable[..., ContainerFake]]:
    """Sessions that are closed, and have left nothing, in the end."""
    made: list[ContainerFake] = []

    def one(**options: Any) -> ContainerFake:
        folder = tmp_path / f"session-{len(made)}"
        folder.mkdir()
        made.append(ContainerFake(options.pop("folder", folder), options.pop("image", image), **options))
        return made[-1]

    yield one
    for fake in made:
        fake.session.close()
        assert not fake.left()
        assert gone(fake.mark)


@docker
@pytest.mark.parametrize(("suite", "version"), [("bullseye", "3.9"), ("bookworm", "3.11"), ("trixie", "3.13")])
def test_worker_in_each_release(make: Callable[..., ContainerFake], suite: str, version: str) -> None:
    fake = make(image=dockerparts.base(suite), imports=["json", "absent"])
    probe = fake.session.start()
    assert probe["python"].startswith(f"{version}.")
    assert "version" in probe["modules"]["json"]
    assert "absent" in probe["modules"]["absent"]["error"]
    assert fake.got("echo", text="å – 漢")["input"]["settings"]["text"] == "å – 漢"
    assert fake.do("segfault").end == {"signal": 11, "name": "SIGSEGV"}
    assert fake.do("hang", seconds=0.3).end == {"timeout": 0.3}
    assert "memory" in fake.do("python_memory").end
    assert fake.do("nothing").ok


@docker
def test_confinement(make: Callable[..., ContainerFake], hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")
    inputs = Path(tempfile.mkdtemp(prefix="em-inputs-"))
    (inputs / "model.onnx").write_text("model")
    inputs.chmod(0o755)
    fake = make(image=hostile, readonly=[inputs], settings=Docker(shm=64 << 20, pids=64), memory=512 << 20, cpus=1)
    fake.session.start()

    network = fake.look("network")
    assert network == {"interfaces": ["lo"], "connect": "Network is unreachable"}

    paths = [f"{inputs}/model.onnx", f"{inputs}/new", str(FAKE), f"{BUILDER}/worker/main.py", "/usr/new", "/etc/passwd",
             f"{fake.folder}/elsewhere", "/tmp/new", "/dev/shm/new"]  # fmt: skip
    found = fake.look("write", paths=paths)
    assert [found[path] for path in paths] == ["Read-only file system"] * 6 + ["done"] * 3
    assert (inputs / "model.onnx").read_text() == "model"

    about = fake.look("self")
    status = about["status"]
    assert about["first"][0] == "python3", "our worker is PID 1, with no init and no entry point before it"
    assert {name: status[name] for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs")} == {
        "CapEff": "0" * 16, "CapPrm": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1",
    }  # fmt: skip
    assert about["uid"] not in (0, -1)
    assert about["shm"] == 64 << 20
    assert about["cpus"] == "100000"
    environ = about["environ"]
    assert environ["HOME"] == "/tmp"
    assert "SECRET_OF_THIS_MACHINE" not in environ

    assert fake.look("setuid") == {"id": str(about["uid"]), "setuid": "Operation not permitted"}
    forks = fake.look("forks")
    assert forks["why"] == "Resource temporarily unavailable"
    assert forks["started"] < 64
    assert fake.look("runs_from_tmp") == "ran"
    shutil.rmtree(inputs)


@docker
def test_image_with_an_entry_point_and_variables(make: Callable[..., ContainerFake], tmp_path: Path) -> None:
    """As NVIDIA's: the entry point is left out, the variables are kept."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {dockerparts.python_base('3.11')}\nENV CUDA_VERSION=12.4.1 NVIDIA_VISIBLE_DEVICES=all\n"
        'ENTRYPOINT ["/no/such/entrypoint.sh"]\nCMD ["bash"]\nWORKDIR /workspace\nUSER 4242\n'
    )
    fake = make(image=dockerparts.docker("build", "-q", str(tmp_path)))
    fake.session.start()
    environ = fake.look("self")["environ"]
    assert (environ["CUDA_VERSION"], environ["NVIDIA_VISIBLE_DEVICES"]) == ("12.4.1", "void")


@docker
def test_files_of_jobs_are_the_hosts_to_read_and_remove(make: Callable[..., ContainerFake]) -> None:
    fake = make()
    fake.session.start()
    fake.look("files")
    expected = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert owner(fake.last / "a" / "b" / "secret") == expected
    assert (fake.last / "a" / "b" / "secret").read_text() == "text"
    assert json.loads((fake.last / "output.json").read_text())["ok"]
    deep = fake.folder / "run" / "environment" / "step"
    assert fake.session.run("build", {"adapter": "fake"}, deep, seconds=10, memory=None).ok
    shutil.rmtree(fake.folder / "run")
    shutil.rmtree(fake.last)


def _as_a_user(folder: Path, image: str, group: int, out: Any) -> None:
    """In a process of its own: become a user who may use the engine; run a job in an image that needs root."""
    try:
        os.setgroups([group])
        os.setgid(4711)
        os.setuid(4711)
        engine._connect.cache_clear()  # its connections are the parent's
        for user in ("any", "root"):
            fake = ContainerFake(folder / user, image, user=user)
            with fake.session:
                about = fake.look("self")
                fake.look("files")
                out.put(
                    (
                        user,
                        about["uid"],
                        owner(fake.last / "a" / "b" / "secret"),
                        (fake.last / "a/b/secret").read_text(),
                    )
                )
            shutil.rmtree(folder / user)
        out.put("done")
    except BaseException as error:
        out.put(repr(error))


@docker
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_host_program_that_is_not_root(image: str, tmp_path: Path) -> None:
    with ContainerFake(tmp_path, image).session:
        pass  # imports all that is needed: the other user may not be able to read our Python
    where = engine.endpoint().socket
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="em-user-"))
    for path in (folder, folder / "any", folder / "root"):
        path.mkdir(exist_ok=True)
        os.chown(path, 4711, 4711)
    fork = multiprocessing.get_context("fork")
    out = fork.Queue()
    process = fork.Process(target=_as_a_user, args=(folder, image, where.stat().st_gid, out))
    process.start()
    found = [out.get(timeout=30)]
    while isinstance(found[-1], tuple):
        found.append(out.get(timeout=30))
    process.join()
    assert found == [("any", 4711, (4711, 4711), "text"), ("root", 0, (4711, 4711), "text"), "done"]
    folder.rmdir()


@docker
def test_image_that_needs_root(make: Callable[..., ContainerFake]) -> None:
    fake = make(user="root")
    fake.session.start()
    about = fake.look("self")
    assert about["uid"] == 0
    assert about["status"]["CapEff"] == "0" * 16 or os.geteuid() != 0
    fake.look("files")
    shutil.rmtree(fake.last)


@docker
def test_checkout_below_root(image: str) -> None:
    """Images keep /root to root; a checkout there must be reached all the same."""
    base = HOME_OF_ROOT / ".cache"
    if os.geteuid() != 0:
        pytest.skip("only root has its home")
    folder = base / f"enginematrix-test-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        with ContainerFake(folder, image).session as session:
            assert session.run("build", {"adapter": "fake"}, folder / "job", seconds=10, memory=None).ok
    finally:
        shutil.rmtree(folder)


@docker
def test_memory_of_the_container(make: Callable[..., ContainerFake]) -> None:
    """A job that takes all of it is ended by the kernel; what runs beside it is not."""
    fake = make(memory=256 << 20)
    fake.session.start()
    ends: list[Any] = []
    neighbour = {"adapter": "fake", "settings": {"do": "sleep", "seconds": "3"}}
    thread = threading.Thread(
        target=lambda: ends.append(
            fake.session.run("build", neighbour, fake.folder / "neighbour", seconds=20, memory=None)
        )
    )
    thread.start()
    time.sleep(0.3)
    job = {"adapter": "look", "settings": {"do": "fill", "megabytes": 1024}}
    end = fake.session.run("build", job, fake.folder / "greedy", seconds=30, memory=None)
    assert end.end == {"memory": None, "how": "killed while the kernel's out-of-memory killer struck"}
    thread.join()
    assert ends[0].ok, ends[0]
    assert fake.do("nothing").ok


@docker
def test_sessions_side_by_side(make: Callable[..., ContainerFake]) -> None:
    fakes = [make() for _ in range(3)]
    threads = [threading.Thread(target=fake.session.start) for fake in fakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(fake.do("nothing").ok for fake in fakes)
    assert len({fake.session.container for fake in fakes}) == 3


# Ends ------------------------------------------------------------------------------------------------------------------


@docker
def test_zygote_killed(make: Callable[..., ContainerFake]) -> None:
    fake = make()
    fake.session.start()
    end = fake.do("kill_zygote")
    assert (end.end["signal"], end.end["name"]) == (9, "SIGKILL"), "told by PID 1's exit code"
    assert end.end["note"] == "the worker itself ended while the job ran"
    assert not fake.session.alive
    assert fake.session._reader
    fake.session._reader.join()
    assert not fake.left(), "removed without being asked"
    fake.session.start()
    assert fake.do("nothing").ok


@docker
@pytest.mark.parametrize(("command", "signals"), [("kill", (9,)), ("stop", (9, 15))])
def test_container_ended_from_outside(
    make: Callable[..., ContainerFake], command: str, signals: tuple[int, ...]
) -> None:
    fake = make()
    fake.session.start()
    threading.Timer(0.3, dockerparts.docker, (command, str(fake.session.container))).start()
    started = time.monotonic()
    end = fake.do("grandchildren", **{"for": "600"})
    assert time.monotonic() - started < 5
    assert end.end["signal"] in signals
    assert end.end["note"].startswith("the worker itself ended while the job ran")
    with pytest.raises(WorkerDied, match="not running"):
        fake.do("nothing")


@docker
def test_container_removed_from_outside(make: Callable[..., ContainerFake]) -> None:
    fake = make()
    fake.session.start()
    threading.Timer(0.3, dockerparts.docker, ("rm", "-f", str(fake.session.container))).start()
    end = fake.do("hang")
    assert end.end["note"].startswith("the worker itself ended while the job ran")
    fake.session.close()


@docker
def test_orphans_are_collected(make: Callable[..., ContainerFake]) -> None:
    fake = make()
    fake.session.start()
    # What somebody starts in the container beside the worker falls to PID 1.
    name = str(fake.session.container)
    dockerparts.docker("exec", name, "sh", "-c", "(sleep 0.2 &) ; (sleep 0.1 &)")
    time.sleep(0.6)
    assert fake.look("orphans") == 0


@docker
def test_import_that_crashes(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["crashes"])
    with pytest.raises(WorkerDied, match="before it was ready: SIGSEGV") as caught:
        fake.session.start()
    assert (caught.value.signal, caught.value.exit) == (signal.SIGSEGV, None)
    assert "last words" in caught.value.log
    assert not fake.left()


@docker
def test_import_that_leaves(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["leaves"])
    with pytest.raises(WorkerDied) as caught:
        fake.session.start()
    assert (caught.value.signal, caught.value.exit) == (None, 7)


@docker
def test_import_that_hangs(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["hangs"])
    with pytest.raises(WorkerDied, match=r"longer than 0\.5 s") as caught:
        fake.session.start(timeout=0.5)
    assert caught.value.timeout == 0.5
    assert not fake.left()
    assert gone(fake.mark)


@docker
def test_import_that_takes_all_memory(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["grows"], memory=128 << 20)
    with pytest.raises(WorkerDied, match="for want of memory") as caught:
        fake.session.start()
    assert caught.value.signal == signal.SIGKILL


@docker
def test_log_has_what_imports_print_and_what_was_there(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["speaks"])
    fake.session.log.write_text("before\n")
    for times in (1, 2):
        fake.session.start()
        assert fake.session.log.read_text() == "before\n" + times * "imported\n"
        fake.session.close()


@docker
def test_flood_of_an_import_is_bounded(make: Callable[..., ContainerFake], hostile: str) -> None:
    fake = make(image=hostile, imports=["floods"])
    fake.session.start()
    fake.session.close()
    assert fake.session.log.stat().st_size < 17 << 20


@docker
def test_image_that_is_gone(make: Callable[..., ContainerFake]) -> None:
    name = f"sha256:{'0' * 64}"
    fake = make(image=name)
    with pytest.raises(ImageGone, match=f"the image {name} is not in the Docker engine"):
        fake.session.start()
    assert not fake.session.alive


@docker
@pytest.mark.parametrize("python", ["python2", "/opt/enginematrix/env/bin/python"])
def test_image_without_that_python(make: Callable[..., ContainerFake], python: str) -> None:
    fake = make(python=python)
    with pytest.raises(WorkerDied, match=f"^the image has no {python}: exit code 127$") as caught:
        fake.session.start()
    assert caught.value.exit == 127
    assert not fake.left()


@docker
def test_python_that_ends_before_it_reaches_us(make: Callable[..., ContainerFake]) -> None:
    text = "import os, sys; print('site says no', file=sys.stderr, flush=True); os._exit(3)"
    fake = make(
        image=dockerparts.derived(dockerparts.python_base("3.11"), files={"/etc/python3.11/sitecustomize.py": text})
    )
    with pytest.raises(WorkerDied, match="before it was ready: exit code 3") as caught:
        fake.session.start()
    assert caught.value.log == "site says no\n"


@docker
def test_python_that_never_reaches_us(make: Callable[..., ContainerFake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "CONNECT", 0.5)
    text = "import time; time.sleep(600)"
    fake = make(
        image=dockerparts.derived(dockerparts.python_base("3.11"), files={"/etc/python3.11/sitecustomize.py": text})
    )
    with pytest.raises(InfrastructureError, match=r"did not reach this program within 0\.5 s"):
        fake.session.start()
    assert not fake.left()


@docker
def test_executable_of_another_architecture(make: Callable[..., ContainerFake]) -> None:
    """No evidence about versions: this machine cannot run it."""
    other = "AArch64" if engine.platform() == "linux/amd64" else "x86-64"
    run = f"printf '\\177ELF\\002\\001\\001' > /usr/local/bin/{other} && chmod 755 /usr/local/bin/{other}"
    fake = make(image=dockerparts.derived(dockerparts.python_base("3.11"), run=run), python=other)
    with pytest.raises(InfrastructureError, match="exec format error"):
        fake.session.start()


@docker
def test_socket_that_cannot_be_reached(make: Callable[..., ContainerFake], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def elsewhere(owner: Any) -> Iterator[Any]:
        with real(owner) as (listener, path):
            path.unlink()
            yield listener, path

    real = container._listening
    monkeypatch.setattr(container, "_listening", elsewhere)
    with pytest.raises(InfrastructureError, match="cannot work here: cannot reach the host's socket"):
        make().session.start()


@docker
def test_input_that_is_not_there(make: Callable[..., ContainerFake], tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="/absent is not there"):
        make(readonly=[tmp_path / "absent"]).session.start()


@docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_input_that_the_containers_user_cannot_read(make: Callable[..., ContainerFake], tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    with pytest.raises(InfrastructureError, match="private cannot be read by the container's user 65534; run `chmod"):
        make(readonly=[tmp_path / "private"]).session.start()
    (tmp_path / "private").chmod(0o755)
    (tmp_path / "private" / ".git").mkdir(mode=0o700)  # nobody's input
    (tmp_path / "private" / "gone").symlink_to("/no/such")
    (tmp_path / "private" / "inner").mkdir()
    (tmp_path / "private" / "inner" / "weights").touch(mode=0o600)
    with pytest.raises(InfrastructureError, match=r"inner/weights cannot be .* run `chmod -R o\+rX \S+/private`"):
        make(readonly=[tmp_path / "private"]).session.start()
    (tmp_path / "private" / "inner" / "weights").chmod(0o444)
    make(readonly=[tmp_path / "private"]).session.start()


@docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's jobs are another user's")
def test_a_umask_that_closes_files_to_the_containers_user(make: Callable[..., ContainerFake]) -> None:
    """Objects that are stored while a container runs would be closed to it, and its jobs fail for want of rights."""
    fake = make()
    before = os.umask(0o027)
    try:
        with pytest.raises(
            InfrastructureError, match="the umask 027 keeps files from .* user 65534; run `umask 022` first"
        ):
            fake.session.start()
    finally:
        os.umask(before)
    assert fake.session.start()


@docker
def test_job_outside_the_writable_folder(make: Callable[..., ContainerFake], tmp_path: Path) -> None:
    fake = make()
    fake.session.start()
    with pytest.raises(ValueError, match="the only folder that jobs may write to"):
        fake.session.run("build", {"adapter": "fake"}, tmp_path / "outside", seconds=5, memory=None)


@docker
def test_engine_without_gpus_refuses_with_advice(make: Callable[..., ContainerFake]) -> None:
    if "nvidia" in engine.client().info()["Runtimes"]:
        pytest.skip("this engine has GPUs")
    with pytest.raises(InfrastructureError, match=r"could not select device driver.*NVIDIA Container Toolkit"):
        make(gpus=()).session.start()
    with pytest.raises(InfrastructureError, match=r"refused a container.*nvidia.*; "):
        make(gpus=(), runtime="nvidia").session.start()
    with pytest.raises(InfrastructureError, match=r"refused a container.*cdi.*; "):
        make(gpus=("0",), settings=Docker(gpus="cdi")).session.start()


@docker
def test_long_temporary_folder(
    make: Callable[..., ContainerFake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a unix socket is at most 107 bytes long."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    fake = make()
    fake.session.start()
    assert fake.do("nothing").ok
    assert not list(deep.iterdir())


# The host program ends -------------------------------------------------------------------------------------------------


def _host(folder: Path, image: str, body: str) -> subprocess.Popen[str]:
    return host_script(
        folder,
        "import time\n"
        "from workers.containers import *\n"
        f"fake = ContainerFake(folder, {image!r}, store=folder / 'store')\n"
        "print(fake.mark, flush=True)\n" + body,
    )


HANGS = "fake.session.start()\nfake.do('grandchildren', on_stage=lambda stage: print(stage, flush=True), **{'for': '600'})\n"


@docker
def test_host_killed(tmp_path: Path, image: str) -> None:
    """The container ends by itself and stays until the next run of the same store sweeps it."""
    store = tmp_path / "store"
    labels = store_labels(store, "test")
    killed, living, other = (_host(tmp_path, image, HANGS) for _ in range(2)), None, None
    first, second = killed
    living, foreign = ContainerFake(tmp_path / "living", image, store=store), f"enginematrix-foreign-{os.getpid()}"
    other = ContainerFake(tmp_path / "other", image, store=tmp_path / "another-store")
    try:
        marks = []
        for process in (first, second):
            assert process.stdout
            marks.append(process.stdout.readline().strip())
            while process.stdout.readline() != "build\n":
                pass
        living.session.start()
        other.session.start()
        dockerparts.docker("create", "--name", foreign, "--label", "org.enginematrix.store=else", image, "true")
        assert len(marked(marks[0])) >= 4, "guard, zygote, leader and job"
        assert sweep(engine.client(), store) == 0, "all of this store are alive"

        first.kill()
        first.wait()
        assert gone(marks[0]), "the hang-up of the socket ends the container"
        assert len(left(labels)) == 3
        assert sweep(engine.client(), store) == 1
        assert len(left(labels)) == 2, "that of the other process, and ours"
        assert living.do("nothing").ok
        assert other.do("nothing").ok
        assert marked(marks[1])
        assert dockerparts.docker("ps", "-aq", "--filter", f"name={foreign}")
        assert sweep(engine.client(), store) == 0
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()
        living.session.close()
        other.session.close()
        dockerparts.docker("rm", "-f", foreign)
        time.sleep(2)
        sweep(engine.client(), store)
    assert not left(labels)


@docker
def test_interrupt_while_a_job_runs(tmp_path: Path, image: str) -> None:
    process = _host(
        tmp_path, image,
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with fake.session:\n"
        "        fake.do('hang', on_stage=lambda stage: print(stage, flush=True))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', len(fake.left()), flush=True)\n",
    )  # fmt: skip
    assert process.stdout
    mark = process.stdout.readline().strip()
    while process.stdout.readline() != "build\n":
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "interrupted 0\n"
    assert gone(mark)


@docker
@pytest.mark.parametrize("after", [0.02, 0.05, 0.2, 0.4])
def test_interrupt_while_it_starts(tmp_path: Path, hostile: str, after: float) -> None:
    process = _host(
        tmp_path, hostile,
        "import signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from builder.environment import engine\n"
        "fake.session.imports = ('hangs',)\n"
        "engine.client()\n"
        f"threading.Timer({after}, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    fake.session.start()\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.5)\n"
        "    print('interrupted', len(fake.left()), flush=True)\n",
    )  # fmt: skip
    assert process.stdout
    mark = process.stdout.readline().strip()
    assert process.communicate(timeout=30)[0] == "interrupted 0\n"
    assert gone(mark)


# The engine ends -------------------------------------------------------------------------------------------------------


class Daemon:
    """An engine of our own, to be stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # In a network of its own: with --bridge none it would remove the bridge of the machine's engine.
                ["unshare", "--net", "dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec",
                 "--pidfile", self.folder / "pid", "--host", self.host, "--bridge", "none", "--iptables=false"],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trial:
                trial.connect(f"{self.folder}/docker.sock")
                return
            assert time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=60)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("starting an engine needs dockerd and root")
    folder = Path(tempfile.mkdtemp(prefix="em-dockerd-", dir="/tmp"))
    daemon = Daemon(folder)
    daemon.start()
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    # docker-py leaves a socket to the garbage collector when it cannot connect.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield daemon
        gc.collect()
    daemon.stop()
    shutil.rmtree(folder, ignore_errors=True)


@docker
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_engine_that_is_stopped_and_started_in_the_middle(daemon: Daemon, tmp_path: Path) -> None:
    dockerparts.docker("import", str(dockerparts.rootfs("bookworm")), "plain")
    fake = ContainerFake(tmp_path, "plain")
    fake.session.start()
    assert fake.do("nothing").ok
    threading.Timer(0.3, daemon.stop).start()
    started = time.monotonic()
    end = fake.do("hang", seconds=120)
    assert time.monotonic() - started < 40
    assert end.end["note"].startswith("the worker itself ended while the job ran"), "no evidence"
    assert end.output is None
    assert gone(fake.mark)
    assert daemon.process
    daemon.process.wait(timeout=60)

    started = time.monotonic()
    fake.session.close()
    assert time.monotonic() - started < 15
    with pytest.raises(InfrastructureError):
        fake.session.start()
    with pytest.raises(InfrastructureError, match="did not list its containers"):
        sweep(engine.client(), tmp_path)

    daemon.start()
    fake.session.start()
    assert fake.do("nothing").ok
    # The first container could not be removed while the engine was away; we are alive, so it is a later run's to sweep.
    fake.session.close()
    assert len(fake.left()) <= 1


@docker
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_engine_that_is_stopped_between_jobs(daemon: Daemon, tmp_path: Path) -> None:
    dockerparts.docker("import", str(dockerparts.rootfs("bookworm")), "plain")
    fake = ContainerFake(tmp_path, "plain")
    fake.session.start()
    daemon.stop()
    until = time.monotonic() + 30
    while fake.session.alive and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(WorkerDied, match="not running"):
        fake.do("nothing")
    fake.session.close()


@docker
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_engine_that_hangs(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job needs no engine once its worker runs, and closing waits for none for long."""
    monkeypatch.setattr(container, "CLEANUP", 1)
    monkeypatch.setattr(session, "KILL", 2.0)
    dockerparts.docker("import", str(dockerparts.rootfs("bookworm")), "plain")
    fake = ContainerFake(tmp_path, "plain")
    fake.session.start()
    engine.client(1)
    assert daemon.process
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        assert fake.do("nothing").ok
        started = time.monotonic()
        fake.session.close(timeout=2)
        assert time.monotonic() - started < 15
    finally:
        daemon.process.send_signal(signal.SIGCONT)
