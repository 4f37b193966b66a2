"""Whether a release of a library reads an engine file."""

from __future__ import annotations

from collections.abc import Mapping

from builder.enginefile import EngineFile
from builder.facts_records import CATALOG, OnnxRuntime
from builder.portability_answer import Answer, no, release, same, unknown, yes
from builder.portability_rules import ACROSS_MAJORS, COMPILED, OF_SOME_MODELS, ONNXRUNTIME_DOMAINS, TRIED_BLOBS


def library(file: EngineFile, name: str, version: str) -> Answer:
    header, about = file.header, f"{name} {version}"
    if header.format in COMPILED and name != header.library:
        return no(about, f"only {header.library} reads this format", "one-library")
    if header.format == "tensorrt-plan":
        return _tensorrt(file, version, about)
    if header.format == "tensorrt-rtx-plan":
        return _tensorrt_rtx(header.version, version, about)
    if header.format == "openvino-blob":
        return _blob(file, version, about)
    if header.format == "openvino-ir" and name == "openvino":
        return _ir(file, version, about)
    if header.format == "onnx" and name == "onnxruntime":
        return _onnxruntime(file, version, about)
    if header.format == "ort":
        return _ort(str(header.details.get("format_version", "")), version, about)
    if header.format == "tflite" and name == "tensorflow":
        return _tflite(str(header.details.get("min_runtime_version", "")), version, about)
    if header.format == "saved-model" and name == "tensorflow":
        return _saved_model(header.version, version, about)
    return unknown(about, "no rule is recorded for this format and library", "none")


def _tensorrt(file: EngineFile, asked: str, about: str) -> Answer:
    built, rule = file.header.version, "tensorrt-version"
    if not release(built):
        return unknown(about, "the file does not say which TensorRT built it", rule)
    matches = same(built, asked)
    if matches:
        return yes(about, f"built by TensorRT {built}", rule)
    if matches is None:
        return unknown(about, f"built by TensorRT {built}: all four numbers must match, ask with them", rule)
    mine, other = release(built), release(asked)
    if other < mine:
        return no(about, f"built by TensorRT {built}, which is newer", rule)
    if file.manifest and file.manifest.flags is not None and "VERSION_COMPATIBLE" not in file.manifest.flags:
        return no(about, f"built by TensorRT {built}, and not version-compatible", rule)
    if mine[:2] < (8, 6) or (mine[0] != other[0] and (mine[0], other[0]) not in ACROSS_MAJORS):
        return no(about, f"built by TensorRT {built}, from which no compatibility leads there", rule)
    return unknown(
        about,
        f"built by TensorRT {built}: only if it was built version-compatible, which its header does not say",
        rule,
    )


def _tensorrt_rtx(built: str, asked: str, about: str) -> Answer:
    rule = "tensorrt-rtx-version"
    if not release(built):
        return unknown(about, "the file does not say which TensorRT-RTX built it", rule)
    matches = same(built, asked)
    if matches is None:
        return unknown(
            about, f"built by TensorRT-RTX {built}: the release must be the same, ask with all numbers", rule
        )
    return (yes if matches else no)(about, f"built by TensorRT-RTX {built}", rule)


def _blob(file: EngineFile, asked: str, about: str) -> Answer:
    built, rule = file.header.version, "openvino-blob-version"
    requires, model = "requires" in file.header.details, file.header.details.get("model")
    other = release(asked)
    if release(built):
        matches = same(built, asked)
        if matches:
            return yes(about, f"exported by OpenVINO {built}", rule)
        if matches is None:
            return unknown(about, f"exported by OpenVINO {built}: ask with all numbers", rule)
        if requires:
            return no(about, f"exported by OpenVINO {built}, which the library compares with its own", rule)
        if asked in TRIED_BLOBS and built in TRIED_BLOBS:
            loads = asked in TRIED_BLOBS[built]
            if asked in OF_SOME_MODELS.get(built, ()):
                words = "tried: blobs of some models loaded there, of others were refused"
                return unknown(about, f"exported by OpenVINO {built}; {words}", rule)
            word = "loaded" if loads else "was refused"
            return (yes if loads else no)(about, f"exported by OpenVINO {built}; tried: such a blob {word} there", rule)
    if not requires and other[:2] >= (2026, 4):
        return no(about, "it lacks what 2026.4 looks for before anything else", rule)
    if (model == "plain" and other[:2] >= (2024, 3)) or (model == "coded" and other[:2] <= (2023, 3)):
        coding = {"plain": "as 2023 writes it", "coded": "as 2024.3 and newer write it"}[str(model)]
        return no(about, f"its model is coded {coding}, which that release cannot read", rule)
    said = f"exported by OpenVINO {built}" if built else "the file does not say which OpenVINO exported it"
    return unknown(about, f"{said}; nobody promises other releases, and this one was not tried", rule)


