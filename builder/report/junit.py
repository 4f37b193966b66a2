"""junit.xml: every selected cell is a test case, so that any CI system shows the matrix.

A failure that was expected is `skipped` with the message `expected: ...`: JUnit has no word for a known failure, and
`passed` would be a lie. What passed although a failure was expected, or is overdue, says so and is not hidden.
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


def render(report: Mapping[str, Any]) -> str:
    """The file as text. `classname` is the engine stack's id, `name` the cell's slug."""
    suites = ET.Element("testsuites", name="enginematrix")
    suite = ET.SubElement(suites, "testsuite", name=_text(report["run"]["matrix"]["name"]))
    tally = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    total = 0.0
    for cell in report["cells"]:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_text(cell["engine"]["id"]),
            name=_text(cell["slug"]),
            time=f"{cell['seconds']:.3f}",
        )
        properties = ET.SubElement(case, "properties")
        for name in ("id", "status", "stage", "category", "signature"):
            if cell[name]:
                ET.SubElement(properties, "property", name=name, value=_text(cell[name]))
        if cell["expected"]:
            ET.SubElement(properties, "property", name="expected", value=_text(cell["expected"]["state"]))
        tally["tests"] += 1
        total += cell["seconds"]
        kind = _verdict(case, cell)
        if kind:
            tally[kind] += 1
    for element in (suites, suite):
        element.attrib.update({name: str(n) for name, n in tally.items()})
        element.set("time", f"{total:.3f}")
    suite.set("timestamp", _text(report["run"]["started"]).rstrip("Z"))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _verdict(case: ET.Element, cell: Mapping[str, Any]) -> str:
    status, expected = cell["status"], cell["expected"]
    if status in ("skipped", "blocked", "unsupported"):
        ET.SubElement(case, "skipped", message=_text(f"{status}: {cell['reason']}"))
        return "skipped"
    if status not in FAILING:
        return ""
    line = cell["line"] or cell["reason"]
    if expected and expected["state"] == "expected":
        ET.SubElement(case, "skipped", message=_text(f"expected: {expected['because']} ({line})"))
        return "skipped"
    tag = "error" if status in _ERRORS else "failure"
    body = [cell["diagnosis"], cell["remedy"], cell["source"], f"reproduce: {cell['command']}"]
    if expected:
        body.insert(0, f"expectation {expected['state']}: {expected['because']} ({expected['where']})")
    found = ET.SubElement(case, tag, type=_text(cell["category"] or status), message=_text(f"{status}: {line}"))
    found.text = _text("\n".join(text for text in body if text))
    return f"{tag}s"


def _text(value: object) -> str:
    return _FORBIDDEN.sub("\ufffd", str(value))
