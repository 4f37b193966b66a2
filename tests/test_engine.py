"""Finding the Docker engine and the command that builds."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dockerparts
import pytest

from builder.environment import engine
from builder.environment.engine import Cli, DockerMissing, Endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nothing of this machine's Docker, but for the tests that need it."""
    if request.node.get_closest_marker("docker") is None:
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
        monkeypatch.setattr(engine, "DEFAULT_SOCKET", str(tmp_path / "usual.sock"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose paths are short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="em-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def silent(folder: Path) -> Iterator[Path]:
    """A socket that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "docker.sock"))
        listener.listen(5)
        yield folder / "docker.sock"


def context(folder: Path, name: str, host: str) -> None:
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    (folder / "config.json").write_text("{}")


# The engine ----------------------------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    assert not engine.available()
    with pytest.raises(DockerMissing, match=r"usual\.sock \(the usual socket\) is not there; install Docker"):
        engine.client()


def test_docker_host_comes_first(monkeypatch: pytest.MonkeyPatch, silent: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{silent}")
    assert engine.endpoint() == Endpoint(host=f"unix://{silent}", source="DOCKER_HOST")
    assert engine.available()
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")
    assert not engine.available()
    monkeypatch.setenv("DOCKER_HOST", "tcp://engine.example.com:2376")
    assert engine.available(), "it cannot be told without a call"


def test_context_of_the_variable_goes_over_docker_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silent: Path
) -> None:
    context(tmp_path / "config", "mine", f"unix://{silent}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    assert engine.endpoint() == Endpoint(host=f"unix://{silent}", source="the Docker context 'mine'", context="mine")


def test_current_context(tmp_path: Path, silent: Path) -> None:
    context(tmp_path / "config", "mine", f"unix://{silent}")
    assert not engine.available()
    (tmp_path / "config" / "config.json").write_text('{"currentContext": "mine"}')
    assert engine.available()
    assert engine.endpoint().context == "mine"


@pytest.mark.parametrize("text", ["not json", "[]", '{"currentContext": null}', '{"currentContext": "default"}'])
def test_configuration_without_a_context(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(text)
    assert engine.endpoint().source == "the usual socket"


def test_without_home_the_folder_at_hand_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context(tmp_path / ".docker", "theirs", "tcp://elsewhere.example.com:2376")
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "theirs"}')
    for name in ("DOCKER_CONFIG", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", str(tmp_path / "home")))
    assert engine.endpoint().source == "the usual socket"


def test_context_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    assert not engine.available()
    with pytest.raises(
        DockerMissing, match="there is no Docker context 'gone' \\(DOCKER_CONTEXT\\); `docker context ls`"
    ):
        engine.client()


def test_context_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context(tmp_path / "config", "torn", "unix:///x")
    next((tmp_path / "config").rglob("meta.json")).write_text("{")
    monkeypatch.setenv("DOCKER_CONTEXT", "torn")
    with pytest.raises(DockerMissing, match="'torn' \\(DOCKER_CONTEXT\\) cannot be read"):
        engine.client()


def test_rootless_socket(monkeypatch: pytest.MonkeyPatch, silent: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(silent.parent))
    assert engine.endpoint().host == f"unix://{silent}"
    assert engine.available()


def test_usual_socket_goes_over_the_rootless_one(monkeypatch: pytest.MonkeyPatch, silent: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setattr(engine, "DEFAULT_SOCKET", str(silent))
    assert engine.endpoint().source == "the usual socket"


def test_engine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, silent: Path) -> None:
    monkeypatch.setattr(engine, "PING", 0.3)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{silent}")
    with pytest.raises(DockerMissing, match=r"docker\.sock \(DOCKER_HOST\) does not answer within 0\.3 s"):
        engine.client()


def test_engine_that_has_ended(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "docker.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
    assert engine.available()
    with pytest.raises(DockerMissing, match="nothing listens at .*; start the engine"):
        engine.client()


def test_no_permission(monkeypatch: pytest.MonkeyPatch, silent: Path) -> None:
    silent.chmod(0o600)
    silent.parent.chmod(0o755)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{silent}")
    if os.geteuid() != 0:
        silent.chmod(0)
        with pytest.raises(DockerMissing, match=r"no permission .*`sudo usermod -aG docker \$USER`"):
            engine.client()
        return
    os.seteuid(65534)
    try:
        with pytest.raises(DockerMissing, match=r"no permission .*`sudo usermod -aG docker \$USER`"):
            engine.client()
    finally:
        os.seteuid(0)


def test_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "what://is-this")
    with pytest.raises(DockerMissing, match="what://is-this \\(DOCKER_HOST\\)"):
        engine.client()


def test_engine_over_tcp_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    port = dockerparts.free_port()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    with pytest.raises(DockerMissing, match=f"nothing listens at tcp://127.0.0.1:{port}"):
        engine.client()


@pytest.mark.docker
def test_client_is_made_once() -> None:
    assert engine.available()
    client = engine.client()
    assert client.ping()
    assert client is engine.client()
    assert client.api.timeout == engine.CALL


def test_what_is_asked_before_any_engine_is_needs_no_docker_py() -> None:
    """`plan` and the venv way pay nothing for Docker."""
    code = (
        "import sys; from builder.environment import engine; engine.available(); engine.platform(); "
        "print('docker' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The command -----------------------------------------------------------------------------------------------------------


def command(folder: Path, name: str, *, version: str = "", buildx: str = "", secret: bool = False) -> Path:
    """A folder with a `docker` that answers so."""
    path = folder / name / "docker"
    path.parent.mkdir()
    path.write_text(
        f"""#!/bin/sh
case "$1" in
  --version) echo '{version}' ;;
  buildx) {f"echo '{buildx}'" if buildx else "exit 1"} ;;
  build) echo '--tag' {'"$([ "$DOCKER_BUILDKIT" = 1 ] && echo --secret)"' if secret else ""} ;;
