"""Reading messages and logs: bounded and without frames, and their first line that says what, not where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from builder.diagnose_catalog import catalog, compiled
from builder.diagnose_text import ESCAPES, MESSAGE_LIMIT, clean

_FRAME = re.compile(r'\s*File ".{1,500}", line \d+')
_ERROR = re.compile(
    r"\[(?:E|ERROR|F|FATAL|critical|error)\]|\[[EF]:|^[EF]\d{4} |^\d{4}-\d\d-\d\d \S+ [EF] |(?:^|: )(?:fatal )?error: "
    r"|^(?:ERROR|FATAL|CRITICAL)\b|^[\w.]{0,120}(?:Error|Exception|Failure|Interrupt|Exit)\b(?::|$)"
    r"|what\(\):|terminate called|Assertion .{0,200}failed"
)
_WEAK = re.compile(r"(?i)\b(?:error|failed|failure|cannot|could not|unable to|not supported|unsupported|invalid)\b")
_NOISE = re.compile(
    r"\[(?:W|WARN|WARNING|I|INFO|V|VERBOSE|D|DEBUG)\]|\[[WIVD]:|^[WI]\d{4} |^\d{4}-\d\d-\d\d \S+ [WI] "
    r"|\w*Warning: |^Fatal Python error: (?:Segmentation fault|Aborted|Bus error|Illegal instruction|Floating)"
    r"|^(?:warning|WARNING|INFO|DEBUG|hint|note)\b|--- (?:Begin|End) node ---|^\s*$"
)
#: Lines that say where, not what.
_WHERE = re.compile(
    r"^(?:Check '.{0,300}' failed at .{1,300}:\d+:?|Exception from .{1,300}:\d+:?|FrontEnd API failed with \w+:?"
    r"|Errors during ONNX translation:?|While validating .{1,4000}|Shape inference input shapes .{1,1000}"
    r"|#+ Exception summary|Traceback \(most recent.*)$"
)
_TRACEBACK = re.compile(r"\s*Traceback \(most recent call last\):")
#: An exception's type before its message, as Python prints it.
_KIND = re.compile(r"^[\w.]{1,200}: (?=\S)")
_CONDITION = re.compile(r"^Check '(?!false')(.{1,300})' failed at .{1,300}:\d+:?$")
_FAULT = re.compile(r'\(most recent call first\):\n\s*File "(.{1,300})", line (\d+) in (\S{1,80})')


def message_of(error: Mapping[str, Any] | None) -> str:
    """`type: message` as Python prints it."""
    if not error:
        return ""
    kind, message = str(error.get("type") or "").strip(), str(error.get("message") or "").strip()
    if kind and message and not message.startswith(kind):
        message = f"{kind}: {message}"
    return bounded(message or kind, MESSAGE_LIMIT)


def bounded(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit // 2] + "\n" + text[-limit // 2 :]
    return text


def readable(text: str) -> str:
    """Without escapes, traceback frames, over-long lines and the catalogue's noise lines."""
    text = ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    noise = [compiled(regex) for regex in catalog().noise] if "Error" in text else []
    return "\n".join(
        line[:4000] for line in _without_frames(text.split("\n")) if not any(regex.search(line) for regex in noise)
    )


def _without_frames(lines: Iterable[str]) -> Iterator[str]:
    """Leave out `File "...", line N` and the source line and marks that follow it."""
    indent = -1
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if _FRAME.match(line):
            indent = depth
        elif indent >= 0 and depth > indent:
            continue
        else:
            indent = -1
            yield line


def first_line(texts: Sequence[str]) -> str:
    """The first line of the message that says what; else the first error of the log; '' when there is none."""
    lines = [line for line in texts[0].splitlines() if line.strip()]
    if lines:
        return clean(_what(lines)).strip()
    log = texts[1].splitlines()
    for pattern in (_ERROR, _WEAK):
        raised = False
        for i, line in enumerate(log):
            if _TRACEBACK.match(line):  # what follows its frames is the exception, whatever that is called
                raised = True
            elif raised and line and not line[0].isspace():
                return clean(_what(_paragraph(log, i))).strip()
            elif pattern.search(line) and not _NOISE.search(line) and not _WHERE.match(line.strip()):
                return clean(_with_cause(log, i)).strip()
    return ""


def _what(lines: Sequence[str]) -> str:
    """The first line of a message that says what; where all say where, the condition that did not hold."""
    said = [_KIND.sub("", lines[0].strip(), count=1), *(line.strip() for line in lines[1:])]
    for line, text in zip(lines, said, strict=True):
        if text and not _WHERE.match(text) and not _WHERE.match(line.strip()) and not _NOISE.search(line):
            return line
    return next((text for text in reversed(said) if _CONDITION.match(text)), lines[0])


def _paragraph(lines: Sequence[str], start: int) -> list[str]:
    """The lines of an exception's message in a log: up to an empty one or the next traceback."""
    out = [lines[start]]
    for line in lines[start + 1 : start + 60]:
        if not line.strip() or _TRACEBACK.match(line) or line.startswith("During handling of"):
            break
        out.append(line)
    return out


def _with_cause(lines: Sequence[str], i: int) -> str:
    """uv writes `error: ...` and its chain of causes below; the root says what happened."""
    line = lines[i].strip()
    causes = []
    for follower in lines[i + 1 : i + 12]:
        if not follower.startswith("  cause: "):
            break
        causes.append(follower[9:].strip())
    return f"{line}: {causes[-1]}" if causes and line.startswith("error: ") else line


def innermost(log: str) -> str:
    """Where Python was when the process died, from what its faulthandler wrote."""
    found = _FAULT.search(log)
    return clean(f"at {found[1]}, line {found[2]}, in {found[3]}") if found else ""
