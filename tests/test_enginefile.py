"""What engine files are, by their own bytes and by their manifests; and that no file makes it hang, crash or load anything."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import enginefiles
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder import enginefile
from builder.enginefile import EngineFile
from builder.enginefile_content import Content, Exhausted
from builder.errors import UsageError


def of(path: Path, data: bytes, name: str = "engine.bin") -> EngineFile:
    (path / name).write_bytes(data)
    return enginefile.read(path / name)


# TensorRT and TensorRT-RTX


@pytest.mark.parametrize(
    ("head", "size", "version", "capabilities", "cuda"),
    [
        (enginefiles.RTX_1_4, 132188, "1.4.0.76", ("8.9",), "12.9"),
        (enginefiles.RTX_1_5, 132300, "1.5.0.114", ("8.0", "8.6", "8.9", "12.0", "12.1"), "12.9"),
        (enginefiles.RTX_1_6, 134052, "1.6.1.120", ("12.0",), "12.9"),
        (enginefiles.RTX_1_7, 134028, "1.7.1.116", ("7.5", "8.6", "8.9", "12.0"), None),
    ],
)
def test_a_real_rtx_plan(
    tmp_path: Path, head: bytes, size: int, version: str, capabilities: tuple[str, ...], cuda: str | None
) -> None:
    header = enginefile.read(enginefiles.padded(head, size, tmp_path / "engine.plan")).header
    assert (header.format, header.library, header.version) == ("tensorrt-rtx-plan", "tensorrt-rtx", version)
    assert header.capabilities == capabilities
    assert header.details.get("cuda") == cuda
    assert header.details["sections"] == ["ENGN", "WGHT"]
    assert header.damage == ""


def test_a_target_that_has_no_name_here_is_told(tmp_path: Path) -> None:
    header = enginefile.read(enginefiles.padded(enginefiles.RTX_1_5, 132300, tmp_path / "engine.plan")).header
    assert header.details["unknown_target_bits"] == [6]


@pytest.mark.parametrize(
    ("head", "size", "version", "built_on", "serialization"),
    [
        (enginefiles.PLAN_8_6, 25716, "8.6.1.6", "8.9", 236),
        (enginefiles.PLAN_7_1, 120749, "7.1.3.4", "7.5", 97),
    ],
)
def test_a_real_tensorrt_plan(
    tmp_path: Path, head: bytes, size: int, version: str, built_on: str, serialization: int
) -> None:
    header = enginefile.read(enginefiles.padded(head, size, tmp_path / "model.plan")).header
    assert (header.format, header.library, header.version) == ("tensorrt-plan", "tensorrt", version)
    assert (header.built_on, header.capabilities, header.damage) == (built_on, None, "")
    assert header.details["serialization_version"] == serialization


def test_a_plan_behind_a_block_of_json(tmp_path: Path) -> None:
    said = json.dumps({"stride": 32, "task": "detect"}).encode()
    data = struct.pack("<I", len(said)) + said + enginefiles.PLAN_8_6 + bytes(25716 - 256)
    file = of(tmp_path, data)
    assert file.header.version == "8.6.1.6"
    assert file.header.damage == ""
    assert file.header.details["written_by"] == "Ultralytics"
    assert "must be cut off" in file.notes[0]


@pytest.mark.parametrize("head", [enginefiles.RTX_1_4, enginefiles.PLAN_8_6, enginefiles.PLAN_7_1])
@pytest.mark.parametrize("length", [4, 20, 27, 40, 60, 100, 256])
def test_a_plan_that_is_cut_off_says_so(tmp_path: Path, head: bytes, length: int) -> None:
    header = of(tmp_path, head[:length]).header
    assert header.format in ("tensorrt-plan", "tensorrt-rtx-plan")
    assert header.damage


# ONNX


def test_an_onnx_model(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.onnx(ir=9, opsets={"": 19, "com.acme": 2})).header
    assert header.format == "onnx"
    assert header.details == {
        "ir_version": 9, "producer": "pytorch", "producer_version": "2.3", "opset_import": {"ai.onnx": 19, "com.acme": 2},
    }  # fmt: skip
    assert (header.damage, header.notes) == ("", ())


def test_an_onnx_model_optimised_by_onnxruntime(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.onnx(opsets={"": 17, "com.microsoft.nchwc": 1})).header
    assert header.library == "onnxruntime"
    assert header.details["optimised_by"] == "onnxruntime"


def test_an_onnx_model_with_its_weights_elsewhere(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.onnx(external="model.onnx.data")).header
    assert header.details["external_data"] == ["model.onnx.data"]
    assert "must be beside it: model.onnx.data" in header.notes[0]


def test_an_onnx_model_that_is_cut_off(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.onnx(weights=bytes(5000))[:3000]).header
    assert header.format == "onnx"
    assert header.damage.startswith("field 7 at byte ")


def test_a_large_onnx_model_is_read_in_part_only(tmp_path: Path) -> None:
    """A graph of 3 GB (sparse), skipped by its length; opset imports come behind it."""
    graph = 3 << 30
    path = tmp_path / "engine.onnx"
    head = enginefiles.number(1, 8) + enginefiles.varint(7 << 3 | 2) + enginefiles.varint(graph)
    tensor = enginefiles.varint(5 << 3 | 2)
    rest = graph - 1 - len(enginefiles.varint(graph))
    for _ in range(5):  # the length of a length
        rest = graph - 1 - len(enginefiles.varint(rest))
    inner = enginefiles.varint(9 << 3 | 2) + enginefiles.varint(rest - 1 - len(enginefiles.varint(rest)))
    with path.open("wb") as file:
        file.write(head + tensor + enginefiles.varint(rest) + inner)
        file.truncate(len(head) + graph)
        file.seek(0, os.SEEK_END)
        file.write(enginefiles.block(8, enginefiles.number(2, 17)))
    began = time.monotonic()
    header = enginefile.read(path).header
    assert time.monotonic() - began < 2
    assert (header.damage, header.details["opset_import"]) == ("", {"ai.onnx": 17})


def test_text_in_a_file_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.onnx(producer="\x1b[2J\x07" + "x" * 1000)).header
    assert header.details["producer"].startswith("\ufffd[2J\ufffdx")
    assert len(header.details["producer"]) <= 210


# ORT, TFLite, TensorFlow


@pytest.mark.parametrize("version", ["4", "5", "6"])
def test_an_ort_model(tmp_path: Path, version: str) -> None:
    header = of(tmp_path, enginefiles.ort(version)).header
    assert (header.format, header.library) == ("ort", "onnxruntime")
    assert (header.details["format_version"], header.damage) == (version, "")


def test_a_real_tflite_model(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.TFLITE).header
    assert header.format == "tflite"
    assert header.details == {"schema_version": 3, "description": "MLIR Converted.", "min_runtime_version": "1.5.0"}


def test_a_real_frozen_graph_and_a_saved_model_are_told_apart(tmp_path: Path) -> None:
    assert of(tmp_path, enginefiles.FROZEN_GRAPH).header.details == {"producer": 2129, "nodes": 3}
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(enginefiles.saved_model())
    header = enginefile.read(tmp_path / "saved").header
    assert (header.format, header.version, header.details["tags"]) == ("saved-model", "2.15.1", ["serve"])


# OpenVINO


@pytest.mark.parametrize(("coded", "model"), [(False, "plain"), (True, "coded")])
def test_a_blob(tmp_path: Path, coded: bool, model: str) -> None:
    header = of(tmp_path, enginefiles.blob(coded=coded)).header
    assert (header.format, header.version, header.damage) == ("openvino-blob", "", "")
    assert (header.details["device"], header.details["model"]) == ("CPU", model)


def test_a_blob_that_names_what_it_requires(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.blob(coded=True, requires="meta=1.0;ov=2026.4.1;isa=Intel AVX-512")).header
    assert header.version == "2026.4.1"
    assert header.details["requires"] == {"openvino": "2026.4.1", "isa": "Intel AVX-512"}


def test_a_blob_that_is_cut_off(tmp_path: Path) -> None:
    header = of(tmp_path, enginefiles.blob(coded=True, extra=5)).header
    assert "its parts end at byte" in header.damage


def test_ir_and_its_weights(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0"?>\n<net name="resnet" version="11"><layers/><rt_info>'
        '<Runtime_version value="2024.3.0-16041-1e3b88e4e3f-releases/2024/3" /></rt_info></net>'
    )
    file = of(tmp_path, text.encode(), "model.xml")
    assert (file.header.format, file.header.version) == ("openvino-ir", "2024.3.0")
    assert (file.header.details["ir_version"], file.header.details["name"]) == ("11", "resnet")
    assert "its weights are not beside it (model.bin)" in file.notes
    (tmp_path / "model.bin").write_bytes(b"1")
    assert enginefile.read(tmp_path / "model.xml").notes == ()
    assert "cut off" in of(tmp_path, text.encode()[:-6], "model.xml").header.damage


# PyTorch and safetensors


def test_real_files_of_pytorch(tmp_path: Path) -> None:
    assert of(tmp_path, enginefiles.TORCHSCRIPT).header.format == "torchscript"
    old = of(tmp_path, enginefiles.TORCH_OLD)
    assert old.header.format == "torch-save"
    assert "loading it can run any code" in old.notes[0]


@pytest.mark.parametrize(
    ("names", "format_"),
    [
        ({"m/data.pkl": "x", "m/constants.pkl": "x", "m/code/a.py": "x", "m/version": "3\n"}, "torchscript"),
        ({"m/data.pkl": "x", "m/version": "3\n"}, "torch-save"),
        ({"m/archive_format": "pt2", "m/models/model.json": "{}", "m/version": "6\n"}, "pt2"),
        ({"a.txt": "x"}, "zip"),
    ],
)
def test_archives_are_told_apart(tmp_path: Path, names: dict[str, str], format_: str) -> None:
    header = enginefile.read(enginefiles.archive(tmp_path / "m.pt", names)).header
    assert header.format == format_
    assert header.details.get("file_format_version") == (names.get("m/version", "").strip() or None)


def test_no_archive_is_unpacked(tmp_path: Path) -> None:
    """A version of 200 MB that takes 200 kB compressed is not read."""
    path = enginefiles.archive(
        tmp_path / "bomb.pt", {"m/version": "3" * (200 << 20), "m/data.pkl": ""}, zipfile.ZIP_DEFLATED
    )
    began = time.monotonic()
    assert "file_format_version" not in enginefile.read(path).header.details
    assert time.monotonic() - began < 1


def test_nothing_compressed_is_read(tmp_path: Path) -> None:
    path = enginefiles.archive(
        tmp_path / "m.pt", {"m/version": "3\n" * 20, "m/data.pkl": "", "m/code/a.py": "", "m/constants.pkl": ""},
        zipfile.ZIP_DEFLATED,
    )  # fmt: skip
    header = enginefile.read(path).header
    assert (header.format, header.details) == ("torchscript", {"files": 4})


def test_an_archive_whose_list_lies_elsewhere(tmp_path: Path) -> None:
    path = enginefiles.archive(tmp_path / "m.pt", {"m/data.pkl": "x"})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = struct.pack("<I", 0x7FFFFFFF)
    assert "its list of files would be at byte 2147483647" in of(tmp_path, bytes(data)).header.damage
    assert "cut off" in of(tmp_path, path.read_bytes()[:40]).header.damage


def test_safetensors(tmp_path: Path) -> None:
    said = b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header = of(tmp_path, enginefiles.safetensors(said, bytes(8))).header
    assert (header.format, header.details) == ("safetensors", {"tensors": 1, "metadata": {"format": "pt"}})
    assert header.damage == ""
    assert "its tensors end at byte" in of(tmp_path, enginefiles.safetensors(said, bytes(4))).header.damage
    assert "would take 99" in of(tmp_path, struct.pack("<Q", 99) + b'{"w"').header.damage


# Manifests


def delivered(folder: Path, data: bytes, **changes: Any) -> Path:
    """A folder as `run` delivers it, its manifest changed at the keys given ("engine.sha256")."""
    folder.mkdir(exist_ok=True)
    (folder / "engine.plan").write_bytes(data)
    manifest: dict[str, Any] = {
        "schema": 1,
        "cell": {"slug": "the-cell"},
        "engine": {"file": "engine.plan", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
        "built": {
            "when": "2026-11-21T10:28:41Z", "stack": {"id": "a-stack"}, "modules": {"numpy": "2.5", "tensorrt": "10.3.0.26"},
            "loaded": {"libraries": [{"name": "ld-linux-x86-64.so.2"}]}, "from": {"model": "m", "options": {"opset": "17"}},
        },
        "loads": {"compute_capability": "8.6"}, "found": {"flags": ["FP16"]},
    }  # fmt: skip
    for key, value in changes.items():
        at = manifest
        *path, last = key.split("__")
        for part in path:
            at = at[part]
        at[last] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


#: What says of itself only that it is a plan; the manifest says the rest.
BARE = b"ptrt" + bytes(4) + struct.pack("<IIQ", 999, 0, 40) + bytes(40)


def test_the_manifest_adds_what_the_file_does_not_say(tmp_path: Path) -> None:
    file = enginefile.read(delivered(tmp_path / "cell", BARE))
    assert file.path.name == "engine.plan"
    assert (file.header.version, file.header.capabilities, file.header.platform) == (
        "10.3.0.26",
        ("8.6",),
        "linux-x86_64",
    )
    assert file.manifest is not None
    assert file.manifest.built["cell"] == "the-cell"
    assert file.manifest.flags == ("FP16",)
    assert file.notes == ()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"engine__sha256": "00" * 32}, "describes another file: its sha256 is"),
        ({"engine__bytes": 5}, "describes another file: it says 5 bytes, this one has 64"),
        ({"schema": 2}, "is no manifest of version 1"),
        ({"engine": {"file": "engine.plan", "sha256": 3}}, "is no manifest of version 1"),
    ],
)
def test_a_manifest_of_other_bytes_is_told_and_left_aside(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    file = enginefile.read(delivered(tmp_path / "cell", BARE, **changes) / "engine.plan")
    assert file.manifest is None
    assert file.header.version == ""
    assert note in file.notes[0]
    assert "from the file's own header" in file.notes[0]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '"x"', "\udcff"])
def test_a_manifest_that_is_none(tmp_path: Path, content: str) -> None:
    folder = delivered(tmp_path / "cell", BARE)
    (folder / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    file = enginefile.read(folder / "engine.plan")
    assert file.manifest is None
    assert "is no JSON" in file.notes[0]
    assert enginefile.read(folder).header.format == "tensorrt-plan"


def test_a_manifest_that_is_a_pipe_or_a_folder(tmp_path: Path) -> None:
    folder = delivered(tmp_path / "cell", BARE)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    assert "is no regular file" in enginefile.read(folder / "engine.plan").notes[0]
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    assert "is no regular file" in enginefile.read(folder / "engine.plan").notes[0]


@pytest.mark.parametrize("name", ["../outside.plan", "/etc/passwd", "..", "", 7, None])
def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path, name: Any) -> None:
    (tmp_path / "outside.plan").write_bytes(enginefiles.PLAN_8_6)
    file = enginefile.read(delivered(tmp_path / "cell", BARE, engine__file=name))
    assert file.path == tmp_path / "cell" / "engine.plan"
    assert file.manifest is None


def test_where_file_and_manifest_differ_the_file_is_believed(tmp_path: Path) -> None:
    data = enginefiles.RTX_1_4 + bytes(132188 - 256)
    file = enginefile.read(delivered(tmp_path / "cell", data, built__modules={"tensorrt_rtx_bindings": "1.5.0.114"}))
    assert (file.header.version, file.header.capabilities) == ("1.4.0.76", ("8.9",))
    assert "the manifest says tensorrt-rtx 1.5.0.114, the file itself 1.4.0.76" in file.notes
    assert "the manifest says compute capability 8.6, the file itself 8.9" in file.notes


# What is no engine


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty (0 bytes)"),
        (b"x", "of no format known here: begins with 78 (x)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\x7fELF" + bytes(60), "a program or shared library"),
        (b"\x1b[2Jhello" + bytes(60), "begins with 1b 5b 32 4a"),
        (bytes(4096), "of no format known here"),
    ],
)
def test_what_is_no_engine_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(UsageError) as error:
        of(tmp_path, data)
    assert message in str(error.value)
    assert "\x1b" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UsageError) as error:
            enginefile.read(path)
        return str(error.value)

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "not a regular file" in refused(tmp_path / "pipe")
    assert "not a regular file" in refused(Path("/dev/zero"))
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop")
    assert "No such file" in refused(tmp_path / "dangling")
    assert "No such file" in refused(tmp_path / "nowhere")
    assert "no engine: neither manifest.json" in refused(tmp_path / "empty")
    assert "null byte" in refused(Path("a\0b")) or "No such file" in refused(Path("a\0b"))
    (tmp_path / "empty" / "engine.plan").mkdir()
    assert "regular file" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "engine.onnx").write_bytes(b"1")
    assert "several engines" in refused(tmp_path / "empty")


def test_a_link_to_an_engine_is_followed(tmp_path: Path) -> None:
    enginefiles.padded(enginefiles.RTX_1_4, 132188, tmp_path / "a.plan")
    (tmp_path / "b.plan").symlink_to(tmp_path / "a.plan")
    assert enginefile.read(tmp_path / "b.plan").header.version == "1.4.0.76"


# Hostile bytes


def test_a_message_of_too_many_fields_is_read_in_part(tmp_path: Path) -> None:
    data = enginefiles.number(1, 8) + enginefiles.block(7, b"") + enginefiles.block(6, b"") * 300_000
    file = of(tmp_path, data + enginefiles.block(8, enginefiles.number(2, 17)))
    assert "it has more fields than were read" in file.notes[0]
    assert (file.header.details["opset_import"], file.header.damage) == ({}, "")
    many = enginefiles.onnx(opsets={f"domain{index}": 1 for index in range(1000)})
    assert len(of(tmp_path, many).header.details["opset_import"]) == 64


def test_the_budget_of_a_file_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        content = Content(descriptor, 100_000, budget=10_000)
        assert len(content.at(0, 5000)) == 5000
        assert content.at(4000, 1000) == bytes(1000)  # what was read already costs nothing
        with pytest.raises(Exhausted):
            content.at(50_000, 6000)
        assert Content(descriptor, 100_000).at(99_999, 10) == b"\0"
        assert [Content(descriptor, 100_000).at(*place) for place in ((-1, 5), (100_000, 5), (0, -5))] == [b""] * 3
    finally:
        os.close(descriptor)


def test_a_flatbuffer_that_points_out_of_the_file(tmp_path: Path) -> None:
    data = bytearray(enginefiles.ort("6"))
    data[16:20] = struct.pack("<i", 1 << 30)
    assert "points out of the file" in of(tmp_path, bytes(data)).header.damage
    data = bytearray(enginefiles.ort("6"))
    data[24:28] = struct.pack("<I", 1 << 30)
    assert "reaches past the end" in of(tmp_path, bytes(data)).header.damage


SEEDS = (
    enginefiles.PLAN_8_6, enginefiles.PLAN_7_1, enginefiles.RTX_1_4, enginefiles.TFLITE, enginefiles.FROZEN_GRAPH,
    enginefiles.TORCHSCRIPT, enginefiles.TORCH_OLD, enginefiles.onnx(external="x"), enginefiles.saved_model(),
    enginefiles.ort("6"), enginefiles.blob(coded=True, requires="ov=2026.4.1"), enginefiles.blob(coded=False),
    enginefiles.safetensors(b'{"w":{"data_offsets":[0,8]}}', bytes(8)), b'<?xml?><net name="a" version="11"></net>',
    b"PK\x03\x04" + bytes(30), b"\x10\0\0\0ORTM", b"\x10\0\0\0TFL3",
)  # fmt: skip


def _survives(data: bytes) -> None:
    """An answer or a UsageError, soon, and JSON either way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.bin"
        path.write_bytes(data)
        began = time.monotonic()
        try:
            file = enginefile.read(path)
        except UsageError:
            pass
        else:
            json.dumps(enginefile.as_dict(file), allow_nan=False)
            assert file.header.format in enginefile.FORMATS
        assert time.monotonic() - began < 5


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS), cut=st.integers(0, 3000),
    changes=st.lists(
        st.tuples(st.integers(0, 2500), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)), max_size=8
    ),
)  # fmt: skip
def test_changed_and_cut_files_never_break_it(seed: bytes, cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for at, value in changes:
        if data:
            data[at % len(data)] = value
    _survives(bytes(data[: len(data) - cut % (len(data) + 1)] if cut % 3 == 0 else data))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(magic=st.sampled_from([seed[:8] for seed in SEEDS] + [b"", b"\x08\x01"]), rest=st.binary(max_size=400))
@example(magic=b"\x08\x01", rest=b"\x3a\x00" * 300_000)
@example(magic=b"", rest=b"\x0a\x00" * 300_000)
@example(magic=b"\x08\x01", rest=b"\x3a" + b"\xff" * 9 + b"\x01")
def test_any_bytes_behind_a_known_beginning_never_break_it(magic: bytes, rest: bytes) -> None:
    _survives(magic + rest)
