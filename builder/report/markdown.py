"""report.md: a page for a pull request or a CI summary, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from builder.diagnose_unknown import SHOWN, unknown
from builder.isolation_compare import told
from builder.report import predictions
from builder.report.assemble import stacks
from builder.report.words import MEANING, duration, size
from builder.values import FAILING, STATUSES

FINDINGS = 10
WRONG = 3
RULES = 3
STACKS = 12


def render(report: Mapping[str, Any]) -> str:
    """At most a page: outcomes, findings, failing stacks, machine."""
    run, counts = report["run"], report["counts"]
    by_id = {cell["id"]: cell for cell in report["cells"]}
    suites = report.get("suites", [])
    engines = {entry["engine"]["id"] for entry in (*report["cells"], *suites)}
    out = [
        f"# EngineMatrix: {text(run['matrix']['name'])}", "",
        f"**{counts['verified']} of {report['selected']} cells verified** over {len(engines)} engine stacks, "
        f"{text(run['started'])}, {duration(run['seconds'])}. "
        f"Exit {report['exit']['code']}: {text(report['exit']['because']) or 'as expected'}."
        + (" **Interrupted.**" if run["interrupted"] else ""),
        "", "| outcome | cells | means |", "| --- | ---: | --- |",
        *(f"| {status} | {counts[status]} | {MEANING[status]} |" for status in STATUSES if counts[status]),
    ]  # fmt: skip
    findings = report["findings"]
    if findings:
        out += ["", "## Findings", ""]
        for finding in findings[:FINDINGS]:
            where = stacks((by_id[cell]["engine"] for cell in finding["cells"]), 6)
            known = " *(expected)*" if finding["expected"] else ""
            out.append(
                f"- **{_cells(finding['count'])}** {finding['status']}{known}: {text(finding['title'])} "
                f"<sub>{text(where, 300)} · {text(finding['category'] or '')}</sub>"
            )
            if finding["remedy"]:
                out.append(f"  <br>{text(finding['remedy'])}")
        if len(findings) > FINDINGS:
            out.append(f"- and {len(findings) - FINDINGS} more in report.html")
        if gaps := unknown(findings, by_id):
            out.append(
                f"- **{_cells(report['undiagnosed'])} undiagnosed**: no signature explains them; please send what these print:"
            )
            out += [f"  - {_cells(gap.count)}: {text(gap.line)} `{gap.command}`" for gap in gaps[:SHOWN]]
            out += [f"  - and {len(gaps) - SHOWN} more such failures in report.html"] if len(gaps) > SHOWN else []
    rules = report["rules"]["rules"]
    if rules:
        out += ["", "What explains them:"]
        out += [f"- {text(rule['text'], 600)}" for rule in rules[:RULES]]
        out += [f"- and {len(rules) - RULES} more rules in report.html"] if len(rules) > RULES else []
    if suites:
        out += ["", "## Suites", "", "| suite | engine stack | cases | verified | failing | not tried |",
                "| --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
        out += [_suite(line) for line in suites]
    rows = _stacks(report)
    if rows:
        out += [
            "",
            "## Stacks with failures",
            "",
            "| engine stack | verified or built | failing | blocked |",
            "| --- | ---: | ---: | ---: |",
        ]
        out += [f"| {text(name)} | {good} | {bad} | {blocked} |" for name, good, bad, blocked in rows[:STACKS]]
        if len(rows) > STACKS:
            out.append(f"| and {len(rows) - STACKS} more | | | |")
    both = report["isolation"]
    if both and both["compared"]:
        out += ["", "## Docker and virtual environments", "", f"{_cells(both['compared'])} ran both ways, "
                f"{len(both['differences'])} came out otherwise."]  # fmt: skip
        for entry in both["differences"][:FINDINGS]:
            out.append(
                f"- {text(entry['slug'])}: venv {text(told(entry['venv']))}, Docker {text(told(entry['docker']))}"
            )
    scored = report["predictions"]
    if scored["rules"]:
        out += ["", "## Facts against observations", "", f"{text(predictions.headline(scored)).capitalize()}.", "",
                "| rule | supported | unsupported | unknown |", "| --- | --- | --- | --- |"]  # fmt: skip
        out += [f"| {' | '.join(row)} |" for row in predictions.rows(scored)]
        wrong = predictions.refutations(scored)
        out += [""] if wrong else []
        out += [f"- **A wrong fact:** {text(predictions.refutation(claim), 600)}" for claim in wrong[:WRONG]]
        out += [f"- and {len(wrong) - WRONG} more in report.html"] if len(wrong) > WRONG else []
    out += ["", "## Machine", "", *_machines(run), "",
            f"`{text(run['command']).replace('`', '')}` · lock `{run['lock']['sha256'][:12]}`"
            + (f" · cut-off {text(run['lock']['cutoff'])}" if run["lock"]["cutoff"] else ""), ""]  # fmt: skip
    return "\n".join(out)


def _machines(run: Mapping[str, Any]) -> list[str]:
    """The machine; of a run that was merged of parts each kind of machine, with how many parts it ran."""
    parts = run.get("parts")
    if not parts:
        return [_machine(run["machine"])]
    kinds = Counter(_machine(part["machine"]) for part in parts)
    return [f"- {'1 part' if number == 1 else f'{number} parts'}: {told}" for told, number in kinds.most_common()]


def _machine(machine: Mapping[str, Any]) -> str:
    named = (f"{gpu['name']} (compute capability {gpu['compute_capability']})" for gpu in machine["gpus"])
    gpus = ", ".join(named) or "no GPU"
    driver = f", driver {text(machine['driver'])}" if machine["driver"] else ""
    return (
        f"{text(machine['cpu'])}, {machine['cores']} cores, {size(machine['memory'])}; {text(gpus)}{driver}; "
        f"{text(machine['platform'])}, kernel {text(machine['kernel'])}, glibc {text(machine['glibc'])}."
    )


def _stacks(report: Mapping[str, Any]) -> list[tuple[str, int, int, int]]:
    tally: dict[str, list[int]] = {}
    for cell in report["cells"]:
        row = tally.setdefault(cell["engine"]["id"], [0, 0, 0])
        status = cell["status"]
        row[0] += status in ("verified", "built")
        row[1] += status in FAILING
        row[2] += status == "blocked"
    rows = [(name, good, bad, blocked) for name, (good, bad, blocked) in tally.items() if bad or blocked]
    return sorted(rows, key=lambda row: (-row[2], -row[3], row[0]))


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$@&])")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


def text(value: object, limit: int = 220) -> str:
    """Foreign text as plain text: on one line, bounded, nothing in it is markup, a mention or a link."""
    line = _BLANK.sub(" ", str(value)).strip()
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    escaped = _SPECIAL.sub(
        lambda m: {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}.get(m[1], "\\" + m[1]), line
    )
    return re.sub(r"\bwww\.", "www&#46;", escaped.replace("://", "&#58;//"), flags=re.I)


def _suite(line: Mapping[str, Any]) -> str:
    counts = line["counts"]
    failing = sum(counts[status] for status in FAILING)
    rest = line["cells"] - counts["verified"] - counts["built"] - failing
    good = counts["verified"] + counts["built"]
    return f"| {text(line['suite'])} | {text(line['engine']['id'])} | {line['cells']} | {good} | {failing} | {rest} |"
