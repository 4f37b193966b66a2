"""Conflict rules: planted ones are found exactly, noise has none, and what is printed can be pasted into a matrix."""

from __future__ import annotations

import copy
import itertools
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import specs
from fake_report import fake_report
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small import Small

from builder import cli, rules_cli, versions
from builder.conflict_rules import rules, values
from builder.conflict_rules_search import Conditions, Field, Search, bits
from builder.report import check_report
from builder.report.assemble import complete
from builder.select import Compare, evaluate, parse
from builder.values import FAILING

Condition = tuple[str, frozenset[str]]
RELEASES = ["1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.20.1", "1.22.0"]


def cell(axes: dict[str, str], status: str = "verified", category: str | None = None, **more: Any) -> dict[str, Any]:
    """A cell of a report. Names with a dot are fields of its stacks."""
    stack = {role: {name.partition(".")[2]: value for name, value in axes.items() if name.startswith(f"{role}.")}
             for role in ("engine", "exporter")}  # fmt: skip
    plain = {name: value for name, value in axes.items() if "." not in name}
    return {
        "id": "-".join(axes.values()), "status": status, "category": category,
        "stage": {"verified": "compare", "built": "build", "failed": "build"}.get(status, "compare"),
        "axes": {"model": "m", **plain},
        "engine": {"id": "e", "entry": "ort", "family": "onnxruntime", "fields": {"python": "3.12", **stack["engine"]}},
        "exporter": {"id": "x", "entry": "onnx", "family": "onnx", "fields": {"onnx": "1.20.1", **stack["exporter"]}}, **more,
    }  # fmt: skip


def product(space: dict[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*space.values())]


def pairwise(points: list[dict[str, str]], rnd: random.Random) -> list[dict[str, str]]:
    """Points in which every pair of values that there is occurs, many times over: thirty covers, each its own."""
    out: dict[str, dict[str, str]] = {}
    for _ in range(30):
        left = {pair for point in points for pair in itertools.combinations(sorted(point.items()), 2)}
        for point in rnd.sample(points, len(points)):
            new = left & set(itertools.combinations(sorted(point.items()), 2))
            if new:
                left -= new
                out["-".join(point.values())] = point
    return list(out.values())


def fits(point: dict[str, str], planted: list[Condition]) -> bool:
    return all(point[name] in chosen for name, chosen in planted)


def told(found: dict[str, Any]) -> set[frozenset[Condition]]:
    return {frozenset((c["field"], frozenset(c["values"])) for c in rule["conditions"]) for rule in found["rules"]}


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, list[str]]:
    """A matrix of 4 or 5 axes, one of releases, one of opsets."""
    out = {
        "engine.onnxruntime": RELEASES[: draw(st.integers(3, 6))],
        "opset": ["13", "17", "18", "21", "23"][: draw(st.integers(3, 5))],
    }
    for name in ("precision", "shapes", "target")[: draw(st.integers(2, 3))]:
        out[name] = [f"{name}{at}" for at in range(draw(st.integers(2, 4)))]
    return out


@st.composite
def planting(draw: st.DrawFn, space: dict[str, list[str]]) -> list[Condition]:
    """A conjunction of 1 to 3 conditions: a value, or a range of an ordered axis."""
    names = draw(st.lists(st.sampled_from(sorted(space)), min_size=1, max_size=3, unique=True))
    out = []
    for name in names:
        known = space[name]
        low = draw(st.integers(0, len(known) - 1))
        high = draw(st.integers(low, len(known) - 1)) if name in ("engine.onnxruntime", "opset") else low
        assume(high - low + 1 < len(known))
        out.append((name, frozenset(known[low : high + 1])))
    return out


def outcomes(points: list[dict[str, str]], planted: list[list[Condition]]) -> list[dict[str, Any]]:
    return [
        cell(point, "failed", "broken") if any(fits(point, rule) for rule in planted) else cell(point)
        for point in points
    ]


QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow]
)


