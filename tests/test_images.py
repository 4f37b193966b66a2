"""Images: what BuildKit is given and asked, what it is lent and must not keep, what its failures mean, and what becomes of
images that were built."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dockerparts
import imageparts
import pytest
import tomllib
from imageparts import ROOT

from builder.environment import Place, build_context, build_log, buildkit, buildsecrets, engine, images, rebuild, uv
from builder.environment.build_log import ImageError, failure
from builder.environment.finished import promised_labels, promised_versions
from builder.environment.images import DockerImage
from builder.errors import InfrastructureError, UsageError
from builder.lock import Pins
from builder.store import Store

docker = pytest.mark.docker
ZERO = "sha256:" + "0" * 64


# The build context -----------------------------------------------------------------------------------------------------


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return imageparts.templates(tmp_path / "images")


@pytest.fixture
def lonely(tmp_path: Path, templates: Path) -> DockerImage:
    """An image that no engine was asked for."""
    pin, sha = imageparts.wheel(tmp_path / "wheels", "tiny", "1.0")
    return imageparts.image(tmp_path / "store", imageparts.rendered(templates, ZERO, {pin: sha}), "127.0.0.1:1")


def test_context_is_what_was_rendered_with_uv_and_wheels(
    tmp_path: Path, lonely: DockerImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", f"/nowhere,{tmp_path / 'wheels'}")
    imageparts.wheel(tmp_path / "wheels", "tiny", "2.0")  # another version, which nobody locked
    root = build_context.complete(lonely.store, lonely.rendered)
    assert root == tmp_path / "store" / "images" / "tiny-1.0-py3.11"
    assert (root / "Dockerfile").read_text() == lonely.rendered.dockerfile
    for name, text in lonely.rendered.files.items():
        assert (root / name).read_text() == text
        assert (root / name).stat().st_mode & 0o777 == 0o644
    assert os.access(root / "uv", os.X_OK)
    found = [str(path.relative_to(root)) for path in root.glob("wheels/**/*.whl")]
    assert found == ["wheels/own/tiny-1.0-py3-none-any.whl"]


def test_context_that_is_right_is_left_alone(lonely: DockerImage) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in build_context.complete(lonely.store, lonely.rendered).rglob("*")
    }
    root = build_context.complete(lonely.store, lonely.rendered)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_all_images_may_be_kept_elsewhere(lonely: DockerImage, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (lonely.folder.parent).symlink_to(tmp_path / "big")
    assert (lonely.write() / "Dockerfile").read_text() == lonely.rendered.dockerfile
    assert (tmp_path / "big" / lonely.name / "Dockerfile").is_file()


@pytest.mark.parametrize("name", ["Dockerfile", "check.py", "requirements", "wheels", "wheels/own"])
def test_a_link_in_a_context_leads_nowhere(lonely: DockerImage, tmp_path: Path, name: str) -> None:
    """Whoever keeps wheels of his own there finds them again: nothing behind a link is written or removed."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "other-1.0-py3-none-any.whl").write_text("mine")
    link = lonely.folder / name
    link.parent.mkdir(parents=True)
    link.symlink_to(mine)
    with pytest.raises(
        InfrastructureError, match=f"{name}: a symbolic link, where a build context has none; remove it"
    ):
        build_context.complete(lonely.store, lonely.rendered)
    assert [path.name for path in mine.rglob("*")] == ["other-1.0-py3-none-any.whl"]


def test_a_umask_changes_no_layer(lonely: DockerImage) -> None:
    """Modes are part of what BuildKit knows a mounted file or folder by."""
    before = os.umask(0o077)
    try:
        root = build_context.complete(lonely.store, lonely.rendered)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (root / "wheels").iterdir()}
    assert modes == {0o755}
    assert {(root / name).stat().st_mode & 0o777 for name in lonely.rendered.files} == {0o644}


def test_uv_stands_in_many_contexts_once(tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        imageparts.rendered(templates, ZERO, {f"tiny=={v}": ZERO}, of=imageparts.stack(v))
        for v in ("1.0", "1.1", "1.2")
    ]
    store = Store(tmp_path / "store")
    assert len({(build_context.complete(store, it) / "uv").stat().st_ino for it in found}) == 1

    def refuse(*_: object) -> None:  # another file system
        raise OSError(18, "Invalid cross-device link")

    linked = Path.hardlink_to
    source = Path(build_context.interpreters.uv_binary()).resolve()
    monkeypatch.setattr(Path, "hardlink_to", lambda self, to: refuse() if Path(to) == source else linked(self, to))
    store = Store(tmp_path / "other")
    nodes = {(build_context.complete(store, it) / "uv").stat().st_ino for it in found}
    assert len(nodes) == 1 and source.stat().st_ino not in nodes


def test_only_locked_wheels_with_their_hash_are_taken(tmp_path: Path) -> None:
    pin, sha = imageparts.wheel(tmp_path, "one_thing", "1.0")
    other, _ = imageparts.wheel(tmp_path, "changed", "1.0")
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl").write_bytes(b"arm")
    (tmp_path / "not a wheel.whl").write_bytes(b"")
    torch = "sha256:" + __import__("hashlib").sha256(b"arm").hexdigest()
    pins = Pins(
        python="3.11", requirements=(), packages=("One.Thing==1.0", other, "torch==2.13.0+cpu"),
        hashes={"One.Thing==1.0": (ZERO, sha), other: (ZERO,), "torch==2.13.0+cpu": (torch,)},
    )  # fmt: skip
    env = {"UV_FIND_LINKS": f"https://example.com/wheels,{tmp_path}"}
    assert [name for name, _ in build_context.wheels(pins, env, "linux/amd64")] == ["one_thing-1.0-py3-none-any.whl"]
    assert len(list(build_context.wheels(pins, env, "linux/arm64"))) == 2
    assert list(build_context.wheels(pins, {}, "linux/amd64")) == []
    assert pin == "one_thing==1.0"


