"""Cutting pieces out of ONNX files, and looking for the smallest that a library refuses (here: made-up libraries)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import worker

sys.modules.setdefault("worker", worker)

from fakes import onnxfile  # noqa: E402

from worker import adapters, jobs, subgraph, subgraph_search  # noqa: E402
from worker.subgraph import field  # noqa: E402

CHAIN = [
    ("Relu", "a", ["x"], ["ta"]), ("Add", "b", ["ta", "w"], ["tb"]), ("Mul", "c", ["x", "v"], ["tc"]),
    ("Sub", "d", ["tb", "tc"], ["td"]), ("Tanh", "e", ["td"], ["y"]),
]  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path) -> subgraph.Model:
    return subgraph.read(str(onnxfile.write(tmp_path / "chain.onnx", CHAIN, weights=["w", "v"])))


def names(model: subgraph.Model) -> list[str]:
    return [node.name for node in model.nodes]


def test_a_model_is_taken_apart(chain: subgraph.Model) -> None:
    assert [(node.name, node.operator) for node in chain.nodes] == [(n, o) for o, n, _, _ in CHAIN]
    assert (chain.inputs, chain.outputs, sorted(chain.weights)) == (["x"], ["y"], ["v", "w"])
    assert subgraph.signature(chain.types["x"]) == ("x", 1, [2, 3])
    assert chain.ancestors({3}) == {0, 1, 2, 3}
    assert chain.producers({3}) == {1, 2}


def test_all_of_a_model_is_the_model(chain: subgraph.Model) -> None:
    again = subgraph.Model(chain.cut(range(5)))
    assert names(again) == names(chain)
    assert (again.inputs, again.outputs, sorted(again.weights)) == (["x"], ["y"], ["v", "w"])


def test_a_piece_takes_what_it_needs_and_gives_what_others_took(chain: subgraph.Model) -> None:
    piece = subgraph.Model(chain.cut({0, 1}))
    assert names(piece) == ["a", "b"]
    assert (piece.inputs, piece.outputs, sorted(piece.weights)) == (["x"], ["tb"], ["w"])
    with pytest.raises(subgraph.Untyped, match="td has no type"):
        chain.cut({4})
    chain.learn("td", 1, [2, "batch", None])
    piece = subgraph.Model(chain.cut({4}))
    assert piece.inputs == ["td"]
    assert subgraph.signature(piece.types["td"]) == ("td", 1, [2, "batch", "d2"])


def test_a_probe_asks_for_no_type(chain: subgraph.Model) -> None:
    piece = subgraph.Model(chain.cut({0}, probe=True))
    assert [node.operator for node in piece.nodes] == ["Relu", "Shape"]
    assert piece.outputs == ["ta:shape"]
    assert subgraph.signature(piece.types["ta:shape"])[1] == 7


def test_fixed_shapes_forget_what_may_have_depended_on_them(tmp_path: Path) -> None:
    model = subgraph.read(str(onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"], shape=["N", 3])))
    model.learn("ta", 1, ["N", 3])
    model.learn("tb", 1, [4, 3])
    model.freeze({"x": [2, 3]})
    assert subgraph.signature(model.types["x"])[2] == [2, 3]
    assert "ta" not in model.types
    assert "tb" in model.types


def test_what_a_nodes_own_graphs_take_from_outside_comes_along(tmp_path: Path) -> None:
    inner = field(1, field(1, b"w") + field(1, b"local") + field(2, b"o") + field(4, b"Add"))
    inner += field(5, field(8, b"local"))
    branch = field(1, b"then_branch") + field(6, inner)
    node = field(1, b"x") + field(2, b"y") + field(3, b"if") + field(4, b"If") + field(5, branch)
    weight = field(5, field(2, 1) + field(8, b"w") + field(9, b"\0\0\0\0"))
    value = field(11, subgraph._typed("x", 9, [])) + field(12, subgraph._typed("y", 1, []))
    model = subgraph.Model(field(7, field(1, node) + weight + value))
    assert model.nodes[0].inputs == ["x", "w"]
    assert sorted(subgraph.Model(model.cut({0})).weights) == ["w"]


def external(folder: Path, location: str, length: int = 8) -> subgraph.Model:
    entry = field(13, field(1, b"location") + field(2, location.encode()))
    entry += field(13, field(1, b"offset") + field(2, b"4")) + field(
        13, field(1, b"length") + field(2, str(length).encode())
    )
    weight = field(5, field(1, 2) + field(2, 1) + field(8, b"w") + entry + field(14, 1))
    node = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(3, b"add") + field(4, b"Add")
    value = field(11, subgraph._typed("x", 1, [2])) + field(12, subgraph._typed("y", 1, [2]))
    (folder / "m.onnx").write_bytes(field(7, field(1, node) + weight + value))
    return subgraph.read(str(folder / "m.onnx"))


def test_external_data_comes_along(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"skip12345678tail")
    piece = subgraph.Model(external(tmp_path, "data.bin").cut({0}))
    parts = subgraph.fields(piece.weights["w"][1])
    raw = {number: bytes(value) for number, _, value, _ in parts if number in (9, 13)}
    assert raw == {9: b"12345678"}


def test_external_data_reaches_nothing_outside_and_is_whole(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    os.symlink(tmp_path / "secret", inside / "link")
    for location in ("../secret", str(tmp_path / "secret"), "link"):
        with pytest.raises(subgraph.Damaged, match="outside of the model's folder"):
            external(inside, location).cut({0})
    (inside / "short").write_bytes(b"skip1234")
    with pytest.raises(subgraph.Damaged, match="has 4 bytes, and its shape needs 8"):
        external(inside, "short").cut({0})


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_damaged(data: bytes) -> None:
    try:
        model = subgraph.Model(data)
        model.cut(range(len(model.nodes)), probe=True)
    except (subgraph.Damaged, subgraph.Untyped):
        pass


#: Messages of ONNX's field numbers, with anything in them.
TREES = st.recursive(
    st.integers(min_value=0, max_value=1 << 63) | st.binary(max_size=8),
    lambda inner: st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]), inner), max_size=5
    ).map(lambda parts: b"".join(field(number, value) for number, value in parts)),
    max_leaves=20,
)


@settings(deadline=None)
@given(TREES)
def test_no_message_does_more_than_be_damaged(tree: Any) -> None:
    try:
        model = subgraph.Model(field(7, tree))
        model.freeze({"x": [1]})
        model.cut(range(len(model.nodes)), probe=True)
    except (subgraph.Damaged, subgraph.Untyped):
        pass


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_file_cut_short_is_damaged_or_smaller(data: Any) -> None:
    whole = field(1, 8) + field(7, b"".join(field(1, field(2, b"y") + field(4, b"Relu")) for _ in range(3)))
    end = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    with pytest.raises(subgraph.Damaged):
        subgraph.Model(whole[:end])


# The search ------------------------------------------------------------------------------------------------------------


class Library:
    """Refuses files by a rule over the operators in them; tells every type."""

    def __init__(self, rule: Any) -> None:
        self.rule, self.asked = rule, 0

    def refusals(self, job: Any, path: str) -> list[dict[str, str]]:
        self.asked += 1
        return self.rule([node.operator for node in subgraph.read(path).nodes])

    def types(self, job: Any, path: str) -> dict[str, Any]:
        return {name: (1, [2, 3]) for node in subgraph.read(path).nodes for name in node.outputs}


def reduce(model: Path, rule: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    library = Library(rule)
    monkeypatch.setattr(adapters, "get", lambda name: library)
    given_ = {"adapter": "made up", "model": str(model), "settings": {}, "options": {}, "profile": None, **more}
    (folder / "job").mkdir(exist_ok=True)
    job = jobs.Job("subgraph", given_, str(folder / "job"), lambda _: None)
    return subgraph_search.reduce(job), library, folder / "job"


def says(operator: str, reason: str = "no") -> dict[str, str]:
    return {"node": "", "operator": operator, "reason": reason}


def test_one_node_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"])
    rule = lambda operators: [says("Sub")] if "Sub" in operators else []  # noqa: E731
    found, _, folder = reduce(
        model, rule, tmp_path, monkeypatch, refused=[{"node": "d", "operator": "Sub", "reason": "no"}]
    )
    (piece,) = found["subgraphs"]
    assert (piece["nodes"], piece["of"], piece["smallest"]) == (["d"], 5, True)
    assert names(subgraph.read(str(folder / piece["model"])))[0] == "d"
    assert sorted(path.name for path in folder.iterdir()) == ["subgraph-0.onnx"]


def test_what_feeds_it_and_what_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sub is refused only after an Add: the smallest piece has these two, and neither Relu nor Mul."""
    model = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"])
    rule = lambda operators: [says("Sub")] if {"Sub", "Add"} <= set(operators) else []  # noqa: E731
    found, _, _ = reduce(model, rule, tmp_path, monkeypatch, refused=[{"node": "d", "operator": "Sub", "reason": "no"}])
    assert found["subgraphs"][0]["nodes"] == ["b", "d"]


