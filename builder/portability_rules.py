"""The rules of where an engine file loads, each with its source, and the tables that they look into.

`TRIED` as a source: tried by this project, with the library itself in a process of its own, over files of its matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.enginefile_onnx import OPTIMISED

LIBRARIES = ("tensorrt", "tensorrt-rtx", "openvino", "onnxruntime", "tensorflow", "torch")
COMPILED = ("tensorrt-plan", "tensorrt-rtx-plan", "openvino-blob", "ort")
"""Formats that one library alone reads."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    key: str
    formats: tuple[str, ...]
    """Keys of enginefile.FORMATS; empty: of any."""
    statement: str
    sources: tuple[str, ...]


TRIED = "tried with the libraries themselves: docs/check.md"
_TENSORRT = "https://docs.nvidia.com/deeplearning/tensorrt/"
_RTX = "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/"
_OPENVINO = "https://github.com/openvinotoolkit/openvino/pull/"
_ONNXRUNTIME = "https://onnxruntime.ai/docs/"

_ALL = (
    Rule(
        key="damaged", formats=(), statement="A file that is cut off or contradicts itself loads nowhere.",
        sources=("the file's own header",),
    ),
    Rule(
        key="one-library", formats=COMPILED, statement="A compiled engine is read by the library that wrote it alone.",
        sources=(_RTX + "inference-library/engine-compatibility.html",
                 _ONNXRUNTIME + "performance/model-optimizations/ort-format-models.html"),
    ),
    Rule(
        key="tensorrt-version", formats=("tensorrt-plan",),
        statement="A plan loads in the TensorRT that built it (major, minor, patch and build must match); in a newer one only "
        "if it was built version-compatible, which 8.6 and newer can (across majors: 8 in 10, 10 in 11); in an older never.",
        sources=(_TENSORRT + "11.1.0/inference-library/engine-compatibility.html",
                 _TENSORRT + "11.4.1/getting-started/support-matrix.html",
                 "https://developer.nvidia.com/docs/drive/drive-os/7.0.3/public/drive-os-tensorrt-release-notes/"
                 "release-properties.html"),
    ),
    Rule(
        key="tensorrt-gpu", formats=("tensorrt-plan",),
        statement="A plan runs on the GPU architecture that it was built on; on others only if it was built with hardware "
        "compatibility, which Ampere (8.0) and newer can.",
        sources=(_TENSORRT + "11.4.1/getting-started/support-matrix.html",
                 _TENSORRT + "11.1.0/inference-library/engine-compatibility.html"),
    ),
    Rule(
        key="tensorrt-platform", formats=("tensorrt-plan",),
        statement="A plan is not portable across platforms (operating system and architecture).",
        sources=(_TENSORRT + "11.4.1/getting-started/support-matrix.html",),
    ),
    Rule(
        key="tensorrt-rtx-version", formats=("tensorrt-rtx-plan",),
        statement="A plan loads in the release of TensorRT-RTX that built it alone.",
        sources=(_RTX + "inference-library/engine-compatibility.html",),
    ),
    Rule(
        key="tensorrt-rtx-gpu", formats=("tensorrt-rtx-plan",),
        statement="A plan runs on the compute capabilities that it was built for, which its header names; on Windows and "
        "Linux alike.",
        sources=(_RTX + "inference-library/engine-compatibility.html", _RTX + "inference-library/cpu-engines.html"),
    ),
    Rule(
        key="tensorrt-rtx-cuda", formats=("tensorrt-rtx-plan",),
        statement="A plan is refused where the CUDA driver or runtime is too old for it; how old is not documented. The CUDA in "
        "its header is that of the library that built it.",
        sources=(_RTX + "inference-library/engine-compatibility.html",),
    ),
    Rule(
        key="openvino-blob-version", formats=("openvino-blob",),
        statement="A blob loads in the OpenVINO that exported it. A blob of 2026.4 names its release and is refused by every "
        "other, and 2026.4 refuses what names none; other pairs of releases are as they were tried, else unknown.",
        sources=(_OPENVINO + "36969", _OPENVINO + "36744", TRIED),
    ),
    Rule(
        key="openvino-blob-processor", formats=("openvino-blob",),
        statement="A blob of 2026.4 names the instruction set of the processor that it was exported on, which the library "
        "compares on import.",
        sources=(_OPENVINO + "36969",),
    ),
    Rule(
        key="openvino-ir-version", formats=("openvino-ir",),
        statement="IR 11 came with 2022.1, which still reads IR 10; nothing more is recorded.",
        sources=("https://www.intel.com/content/www/us/en/support/articles/000091835.html",),
    ),
    Rule(
        key="onnxruntime-opset", formats=("onnx",),
        statement="ONNX Runtime refuses an IR version, and an opset of ai.onnx or ai.onnx.ml, above those of the onnx that it "
        "was built with, and runs opset 7 and newer.",
        sources=(_ONNXRUNTIME + "reference/compatibility.html",
                 "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/graph/model.cc", TRIED),
    ),
    Rule(
        key="onnxruntime-optimised", formats=("onnx",),
        statement="A model that ONNX Runtime optimised may hold its internal operators: it loads in the same release and, as "
        "tried from 1.15 to 1.31, in newer ones; for older ones nothing is promised.",
        sources=(_ONNXRUNTIME + "performance/model-optimizations/graph-optimizations.html", TRIED),
    ),
    Rule(
        key="ort-format", formats=("ort",),
        statement="Each ONNX Runtime reads certain versions of the ORT format: 1.8 to 1.12 read 4, 1.13 reads 5, 1.14 and 1.15 "
        "read 5 and with limits 4, 1.16 and newer read 6 and 5.",
        sources=(_ONNXRUNTIME + "performance/model-optimizations/ort-format-models.html",
                 "https://github.com/microsoft/onnxruntime/issues/20670", TRIED),
    ),
    Rule(
        key="tflite-runtime", formats=("tflite",),
        statement="A model names the oldest runtime that runs it (min_runtime_version), in TensorFlow's numbers.",
        sources=("https://hexdocs.pm/tflite_beam/0.3.2/tflite_beam_flatbuffer_model.html",
                 "https://github.com/tensorflow/tensorflow/blob/v2.11.0/tensorflow/lite/version.h"),
    ),
    Rule(
        key="saved-model", formats=("saved-model",),
        statement="A SavedModel loads in the TensorFlow that wrote it and in later ones of the same major release.",
        sources=("https://www.tensorflow.org/guide/versions",),
    ),
    Rule(
        key="no-gpu", formats=("onnx", "ort", "openvino-ir", "tflite"), statement="The file is tied to no GPU.",
        sources=("its format: operators, and no kernels of a GPU",),
    ),
    Rule(key="none", formats=(), statement="No rule is recorded.", sources=()),
)  # fmt: skip
RULES: Mapping[str, Rule] = {rule.key: rule for rule in _ALL}

