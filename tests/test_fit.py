"""Why a machine cannot use an image, before anything is pulled: each reason, and which of them is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import factory
import pytest
import stacks

from builder import fit
from builder.lock import Image, PlatformImage
from builder.machine import Gpu, Machine
from builder.values import Family, ImageRules, Stack

RULES = ImageRules(interpreter="python3", site="own", env={}, checks={}, driver="driver")
FAMILY = factory.family(device="cuda", isolation=("docker",), image=RULES)
L4 = Gpu(name="NVIDIA L4", compute_capability="8.9", memory=1, uuid="GPU-0", brand="tesla")
#: What NVIDIA's CUDA 12.4 images demand, shortened.
DEMAND = "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=tesla,driver>=535,driver<536"


def machine(driver: str | None = "550.54.15", cuda: str | None = "12.4", *gpus: Gpu) -> Machine:
    return dataclasses.replace(factory.MACHINE, gpus=gpus or (L4,), driver=driver, cuda=cuda)


def image(demand: str = "", platform: str = "linux/amd64") -> Image:
    facts = {"NVIDIA_REQUIRE_CUDA": demand} if demand else {}
    one = PlatformImage(manifest=stacks.sha("m"), config=stacks.sha("c"), facts=facts, layers=())
    return Image(index=stacks.sha("i"), platforms={platform: one})


def trouble(family: Family = FAMILY, facts: dict[str, str] | None = None, **values: Any) -> str:
    stack = Stack(
        role="engine", entry="e", family="f", fields={"release": "1"}, facts=facts or {}, base="nvcr.io/x/y:1"
    )
    asked = {
        "realised": "docker", "asked": "auto", "docker": True, "image": image(), "platform": "linux/amd64",
        "machine": machine(), **values,
    }  # fmt: skip
    return fit.trouble(stack, family, **asked)


def test_nothing_speaks_against_it() -> None:
    assert trouble() == ""
    assert trouble(image=image(DEMAND)) == ""


def test_a_virtual_environment_has_none_of_these() -> None:
    assert trouble(realised="venv", asked="venv", docker=False, image=None, machine=machine("1.0", "1.0")) == ""


def test_what_was_asked_for_comes_before_what_is_here() -> None:
    assert trouble(asked="venv", docker=False) == "needs Docker, and virtual environments were asked for"
    assert trouble(docker=False, image=image(platform="linux/arm64")).startswith(
        "needs a Docker engine, and none is here"
    )
    assert "DOCKER_HOST" in trouble(docker=False), "it says what to do"


def test_an_image_for_another_architecture() -> None:
    found = trouble(image=image(DEMAND, platform="linux/arm64"), machine=machine("1.0", "1.0"))
    assert found == "has no image for linux/amd64: nvcr.io/x/y:1 is for linux/arm64"
    none = Image(index=stacks.sha("i"), platforms={})
    assert "no known platform" in trouble(image=none)


def test_an_image_that_is_not_locked_is_an_outcome_of_its_own() -> None:
    assert trouble(image=None, facts={"driver": "999"}) == ""


@pytest.mark.parametrize(
    ("driver", "cuda", "brand", "fits"),
    [
        ("550.54.15", "12.4", "tesla", True), ("550.54.15", "12.4", "geforce", True),
        ("535.161.08", "12.2", "tesla", True), ("535.161.08", "12.2", "geforce", False),
        ("525.85.12", "12.0", "tesla", False), ("470.223.02", "11.4", "tesla", True),
    ],
)  # fmt: skip
def test_the_driver_is_held_against_what_the_image_demands(driver: str, cuda: str, brand: str, fits: bool) -> None:
    gpu = dataclasses.replace(L4, brand=brand)
    found = trouble(image=image(DEMAND), machine=machine(driver, cuda, gpu))
    assert (found == "") is fits, found
    assert fits or driver in found


def test_every_gpu_must_do() -> None:
    other = dataclasses.replace(L4, brand="geforce", uuid="GPU-1")
    assert trouble(image=image(DEMAND), machine=machine("535.161.08", "12.2", L4)) == ""
    assert "535.161.08" in trouble(image=image(DEMAND), machine=machine("535.161.08", "12.2", L4, other))


def test_the_catalogs_floor_counts_for_all_but_data_center_gpus() -> None:
    facts = {"driver": "570"}
    desktop = machine("550.54.15", "12.4", dataclasses.replace(L4, brand="geforce"))
    assert trouble(facts=facts, machine=desktop) == "needs driver 570 or newer, this machine has 550.54.15"
    assert trouble(facts=facts, machine=desktop, image=image("cuda>=9.0")) != "", (
        "NVIDIA's images demand next to nothing"
    )
    assert trouble(facts=facts) == "", "forward compatibility may do"
    assert trouble(facts=facts, machine=machine("550.54.15", "12.4", dataclasses.replace(L4, brand="nvidia"))) == ""
    assert trouble(facts={"driver": "550"}, machine=desktop) == ""
    assert trouble(facts={"driver": "550.54.15"}, machine=desktop) == ""
    assert trouble(facts={"driver": "550.90"}, machine=desktop) != ""
    unknown = dataclasses.replace(desktop, driver=None)
    assert trouble(facts=facts, machine=unknown) == "", "a driver that nobody knows is not too old"
    assert trouble(dataclasses.replace(FAMILY, image=None), facts=facts, machine=desktop) == ""


def test_without_a_gpu_or_a_use_for_it_no_driver_is_asked_for() -> None:
    nothing = dataclasses.replace(factory.MACHINE, gpus=(), driver=None)
    assert trouble(image=image(DEMAND), facts={"driver": "999"}, machine=nothing) == ""
    cpu = dataclasses.replace(FAMILY, device="cpu")
    assert trouble(cpu, image=image(DEMAND), facts={"driver": "999"}, machine=machine("1.0", "1.0")) == ""


@pytest.mark.parametrize(
    ("version", "floor", "expected"),
    [("550.54.15", "550", False), ("549.99", "550", True), ("550.54.15", "550.54.14", False), ("nonsense", "550", False),
     ("1000.1", "999", False)],
)  # fmt: skip
def test_below(version: str, floor: str, expected: bool) -> None:
    assert fit.below(version, floor) is expected
