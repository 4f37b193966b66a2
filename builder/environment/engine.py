"""The Docker engine of this machine and the `docker` command that builds with BuildKit.

docker-py talks to the engine (run, inspect, logs, remove); it cannot build with BuildKit (docker-py issue 2230), so images
are built by a command: one with the buildx plugin, or a client older than 23, which has BuildKit of its own.

docker-py is imported where it is needed: it takes 0.2 s, and what is asked before any engine is needs files only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform as python_platform
import re
import socket
import stat
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InfrastructureError, TransientError

DEFAULT_SOCKET = "/var/run/docker.sock"
#: Seconds in which an engine that works answers its first question.
PING = 5
#: Seconds that any other call may take: an engine under load creates a container in a few.
CALL = 60
#: Seconds that a `docker` command may take to tell its version.
COMMAND = 15.0

INSTALL = (
    "install Docker (Debian, Ubuntu: `apt install docker.io`; others: https://docs.docker.com/engine/install/) and start it,"
    " or set DOCKER_HOST; `--isolation venv` needs none"
)
INSTALL_BUILDX = (
    "install the buildx plugin (Ubuntu: `apt install docker-buildx`; Docker's own packages: `docker-buildx-plugin`), or a "
    "docker client older than 23, which has BuildKit of its own"
)


class DockerMissing(InfrastructureError):
    """No Docker engine answers, or no command can build; the message says why and what to do."""


class DockerAway(DockerMissing, TransientError):
    """There is a Docker engine, and it does not answer now."""


@dataclass(frozen=True)
class Cli:
    """A `docker` command that can build with BuildKit."""

    path: str
    buildx: bool
    """Whether it has the buildx plugin; else `DOCKER_BUILDKIT=1 docker build` is BuildKit."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the engine is, and who says so."""

    host: str
    source: str
    context: str = ""
    """The Docker context it is from, '' for none: it may have certificates."""

    @property
    def socket(self) -> Path | None:
        """Its socket, None for an engine that is reached in another way."""
        return Path(self.host.removeprefix("unix://")) if self.host.startswith("unix://") else None


def endpoint() -> Endpoint:
    """As the docker command chooses: DOCKER_CONTEXT, DOCKER_HOST, the current context, the usual socket; and the rootless
    one where the usual one is not there. Reads files only.

    Raises DockerMissing for a context that does not exist or cannot be read."""
    name, source = os.environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    if not name and os.environ.get("DOCKER_HOST"):
        return Endpoint(host=os.environ["DOCKER_HOST"], source="DOCKER_HOST")
    if not name:
        name, source = _current_context(), "the current Docker context"
    if name and name != "default":
        from docker.context import ContextAPI

        try:
            context = ContextAPI.get_context(name)
        except Exception as error:  # docker-py raises plain Exception for a file that it cannot read
            msg = f"the Docker context {name!r} ({source}) cannot be read: {error}"
            raise DockerMissing(msg) from error
        if context is None or not context.Host:
            msg = f"there is no Docker context {name!r} ({source}); `docker context ls` lists them"
            raise DockerMissing(msg)
        return Endpoint(host=context.Host, source=f"the Docker context {name!r}", context=name)
    rootless = f"{os.environ.get('XDG_RUNTIME_DIR') or '/nonexistent'}/docker.sock"
    if not _is_socket(Path(DEFAULT_SOCKET)) and _is_socket(Path(rootless)):
        return Endpoint(host=f"unix://{rootless}", source="the rootless engine's socket")
    return Endpoint(host=f"unix://{DEFAULT_SOCKET}", source="the usual socket")


def _current_context() -> str:
    folder = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))  # noqa: PTH111 - never raises
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("currentContext") or "") if isinstance(config, dict) else ""


def available() -> bool:
    """Whether there is something to ask: the socket is there, or an engine elsewhere is named. Files only, no call."""
    try:
        where = endpoint()
    except DockerMissing:
        return False
    return where.socket is None or _is_socket(where.socket)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def errors() -> tuple[type[Exception], ...]:
    """What docker-py raises: its own errors, and those of requests (each an OSError) when the engine goes away."""
    from docker.errors import DockerException

    return DockerException, OSError


_CONNECTING = threading.Lock()


def client(timeout: int = CALL) -> Any:
    """A docker.DockerClient, one a process for each engine and `timeout` (s, of each call). Raises DockerMissing."""
    with _CONNECTING:
        return _connect(endpoint(), timeout)


@functools.cache
def _connect(where: Endpoint, timeout: int) -> Any:
    import docker

    try:
        if where.socket is not None:
            with socket.socket(socket.AF_UNIX) as trial:  # tells better than docker-py what is wrong
                trial.settimeout(PING)
                trial.connect(str(where.socket))
        made = docker.DockerClient(timeout=PING, **_options(where))  # asks the engine for its version
    except errors() as error:
        msg = f"no Docker engine: {_reason(error, where)}"
        away = any(
            isinstance(cause, ConnectionError | TimeoutError) for cause in (error, error.__cause__, error.__context__)
        )
        raise (DockerAway if away else DockerMissing)(msg) from error
    made.api.timeout = timeout
    return made