@QUICK
@given(data=st.data())
def test_a_planted_rule_is_found_exactly_in_a_product(data: st.DataObject) -> None:
    space = data.draw(spaces())
    planted = data.draw(planting(space))
    cells = outcomes(product(space), [planted])
    failing = sum(one["status"] == "failed" for one in cells)
    assume(failing >= 8 and failing <= len(cells) / 2)
    found = rules(cells)
    assert told(found) == {frozenset(planted)}
    rule = found["rules"][0]
    assert (rule["failing"], rule["passing"], rule["elsewhere"], found["unexplained"]) == (failing, 0, 0, [])
    assert set(rule["cells"]) == {one["id"] for one in cells if one["status"] == "failed"}


@QUICK
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_a_planted_rule_is_found_exactly_in_a_sample_that_shows_it(data: st.DataObject, seed: int) -> None:
    space = data.draw(spaces())
    planted = data.draw(planting(space))
    cells = outcomes(pairwise(product(space), random.Random(seed)), [planted])
    failing = [one for one in cells if one["status"] == "failed"]
    assume(len(failing) >= 8 and len(failing) <= len(cells) / 2)
    for at, (name, chosen) in enumerate(
        planted
    ):  # the sample shows every condition: without it, cells pass; none is smaller
        others = [rule for place, rule in enumerate(planted) if place != at]
        missing = [values(one)[name] for one in cells if fits(values(one), others) and one["status"] != "failed"]
        assume({values(one)[name] for one in failing} == chosen and set(missing) == set(space[name]) - chosen)
        assume(len(missing) >= 4)
    assert told(rules(cells)) == {frozenset(planted)}


@QUICK
@given(data=st.data())
def test_of_two_planted_rules_too_little_is_left_to_be_more_than_luck(data: st.DataObject) -> None:
    """Two rules may have a simpler explanation of nearly all their cells, a range over both; it is taken, and never holds for a
    passing cell."""
    space = data.draw(spaces())
    planted = [data.draw(planting(space)), data.draw(planting(space))]
    cells = outcomes(product(space), planted)
    failing = {one["id"] for one in cells if one["status"] == "failed"}
    assume(len(cells) >= 150 and len(failing) <= len(cells) / 3)
    found = rules(cells)["rules"]
    assert not any(rule["passing"] for rule in found)
    explained = {one for rule in found for one in rule["cells"]}
    assert explained <= failing and len(failing - explained) < 12


@QUICK
@given(first=st.integers(1, 5), second=st.integers(1, 4), low=st.booleans())
def test_two_rules_that_share_an_axis_are_both_found(first: int, second: int, low: bool) -> None:
    space = {"engine.onnxruntime": RELEASES, "opset": ["13", "17", "18", "21", "23"], "shapes": ["s", "d", "e"],
             "target": ["1", "2", "3", "4"]}  # fmt: skip
    opsets = space["opset"][:second] if low else space["opset"][-second:]
    planted = [
        [("engine.onnxruntime", frozenset(RELEASES[:first])), ("shapes", frozenset({"s"}))],
        [("opset", frozenset(opsets)), ("shapes", frozenset({"d"}))],
    ]
    assert told(rules(outcomes(product(space), planted))) == set(map(frozenset, planted))


def test_noise_has_no_rule() -> None:
    """At most one of a hundred shuffled reports may show any; docs/rules.md has the measured rate of many more."""
    space = {
        "engine.onnxruntime": RELEASES,
        "opset": ["13", "17", "21"],
        "precision": ["a", "b", "c"],
        "shapes": ["s", "d"],
    }
    points, rnd, wrong = product(space), random.Random(3), 0
    for turn in range(100):
        rate = (0.02, 0.1, 0.3, 0.6)[turn % 4]
        cells = [cell(point, "failed", "broken") if rnd.random() < rate else cell(point) for point in points]
        wrong += bool(rules(cells)["rules"])
    assert wrong <= 1


