"""What changed since the last run of the same selection, for the report: history's comparison, equal changes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.errors import EngineMatrixError
from builder.store import Store


def since(store: Store, report: Mapping[str, Any]) -> dict[str, Any] | None:
    """docs/report-schema.md, SINCE. The newer side is the report's own run, or, for a report of what is stored, the newest run
    of its selection, whose results it shows. None where no run of that selection is stored, or they cannot be compared."""
    from builder import history, history_words, nightly_words
    from builder.history_changes import words
    from builder.history_runs import like

    run = report["run"]
    asked = (run["select"], run["matrix"]["name"])
    known = store.runs()
    mine = [one for one in known if (one.get("select"), one.get("matrix", {}).get("name")) == asked]
    new = next((one for one in mine if one["id"] == run["id"]), mine[-1] if mine else None)
    if new is None:
        return None
    if not (old := like(new, known)):
        return {"old": None, "new": str(new["id"]), "headline": "", "changes": [], "groups": [], "regressions": 0}
    try:
        found = history.diff(store, old, str(new["id"]))
    except EngineMatrixError:
        return None
    shown = {cell["id"] for cell in report["cells"]}
    traced = report.get("nightly", {}).get("trace", {}).get("results", ())  # by a night, what made the new failures
    return {
        "old": old, "new": str(new["id"]), "headline": history_words.headline(found), "changes": list(words(found["changes"])),
        "regressions": found["regressions"],
        "groups": [
            {"kind": kind, "title": history_words.TITLES[kind], "meaning": meaning, "became": became, "beside": beside,
             "causes": nightly_words.causes(traced, kind, [row["id"] for row in rows]), "count": len(rows),
             "remedy": next((row["remedy"] for row in rows if row["remedy"]), None),
             "cells": [row["id"] for row in rows if row["id"] in shown]}
            for kind, meaning in history.KINDS.items()
            for became, beside, rows in history_words.groups(found["kinds"][kind])
        ],
    }  # fmt: skip
