"""`check`: what is asked, what each rule answers, the exit codes, and both outputs."""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path
from typing import Any

import enginefiles
import pytest
from test_enginefile import BARE, delivered

from builder import check_cli, enginefile, machine, portability
from builder.errors import UsageError
from builder.portability_answer import Answer, Asked, Gpu
from builder.portability_rules import LIBRARIES, OF_SOME_MODELS, RULES, TRIED_BLOBS


def check(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    check_cli.add(parser)
    return check_cli.call(parser.parse_args([str(argument) for argument in arguments]))


def about(path: Path, library: str) -> Answer:
    """The answer to one `--with`."""
    name, version = library.split("=")
    (answer,) = portability.judge(enginefile.read(path), Asked(libraries={name: version}))
    return answer


def on(path: Path, capability: str) -> Answer:
    (answer,) = portability.judge(enginefile.read(path), Asked(gpus=(Gpu(capability=capability),)))
    return answer


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return enginefiles.padded(enginefiles.PLAN_8_6, 25716, tmp_path / "model.plan")


@pytest.fixture
def rtx(tmp_path: Path) -> Path:
    return enginefiles.padded(enginefiles.RTX_1_4, 132188, tmp_path / "rtx.plan")


def written(tmp_path: Path, data: bytes, name: str = "engine.bin") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


# Rules


@pytest.mark.parametrize(
    ("version", "verdict", "because"),
    [
        ("8.6.1.6", "loads", "built by TensorRT 8.6.1.6"),
        ("8.6", "unknown", "all four numbers must match"),
        ("8.6.1.5", "will-not-load", "which is newer"),
        ("8.5.3.1", "will-not-load", "which is newer"),
        ("8.6.2.3", "unknown", "only if it was built version-compatible"),
        ("10.3", "unknown", "only if it was built version-compatible"),
        ("11.0", "will-not-load", "no compatibility leads there"),
    ],
)
def test_tensorrt_versions(plan: Path, version: str, verdict: str, because: str) -> None:
    answer = about(plan, f"tensorrt={version}")
    assert (answer.verdict, answer.rule) == (verdict, "tensorrt-version")
    assert because in answer.because


def test_before_8_6_no_plan_is_version_compatible(tmp_path: Path) -> None:
    old = enginefiles.padded(enginefiles.PLAN_7_1, 120749, tmp_path / "model.plan")
    assert about(old, "tensorrt=7.2.3.4").verdict == "will-not-load"
    assert about(old, "tensorrt=7.1.3.4").verdict == "loads"


def test_a_manifest_says_that_a_plan_is_not_version_compatible(tmp_path: Path) -> None:
    folder = delivered(tmp_path / "cell", BARE)
    assert "not version-compatible" in about(folder, "tensorrt=10.4.0.1").because
    assert about(folder, "tensorrt=10.4.0.1").verdict == "will-not-load"
    delivered(folder, BARE, found__flags=["VERSION_COMPATIBLE"])
    assert about(folder, "tensorrt=10.4.0.1").verdict == "unknown"


@pytest.mark.parametrize(
    ("capability", "verdict"), [("8.9", "loads"), ("7.5", "will-not-load"), ("8.6", "unknown"), ("12.0", "unknown")]
)
def test_gpus_of_a_tensorrt_plan(plan: Path, capability: str, verdict: str) -> None:
    assert (on(plan, capability).verdict, on(plan, capability).rule) == (verdict, "tensorrt-gpu")


def test_a_plan_of_ours_has_no_hardware_compatibility(tmp_path: Path) -> None:
    folder = delivered(tmp_path / "cell", BARE)
    assert on(folder, "8.6").verdict == "loads"
    assert on(folder, "8.9").verdict == "will-not-load"
    assert on(written(tmp_path, BARE), "8.6").verdict == "unknown"


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("1.4.0.76", "loads"), ("1.4", "unknown"), ("1.4.0.77", "will-not-load"), ("1.5.0.114", "will-not-load")],
)
def test_tensorrt_rtx_versions(rtx: Path, version: str, verdict: str) -> None:
    assert about(rtx, f"tensorrt-rtx={version}").verdict == verdict


def test_gpus_of_an_rtx_plan(rtx: Path, tmp_path: Path) -> None:
    assert on(rtx, "8.9").verdict == "loads"
    assert on(rtx, "8.6").verdict == "will-not-load"
    assert on(rtx, "9.0").verdict == "will-not-load"
    any_target = enginefiles.padded(enginefiles.RTX_1_5, 132300, tmp_path / "any.plan")
    assert on(any_target, "12.1").verdict == "loads"
    assert on(any_target, "13.0").verdict == "unknown"


