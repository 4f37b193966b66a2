"""What differs between two locks, and the locks between them."""

from __future__ import annotations

from dataclasses import replace

import stacks
from hypothesis import given
from hypothesis import strategies as st

from builder.lock import Image, Lock, Pins, lines
from builder.trace_parts import components, cross

STACK = stacks.stack("onnxruntime", '{onnxruntime: "1.31.1"}')
OTHER = stacks.stack("onnx", '{onnx: "1.23.2"}')
PINS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3"]), min_size=1)


def pins(packages: dict[str, str], files: str = "", **values: str) -> Pins:
    named = tuple(sorted(f"{name}=={version}" for name, version in packages.items()))
    return Pins(python=STACK.python, requirements=lines(STACK), packages=named,
                hashes={pin: (f"sha256:{pin}{files}",) for pin in named}, **values)  # fmt: skip


def lock(entry: Pins, **values: object) -> Lock:
    return Lock(cutoff=stacks.CUTOFF, stacks={STACK.id: entry}, **values)  # type: ignore[arg-type]


@given(PINS, PINS, st.data())
def test_a_crossing_has_what_moved_from_the_new_lock_and_all_else_from_the_old_one(
    old: dict[str, str], new: dict[str, str], data: st.DataObject
) -> None:
    was, now = lock(pins(old)), lock(pins(new))
    parts = components(was, now, [STACK], [], ())
    assert {part.name for part in parts} == {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    moved = data.draw(st.sets(st.sampled_from(parts))) if parts else set()
    names = {part.name for part in moved}
    expected = {name: value for name, value in old.items() if name not in names}
    expected.update({name: value for name, value in new.items() if name in names})
    got = cross(was, now, [STACK], [], moved)
    assert got.stacks[STACK.id].key == pins(expected).key
    assert cross(was, now, [STACK], [], parts).stacks[STACK.id].key == now.stacks[STACK.id].key
    assert cross(was, now, [STACK], [], ()).stacks[STACK.id].key == was.stacks[STACK.id].key


def test_what_a_stack_asks_for_by_name_comes_first() -> None:
    parts = components(lock(pins({"a": "1", "onnxruntime": "1", "numpy": "1"})),
                       lock(pins({"a": "2", "onnxruntime": "2", "numpy": "2"})), [STACK], [], ())  # fmt: skip
    assert [part.name for part in parts] == ["onnxruntime", "numpy", "a"]
    assert [str(part) for part in parts][0] == "onnxruntime 1 -> 2"


def test_a_package_that_came_or_went_and_other_files_of_one_release_are_components() -> None:
    was, now = lock(pins({"a": "1", "b": "1"})), lock(pins({"b": "1", "c": "1"}, files="other"))
    told = [str(part) for part in components(was, now, [STACK], [], ())]
    assert told == ["a 1 -> none", "b 1 (other files) -> 1 (other files)", "c none -> 1"]


def test_an_entry_that_cannot_be_resolved_any_more_moves_as_a_whole() -> None:
    was, now = lock(pins({"a": "1"})), lock(replace(pins({}), unresolved="no wheel"))
    (part,) = components(was, now, [STACK], [], ())
    assert (part.kind, part.old, part.new) == ("stack", "locked", "unresolved: no wheel")
    assert cross(was, now, [STACK], [], [part]).stacks[STACK.id].unresolved == "no wheel"
    assert cross(was, now, [STACK], [], []).stacks[STACK.id].unresolved == ""


def test_a_base_image_that_stacks_share_is_one_component_and_only_where_images_are_made() -> None:
    one, two = (Image(index=stacks.sha(name), platforms={}) for name in ("one", "two"))
    assert STACK.base == OTHER.base != ""
    was, now = lock(pins({"a": "1"}), images={STACK.base: one}), lock(pins({"a": "1"}), images={STACK.base: two})
    assert components(was, now, [STACK, OTHER], [], ()) == []
    (part,) = components(was, now, [STACK, OTHER], [], {STACK.id, OTHER.id})
    assert (part.name, part.old, part.new) == (STACK.base, one.index, two.index)
    assert cross(was, now, [STACK, OTHER], [], [part]).images == {STACK.base: two}
    assert cross(was, now, [STACK, OTHER], [], []).images == {STACK.base: one}


def test_the_revision_of_a_source_is_a_component() -> None:
    name = "hub:owner/model@main:*"
    was, now = (lock(pins({"a": "1"}), sources={name: (f"commit:{mark}", "h")}) for mark in "xy")
    (part,) = components(was, now, [STACK], [name], ())
    assert str(part) == f"{name} commit:x -> commit:y"
    assert cross(was, now, [STACK], [name], [part]).sources == {name: ("commit:y", "h")}
    assert cross(was, now, [STACK], [name], []).sources == {name: ("commit:x", "h")}


def test_a_crossing_answers_to_the_stack_as_the_matrix_has_it_now() -> None:
    was = lock(replace(pins({"a": "1"}), requirements=("written otherwise",)))
    assert was.entry(STACK) is None
    assert cross(was, was, [STACK], [], []).entry(STACK) is not None