def _ir(file: EngineFile, asked: str, about: str) -> Answer:
    rule, ir, built = "openvino-ir-version", str(file.header.details.get("ir_version", "")), file.header.version
    if ir == "11" and release(asked) < (2022, 1):
        return no(about, "IR 11 came with 2022.1", rule)
    if release(built) and same(built, asked):
        return yes(about, f"written by OpenVINO {built}", rule)
    return unknown(about, f"IR {ir or 'of a version it does not say'}; nothing is recorded against it", rule)


def _onnxruntime_takes() -> dict[tuple[int, ...], tuple[int, int, int]]:
    """Release -> highest IR version, opset of ai.onnx and opset of ai.onnx.ml, of those that the catalog is sure of. Raises
    SpecErrors."""
    known = CATALOG.table(OnnxRuntime).values()
    return {
        release(entry.key): (entry.ir, entry.opset, entry.ml)
        for entry in known if entry.ir and entry.opset and entry.ml and not entry.doubt
    }  # fmt: skip


def _onnxruntime(file: EngineFile, asked: str, about: str) -> Answer:
    details, rule = file.header.details, "onnxruntime-opset"
    opsets: Mapping[str, int] = details.get("opset_import", {})
    wanted = (int(details.get("ir_version", 0)), opsets.get("ai.onnx", 0), opsets.get("ai.onnx.ml", 0))
    asked_release = release(asked)[:2]
    if len(asked_release) < 2:
        return unknown(about, "ask with the minor version", rule)
    table = _onnxruntime_takes()
    newest = max(table)
    limits = table.get(asked_release, table[newest] if asked_release > newest else None)
    if limits is None:
        return unknown(about, "what that release takes is not recorded", rule)
    for name, mine, limit in zip(
        ("IR version", "opset of ai.onnx", "opset of ai.onnx.ml"), wanted, limits, strict=True
    ):
        if mine > limit:
            if asked_release > newest:
                return unknown(about, f"its {name} is {mine}, and what that release takes is not recorded", rule)
            return no(about, f"its {name} is {mine}, and that release takes up to {limit}", rule)
    strange = sorted(set(opsets) - ONNXRUNTIME_DOMAINS)
    if strange:
        return unknown(about, f"it imports {', '.join(strange)}, which takes a library of custom operators", rule)
    if not details.get("opset_import_complete", True) or not opsets:
        return unknown(about, "not all of its opset imports are known", rule)
    if "ai.onnx" in opsets and wanted[1] < 7:
        return unknown(about, f"its opset is {wanted[1]}, and ONNX Runtime promises 7 and newer", rule)
    if details.get("optimised_by") == "onnxruntime":
        return _optimised(file.header.version, asked, about)
    return yes(about, f"IR version {wanted[0]} and opset {wanted[1]}, which that release takes", rule)


def _optimised(built: str, asked: str, about: str) -> Answer:
    rule = "onnxruntime-optimised"
    if not release(built):
        return unknown(about, "ONNX Runtime optimised it, and the file does not say which release", rule)
    if release(asked) >= release(built) or same(built, asked):
        return yes(about, f"optimised by ONNX Runtime {built}", rule)
    return unknown(
        about, f"optimised by ONNX Runtime {built}, which is newer: its internal operators may be missing", rule
    )


def _ort(said: str, asked: str, about: str) -> Answer:
    rule, asked_release = "ort-format", release(asked)[:2]
    table: tuple[tuple[tuple[int, int], str], ...] = (
        ((1, 16), "6 5"), ((1, 13), "5"), ((1, 8), "4"), ((1, 7), "3 2 1"), ((1, 6), "2 1"), ((1, 5), "1"),
    )  # fmt: skip
    if len(asked_release) < 2:
        return unknown(about, "ask with the minor version", rule)
    reads = next((format_versions.split() for since, format_versions in table if asked_release >= since), [])
    if said in reads:
        return yes(about, f"format version {said}, which that release reads", rule)
    if said == "4" and asked_release >= (1, 14):
        return unknown(about, "format version 4, which that release reads with limits", rule)
    if not said.isdecimal() or (int(said) > 6 and asked_release > (1, 31)):
        return unknown(about, f"format version {said or 'unsaid'}, of which nothing is recorded", rule)
    return no(about, f"format version {said}; that release reads {' and '.join(reads) or 'none'}", rule)


def _tflite(minimum: str, asked: str, about: str) -> Answer:
    if not release(minimum):
        return unknown(about, "it does not say which runtime it needs", "tflite-runtime")
    if same(minimum, asked) is None:
        return unknown(about, f"it needs runtime {minimum} or newer: ask with all numbers", "tflite-runtime")
    enough = release(asked) >= release(minimum)
    return (yes if enough else no)(about, f"it needs runtime {minimum} or newer", "tflite-runtime")


def _saved_model(built: str, asked: str, about: str) -> Answer:
    rule, mine, other = "saved-model", release(built), release(asked)
    if not mine:
        return unknown(about, "the file does not say which TensorFlow wrote it", rule)
    if same(built, asked) or (other >= mine and other[0] == mine[0]):
        return yes(about, f"written by TensorFlow {built}", rule)
    return unknown(about, f"written by TensorFlow {built}; nothing is promised there", rule)
