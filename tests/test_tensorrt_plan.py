"""What TensorRT's options make of a plan."""

from __future__ import annotations

from typing import Any

import factory
import pytest

FAMILY = factory.family(settings={"calibration": "entropy", "timing_cache": "shared"})


def build(settings: dict[str, Any] | None = None, **options: str) -> Any:
    family = factory.family(settings=settings) if settings is not None else FAMILY
    (chain,) = factory.planner(families={"engine": family}).plan([factory.cell(precision="int8", **options)]).chains
    return chain


@pytest.mark.parametrize("kind", ["entropy", "entropy1", "minmax"])
def test_a_cell_may_ask_the_builder_for_int8(kind: str) -> None:
    chain = build(calibration=kind)
    assert chain.convert is None
    assert [need.kind for need in chain.build.needs] == ["export", "reference"]
    assert chain.build.data["realised"] == "flag"
    assert chain.build.data["options"]["calibration"] == kind


@pytest.mark.parametrize(
    ("settings", "options"),
    [(None, {}), (None, {"calibration": "qdq"}), ({}, {"calibration": "entropy"})],
)
def test_otherwise_it_is_in_the_graph(settings: Any, options: dict[str, str]) -> None:
    chain = build(settings, **options)
    assert chain.convert is not None
    assert [need.kind for need in chain.build.needs] == ["convert"]
    assert chain.build.data["realised"] == "graph"


def test_how_it_is_calibrated_is_in_the_key() -> None:
    keys = {build(calibration=kind).build.static for kind in ("entropy", "minmax", "qdq")}
    assert len(keys) == 3