def test_a_rule_among_noise_is_found_and_the_noise_is_left() -> None:
    space = {
        "engine.onnxruntime": RELEASES,
        "opset": ["13", "17", "21", "23"],
        "precision": ["a", "b", "c"],
        "shapes": ["s", "d"],
    }
    planted = [("engine.onnxruntime", frozenset(RELEASES[:3])), ("opset", frozenset({"21", "23"}))]
    cells, rnd = outcomes(product(space), [planted]), random.Random(1)
    for one in rnd.sample([one for one in cells if one["status"] == "verified"], 5):
        one |= {"status": "failed", "category": "broken", "stage": "build"}
    found = rules(cells)
    assert told(found) == {frozenset(planted)}
    assert found["rules"][0]["elsewhere"] == 5 == len(found["unexplained"][0]["cells"])


def test_a_flaky_pass_is_a_counterexample_and_does_not_break_the_rule() -> None:
    space = {
        "engine.onnxruntime": RELEASES,
        "opset": ["13", "17", "21", "23"],
        "precision": ["a", "b", "c"],
        "shapes": ["s", "d"],
    }
    planted = [("engine.onnxruntime", frozenset(RELEASES[:3])), ("opset", frozenset({"21", "23"}))]
    cells = outcomes(product(space), [planted])
    odd = [one for one in cells if one["status"] == "failed"][20]
    odd |= {"status": "verified", "category": None}
    found = rules(cells)["rules"]
    assert len(found) == 1 and told({"rules": found}) == {frozenset(planted)}
    assert found[0]["counterexamples"] == [odd["id"]] and found[0]["constraint"] is None
    assert found[0]["text"].startswith("35 of 36 cells with onnxruntime<=1.17.3 and opset>=21 fail: broken")


def test_a_rule_does_not_speak_of_cells_that_say_nothing() -> None:
    """`all 24 cells with opset=21 fail` were false where others of that opset were not tried."""
    cells = outcomes(product(SPACE), [[("opset", frozenset({"21"}))]])
    silent = [one for one in cells if one["status"] == "failed"][:3]
    for one in silent:
        one |= {"status": "unsupported", "category": None}
    (found,) = rules(cells)["rules"]
    assert found["silent"] == 3
    assert found["text"].startswith(f"all {found['failing']} cells with opset=21 that got that far fail: broken")


SPACE = {
    "engine.onnxruntime": RELEASES[:4],
    "opset": ["13", "17", "21"],
    "precision": ["a", "b", "c"],
    "shapes": ["s", "d"],
}


def half(status: str, other: str, category: str | None = None) -> dict[str, Any]:
    """Failures at opset 21; at opset 17 the given outcome, which a rule might also take in; opset 13 works."""
    cells = []
    for point in product(SPACE):
        made = cell(point, "failed", "broken") if point["opset"] == "21" else cell(point)
        cells.append(cell(point, status, category, stage=other) if point["opset"] == "17" else made)
    return rules(cells)


@pytest.mark.parametrize("status", ["skipped", "blocked", "unsupported"])
def test_what_was_not_tried_says_nothing(status: str) -> None:
    rule = half(status, "environment")["rules"][0]
    assert (rule["failing"], rule["passing"], rule["silent"]) == (24, 0, 0)
    everywhere = [cell(point, "failed", "broken") if point["opset"] == "21" else cell(point, status, stage="environment")
                  for point in product(SPACE)]  # fmt: skip
    found = rules(everywhere)
    assert found["rules"] == [] and found["unexplained"][0]["passing"] == 0


def test_failing_otherwise_is_neither_for_nor_against() -> None:
    cells = []
    for point in product(SPACE):
        if point["opset"] == "21":
            cells.append(cell(point, "failed", "broken" if point["shapes"] == "s" else "hidden", stage="parse"))
        else:
            cells.append(cell(point))
    found = {rule["category"]: rule for rule in rules(cells)["rules"]}
    assert found["broken"]["when"] == "opset=21" and (found["broken"]["failing"], found["broken"]["other"]) == (12, 12)
    assert found["hidden"]["when"] == "opset=21"


def test_what_was_only_built_speaks_of_building_alone() -> None:
    """`built` cells never ran: they cannot show that a failure at run time does not happen to them."""
    for stage, when in (("build", "precision=a and shapes=s"), ("run", "shapes=s")):
        cells = []
        for point in product(SPACE):
            if point["precision"] == "a":
                cells.append(cell(point, "crashed", "broken", stage=stage) if point["shapes"] == "s" else cell(point))
            else:
                cells.append(cell(point, "built") if point["shapes"] == "s" else cell(point))
        assert [rule["when"] for rule in rules(cells)["rules"]] == [when]


