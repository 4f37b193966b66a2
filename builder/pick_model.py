"""What a model asks of a stack: its ONNX opset and IR version, told or read from its file's header.

A stack takes a model through the libraries in it that read ONNX. No library is loaded here, and of a file only its header is
read, by builder/enginefile.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import knowledge, versions
from builder.answers import Answer
from builder.errors import UsageError
from builder.facts_records import Catalog, Ir, Onnx
from builder.pick_question import Requirement, State, Verdict
from builder.pick_stacks import Candidate

TAKERS = ("tensorrt", "tensorrt-rtx", "onnxruntime", "openvino")
"""Components that read ONNX models."""
_OWN = "ai.onnx"
"""The operator set whose version is called the opset; a file spells it so or as ''."""
_SUFFIXES = (".onnx", ".onnx.bin", ".pb", ".pt", ".pth", ".ort", ".plan", ".engine", ".tflite", ".safetensors", ".xml")


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What the header of an ONNX file asks for."""

    name: str
    opset: int
    """0: it imports none of ai.onnx's operators."""
    ir: int
    notes: tuple[str, ...] = ()
    """What of it is judged by nothing here."""


def is_file(text: str) -> bool:
    """Whether `--model` names a file: by its form, so that one that is not there is called that and no misspelt recipe."""
    return "/" in text or text.lower().endswith(_SUFFIXES)


def read(path: str) -> ModelFile:
    """The opset and IR version of an ONNX file. Raises UsageError for what cannot be read, or is no whole ONNX model."""
    from builder import enginefile  # most questions name no file
    from builder.enginefile_content import text as clean

    if "\0" in path:
        msg = f"--model: {clean(path)!r} is no path"
        raise UsageError(msg)
    file = enginefile.read(Path(path))
    header = file.header
    name = clean(file.path.name)
    if header.format != "onnx":
        what = enginefile.FORMATS.get(header.format, header.format)
        msg = f"--model takes an ONNX model or a recipe; {name} is a {what}: `enginematrix check` says where that loads"
        raise UsageError(msg)
    if header.damage:
        msg = f"--model {name}: {header.damage}: no library takes it"
        raise UsageError(msg)
    imports: Mapping[str, int] = header.details.get("opset_import") or {}
    notes = [f"it says: {note}" for note in header.notes]
    others = ", ".join(f"{clean(domain, 60)} {version}" for domain, version in imports.items() if domain != _OWN)
    if others:
        notes.append(f"it also imports operators of {others}: who takes them is not recorded")
    if header.library:
        notes.append(f"it was optimised by {header.library}, which alone takes it back")
    return ModelFile(name=name, opset=max(imports.get(_OWN, 0), 0), ir=header.details["ir_version"], notes=tuple(notes))


def answers(key: str, value: int, held: Iterable[tuple[str, str]], catalog: Catalog) -> dict[str, Answer[bool]]:
    """Component -> whether it takes an opset (`key` "opset") or an IR version ("ir"). Raises SpecErrors."""
    return {name: _takes(key, value, name, version, catalog) for name, version in held}


def _takes(key: str, value: int, name: str, version: str, catalog: Catalog) -> Answer[bool]:
    if key == "ir":
        highest = knowledge.ir(name, version, catalog=catalog)
        if highest.value is None:
            return Answer(value=None, facts=highest.facts, unknown=highest.unknown)
        return Answer(value=value <= highest.value, facts=highest.facts)
    if name not in knowledge.ENGINES:
        return Answer(value=None, unknown=f"which ONNX opsets {name} {version} takes is not recorded")
    return knowledge.takes_opset(name, version, value, catalog=catalog)


def verdict(stack: Candidate, asked: Requirement, found: Mapping[str, Answer[bool]]) -> Verdict:
    """Of the libraries in a stack that read ONNX, one that takes the model is enough."""
    if not found:
        if may := [name for name in TAKERS if name in stack.open]:
            text = f"which {' or '.join(may)} {stack.id} holds is not recorded"
            return Verdict(requirement=asked, state="unknown", because=text)
        text = f"{stack.id} is not known to hold anything that takes ONNX models ({', '.join(TAKERS)})"
        return Verdict(requirement=asked, state="unsupported", because=text, facts=stack.facts)
    ordered = sorted(found.items(), key=lambda item: (item[1].value is not True, item[1].value is False))
    name, answer = ordered[0]
    inferred = name in stack.inferred or any(fact.doubt for fact in answer.facts)
    because = "; ".join(fact.text for fact in answer.facts)
    if answer.value is None:
        text = answer.unknown + (f"; {because}" if because else "")
        return Verdict(requirement=asked, state="unknown", because=text, facts=answer.facts)
    if stack.reference:
        because = f"{stack.id} holds {name} {stack.components[name]}: {because}"
    facts = (*answer.facts, *(stack.facts if stack.reference else ()))
    state: State = "supported" if answer.value else "unsupported"
    return Verdict(requirement=asked, state=state, because=because, facts=facts, inferred=inferred)


def newest(catalog: Catalog) -> tuple[int, int]:
    """The highest opset and IR version that the catalog knows of. Raises SpecErrors."""
    releases = catalog.table(Onnx).values()
    irs = [int(key) for key in versions.ordered(catalog.table(Ir)) if key.isdigit()]
    return max(entry.opset for entry in releases), max([entry.ir for entry in releases] + irs)
