"""The order of the search, over made-up graphs and engines: it finds what is planted, whatever the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.locate_search import Graph, Reading, Refused, Search


def graph(*nodes: tuple[str, str], hidden: Sequence[str] = ()) -> Graph:
    """Nodes (output, "inputs"), each named n_<output>; `hidden` tensors are in the engine's model alone."""
    made = [{"name": f"n_{out}", "operator": "Op", "inputs": ins.split(), "outputs": [out]} for out, ins in nodes]
    return Graph(nodes=made, pairs=[(out, out) for out, _ in nodes if out not in hidden])


def entry(error: float | None) -> dict[str, Any]:
    return {"error": error, "wrong": error is None}


class Engine:
    """One whose tensors have these errors (0 for the others); `heals`: marking one of these makes it right."""

    def __init__(
        self, errors: dict[str, float | None], *, heals: Sequence[str] = (), refuses: Sequence[str] = ()
    ) -> None:
        self.errors, self.heals, self.refuses = errors, heals, refuses
        self.asked: list[list[str]] = []

    def __call__(self, names: Sequence[str]) -> Reading:
        self.asked.append(list(names))
        for name in names:
            if name in self.refuses:
                raise Refused(f"no {name}")
        healed = any(name in self.heals for name in names)
        errors = {} if healed else self.errors
        return Reading(
            output=entry(errors.get("y", 0.0)), tensors={name: entry(errors.get(name, 0.0)) for name in names}
        )


def search(of: Graph, engine: Callable[[Sequence[str]], Reading], **more: Any) -> Search:
    return Search(graph=of, limit=0.1, measure=engine, size=more.pop("size", lambda name: 1), **more)


CHAIN = graph(*((f"t{at}" if at < 200 else "y", f"t{at - 1}" if at else "x") for at in range(201)))


@pytest.mark.parametrize("first", [0, 1, 57, 199, 200])
def test_the_first_of_a_chain_is_found_in_few_engines(first: int) -> None:
    names = [f"t{at}" for at in range(200)] + ["y"]
    engine = Engine(dict.fromkeys(names[first:], 0.5))
    run = search(CHAIN, engine)
    assert run.run("y") == names[first]
    assert (run.finished, run.absorbed, run.left) == (True, [], {})
    assert run.confirmed is (first > 0)
    assert len(engine.asked) <= 5
    assert max(map(len, engine.asked)) <= 8


def test_nan_counts_as_wrong() -> None:
    run = search(CHAIN, Engine({f"t{at}": None for at in range(30, 200)} | {"y": None}))
    assert run.run("y") == "t30"


BRANCHES = graph(("a", "x"), ("b", "a"), ("m", "x"), ("c", "b m"), ("d", "c"), ("y", "d b"))


def test_a_fault_of_one_branch_is_not_hidden_by_a_right_one() -> None:
    run = search(BRANCHES, Engine({"m": 1.0, "c": 0.4, "d": 0.4, "y": 0.3}), most=1)
    assert run.run("y") == "m"


def test_a_fault_that_goes_no_further_is_not_the_one() -> None:
    """A mask that another number stands for, say: what is made of it is right."""
    of = graph(("m", "x"), ("c", "m"), ("d", "c"), ("y", "d"))
    run = search(of, Engine({"m": 1.0, "y": 0.5}))
    assert run.run("y") == "y"
    assert run.absorbed == ["m"]


def test_what_heals_the_engine_is_told_and_gone_round() -> None:
    errors = {f"t{at}": 0.5 for at in range(90, 200)} | {"y": 0.5}
    engine = Engine(errors, heals=["t89", "t90"])
    run = search(CHAIN, engine)
    assert run.run("y") == "t91"
    assert run.left == {"t89": "healed", "t90": "healed"} or run.left == {"t90": "healed"}
    assert run.known["t88"]["error"] == 0.0


def test_what_a_library_refuses_is_gone_round() -> None:
    run = search(CHAIN, Engine({f"t{at}": 0.5 for at in range(90, 200)} | {"y": 0.5}, refuses=["t90"]))
    assert run.run("y") == "t91"
    assert run.left == {"t90": "no t90"}


def test_memory_is_kept() -> None:
    sizes = {f"t{at}": 1 + at % 7 for at in range(200)} | {"y": 1}
    engine = Engine({f"t{at}": 0.5 for at in range(123, 200)} | {"y": 0.5})
    run = search(CHAIN, engine, memory=10, size=sizes.__getitem__)
    assert run.run("y") == "t123"
    assert all(len(asked) == 1 or sum(map(sizes.__getitem__, asked)) <= 10 for asked in engine.asked)


