"""What is asked of uv: resolve a stack to hashed pins, make its environment, fetch a package taken as data.

No address is ever passed: uv takes indexes from its own configuration, so a company's mirror works unchanged. The CPU
build of PyTorch comes from a folder of wheels (`UV_FIND_LINKS`, or pip's `PIP_FIND_LINKS`) when one holds it, and
otherwise from PyTorch's own CPU index, which uv knows by name (`--torch-backend cpu`): never gigabytes of CUDA.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import backoff
from builder.environment.interpreters import uv_binary
from builder.errors import EngineMatrixError, InfrastructureError, TransientError
from builder.lock import Pins, lines
from builder.values import Stack

#: Text of uv that means "the world", not "these versions".
_NETWORK = re.compile(
    r"error sending request|dns error|[Cc]onnection (refused|reset)|timed? ?out|Failed to fetch|client error|"
    r"certificate|HTTP status (server error|client error \(4(0[13]|07|29))|Network is unreachable|"
    r"network was disabled|offline|lack of valid authentication credentials",
)
#: Of that: what stays so until somebody changes it.
_LASTING = re.compile(
    r"certificate|HTTP status client error \(40[137]|network was disabled|offline|lack of valid authentication credentials"
)
_DISK = re.compile(r"No space left on device|os error 28|Disk quota exceeded|Read-only file system")


class PackageError(EngineMatrixError):
    """The packages of a stack cannot be had together: evidence about versions. `text` is uv's whole answer."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True, kw_only=True)
class Answer:
    seconds: float
    text: str


