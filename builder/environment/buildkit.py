"""What is asked of BuildKit, by the docker command: build one image, or several in one go (`buildx bake`).

BuildKit itself does the parallel work and shares layers; this module writes down what is wanted, keeps the log without
the secrets in it, and ends the command with everything it started when its time is up or the program is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.environment import engine
from builder.environment.buildsecrets import Secrets
from builder.errors import InfrastructureError

#: Seconds that one build may take: NGC's bases are 10 GB and more, and links are slow.
TIMEOUT = 4 * 3600.0
#: Seconds that a docker command has to stop by itself (it tells the engine) before it is killed.
STOPPING = 10.0
#: Seconds for an answer about one image.
ASKING = 60.0

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY")
"""Variables that BuildKit hands to RUN as they are, and keeps out of the image's history and of its own cache keys
(docs.docker.com/build/building/variables, "Proxy arguments")."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One image to build."""

    name: str
    """For people, and made safe for a target of the bake file."""
    context: Path
    dockerfile: Path
    tag: str
    platform: str
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a build does for every one of its images."""

    network: str = "default"
    secrets: Secrets = field(default_factory=Secrets)
    fresh: bool = False
    """Without the layers of earlier builds."""
    timeout: float = TIMEOUT


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a docker command ended: its exit code and everything it printed, without secrets."""

    code: int
    text: str


class TimedOut(InfrastructureError):
    """A build took longer than it may."""


def build(cli: engine.Cli, target: Target, options: Options, log: Path) -> Ended:
    """Build one image. Raises TimedOut."""
    command = [cli.path, *(["buildx", "build", "--load"] if cli.buildx else ["build"]), "--progress=plain"]
    command += ["--file", str(target.dockerfile), "--tag", target.tag, "--platform", target.platform]
    if options.network != "default":
        command += ["--network", options.network]
        if cli.buildx and options.network == "host":
            command += ["--allow", "network.host"]
    for name, value in target.args.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in proxies(os.environ):
        command += ["--build-arg", name]  # the value from the environment: command lines are there for all to see
    for secret in options.secrets.arguments():
        command += ["--secret", secret]
    if options.fresh:
        command.append("--no-cache")
    return run([*command, str(target.context)], log=log, options=options)


def bake(cli: engine.Cli, targets: Sequence[Target], options: Options, log: Path) -> Ended:
    """Build several images in one go; the first that fails ends the others. Raises TimedOut."""
    command = [cli.path, "buildx", "bake", "--file", "-", "--progress=plain", "--load"]
    if options.network == "host" and _bake_has_allow(cli.path):
        command += ["--allow", "network.host"]
    with tempfile.TemporaryDirectory() as folder:
        # By standard input: the file may hold the password of a proxy.
        text = json.dumps(bake_file(targets, options, os.environ))
        return run([*command, "--metadata-file", f"{folder}/metadata.json"], log=log, options=options, input=text)


def bake_file(targets: Sequence[Target], options: Options, environ: Mapping[str, str]) -> dict[str, Any]:
    """What bake reads for these images: a Compose file (docs.docker.com/build/bake/compose-file), since bake's own format
    has `network` only from buildx 0.17 on (docker/buildx pull request 2671) and before that ignores it silently."""
    services: dict[str, Any] = {}
    for number, target in enumerate(targets):
        build: dict[str, Any] = {
            "context": str(target.context), "dockerfile": str(target.dockerfile),
            "args": {**target.args, **proxies(environ)},
            "x-bake": {"tags": [target.tag], "platforms": [target.platform], "secret": options.secrets.arguments()},
        }  # fmt: skip
        if options.network != "default":
            build["network"] = options.network
        if options.fresh:
            build["x-bake"]["no-cache"] = True
        services[f"{re.sub('[^A-Za-z0-9_-]', '-', target.name)}-{number}"] = {"build": _literal(build)}
    return {"services": services}


def _literal(value: Any) -> Any:
    """Compose files have variables in their texts; a doubled dollar is one."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {name: _literal(inner) for name, inner in value.items()}
    return [_literal(inner) for inner in value] if isinstance(value, list) else value


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    names = [name for upper in PROXIES for name in (upper, upper.lower())]
    return {name: environ[name] for name in names if environ.get(name)}


@functools.cache
def _bake_has_allow(path: str) -> bool:
    """Whether `bake` asks for entitlements at all (buildx 0.17 and newer)."""
    text = subprocess.run([path, "buildx", "bake", "--help"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return "--allow" in text


# Commands ----------------------------------------------------------------------------------------------------------

_running: set[subprocess.Popen[bytes]] = set()
"""They run in sessions of their own, so neither the terminal's Ctrl-C nor our end would end them."""


@atexit.register
def stop() -> None:
    """End every docker command that was started here."""
    for process in list(_running):
        _end(process)


def run(command: Sequence[str], *, options: Options, log: Path | None = None, input: str | bytes = b"") -> Ended:
    """Run a docker command to its end; what it prints goes to `log` as it comes. Raises TimedOut, and InfrastructureError
    when it cannot be started; on Ctrl-C ends it."""
    given = input.encode() if isinstance(input, str) else input
    text: list[str] = []
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(log.open("w", encoding="utf-8", errors="replace")) if log else None
        try:
            process = subprocess.Popen(  # noqa: S603
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ(),
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            msg = f"{command[0]} cannot be started: {error}"
            raise InfrastructureError(msg) from error
        _running.add(process)

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    text.append(options.secrets.hide(line.decode("utf-8", "replace")))
                    if kept is not None:
                        with contextlib.suppress(OSError):  # a full disk: the command has to tell of it
                            kept.write(text[-1])
                            kept.flush()

        reader = threading.Thread(target=read, name="docker-output", daemon=True)
        reader.start()
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.write(given)
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(options.timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                msg = f"`{Path(command[0]).name} {command[1]}` took longer than {options.timeout:g} s and was ended"
                raise TimedOut(msg) from None
        except BaseException:
            _end(process)
            raise
        finally:
            reader.join(STOPPING)
            _running.discard(process)
        return Ended(code=process.returncode, text="".join(text))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, which ends the build in the engine too; then kill what is left of it and of its plugins."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # not SIGINT: what is started behind a shell's `&` ignores it
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)


def environ() -> dict[str, str]:
    """What docker commands run with: BuildKit without attestations (they hold times and would make each image another), and
    the engine that docker-py is given too."""
    env = {
        **os.environ, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "BUILDX_BAKE_ENTITLEMENTS_FS": "0",
        "DOCKER_CLI_HINTS": "false",
    }  # fmt: skip
    where = engine.endpoint()
    if not where.context:
        env["DOCKER_HOST"] = where.host
    return env


def ask(cli: engine.Cli, *arguments: str, input: bytes = b"", seconds: float = ASKING) -> Ended:
    """A docker command whose answer is wanted. Raises TimedOut."""
    return run([cli.path, *arguments], options=Options(timeout=seconds), input=input)


def inspect(cli: engine.Cli, image: str) -> dict[str, Any] | None:
    """What the engine says of an image (name or id); None when it has none such. Raises InfrastructureError."""
    ended = ask(cli, "image", "inspect", image)
    if ended.code == 0:
        # Warnings of the command may stand around the answer.
        found = json.loads(ended.text[ended.text.index("[\n") :] if "[\n" in ended.text else ended.text)
        return dict(found[0])
    if "No such image" in ended.text:
        return None
    lines = ended.text.strip().splitlines()
    msg = f"the Docker engine does not tell of {image}: {lines[-1] if lines else 'no answer'}"
    raise InfrastructureError(msg)
