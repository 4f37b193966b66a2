"""README.md of a folder that shows a failure: what goes into a vendor's issue. Only what was observed; no word about whose fault
it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.repro_case import Case, lines
from builder.repro_scripts import environment, library
from builder.repro_scrub import scrub
from builder.store import file_sha256

QUOTE = 6000
"""Characters of the library's message that are quoted."""
_SHOULD = {
    "export": "The export ends without an error.", "build": "The model is read and prepared without an error.",
    "run": "The model runs.",
}  # fmt: skip
_ABOUT = {
    "cases/": "inputs and what they should give", "smallest": "the smallest piece of the model that was refused",
    "engine": "the engine that another release built", "source/": "what the model is made from", "model/": "part of the model",
    "piece": "the piece of the model in which the first tensor goes wrong, and its inputs",
}  # fmt: skip


def readme(
    case: Case, title: str, texts: Mapping[str, str | bytes], files: Mapping[str, Path], left_out: Mapping[str, int],
    example: str, gpu: bool,
) -> str:  # fmt: skip
    """The text. `texts`, `files`: what is in the folder; `left_out`: name -> bytes of what is too large for it; `example`: a pin
    to try in another version; `gpu`: whether a GPU is needed."""
    cell = case.cell
    options = ", ".join(f"{name} {value}" for name, value in cell["axes"].items() if name != "model")
    packages: Mapping[str, str] = (case.environment.get("probe") or {}).get("distributions") or {}
    message = "\n".join(lines(case.message, QUOTE)) if case.expected["by"] == "error" else ""
    return environment().get_template("README.md.j2").render(
        title=title, lead=f"{library(case)} with the model {cell['axes']['model']} ({options}).", environment=_rows(case),
        packages=[f"{name} {version}" for name, version in sorted(packages.items())] or list(case.pins.packages),
        libraries=libraries(case)[:40], should=_should(case), actual=scrub(str(cell["reason"])).replace("Failure: ", ""),
        quote=message.replace("```", "'''").strip(), when=cell["when"], files=_files(case, texts, files),
        notes=list(_notes(case, files, left_out, options)), docker="Dockerfile" in texts, gpu=gpu, example=example,
        python=case.pins.python,
    )  # fmt: skip


def libraries(case: Case) -> list[str]:
    """Names of the libraries of the environment's own packages that were loaded."""
    found = (case.cell["loaded"] or {}).get("libraries") or []
    return sorted({str(one["distribution-relative"]) for one in found if "distribution-relative" in one})


def machine(case: Case) -> dict[str, Any]:
    """The machine as far as it can matter, without what identifies it."""
    found = case.cell.get("machine") or {}
    out = {name: found.get(name) for name in ("cpu", "cores", "memory", "driver", "kernel", "platform", "glibc")}
    out["gpus"] = [{k: gpu.get(k) for k in ("name", "compute_capability", "memory")} for gpu in found.get("gpus") or ()]
    return out


def _rows(case: Case) -> list[tuple[str, str]]:
    here = machine(case)
    gpus = [f"{one['name']} (compute capability {one['compute_capability']})" for one in here["gpus"]]
    image = case.environment.get("image")
    rows = [
        ("stack", case.stack.id), ("Python", (case.environment.get("probe") or {}).get("python") or case.pins.python),
        ("operating system", f"{here['platform']}, kernel {here['kernel']}, glibc {here['glibc']}"), ("CPU", here["cpu"]),
        ("GPU", ", ".join(gpus) or "none"), ("driver", here["driver"] or "none"),
        ("image", f"{image['base']}@{image['digest']}" if image else ""),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in rows if value]


def _should(case: Case) -> str:
    if case.expected["by"] == "mismatch":
        tolerance = case.cell["comparison"]["tolerance"]
        within = ", ".join(f"{name} {value}" for name, value in sorted(tolerance.items())) or "its metric"
        return (
            "The outputs are those of `cases/*.npz` (`output_0`, ...), which the model's own framework computed in FP32, within "
            f"{within}."
        )
    if case.expected["by"] == "degraded":
        return f"What was asked is done ({case.expected['asked']}), or refused."
    if case.job.get("engine"):
        return "The engine that another release built is loaded and runs, as far as the library promises that."
    return _SHOULD[case.phase]


def _files(case: Case, texts: Mapping[str, str | bytes], files: Mapping[str, Path]) -> list[tuple[str, str]]:
    known = {
        "reproduce.py": f"the steps, in {library(case)}'s own API", "reproduce.sh": "makes the environment and runs them",
        "judge.py": "compares what happens with `expected.json`", "expected.json": "what was seen, with versions",
        "requirements.txt": "every package, pinned with its hashes", "requirements.in": "the lines that it was resolved from",
        "Dockerfile": "the image, by digest",
    }  # fmt: skip
    out = [(name, known[name]) for name in known if name in texts]
    for name, data in sorted(case.blobs.items()):
        about = next((text for start, text in _ABOUT.items() if name.startswith(start)), "the model")
        out.append((name, f"{about}, {len(data)} bytes"))
    for name, path in sorted(files.items()):
        if not name.startswith("model/worker/"):
            about = next((text for start, text in _ABOUT.items() if name.startswith(start)), "the model")
            out.append((name, f"{about}, {path.stat().st_size} bytes, sha256 {_sha256(path)[:16]}..."))
    return out


def _sha256(path: Path) -> str:
    """Of a stored file its name says it."""
    return path.stem if re.fullmatch(r"[0-9a-f]{64}", path.stem) else file_sha256(path)


def _notes(case: Case, files: Mapping[str, Path], left_out: Mapping[str, int], options: str) -> Sequence[str]:
    cell, names, out = case.cell, sorted(files), []
    for name, size in sorted(left_out.items()):
        out.append(
            f"`{name}` ({size} bytes) is too large to be here. `enginematrix run --select '#{cell['id']}'` makes it of the model "
            f"{cell['axes']['model']} ({options}), and `enginematrix repro {cell['id']} --folder DIR --limit MIB` puts it here."
        )
    if cell.get("suite"):
        suite, name = cell["suite"], cell["axes"]["case"]
        out.append(
            f"The model is the case {name} of the {suite['package']} package {suite['version']}, as it is there."
        )
    if any(name.startswith("cases/") for name in names):
        out.append("Inputs are `input_0`, ... of `cases/*.npz`, in the model's order, drawn from fixed seeds.")
    if any(name.startswith("smallest") for name in names):
        out.append(
            "`MODEL=smallest.onnx ./reproduce.sh` takes the smallest piece of the model that was seen to be refused."
        )
    if case.job.get("engine") and cell.get("built_on"):
        out.append(f"`{case.job['engine']}` was built by {cell['built_on']['id']}, of `{case.job.get('model')}`.")
    if "piece.onnx" in names:
        out.append("`piece.npz` has the inputs of `piece.onnx` (`input_0`, ...) and what should come out (`output_0`).")
    if case.job.get("recipe") is not None:
        out.append(
            "`model/` makes the model: its weights are drawn from fixed seeds, or read from `source/`. `model/worker/`, if it is "
            "there, is what its script imports."
        )
    return out