def test_what_comes_after_may_be_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"])
    rule = lambda operators: [says("Relu")] if {"Relu", "Tanh"} <= set(operators) else []  # noqa: E731
    found, _, _ = reduce(
        model, rule, tmp_path, monkeypatch, refused=[{"node": "a", "operator": "Relu", "reason": "no"}]
    )
    assert found["subgraphs"][0]["nodes"] == ["a", "e"]


def test_a_refusal_for_another_reason_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"])
    rule = lambda operators: [says("Sub", "no" if len(set(operators) - {"Shape"}) == 5 else "too few")]  # noqa: E731
    found, _, _ = reduce(model, rule, tmp_path, monkeypatch, refused=[{"node": "d", "operator": "Sub", "reason": "no"}])
    assert len(found["subgraphs"][0]["nodes"]) == 5
    never = lambda operators: []  # noqa: E731
    found, _, _ = reduce(
        model, never, tmp_path, monkeypatch, refused=[{"node": "d", "operator": "Sub", "reason": "no"}]
    )
    assert found["subgraphs"] == []


def test_numbers_and_names_make_no_other_reason() -> None:
    one = {"operator": "custom.Odd", "reason": "node 3 ('a'): bad {ForeignNode[a...b]} at 0x1"}
    two = {"operator": "custom:Odd(1)", "reason": "node 17 ('b'): bad {ForeignNode[c]} at 0x9"}
    assert subgraph_search.kind(one) == subgraph_search.kind(two)
    assert subgraph_search.kind(one) != subgraph_search.kind({**one, "reason": "bad"})


