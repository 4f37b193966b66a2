"""The timing method, on a clock that the test turns."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.worker import timing


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    yield clock


def work(clock: Clock, seconds: Callable[[int], float]) -> Callable[[], None]:
    """A call whose n-th run takes `seconds(n)` on that clock."""
    count = 0

    def call() -> None:
        nonlocal count
        clock.now += seconds(count)
        count += 1

    return call


def run(clock: Clock, path: Path, seconds: Callable[[int], float], **method: Any) -> dict[str, Any]:
    out = timing.measure(work(clock, seconds), method, str(path / "samples.json"))
    json.dumps(out, allow_nan=False)
    return out


def test_steady_work_settles_at_once(clock: Clock, tmp_path: Path) -> None:
    out = run(clock, tmp_path, lambda n: 0.004)
    assert out["settled"]
    assert out["median"] == pytest.approx(0.004)
    assert len(out["windows"]) == 3
    assert out["warmup"]["seconds"] >= 1.0
    assert all(window["runs"] * 0.004 >= 0.499 for window in out["windows"])
    assert out["samples"] == sum(window["runs"] for window in out["windows"])
    assert out["p90"] == pytest.approx(0.004)
    assert out["p99"] is None, "fewer than 1000 samples"
    kept = json.loads((tmp_path / "samples.json").read_text())
    assert [len(window) for window in kept["windows"]] == [window["runs"] for window in out["windows"]]


def test_fast_work_has_enough_samples_for_p99(clock: Clock, tmp_path: Path) -> None:
    out = run(clock, tmp_path, lambda n: 0.001 if n % 50 else 0.002)
    assert out["samples"] >= 1000
    assert out["p99"] == pytest.approx(0.002)
    assert out["median"] == pytest.approx(0.001)


def test_slow_work_takes_five_runs_a_window_and_ten_to_warm_up(clock: Clock, tmp_path: Path) -> None:
    out = run(clock, tmp_path, lambda n: 0.5)
    assert out["warmup"]["runs"] == 10
    assert [window["runs"] for window in out["windows"]] == [5, 5, 5]
    assert out["p90"] is None, "fewer than 100 samples"
    assert out["median"] == pytest.approx(0.5)


def test_medium_work_takes_25_runs(clock: Clock, tmp_path: Path) -> None:
    assert [window["runs"] for window in run(clock, tmp_path, lambda n: 0.08)["windows"]] == [25, 25, 25]


def test_work_that_speeds_up_settles_later_on_its_last_windows(clock: Clock, tmp_path: Path) -> None:
    out = run(clock, tmp_path, lambda n: 0.02 if n < 100 else 0.01)
    assert out["settled"]
    assert len(out["windows"]) > 3
    assert out["median"] == pytest.approx(0.01)


def test_work_that_never_settles_gives_no_number(clock: Clock, tmp_path: Path) -> None:
    out = run(clock, tmp_path, lambda n: 0.004 * 1.001**n)
    assert out["settled"] is False
    assert (out["median"], out["p90"], out["p99"], out["samples"]) == (None, None, None, 0)
    assert len(out["windows"]) == 10


def test_five_percent_is_the_bound(clock: Clock, tmp_path: Path) -> None:
    def drift(share: float) -> Callable[[int], float]:
        # Warm-up takes 100 runs of 10 ms, a window 50.
        return lambda n: 0.01 if n < 100 else 0.01 * (1 + share * ((n - 100) // 50))

    assert len(run(clock, tmp_path, drift(0.02))["windows"]) == 3
    assert len(run(clock, tmp_path, drift(0.03))["windows"]) > 3


def test_quantile_interpolates() -> None:
    assert timing.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert timing.quantile([1], 0.99) == 1
    assert timing.quantile(list(range(101)), 0.9) == pytest.approx(90)


def test_surroundings_name_who_else_was_busy(tmp_path: Path) -> None:
    import subprocess
    import sys

    noisy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        out = timing.measure(lambda: sum(range(1000)), {"warmup_seconds": 0.5}, str(tmp_path / "s.json"))
    finally:
        noisy.kill()
        noisy.wait()
    load = out["load"]
    assert any(item["name"].startswith("python") and item["share"] > 0.1 for item in load["foreign"])
    assert 0 < load["own_processors"] <= 1.5
    assert len(load["loadavg"]) == 2


def test_batch_sizes_are_those_that_the_profile_takes() -> None:
    profile = {"x": {"min": [1, 3], "opt": [6, 3], "max": [20, 3]}}
    assert timing.batch_sizes(profile, ["x"]) == [1, 2, 4, 6, 8, 16, 20]
    assert timing.batch_sizes({"x": {"min": [3], "opt": [3], "max": [3]}}, ["x"]) == []
    assert timing.batch_sizes(None, ["x"]) == []
    two = {**profile, "y": {"min": [1, 1], "opt": [1, 1], "max": [1, 1]}}
    assert timing.batch_sizes(two, ["x", "y"]) == [], "an input that does not grow with the others"
    assert timing.batch_sizes(profile, ["x", "other"]) == []


class Job:
    """What `speed` reads of a job."""

    def __init__(self, folder: Path, **input: Any) -> None:
        self.folder = folder
        self.input = {"inputs": [{"name": "x"}], "method": {"warmup_seconds": 0.0, "window_seconds": 0.0}, **input}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield

    def path(self, name: str) -> str:
        return str(self.folder / name)


class Engine:
    """Takes 1 ms and 0.1 ms an item on that clock, of which the device has half; refuses batches over `most`."""

    def __init__(self, clock: Clock, most: int = 100) -> None:
        self.clock, self.most = clock, most

    def run(self, arrays: list[Any]) -> None:
        if len(arrays[0]) > self.most:
            raise RuntimeError("too large")
        self.clock.now += 0.001 + 0.0001 * len(arrays[0])

    def device_timer(self, arrays: list[Any]) -> Callable[[], float]:
        return lambda: (0.001 + 0.0001 * len(arrays[0])) / 2


@pytest.fixture
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import builder.worker
    import builder.worker.memory

    monkeypatch.setitem(sys.modules, "worker", builder.worker)
    monkeypatch.setitem(sys.modules, "worker.memory", builder.worker.memory)


@pytest.mark.usefixtures("worker_path")
def test_latency_and_throughput_by_batch(clock: Clock, tmp_path: Path) -> None:
    profile = {"x": {"min": [1, 2], "opt": [4, 2], "max": [8, 2]}}
    inputs = [np.zeros((4, 2), dtype="float32")]
    found = timing.speed(Job(tmp_path, profile=profile), lambda: Engine(clock, most=4), inputs)
    assert found["batch"] == 4
    assert found["median"] == pytest.approx(0.0014)
    assert found["throughput"] == pytest.approx(4 / 0.0014)
    assert found["device"]["median"] == pytest.approx(0.0007), "apart from the end-to-end time"
    medians = {entry["batch"]: entry["median"] for entry in found["batches"]}
    assert medians == {1: pytest.approx(0.0011), 2: pytest.approx(0.0012), 4: pytest.approx(0.0014), 8: None}
    assert found["batches"][-1]["error"] == "RuntimeError: too large", "and the rest stands"
    host = found["memory"]["host"]
    assert host["before"] > 1 << 20
    assert host["peak"] is None or host["peak"] >= host["before"] // 2


@pytest.mark.usefixtures("worker_path")
def test_batches_that_would_begin_too_late_say_so(clock: Clock, tmp_path: Path) -> None:
    profile = {"x": {"min": [1, 2], "opt": [4, 2], "max": [8, 2]}}
    method = {"warmup_seconds": 0.0, "window_seconds": 0.0, "batch_seconds": 0.2}
    job = Job(tmp_path, profile=profile, method=method)
    found = timing.speed(job, lambda: Engine(clock), [np.zeros((4, 2), dtype="float32")])
    states = ["skipped" in entry for entry in found["batches"]]
    assert states == sorted(states)
    assert states[-1]
    assert not states[0]


def test_host_memory_is_what_was_taken_since() -> None:
    from builder.worker import memory

    host = memory.Host()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    figures = host.figures()
    assert figures is not None
    if figures["peak"] is not None:  # the mark could be put back
        assert figures["peak"] - figures["before"] >= 60 << 20
    del block