def test_uv_of_another_processor(tmp_path: Path) -> None:
    arm = tmp_path / "uv"
    arm.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\x00\xb7\x00" + b"\0" * 40)
    build_context.check_architecture(arm, "linux/arm64")
    with pytest.raises(
        InfrastructureError, match=r"image is for linux/amd64, .* uv \(uv\) for linux/arm64; build it on"
    ):
        build_context.check_architecture(arm, "linux/amd64")
    arm.write_bytes(b"#!/bin/sh")
    with pytest.raises(InfrastructureError, match="for something else"):
        build_context.check_architecture(arm, "linux/amd64")


def test_ready_by_files_alone(lonely: DockerImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "builder_cli", lambda: pytest.fail("a command was looked for"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert not lonely.ready()
    lonely.write()
    assert not lonely.ready()
    lonely.remember({"key": lonely.key, "id": "sha256:1"})
    assert lonely.ready() and lonely.make() == {"key": lonely.key, "id": "sha256:1", "reused": True}
    lonely.remember({"key": "another", "id": "sha256:1"})
    assert not lonely.ready()
    (lonely.folder / "image.json").write_text('{"key": ')
    assert not lonely.ready()
    lonely.remember({"key": lonely.key, "id": "sha256:1"})
    lonely.discard()
    assert not lonely.ready()


def test_target_gets_mirror_and_epoch(lonely: DockerImage, tmp_path: Path) -> None:
    target = lonely.target(tmp_path)
    assert target.args == {"REGISTRY": "127.0.0.1:1", "SOURCE_DATE_EPOCH": "1795132800"}
    assert target.tag == f"enginematrix/tiny:{lonely.key[:16]}"


# What BuildKit is asked ------------------------------------------------------------------------------------------------


def test_bake_file(tmp_path: Path) -> None:
    target = buildkit.Target(
        name="a.b+c", context=tmp_path, dockerfile=tmp_path / "Dockerfile", tag="t:1", platform="linux/amd64",
        args={"X": "${oops}%{if}"},
    )  # fmt: skip
    options = buildkit.Options(
        network="host", secrets=buildsecrets.Secrets(files={"netrc": Path("/a,b/n")}), fresh=True
    )
    data = buildkit.bake_file([target, target], options, {"https_proxy": "http://u:p@proxy:1"})
    assert list(data["services"]) == ["a-b-c-0", "a-b-c-1"]
    assert data["services"]["a-b-c-1"] == {
        "build": {
            "context": str(tmp_path), "dockerfile": str(tmp_path / "Dockerfile"), "network": "host",
            "args": {"X": "$${oops}%{if}", "https_proxy": "http://u:p@proxy:1"},
            "x-bake": {
                "tags": ["t:1"], "platforms": ["linux/amd64"], "secret": ['id=netrc,"src=/a,b/n"'], "no-cache": True,
            },
        }
    }  # fmt: skip


@docker
def test_bake_understands_its_file(tmp_path: Path) -> None:
    cli = engine.builder_cli()
    if not cli.buildx:
        dockerparts.lacking("no docker command with buildx")
    (tmp_path / "a,b").write_text("")
    target = buildkit.Target(
        name="a.b+c", context=tmp_path, dockerfile=tmp_path / "Dockerfile", tag="t:1", platform="linux/arm64",
        args={"X": "${oops}$%{if}"},
    )  # fmt: skip
    options = buildkit.Options(network="host", secrets=buildsecrets.Secrets(files={"x": tmp_path / "a,b"}), fresh=True)
    text = json.dumps(buildkit.bake_file([target], options, {}))
    done = subprocess.run(
        [cli.path, "buildx", "bake", "--print", "-f", "-"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["target"]["a-b-c-0"]
    assert found["args"] == {"X": "${oops}$%{if}"} and found["tags"] == ["t:1"] and found["no-cache"] is True
    assert found["platforms"] == ["linux/arm64"] and found["context"] == str(tmp_path)
    assert found["secret"] == [f'id=x,"src={tmp_path}/a,b"']


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; echo started; wait"
    options = buildkit.Options(timeout=0.5)
    started = time.monotonic()
    with pytest.raises(buildkit.TimedOut, match=r"took longer than 0\.5 s"):
        buildkit.run(["/bin/sh", "-c", script], options=options, log=tmp_path / "log")
    assert time.monotonic() - started < buildkit.STOPPING
    assert (tmp_path / "log").read_text() == "started\n"
    assert gone(int(child.read_text()))


def gone(pid: int) -> bool:
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    child = tmp_path / "child"
    program = f"""
        import signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from builder.environment import buildkit
        buildkit.run(["/bin/sh", "-c", "echo $$ > {child}; sleep 60; true"], options=buildkit.Options())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.DEVNULL)
    while not child.exists() or not child.read_text():
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(20)
    assert gone(int(child.read_text()))


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(InfrastructureError, match="/nowhere/docker cannot be started"):
        buildkit.run(["/nowhere/docker", "build"], options=buildkit.Options())


# What a build is lent --------------------------------------------------------------------------------------------------


def lent(**environ: str) -> Any:
    return buildsecrets.lent(environ)


def test_secrets_are_the_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("certificate")
    (tmp_path / ".netrc").write_text("machine example.com login me password fakepassword\n")
    with lent(SSL_CERT_FILE=str(tmp_path / "ca.crt"), HOME=str(tmp_path)) as found:
        assert found.files == {"certificates": tmp_path / "ca.crt", "netrc": tmp_path / ".netrc"}
        assert found.hide("a fakepassword here") == "a *** here"
    with lent(SSL_CERT_FILE=str(tmp_path), NETRC="/nowhere", HOME=str(tmp_path)) as found:
        assert found.files == {}


@pytest.mark.parametrize(
    "password", ["fake-pass", "fake%2Fpass", "fake\"pa'ss", "fake@pa@ss", "fake:pass", "fake$X`y`pass"]
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "UV_EXTRA_INDEX_URL", "WHATEVER"])
def test_a_password_in_any_address_is_hidden(name: str, password: str, tmp_path: Path) -> None:
    address = f"http://me:{password}@proxy.example.com:3128/"
    with lent(HOME=str(tmp_path), **{name: address}) as found:
        for line in (f"{name}={address}", f"login with {password}", f"decoded {urllib.parse.unquote(password)}!"):
            hidden = found.hide(line)
            assert "fake" not in hidden and "ss@" not in hidden and "pass" not in hidden.replace("password", ""), hidden


def test_a_home_that_cannot_be_looked_into_lends_nothing(tmp_path: Path) -> None:
    """Root's own after `su`. Root itself may look everywhere, so here it is a name that no file system takes."""
    home = str(tmp_path / ("x" * 300))
    with lent(HOME=home, SSL_CERT_FILE=f"{home}/ca.crt") as found:
        assert found.files == {}


def test_generated_configuration_is_for_us_alone_and_goes(tmp_path: Path) -> None:
    with lent(HOME=str(tmp_path), UV_INDEX_URL="https://me:fakepassword@example.com/simple") as found:
        config = found.files["uv-config"]
        assert config.stat().st_mode & 0o777 == 0o600
        assert tomllib.loads(config.read_text()) == {
            "index": [{"url": "https://me:fakepassword@example.com/simple", "default": True}]
        }
        assert "fakepassword" not in found.hide("GET https://me:fakepassword@example.com/simple, fakepassword")
    assert not config.exists()


@pytest.mark.parametrize(
    ("environ", "own", "wanted"),
    [
        ({}, "", {}),
        ({}, "native-tls = true\n", {"native-tls": True}),
        ({"PIP_INDEX_URL": "https://p/simple"}, "", {"index": [{"url": "https://p/simple", "default": True}]}),
        ({"PIP_INDEX_URL": "https://p/simple"}, "native-tls = true\n", {"native-tls": True}),  # uv has its own
        (
            {"UV_DEFAULT_INDEX": "https://u/simple", "UV_INDEX_URL": "https://old/", "PIP_INDEX_URL": "https://p/simple"},
            'index-url = "https://f/simple"\nnative-tls = true\n[[index]]\nurl = "https://g/"\ndefault = true\n',
            {"native-tls": True, "index": [{"url": "https://u/simple", "default": True}]},
        ),
        (
            {
                "UV_INDEX": "corp=https://c/simple https://d/simple",
                "UV_INDEX_CORP_USERNAME": "me", "UV_INDEX_CORP_PASSWORD": "p/w",
            },
            '[[index]]\nname = "mine"\nurl = "https://g/"\nexplicit = true\n[pip]\nno-build = true\n',
            {
                "index": [
                    {"name": "corp", "url": "https://me:p%2Fw@c/simple"}, {"url": "https://d/simple"},
                    {"name": "mine", "url": "https://g/", "explicit": True},
                ],
                "pip": {"no-build": True},
            },
        ),
        (
            {"UV_INDEX_MINE_USERNAME": "me", "UV_INDEX_MINE_PASSWORD": "pw"},  # for an index that the file names
            '[[index]]\nname = "mine"\nurl = "https://g/"\n',
            {"index": [{"name": "mine", "url": "https://me:pw@g/"}]},
        ),
        (
            {"UV_INSECURE_HOST": "a:80 b", "UV_INDEX_STRATEGY": "unsafe-best-match"}, 'allow-insecure-host = ["c"]\n',
            {"allow-insecure-host": ["a:80", "b", "c"], "index-strategy": "unsafe-best-match"},
        ),
    ],
)  # fmt: skip
def test_uv_configuration(tmp_path: Path, environ: Mapping[str, str], own: str, wanted: Mapping[str, Any]) -> None:
    folder = tmp_path / ".config" / "uv"
    folder.mkdir(parents=True)
    if own:
        (folder / "uv.toml").write_text(own)
    assert tomllib.loads(buildsecrets.uv_config(environ, tmp_path)) == wanted


def test_generated_configuration_is_one_that_uv_reads(tmp_path: Path) -> None:
    environ = {
        "UV_INDEX": 'odd-name=https://c/si"mple',
        "UV_DEFAULT_INDEX": "https://u/simple",
        "UV_INSECURE_HOST": "a:80",
    }
    (tmp_path / "uv.toml").write_text(buildsecrets.uv_config(environ, tmp_path))
    done = subprocess.run(
        [build_context.interpreters.uv_binary(), "--config-file", tmp_path / "uv.toml", "--offline", "pip", "compile", "-"],
        input="", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("index-url = ")
    with pytest.raises(InfrastructureError, match=r"uv\.toml: not TOML"):
        buildsecrets.uv_config({"UV_CONFIG_FILE": str(tmp_path / "uv.toml"), "UV_INDEX_URL": "https://u/"}, tmp_path)
    with pytest.raises(InfrastructureError, match=r"gone\.toml: cannot be read"):
        buildsecrets.uv_config({"UV_CONFIG_FILE": str(tmp_path / "gone.toml")}, tmp_path)


# What failures mean ----------------------------------------------------------------------------------------------------


def step(*printed: str, code: int = 1) -> str:
    """The log of a build whose only step printed this, as BuildKit of 20.10 writes it."""
    lines = [f"#5 0.{number:03} {line}" for number, line in enumerate(printed)]
    ended = f"executor failed running [/bin/sh /mnt/enginematrix/environment.sh create]: exit code: {code}"
    return "\n".join(
        ["#4 [1/2] FROM x", "#4 CACHED", "", "#5 [2/2] RUN x", *lines, f"#5 ERROR: {ended}", "------",
         " > [2/2] RUN x:", *lines, "------", ended, ""]
    )  # fmt: skip


def pull(text: str) -> str:
    ended = f"failed to solve with frontend dockerfile.v0: failed to create LLB definition: {text}"
    return f"#3 [internal] load metadata for x\n#3 ERROR: {text}\n------\n > [internal] load metadata for x:\n------\n{ended}\n"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (step("ok: python 3.11.2 (/usr/bin/python3), promised 3.11", "wrong: cuda 12.2 (CUDA_VERSION), promised 12.4", "ok: x 1"),
         ImageError, "wrong: cuda 12.2 (CUDA_VERSION), promised 12.4"),
        (step("no Python in the image: none of python3, python3.11, python3 on its PATH (/bin)"), ImageError,
         "no Python in the image"),
        (step("Using Python 3.11.2 environment at: /opt", "error: No solution found when resolving dependencies",
              "  cause: Because nosuch was not found in the package registry and you require nosuch==1.0, we can conclude that "
              "your requirements are unsatisfiable."),
         ImageError, "Because nosuch was not found"),
        (step("error: Failed to fetch: https://x/simple/", "  cause: error sending request for url (https://x/simple/)",
              "  cause: Connection refused (os error 111)"), InfrastructureError, "error sending request"),
        (step("error: failed to write to file", "  cause: No space left on device (os error 28)"), InfrastructureError,
         "No space left"),
        (step("exec /usr/bin/python3: exec format error"), ImageError, "exec format error"),
        (step("/bin/sh: 1: python3: Exec format error", code=126), ImageError, "Exec format error"),
        (step("runc run failed: unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory"),
         ImageError, "no such file or directory"),
        (step("strange", "last words", code=3), ImageError, "last words"),
        (step(code=4), ImageError, "exit code 4 without a message"),
        (step("Resolved 1 package", "Killed", code=137), InfrastructureError, "killed, most likely for want of memory"),
        (pull(f"127.0.0.1:5/nvidia/tensorrt@{ZERO}: not found"), ImageError, "nvidia/tensorrt@sha256:0"),
        (pull('failed to do request: Head "http://127.0.0.1:5/v2/": dial tcp 127.0.0.1:5: connect: connection refused'),
         InfrastructureError, "connection refused"),
        (pull("pulling from host r failed with status code [manifests 2]: 401 Unauthorized"), InfrastructureError,
         "docker login"),
        (pull("something new"), InfrastructureError, "something new"),
        ("#5 ERROR: write /var/lib/docker/overlay2/x: no space left on device\n------\nwrite /x: no space left on device\n",
         InfrastructureError, "no space left on device"),
        ("#5 [2/2] RUN sleep 6\nERROR: failed to solve: Unavailable: error reading from server: EOF\n", InfrastructureError,
         "error reading from server: EOF"),
        ("#4 [2/2] RUN sleep 6\nunexpected EOF\n", InfrastructureError, "unexpected EOF"),
        ("failed to dial gRPC: cannot connect to the Docker daemon. Is 'docker daemon' running on this host?: dial unix "
         "/var/run/docker.sock: connect: permission denied\n", InfrastructureError, "permission denied; add yourself to the gr"),
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?\n", InfrastructureError,
         "Cannot connect to the Docker daemon"),
        ("", InfrastructureError, "ended without a message"),
        # BuildKit of 23 and newer
        ('#8 [2/3] RUN x\n#8 0.1 wrong: cuda 1 (x), promised 2\n'
         '#8 ERROR: process "/bin/sh x" did not complete successfully: exit code: 1\n------\n > [2/3] RUN x:\n'
         '0.1 wrong: cuda 1 (x), promised 2\n------\nDockerfile:3\n--------------------\n   3 | >>> RUN x\n'
         '--------------------\nERROR: failed to solve: process "/bin/sh x" did not complete successfully: exit code: 1\n',
         ImageError, "wrong: cuda 1"),
    ],
)  # fmt: skip
def test_what_a_failed_build_means(text: str, kind: type[Exception], said: str) -> None:
    error = failure("tiny-1.0", text)
    assert isinstance(error, kind) and isinstance(error, ImageError) == (kind is ImageError), error
    assert str(error).startswith("tiny-1.0: ") and said in str(error) and "\n" not in str(error)
    if isinstance(error, ImageError):
        assert error.text == text and isinstance(error, uv.PackageError)


def test_steps_that_others_failures_ended_are_no_failures() -> None:
    text = "#7 0.1 wrong: a 1 (x), promised 2\n#7 ERROR: context canceled\n#8 0.1 no Python here\n#8 ERROR: y: exit code: 1\n"
    assert build_log.steps(text) == (["no Python here"], ["y: exit code: 1"])


# What is in images -----------------------------------------------------------------------------------------------------


def test_promises_are_read_from_the_dockerfile(templates: Path) -> None:
    it = imageparts.rendered(
        templates,
        ZERO,
        of=imageparts.stack(cuda="12.4.1"),
        kind=imageparts.family(checks={"python": "python", "cuda": "cuda"}),
    )
    assert promised_versions(it.dockerfile) == ["--python", "3.11", "--cuda", "12.4.1"]
    labels = promised_labels(it.dockerfile)
    assert labels["org.enginematrix.cuda"] == "12.4.1" and labels["org.opencontainers.image.base.digest"] == ZERO
    assert promised_labels('FROM x\nLABEL a="1" \\\n      b.c="say \\"\\$x\\\\\\""') == {"a": "1", "b.c": 'say "$x\\"'}


def entry(**changes: Any) -> rebuild.Entry:
    values = {
        "kind": "file",
        "size": 1,
        "mode": "rw-r--r--",
        "owner": "0:0",
        "mtime": 1.0,
        "target": "",
        "sha256": "a",
        "more": "",
    }
    return rebuild.Entry(**{**values, **changes})  # type: ignore[arg-type]


def test_files_that_differ_are_named() -> None:
    found = rebuild.differences(
        3, {"a": entry(), "b": entry(), "c": entry()}, {"a": entry(), "b": entry(sha256="b", size=2), "d": entry()}
    )
    assert [(file.path, file.what) for file in found] == [
        ("b", "size 1, 2; content"), ("c", "only in the first"), ("d", "only in the second"),
    ]  # fmt: skip
    assert [file.what for file in rebuild.differences(1, {"a": entry()}, {"a": entry()})] == [
        "the same files, packed in another order or form"
    ]


# A real engine ---------------------------------------------------------------------------------------------------------

PASSWORD = "fakepassword-of-the-index"


class Parts:
    """A registry with a base image, and an index with `tiny` in several versions and `dep`."""

    def __init__(self, folder: Path) -> None:
        self.registry = dockerparts.Registry(folder / "registry")
        self.manifest = self.registry.push(dockerparts.base("bookworm"), "nvidia/tiny:24.05")
        self.index = imageparts.Index(folder / "wheels", f"me:{PASSWORD}")
        self.hashes = dict(
            imageparts.wheel(folder / "wheels", name, version)
            for name, version in (("dep", "1.0"), *(("tiny", f"1.{number}") for number in range(6)))
        )
        self.templates = imageparts.templates(folder / "images")

    def image(self, store: Path, number: int = 0, *, manifest: str = "", **options: Any) -> DockerImage:
        it = options.pop("of", None) or imageparts.stack(f"1.{number}")
        kind = options.pop("kind", None) or imageparts.family()
        pins = {name: options.pop("hashes", self.hashes)[name] for name in ("dep==1.0", f"tiny==1.{number}")}
        made = imageparts.rendered(
            options.pop("templates", self.templates), manifest or self.manifest, pins, of=it, kind=kind
        )
        return imageparts.image(store, made, options.pop("registry", self.registry.address), kind)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    found = Parts(tmp_path_factory.mktemp("parts"))
    yield found
    found.registry.stop()
    found.index.stop()


@pytest.fixture(params=["docker", "buildx"])
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> engine.Cli:
    """Both ways of building, where both are here."""
    found = engine.builder_cli()
    if request.param == "buildx" and not found.buildx:
        dockerparts.lacking("no docker command with buildx")
    cli = found if request.param == "buildx" else engine.Cli(str(dockerparts.cli()), False)
    monkeypatch.setattr(engine, "builder_cli", lambda: cli)
    return cli


@pytest.fixture
def lends(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is the tests' own, and wants a login."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", parts.index.url(f"me:{PASSWORD}"))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def imported(image: DockerImage, module: str = "tiny") -> str:
    state = image.state()
    assert state
    code = f"import {module}; print({module}.__version__)"
    return dockerparts.docker("run", "--rm", "--network", "none", state["id"], image.rendered.python, "-c", code)


@docker
def test_builds_verifies_and_finds_it_again(parts: Parts, lends: None, command: engine.Cli, tmp_path: Path) -> None:
    image = parts.image(tmp_path)
    assert not image.ready()
    made = image.make()
    assert made["reused"] is False and made["tag"] == image.rendered.tag and made["id"].startswith("sha256:")
    assert made["base"] == f"registry.test/nvidia/tiny:24.05@{parts.manifest}"
    assert made["builder"] == ("buildx" if command.buildx else "docker")
    assert image.make()["reused"] is True
    assert imported(image) == "1.0" and imported(image, "dep") == "1.0"
    assert images.verify(image) == []
    assert (image.folder / "build.log").read_text()
    assert json.loads((image.folder / "image.json").read_text())["key"] == image.key


@docker
def test_one_that_fails_costs_no_other(parts: Parts, lends: None, command: engine.Cli, tmp_path: Path) -> None:
    wrong = {**parts.hashes, "tiny==1.2": parts.hashes["tiny==1.2"]}
    lying = imageparts.stack("1.2", cuda="12.4")
    kind = imageparts.family(checks={"cuda": "cuda"})
    made = [
        parts.image(tmp_path, 0),
        parts.image(tmp_path, 1),
        parts.image(tmp_path, 2, of=lying, kind=kind, hashes=wrong),
    ]
    twin = parts.image(tmp_path / "twin", 0)  # the same image again
    ends = images.build([*made, twin], jobs=4)
    assert [ends[image.key] for image in made[:2]] == [None, None]
    assert [image.ready() for image in (*made, twin)] == [True, True, False, True]
    error = ends[made[2].key]
    assert type(error) is ImageError
    assert str(error) == "tiny-1.2-py3.11: missing: no cuda found in the image, promised 12.4"
    assert "promised 12.4" in (made[2].folder / "build.log").read_text()
    assert imported(made[1]) == "1.1"


@docker
def test_neighbours_share_every_layer_above_what_differs(
    parts: Parts, lends: None, command: engine.Cli, tmp_path: Path
) -> None:
    made = [parts.image(tmp_path, number) for number in range(3)]
    assert set(images.build(made, jobs=3).values()) == {None}
    layers = [
        json.loads(dockerparts.docker("image", "inspect", image.rendered.tag))[0]["RootFS"]["Layers"] for image in made
    ]
    assert len({tuple(one[:-1]) for one in layers}) == 1 and len({one[-1] for one in layers}) == 3


@docker
def test_neighbours_share_layers_with_wheels_of_this_machine_too(
    parts: Parts, lends: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(parts.index.folder))
    made = [parts.image(tmp_path, number) for number in range(2)]
    assert set(images.build(made, jobs=2).values()) == {None}
    layers = [
        json.loads(dockerparts.docker("image", "inspect", image.rendered.tag))[0]["RootFS"]["Layers"] for image in made
    ]
    assert layers[0][:-1] == layers[1][:-1] and layers[0][-1] != layers[1][-1]
    assert imported(made[1]) == "1.1"


@docker
def test_no_secret_in_image_history_or_log(
    parts: Parts, lends: None, command: engine.Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:fakepassword-of-the-proxy@127.0.0.1:9")
    monkeypatch.setenv("FAKE", "1")
    (tmp_path / "netrc").write_text("machine 127.0.0.9 login me password fakepassword-of-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    # A family that tells everything it can, and never from a cache.
    told = f"echo {time.time()}; env; cat /run/secrets/*"
    lent = "--mount=type=secret,id=netrc --mount=type=secret,id=uv-config"
    noisy = f"{{% block system %}}\nRUN {lent} {told}\n{{% endblock %}}\n"
    made = [
        parts.image(tmp_path / "store", number, templates=imageparts.templates(tmp_path / "images", noisy))
        for number in (3, 4)
    ]
    assert set(images.build(made, jobs=2).values()) == {None}
    tar = tmp_path / "image.tar"
    dockerparts.docker("save", "-o", str(tar), made[0].rendered.tag)
    history = dockerparts.docker("history", "--no-trunc", made[0].rendered.tag)
    assert b"fakepassword" not in tar.read_bytes() and "fakepassword" not in history
    assert "127.0.0.1:9" not in history
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert b"fakepassword" not in path.read_bytes(), path
    # Of two builds at once that share a step one shows what it prints.
    log = "".join((image.folder / "build.log").read_text() for image in made)
    assert "machine 127.0.0.9" in log and "***" in log  # the step did run, and did say it


@docker
def test_an_index_that_refuses_is_no_evidence(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", parts.index.url("me:fakewrong"))
    version = f"2.{time.time_ns()}"  # neither layers nor uv's own cache know it
    pin, sha = imageparts.wheel(parts.index.folder, "tiny", version)
    made = imageparts.rendered(parts.templates, parts.manifest, {pin: sha}, of=imageparts.stack(version))
    with pytest.raises(InfrastructureError) as caught:
        imageparts.image(tmp_path, made, parts.registry.address).make()
    assert type(caught.value) is InfrastructureError and "fakewrong" not in str(caught.value)


@docker
def test_a_package_that_does_not_exist(parts: Parts, lends: None, tmp_path: Path) -> None:
    it = imageparts.stack("9.9")
    made = imageparts.rendered(parts.templates, parts.manifest, {"tiny==9.9": ZERO}, of=it)
    with pytest.raises(ImageError, match=r"^tiny-9\.9-py3\.11: .*(no version of tiny==9\.9|tiny.*9\.9)") as caught:
        imageparts.image(tmp_path, made, parts.registry.address).make()
    assert "#" in caught.value.text


@docker
def test_a_base_that_is_gone(parts: Parts, lends: None, command: engine.Cli, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"nvidia/tiny@{ZERO}: not found"):
        parts.image(tmp_path, manifest=ZERO).make()


@docker
def test_a_base_with_a_user_and_variables_of_its_own(parts: Parts, lends: None, tmp_path: Path) -> None:
    """As images that people work in have them: neither is anything against its versions."""
    name = "enginematrix-test/lived-in"
    lines = [f"FROM {dockerparts.base('bookworm')}", "RUN mkdir /home/them && chown 4242 /home/them", "USER 4242"]
    lines += ["ENV UV_EXCLUDE_NEWER=2000-01-01 UV_OFFLINE=1 UV_INDEX_URL=http://127.0.0.1:1/simple UV_PYTHON=3.9"]
    lines += ["WORKDIR /home/them", 'ENTRYPOINT ["/bin/false"]', 'SHELL ["/bin/false", "-c"]', "VOLUME /opt"]
    dockerparts.docker("build", "-q", "--network", "host", "-t", name, "-", input="\n".join(lines) + "\n")
    image = parts.image(tmp_path, 0, manifest=parts.registry.push(name, "nvidia/tiny:lived-in"))
    image.make()
    assert images.verify(image) == []
    dockerparts.docker("rmi", name)


@docker
def test_a_base_without_python(parts: Parts, lends: None, tmp_path: Path) -> None:
    bare = dockerparts.derived(dockerparts.base("bookworm"), run="rm -f /usr/bin/python3*")
    manifest = parts.registry.push(bare, "nvidia/tiny:bare")
    with pytest.raises(ImageError, match=r"no Python in the image: none of python3, python3\.11, python3 on its PATH"):
        parts.image(tmp_path, manifest=manifest).make()


@docker
def test_where_nothing_is_installed_no_other_python_will_do(parts: Parts, tmp_path: Path) -> None:
    """Its jobs are run by the interpreter that the family names; the check is of that one."""
    for interpreter in ("python3.99", "python3"):
        kind = imageparts.family(interpreter=interpreter)
        it = imageparts.image(
            tmp_path, imageparts.rendered(parts.templates, parts.manifest, kind=kind), parts.registry.address, kind
        )
        if interpreter == "python3":
            it.make()
            assert images.verify(it) == []
        else:
            with pytest.raises(ImageError, match=r"no Python in the image: none of python3\.99 on its PATH"):
                it.make()


@docker
def test_a_registry_that_is_down(parts: Parts, lends: None, command: engine.Cli, tmp_path: Path) -> None:
    # A base that the engine does not have: one that it has, it does not ask for.
    with pytest.raises(InfrastructureError, match="connection refused; check the network"):
        parts.image(tmp_path, manifest=ZERO, registry=f"127.0.0.1:{dockerparts.free_port()}").make()


@docker
def test_a_registry_that_stops_in_the_middle(
    parts: Parts, lends: None, own: imageparts.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = dockerparts.derived(dockerparts.base("bookworm"), run=f"head -c 40M /dev/urandom >/big; : {time.time()}")
    manifest = parts.registry.push(big, "nvidia/tiny:big")
    monkeypatch.setenv("DOCKER_HOST", own.host)
    relay = imageparts.Relay(parts.registry.address, 20 << 20)
    image = parts.image(tmp_path, manifest=manifest, registry=relay.address)
    with pytest.raises(InfrastructureError) as caught:
        image.make()
    assert relay.left < 0 and type(caught.value) is InfrastructureError and not image.ready()
    relay.stop()
    image.settings = parts.image(tmp_path).settings  # the mirror is there again
    assert image.make()["reused"] is False


@docker
def test_two_runs_build_it_once(parts: Parts, lends: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = buildkit.build
    monkeypatch.setattr(buildkit, "build", lambda *arguments: built.append(1) or build(*arguments))
    both = [parts.image(tmp_path, 0), parts.image(tmp_path, 0)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = list(pool.map(lambda image: image.make(), both))
    assert len(built) == 1 and ends[0]["id"] == ends[1]["id"]


@docker
def test_an_image_that_was_pruned_is_built_again(parts: Parts, lends: None, tmp_path: Path) -> None:
    image = parts.image(tmp_path / "store", 5)
    image.make()
    dockerparts.docker("rmi", "--force", image.rendered.tag)
    writable = tmp_path / "store" / "work" / "run-1" / "jobs"
    writable.mkdir(parents=True)
    assert images.verify(image) and image.ready(), "files alone do not tell"
    session = image.start((), tmp_path / "log.txt", 60, place=Place(writable=writable))
    try:
        assert session.probe["python"].startswith("3.11")
    finally:
        session.close()
    assert images.verify(image) == []


@docker
def test_verify_tells_what_is_wrong(parts: Parts, lends: None, tmp_path: Path) -> None:
    image = parts.image(tmp_path, 0)
    image.make()
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image.rendered.tag}\nLABEL org.enginematrix.python=3.9\nRUN ln -sf /bin/false {image.rendered.python}\n"
    )
    dockerparts.docker(
        "build",
        "-q",
        "--network",
        "none",
        "-t",
        "enginematrix-test/changed",
        "-f",
        str(tmp_path / "Dockerfile"),
        str(tmp_path),
    )
    image.remember({**(image.state() or {}), "id": "enginematrix-test/changed"})
    assert images.verify(image) == [
        "label org.enginematrix.python is '3.9', not '3.11'",
        "its check ended with exit code 1",
    ]
    dockerparts.docker("rmi", "enginematrix-test/changed")


@docker
def test_verify_looks_as_cells_do(parts: Parts, lends: None, tmp_path: Path) -> None:
    """An environment that only root may enter is of no use to cells."""
    image = parts.image(tmp_path, 0)
    image.make()
    name = "enginematrix-test/closed"
    text = f"FROM {image.rendered.tag}\nRUN chmod 700 /opt/enginematrix\n"
    dockerparts.docker("build", "-q", "--network", "none", "-t", name, "-", input=text)
    image.remember({**(image.state() or {}), "id": name})
    assert any("ermission denied" in line for line in images.verify(image))
    dockerparts.docker("rmi", name)


@docker
def test_shell_sees_the_environment_and_can_change_nothing(
    parts: Parts, lends: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / 'a "store", and: more'
    image = parts.image(store, 0)
    with pytest.raises(InfrastructureError, match="not built"):
        images.shell(image, store)
    image.make()
    said: list[str] = []

    def call(command: list[str], env: dict[str, str]) -> int:
        place = shlex.quote(str(store))
        script = f"python -c 'import tiny; print(tiny.__version__)'; ls {place}; touch /x {place}/x; id -u; "
        script += "printf '#!/bin/sh\\necho ran' >/tmp/x; chmod +x /tmp/x; /tmp/x; "
        script += "grep -E 'CapEff|NoNew' /proc/self/status; exit 7"
        done = subprocess.run(command, env=env, input=script, capture_output=True, text=True)
        said.append(done.stdout + done.stderr)
        return done.returncode

    monkeypatch.setattr(subprocess, "call", call)
    assert images.shell(image, store) == 7
    assert said[0].startswith("1.0\n") and "images\n" in said[0] and said[0].count("Read-only file system") == 2
    assert f"\n{os.geteuid() or 65534}\nran\n" in said[0], "who cells are, and libraries that compile in /tmp"
    assert re.search(r"CapEff:\s+0+\nNoNewPrivs:\s+1\n", said[0])


@docker
def test_push(parts: Parts, lends: None, tmp_path: Path) -> None:
    image = parts.image(tmp_path, 0)
    with pytest.raises(InfrastructureError, match="not built"):
        images.push([image], f"{parts.registry.address}/team")
    image.make()
    with pytest.raises(UsageError, match="names no image"):
        images.push([image], "https://registry.example.com/team")
    name = f"{parts.registry.address}/team/tiny:{image.key[:16]}"
    pushed = images.push([image], f"{parts.registry.address}/team/")
    assert list(pushed) == [name] and re.fullmatch("sha256:[0-9a-f]{64}", pushed[name])
    assert (image.state() or {})["pushed"] == pushed
    dockerparts.docker("pull", f"{parts.registry.address}/team/tiny@{pushed[name]}")
    with pytest.raises(InfrastructureError, match="`docker push` to .* failed"):
        images.push([image], f"127.0.0.1:{dockerparts.free_port()}/team")


@docker
def test_rebuilding_twice_compares_layers_and_files(
    parts: Parts, lends: None, command: engine.Cli, tmp_path: Path
) -> None:
    # Where both files are there, BuildKit of 20.10 too has no reason to touch /etc (moby/buildkit issue 3148).
    whole = dockerparts.derived(dockerparts.base("bookworm"), files={"/etc/hosts": "\n", "/etc/resolv.conf": "\n"})
    manifest = parts.registry.push(whole, "nvidia/tiny:whole")
    same = images.rebuild_twice(parts.image(tmp_path / "same", 0, manifest=manifest))
    assert same.same_layers and len(same.layers) >= 4 and same.files == ()
    assert same.identical or same.configuration == ("Created",), same.as_dict()
    run = "head -c 16 /dev/urandom >/chance; touch -d @0 /chance; mkdir -p /etc/d; touch /etc/d/when"
    chance = f"{{% block system %}}\nRUN {run}\n{{% endblock %}}\n"
    other = parts.image(
        tmp_path / "other", 0, manifest=manifest, templates=imageparts.templates(tmp_path / "images", chance)
    )
    found = images.rebuild_twice(other)
    assert not found.identical and not found.same_layers
    what = {file.path: file.what for file in found.files}
    assert what["chance"] == "content" and what["etc/d/when"].startswith("mtime ")
    assert sum(not layer.identical for layer in found.layers) == 1
    text = "\n".join(found.lines())
    assert text.startswith("not identical: ") and "chance: content" in text
    assert json.loads(json.dumps(found.as_dict()))["same_layers"] is False
    usage = dockerparts.docker("system", "df", "--verbose")
    assert not re.search(r"enginematrix-uv-[0-9a-f]{16}", usage), "its package caches are gone"
    assert "enginematrix-rebuild" not in dockerparts.docker("images")


# Engines that stop -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imageparts.Engine]:
    with imageparts.engine(Path("/tmp") / f"enginematrix-test-{os.getpid()}") as found:
        yield found
    shutil.rmtree(found.folder, ignore_errors=True)


def slow() -> str:
    """A step that takes half a minute, and that no engine has done before."""
    return f"{{% block system %}}\nRUN echo slow {time.time()}; sleep 30\n{{% endblock %}}\n"


@docker
def test_an_engine_that_is_killed_in_the_middle(
    parts: Parts,
    lends: None,
    own: imageparts.Engine,
    command: engine.Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", own.host)
    made = [
        parts.image(tmp_path / "store", number, templates=imageparts.templates(tmp_path / f"images{number}", slow()))
        for number in range(2)
    ]

    def kill() -> None:
        logs = [image.folder / name for image in made for name in ("build.log", "wave.log")]
        while not any(log.exists() and re.search(r"^#\d+ [\d.]+ slow", log.read_text(), re.M) for log in logs):
            time.sleep(0.05)
        own.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        ends = images.build(made, jobs=2)
    finally:
        killer.join(60)
        own.start()
    for error in ends.values():
        assert type(error) is InfrastructureError and "start it (`sudo systemctl start docker`)" in str(error)
    # Nothing is left behind that would pass for an image, and the next run does it.
    assert not any(image.ready() for image in made)
    quick = parts.image(tmp_path / "store", 0)
    assert quick.make()["reused"] is False


@docker
def test_a_build_that_takes_too_long(
    parts: Parts,
    lends: None,
    own: imageparts.Engine,
    command: engine.Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", own.host)
    made = parts.image(tmp_path, 1, templates=imageparts.templates(tmp_path / "images", slow()))
    started = time.monotonic()
    ends = images.build([made], jobs=1, timeout=3)
    assert isinstance(ends[made.key], buildkit.TimedOut) and time.monotonic() - started < 20


@docker
def test_a_disk_that_is_too_small(parts: Parts, lends: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("/tmp") / f"enginematrix-small-{os.getpid()}"
    data = folder / "data"
    data.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "none", str(data)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with imageparts.engine(folder, data) as small:
            monkeypatch.setenv("DOCKER_HOST", small.host)
            big = "{% block system %}\nRUN head -c 600M /dev/zero >/big\n{% endblock %}\n"
            made = [
                parts.image(tmp_path, 0, templates=imageparts.templates(tmp_path / "big", big)), parts.image(tmp_path, 1),
            ]  # fmt: skip
            ends = images.build(made, jobs=1)
            error = ends[made[0].key]
            assert type(error) is InfrastructureError and re.search("[Nn]o space left on device; free ", str(error))
            assert ends[made[1].key] is None, "what fits is built"
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@docker
def test_no_engine_at_all(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(InfrastructureError, match="annot connect to the Docker daemon.*start it"):
        parts.image(tmp_path, 0).make()


def test_saved_image_of_any_kind_is_read(tmp_path: Path) -> None:
    """`docker save` of the classic store (a folder a layer, links for layers that stand there twice) and of containerd's
    (blobs, compressed)."""
    import gzip
    import hashlib
    import io

    def layer(**files: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        return out.getvalue()

    one, two = layer(a="1"), layer(b="2")
    ids = ["sha256:" + hashlib.sha256(data).hexdigest() for data in (one, two)]
    config = json.dumps({"rootfs": {"diff_ids": [ids[0], ids[1], ids[0]]}}).encode()
    classic = {"x/layer.tar": one, "y/layer.tar": two, "c.json": config}
    blobs = {
        "blobs/sha256/x": gzip.compress(one),
        "blobs/sha256/y": gzip.compress(two),
        "blobs/sha256/c": config,
        "oci-layout": b"{}",
    }
    for number, (files, names, link) in enumerate(
        (
            (classic, ["x/layer.tar", "y/layer.tar", "z/layer.tar"], "c.json"),
            (blobs, ["blobs/sha256/x", "blobs/sha256/y", "blobs/sha256/x"], "blobs/sha256/c"),
        )
    ):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as archive:
            for name, data in {
                **files,
                "manifest.json": json.dumps([{"Config": link, "Layers": names}]).encode(),
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            if number == 0:
                info = tarfile.TarInfo("z/layer.tar")
                info.type, info.linkname = tarfile.SYMTYPE, "../x/layer.tar"
                archive.addfile(info)
        fake = tmp_path / "docker"
        fake.write_text(f"#!/bin/sh\ncat {path}\n")
        fake.chmod(0o755)
        found = rebuild.contents(engine.Cli(str(fake), False), "image", {ids[1]})
        assert list(found) == [ids[1]] and found[ids[1]]["b"].sha256 == hashlib.sha256(b"2").hexdigest()
    fake.write_text("#!/bin/sh\necho 'Error: No such image: x' >&2; exit 1\n")
    with contextlib.suppress(OSError), pytest.raises(InfrastructureError, match="No such image: x|cannot be read"):
        rebuild.contents(engine.Cli(str(fake), False), "image", set())
