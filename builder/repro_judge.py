"""Run reproduce.py and say whether it shows the failure that expected.json describes: by its cause, not by any failure.

    python judge.py [MODEL]

Exit code 0: the same failure. 1: not (it works, or fails in another way). 2: it could not be tried.
Standard library of Python 3.6 and newer alone: this file is copied into every folder that shows a failure.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, Tuple

SAME, OTHER, UNTRIED = 0, 1, 2
SECONDS = 900.0
"""How long what should fail otherwise than by hanging may take, at least."""
KEPT = 4 << 20
"""Bytes of output that are looked at: half from its start, half from its end."""

_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_PATH = re.compile(r"(?<![\w:/.])/(?:[\w.+@~%-]+/)+")
_FILE = re.compile(r"(?<![\w.+-])[\w.+-]{1,255}\.(?:onnx|tflite|blob|plan|pt2|pt|pb|safetensors|npz)\b")
_PLACE = re.compile(r"(\.(?:cc|cpp|cxx|cu|c|hpp|h|py|rs)):{1,2}\d+\b")
_NUMBER = re.compile(
    r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b|\b\d{5,}\b|(?<=[A-Za-z]_)\d+\b|\b\d+(?:\.\d+)? ?(?:ns|us|ms|s)\b"
)


def normal(text: str) -> str:
    """What equal errors share: no colours, folders, names of model files, addresses, times, hashes, lines of source,
    and no counters at the end of names."""
    text = _PATH.sub("", _ESCAPES.sub("", text))
    return " ".join(_NUMBER.sub("#", _PLACE.sub(r"\1", _FILE.sub("FILE", text))).split())


def run(arguments: List[str], seconds: float) -> Tuple[Dict[str, Any], str]:
    """(how reproduce.py ended, what it printed). It and all that it started are killed after `seconds`."""
    command = [sys.executable, "-I", "-X", "faulthandler", "reproduce.py"] + arguments
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    with tempfile.TemporaryFile() as file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, preexec_fn=_alone
        )
        end = {}  # type: Dict[str, Any]
        try:
            code = child.wait(timeout=seconds)
            end = {"exit": code} if code >= 0 else {"signal": _name(-code)}
        except subprocess.TimeoutExpired:
            end = {"timeout": seconds}
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except OSError:
                pass
            child.wait()
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        data = file.read(KEPT // 2)
        if size > KEPT // 2:
            file.seek(max(size - KEPT // 2, KEPT // 2))
            data += b"\n" + file.read()
    return end, data.decode("utf-8", "replace")


def _alone() -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def result(output: str) -> Dict[str, Any]:
    """What reproduce.py found, from the last line that begins with RESULT; {} where it got to none."""
    lines = [line[7:] for line in output.splitlines() if line.startswith("RESULT ")]
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def phase(output: str) -> str:
    """The last part of the work that was begun: export, build or run."""
    lines = [line[7:].strip() for line in output.splitlines() if line.startswith("PHASE: ")]
    return lines[-1] if lines else ""


def judge(expected: Dict[str, Any], end: Dict[str, Any], output: str) -> Tuple[bool, str]:
    """(whether it is the same failure, why in one sentence)."""
    match = expected["match"]
    by = match["by"]
    where = phase(output)
    told = _told(end, where)
    if by == "timeout":
        return "timeout" in end and where == expected["phase"], told
    if "timeout" in end:
        return False, told
    if by in ("signal", "error", "memory") and where != expected["phase"]:
        return False, "%s, and the failure was in %s" % (told, expected["phase"])
    if by == "signal":
        return end.get("signal") == match["name"], told
    if by == "memory":
        refused = "MemoryError" in output or "bad_alloc" in output or "annot allocate memory" in output
        return refused and end.get("exit") != 0, told
    if by == "error":
        if end.get("exit") == 0:
            return False, told
        there = normal(match["text"]) in normal(output)
        return there, "%s %s %r" % (told, "with" if there else "without", match["text"])
    if end != {"exit": 0}:
        return False, told
    found = result(output)
    if by == "mismatch":
        return _mismatch(match, found)
    if by == "degraded":
        return _degraded(match, found)
    return False, "this judge knows no %r" % by


def _told(end: Dict[str, Any], where: str) -> str:
    if "timeout" in end:
        return "it did not end within %g s" % end["timeout"]
    if "signal" in end:
        return "it died of %s in %s" % (end["signal"], where or "its beginning")
    if end.get("exit") == 0:
        return "it ended without an error"
    return "it failed in %s (exit status %s)" % (where or "its beginning", end.get("exit"))


def _mismatch(match: Dict[str, Any], found: Dict[str, Any]) -> Tuple[bool, str]:
    """The same output of the same case must be wrong in a way in which it was wrong: not finite, beyond the tolerance, ..."""
    rows = {(row.get("case"), row.get("name")): row for row in found.get("outputs", [])}
    told = []
    for wanted in match["outputs"]:
        row = rows.get((wanted["case"], wanted["name"]), {})
        shared = sorted(set(wanted["wrong"]) & set(row.get("wrong", [])))
        if shared:
            told.append("output %s of case %s is wrong: %s" % (wanted["name"], wanted["case"], ", ".join(shared)))
    metric, got = match.get("metric"), found.get("metric")
    if metric and isinstance(got, float) and got < metric["minimum"]:
        told.append("%s is %.6g, the minimum %.6g" % (metric["name"], got, metric["minimum"]))
    return bool(told), "; ".join(told) or "no output is wrong in the way in which it was"


def _degraded(match: Dict[str, Any], found: Dict[str, Any]) -> Tuple[bool, str]:
    """Of a precision: it must fall short of what was asked again, and the same one be used most in its place."""
    asked, got = match["asked"], match["got"]
    if match["kind"] != "precision":
        value = str(found.get(match["kind"]))
        return value == got, "asked %s, got %s" % (asked, value)
    counts = found.get("precisions") or {}
    total = sum(counts.values())
    others = sorted((name for name in counts if name != asked), key=lambda name: (-counts[name], name))
    if not total or not others or counts.get(asked, 0) >= match["share"] * total:
        return False, "asked %s, got %s" % (asked, counts or "nothing that could be counted")
    return others[0] == got, "asked %s, and %d of %d operators ran in %s" % (asked, counts[others[0]], total, others[0])


def main(arguments: List[str]) -> int:
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    with open("expected.json", encoding="utf-8") as file:
        expected = json.load(file)
    missing = [name for name in expected["needs"] if not os.path.exists(name)]
    if arguments and not os.path.exists(arguments[0]):
        missing.append(arguments[0])
    elif arguments and expected["needs"][:1] == missing:  # another model takes the place of the one that is not here
        missing = []
    if missing:
        print("judge.py: %s is not in this folder; README.md says where it comes from" % missing[0], file=sys.stderr)
        return UNTRIED
    limit = expected["match"].get("seconds") or max(SECONDS, 2 * expected["seconds"])
    end, output = run(arguments, limit)
    same, why = judge(expected, end, output)
    print(output.rstrip() + "\n", file=sys.stderr, flush=True)
    print("expected: %s" % expected["summary"])
    print("now:      %s" % why)
    print("reproduced: the same failure" if same else "not reproduced")
    return SAME if same else OTHER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
