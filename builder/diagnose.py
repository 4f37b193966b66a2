"""What a failure was: category, first meaningful error line, diagnosis and remedy.

The knowledge is data (`catalog/failures.yaml`); this module only searches. It reads that file when the first failure is
diagnosed, so a run without failures pays nothing and a failure costs a few milliseconds. Everything that comes in is
hostile: it is bounded before any pattern sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.diagnose_catalog import INFRASTRUCTURE, Signature, catalog, signature
from builder.diagnose_line import bounded, first_line, innermost, message_of, readable
from builder.diagnose_text import LOG_LIMIT, MESSAGE_LIMIT, cut, line_at, normalised
from builder.values import FAILING

#: Signals that the worker's own limits never send: somebody else ended the process (SIGKILL: mostly the kernel's
#: out-of-memory killer).
_FOREIGN_SIGNALS = frozenset({"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"})
#: What comes first in "2023.0.2-11065-e662b1a3301-releases/2023/0" and "2.13.0+cpu".
_RELEASE = re.compile(r"\d+(?:\.\d+)*(?:(?:a|b|rc|\.dev|\.post)\d+)?")


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
    message = message_of(error)
    rest = bounded(str((error or {}).get("traceback") or ""), MESSAGE_LIMIT) + "\n" + bounded(log, LOG_LIMIT)
    texts = [readable(message), readable(rest), innermost(rest)]
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
    line = line_at(match.string, start, match.end())
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
    line = cut(said) or f"{stage} failed without a message{code}"
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
