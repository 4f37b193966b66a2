"""What is done with images that are built: push them, look into them again, open a shell in one."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.environment import buildkit, engine, reference
from builder.environment.buildsecrets import csv
from builder.environment.container_config import user_of
from builder.errors import InfrastructureError

if TYPE_CHECKING:
    from builder.environment.images import DockerImage

#: Seconds for all checks of one image.
CHECKING = 600.0
#: As cells' containers are (container_config.py), as far as looking needs it.
_CONFINED = (
    "--rm", "--interactive", "--network", "none", "--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777",  # noqa: S108
    "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ulimit", "core=0", "--env", "HOME=/tmp",
    "--env", "NVIDIA_VISIBLE_DEVICES=void", "--log-driver", "none",
)  # fmt: skip


def push(images: Sequence[DockerImage], prefix: str) -> dict[str, str]:
    """Push each as `<prefix>/<family>:<key>`; name -> digest, which image.json keeps too. Logins are the docker command's own.

    Raises UsageError for a bad prefix, InfrastructureError when the engine lost an image or the registry refuses."""
    names = [f"{prefix.rstrip('/')}/{image.rendered.tag.removeprefix('enginematrix/')}" for image in images]
    for name in names:
        reference.parse(name)
    cli = engine.builder_cli()
    out = {}
    for image, name in zip(images, names, strict=True):
        state = _state(image)
        for command in (("tag", str(state["id"]), name), ("push", name)):
            ended = buildkit.ask(cli, *command, seconds=buildkit.TIMEOUT)
            if ended.code:
                msg = f"{image.name}: `docker {command[0]}` to {name} failed: {_last(ended.text)}"
                raise InfrastructureError(msg)
        found = re.findall(r"digest: (sha256:[0-9a-f]{64})", ended.text)
        if not found:
            msg = f"{image.name}: `docker push` of {name} told no digest: {_last(ended.text)}"
            raise InfrastructureError(msg)
        out[name] = found[-1]
        image.remember({**state, "pushed": {**state.get("pushed", {}), name: found[-1]}})
    return out


def verify(image: DockerImage) -> list[str]:
    """What is wrong with a finished image, [] for nothing: its platform, its labels, and check.py once more inside it, by the
    interpreter that workers get. Raises InfrastructureError."""
    cli = engine.builder_cli()
    state = _state(image)
    found = buildkit.inspect(cli, str(state["id"]))
    if found is None:
        return ["the Docker engine has it no more; `enginematrix images build` makes it again when a cell needs it"]
    problems = []
    platform = f"{found['Os']}/{found['Architecture']}"
    if platform != image.rendered.platform:
        problems.append(f"is for {platform}, not for {image.rendered.platform}")
    labels = found["Config"].get("Labels") or {}
    for name, value in promised_labels(image.rendered.dockerfile).items():
        if labels.get(name) != value:
            problems.append(f"label {name} is {labels.get(name)!r}, not {value!r}")
    # By standard input: an engine on another machine sees no file of this one.
    ended = buildkit.ask(
        cli, "run", *_CONFINED, *_as_cells(image), "--entrypoint", image.rendered.python, str(found["Id"]), "-B", "-",
        *promised_versions(image.rendered.dockerfile),
        input=image.rendered.files["check.py"].encode(), seconds=CHECKING,
    )  # fmt: skip
    lines = [line for line in ended.text.splitlines() if line.strip() and not line.startswith("ok: ")]
    if ended.code == 125:  # docker run: the engine itself failed
        msg = f"{image.name}: no container of it could be started: {_last(ended.text)}"
        raise InfrastructureError(msg)
    if ended.code:
        problems += lines or [f"its check ended with exit code {ended.code}"]
    return problems


def promised_versions(dockerfile: str) -> list[str]:
    """The arguments that a Dockerfile's first check gives check.py."""
    for line in re.findall(r"^\s+(\[.*\])$", dockerfile, re.M):
        command = json.loads(line)
        if command[2:3] == ["check"]:
            return [str(argument) for argument in command[5:]]
    return []


def promised_labels(dockerfile: str) -> dict[str, str]:
    """A Dockerfile's labels."""
    start = dockerfile.rfind("\nLABEL ")
    pairs = re.findall(r'([\w.-]+)="((?:[^"\\]|\\.)*)"', dockerfile[start:]) if start >= 0 else []
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in pairs}


def shell(image: DockerImage, artifacts: Path) -> int:
    """A shell in a container as cells have it, with the store at its own path, read-only. Its exit code."""
    root = str(artifacts.resolve())
    command = [
        engine.builder_cli().path, "run", *_CONFINED, *_as_cells(image), *(["--tty"] if os.isatty(0) else []),
        "--workdir", "/tmp", "--mount", f"type=bind,{csv(f'source={root}')},{csv(f'target={root}')},readonly",  # noqa: S108
        "--pids-limit", str(image.settings.pids), "--shm-size", str(image.settings.shm), "--entrypoint", "/bin/sh",
        str(_state(image)["id"]), "-c", 'PATH="$(dirname "$1"):$PATH"; exec "$(command -v bash || echo sh)"', "sh",
        image.rendered.python,
    ]  # fmt: skip
    return subprocess.call(command, env=buildkit.environ())  # noqa: S603


def _as_cells(image: DockerImage) -> list[str]:
    """The user that the image's cells are, who may not see what root sees. Raises InfrastructureError."""
    rules = image.family.image
    try:
        uid, gid = user_of(rules.user if rules else "any", engine.client().info())
    except engine.errors() as error:
        msg = f"the Docker engine does not describe itself: {error}"
        raise InfrastructureError(msg) from error
    return ["--user", f"{uid}:{gid}"]


def _state(image: DockerImage) -> dict[str, Any]:
    state = image.state()
    if state is None:
        msg = f"{image.name}: not built; run `enginematrix images build`"
        raise InfrastructureError(msg)
    return state


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
