"""Trying again: how often, how long, what ends it, what is kept of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from builder import backoff
from builder.errors import InfrastructureError, TransientError

WAIT = backoff.wait
"""As it is outside of the tests."""


class Clock:
    """Waits that take no time, and are noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        monkeypatch.setattr("builder.backoff.time.monotonic", lambda: self.now)
        monkeypatch.setattr(backoff, "wait", self.wait)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return stop.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Flaky:
    """Fails so often, then answers."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise TransientError("away")
        return "here"


def test_what_comes_back_is_had_and_every_try_is_kept(clock: Clock) -> None:
    told: list[str] = []
    call = Flaky(2)
    with backoff.scope(backoff.Scope(tell=told.append)) as scope:
        assert backoff.retry("the index", call) == "here"
    assert call.calls == 3 and len(clock.waits) == len(told) == 2
    assert [(a["what"], a["try"], a["error"]) for a in scope.attempts] == [
        ("the index", 1, "away"),
        ("the index", 2, "away"),
    ]
    assert [a["waited"] for a in scope.attempts] == [round(w, 3) for w in clock.waits]
    assert told[1].startswith("the index: away; again in ") and told[1].endswith("(try 3 of 4)")


def test_what_stays_away_is_given_up_and_not_tried_again_by_who_is_outside(clock: Clock) -> None:
    call = Flaky(99)
    with pytest.raises(InfrastructureError, match=r"^away \(tried 4 times in \d+ s\)$") as caught:
        backoff.retry("outer", lambda: backoff.retry("the index", call))
    assert call.calls == 4 and not isinstance(caught.value, TransientError)


def test_other_errors_are_not_tried_again(clock: Clock) -> None:
    for error in (InfrastructureError("no such interpreter"), ValueError("a bug")):
        calls: list[int] = []

        def call(error: Exception = error, calls: list[int] = calls) -> None:
            calls.append(1)
            raise error

        with pytest.raises(type(error)):
            backoff.retry("x", call)
        assert len(calls) == 1 and clock.waits == []


def test_waits_have_full_jitter_below_a_doubling_bound(clock: Clock) -> None:
    policy = backoff.Policy(tries=7, base=1.0, cap=10.0, total=1e9)
    seen: list[list[float]] = [[] for _ in range(6)]
    random.seed(7)
    for _ in range(400):
        tries = backoff.Tries("x", policy)
        for place in range(6):
            assert tries.again("away")
            seen[place].append(clock.waits[-1])
        assert not tries.again("away")
    bounds = [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    for waits, bound in zip(seen, bounds, strict=True):
        assert 0 <= min(waits) < 0.05 * bound and 0.95 * bound < max(waits) <= bound
        assert sum(waits) / len(waits) == pytest.approx(bound / 2, rel=0.15)
    assert all(a <= b for a, b in pairwise(bounds))


def test_a_server_that_says_when_is_not_asked_earlier_nor_waited_for_too_long(clock: Clock) -> None:
    tries = backoff.Tries("x", backoff.Policy(total=100.0))
    assert tries.again("429", at_least=40.0) and clock.waits[-1] == 40.0
    assert not tries.again("429", at_least=70.0), "100 s are over then"
    assert len(clock.waits) == 1


def test_the_budget_of_the_run_is_kept(clock: Clock) -> None:
    with backoff.scope(backoff.Scope(deadline=30.0)) as scope:
        assert not backoff.Tries("x").again("away", at_least=31.0)
        assert backoff.Tries("x").again("away", at_least=29.0)
    assert clock.waits == [29.0] and [a["waited"] for a in scope.attempts] == [None, 29.0]


def test_what_stays_away_is_not_waited_for_by_everybody(clock: Clock) -> None:
    calls = [Flaky(99) for _ in range(6)]
    with backoff.scope(backoff.Scope()):
        for call in calls:
            with pytest.raises(InfrastructureError):
                backoff.retry("the index", call)
    assert [call.calls for call in calls] == [4, 4, 4, 1, 1, 1]


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[backoff.Scope, list[BaseException]]]:
    """A thread that waits an hour for its second try."""
    monkeypatch.setattr(backoff, "wait", WAIT)
    scope, ends = backoff.Scope(), []

    def work() -> None:
        with backoff.scope(scope):
            try:
                backoff.Tries("x", backoff.Policy(total=1e9)).again("away", at_least=3600.0)
            except BaseException as error:
                ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield scope, ends
    thread.join(5)
    assert not thread.is_alive()


def test_an_interrupted_run_does_not_wait(waiting: tuple[backoff.Scope, list[BaseException]]) -> None:
    scope, ends = waiting
    until = time.monotonic() + 5
    while not scope.attempts and time.monotonic() < until:
        time.sleep(0.01)
    began = time.monotonic()
    scope.stop.set()
    while not ends and time.monotonic() < until:
        time.sleep(0.01)
    assert isinstance(ends[0], InfrastructureError) and time.monotonic() - began < 1.0


def test_control_c_ends_a_wait_of_the_main_thread_at_once() -> None:
    code = "from builder import backoff; print(1, flush=True); backoff.Tries('x').again('away', at_least=60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said and time.monotonic() - began < 2.0


def test_control_c_ends_the_waits_of_a_pool_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "wait", WAIT)
    policy = backoff.Policy(total=1e9)
    began = threading.Event()

    def asks(_: int) -> bool:
        began.set()
        return backoff.Tries("x", policy).again("away", at_least=3600.0)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(2) as pool, backoff.shared() as shared:
        answers = pool.map(shared(asks), [1, 2])
        assert began.wait(5)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 3.0
    with pytest.raises(InfrastructureError, match="interrupted"):
        list(answers)
