"""Whether a stack's image can be used on this machine at all, before anything is pulled. Pure."""

from __future__ import annotations

from builder import versions
from builder.isolation import Isolation, Realised
from builder.lock import Image
from builder.machine import Machine
from builder.requirements_nvidia import unsatisfied
from builder.values import Family, Stack

#: Brands that NVML gives data center GPUs: `tesla` up to Turing, `nvidia` from Ampere on (as `nvidia-smi -q` shows them).
DATA_CENTER = ("tesla", "nvidia")


def trouble(
    stack: Stack, family: Family, realised: Realised, *, asked: Isolation, docker: bool, image: Image | None, platform: str,
    machine: Machine,
) -> str:  # fmt: skip
    """Why this machine cannot realise a stack so, in words that go behind the family's name; "" when nothing speaks
    against it.

    The driver is held against what the image itself demands (NVIDIA_REQUIRE_CUDA, which the NVIDIA container toolkit
    enforces when a container starts), and against the catalog's floor. The floor is what NVIDIA's release notes ask for;
    data center GPUs may do with an older driver, by the image's forward compatibility package
    (https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html). Only where a GPU is there and the family
    uses it: without one, an engine is built and not loaded.
    """
    if realised == "venv":
        return ""
    if asked == "venv":
        return "needs Docker, and virtual environments were asked for"
    if not docker:
        return "needs a Docker engine, and none is here (install Docker, or set DOCKER_HOST)"
    if image is None:
        return ""  # not locked: that is an outcome of its own
    if platform not in image.platforms:
        return f"has no image for {platform}: {stack.base} is for {', '.join(sorted(image.platforms)) or 'no known platform'}"
    if not machine.gpus or family.device != "cuda":
        return ""
    facts = image.platforms[platform].facts
    demand = facts.get("NVIDIA_REQUIRE_CUDA", "")
    for gpu in machine.gpus if demand else ():
        reason = unsatisfied(
            demand, cuda=machine.cuda, driver=machine.driver, brand=gpu.brand, arch=gpu.compute_capability
        )
        if reason:
            return f"demands another driver than this machine's {machine.driver}: {reason}"
    floor = stack.facts.get(family.image.driver, "") if family.image is not None else ""
    held = any(gpu.brand not in DATA_CENTER for gpu in machine.gpus)
    if held and floor and machine.driver and below(machine.driver, floor):
        return f"needs driver {floor} or newer, this machine has {machine.driver}"
    return ""


def below(version: str, floor: str) -> bool:
    """Whether a driver's version is lower than a floor, which may be a branch ("550") or a version."""
    mine, least = versions.version(version), versions.version(floor)
    return mine is not None and least is not None and mine < least
