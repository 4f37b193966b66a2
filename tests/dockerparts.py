"""A Docker engine, a registry on loopback and base images for the tests that need them (marked `docker`).

No public image is pulled. Bases are made by debootstrap, once, and kept in one folder (ENGINEMATRIX_TEST_BASES, else the
user's cache); they are pushed under the repository paths of the images that they stand for, so that mirrors, digests and
the reading of an image's configuration go over real HTTP. They hold no CUDA and no TensorRT.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

BOOKWORM_LIBRARIES = (
    "libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g"
)
SUITES = {"bullseye": "", "bookworm": BOOKWORM_LIBRARIES, "trixie": ""}
"""Debian release -> packages beside python3 (3.9, 3.11, 3.13): what a CPython copied into bookworm needs."""
ATTEMPTS = 4
"""How often debootstrap is tried: it gives up at the first package that a mirror does not hand over."""


def cache() -> Path:
    folder = Path(os.environ.get("ENGINEMATRIX_TEST_BASES") or Path.home() / ".cache" / "enginematrix-test-bases")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cli() -> str | None:
    """A `docker` with BuildKit: the first on PATH may have none. Looked for without the product's own code."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder, "docker")
        if os.access(path, os.X_OK):
            text = subprocess.run(
                [path, "build", "--help"], capture_output=True, text=True, env={**os.environ, "DOCKER_BUILDKIT": "1"}
            ).stdout
            if "--secret" in text:
                return str(path)
    return None