def test_a_long_model_without_a_named_node_takes_few_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [("Relu", f"n{i}", [f"t{i}" if i else "x"], [f"t{i + 1}" if i < 255 else "y"]) for i in range(256)]
    nodes[100] = ("Odd", *nodes[100][1:])
    model = onnxfile.write(tmp_path / "m.onnx", nodes)
    rule = lambda operators: [says("", "no")] if "Odd" in operators else []  # noqa: E731
    found, library, _ = reduce(model, rule, tmp_path, monkeypatch, message="no")
    (piece,) = found["subgraphs"]
    assert (piece["nodes"], piece["operator"], piece["smallest"]) == (["n100"], "Odd", True)
    assert library.asked <= 40


def test_what_was_found_elsewhere_is_tried_first_and_proven_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [("Relu", f"n{i}", [f"t{i}" if i else "x"], [f"t{i + 1}" if i < 255 else "y"]) for i in range(256)]
    nodes[100], nodes[101] = ("Odd", *nodes[100][1:]), ("Even", *nodes[101][1:])
    model = onnxfile.write(tmp_path / "m.onnx", nodes)
    rule = lambda operators: [says("", "no")] if {"Odd", "Even"} <= set(operators) else []  # noqa: E731
    slow, library, _ = reduce(model, rule, tmp_path, monkeypatch, message="no")
    tries = library.asked
    found, library, folder = reduce(model, rule, tmp_path, monkeypatch, message="no", alike=[["Odd", "Even"]])
    (piece,) = found["subgraphs"]
    assert piece["nodes"] == slow["subgraphs"][0]["nodes"] == ["n100", "n101"] and piece["smallest"]
    assert library.asked <= 8 < tries
    assert names(subgraph.read(str(folder / piece["model"])))[:2] == ["n100", "n101"]
    for wrong in (["Relu", "Relu"], ["Odd"], ["Tanh", "Even"], ["Relu", "Odd", "Even"], []):
        found, _, _ = reduce(model, rule, tmp_path, monkeypatch, message="no", alike=[wrong])
        assert found["subgraphs"][0]["nodes"] == ["n100", "n101"], wrong


def test_pieces_are_looked_for_along_what_feeds_them(chain: subgraph.Model) -> None:
    assert subgraph_search.alike(chain, ["Relu", "Add", "Sub"], None) == [{0, 1, 3}]
    assert subgraph_search.alike(chain, ["Relu", "Add", "Sub"], 3) == [{0, 1, 3}]
    assert subgraph_search.alike(chain, ["Relu", "Add", "Sub"], 4) == []
    assert subgraph_search.alike(chain, ["Relu", "Sub"], None) == [], "Relu does not feed Sub itself"
    assert subgraph_search.alike(chain, ["Relu"] * 13, None) == []


def test_limits_end_a_search_with_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w", "v"])
    rule = lambda operators: [says("", "no")] if "Sub" in operators else []  # noqa: E731
    found, library, _ = reduce(model, rule, tmp_path, monkeypatch, message="no", limit={"tries": 2})
    assert library.asked == 2
    assert not found["subgraphs"][0]["smallest"]
    found, library, _ = reduce(model, rule, tmp_path, monkeypatch, message="no", limit={"seconds": 0.0})
    assert library.asked <= 1


def test_a_file_that_cannot_be_cut_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff")
    with pytest.raises(jobs.BadInput, match="no model to cut"):
        reduce(tmp_path / "m.onnx", lambda operators: [], tmp_path, monkeypatch, message="no")
