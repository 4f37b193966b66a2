"""The view along a version axis: intervals as two runs are compared by, and the build's own seconds."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest
from fake_report import fake_report
from hypothesis import given
from hypothesis import strategies as st

from builder.report import versions


def settled(*medians: float) -> dict[str, Any]:
    return {"status": "settled", "median": medians[-1], "windows": [{"runs": 25, "median": value} for value in medians]}


@given(st.lists(st.floats(1e-6, 10), min_size=3, max_size=3))
def test_the_interval_is_that_of_all_resamples(medians: list[float]) -> None:
    drawn = sorted(statistics.median(sample) for sample in itertools.product(medians, repeat=3))
    found = versions.interval(settled(*medians))
    assert found is not None
    # Exact: of the 27 resamples, the first value by which more than 2.5 % of them is passed, from either end.
    assert found == (drawn[0], drawn[-1])  # 1 of 27 is 3.7 %, and the least and the largest have 7 of 27
    narrow = versions.interval(settled(*medians), level=0.4)
    assert narrow == (drawn[int(0.3 * 27)], drawn[::-1][int(0.3 * 27)])


@pytest.mark.parametrize(
    "measure", [None, {}, {"status": "unstable", "windows": settled(1, 2, 3)["windows"]}, settled(1.0, 1.1)]
)
def test_without_windows_there_is_no_interval(measure: Any) -> None:
    assert versions.interval(measure) is None


def test_the_interval_is_of_the_windows_that_the_figure_rests_on() -> None:
    assert versions.interval(settled(9.0, 5.0, 1.0, 1.02, 1.01)) == (1.0, 1.02)


def test_build_seconds_are_of_builds_that_ended_well() -> None:
    cells = {cell["status"]: cell for cell in fake_report()["cells"]}
    for status in ("verified", "built", "mismatch"):
        stages = {stage["stage"]: stage["seconds"] for stage in cells[status]["stages"]}
        assert versions.build_seconds(cells[status]) == pytest.approx(stages["parse"] + stages["build"])
    for status in ("timeout", "blocked", "skipped"):
        assert versions.build_seconds(cells[status]) is None
    assert versions.build_seconds(cells["crashed"]) is not None  # it was built, and died when it ran


def test_a_time_of_a_busy_machine_is_called_so() -> None:
    cell = next(cell for cell in fake_report()["cells"] if cell["measure"])
    quiet = {
        **cell,
        "machine": {"cpu": "AMD EPYC", "cores": 4, "gpus": [], "driver": None},
        "measure": {**cell["measure"], "load": {"foreign": [{"name": "a", "share": 0.1}]}},
    }
    loud = {
        **quiet,
        "measure": {**cell["measure"], "load": {"foreign": [{"name": "a", "share": 1.0}, {"name": "b", "share": 0.6}]}},
    }
    assert versions.for_page([quiet, loud])["busy"] == {1: 0.4}


def test_machines_are_told_apart_where_there_are_several() -> None:
    cells = [cell for cell in fake_report()["cells"] if cell["measure"]][:3]
    one = {"cpu": "AMD EPYC", "cores": 2, "gpus": [], "driver": None}
    other = {"cpu": "AMD EPYC", "cores": 16, "gpus": [{"name": "NVIDIA H200"}], "driver": "580.65"}
    alone = versions.for_page([{**cell, "machine": one} for cell in cells])
    assert alone["machines"] == [] and alone["machine"] == {}
    out = versions.for_page(
        [{**cells[0], "machine": one}, {**cells[1], "machine": other}, {**cells[2], "machine": None}]
    )
    assert out["machines"] == ["AMD EPYC, 2 cores, no GPU", "AMD EPYC, 16 cores, NVIDIA H200, driver 580.65"]
    assert out["machine"] == {0: 0, 1: 1}


def test_the_page_gets_both_by_place() -> None:
    cells = fake_report()["cells"]
    out = versions.for_page(cells)
    assert set(out["interval"]) == {
        i for i, cell in enumerate(cells) if cell["measure"] and cell["measure"]["status"] == "settled"
    }
    assert set(out["build"]) >= {i for i, cell in enumerate(cells) if cell["status"] == "verified"}