@pytest.mark.parametrize(("name", "version"), [("tensorrt", "1.4.0.76"), ("onnxruntime", "1.20.1")])
def test_a_compiled_engine_belongs_to_one_library(rtx: Path, name: str, version: str) -> None:
    answer = about(rtx, f"{name}={version}")
    assert (answer.verdict, answer.rule) == ("will-not-load", "one-library")


@pytest.mark.parametrize(
    ("ir", "opsets", "version", "verdict", "because"),
    [
        (8, {"": 17}, "1.15.1", "loads", "IR version 8 and opset 17"),
        (10, {"": 17}, "1.17.3", "will-not-load", "its IR version is 10, and that release takes up to 9"),
        (8, {"": 20}, "1.16.3", "will-not-load", "its opset of ai.onnx is 20, and that release takes up to 19"),
        (8, {"": 17, "ai.onnx.ml": 4}, "1.16.3", "will-not-load", "its opset of ai.onnx.ml is 4"),
        (8, {"": 6}, "1.20", "unknown", "promises 7 and newer"),
        (8, {"": 17, "com.acme": 1}, "1.20", "unknown", "it imports com.acme"),
        (8, {f"domain{index}": 1 for index in range(100)}, "1.20", "unknown", "it imports domain0"),
        (8, {**dict.fromkeys(("ai.onnx.ml", "com.microsoft"), 1), "": -1}, "1.20", "unknown", "promises 7"),
        (8, {"": 17}, "1.99", "loads", ""),
        (99, {"": 17}, "1.99", "unknown", "is not recorded"),
        (8, {"": 17}, "1.2", "will-not-load", "its IR version is 8, and that release takes up to 6"),
        (8, {"": 17}, "0.5", "unknown", "is not recorded"),
        (13, {"": 26, "ai.onnx.ml": 5}, "1.31.1", "loads", "IR version 13 and opset 26"),
        (13, {"": 27}, "1.30.0", "will-not-load", "its opset of ai.onnx is 27, and that release takes up to 26"),
        (8, {"": 17, "ai.onnx.ml": 6}, "1.20", "will-not-load", "its opset of ai.onnx.ml is 6"),
        (13, {"": 27}, "1.32", "unknown", "is not recorded"),  # of 1.32 a third party says 28
        (8, {"": 17}, "1", "unknown", "minor version"),
        (8, {"": 17, "com.microsoft.nchwc": 1}, "1.20", "unknown", "does not say which release"),
    ],
)
def test_onnx_in_onnxruntime(
    tmp_path: Path, ir: int, opsets: dict[str, int], version: str, verdict: str, because: str
) -> None:
    answer = about(written(tmp_path, enginefiles.onnx(ir=ir, opsets=opsets)), f"onnxruntime={version}")
    assert answer.verdict == verdict
    assert because in answer.because


def test_opsets_that_were_not_all_read_leave_it_open(tmp_path: Path) -> None:
    data = enginefiles.number(1, 8) + enginefiles.block(7, b"") + enginefiles.block(6, b"") * 200_001
    path = written(tmp_path, data + enginefiles.block(8, enginefiles.number(2, 99)))
    assert "not all of its opset imports are known" in about(path, "onnxruntime=1.20").because


def test_a_model_that_onnxruntime_optimised(tmp_path: Path) -> None:
    """Answers of the pairs that were tried: docs/check.md. Of an older release nothing is promised."""
    data = enginefiles.onnx(ir=4, opsets={"": 17, "ai.onnx.ml": 5, "com.microsoft.nchwc": 1})
    folder = delivered(tmp_path / "cell", data, built__modules={"onnxruntime": "1.19.2"})
    assert about(folder, "onnxruntime=1.19.2").verdict == "loads"
    assert about(folder, "onnxruntime=1.31.1").verdict == "loads"
    assert about(folder, "onnxruntime=1.18.1").verdict == "unknown"
    assert about(folder, "onnxruntime=1.17.3").verdict == "will-not-load"


@pytest.mark.parametrize(
    ("format_version", "version", "verdict"),
    [
        ("6", "1.15.1", "will-not-load"), ("6", "1.16.3", "loads"), ("5", "1.15.1", "loads"), ("5", "1.31.1", "loads"),
        ("5", "1.12", "will-not-load"), ("4", "1.12", "loads"), ("4", "1.14", "unknown"), ("4", "1.13", "will-not-load"),
        ("1", "1.6", "loads"), ("7", "1.99", "unknown"), ("6", "1", "unknown"),
    ],
)  # fmt: skip
def test_ort_formats(tmp_path: Path, format_version: str, version: str, verdict: str) -> None:
    assert about(written(tmp_path, enginefiles.ort(format_version)), f"onnxruntime={version}").verdict == verdict


