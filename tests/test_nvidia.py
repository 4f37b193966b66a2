"""NVIDIA_REQUIRE_CUDA as real images have it, against machines that meet it and machines that do not."""

from __future__ import annotations

import pytest

from builder.requirements_nvidia import unsatisfied

_BRANDS = [
    "tesla",
    "unknown",
    "nvidia",
    "nvidiartx",
    "geforce",
    "geforcertx",
    "quadro",
    "quadrortx",
    "titan",
    "titanrtx",
]
_BRANDS_13 = [
    "unknown",
    "grid",
    "tesla",
    "nvidia",
    "quadro",
    "quadrortx",
    "nvidiartx",
    "vapps",
    "vpc",
    "vcs",
    "vws",
    "cloudgaming",
]


def branches(cuda: str, brands: list[str], *numbers: int) -> str:
    """Written out as NVIDIA's generator does: for each driver branch, each brand."""
    terms = [f"brand={brand},driver>={number},driver<{number + 1}" for number in numbers for brand in brands]
    return " ".join([f"cuda>={cuda}", *terms])


#: nvidia/cuda:12.4.1-base-ubuntu22.04 (dist/12.4.1/ubuntu2204/base/Dockerfile of gitlab.com/nvidia/container-images/cuda).
CUDA_12_4 = branches("12.4", _BRANDS, 470, 525, 535)
#: CUDA 13.0.2's (NVARCH sbsa).
CUDA_13_0 = branches("13.0", _BRANDS_13, 535, 550, 565, 570, 575)
#: dist/11.8.0/ubuntu1804: the first branch for tesla alone.
CUDA_11_8 = branches("11.8", ["tesla"], 450) + branches("", _BRANDS, 470, 510, 515).removeprefix("cuda>=")
#: CUDA 10.1's, of before the other brands were named.
CUDA_10_1 = "cuda>=10.1 brand=tesla,driver>=384,driver<385 brand=tesla,driver>=396,driver<397 brand=tesla,driver>=410,driver<411"


@pytest.mark.parametrize(
    ("text", "cuda", "driver", "brand", "met"),
    [
        (CUDA_12_4, "12.4", "550.54.15", "geforce", True),
        (CUDA_12_4, "13.0", "580.65.06", "geforce", True),
        (CUDA_12_4, "12.2", "535.183.01", "tesla", True),  # an older driver, of a branch with forward compatibility
        (CUDA_12_4, "12.2", "535.183.01", "Tesla", True),
        (CUDA_12_4, "12.3", "545.23.08", "tesla", False),  # newer, and yet of no such branch
        (CUDA_12_4, "11.4", "470.256.02", "grid", False),
        (CUDA_12_4, "12.2", "536.1", "tesla", False),
        (CUDA_13_0, "12.8", "570.133.20", "nvidia", True),
        (CUDA_13_0, "12.8", "570.133.20", "nvidiavapps", True),
        (CUDA_13_0, "12.8", "570.133.20", "geforce", False),
        (CUDA_13_0, "13.0", "580.65.06", "geforce", True),
        (CUDA_11_8, "11.0", "450.248.02", "tesla", True),
        (CUDA_11_8, "11.0", "450.248.02", "quadro", False),
        (CUDA_10_1, "9.0", "384.81", "tesla", True),
        (CUDA_10_1, "9.1", "390.157", "tesla", False),
        ("cuda>=9.0", "9.0", "384.81", "titan", True),
        ("cuda>=9.0", "8.0", "375.51", "titan", False),
        ("driver>=450", "11.0", "450.36", "quadro", True),
        ("driver!=450.36", "11.0", "450.36", "quadro", False),
        ("", None, None, "unknown", True),
        (CUDA_12_4, None, None, "unknown", True),  # what is not known is taken for met
    ],
)  # fmt: skip
def test_real_requirements(text: str, cuda: str | None, driver: str | None, brand: str, met: bool) -> None:
    assert (unsatisfied(text, cuda=cuda, driver=driver, brand=brand, arch="8.9") == "") is met


def test_reason_names_what_would_do_for_this_gpu_alone() -> None:
    assert unsatisfied(CUDA_12_4, cuda="12.3", driver="545.23.08", brand="geforce", arch="8.9") == (
        "needs cuda>=12.4, or driver>=470,driver<471, or driver>=525,driver<526, or driver>=535,driver<536 "
        "(here: cuda 12.3, driver 545.23.08, brand geforce, arch 8.9)"
    )
    assert unsatisfied("brand=tesla", cuda="12.3", driver="545", brand="geforce", arch="") == (
        "nothing in the image's requirement is for brand geforce (here: cuda 12.3, driver 545, brand geforce)"
    )


@pytest.mark.parametrize(
    ("text", "arch", "met"),
    [
        ("arch>=7.5", "8.9", True), ("arch>=7.5", "7.0", False), ("arch>=9", "9.0", True), ("arch<10.0", "9.0", True),
        ("cuda>=99,arch>=7.5 arch>=10.0", "10.0", True), ("arch>=8.9", "12.0", True),
    ],
)  # fmt: skip
def test_compute_capability_compares_as_numbers(text: str, arch: str, met: bool) -> None:
    assert (unsatisfied(text, cuda="12.0", driver="1", brand="tesla", arch=arch) == "") is met


@pytest.mark.parametrize(
    "text", ["cuda", "cuda>=", "cuda>=twelve", ">=12", "brand<tesla", "cuda=>12", "cuda>=.", "$(x)"]
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    reason = unsatisfied(text, cuda="12.0", driver="1", brand="tesla", arch="8.9")
    assert reason.startswith("the image's requirement cannot be read: ") and repr(text) in reason


def test_unknown_conditions_are_skipped_as_the_toolkit_does() -> None:
    assert unsatisfied("moon=full", cuda="12.0", driver="1", brand="tesla", arch="8.9") == ""
    assert unsatisfied("moon=full,cuda>=12", cuda="12.0", driver="1", brand="tesla", arch="8.9") == ""
    assert unsatisfied("moon=full,cuda>=13", cuda="12.0", driver="1", brand="tesla", arch="8.9") != ""
