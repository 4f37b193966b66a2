"""What a build that failed says: evidence about versions, or about this machine and its network.

BuildKit's plain log numbers its steps: `#8 0.345 what the step printed`, `#8 ERROR: how it ended`. A step that ran and
failed is evidence, unless it tells of the network, a disk or a kill; whatever else fails (a pull, the engine itself) is
no evidence, unless the registry says that the image is not there or not for this platform. What texts mean stands in
the failure catalogue (builder/catalog/failures.yaml).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from builder import diagnose
from builder.diagnose_line import first_line
from builder.diagnose_text import LINE_LIMIT, clean
from builder.environment.uv import PackageError
from builder.errors import EngineMatrixError, InfrastructureError, TransientError

_STEP = re.compile(r"#(\d+) (.*)")
_ERROR = re.compile(r"ERROR: (.*)")
_PRINTED = re.compile(r"\d+\.\d+ ?(.*)")
_RAN = re.compile(
    r"(?:executor failed running \[|process \")(?P<command>.*)(?:\]|\" did not complete successfully): exit code: (?P<code>\d+)"
)
#: Categories that are evidence although no step ran.
_EVIDENCE = frozenset({"image-unavailable", "container-architecture"})
_KILLED = 137
"""128 + SIGKILL: nothing in a build has a limit of ours, so it was the system's out-of-memory killer or a person."""
_WORTHLESS = re.compile(r"^(?:WARNING|warning|Using Python|Resolved|Prepared|Downloading|Building|hint)\b|^-+$|^\s*$")


class ImageError(PackageError):
    """An image cannot be made of these versions: evidence. The base image is not there, a check in it failed, packages
    cannot be had. `text` is the whole log."""


def failure(name: str, text: str) -> EngineMatrixError:
    """What to raise for a build whose log is `text`: ImageError or InfrastructureError, with its line that says why."""
    printed, ended = steps(text)
    ran = next((match for error in ended if (match := _RAN.search(error))), None)
    if ran is not None:
        said = "\n".join(printed)
        found = diagnose.diagnose("environment", "failed", None, None, said)
        if int(ran["code"]) == _KILLED:
            msg = f"{name}: a step of the build was killed, most likely for want of memory; build fewer at a time (`--jobs 1`)"
            return TransientError(msg)
        line = found.line if found.signature else _says(printed) or f"exit code {ran['code']} without a message"
        if found.infrastructure:
            return _no_evidence(found, f"{name}: {line}; {_advice(found)}")
        return ImageError(f"{name}: {line}", text)
    said = "\n".join(ended)
    found = diagnose.diagnose("environment", "failed", None, None, said)
    line = found.line if found.signature else (ended[-1] if ended else "the build ended without a message")
    line = clean(line)
    if found.signature and found.category in _EVIDENCE:
        return ImageError(f"{name}: {line}", text)
    return _no_evidence(found, f"{name}: {line}; {_advice(found)}")


def _no_evidence(found: diagnose.Diagnosis, message: str) -> InfrastructureError:
    """What is not known to stay as it is may be mended by another try."""
    return TransientError(message) if found.transient or not found.signature else InfrastructureError(message)


def _advice(found: diagnose.Diagnosis) -> str:
    text = found.remedy or "see its build.log"
    return text[:1].lower() + text[1:].rstrip(".")


def steps(text: str) -> tuple[list[str], list[str]]:
    """(what the steps that failed printed, how steps and the build ended)."""
    printed: dict[str, list[str]] = {}
    failed: list[str] = []
    ended: list[str] = []
    plain: list[str] = []
    quoted = False
    for line in text.splitlines():
        match = _STEP.match(line)
        if match is None:
            # Between two rules BuildKit repeats what the failed step printed.
            quoted = not quoted if line.strip() == "------" else quoted
            if not quoted and line.strip() and line.strip() != "------":
                plain.append(line.strip())
            continue
        number, rest = match.groups()
        if error := _ERROR.match(rest):
            if "context canceled" not in error[1]:
                failed.append(number)
                ended.append(error[1])
        elif output := _PRINTED.match(rest):
            printed.setdefault(number, []).append(output[1])
    return [line for number in failed for line in printed.get(number, ())], [*ended, *_tail(plain)]


def _tail(lines: Sequence[str]) -> list[str]:
    """What the command itself says at its end; before that stand its warnings, and from 23 on a piece of the Dockerfile."""
    for number, line in enumerate(lines):
        if re.match(
            r"ERROR:|error:|failed to |executor failed|unexpected |Cannot connect|Error response|error during connect",
            line,
        ):
            return list(lines[number:])
    return list(lines[-1:])


def _says(printed: Sequence[str]) -> str:
    """The line that says it, of what a step printed that the catalogue does not know."""
    lines = [line.strip() for line in printed if not _WORTHLESS.search(line.strip())]
    found = first_line(["", "\n".join(lines)])
    return found or clean(lines[-1] if lines else "")[:LINE_LIMIT]