def test_blobs_load_as_they_were_tried(tmp_path: Path) -> None:
    for built, loads in TRIED_BLOBS.items():
        requires = f"meta=1.0;ov={built};isa=x" if built == "2026.4.1" else ""
        data = enginefiles.blob(coded=built > "2024", requires=requires)
        folder = delivered(tmp_path / built, data, built__modules={"openvino": f"{built}-16041-1e3b"})
        for asked in TRIED_BLOBS:
            verdict = about(folder, f"openvino={asked}").verdict
            tried = (
                "unknown" if asked in OF_SOME_MODELS.get(built, ()) else "loads" if asked in loads else "will-not-load"
            )
            assert verdict == tried, (built, asked)
        assert about(folder, "openvino=2026.1.0").verdict == (
            "unknown" if built[:4] in ("2024", "2025") or built == "2026.0.0" else "will-not-load"
        )


def test_blobs_of_an_unknown_release(tmp_path: Path) -> None:
    plain = written(tmp_path, enginefiles.blob(coded=False), "plain")
    coded = written(tmp_path, enginefiles.blob(coded=True), "coded")
    assert about(plain, "openvino=2024.6").verdict == "will-not-load"
    assert about(plain, "openvino=2023.1").verdict == "unknown"
    assert about(coded, "openvino=2023.1").verdict == "will-not-load"
    assert about(coded, "openvino=2025.0").verdict == "unknown"
    assert about(coded, "openvino=2026.4.1").verdict == "will-not-load"
    assert on(coded, "8.9").verdict == "loads"


def test_the_rest(tmp_path: Path) -> None:
    tflite = written(tmp_path, enginefiles.TFLITE, "m.tflite")
    assert [about(tflite, f"tensorflow={v}").verdict for v in ("1.4.0", "1.5", "2.15", "1")] == [
        "will-not-load", "unknown", "loads", "unknown",
    ]  # fmt: skip
    saved = written(tmp_path, enginefiles.saved_model("2.15.1"), "saved_model.pb")
    assert [about(saved, f"tensorflow={v}").verdict for v in ("2.15.1", "2.19", "2.14", "3.0")] == [
        "loads", "loads", "unknown", "unknown",
    ]  # fmt: skip
    ir = written(tmp_path, b'<net name="a" version="11"></net>', "m.xml")
    assert [about(ir, f"openvino={v}").verdict for v in ("2021.4", "2022.1")] == ["will-not-load", "unknown"]
    script = written(tmp_path, enginefiles.TORCHSCRIPT, "m.pt")
    assert (about(script, "torch=2.3").verdict, about(script, "torch=2.3").rule) == ("unknown", "none")
    assert on(script, "8.9").verdict == "unknown"


def test_every_rule_has_a_statement_and_sources_and_is_of_a_known_format() -> None:
    for rule in RULES.values():
        assert rule.statement.endswith(".")
        assert rule.sources or rule.key == "none"
        assert set(rule.formats) <= set(enginefile.FORMATS)


# This machine


def here(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    values: dict[str, Any] = {"cpu": "x", "flags": "", "cores": 1, "memory": 1, "gpus": (), "driver": None, **changes}
    monkeypatch.setattr(machine, "read", lambda: machine.Machine(**values))


def card(capability: str) -> machine.Gpu:
    return machine.Gpu(name=f"Card {capability}", compute_capability=capability, memory=1, uuid="u")


def test_here_without_a_gpu(
    rtx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch)
    assert check(rtx, "--here") == 1
    assert "will not load: GPU: this machine has no NVIDIA GPU that can be used" in capsys.readouterr().out
    here(monkeypatch, gpu_trouble="NVMLError: driver is dead")
    assert check(rtx, "--here") == 1
    assert "its driver does not answer (NVMLError: driver is dead)" in capsys.readouterr().out
    assert check(written(tmp_path, enginefiles.onnx()), "--here") == 0


def test_here_any_gpu_will_do(rtx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here(monkeypatch, gpus=(card("7.5"), card("8.9")), cuda="13.0")
    assert check(rtx, "--here") == 0
    said = capsys.readouterr().out
    assert "loads: Card 8.9 (compute capability 8.9): built for 8.9" in said
    assert "loads: driver for CUDA 13.0: built with CUDA 12.9" in said
    here(monkeypatch, gpus=(card("7.5"),), cuda="12.4")
    assert check(rtx, "--here") == 1
    assert (
        "unknown: driver for CUDA 12.4: built with CUDA 12.9, which is newer than the driver's"
        in capsys.readouterr().out
    )


def test_here_the_platform_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, gpus=(card("8.6"),))
    folder = delivered(tmp_path / "cell", BARE)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert check(folder, "--here") == 0
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert check(folder, "--here") == 1
    assert "will not load: linux-aarch64: built on linux-x86_64" in capsys.readouterr().out


def test_here_the_processor_of_a_blob_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch)
    assert check(written(tmp_path, enginefiles.blob(coded=True, requires="ov=2026.4.1;isa=AVX")), "--here") == 0
    assert 'unknown: this processor: exported on "AVX"' in capsys.readouterr().out


