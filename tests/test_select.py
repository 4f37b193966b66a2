"""The selector language, over a small matrix and against plain Python."""
# ruff: noqa: E501  (tables of cases, one line each)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import Project, slugs
from test_matrix import RICH

from builder import matrix, select
from builder.errors import UsageError
from builder.select import Compare, SelectError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> matrix.Matrix:
    project = Project(tmp_path_factory.mktemp("select"))
    return project.matrix(
        RICH + "groups: {quick: model=alpha and opset=13, few: {select: quick, sample: {strategy: pairwise}}}\n"
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("all", lambda c: True),
        ("not all", lambda c: False),
        ("model=alpha", lambda c: c.model == "alpha"),
        ("model=alpha,beta and opset=13", lambda c: c.options["opset"] == "13"),
        ("model!=alpha,beta", lambda c: False),
        ("precision=fp*", lambda c: c.options["precision"].startswith("fp")),
        ("opset>=14 and opset<18", lambda c: c.options["opset"] == "17"),
        ("onnxruntime>=1.9", lambda c: "onnxruntime" in c.engine.fields),
        ("onnxruntime<1.17", lambda c: c.engine.fields.get("onnxruntime") == "1.16.3"),
        ("not onnxruntime<1.17", lambda c: c.engine.fields.get("onnxruntime") != "1.16.3"),
        ("target!=sm75", lambda c: c.options.get("target") == "sm89"),
        ("not target=sm75", lambda c: c.options.get("target") != "sm75"),
        ("engine=gpu or exporter=torch and opset=13", lambda c: c.engine.entry == "gpu" or (c.exporter.entry == "torch" and c.options["opset"] == "13")),
        ("(engine=gpu or exporter=torch) and opset=13", lambda c: (c.engine.entry == "gpu" or c.exporter.entry == "torch") and c.options["opset"] == "13"),
        ("not model=alpha and opset=13", lambda c: c.model != "alpha" and c.options["opset"] == "13"),
        ("engine.python='3.12'", lambda c: c.engine.fields["python"] == "3.12"),
        ("exporter.family=other", lambda c: c.exporter.family == "other"),
        ("torch=2.13.*", lambda c: c.exporter.family == "other"),
        ("quick", lambda c: c.model == "alpha" and c.options["opset"] == "13"),
        ("not quick and shapes=static", lambda c: c.options["shapes"] == "static" and not (c.model == "alpha" and c.options["opset"] == "13")),
        ("*gpu-1.4*beta*", lambda c: c.engine.fields.get("gpu") == "1.4.0.76" and c.model == "beta"),
        ("slug=*gpu-1.4*", lambda c: c.engine.fields.get("gpu") == "1.4.0.76"),
    ],
)  # fmt: skip
def test_selectors(text: str, fits, made: matrix.Matrix) -> None:
    assert slugs(made.select(text).cells) == slugs(cell for cell in made.cells if fits(cell))


def test_ids_status_and_changed(made: matrix.Matrix) -> None:
    first, second = made.cells[0], made.cells[7]
    assert made.select(f"#{second.id}").cells == (second,)
    assert made.select(f"id={first.id},{second.id}").cells == (first, second)
    status = {first.id: "failed", second.id: "verified"}
    assert made.select("status=failed", status=status).cells == (first,)
    assert made.select("status!=failed", status=status).cells == (second,)
    assert made.select("changed", changed={second.id}).cells == (second,)
    with pytest.raises(UsageError, match="there is none yet"):
        made.select("status=failed")
    with pytest.raises(UsageError, match="there is none yet"):
        made.select("changed")


def test_a_group_that_is_sampled_counts_as_what_was_chosen(made: matrix.Matrix) -> None:
    few = made.select("few")
    assert few.sampled is not None and few.sampled.covered == few.sampled.total
    assert 0 < len(few.cells) < len(made.select("quick").cells)
    assert made.select("few and precision=fp16").cells == tuple(
        c for c in few.cells if c.options["precision"] == "fp16"
    )


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("", "expected a term before the end", 0),
        ("model=", "expected a value", 6),
        ("modell=alpha", "unknown field 'modell'; perhaps 'model'?", 0),
        ("opset=13 and model=alfa", "no model 'alfa' in this matrix; perhaps 'alpha'?", 13),
        ("quik", "unknown group 'quik'; perhaps 'quick'?", 0),
        ("python='3.12'", "write engine.python or exporter.python", 0),
        ("target>=80", "has no versions to compare", 0),
        ("opset=>=13", "expected a value", 6),
        ("opset='>=13'", "write FIELD>=VERSION", 0),
        ("(" * 500 + "all", "nested deeper", 101),
        ("all " + "x" * 20_000, "more than 10000 characters", 0),
        ("model=alpha\x1b[31m", "no model 'alpha\\x1b[31m'", 0),
    ],
)
def test_errors_have_a_place(text: str, message: str, offset: int, made: matrix.Matrix) -> None:
    with pytest.raises(SelectError) as caught:
        made.select(text)
    assert message in str(caught.value)
    assert caught.value.offset == offset
    assert "\x1b" not in str(caught.value).split("\n", 1)[1]


expressions = st.recursive(
    st.sampled_from(["all", "a=1", "b>=2", "c!=x,y"]),
    lambda inner: st.one_of(
        inner.map(lambda x: f"not {x}"), inner.map(lambda x: f"({x})"), st.tuples(inner, inner).map(lambda p: f"{p[0]} and {p[1]}"),
        st.tuples(inner, inner).map(lambda p: f"{p[0]} or {p[1]}"),
    ),
    max_leaves=8,
)  # fmt: skip


@given(expressions, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_precedence_is_pythons(text: str, a: int, b: int, c: int) -> None:
    bits = {"a": a, "b": b, "c": c}

    def leaf(term: select.Leaf) -> int:
        return bits[term.field] if isinstance(term, Compare) else 255

    found = select.evaluate(select.parse(text), leaf, 255)
    plain = text.replace("all", "True").replace("a=1", "A").replace("b>=2", "B").replace("c!=x,y", "C")
    for bit in range(8):
        names = {"A": bool(a >> bit & 1), "B": bool(b >> bit & 1), "C": bool(c >> bit & 1)}
        assert bool(found >> bit & 1) == eval(plain, names)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_an_error_of_ours(text: str) -> None:
    try:
        select.parse(text)
    except SelectError as error:
        assert 0 <= error.offset <= len(text)
