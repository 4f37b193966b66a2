"""Try again what may work in a moment: exponential back-off with full jitter, bounded in tries and in time.

For infrastructure alone: an index or a registry that does not answer, an engine that is away, a process that the host
killed. What says something about versions is never tried again here; `retry` of matrix.yaml is for jobs that crash.

The n-th wait is uniform between 0 and min(cap, base * 2**n) s: "full jitter" of Marc Brooker, Exponential Backoff And Jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that many cells, and many machines, do not ask
again at the same moment. A server that says when to come back (Retry-After) is not asked earlier.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from builder.errors import InfrastructureError, TransientError

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Policy:
    tries: int = 4
    """At most so often, the first time included."""
    base: float = 1.0
    """Seconds: the first wait is at most this, each further one at most twice the one before."""
    cap: float = 30.0
    """Seconds that one wait takes at most, but for a server that asks for more."""
    total: float = 300.0
    """Seconds from the first try in which another one may begin."""


POLICY = Policy()
#: The engine of a whole machine comes back (a restart, an upgrade) more slowly than a request does. A pull that it gave up is
#: not begun again: Docker itself goes on trying for over a minute (80 s, measured with a registry that stops in the middle).
ENGINE = Policy(tries=5, base=2.0, total=60.0)
#: Things that are tried again in vain before the others behind them are tried once: a disk that stays full, or an index that
#: stays away, is not waited for hundreds of times.
PATIENCE = 3
#: What the host killed would be killed again at once if the memory is still taken.
KILLED = Policy(tries=3, base=5.0)


@dataclass(kw_only=True)
class Scope:
    """What tries are made for: a step of a run. Set for a thread by `scope`."""

    stop: threading.Event = field(default_factory=threading.Event)
    """Ends every wait at once (Ctrl-C, in whose thread nobody waits)."""
    deadline: float | None = None
    """Of time.monotonic(): no try begins after it (the run's budget)."""
    patient: bool = True
    """False: nothing is tried again, since that did not help the last times."""
    in_vain: int = 0
    """Things that were given up after all their tries; from PATIENCE on nothing is tried again."""
    tell: Callable[[str], None] = lambda text: None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Every try that failed: {"what", "try": 1 for the first, "error", "waited": s before the next, None: there was none}."""


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("backoff", default=None)


def current() -> Scope:
    """This thread's; outside of a run one without a limit, that nobody reads."""
    return _scope.get() or Scope()


@contextlib.contextmanager
def scope(of: Scope) -> Iterator[Scope]:
    token = _scope.set(of)
    try:
        yield of
    finally:
        _scope.reset(token)


@contextlib.contextmanager
def shared() -> Iterator[Callable[[Callable[[A], T]], Callable[[A], T]]]:
    """For the threads of a pool: what makes a function of one argument run in this thread's scope. Inside of the pool's own
    `with`: on Ctrl-C, which reaches the main thread alone, the waits of the others end, and the pool with them."""
    of = current()

    def wrap(call: Callable[[A], T]) -> Callable[[A], T]:
        def work(argument: A) -> T:
            with scope(of):
                return call(argument)

        return work

    try:
        yield wrap
    except (KeyboardInterrupt, SystemExit):
        of.stop.set()
        raise


class Tries:
    """The tries of one thing. `again` after each that failed; as text: "tried 3 times in 12 s"."""

    def __init__(self, what: str, policy: Policy = POLICY) -> None:
        self.what = what
        self.policy = policy
        self.made = 0
        self._started = time.monotonic()
        self._scope = current()

    def again(self, why: str, at_least: float = 0.0) -> bool:
        """Wait before another try; False when there shall be none: the tries, the time or the run's budget are over.
        `at_least`: seconds that the other side asks for. Raises InfrastructureError when the run is interrupted meanwhile."""
        self.made += 1
        attempt: dict[str, Any] = {"what": self.what, "try": self.made, "error": why, "waited": None}
        self._scope.attempts.append(attempt)
        if self.made >= self.policy.tries:
            self._scope.in_vain += 1
            return False
        if not self._scope.patient or self._scope.in_vain >= PATIENCE:
            return False
        pause = max(at_least, random.uniform(0, min(self.policy.cap, self.policy.base * 2 ** (self.made - 1))))
        then = time.monotonic() + pause
        if then > self._started + self.policy.total or (
            self._scope.deadline is not None and then > self._scope.deadline
        ):
            return False
        attempt["waited"] = round(pause, 3)
        self._scope.tell(f"{self.what}: {why}; again in {pause:.1f} s (try {self.made + 1} of {self.policy.tries})")
        if wait(self._scope.stop, pause):
            msg = "interrupted"
            raise InfrastructureError(msg)
        return True

    def __str__(self) -> str:
        times = "once" if self.made == 1 else f"{self.made} times in {time.monotonic() - self._started:.0f} s"
        return f"tried {times}"


def wait(stop: threading.Event, seconds: float) -> bool:
    """Whether `stop` was set within so many seconds. A Ctrl-C of the main thread ends it at once."""
    return stop.wait(seconds)


def retry(what: str, call: Callable[[], T], policy: Policy = POLICY) -> T:
    """What `call` returns, called again while it raises TransientError. Raises InfrastructureError in the end: whoever is
    outside does not begin all of it anew."""
    tries = Tries(what, policy)
    while True:
        try:
            return call()
        except TransientError as error:
            if not tries.again(str(error)):
                raise InfrastructureError(f"{error} ({tries})") from error
