"""The catalogue against the failures of the default and the full matrix: a table of real texts, labelled by hand
(tests/diagnosed/real.yaml). The bar is issue 6's: at least 95 % diagnosed, none in a wrong category."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder import diagnose as d
from builder.diagnose_catalog import Catalog, catalog

Row = dict[str, Any]
ROWS: list[Row] = yaml.safe_load(Path(__file__).with_name("diagnosed").joinpath("real.yaml").read_text("utf-8"))


def name(row: Row) -> str:
    return f"{row['stack']} {row['model']} {row['finding']}"


def versions(row: Row) -> dict[str, str]:
    """What the stack's probe would tell: its engine's release."""
    engine, _, release = re.sub(r"-(cuda|numpy)\S*$", "", row["stack"]).rpartition("-")
    return row.get("versions") or {engine: release}


def explain(row: Row, *, by_log: bool = False) -> d.Diagnosis:
    error = {"type": row["type"], "message": row["text"], "traceback": ""} if "text" in row and not by_log else None
    return d.diagnose(
        row["stage"], row["status"], error, row.get("end"), row["log"] if by_log else "", versions(row)
    )  # fmt: skip


def test_real_failures_are_diagnosed_and_none_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    found = [(row, explain(row)) for row in ROWS]
    known = [(row, told) for row, told in found if told.signature]
    wrong = [name(row) for row, told in known if told.category != row["category"]]
    steps = sum(row["steps"] for row in ROWS)
    with capsys.disabled():
        print(
            f"\n{len(known)} of {len(ROWS)} distinct real failures ({steps} steps, {len({r['finding'] for r in ROWS})} "
            f"causes) diagnosed, {len(wrong)} in a wrong category"
        )
    assert len(ROWS) >= 70
    assert wrong == []
    assert len(known) >= 0.95 * len(ROWS), [name(row) for row, told in found if not told.signature]


def test_a_finding_is_one_cause_and_one_cause_one_finding() -> None:
    keys, causes = defaultdict(set), defaultdict(set)
    for row in ROWS:
        key = explain(row).group_key
        keys[row["finding"]].add(key)
        causes[key].add(row["finding"])
    assert {cause: found for cause, found in keys.items() if len(found) > 1} == {}, "one cause, several findings"
    assert {key: found for key, found in causes.items() if len(found) > 1} == {}, "several causes in one finding"


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_line_is_the_one_that_says_it(row: Row) -> None:
    assert row["line"] in explain(row).line


@pytest.mark.parametrize("row", [row for row in ROWS if "log" in row], ids=name)
def test_the_log_alone_says_the_same(row: Row) -> None:
    """Traceback, warnings and all: not its last line, not the frames of the program that asked."""
    told = explain(row, by_log=True)
    assert (told.category, row["line"] in told.line) == (row["category"], True), told
    assert told.group_key == explain(row).group_key


@pytest.mark.parametrize("row", [row for row in ROWS if "text" in row], ids=name)
def test_without_the_catalogue_the_line_still_says_what(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no signature knows is shown by its first line that says what, not by a place in a source file."""
    whole = catalog()
    monkeypatch.setattr(d, "catalog", lambda: Catalog(signatures=(), categories=whole.categories, noise=whole.noise))
    for by_log in (False, True) if "log" in row else (False,):
        told = explain(row, by_log=by_log)
        assert told.signature is None and told.category == f"{row['stage']}-error"
        assert not re.search(
            r"Exception from|Check 'false'|Traceback|Errors during|While validating|without a message", told.line
        )
        assert d.undiagnosed({"status": "failed", "signature": None, "category": told.category})