def trouble() -> str:
    """Why the tests marked `docker` cannot run here, or ""."""
    found = cli()
    if found is None:
        return "no docker command with BuildKit on PATH"
    done = subprocess.run([found, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        return f"no Docker engine answers: {done.stderr.strip()}"
    for name in ("debootstrap", "docker-registry"):
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            return f"{name} is not installed"
    return "" if os.geteuid() == 0 else "debootstrap needs root"


def lacking(reason: str) -> None:
    """Skip a test for want of a part; where parts are demanded (CI) it fails."""
    import pytest  # not needed for serving base images

    if os.environ.get("CI") or os.environ.get("ENGINEMATRIX_REQUIRE_DOCKER"):
        pytest.fail(f"{reason}, and here nothing may be skipped")
    pytest.skip(reason)


def docker(*arguments: str, **options: object) -> str:
    done = subprocess.run(
        [str(cli()), *arguments], capture_output=True, text=True, env={**os.environ, "DOCKER_BUILDKIT": "1"}, **options
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def rootfs(suite: str) -> Path:
    """A Debian release as a tar file; made at the first call, about 45 s."""
    target = cache() / f"{suite}.tar"
    with (cache() / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            folder = cache() / f"{suite}.part"
            shutil.rmtree(folder, ignore_errors=True)
            packages = ",".join(filter(None, ["python3", "ca-certificates", SUITES[suite]]))
            archives = cache() / "archives"  # what one attempt fetched is there for the next
            archives.mkdir(exist_ok=True)
            for attempt in range(1, ATTEMPTS + 1):
                shutil.rmtree(folder, ignore_errors=True)
                done = subprocess.run(
                    ["debootstrap", f"--cache-dir={archives}", "--variant=minbase", f"--include={packages}", suite, str(folder)],
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                    env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
                )  # fmt: skip
                if not done.returncode:
                    break
                log = folder / "debootstrap/debootstrap.log"
                told = done.stdout[-2000:] + (log.read_text(errors="replace")[-2000:] if log.is_file() else "")
                print(f"debootstrap {suite}, attempt {attempt} of {ATTEMPTS}:\n{told}", file=sys.stderr, flush=True)
                time.sleep(10 * attempt)  # a mirror that is away for a moment
            done.check_returncode()
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
                shutil.rmtree(folder / waste, ignore_errors=True)
                (folder / waste).mkdir(parents=True)
            part = target.with_suffix(".tar.part")
            subprocess.run(["tar", "--sort=name", "--mtime=@0", "-C", str(folder), "-cf", str(part), "."], check=True)
            os.replace(part, target)
            shutil.rmtree(folder, ignore_errors=True)
    return target


def base(suite: str) -> str:
    """A Debian release as an image of the engine: its name."""
    name = f"enginematrix-test/{suite}:{int(rootfs(suite).stat().st_mtime)}"
    if not docker("images", "-q", name):
        docker("import", str(rootfs(suite)), name)
    return name


def python_base(version: str) -> str:
    """An image with CPython `version` ("3.12") as `pythonX.Y` on its PATH, as python:X.Y-slim-bookworm has it: Debian's
    own where bookworm has it, otherwise this machine's copied into it."""
    if version == "3.11":
        return base("bookworm")
    name = f"enginematrix-test/python{version}:1"
    if docker("images", "-q", name):
        return name
    found = sorted(Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv").glob(f"versions/{version}.*"))
    assert found, f"no CPython {version} under pyenv's folder"
    context = cache() / f"python{version}.context"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(
        found[-1], context / "python", symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "test", "tests", "*.a", "share", "include", "idlelib", "site-packages"),
    )  # fmt: skip
    (context / "Dockerfile").write_text(
        f"FROM {base('bookworm')}\nCOPY python/ /usr/local/\nRUN ldconfig && python{version} -c 'import ssl, sqlite3, ctypes'\n"
    )
    docker("build", "-q", "--network", "host", "-t", name, str(context))
    shutil.rmtree(context)
    return name


def derived(parent: str, *, env: Mapping[str, str] = {}, files: Mapping[str, str] = {}, run: str = "") -> str:
    """An image on top of another: with variables in its configuration, files (absolute path -> text), one RUN."""
    context = Path(cache(), f"derived-{os.getpid()}")
    shutil.rmtree(context, ignore_errors=True)
    (context / "files").mkdir(parents=True)
    for path, text in files.items():
        target = context / "files" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    lines = [f"FROM {parent}", *(f"ENV {name}={json.dumps(value)}" for name, value in env.items())]
    lines += ["COPY files/ /"] if files else []
    lines += [f"RUN {run}"] if run else []
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    # Not the bridge: another engine on this machine, started with --bridge none, removes it.
    name = f"enginematrix-test/derived:{hashlib.sha256(repr([lines, sorted(files.items())]).encode()).hexdigest()[:16]}"
    docker("build", "-q", "--network", "host", "-t", name, str(context))  # BuildKit takes no bare id in a FROM
    shutil.rmtree(context)
    return name


class Registry:
    """docker-registry on loopback, with its data in `folder`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {self.folder / 'data'}}}\n"
            f"  delete: {{enabled: true}}\nhttp: {{addr: '{self.address}'}}\n"
        )
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).close()
                return
            assert time.monotonic() < until and self.process.poll() is None, (self.folder / "log.txt").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def push(self, image: str, path: str) -> str:
        """Push an image of the engine as `path` ("nvidia/tensorrt:24.05-py3"); its manifest's digest."""
        name = f"{self.address}/{path}"
        docker("tag", image, name)
        text = docker("push", name)
        docker("rmi", name)
        return text.rsplit("digest: ", 1)[1].split()[0]


class Engine:
    """A Docker engine of its own, with its data in `folder`: one that a test may stop. It has no bridge: builds use the
    host's network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.sockets = Path(tempfile.mkdtemp(prefix="em-"))  # a socket's path has at most 104 characters
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host(self) -> str:
        return f"unix://{self.sockets / 's'}"

    def start(self) -> None:
        (self.sockets / "s").unlink(missing_ok=True)
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.sockets / "exec"),
                 "--pidfile", str(self.folder / "pid"), "--host", self.host, "--bridge", "none", "--iptables=false",
                 "--ip-masq=false"],
                stdout=log, stderr=log, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )  # fmt: skip
        until = time.monotonic() + 60
        while subprocess.run([str(cli()), "--host", self.host, "info"], capture_output=True).returncode:
            assert time.monotonic() < until and self.process.poll() is None, (self.folder / "log.txt").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def remove(self) -> None:
        self.stop()
        # The engine mounts its data on itself, and leaves that behind.
        subprocess.run(["umount", "--lazy", str(self.folder / "data")], capture_output=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    registry = Registry(folder)
    try:
        yield registry
    finally:
        registry.stop()


def main(folder: str) -> None:
    """Serve images that stand for those of the default matrix's package families, say under which mirror, and stay."""
    registry = Registry(Path(folder))
    for version in ("3.10", "3.11", "3.12"):
        registry.push(python_base(version), f"library/python:{version}-slim-bookworm")
    print(f"docker.io={registry.address}", flush=True)
    for suite in SUITES:  # what tests ask for later
        rootfs(suite)
    assert registry.process is not None
    try:
        registry.process.wait()
    finally:
        registry.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    main(sys.argv[1])