def test_a_rule_says_what_these_cells_cannot_tell_apart() -> None:
    points = product(
        {
            "engine.onnxruntime": ["1.16.3"],
            "opset": ["13", "17", "21"],
            "precision": ["a", "b", "c"],
            "shapes": ["s", "d"],
        }
    )
    new = [cell({**point, "engine.onnxruntime": "1.20.1"}) for point in points]
    old = [cell({**point, "engine.python": "3.11"}, "failed", "broken") for point in points]
    rule = rules(new + old)["rules"][0]
    assert rule["when"] == "onnxruntime=1.16.3" and {"of": "onnxruntime", "when": "engine.python=3.11"} in rule["alike"]


def test_an_own_python_axis_is_a_cause_like_any() -> None:
    space = {"engine.onnxruntime": RELEASES, "engine.python": ["3.9", "3.10", "3.12"], "opset": ["13", "17", "21"]}
    planted = [("engine.python", frozenset({"3.9", "3.10"})), ("opset", frozenset({"21"}))]
    assert told(rules(outcomes(product(space), [planted]))) == {frozenset(planted)}


def test_values_are_ordered_as_versions() -> None:
    space = {
        "engine.onnxruntime": ["1.9.0", "1.10.0", "1.11.0", "1.100.0"],
        "opset": ["9", "13", "17"],
        "shapes": ["s", "d", "e"],
    }
    planted = [("engine.onnxruntime", frozenset({"1.9.0", "1.10.0"}))]
    assert rules(outcomes(product(space), [planted]))["rules"][0]["conditions"][0]["patterns"] == ["<=1.10.0"]


def test_the_search_is_exact_where_all_rules_can_be_tried() -> None:
    """Against every conjunction of up to 3 values, ranges and sets, on random outcomes."""
    rnd = random.Random(5)
    for turn in range(25):
        sizes = [3, 4, 2, 3]
        fields = [Field(name=f"f{at}", values=tuple(map(str, range(k))), ordered=at == 1) for at, k in enumerate(sizes)]
        points = list(itertools.product(*map(range, sizes)))
        center = rnd.choice(points)
        bad = [
            p for p in points if rnd.random() < 0.02 + 0.3 * (sum(a == b for a, b in zip(p, center, strict=True)) >= 2)
        ]
        good = [p for p in points if p not in bad]
        if not bad:
            continue
        search = Search(fields, bits(fields, bad), bits(fields, good), len(bad), len(good), len(fields))
        found = search.best(-100.0)
        assert found is not None and not search.limited
        subsets = [[frozenset(c) for m in range(1, k) for c in itertools.combinations(range(k), m)] for k in sizes]
        best = max(
            (search.score(tuple(zip(where, chosen, strict=True))), tuple(zip(where, chosen, strict=True)))
            for n in (1, 2, 3) for where in itertools.combinations(range(4), n)
            for chosen in itertools.product(*(subsets[at] for at in where)) if _single_sets(fields, where, chosen)
        )  # fmt: skip
        assert found.score >= best[0] - 1e-6, (turn, found, best)


def _single_sets(fields: list[Field], where: tuple[int, ...], chosen: tuple[frozenset[int], ...]) -> bool:
    """Whether at most one ordered field has a set with holes: so far the search promises to be exact."""
    holes = [fields[at].ordered and max(c) - min(c) + 1 > len(c) for at, c in zip(where, chosen, strict=True)]
    return sum(holes) <= 1


def test_a_score_is_the_sum_of_its_parts() -> None:
    fields = [
        Field(name="a", values=("1", "2", "3", "4"), ordered=True),
        Field(name="b", values=("x", "y"), ordered=False),
    ]
    bad, good = [(0, 0)] * 4, [(1, 0), (2, 1), (3, 1), (0, 1)]
    search = Search(fields, bits(fields, bad), bits(fields, good), 4, 4, 2)
    search.weigh()
    rule: Conditions = ((0, frozenset({0})), (1, frozenset({0})))
    # 4 failures of 8 cells are a bit each; 1 + log2(2 fields) + 4 of a value of 4, + 2 of one of 2; their order is worth 1.
    assert search.score(rule) == pytest.approx(4 * 1 - ((1 + 1 + 4) + (1 + 1 + 2) - 1))


