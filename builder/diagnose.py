"""What a failure was: category, first meaningful error line, diagnosis and remedy.

The knowledge is data (`catalog/failures.yaml`); this module only searches. It reads that file when the first failure is
diagnosed and compiles a signature's pattern when its literal text occurs, so a run without failures pays nothing and a
failure costs a few milliseconds. Everything that comes in is hostile: it is bounded before any pattern sees it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.values import FAILING

#: Categories that say something about this machine or the network and nothing about versions: never evidence, never
#: reused. The catalogue states the same; a test compares them.
INFRASTRUCTURE = frozenset(
    {"network", "disk", "registry", "interpreter", "killed", "container-runtime", "driver-mismatch", "infrastructure"}
)

CATALOG = Path(__file__).parent / "catalog" / "failures.yaml"
MESSAGE_LIMIT = 1 << 16
"""Characters of an exception's message that are looked at."""
LOG_LIMIT = 1 << 18
"""Characters of a log that are looked at: half from its start, half from its end."""
LINE_LIMIT = 400
"""Characters of the error line that is kept."""

#: Signals that the worker's own limits never send: somebody else ended the process (SIGKILL: mostly the kernel's
#: out-of-memory killer).
_FOREIGN_SIGNALS = frozenset({"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"})


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The part of a cell that explains a failure. `signature` is None when nothing in the catalogue matched."""

    category: str
    signature: str | None
    line: str
    """The first meaningful error line, at most LINE_LIMIT characters, without escapes and machine paths."""
    diagnosis: str | None
    remedy: str | None
    source: str | None
    """Where the signature comes from: an address, or how it was reproduced."""
    group_key: str
    """Equal for equal failures, whatever their addresses, times, paths and line numbers."""
    infrastructure: bool
    transient: bool = False
    """Infrastructure that another try may find mended."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One entry of the catalogue; the file's head explains the fields."""

    order: int
    id: str
    category: str
    severity: str
    stages: frozenset[str]
    end: str | None
    versions: Mapping[str, str]
    regex: str
    diagnosis: str
    remedy: str
    source: str
    example: str
    lasting: bool

    def concerns(self, versions: Mapping[str, str]) -> bool:
        """Whether every module that the signature is about was loaded in a release that it is about."""
        from packaging.specifiers import SpecifierSet

        return all(
            module in versions and SpecifierSet(wanted).contains(versions[module], prereleases=True)
            for module, wanted in self.versions.items()
        )

    def search(self, text: str) -> re.Match[str] | None:
        """The first match; the pattern is compiled only when the text holds what it cannot match without."""
        if not self.regex:
            return None
        literals = required(self.regex)
        if literals and not any(literal in text for literal in literals):
            return None
        return _compiled(self.regex).search(text)

    def explain(self, match: re.Match[str], versions: Mapping[str, str]) -> str:
        found = {name: clean(value).strip() if value else "?" for name, value in match.groupdict().items()}
        if "operators" in found:  # a list of nodes: how often and in which order says nothing of what is missing
            found["operators"] = ", ".join(sorted(set(re.split(r",\s*", found["operators"]))))
        return self.diagnosis.format_map({**versions, **found})


@dataclass(frozen=True, kw_only=True)
class Catalog:
    signatures: tuple[Signature, ...]
    categories: Mapping[str, Mapping[str, Any]]
    noise: tuple[str, ...]


