"""Which releases take the GPU and the driver that are here, and what that says of families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from machines import H200, host, nvml

from builder import doctor, doctor_families, doctor_gpu, doctor_releases
from builder.doctor_families import Families, Verdict
from builder.doctor_host import Check
from builder.facts_records import CATALOG, TensorRT
from builder.project import Project

ROOT = Path(__file__).parent.parent


def card(capability: str, name: str = "a card") -> dict[str, Any]:
    return {**H200, "name": name, "compute_capability": capability}


def check(driver: str, *gpus: dict[str, Any]) -> Check:
    return doctor_releases.judge(gpus, driver)[0]


def test_without_a_gpu_nothing_is_said() -> None:
    assert doctor_releases.judge([], "580.1") == []


def test_an_h200() -> None:
    found = check("580.159.04", dict(H200))
    assert found.state == "ok" and not found.mend
    assert found.found.startswith("NVIDIA H200, 9.0: CUDA 11.8 and newer, TensorRT 8.5 to ")
    assert "TensorRT for RTX none (not recorded: 1.0 to " in found.found  # its matrix does not name 9.0
    assert "; driver 580.159.04 runs CUDA 13.0.2 and older, up to 13." in found.found
    (told,) = found.data["gpus"]
    assert told["cuda"] == {"first": "11.8", "last": None} and told["tensorrt"]["fit"][0] == "8.5"
    assert told["tensorrt"]["refused"]["8.4"] and "9.0" in told["tensorrt-rtx"]["unknown"]["1.0"]
    assert found.data["runs"]["exact"] == "13.0.2"


def test_the_driver_counts_too() -> None:
    old, new = (doctor_releases.of("tensorrt", "8.9", driver) for driver in ("470.57.02", "535.54.03"))
    assert "10.12" in old.fit and old.refused["10.13"] == "CUDA 12.x runs on driver 525.60.13 or newer"
    assert "10.13" in new.fit and "11.4" in new.fit  # it has packages for CUDA 12 too
    assert doctor_releases.of("tensorrt", "8.9", "").fit == new.fit
    rtx = doctor_releases.of("tensorrt-rtx", "8.9", "580.1")
    assert "1.4" in rtx.fit and "the CUDA of TensorRT for RTX 1.1 is not recorded" in rtx.unknown["1.1"]


def test_every_release_is_in_one_list() -> None:
    for capability in ("5.0", "7.5", "9.0", "12.1"):
        found = doctor_releases.of("tensorrt", capability, "550.54.14")
        lists = [*found.fit, *found.refused, *found.unknown]
        assert sorted(lists) == sorted(CATALOG.table(TensorRT))
        assert all({**found.refused, **found.unknown}.values())


def test_two_kinds_of_card_and_one_that_is_too_new() -> None:
    found = check("470.57.02", card("8.9", "RTX 4090"), card("8.9", "RTX 4090"), card("14.0", "RTX 9090"))
    assert found.found.count("RTX 4090") == 1
    assert "RTX 9090, 14.0: compute capability 14.0 is newer than the catalog" in found.found
    assert found.state == "ok" and found.data["gpus"][1]["cuda"] is None


def test_a_card_that_no_release_takes() -> None:
    found = check("340.108", card("5.0", "GTX 950"))
    assert found.state == "warning" and found.found.startswith("GTX 950, 5.0: CUDA 6.0 to 12.9, TensorRT none")
    assert found.matters == "no engine can be built for GTX 950" and "a newer driver" in found.mend


def test_a_name_steers_no_terminal() -> None:
    assert "\x1b" not in check("580.1", card("9.0", "bad\x1b[31m")).found


@pytest.mark.parametrize(
    ("keys", "text"),
    [((), ""), (("a",), "a"), (("a", "b"), "a to b"), (("a", "c", "d"), "a, c to d"), (("d", "a"), "a, d")],
)
def test_spans(keys: tuple[str, ...], text: str) -> None:
    assert doctor_releases.spans(keys, ["a", "b", "c", "d"]) == text


@pytest.mark.parametrize(
    ("parts", "capabilities", "driver", "why"),
    [
        ({"tensorrt": "8.4.3"}, ["9.0"], "", "here is 9.0"),
        ({"tensorrt": "8.4.3"}, ["9.0", "8.6"], "", ""),  # one of them does
        ({"tensorrt": "10.3.0"}, ["9.0"], "580.1", ""),
        ({"tensorrt": "99.1"}, ["9.0"], "580.1", ""),  # not known
        ({"tensorrt-rtx": "1.4.0.76"}, ["6.1"], "", "here is 6.1"),
        ({"cuda": "13.0.1"}, ["6.1", "7.0"], "", "here are 6.1, 7.0"),
        ({"cuda": "13"}, ["9.0"], "535.1", "CUDA 13.x runs on driver 580.65.06 or newer; here is 535.1"),
        ({"cuda": "13"}, ["9.0"], "", ""),
        ({"cuda": "12"}, ["9.0"], "535.1", ""),
        ({"cuda": "99"}, ["9.0"], "535.1", ""),
        ({}, ["9.0"], "535.1", ""), ({"tensorrt": "8.4.3"}, [], "", ""),
    ],
)  # fmt: skip
def test_refusals(parts: dict[str, str], capabilities: list[str], driver: str, why: str) -> None:
    found = doctor_releases.refusal(parts, capabilities, driver)
    assert found.endswith(why) if why else found == ""


# Families -------------------------------------------------------------------------------------------------------------


def good(name: str, **data: Any) -> Check:
    return Check(name=name, state="ok", found="fine", matters="", data=data)


def verdicts(families: Families, capability: str, driver: str) -> dict[str, Verdict]:
    names = ("NVIDIA driver", "device nodes", "Docker engine", "BuildKit", "GPUs in Docker", "system", "disk", "uv")
    checks = [*map(good, names), good("GPUs", gpus=[card(capability)]), good("interpreters", missing=[])]
    found = doctor_families.judge(
        families, checks, docker=False, platform="linux/amd64", driver=driver, runtimes=["nvidia"]
    )
    return {each.name: each for each in found}


@pytest.fixture(scope="module")
def of_matrix() -> Families:
    return doctor_families.look(Project(matrix=ROOT / "matrix.yaml"))


def test_stacks_that_the_gpu_is_too_old_for(of_matrix: Families) -> None:
    found = verdicts(of_matrix, "6.1", "580.159.04")
    assert found["tensorrt"].can == "run" and found["tensorrt"].mend == doctor_families.OLD
    assert found["tensorrt"].why.startswith("2 of 3 stacks of the matrix cannot run here (the first is tensorrt-10.")
    assert found["tensorrt"].why.endswith("; here is 6.1)") and "TensorRT for RTX 1.4" in found["tensorrt-rtx"].why
    assert found["openvino"].can == found["torch"].can == "run" and not found["openvino"].why


def test_a_driver_that_is_too_old_for_environments(of_matrix: Families) -> None:
    found = verdicts(of_matrix, "8.9", "450.80.02")
    assert found["tensorrt"].can == "no" and found["tensorrt-rtx"].can == "build"
    for way in (
        *found["tensorrt"].ways,
        *found["tensorrt-rtx"].ways,
    ):  # its own images have no more than its environments
        assert way.can != "run" and "runs on driver 525.60.13 or newer; here is 450.80.02" in way.why


def test_a_new_driver_and_a_card_of_all_releases_change_nothing(of_matrix: Families) -> None:
    found = verdicts(of_matrix, "8.9", "999.1")
    assert not found["tensorrt"].why and found["tensorrt"].can == found["tensorrt-rtx"].can == "run"


def test_images_that_are_older_than_the_card() -> None:
    known = doctor_families.look(Project(matrix=ROOT / "no-such-matrix.yaml"))
    found = verdicts(known, "12.0", "999.1")["ngc-tensorrt"]
    assert found.can == "run" and "known releases cannot run here" in found.why


def test_the_whole_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = doctor_gpu.Seen(loaded=True, kernel="580.159.04", nvml=nvml(dict(H200)))
    monkeypatch.setattr(doctor_gpu, "look", lambda host: seen)
    report = doctor.examine(Project(matrix=ROOT / "matrix.yaml"), host(tmp_path))
    (found,) = [each for each in report.checks if each.name == doctor_releases.NAME]
    assert found.found.startswith("NVIDIA H200, 9.0: CUDA 11.8 and newer")
    told = next(each for each in report.as_dict()["checks"] if each["name"] == "releases")
    assert told["data"]["gpus"][0]["tensorrt"]["fit"] and "tensorrt" in told["families"]