# The command


def test_exit_codes_and_words(rtx: Path, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(rtx) == 0
    assert "Where it loads:" in capsys.readouterr().out
    assert check(rtx, "--gpu", "sm89", "--with", "tensorrt_rtx=1.4.0.76") == 0
    assert "Altogether: loads" in capsys.readouterr().out
    assert check(rtx, "--gpu", "8.6", "--with", "tensorrt-rtx=1.4.0.76") == 1
    assert "Altogether: will not load" in capsys.readouterr().out
    assert check(plan, "--with", "tensorrt=10.3") == 0
    assert re.search("^unknown: tensorrt 10.3", capsys.readouterr().out, re.MULTILINE)


def test_a_damaged_file_loads_nowhere_without_being_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(written(tmp_path, enginefiles.RTX_1_4)) == 1
    said = capsys.readouterr().out
    assert "will not load: the file: the header says 132188 bytes and there are 256" in said


def test_json(rtx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(rtx, "--json", "--gpu", "sm120", "--with", "tensorrt-rtx=1.4.0.76") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["verdict"]) == (1, "will-not-load")
    assert said["file"]["version"] == "1.4.0.76"
    assert said["file"]["compute_capabilities"] == ["8.9"]
    assert [(answer["rule"], answer["verdict"]) for answer in said["answers"]] == [
        ("tensorrt-rtx-version", "loads"), ("tensorrt-rtx-gpu", "will-not-load"),
    ]  # fmt: skip
    assert all(answer["sources"] for answer in said["answers"])
    assert said["asked"]["gpus"] == [{"name": None, "compute_capability": "12.0"}]


@pytest.mark.parametrize(
    ("gpu", "capability"),
    [("sm89", "8.9"), ("SM_120", "12.0"), ("8.9", "8.9"), ("compute_75", "7.5"), ("90a", "9.0"), (" 12.1 ", "12.1")],
)
def test_compute_capabilities(gpu: str, capability: str) -> None:
    assert check_cli.compute_capability(gpu) == capability


def test_gpus_by_name(rtx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(rtx, "--gpu", "RTX 4090") == 0
    assert "loads: RTX 4090 (compute capability 8.9)" in capsys.readouterr().out
    assert check(rtx, "--gpu", "NVIDIA H100 80GB HBM3") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "Voodoo 2"], "the catalog does not have the GPU 'Voodoo 2'"),
        (["--gpu", ""], "give its compute capability, such as sm89 or 8.9"),
        (["--with", "tensorrt"], "give LIBRARY=VERSION"),
        (["--with", "tensorrt="], "give LIBRARY=VERSION"),
        (["--with", "tensorrt=new"], "give LIBRARY=VERSION"),
        (["--with", "tensort=10.3"], "no library 'tensort'; perhaps 'tensorrt'?"),
        (["--with", "zzz=1"], "there are onnxruntime, openvino, "),
        (["--with", "tensorrt=10.3", "--with", "tensorrt-cu12=10.3"], "tensorrt is given twice"),
    ],
)
def test_wrong_options(rtx: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        check(rtx, *arguments)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_gpu_and_here_exclude_each_other(rtx: Path) -> None:
    with pytest.raises(SystemExit) as error:
        check(rtx, "--here", "--gpu", "sm89")
    assert error.value.code == 2


def test_the_documentation_names_every_library_and_option() -> None:
    said = (Path(__file__).parent.parent / "docs" / "check.md").read_text()
    for word in (*LIBRARIES, "--gpu", "--here", "--with", "--json"):
        assert f"`{word}" in said, word
    for rule in RULES.values():
        assert rule.key == "none" or f"`{rule.key}`" in said, rule.key
    for name in enginefile.FORMATS.values():
        assert name in said, name
