"""Delta debugging finds exactly what was planted, and takes nothing that tells nothing for evidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.trace_search import Answer, Found, minimal


class Trials:
    def __init__(self, culprits: set[int], needs: dict[int, set[int]] | None = None) -> None:
        self.culprits, self.needs = culprits, needs or {}
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, moved: tuple[int, ...]) -> Answer:
        assert moved not in self.asked, "a set is tried once"
        self.asked.append(moved)
        have = set(moved)
        if any(not self.needs.get(one, set()) <= have for one in have):
            return "unresolved"
        return "fails" if self.culprits <= have else "works"


@given(st.integers(1, 40), st.data())
def test_a_single_culprit_is_named_in_few_trials(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(0, count - 1))
    trials = Trials({culprit})
    assert minimal(range(count), trials) == Found(changes=(culprit,), apart=())
    assert len(trials.asked) <= 2 * count.bit_length()


@given(st.integers(2, 16), st.data())
def test_exactly_those_that_only_together_fail_are_found(count: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))
    trials = Trials(culprits)
    assert minimal(range(count), trials) == Found(changes=tuple(sorted(culprits)), apart=())
    assert len(trials.asked) <= count**2 + 3 * count, "the bound of the paper"


@given(st.integers(2, 12), st.data())
def test_a_set_that_cannot_be_installed_is_never_evidence(count: int, data: st.DataObject) -> None:
    """Whatever cannot be tried alone: the culprits are among what is found, and what is said to matter does."""
    culprits = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2))
    one = st.integers(0, count - 1)
    needs = data.draw(st.dictionaries(one, st.sets(one, max_size=2), max_size=4))
    trials = Trials(culprits, needs)
    found = minimal(range(count), trials)
    assert culprits <= set(found.changes)
    if len(found.changes) > 1:
        assert set(found.changes) - set(found.apart) <= culprits


def test_a_package_that_must_come_along_is_told_apart() -> None:
    assert minimal([0, 1, 2, 3], Trials({1}, {1: {2}, 2: {1}})) == Found(changes=(1, 2), apart=(1, 2))


def test_one_change_needs_no_trial() -> None:
    trials = Trials({0})
    assert minimal([0], trials).changes == (0,)
    assert trials.asked == []


def test_what_a_trial_raises_ends_the_search() -> None:
    def trial(moved: tuple[int, ...]) -> Answer:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        minimal([0, 1], trial)
