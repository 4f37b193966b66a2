"""`enginematrix check ENGINE`: parse, look, print."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.enginefile import EngineFile
    from builder.portability_answer import Answer, Asked, Gpu

HELP = "Say what an engine file is, what it was built with and whether it will load."
DESCRIPTION = (
    HELP
    + " From the manifest beside it if that describes just these bytes, else from the file's own header; nothing is "
    "deserialised. Exit code 0: nothing speaks against loading it, which includes what is unknown (the word is printed); "
    "1: it will not load; 2: no file of a format known here, or a wrong option."
)
_ALIASES = {
    "tensorrt-cu12": "tensorrt", "tensorrt-cu13": "tensorrt", "tensorrt-rtx-cu12": "tensorrt-rtx",
    "tensorrt-rtx-cu13": "tensorrt-rtx", "onnxruntime-gpu": "onnxruntime", "pytorch": "torch", "tensorflow-cpu": "tensorflow",
    "tflite": "tensorflow",
}  # fmt: skip
_CAPABILITY = re.compile(r"(?:sm_?|compute_?|cc ?)?([1-9][0-9]?)\.?([0-9])[a-f]?", re.IGNORECASE)
_WORDS = {"loads": "loads", "will-not-load": "will not load", "unknown": "unknown"}


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument(
        "engine", metavar="ENGINE", type=Path, help="a file, a folder of artifacts/engines/, or a SavedModel"
    )
    machine = parser.add_mutually_exclusive_group()
    machine.add_argument("--gpu", metavar="GPU", help='ask about this GPU: "RTX 4090", sm89 or 8.9 (default: none)')
    machine.add_argument("--here", action="store_true", help="ask about this machine: its GPUs, driver and platform")
    parser.add_argument(
        "--with", dest="libraries", metavar="LIBRARY=VERSION", action="append",
        help="ask about this release of a library, such as tensorrt=10.3.0.26 (default: none; may be given several times)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON (default: text)")


def call(options: argparse.Namespace) -> int:
    from builder import enginefile, portability

    asked = _asked(options)
    file = enginefile.read(options.engine)
    answers = portability.judge(file, asked)
    if options.json:
        print(json.dumps(as_dict(file, asked, answers), indent=1))
    else:
        print("\n".join(lines(file, asked, answers)))
    return EXIT_FAILURES if portability.verdict(answers) == "will-not-load" else EXIT_OK


def as_dict(file: EngineFile, asked: Asked, answers: tuple[Answer, ...]) -> dict[str, Any]:
    from builder import enginefile, portability
    from builder.portability_grid_check import observed
    from builder.portability_rules import RULES

    return {
        "schema": 1,
        "file": enginefile.as_dict(file),
        "asked": {
            "libraries": dict(asked.libraries), "gpus": [_gpu_dict(gpu) for gpu in asked.gpus],
            "platform": asked.platform or None, "cuda": asked.cuda or None,
        },
        "verdict": portability.verdict(answers),
        "answers": [
            {"about": answer.about, "verdict": answer.verdict, "because": answer.because, "rule": answer.rule,
             "statement": RULES[answer.rule].statement, "sources": list(RULES[answer.rule].sources)}
            for answer in answers
        ],
        "observed": observed(file),
        "rules": [
            {"rule": rule.key, "statement": rule.statement, "sources": list(rule.sources)}
            for rule in portability.rules_of(file)
        ],
    }  # fmt: skip


def lines(file: EngineFile, asked: Asked, answers: tuple[Answer, ...]) -> list[str]:
    """For people: what it is, what it was built with, then the answers, or the rules where nothing was asked."""
    from builder import portability
    from builder.enginefile import FORMATS
    from builder.portability_grid_check import observed, words
    from builder.portability_rules import RULES

    header = file.header
    out = [f"{file.path}: {FORMATS[header.format]}, {file.size:,} bytes"]
    if header.library:
        out.append(
            _row("library", " ".join(part for part in (header.library, header.version or "of unknown version") if part))
        )
    if header.capabilities is not None:
        out.append(_row("built for", "compute capability " + (", ".join(header.capabilities) or "unknown")))
    if header.built_on:
        out.append(_row("built on", f"compute capability {header.built_on}"))
    if header.platform:
        out.append(_row("platform", header.platform))
    if file.manifest:
        said = [f"{key} {_value(value)}" for key, value in file.manifest.built.items()]
        out.append(_row("manifest", "; ".join(said) or "says nothing"))
    else:
        out.append(_row("manifest", "none of its own: read from its header"))
    for key, value in header.details.items():
        out.append(_row(key.replace("_", " "), _value(value)))
    out += [_row("note", note) for note in file.notes]
    out.append("")
    out += [f"seen: {words(found)}" for found in observed(file)]
    if not answers:
        rules = portability.rules_of(file)
        out.append("Where it loads:" if rules else "Where it loads: no rule is recorded for this format.")
        for rule in rules:
            out += [f"  - {rule.statement}", *(f"      {source}" for source in rule.sources)]
        return out
    for answer in answers:
        out.append(f"{_WORDS[answer.verdict]}: {answer.about}: {answer.because}")
        rule = RULES[answer.rule]
        out.append(f"    {rule.statement}")
        out += [f"    {source}" for source in rule.sources]
    if len(answers) > 1:
        out += ["", f"Altogether: {_WORDS[portability.verdict(answers)]}"]
    return out


def _row(name: str, value: str) -> str:
    return f"  {name:<18} {value}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


def _gpu_dict(gpu: Gpu) -> dict[str, Any]:
    return {"name": gpu.name or None, "compute_capability": gpu.capability}


def _asked(options: argparse.Namespace) -> Asked:
    from builder.portability_answer import Asked, Gpu

    libraries = _libraries(options.libraries or [])
    if options.gpu is not None:
        capability = compute_capability(options.gpu)
        name = "" if _CAPABILITY.fullmatch(options.gpu.strip()) else options.gpu.strip()
        return Asked(libraries=libraries, gpus=(Gpu(capability=capability, name=name),))
    if not options.here:
        return Asked(libraries=libraries)
    import platform

    from builder import machine

    here = machine.read()
    no_gpu = ""
    if not here.gpus:
        trouble = f": its driver does not answer ({here.gpu_trouble})" if here.gpu_trouble else ""
        no_gpu = f"this machine has no NVIDIA GPU that can be used{trouble}"
    return Asked(
        libraries=libraries, here=True, cuda=here.cuda or "", no_gpu=no_gpu,
        gpus=tuple(sorted({Gpu(capability=gpu.compute_capability, name=gpu.name) for gpu in here.gpus}, key=str)),
        platform=f"{platform.system()}-{platform.machine()}".lower(),
    )  # fmt: skip


def compute_capability(name: str) -> str:
    """ "8.9" of "sm89", "8.9" or the name of a GPU in the catalog. Raises UsageError for a name it does not know."""
    found = _CAPABILITY.fullmatch(name.strip())
    if found:
        return f"{found[1]}.{found[2]}"
    from builder import knowledge

    answer = knowledge.capability(name)
    if answer.value is None:
        msg = f"--gpu: {answer.unknown}; give its compute capability, such as sm89 or 8.9"
        raise UsageError(msg)
    return answer.value


def _libraries(given: list[str]) -> dict[str, str]:
    from builder import versions
    from builder.portability_rules import LIBRARIES

    libraries: dict[str, str] = {}
    for text in given:
        name, equals, version = (part.strip() for part in text.partition("="))
        name = name.lower().replace("_", "-")
        name = _ALIASES.get(name, name)
        version = version.removeprefix("=")
        if not equals or versions.version(version) is None:
            msg = f"--with {text}: give LIBRARY=VERSION, such as tensorrt=10.3.0.26"
            raise UsageError(msg)
        if name not in LIBRARIES:
            msg = f"--with {text}: no library {name!r}; {versions.nearest(name, LIBRARIES)}"
            raise UsageError(msg)
        if name in libraries:
            msg = f"--with {text}: {name} is given twice"
            raise UsageError(msg)
        libraries[name] = version
    return libraries
