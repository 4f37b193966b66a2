"""junit.xml: every selected cell is a test case, so that any CI system shows the matrix.

Valid by junit-10.xsd, the schema of Jenkins' xUnit plugin and the strictest one that is in common use: it has no properties of a
test case, so that what else there is to say of one stands in its `system-out`. A failure that was expected is `skipped` with
the message `expected: ...`: JUnit has no word for a known failure, and `passed` would be a lie. What passed although a failure
was expected, or is overdue, says so and is not hidden. Infrastructure is an `error`: the test broke, not the thing tested.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from builder.values import FAILING

#: What XML 1.0 cannot hold, escaped or not (https://www.w3.org/TR/xml/#charsets).
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: JUnit knows failures (the thing tested is wrong) and errors (the test broke).
_ERRORS = frozenset({"crashed", "timeout", "out-of-memory"})
MESSAGE, BODY = 500, 4000
"""Characters that are written of a message, and of each text below it: CI systems show the first and load all of both."""


def render(report: Mapping[str, Any]) -> str:
    """The file as text. `classname` is the engine stack's id, `name` the cell's slug."""
    suites = ET.Element("testsuites", name="enginematrix")
    suite = ET.SubElement(suites, "testsuite", name=_text(report["run"]["matrix"]["name"]))
    tally = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    total = 0.0
    for cell in report["cells"]:
        case = _case(suite, cell["engine"]["id"], cell["slug"], cell["seconds"])
        kind = _verdict(case, cell)
        _facts(case, cell)
        tally["tests"] += 1
        total += cell["seconds"]
        if kind:
            tally[kind] += 1
    for line in report.get("suites", ()):
        case = _case(suite, line["engine"]["id"], f"{line['suite']}: {line['cells']} cases", 0.0)
        tally["tests"] += 1
        tally["skipped"] += _of_a_suite(case, line)
    for element in (suites, suite):
        element.attrib.update({name: str(n) for name, n in tally.items() if name != "skipped" or element is suite})
        element.set("time", f"{total:.3f}")
    suite.set("timestamp", _text(report["run"]["started"]).rstrip("Z"))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ET.Element, stack: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_text(stack), name=_text(name), time=f"{seconds:.3f}")


def _verdict(case: ET.Element, cell: Mapping[str, Any]) -> str:
    """Say what became of a cell; which of the tally it belongs to, "" where it passed."""
    status, expected = cell["status"], cell["expected"]
    line = cell["line"] or cell["reason"]
    if status in ("skipped", "unsupported"):
        ET.SubElement(case, "skipped", message=_text(f"{status}: {cell['reason']}", MESSAGE))
        return "skipped"
    if status not in FAILING and status != "blocked":
        return ""
    if expected and expected["state"] == "expected":
        ET.SubElement(case, "skipped", message=_text(f"expected: {expected['because']} ({line})", MESSAGE))
        return "skipped"
    if cell.get("suite") and not cell["suite"]["strict"] and not expected:
        ET.SubElement(case, "skipped", message=_text(f"{status}, and the suite is not strict: {line}", MESSAGE))
        return "skipped"
    infrastructure = cell["category"] == "infrastructure"
    tag = "error" if status in _ERRORS or infrastructure else "failure"
    body = [cell["diagnosis"], cell["remedy"], cell["source"], f"reproduce: {cell['command']}"]
    if expected:
        body.insert(0, f"expectation {expected['state']}: {expected['because']} ({expected['where']})")
    message = _text(f"{status}: {line}", MESSAGE)
    found = ET.SubElement(case, tag, type=_text(cell["category"] or status), message=message)
    found.text = "\n".join(_text(text, BODY) for text in body if text)
    return f"{tag}s"


def _facts(case: ET.Element, cell: Mapping[str, Any]) -> None:
    """What a reader asks next: how far the cell got, what it is, and where its logs lie."""
    rows = [f"{name}: {cell[name]}" for name in ("id", "status", "stage", "category", "signature") if cell[name]]
    if cell["expected"]:
        rows.append(f"expected: {cell['expected']['state']} ({cell['expected']['where']})")
    rows += [
        f"log of {stage['stage']}: {stage['log']}"
        for stage in cell["stages"]
        if stage["state"] == "failed" and stage["log"]
    ]
    ET.SubElement(case, "system-out").text = "\n".join(_text(row, MESSAGE) for row in rows)


def _of_a_suite(case: ET.Element, line: Mapping[str, Any]) -> bool:
    """A suite that is counted by stack; whether it is told as skipped, since operators.html says which of its cases fail."""
    counts = line["counts"]
    failing = sum(counts[status] for status in FAILING)
    if failing or counts["blocked"]:
        told = f"{failing} of {line['cells']} cases fail, {counts['blocked']} are blocked; operators.html has them"
        ET.SubElement(case, "skipped", message=told)
    said = "\n".join(f"{status}: {number}" for status, number in counts.items() if number)
    ET.SubElement(case, "system-out").text = said
    return bool(failing or counts["blocked"])


def _text(value: object, limit: int = 0) -> str:
    text = str(value)
    if limit and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return _FORBIDDEN.sub("\ufffd", text)