def test_tries_end_it_and_it_says_so() -> None:
    run = search(CHAIN, Engine({f"t{at}": 0.5 for at in range(57, 200)} | {"y": 0.5}), tries=1)
    assert run.run("y") in {f"t{at}" for at in range(57, 200)}
    assert (run.finished, run.confirmed, run.used) == (False, False, 1)


def test_tensors_of_the_engine_alone_are_passed_through() -> None:
    of = graph(("a", "x"), ("q", "a"), ("b", "q"), ("y", "b"), hidden=["q"])
    assert of.inputs("b") == ["a"]
    assert of.between("b", ["a"]) == [1, 2]
    run = search(of, Engine({"b": 0.5, "y": 0.5}))
    assert run.run("y") == "b"


def test_a_tensor_marked_behind_its_quantisation_belongs_to_the_node_that_made_it() -> None:
    made = [
        {"name": "conv", "operator": "Conv", "inputs": ["x"], "outputs": ["t"]},
        {"name": "q", "operator": "QuantizeLinear", "inputs": ["t"], "outputs": ["tq"]},
        {"name": "dq", "operator": "DequantizeLinear", "inputs": ["tq"], "outputs": ["td"]},
        {"name": "end", "operator": "Relu", "inputs": ["td"], "outputs": ["y"]},
    ]
    of = Graph(nodes=made, pairs=[("t", "td"), ("y", "y")])
    assert of.inputs("y") == ["t"]
    assert of.inputs("t") == []
    assert of.between("t", []) == [0, 1, 2]
    assert of.between("y", ["t"]) == [1, 2, 3]


def test_a_right_output_is_surveyed() -> None:
    engine = Engine({"t40": 0.01})
    run = search(CHAIN, engine)
    run.survey("y")
    assert len(run.known) == 24
    assert engine.asked[0][0] == "t22"


def test_many_inputs_are_measured_a_few_at_a_time() -> None:
    wide = graph(*((f"i{at:02}", "x") for at in range(30)), ("y", " ".join(f"i{at:02}" for at in range(30))))
    for memory in (1, 3, 1000):
        engine = Engine({"y": 0.5})
        run = search(wide, engine, memory=memory, tries=60)
        assert run.run("y") == "y"
        assert {name for asked in engine.asked for name in asked} >= {f"i{at:02}" for at in range(30)}
        assert run.confirmed is False
        assert run.finished
    engine = Engine({"i17": 0.5, "y": 0.5})
    assert search(wide, engine, memory=2).run("y") == "i17"


@pytest.mark.parametrize("heals", [["y"], ["b"], ["a", "b"], ["a", "b", "y"]])
def test_an_engine_that_cannot_be_looked_into_ends_the_search(heals: list[str]) -> None:
    of = graph(("a", "x"), ("b", "a"), ("y", "b"))
    run = search(of, Engine({"b": 0.5, "y": 0.5}, heals=heals), tries=30)
    assert run.run("y") == ("b" if heals == ["y"] else "y")
    assert run.finished
    assert run.confirmed is False or "b" not in heals


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_graph_a_wrong_tensor_with_right_inputs_is_found(data: st.DataObject) -> None:
    """Faults that spread to all that is made of them: the answer is one of those that were planted."""
    number = data.draw(st.integers(2, 40))
    nodes, ways = [], dict[str, set[str]]()
    for at in range(number):
        before = [f"t{i}" for i in range(at)]
        ins = data.draw(st.lists(st.sampled_from(before), min_size=1, max_size=3, unique=True)) if before else ["x"]
        name = "y" if at == number - 1 else f"t{at}"
        ways[name] = set(ins).union(*(ways.get(i, set()) for i in ins))
        nodes.append((name, " ".join(ins)))
    names = sorted(ways["y"] - {"x"}) + ["y"]
    planted = set(data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)))
    errors = {name: 0.5 for name in ways if name in planted or ways[name] & planted}
    run = search(graph(*nodes), Engine(errors), most=data.draw(st.integers(1, 8)), tries=200)
    found = run.run("y")
    assert found in planted
    assert not ways[str(found)] & set(errors), "its inputs are right"
    assert run.finished