# ---------------------------------------------------------------- what is printed


MATRIX = """
schema: 1
name: pasted
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.15.1, 1.16.3, 1.17.3, 1.20.1]}
axes:
  model: [alpha, beta]
  opset: [13, 17, 21]
  precision: [fp32, fp16, int8]
  shapes: [static, dynamic]
"""


@pytest.mark.parametrize(
    "planted",
    [
        {"engine.onnxruntime": ["1.15.1", "1.16.3", "1.17.3"], "opset": ["21"]},
        {"engine.onnxruntime": ["1.16.3", "1.17.3"], "opset": ["17", "21"], "model": ["alpha"]},
        {"opset": ["13", "21"], "precision": ["fp16", "int8"]},
        {"engine.onnxruntime": ["1.20.1"]},
        {"shapes": ["dynamic"], "precision": ["fp32"], "model": ["beta"]},
    ],
)
def test_entries_can_be_pasted_and_match_exactly_the_cells(planted: dict[str, list[str]], tmp_path: Any) -> None:
    project = specs.Project(tmp_path)
    conditions = [(name, frozenset(chosen)) for name, chosen in planted.items()]
    cells = project.matrix(MATRIX).cells

    def fields(one: Any) -> dict[str, str]:
        return {"engine.onnxruntime": one.engine.fields["onnxruntime"], "model": one.model, **one.options}

    report = [
        {"id": one.id, "status": "failed" if fits(fields(one), conditions) else "verified",
         "category": "broken-so" if fits(fields(one), conditions) else None, "stage": "compare",
         "axes": {"model": one.model, **one.options}, "engine": one.engine.as_dict(), "exporter": one.exporter.as_dict()}
        for one in cells
    ]  # fmt: skip
    found = rules(report)["rules"]
    assert len(found) == 1
    wanted = {one.id for one in cells if fits(fields(one), conditions)}
    assert set(found[0]["cells"]) == wanted
    expected = project.matrix(f"{MATRIX}expect:\n{found[0]['expect']}\n").cells
    assert {one.id for one in expected if one.expect is not None} == wanted
    assert {one.expect.fail for one in expected if one.expect is not None} == {"broken-so"}
    left = project.matrix(f"{MATRIX}constraints:\n{found[0]['constraint']}\n").cells
    assert {one.id for one in left} == {one.id for one in cells} - wanted
    assert _selected(found[0]["select"], report) == wanted


def _selected(text: str, report: list[dict[str, Any]]) -> set[str]:
    """The selector, by its own parser."""
    named = [values(one) for one in report]

    def leaf(term: Any) -> int:
        assert isinstance(term, Compare)
        return sum(1 << at for at, one in enumerate(named) if term.accepts(one.get(term.field)))

    chosen = evaluate(parse(text), leaf, (1 << len(report)) - 1)
    return {one["id"] for at, one in enumerate(report) if chosen >> at & 1}


@given(value=st.text(alphabet="abyesno0123456789.:_-~[]{}#&*!|>'\"%@` ,=<", min_size=1, max_size=8))
def test_a_value_survives_yaml(value: str) -> None:
    import yaml

    from builder.conflict_rules_words import scalar

    assert yaml.safe_load(f"[{scalar(value)}]") == [value] or str(yaml.safe_load(scalar(value))) == value


@given(
    known=st.lists(st.sampled_from([*RELEASES, "1.9", "2.0rc1", "24.10", "24.1"]), min_size=1, unique=True),
    data=st.data(),
)
def test_patterns_take_exactly_the_values(known: list[str], data: st.DataObject) -> None:
    from builder.conflict_rules_words import patterns

    known = versions.ordered(known)
    chosen = [value for value in known if data.draw(st.booleans())]
    assume(chosen)
    made = patterns(chosen, known)
    assert [value for value in known if any(versions.matches(pattern, value) for pattern in made)] == chosen