def version() -> str:
    out = subprocess.run([uv_binary(), "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return out.split()[1] if len(out.split()) > 1 else "unknown"


def environ() -> dict[str, str]:
    """The environment uv runs in: pip's wheel folders are offered to uv too."""
    env = dict(os.environ)
    if "UV_FIND_LINKS" not in env and env.get("PIP_FIND_LINKS"):
        folders = [entry for entry in env["PIP_FIND_LINKS"].split() if Path(entry).is_dir()]
        if folders:
            env["UV_FIND_LINKS"] = ",".join(folders)
    env.pop("VIRTUAL_ENV", None)
    return env


def _torch_backend(pins: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The CPU build's, unless a pin names another build (`torch==2.3.1+cu121`), or Triton stands beside it, which the index's own
    builds for CUDA ask for and the CPU's do not."""
    wanted = next((m for pin in pins if (m := re.match(r"torch==([\w.]+)(?:\+(cpu|cu\d+)\b)?", pin))), None)
    if wanted is None or (wanted[2] is None and any(_name(pin) == "triton" for pin in pins)):
        return []
    build = f"+{wanted[2]}" if wanted[2] else ""
    for folder in env.get("UV_FIND_LINKS", "").split(","):
        if folder and Path(folder).is_dir() and any(Path(folder).glob(f"torch-{wanted[1]}{build}*.whl")):
            return []
    return ["--torch-backend", wanted[2] or "cpu"]


def _call(arguments: Sequence[str], env: Mapping[str, str], what: str, *, held: tuple[int, ...] = ()) -> Answer:
    """Run uv, again where that may help (builder/backoff.py). Raises InfrastructureError or PackageError."""
    return backoff.retry(what, lambda: _once(arguments, env, what, held))


def _once(arguments: Sequence[str], env: Mapping[str, str], what: str, held: tuple[int, ...]) -> Answer:
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603
        [uv_binary(), *arguments], env=dict(env), capture_output=True, text=True, errors="replace", check=False,
        pass_fds=held, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    text = done.stderr + done.stdout
    if done.returncode == 0:
        return Answer(seconds=time.monotonic() - started, text=done.stdout)
    if done.returncode < 0:  # by SIGKILL most likely the system, for want of memory; by others a person
        msg = f"{what}: uv was killed by signal {-done.returncode}"
        raise (TransientError if done.returncode == -signal.SIGKILL else InfrastructureError)(msg)
    if _DISK.search(text):
        msg = f"{what}: {_first(text, _DISK)}; free some space and run again"
        raise TransientError(msg)  # what filled it may be another job's, and be gone with it
    if not _NETWORK.search(text):
        raise PackageError(f"{what}: {_first(text)}{_cut_off(text)}", text)
    msg = f"{what}: no answer from the package index: {_network(text)}; check the network and run again"
    raise (InfrastructureError if _LASTING.search(text) else TransientError)(msg)


def _first(text: str, pattern: re.Pattern[str] | None = None) -> str:
    """The line that says it, without uv's drawing characters."""
    found = [re.sub(r"^[\s\u00d7╰─▶├│:]*((error|cause):\s*)?", "", line).strip() for line in text.splitlines()]
    found = [line for line in found if line and not line.startswith("warning:")]
    for line in found:
        if pattern is not None and pattern.search(line):
            return line
    because = next((line for line in found if line.startswith("Because")), None)
    return because or (found[0] if found else "no message")


def _network(text: str) -> str:
    """What was asked for, and the last of the causes that uv gives, which is the first of them."""
    first = _first(text, _NETWORK)
    causes = [
        re.sub(r" for url \(.*\)$", "", line.partition("cause:")[2].strip())
        for line in text.splitlines()
        if "cause:" in line
    ]
    return f"{first}: {causes[-1]}" if causes and causes[-1] not in first else first


def _cut_off(text: str) -> str:
    """uv's hint that what is missing was published too late, which its first line does not say."""
    found = re.search(r"^hint: [^\n]*filtered by `exclude-newer`[^\n]*", text, re.M)
    return f"\n\n{found[0]}" if found else ""


def resolve(stack: Stack, cutoff: str) -> Pins:
    """Ask the index. Raises PackageError when no set of wheels fits, InfrastructureError when the index is away."""
    env = environ()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text("\n".join(lines(stack)) + "\n", encoding="utf-8")
        answer = _call(
            [
                "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header", "--no-build",
                "--python", sys.executable, "--python-version", stack.python, "--exclude-newer", cutoff,
                *_torch_backend(lines(stack), env), str(source),
            ],
            env,
            stack.id,
        )  # fmt: skip
    hashes = parse_requirements(answer.text)
    return Pins(python=stack.python, requirements=lines(stack), packages=tuple(sorted(hashes)), hashes=hashes)


def hashes_of(packages: Sequence[str], python: str, cutoff: str) -> dict[str, tuple[str, ...]]:
    """The hashes of exactly these pins ("name==version"), as the index had them at the cut-off; nothing is resolved. Raises
    PackageError when one cannot be had, InfrastructureError when the index is away."""
    return parse_requirements(
        _compile(packages, python, cutoff, "the pins of a lock", "--no-deps", "--generate-hashes")
    )


def misfit(packages: Sequence[str], python: str, cutoff: str) -> str:
    """Why these pins are no set that a resolver would give: requirements that contradict each other, or that lack a package.
    '' where they fit. Raises InfrastructureError when the index is away."""
    try:
        answer = _compile(packages, python, cutoff, "these versions", "--no-annotate")
    except PackageError as error:
        return str(error).partition("\n")[0]
    has = {_name(pin) for pin in packages}
    lacks = sorted(
        {_name(line) for line in answer.splitlines() if "==" in line and not line.startswith((" ", "#"))} - has
    )
    return f"they ask for {', '.join(lacks)} as well" if lacks else ""


def _name(pin: str) -> str:
    """The project of a pin, as indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0].partition("[")[0].strip()).lower()


def _compile(packages: Sequence[str], python: str, cutoff: str, what: str, *options: str) -> str:
    env = environ()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text("\n".join(packages) + "\n", encoding="utf-8")
        return _call(
            ["pip", "compile", "--quiet", "--no-header", "--no-build", "--python", sys.executable, "--python-version", python,
             "--exclude-newer", cutoff, *options, *_torch_backend(packages, env), str(source)],
            env,
            what,
        ).text  # fmt: skip


def resolve_data(name: str, cutoff: str) -> tuple[str, ...]:
    """Hashes of one package taken as data ("name==version"). Raises PackageError when it cannot be had,
    InfrastructureError when the index is away."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text(name + "\n", encoding="utf-8")
        answer = _call(
            ["pip", "compile", "--quiet", "--generate-hashes", "--no-deps", "--no-annotate", "--no-header",
             "--no-build", "--python", sys.executable, "--exclude-newer", cutoff, str(source)],
            environ(),
            name,
        )  # fmt: skip
    found = parse_requirements(answer.text)
    if len(found) != 1:
        msg = f"{name}: uv answered with {len(found)} packages, not one"
        raise PackageError(msg, answer.text)
    return next(iter(found.values()))


def parse_requirements(text: str) -> dict[str, tuple[str, ...]]:
    """uv's hashed requirements -> {"name==version": ("sha256:...", ...)}; markers are kept with the pin."""
    out: dict[str, tuple[str, ...]] = {}
    for block in text.replace("\\\n", " ").splitlines():
        words = block.split("--hash=")
        if words[0].strip() and not block.startswith("#") and len(words) > 1:
            out[words[0].strip()] = tuple(sorted(word.strip() for word in words[1:]))
    return out


def make_venv(python: Path, target: Path, held: int) -> None:
    """`held`: descriptor of the lock on the target, which uv keeps as long as it works there. Whatever is wrong here is
    this machine's: raises InfrastructureError."""
    try:
        _call(
            ["venv", "--quiet", "--no-project", "--clear", "--python", str(python), str(target)], environ(), target.name,
            held=(held,),
        )  # fmt: skip
    except PackageError as error:
        raise InfrastructureError(str(error)) from error


def install(pins: Pins, python: Path, name: str, held: int) -> Answer:
    """Install exactly the locked packages, every file checked against its hash."""
    env = environ()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.txt")
        source.write_text(pins.requirements_txt(), encoding="utf-8")
        return _call(
            ["pip", "sync", "--quiet", "--no-build", "--require-hashes", "--python", str(python),
             *_torch_backend(pins.packages, env), str(source)],
            env,
            name,
            held=(held,),
        )  # fmt: skip


def install_data(name: str, hashes: Sequence[str], target: Path) -> None:
    """Unpack one package, without its dependencies, into a folder; nothing of it is executed."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.txt")
        source.write_text(" \\\n".join([name, *(f"    --hash={value}" for value in hashes)]) + "\n", encoding="utf-8")
        _call(
            ["pip", "install", "--quiet", "--no-build", "--no-deps", "--require-hashes", "--python", sys.executable,
             "--target", str(target), "-r", str(source)],
            environ(),
            name,
        )  # fmt: skip