@functools.cache
def catalog() -> Catalog:
    """The catalogue, read once. Raises KeyError or yaml.YAMLError when the file is damaged: our bug, not a failure."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data = yaml.load(CATALOG.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (a safe loader, in C)
    signatures = tuple(
        Signature(
            order=order,
            id=entry["id"],
            category=entry["category"],
            severity=entry.get("severity", "error"),
            stages=frozenset(entry.get("stages", ())),
            end=entry.get("end"),
            versions=entry.get("versions", {}),
            regex=entry.get("regex", ""),
            diagnosis=entry["diagnosis"],
            remedy=entry["remedy"],
            source=entry["source"],
            example=entry.get("example", ""),
            lasting=entry.get("lasting", False),
        )
        for order, entry in enumerate(data["signatures"])
    )
    return Catalog(signatures=signatures, categories=data["categories"], noise=tuple(data["noise"]))


@functools.cache
def signature(name: str) -> Signature | None:
    return next((s for s in catalog().signatures if s.id == name), None)


@functools.cache
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex)


_TOKEN = re.compile(
    r"(?P<escaped>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?(?:P<\w+>|[:=!]|<[=!]))?)|(?P<close>\))"
    r"|(?P<optional>[?*]\??|\{\d+(?:,\d*)?\}\??)|(?P<more>\+\??)|(?P<or>\|)|(?P<any>[.^$])|(?P<plain>.)",
    re.DOTALL,
)


@functools.cache
def required(regex: str) -> tuple[str, ...]:
    """Texts of which every match of `regex` holds at least one; empty when there is no such guarantee.

    Takes only what is certain: plain characters outside groups and sets, cut at everything optional or repeated; the
    longest such run of each alternative.
    """
    if "(?i)" in regex:
        return ()
    alternatives: list[list[str]] = [[""]]
    depth = 0
    for token in _TOKEN.finditer(regex):
        kind, text = token.lastgroup, token.group()
        runs = alternatives[-1]
        depth += (kind == "open") - (kind == "close")
        if depth == 0 and kind == "plain":
            runs[-1] += text
        elif depth == 0 and kind == "escaped" and not text[1].isalnum():
            runs[-1] += text[1]
        elif depth == 0 and kind == "or":
            alternatives.append([""])
        elif depth == 0 and kind == "optional":
            runs[-1] = runs[-1][:-1]
            runs.append("")
        elif runs[-1]:
            runs.append("")
    longest = tuple(max(runs, key=len) for runs in alternatives)
    return longest if all(len(text) >= 3 for text in longest) else ()


def diagnose(
    stage: str,
    status: str,
    error: Mapping[str, Any] | None,
    end: Mapping[str, Any] | None,
    log: str,
    versions: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Explain a cell that did not do what was asked.

    `stage` is where it stopped and `status` its outcome (builder/values.py); `error` is `{"type", "message",
    "traceback"}` and `end` as builder/worker/README.md has them; `log` is everything the step printed (put the
    environment's own log before it, where a library complains at import only); `versions` are the module versions
    loaded: some signatures are of some releases alone. Raises nothing for any input text.
    """
    message = _message(error)
    rest = _bounded(str((error or {}).get("traceback") or ""), MESSAGE_LIMIT) + "\n" + _bounded(log, LOG_LIMIT)
    texts = [_readable(message), _readable(rest), _innermost(rest)]
    name = str((end or {}).get("name") or "")
    loaded = {module: release[0] for module, text in (versions or {}).items() if (release := _RELEASE.match(str(text)))}
    if status in ("timeout", "mismatch"):
        # An error line in the log of something that then hung, or ran with wrong numbers, is not shown to be its cause.
        return _undiagnosed(stage, status, texts, end)
    if status == "degraded":
        severities = ("error", "secondary", "silent", "warning", "info")
        return _matched(stage, texts[:2], severities, status, loaded) or _undiagnosed(stage, status, texts, end)
    if name and (found := _by_end(name, loaded)):
        return found
    if name in _FOREIGN_SIGNALS and status != "out-of-memory":
        return _undiagnosed(stage, status, texts, end)
    found = _matched(stage, texts[:2], ("error", "secondary"), status, loaded)
    if found is None or (name and found.category == "crash"):  # "Segmentation fault" says no more than the signal does
        return _undiagnosed(stage, status, texts, end)
    return found


def no_evidence(stage: str, text: str) -> dict[str, Any]:
    """What a cell has of a step that ended without evidence, by why: `category` (always `infrastructure`), `signature`,
    `line`, `diagnosis`, `remedy`, `source`. The catalogue may know the words; it makes no evidence of them."""
    found = diagnose(stage, "failed", {"message": text}, None, "")
    known = found.infrastructure and found.signature is not None
    return {
        "category": "infrastructure", "signature": found.signature if known else None, "line": text,
        "diagnosis": found.diagnosis if known else None, "source": found.source if known else None,
        "remedy": found.remedy if known else "Mend what the line names, then run again: what could not be tried is tried then.",
    }  # fmt: skip


