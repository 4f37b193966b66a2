"""operators.html: which operators work where, on one page that needs nothing but itself.

Made as report.html is: every text is data, the script makes text nodes only, and a content policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from builder.report.page import TEMPLATES, _source, embedded
from builder.report.words import MEANING
from builder.values import STATUSES


def render(data: Mapping[str, Any]) -> str:
    """The page for the table that `operators.table` gives."""
    import jinja2
    from markupsafe import Markup

    text = embedded(view(data))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    nonce = base64.b64encode(hashlib.sha256(text.encode()).digest()[:18]).decode()
    return environment.get_template("operators.html.j2").render(
        data=data, nonce=nonce, css=Markup(_source("report.css") + _source("operators.css")),  # noqa: S704
        js=Markup(_source("operators.js")), embedded=Markup(text),  # noqa: S704
    )  # fmt: skip


def view(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script gets: the table with what repeats (outcomes, error lines) said once."""
    lines: dict[str, int] = {}
    codes = {status: index for index, status in enumerate(STATUSES)}

    def result(found: Mapping[str, Any] | None) -> Any:
        """null: no such cell; a number: an outcome; [outcome, stage, line, note?]"""
        if found is None:
            return None
        code = codes[found["status"]]
        if "line" not in found and "note" not in found:
            return code
        at = [lines.setdefault(text, len(lines)) for text in (found.get("line") or "", found.get("note") or "")]
        return [code, found.get("stage", ""), at[0], *at[1:]]

    suites = [
        {
            **{key: suite[key] for key in ("name", "package", "version", "precision", "counts")},
            "stacks": [{k: s[k] for k in ("id", "family", "version", "label")} for s in suite["stacks"]],
            "operators": [
                {
                    "n": row["operator"], "d": row["domain"], "o": row["opsets"], "w": row["works"],
                    "c": [[count.get("verified", 0), sum(count.values()) - count.get("skipped", 0) - count.get("blocked", 0)]
                          for count in row["counts"]],
                    "r": row["releases"],
                    "cases": [
                        [case["case"], case["opset"], [result(found) for found in case["results"]]] for case in row["cases"]
                    ],
                }
                for row in suite["operators"]
            ],
        }
        for suite in data["suites"]
    ]  # fmt: skip
    return {
        "matrix": data["matrix"], "run": data["run"], "version": data["version"], "suites": suites,
        "statuses": [[status, MEANING[status]] for status in STATUSES], "lines": list(lines),
    }  # fmt: skip