ONNXRUNTIME_DOMAINS = frozenset({
    "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft",
    "com.microsoft.experimental", "org.pytorch.aten", *OPTIMISED,
})  # fmt: skip
"""Domains that ONNX Runtime 1.15 to 1.31 write into what they optimise."""
OF_SOME_MODELS: Mapping[str, tuple[str, ...]] = {
    "2023.0.2": ("2023.3.0",),
    "2024.3.0": ("2025.2.0", "2026.0.0"),
    "2024.6.0": ("2025.2.0", "2026.0.0"),
    "2025.2.0": ("2024.3.0", "2024.6.0"),
}  # fmt: skip
"""Of TRIED_BLOBS, those that imported blobs of one model and refused those of another (with a fully connected layer, which is
kept under a name of the CPU plugin's own)."""
TRIED_BLOBS: Mapping[str, tuple[str, ...]] = {
    "2023.0.2": ("2023.0.2", "2023.3.0"),
    "2023.3.0": ("2023.3.0",),
    "2024.3.0": ("2024.3.0", "2024.6.0", "2025.2.0", "2026.0.0"),
    "2024.6.0": ("2024.3.0", "2024.6.0", "2025.2.0", "2026.0.0"),
    "2025.2.0": ("2024.3.0", "2024.6.0", "2025.2.0", "2026.0.0"),
    "2026.0.0": ("2024.3.0", "2024.6.0", "2025.2.0", "2026.0.0"),
    "2026.4.1": ("2026.4.1",),
}  # fmt: skip
"""Release that exported a blob -> those, of all in this table, that imported it and inferred, of every model or of some
(OF_SOME_MODELS); the others refused it."""
ACROSS_MAJORS = frozenset({(8, 9), (8, 10), (9, 10), (10, 11)})
"""Majors of TensorRT between which the documents state version compatibility, or leave it open."""