def group_key(status: str, category: str | None, name: str | None, line: str | None, diagnosis: str | None) -> str:
    """What equal failures share; made from what a stored cell has, so that a report can group what it reads.

    A signature names a cause: failures that got the same diagnosis from it are equal (the operator and the version count,
    the name of the node does not). A secondary one says where it broke and not why: there the line counts too, and where
    there is no signature the line alone, without what always differs.
    """
    known = signature(name) if name else None
    detail = [] if known is None else [diagnosis or ""]
    if known is None or known.severity == "secondary":
        detail.append(normalised(line or ""))
    return "|".join((status, category or "", name or "", *detail))


def undiagnosed(cell: Mapping[str, Any]) -> bool:
    """Whether the catalogue does not know why a cell failed, so that its category is a guess from the stage and the end.

    A limit of time or memory, numbers that are wrong and something else than was asked explain themselves."""
    category = str(cell.get("category") or "")
    return cell["status"] in FAILING and not cell.get("signature") and (
        category == "crash" or category.endswith("-error") or not category
    )  # fmt: skip


# ---------------------------------------------------------------- matching


def _matched(
    stage: str, texts: Sequence[str], severities: Sequence[str], status: str, versions: Mapping[str, str]
) -> Diagnosis | None:
    """The best match: primary before secondary; message before log; in a log infrastructure first (it taints every
    conclusion about versions), then the earliest line; on one line the catalogue's order."""
    for severity in (("error",), tuple(s for s in severities if s != "error")):
        for text in texts:
            best: tuple[tuple[int, int], Signature, re.Match[str]] | None = None
            for s in catalog().signatures:
                if s.severity not in severity or (s.stages and stage not in s.stages):
                    continue
                match = s.search(text)
                if match and (not s.versions or s.concerns(versions)):
                    tainted = s.category in INFRASTRUCTURE
                    key = (-1 if tainted else text.count("\n", 0, match.start()), s.order)
                    if best is None or key < best[0]:
                        best = (key, s, match)
            if best:
                return _diagnosis(best[1], best[2], status, versions)
    return None


def _diagnosis(s: Signature, match: re.Match[str], status: str, versions: Mapping[str, str]) -> Diagnosis:
    start = match.start("line") if "line" in match.groupdict() and match["line"] else match.start()
    line = _line_at(match.string, start, match.end())
    text = s.explain(match, versions)
    return Diagnosis(
        category=s.category,
        signature=s.id,
        line=line,
        diagnosis=text,
        remedy=s.remedy,
        source=s.source,
        group_key=group_key(status, s.category, s.id, line, text),
        infrastructure=s.category in INFRASTRUCTURE,
        transient=s.category in INFRASTRUCTURE and not s.lasting,
    )


def _by_end(name: str, versions: Mapping[str, str]) -> Diagnosis | None:
    """A crash that prints nothing, known by its signal and the versions loaded."""
    for s in catalog().signatures:
        if s.end == name and not s.regex and s.concerns(versions):
            line, text = f"killed by {name}", s.diagnosis.format_map(versions)
            return Diagnosis(
                category=s.category,
                signature=s.id,
                line=line,
                diagnosis=text,
                remedy=s.remedy,
                source=s.source,
                group_key=group_key("crashed", s.category, s.id, line, text),
                infrastructure=s.category in INFRASTRUCTURE,
            )
    return None


def _undiagnosed(stage: str, status: str, texts: Sequence[str], end: Mapping[str, Any] | None) -> Diagnosis:
    end = end or {}
    name = str(end.get("name") or "")
    said = first_line(texts)
    text: str | None = None
    remedy: str | None = None
    if status == "timeout" or "timeout" in end:
        limit = end.get("timeout")
        category = "timeout"
        text = f"The stage `{stage}` did not end within its {limit:g} s." if isinstance(limit, int | float) else None
        remedy = "Raise `timeout` for these cells with a `set` rule; if it hangs at any limit, report it to the engine."
        said = said or (f"no end within {limit:g} s in {stage}" if isinstance(limit, int | float) else "")
    elif status == "out-of-memory" or "memory" in end:
        category = "memory"
        text = f"The stage `{stage}` needed more memory than it was allowed."
        remedy = "Raise `memory` for these cells with a `set` rule, or use a smaller batch or model."
        said = said or f"out of memory in {stage}"
    elif name in _FOREIGN_SIGNALS:
        category = "killed"
        text = f"Something outside the run ended the process with {name}" + (
            "; most often that is the system's out-of-memory killer." if name == "SIGKILL" else "."
        )
        remedy = "Look at the system's log; give the run more memory or fewer parallel jobs, then run again."
        said = f"killed by {name} in {stage}"
    elif status == "crashed" or "signal" in end:
        category = "crash"
        text = f"The process died by {name or 'a signal'} in the stage `{stage}`."
        said = f"killed by {name or end.get('signal', 'a signal')} in {stage}" + "".join(
            f": {detail}" for detail in (said, texts[2]) if detail
        )
    elif status == "mismatch":
        category = "accuracy"
    elif status == "degraded":
        category = "degraded"
    else:
        category = f"{stage}-error"
    code = f" (exit status {end['exit']})" if end.get("exit") else ""
    line = _cut(said) or f"{stage} failed without a message{code}"
    return Diagnosis(
        category=category,
        signature=None,
        line=line,
        diagnosis=text,
        remedy=remedy,
        source=None,
        group_key=group_key(status, category, None, line, None),
        infrastructure=category in INFRASTRUCTURE,
    )