def _options(where: Endpoint) -> dict[str, Any]:
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    if where.context:
        context = ContextAPI.get_context(where.context)
        return {"base_url": where.host, "tls": context.TLSConfig or False}
    options: dict[str, Any] = dict(kwargs_from_env())  # DOCKER_TLS_VERIFY, DOCKER_CERT_PATH
    return {**options, "base_url": where.host}


def _reason(error: BaseException, where: Endpoint) -> str:
    import requests

    place = f"{where.host} ({where.source})"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError | requests.Timeout):
            return f"{place} does not answer within {PING} s; is it starting, or stopped (`docker info`)?"
        if isinstance(cause, PermissionError):
            return (
                f"no permission to use {place}; add yourself to its group (`sudo usermod -aG docker $USER`, then log in "
                "again), or use a rootless engine"
            )
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens at {place}; start the engine (`sudo systemctl start docker`)"
        if isinstance(cause, FileNotFoundError):
            return f"{place} is not there; {INSTALL}"
        cause = cause.__cause__ or cause.__context__
    return f"{place}: {error}"


def platform() -> str:
    """This machine as images name it: "linux/amd64"."""
    machine = python_platform.machine().lower()
    names = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm/v7"}
    return f"linux/{names.get(machine, machine)}"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """ChainID of each prefix of a list of layers (OCI image spec, config.md, "Layer ChainID"): a layer on top of just these
    others. An engine need not pull a layer whose chain id it has."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            diff_id = f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}"
        chain.append(diff_id)
    return tuple(chain)


def present_layers(client: Any) -> frozenset[str]:
    """The chain ids of every prefix of every image of the engine, to be held against `chain_ids` of an image's diff ids.

    Raises InfrastructureError."""
    from docker.errors import NotFound

    found: set[str] = set()
    try:
        for image in set(client.api.images(quiet=True)):
            try:
                layers = client.api.inspect_image(image).get("RootFS", {}).get("Layers") or ()
            except NotFound:  # removed meanwhile
                continue
            found.update(chain_ids(layers))
    except errors() as error:
        msg = f"the Docker engine did not list its images: {error}"
        raise InfrastructureError(msg) from error
    return frozenset(found)


def builder_cli() -> Cli:
    """The first `docker` on PATH with buildx, else the first with BuildKit of its own. Asks the commands, not the engine.

    Raises DockerMissing with what was found and what each lacks."""
    # The plugin is looked for in Docker's configuration folder.
    return _builder_cli(os.environ.get("PATH", ""), os.environ.get("DOCKER_CONFIG", ""), os.environ.get("HOME", ""))


@functools.cache
def _builder_cli(path: str, _config: str, _home: str) -> Cli:
    own: Cli | None = None
    lacking: list[str] = []
    seen: set[str] = set()
    for folder in path.split(os.pathsep):
        command = Path(folder or ".", "docker")
        real = os.path.realpath(command)
        # os.path's, since a folder that this user may not enter (root's, after `su`) is no error: there is no command
        if real in seen or not (os.path.isfile(command) and os.access(command, os.X_OK)):  # noqa: PTH113
            continue
        seen.add(real)
        lack = _lack_of_buildx(str(command))
        if not lack:
            return Cli(str(command), True)
        lack_own = _lack_of_buildkit(str(command))
        if lack_own:
            lacking.append(f"{command}: {lack}, {lack_own}")
        else:
            own = own or Cli(str(command), False)
    if own is not None:
        return own
    if not lacking:
        msg = f"no `docker` command on PATH; {INSTALL}"
        raise DockerMissing(msg)
    found = "\n    ".join(lacking)
    msg = f"no `docker` command on PATH can build with BuildKit:\n    {found}\n{INSTALL_BUILDX}"
    raise DockerMissing(msg)


def _lack_of_buildx(command: str) -> str:
    """'' when it has buildx. Another program may call itself docker (podman's answers for `buildx` with buildah)."""
    code, text = _ask(command, "buildx", "version")
    if code:
        return "no buildx plugin"
    return "" if "buildx" in text else f"its buildx is not Docker's ({text[:60]})"


def _lack_of_buildkit(command: str) -> str:
    """'' when `DOCKER_BUILDKIT=1 docker build` is BuildKit without any plugin."""
    code, text = _ask(command, "--version")
    match = re.search(r"Docker version (\d+)\.", text)
    if code or not match:
        return f"does not tell a version of Docker ({text[:60] or f'exit code {code}'})"
    if int(match[1]) >= 23:
        return f"no BuildKit of its own (version {match[1]}; from 23 on it is in the plugin)"
    code, text = _ask(command, "build", "--help")
    return (
        "" if not code and "--secret" in text else f"no BuildKit (version {match[1]}: `docker build` has no --secret)"
    )


def _ask(command: str, *arguments: str) -> tuple[int, str]:
    """(exit code, what it printed); a command that cannot be run or hangs has code 1."""
    try:
        done = subprocess.run(  # noqa: S603
            [command, *arguments], env={**os.environ, "DOCKER_BUILDKIT": "1"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=COMMAND, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, type(error).__name__ if isinstance(error, subprocess.TimeoutExpired) else str(error.strerror)
    return done.returncode, done.stdout.strip()
