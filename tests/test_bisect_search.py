"""The search finds the planted change with at most the logarithm of trials, whatever cannot be tried."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.bisect_search import Change, Verdict, bound, changes, ends, narrow


class Line:
    """Releases with a planted answer each."""

    def __init__(self, answers: list[Verdict]) -> None:
        self.answers = answers
        self.tried: list[int] = []

    def __call__(self, at: int) -> Verdict:
        assert at not in self.tried, "a release is tried once"
        self.tried.append(at)
        return self.answers[at]


@given(st.integers(2, 300), st.data(), st.booleans())
def test_a_single_change_is_found_within_the_bound(count: int, data: st.DataObject, breaks: bool) -> None:
    first = data.draw(st.integers(1, count - 1))
    low, high = ("good", "bad") if breaks else ("bad", "good")
    line = Line([low if at < first else high for at in range(count)])  # type: ignore[misc]
    known: dict[int, Verdict] = {0: low, count - 1: high}  # type: ignore[dict-item]
    (whole,) = changes(known)
    found = narrow(whole, known, line)
    assert (found.low, found.high) == (first - 1, first)
    assert (found.good, found.bad) == ((first - 1, first) if breaks else (first, first - 1))
    assert len(line.tried) <= math.ceil(math.log2(count - 1)) == bound(count - 2)


@given(st.integers(2, 60), st.data())
def test_what_tells_nothing_is_passed_over_and_stays_in_the_gap(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    broken = data.draw(st.sets(st.integers(1, max(1, count - 2)))) - {0, count - 1}
    answers: list[Verdict] = ["nothing" if at in broken else "good" if at < first else "bad" for at in range(count)]
    line = Line(answers)
    known: dict[int, Verdict] = {0: "good", count - 1: "bad"}
    found = narrow(changes(known)[0], known, line)
    assert answers[found.low] == "good" and answers[found.high] == "bad"
    assert all(at in broken for at in range(found.low + 1, found.high))
    told = [at for at in line.tried if at not in broken]
    assert len(told) <= bound(count - 2)


@given(st.lists(st.sampled_from(["good", "bad", "nothing"]), min_size=2, max_size=40))
def test_whatever_is_found_really_is_a_change(answers: list[Verdict]) -> None:
    """Also where the answer changes many times: then one of the changes is found, not an invented one."""
    line = Line(answers)
    known: dict[int, Verdict] = {}
    for change in ends(range(len(answers)), known, line):
        found = narrow(change, known, line)
        assert {answers[found.low], answers[found.high]} == {"good", "bad"}
        assert all(answers[at] == "nothing" for at in range(found.low + 1, found.high))
    assert known == {at: answers[at] for at in known}


def test_nothing_is_tried_that_is_known() -> None:
    known: dict[int, Verdict] = {0: "good", 5: "bad", 6: "good", 9: "bad"}
    line = Line(["good"] * 3 + ["bad"] * 7)
    assert ends(range(10), known, line) == changes(known)
    assert line.tried == []
    assert [(one.low, one.high, one.first) for one in changes(known)] == [(0, 5, "good"), (5, 6, "bad"), (6, 9, "good")]


@pytest.mark.parametrize("answer", ["good", "bad", "nothing"])
def test_without_a_change_both_ends_are_tried_and_nothing_is_found(answer: Verdict) -> None:
    line = Line([answer] * 8)
    assert ends(range(8), {}, line) == []
    assert line.tried == ([7, 0] if answer != "nothing" else [*range(7, -1, -1)])


def test_what_a_trial_raises_leaves_what_was_found_out() -> None:
    known: dict[int, Verdict] = {0: "good", 8: "bad"}

    def trial(at: int) -> Verdict:
        if len(known) > 2:
            raise TimeoutError
        return "good"

    with pytest.raises(TimeoutError):
        narrow(Change(low=0, high=8, first="good"), known, trial)
    assert known == {0: "good", 8: "bad", 4: "good"}
