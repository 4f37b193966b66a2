"""What the page to choose a stack says, against the judge itself; when it is written, and when not."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from choosing import OPTIONS, STACKS, VALUES, driver
from fake_report import fake_report
from picking import NOW, seen

from builder import pick, results, versions
from builder.answers import number
from builder.facts_records import CATALOG, Gpu
from builder.pick_evidence import key
from builder.pick_judge import Judge, Question, Verdict
from builder.pick_stacks import COMPONENTS, Candidate
from builder.project import Project
from builder.report import choose, choose_options, choose_tables
from builder.store import Store

JUDGE = Judge(CATALOG)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """As the page reads it."""
    return dict(json.loads(json.dumps(choose.judged(CATALOG))))


def told(data: Mapping[str, Any], verdict: int, stack: int, own: str = "", gpu: str = "") -> tuple[Any, ...]:
    """A verdict of the page in full: state, inferred, the sentence, the facts."""
    state, inferred, met, text, facts = data["verdicts"][verdict]
    because = data["texts"][text].replace("\x01", STACKS[stack].id).replace("\x02", own).replace("\x03", gpu)
    named = [place for fact in facts for place in ({-1: data["stacks"][stack]["facts"]}.get(fact, [fact]))]
    return state, bool(inferred), bool(met), because, named


def looked_up(data: Mapping[str, Any], key: str, stack: int, gpu: int, at: int) -> int:
    table = data["tables"][key]
    row = table["rows"][table["cells"][table["gpus"][gpu]][table["stacks"][stack]]]
    return int([row[place + 1] for place in range(0, len(row), 2) if row[place] <= at][-1])


def judged(stack: int, question: Question) -> Verdict:
    return JUDGE.verdict(STACKS[stack], question, question.requirements[-1])


def same(data: Mapping[str, Any], found: tuple[Any, ...], verdict: Verdict, gpu: int) -> None:
    assert found[:4] == (verdict.state, verdict.inferred, verdict.met, verdict.because)
    facts = [fact for place in found[4] for fact in (data["gpus"][gpu]["facts"] if place == -2 else [place])]
    texts = [[data["facts"][fact][0], [data["sources"][source] for source in data["facts"][fact][2]]] for fact in facts]
    wanted = [[fact.text, list(fact.sources)] for fact in dict.fromkeys(verdict.facts)]
    assert list(map(str, dict.fromkeys(map(str, texts)))) == list(dict.fromkeys(map(str, wanted)))


def test_every_gpu_of_the_catalog_can_be_chosen_by_its_name() -> None:
    assert {option.label for option in OPTIONS[2:]} >= {entry.name for entry in CATALOG.table(Gpu).values()}
    assert all(pick.hardware(option.name) == option.hardware for option in OPTIONS[2:])
    names = [option.name for option in OPTIONS[2:]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("gpu", random.Random(1).sample(range(1, len(OPTIONS)), 24))
def test_the_table_of_gpus_is_the_judges(data: dict[str, Any], gpu: int) -> None:
    question = Question(gpu=OPTIONS[gpu].hardware)
    assert question.gpu is not None
    for stack in range(len(STACKS)):
        found = told(data, looked_up(data, "gpu", stack, gpu - 1, 0), stack, gpu=question.gpu.name)
        same(data, found, judged(stack, question), gpu)


def place(text: str) -> int:
    """The driver of the table that stands for a version."""
    at = [versions.version(value) for value in VALUES["driver"]]
    mine = versions.version(text)
    assert mine is not None
    return max(number for number, known in enumerate(at) if known is not None and known <= mine)


@pytest.mark.parametrize("seed", range(36))
def test_a_driver_stands_for_all_up_to_the_next(data: dict[str, Any], seed: int) -> None:
    lot = random.Random(seed)
    text, gpu = driver(lot), lot.choice([0, 1, lot.randrange(2, len(OPTIONS)), lot.randrange(2, len(OPTIONS))])
    question = Question(gpu=OPTIONS[gpu].hardware, driver=text)
    name = question.gpu.name if question.gpu else ""
    for stack in range(len(STACKS)):
        found = told(data, looked_up(data, "driver", stack, gpu, place(text)), stack, text, name)
        same(data, found, judged(stack, question), gpu)


def test_just_above_each_known_driver_nothing_has_changed(data: dict[str, Any]) -> None:
    """A rule that asked for more than a version, not for it or more, would need a place of its own."""
    lot = random.Random(3)
    for at, value in enumerate(VALUES["driver"]):
        text = value.removesuffix(".0.0.0.0") + ".0.0.1"
        for gpu in (0, lot.choice([place for place, item in enumerate(OPTIONS) if "datacenter" in item.detail])):
            question = Question(gpu=OPTIONS[gpu].hardware, driver=text)
            name = question.gpu.name if question.gpu else ""
            for stack in lot.sample(range(len(STACKS)), 40):
                found = told(data, looked_up(data, "driver", stack, gpu, at), stack, text, name)
                same(data, found, judged(stack, question), gpu)


@pytest.mark.parametrize("asked_for", ["precision", "python", "platform"])
def test_the_other_tables_are_the_judges(data: dict[str, Any], asked_for: str) -> None:
    lot = random.Random(2)
    for at, value in enumerate(VALUES[asked_for]):
        gpu = lot.randrange(len(OPTIONS))
        fields: dict[str, Any] = {asked_for: value}
        question = Question(gpu=OPTIONS[gpu].hardware, **fields)
        name = question.gpu.name if question.gpu else ""
        for stack in range(len(STACKS)):
            found = told(data, looked_up(data, asked_for, stack, gpu, at), stack, value, name)
            same(data, found, judged(stack, question), gpu)


def test_a_need_has_a_verdict_for_each_way_it_can_end(data: dict[str, Any]) -> None:
    lot = random.Random(4)
    for name in COMPONENTS:
        for stack in lot.sample(range(len(STACKS)), 60):
            version, takes, refuses, few = data["needs"][""][data["needs"][name][stack]]
            clauses = {"": takes, "<0": refuses}
            if few != -1:
                clauses[f">={version}.1"] = few
            if version and versions.version(version):
                clauses[f">={version.split('+')[0]}"] = takes
            for clause, verdict in clauses.items():
                question = Question(needs={name: clause})
                same(data, told(data, verdict, stack), judged(stack, question), 0)


class Curious(Judge):
    """Knows a rule that builder/report/choose_tables.py was never told of."""

    def verdict(self, stack: Candidate, question: Question, requirement: Any) -> Verdict:
        found = super().verdict(stack, question, requirement)
        held = stack.components.get("cudnn", "")
        gpu = question.gpu
        if requirement.key == "python" and gpu is not None and gpu.kind == "jetson" and held.startswith("8"):
            return replace(found, state="unsupported", because=f"cuDNN {held} on {gpu.name}")
        return found


def test_what_a_new_rule_reads_is_noticed() -> None:
    words = choose_tables.Words()
    gpus = [option.hardware for option in OPTIONS]
    asked = [(value, {"python": value}) for value in VALUES["python"]]
    table = choose_tables.table(Curious(CATALOG), "python", asked, STACKS, gpus, words)
    data = {
        "tables": {"python": table}, "texts": words.texts.all(), "verdicts": words.verdicts.all(), "facts": words.facts.all(),
        "stacks": [{"facts": []} for _ in STACKS],
    }  # fmt: skip
    jetson = next(place for place, option in enumerate(OPTIONS) if "jetson" in option.detail)
    refused = 0
    for gpu in (jetson, 1, 0):
        hardware = OPTIONS[gpu].hardware
        question = Question(gpu=hardware, python="3.10")
        for stack in range(len(STACKS)):
            at = looked_up(data, "python", stack, gpu, VALUES["python"].index("3.10"))
            found = told(data, at, stack, "3.10", hardware.name if hardware else "")
            wanted = Curious(CATALOG).verdict(STACKS[stack], question, question.requirements[-1])
            assert found[:4] == (wanted.state, wanted.inferred, wanted.met, wanted.because)
            refused += wanted.because.startswith("cuDNN")
    assert refused > 10


def test_texts_hold_no_stand_in_of_a_driver(data: dict[str, Any]) -> None:
    assert not [text for text in (*data["texts"], *(fact[0] for fact in data["facts"])) if ".0.0.0.0" in text]


def test_what_ran_on_a_gpu_is_not_shown_to_need_none() -> None:
    run = seen(gpus=(("NVIDIA GeForce RTX 4090", "8.9"),))
    stack = next(item for item in STACKS if item.id == "tensorrt-10.9.0.34-cuda12")
    question = Question(gpu=OPTIONS[1].hardware)
    found = pick.choice(stack, question, {key(run.family, run.fields): [run]}, JUDGE, now=NOW, max_age=180)
    assert not found.fits and found.verdicts[0].because.endswith("needs an NVIDIA GPU")


# Writing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(matrix=tmp_path / "matrix.yaml")
    made.report.mkdir(parents=True)
    return made


def outcome(project: Project, name: str) -> None:
    record = {
        "axes": {"model": "m", "precision": "fp32"}, "when": "2026-11-01T00:00:00Z", "machine": {"cpu": "A processor"},
        "engine": {"family": "onnxruntime", "fields": {"onnxruntime": "1.17.3", "python": "3.11"}},
    }  # fmt: skip
    store = Store(project.artifacts)
    store.put_outcomes({name: (name, record)})
    store.put_run(
        f"run-{name}", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", {"machine": {}}, {name: ("verified", name)}
    )


def test_it_is_written_again_only_for_something_new(project: Project) -> None:
    report = fake_report()
    page = project.report / choose.NAME
    assert choose.write(project, report) and not choose.write(project, report)
    assert choose.write(project, report, always=True)
    before = page.read_text()
    assert len(before.encode()) < 3_000_000
    outcome(project, "c1")
    assert choose.write(project, report) and not choose.write(project, report)
    assert page.read_text() != before, "the run is evidence now"
    page.unlink()
    assert choose.write(project, report)
    cell = {**report["cells"][0], "id": "new"}
    assert choose.write(project, {**report, "cells": [*report["cells"], cell]}), "a link leads to it now"


def test_it_comes_with_the_report_and_a_run_with_nothing_to_do_leaves_it(project: Project) -> None:
    report = fake_report()
    report["run"]["steps"] = 0
    assert results.write_report(project, report)
    page = project.report / choose.NAME
    assert 'href="choose.html"' in (project.report / "report.html").read_text()
    before = page.stat().st_mtime_ns
    assert not results.write_report(project, report) and page.stat().st_mtime_ns == before
    outcome(project, "c1")
    assert not results.write_report(project, report) and page.stat().st_mtime_ns != before, "another run's evidence"
    page.unlink()
    assert not results.write_report(project, report) and page.exists()


def test_a_folder_of_any_name_has_its_evidence(tmp_path: Path) -> None:
    project = Project(matrix=tmp_path / "a?b#c%41 d" / "matrix.yaml")
    project.report.mkdir(parents=True)
    report = fake_report()
    assert choose.write(project, report)
    outcome(project, "c1")
    assert choose.write(project, report)


def test_facts_that_were_kept_are_used_and_damaged_ones_made_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = project.report / ".choose-facts.json"
    key = choose.facts_key()
    made = choose.facts(kept, key)
    monkeypatch.setattr(choose, "_MADE", {})
    monkeypatch.setattr(choose, "judged", lambda catalog: {"made": "again"})
    assert choose.facts(kept, key) == json.loads(json.dumps(made))
    for text in ("{", "[]", '{"key": "another", "facts": {}}'):
        monkeypatch.setattr(choose, "_MADE", {})
        kept.write_text(text)
        assert choose.facts(kept, key) == {"made": "again"}


def test_the_page_names_the_report_and_fetches_nothing(project: Project) -> None:
    choose.write(project, fake_report())
    text = (project.report / choose.NAME).read_text()
    assert "default-src 'none'" in text and 'href="report.html"' in text
    head = text.partition('<script id="data"')[0]
    assert "http:" not in head.replace("http://www.w3.org/2000/svg", "") and "https:" not in head


def test_drivers_are_every_version_that_the_catalog_names() -> None:
    named = choose_options.drivers(CATALOG, STACKS)
    at = [number(value) for value in named]
    assert at == sorted(set(at)), "oldest first, once each"
    assert {number(stack.driver) for stack in STACKS if stack.driver} <= set(at)
