"""What `enginematrix check` would answer of each engine of the portability grid, held against what happened.

The rules of where an engine file loads (portability_rules.py) are asked of the very file that a stack built, with its
manifest, about the release that loads it: `loads`, `will-not-load` or `unknown`. No cell is left alone because of the answer.
It becomes a claim of rule `portable`, scored with the others (predict_score.py): a rule that a library contradicts is
refuted, and named in the report.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.answers import Fact
from builder.portability_answer import Asked, Verdict
from builder.portability_rules import LIBRARIES, RULES
from builder.predict import Claim, Prediction, State
from builder.values import Where

if TYPE_CHECKING:
    from builder.enginefile import EngineFile
    from builder.plan import Chain
    from builder.store import StepRecord

STATES: Mapping[Verdict, State] = {"loads": "supported", "will-not-load": "unsupported", "unknown": "unknown"}


def check(chain: Chain, records: Mapping[str, StepRecord], outcome: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """`check` of a cell of the grid (docs/report-schema.md): {"verdict", "because", "rule", "library", "version"}. `root`: the
    folder that stored files are in; `outcome`: the cell's result."""
    from builder import enginefile, portability
    from builder.errors import UsageError
    from builder.manifest import manifest

    stack, built_on = chain.cell.engine, chain.cell.built_on
    assert built_on is not None
    assert chain.built_in is not None
    library, version = stack.family, stack.fields.get(stack.family, "")
    said = {"verdict": "unknown", "rule": "none", "library": library, "version": version}
    build = records.get(chain.build.key) if chain.build.state == "stored" else None
    if build is None:
        return {**said, "because": "there is no engine to ask about"}
    if library not in LIBRARIES:
        return {**said, "because": f"no rule is recorded for {library}"}
    try:
        file = enginefile.read(root / build.record["artifact"]["path"])
    except UsageError:
        return {**said, "because": "the engine's file was not kept, or is of no format known"}
    # As in the folder that is delivered: the manifest says what an older format's header does not.
    told = enginefile.with_manifest(file, manifest(chain, build, records.get(chain.built_in.key), outcome, built_on))
    answers = portability.judge(told, Asked(libraries={library: version}))
    verdict = portability.verdict(answers)
    worst = next(answer for answer in answers if answer.verdict == verdict)
    return {**said, "verdict": verdict, "because": worst.because, "rule": worst.rule}


def claim(cell: Mapping[str, Any]) -> Claim:
    """The claim of a cell of the grid: one for each pair of stacks and answer, whatever the model."""
    found = cell["check"]
    rule = RULES[found["rule"]]
    facts = (Fact(text=rule.statement, sources=rule.sources, where=_where(rule.key)),) if rule.sources else ()
    return Claim(
        rule="portable", subject=f"engine of {cell['built_on']['id']}, loaded by {cell['engine']['id']}",
        state=STATES[found["verdict"]], because=found["because"], facts=facts,
        change="build it with the stack that loads it" if found["verdict"] == "will-not-load" else "",
    )  # fmt: skip


def foreseen(cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """`expected` of a cell of the grid that no `expect:` names: a refusal that a rule states is expected, and not red. What a
    rule says will not load, and does, is no failure; the claim tells that the rule is refuted."""
    from builder.predict_score import seen

    found = claim(cell) if cell.get("check") else None
    if found is None or found.state != "unsupported" or seen(found, cell) != "failed":
        return None
    because = f"{found.because}. {RULES[cell['check']['rule']].statement}"
    where = str(found.facts[0].where) if found.facts else ""
    return {"state": "expected", "fail": cell["category"], "because": because, "until": None, "where": where}


def predictions(cells: Iterable[Mapping[str, Any]], foreseen: Mapping[str, Prediction]) -> dict[str, Prediction]:
    """`foreseen`, with the claims of the grid's cells. What was left alone keeps the fact that it was left alone for."""
    mine = {
        cell["id"]: Prediction(claims=(claim(cell),))
        for cell in cells
        if cell.get("check") and cell["status"] != "unsupported"
    }
    return {**foreseen, **mine}


def observed(file: EngineFile) -> list[dict[str, str]]:
    """What runs saw of just this file in other stacks than the one that built it, newest of each stack and model: {"stack",
    "status", "stage", "when", "cell", "line"}. Of a delivered engine, whose manifest is known to describe its bytes, from the
    store that its folder belongs to; [] for any other file, or where there is nothing."""
    database = file.path.absolute().parent.parent.parent / "results.sqlite"
    if file.manifest is None or not file.manifest.sha256 or not database.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as opened:
            rows = opened.execute(
                "select record from outcomes where key like '%.grid' and json_extract(record, '$.artifact.sha256') = ?",
                (file.manifest.sha256,),
            ).fetchall()
        records = [json.loads(row[0]) for row in rows]
    except (sqlite3.Error, ValueError):
        return []  # a store that is damaged, or of another program, is no evidence
    newest: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda it: str(it["when"])):
        if record["built_on"]["id"] != record["engine"]["id"] and seen_of(record) != "open":
            newest[record["engine"]["id"]] = {
                "stack": record["engine"]["id"], "status": record["status"], "stage": record["stage"],
                "when": str(record["when"])[:10], "cell": record["id"], "line": record["line"] or "",
            }  # fmt: skip
    return list(newest.values())


def seen_of(cell: Mapping[str, Any]) -> str:
    """`held`, `failed` or `open`: whether the stack loaded and ran what another one built."""
    from builder.predict_score import seen

    return seen(Claim(rule="portable", subject="", state="unknown", because=""), cell)


def words(found: Mapping[str, str]) -> str:
    """One of `observed`, for people: `loaded and run by onnxruntime-1.20.1-py3.12 on 2026-11-21 (verified, cell 1a2b3c)`."""
    told = {"verified": "loaded and run by", "degraded": "loaded and run by", "mismatch": "loaded, and run wrongly, by"}
    said = f": {found['line']}" if found["line"] else ""
    how = told.get(found["status"], "refused by")
    return f"{how} {found['stack']} on {found['when']} ({found['status']}, cell {found['cell']}){said}"


@functools.cache
def _where(key: str) -> Where:
    """The rule's place in its table."""
    path = Path(__file__).parent / "portability_rules.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if f'key="{key}"' in text)
    return Where(file=f"builder/{path.name}", line=line, column=lines[line - 1].index("key=") + 1)