# ---------------------------------------------------------------- the first meaningful line

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


def _innermost(log: str) -> str:
    """Where Python was when the process died, from what its faulthandler wrote."""
    found = _FAULT.search(log)
    return clean(f"at {found[1]}, line {found[2]}, in {found[3]}") if found else ""


def _message(error: Mapping[str, Any] | None) -> str:
    """`type: message` as Python prints it."""
    if not error:
        return ""
    kind, message = str(error.get("type") or "").strip(), str(error.get("message") or "").strip()
    if kind and message and not message.startswith(kind):
        message = f"{kind}: {message}"
    return _bounded(message or kind, MESSAGE_LIMIT)


def _bounded(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit // 2] + "\n" + text[-limit // 2 :]
    return text


def _readable(text: str) -> str:
    """Without escapes, traceback frames, over-long lines and the catalogue's noise lines."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    noise = [_compiled(regex) for regex in catalog().noise] if "Error" in text else []
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


# ---------------------------------------------------------------- text

#: What comes first in "2023.0.2-11065-e662b1a3301-releases/2023/0" and "2.13.0+cpu".
_RELEASE = re.compile(r"\d+(?:\.\d+)*(?:(?:a|b|rc|\.dev|\.post)\d+)?")
_FAULT = re.compile(r'\(most recent call first\):\n\s*File "(.{1,300})", line (\d+) in (\S{1,80})')
_FRAME = re.compile(r'\s*File ".{1,500}", line \d+')
_ESCAPES = re.compile(
    r"\x1b\[[0-9;:?]{0,40}[ -/]?[@-~]|\x1b\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]"
)
_LOGIN = re.compile(r"(://)[^/\s@]{1,300}@")
_PATH = re.compile(r"(?:file://)?(?<![\w:/.])/(?:[\w.+@~%-]+/)+")
_STAMP = re.compile(
    r"\[?\d{2,4}[-/]\d\d[-/]\d{2,4}[-T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?\]?|^[EWIF]\d{4} \d\d:\d\d:\d\d\.\d+ \d+ "
)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_DURATION = re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|sec|seconds|min)\b")
_SOURCE_LINE = re.compile(r"(\.(?:cc|cpp|cxx|c|cu|h|hpp|py|rs)):{1,2}\d+\b")
_HASH = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b|\b\d{5,}\b")


def clean(text: str) -> str:
    """For people: no escapes, no credentials in addresses, files by their name alone (records never name a machine)."""
    return _PATH.sub("", _LOGIN.sub(r"\1", _ESCAPES.sub("", text)))


def normalised(line: str) -> str:
    """For grouping: without timestamps, addresses, durations, long numbers, hashes and source line numbers."""
    line = _STAMP.sub("", clean(line))
    line = _DURATION.sub("#", _ADDRESS.sub("#", line))
    line = _HASH.sub("#", _SOURCE_LINE.sub(r"\1", line))
    return " ".join(line.split())


def _line_at(text: str, start: int, end: int) -> str:
    """The line of `text` around `start`, cleaned; where it is too long, the part with the match."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    line = clean(text[first:last]).strip()
    if len(line) <= LINE_LIMIT:
        return line
    at = line.find(clean(text[start : min(end, last)]).strip()[:80])
    return _cut(line if at <= 0 else "…" + line[at:])


def _cut(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…"