# ---------------------------------------------------------------- in the report and on the terminal


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return complete(fake_report())


def first(report: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = report["rules"]["rules"][0]
    return rule


def other(report: dict[str, Any]) -> str:
    return next(
        one["id"] for one in report["cells"] if one["status"] == "verified" and one["engine"]["family"] == "openvino"
    )


LIES: dict[str, tuple[Any, str]] = {
    "counts": (lambda r: first(r).update(failing=7), "counts other cells"),
    "a cell that does not fit": (lambda r: first(r)["cells"].__setitem__(0, other(r)), "which it does not fit"),
    "another category": (lambda r: first(r).update(category="timeout"), "do not fail so"),
    "a cell that is not there": (lambda r: first(r)["cells"].__setitem__(0, "nosuch"), "not reported: nosuch"),
    "a counter-example that fails": (
        lambda r: first(r).update(counterexamples=first(r)["cells"], passing=first(r)["failing"]), "counter-examples that fail"),
    "a constraint against what works": (
        lambda r: first(r).update(counterexamples=first(r)["cells"], passing=first(r)["failing"]), "as a constraint"),
    "a boundary elsewhere": (lambda r: r["boundaries"][0]["where"][0]["cells"][0].reverse(), "is not between cells"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_rule_that_lies_is_found(whole: dict[str, Any], name: str) -> None:
    report = copy.deepcopy(whole)
    assert check_report(report) == []
    spoil, said = LIES[name]
    spoil(report)
    assert any(said in problem for problem in check_report(report)), check_report(report)


def test_the_report_has_rules_as_its_schema_says(whole: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(whole, schema)
    found = {rule["when"]: rule for rule in whole["rules"]["rules"]}
    assert found["onnxruntime<=1.17.3 and opset=21"]["category"] == "unsupported-opset"
    explained = {cell for rule in found.values() for cell in rule["cells"]}
    left = {cell for item in whole["rules"]["unexplained"] for cell in item["cells"]}
    assert explained | left == {one["id"] for one in whole["cells"] if one["status"] in FAILING}
    assert not explained & left


def test_the_command_prints_rules_entries_and_boundaries(whole: dict[str, Any]) -> None:
    text = "\n".join(rules_cli.lines({"rules": whole["rules"], "boundaries": whole["boundaries"]}, whole["cells"]))
    for rule in whole["rules"]["rules"]:
        assert rule["text"] in text and all(f"    {line}" in text for line in rule["expect"].splitlines())
    assert whole["boundaries"][0]["text"] in text and "no rule is better than luck" in text


def test_the_command_reads_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Small(tmp_path).run("1")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rules", "--group", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rules", "boundaries"} and found["rules"]["rules"] == []
    assert not (tmp_path / "artifacts" / "report").exists()


def test_what_was_foreseen_is_not_new(whole: dict[str, Any]) -> None:
    cells = copy.deepcopy(whole["cells"])
    rule = whole["rules"]["rules"][0]
    assert rules_cli._new(rule, cells)
    for one in cells:
        one["expected"] = {"state": "expected"} if one["id"] in rule["cells"] else None
    assert not rules_cli._new(rule, cells)
    next(one for one in cells if one["id"] == rule["cells"][-1])["expected"] = {"state": "other-failure"}
    assert rules_cli._new(rule, cells)


def test_a_rule_that_explains_all_of_few_is_told() -> None:
    """Six failing cells among 720, with four conditions: drawn without return, that is not luck."""
    space = {"engine.onnxruntime": RELEASES, "opset": ["13", "17", "18", "21", "23"], "precision": ["a", "b", "c"],
             "shapes": ["s", "d"], "target": ["1", "2", "3", "4"]}  # fmt: skip
    planted = [
        (name, frozenset({value}))
        for name, value in (("opset", "21"), ("precision", "b"), ("shapes", "d"), ("target", "3"))
    ]
    assert told(rules(outcomes(product(space), [planted]))) == {frozenset(planted)}
