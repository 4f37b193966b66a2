"""What the tests of images build: a family of one template, packages of a few bytes, an index that wants a login, and
Docker engines of their own for what would stop everybody's."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dockerparts

from builder import values
from builder.environment.images import DockerImage
from builder.lock import Pins, PlatformImage
from builder.render import Rendered, render
from builder.store import Store

ROOT = Path(__file__).resolve().parent.parent
CUTOFF = "2026-11-20T00:00:00Z"
REGISTRY = "registry.test"
"""Where the stacks say that their bases are; a mirror stands for it."""
HERE = values.Where(file="family.yaml", line=1, column=1)


def templates(folder: Path, body: str = "") -> Path:
    """An `images/` folder with a family `tiny`, of the project's own base template."""
    (folder / "tiny").mkdir(parents=True, exist_ok=True)
    for shared in (path for path in (ROOT / "images").iterdir() if path.is_file()):
        shutil.copy(shared, folder / shared.name)
    (folder / "tiny" / "Dockerfile.j2").write_text('{% extends "base.Dockerfile.j2" %}\n' + body)
    return folder


def family(**rules: object) -> values.Family:
    image = {"interpreter": "python3", "site": "own", "env": {}, "checks": {"python": "python"}, **rules}
    return values.Family(
        name="tiny", summary="", provides=frozenset({"engine"}), axes=("tiny", "python"), adapter=None, exporter=None,
        device="cpu", needs=(), run_needs=(), isolation=("docker",), precision={}, modules={}, preload=(), settings={},
        sha256="", where=HERE, image=values.ImageRules(**image),  # type: ignore[arg-type]
    )  # fmt: skip


def wheel(folder: Path, name: str, version: str, bulk: bytes = b"") -> tuple[str, str]:
    """A wheel of a module with its version: (pin, hash). Equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files: dict[str, str | bytes] = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{name}.bin": bulk,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(zipfile.ZipInfo(inner, (2020, 1, 1, 0, 0, 0)), text)
    return f"{name}=={version}", "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


class Index:
    """A package index (PEP 503) of a folder of wheels, on loopback; with a login where one is given."""

    def __init__(self, folder: Path, login: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.login = login
        self.asked: list[str] = []
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                wanted = "Basic " + base64.b64encode(index.login.encode()).decode()
                if index.login and self.headers.get("Authorization") != wanted:
                    return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="test"'})
                name = self.path.strip("/").split("/")[-1]
                if name.endswith(".whl"):
                    path = index.folder / name
                    return self._answer(200, path.read_bytes()) if path.exists() else self._answer(404, b"")
                found = sorted(path.name for path in index.folder.glob(f"{name.replace('-', '_')}-*.whl"))
                links = "".join(f'<a href="/files/{file}">{file}</a>\n' for file in found)
                return self._answer(200 if found else 404, links.encode(), {"Content-Type": "text/html"})

            def _answer(self, code: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
                self.send_response(code)
                for header, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(header, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, login: str = "") -> str:
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.server.server_port}/simple/"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def index(folder: Path, login: str = "") -> Iterator[Index]:
    found = Index(folder, login)
    try:
        yield found
    finally:
        found.stop()


def stack(
    version: str = "1.0", python: str = "3.11", packages: Sequence[str] = ("tiny",), **facts: str
) -> values.Stack:
    lines = [f"{name}=={version}" for name in packages]
    return values.Stack(
        role="engine", entry="tiny", family="tiny", fields={"tiny": version, "python": python}, facts=facts,
        base=f"{REGISTRY}/nvidia/tiny:24.05", requirements=tuple(values.Requirement(line=line) for line in lines),
    )  # fmt: skip


def rendered(
    images: Path, manifest: str, hashes: Mapping[str, str] = {}, *, of: values.Stack | None = None,
    kind: values.Family | None = None, platform: str = "linux/amd64",
) -> Rendered:  # fmt: skip
    """`hashes`: pin -> its file's hash; `manifest`: digest of the base."""
    it = of or stack()
    pins = Pins(
        python=it.python, requirements=tuple(line.line for line in it.requirements), packages=tuple(sorted(hashes)),
        hashes={pin: (value,) for pin, value in hashes.items()},
    )  # fmt: skip
    base = PlatformImage(manifest=manifest, config="sha256:" + "0" * 64, facts={}, layers=())
    return render(it, kind or family(), pins, base, platform, images, CUTOFF)


def image(folder: Path, it: Rendered, registry: str, kind: values.Family | None = None) -> DockerImage:
    settings = values.Docker(mirrors={REGISTRY: registry}, build_network="host")
    return DockerImage(Store(folder), it, settings, kind or family())


class Relay:
    """Passes connections on to `target` ("127.0.0.1:5000"), until `limit` bytes have come back; then nothing answers."""

    def __init__(self, target: str, limit: int) -> None:
        self.left = limit
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.target = (target.split(":")[0], int(target.split(":")[1]))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = self.listener.accept()
                ours = socket.create_connection(self.target)
                self.sockets += [theirs, ours]
                threading.Thread(target=self._pump, args=(theirs, ours, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(ours, theirs, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.left -= len(data) if counted else 0
                if self.left < 0:
                    self.stop()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        for one in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Engine:
    """A dockerd with everything in a folder of its own. No bridge: it would be the same one as another engine's."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host(self) -> str:
        return f"unix://{self.folder / 'docker.sock'}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in ("pid", "docker.sock"):
            (self.folder / stale).unlink(missing_ok=True)
        dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert dockerd
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [dockerd, "--host", self.host, "--data-root", self.data, "--exec-root", self.folder / "exec",
                 "--pidfile", self.folder / "pid", "--bridge", "none", "--iptables=false", "--ip-masq=false"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 30
        while (
            subprocess.run(
                [str(dockerparts.cli()), "info"], env={**os.environ, "DOCKER_HOST": self.host}, capture_output=True
            ).returncode
            or not (self.folder / "docker.sock").exists()
        ):
            assert time.monotonic() < until and self.process.poll() is None, (self.folder / "log.txt").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash would, with all that it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        pid = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):  # it dies with its parent, and is in a group of its own
            os.kill(int(pid.read_text()), signal.SIGKILL)
        pid.unlink(missing_ok=True)

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith((f"{self.folder}/", f"{self.data}/")):
                subprocess.run(["umount", "-l", place], check=False, capture_output=True)


@contextlib.contextmanager
def engine(folder: Path, data: Path | None = None) -> Iterator[Engine]:
    found = Engine(folder, data)
    try:
        yield found
    finally:
        found.stop()