esac
"""
    )
    path.chmod(0o755)
    return path.parent


BUILDX = "github.com/docker/buildx v0.13.1 788433953"
OLD = "Docker version 20.10.24+dfsg1, build 297e128"
NEW = "Docker version 28.2.2, build e6534b4"


def on_path(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), "/usr/bin:/bin"]))


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`docker` of this machine is on no PATH of these tests."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "echo", "sleep"):
        (tools / name).symlink_to(f"/bin/{name}")
    monkeypatch.setattr(sys.modules[__name__], "on_path", lambda patch, *folders: patch.setenv(
        "PATH", os.pathsep.join(map(str, [*folders, tools]))
    ))  # fmt: skip


@pytest.mark.usefixtures("no_docker")
class TestCommand:
    def test_buildx(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        found = command(tmp_path, "a", version=NEW, buildx=BUILDX)
        on_path(monkeypatch, found)
        assert engine.builder_cli() == Cli(f"{found}/docker", True)

    def test_one_without_stands_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        new = command(tmp_path, "a", version=NEW)
        old = command(tmp_path, "b", version=OLD, secret=True)
        on_path(monkeypatch, new, old)
        assert engine.builder_cli() == Cli(f"{old}/docker", False)

    def test_buildx_goes_over_a_builtin_one_before_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        old = command(tmp_path, "a", version=OLD, secret=True)
        new = command(tmp_path, "b", version=NEW, buildx=BUILDX)
        on_path(monkeypatch, old, new)
        assert engine.builder_cli() == Cli(f"{new}/docker", True)

    def test_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        on_path(monkeypatch, tmp_path)
        with pytest.raises(DockerMissing, match="no `docker` command on PATH; install Docker"):
            engine.builder_cli()

    def test_a_folder_that_cannot_be_looked_into(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Root's own after `su`. Root itself may look everywhere, so here it is a name that no file system takes."""
        found = command(tmp_path, "a", version=NEW, buildx=BUILDX)
        on_path(monkeypatch, tmp_path / ("x" * 300), found)
        assert engine.builder_cli() == Cli(f"{found}/docker", True)

    def test_each_says_what_it_lacks(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        folders = [
            command(tmp_path, "new", version=NEW),
            # A newer client with the option, whose builder is in the plugin that it lacks.
            command(tmp_path, "newer", version=NEW, secret=True),
            command(tmp_path, "ancient", version="Docker version 18.03.1-ce, build 9ee9f40"),
            command(tmp_path, "podman", version="podman version 5.4.0", buildx="buildah 1.39.0"),
        ]
        broken = tmp_path / "broken" / "docker"
        broken.parent.mkdir()
        broken.write_text("#!/no/such/interpreter\n")
        broken.chmod(0o755)
        on_path(monkeypatch, *folders, broken.parent)
        with pytest.raises(DockerMissing) as caught:
            engine.builder_cli()
        assert str(caught.value).replace(str(tmp_path), "") == (
            "no `docker` command on PATH can build with BuildKit:\n"
            "    /new/docker: no buildx plugin, no BuildKit of its own (version 28; from 23 on it is in the plugin)\n"
            "    /newer/docker: no buildx plugin, no BuildKit of its own (version 28; from 23 on it is in the plugin)\n"
            "    /ancient/docker: no buildx plugin, no BuildKit (version 18: `docker build` has no --secret)\n"
            "    /podman/docker: its buildx is not Docker's (buildah 1.39.0), does not tell a version of Docker (podman version "
            "5.4.0)\n"
            "    /broken/docker: no buildx plugin, does not tell a version of Docker (No such file or directory)\n"
            + engine.INSTALL_BUILDX
        )

    def test_one_that_hangs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        hangs = tmp_path / "a" / "docker"
        hangs.parent.mkdir()
        hangs.write_text("#!/bin/sh\nexec sleep 60\n")
        hangs.chmod(0o755)
        monkeypatch.setattr(engine, "COMMAND", 0.2)
        on_path(monkeypatch, hangs.parent)
        with pytest.raises(DockerMissing, match="does not tell a version of Docker \\(TimeoutExpired\\)"):
            engine.builder_cli()

    def test_same_command_twice_on_path(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        found = command(tmp_path, "a", version=NEW)
        (tmp_path / "b").symlink_to(found)
        on_path(monkeypatch, found, tmp_path / "b")
        with pytest.raises(DockerMissing) as caught:
            engine.builder_cli()
        assert str(caught.value).count("no buildx plugin") == 1


@pytest.mark.docker
def test_the_command_of_this_machine_builds() -> None:
    found = engine.builder_cli()
    assert found.buildx or found.path == dockerparts.cli()


# Layers ----------------------------------------------------------------------------------------------------------------


def test_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, name in (("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("riscv64", "riscv64")):
        monkeypatch.setattr(engine.python_platform, "machine", lambda machine=machine: machine)
        assert engine.platform() == f"linux/{name}"


def test_chain_ids() -> None:
    a, b, c = (f"sha256:{letter * 64}" for letter in "abc")
    ab = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    abc = "sha256:" + hashlib.sha256(f"{ab} {c}".encode()).hexdigest()
    assert engine.chain_ids([a, b, c]) == (a, ab, abc)
    assert engine.chain_ids([]) == ()
    assert engine.chain_ids([a, c])[1] != engine.chain_ids([b, c])[1], "the same layer on another one is another"


@pytest.mark.docker
def test_present_layers() -> None:
    client = engine.client()
    base = dockerparts.base("bookworm")
    image = dockerparts.derived(base, files={"/etc/one": "1"}, run="echo 2 > /etc/two")
    layers = client.api.inspect_image(image)["RootFS"]["Layers"]
    assert len(layers) == 3
    found = engine.present_layers(client)
    assert found.issuperset(engine.chain_ids(layers))
    assert layers[1] not in found, "that layer is there, but on top of another"
    # What the engine itself calls its layers, where it keeps them so.
    kept = Path(client.info()["DockerRootDir"], "image", client.info()["Driver"], "layerdb", "sha256")
    if os.access(kept, os.R_OK):
        assert {name.removeprefix("sha256:") for name in engine.chain_ids(layers)} <= set(os.listdir(kept))
