"""A case -> reproduce.py: a short script in the plain API of the library that failed, from a template of its family."""

from __future__ import annotations

import json
import pprint
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from builder.repro_case import Case
from builder.repro_match import Refusal

TEMPLATES = Path(__file__).parent / "repro_templates"
WORKER = Path(__file__).parent / "worker" / "exporters"
LIBRARIES = {
    "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT", "tensorrt": "TensorRT", "torch": "PyTorch",
    "tensorflow": "TensorFlow and tf2onnx", "onnx": "onnx.version_converter",
}  # fmt: skip
HEAVY = (
    "conv",
    "matmul",
    "gemm",
    "fullyconnected",
    "fully_connected",
    "attention",
    "mha",
    "lstm",
    "gru",
    "rnn",
    "einsum",
)
"""Words in the names of operators that carry a network's arithmetic (worker/adapters: HEAVY)."""
_FLAGS = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8", "int4": "INT4", "fp4": "FP4"}
_LOGIN = re.compile(r"(://)[^/\s@\"]{1,300}@")
_NAME = re.compile(r"[A-Za-z0-9_]+")


@cache
def environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 (Python, shell and Markdown, no HTML)
    )  # fmt: skip
    made.filters["py"] = literal
    return made


def literal(value: Any) -> str:
    """A value as Python text, the same every time; long ones over several lines."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises
    return pprint.pformat(value, width=110, compact=True, sort_dicts=True)


def script(case: Case, title: str) -> str:
    """reproduce.py. Raises Refusal for what no template can do."""
    kind = str(case.job["kind"])
    name, values = _WRITERS.get(case.family.exporter if kind == "export" else kind, _none)(case)  # type: ignore[arg-type]
    text = (
        environment()
        .get_template(name)
        .render(title=_plain(title), doing=_doing(case), memory=case.expected.get("bytes"), **values)
    )
    return re.sub(r"\n{3,}(?=[ #\w])", lambda found: "\n" * min(len(found[0]), 3), text)


def library(case: Case) -> str:
    """The library's name, for people."""
    kind = str(case.job["kind"])
    if kind == "tensorrt" and case.job["settings"].get("module", "").startswith("tensorrt_rtx"):
        return "TensorRT for RTX"
    name = case.family.exporter if kind == "export" else case.family.adapter if kind == "import" else kind
    return LIBRARIES.get(str(name), case.family.name)


def _doing(case: Case) -> str:
    said = {
        "export": "exports a model", "build": "prepares a model", "run": "prepares a model and runs it",
    }[case.phase]  # fmt: skip
    return f"{library(case)}'s own API {said}."


def _plain(text: str) -> str:
    """For a docstring: no quotes that end it and no backslashes."""
    return text.replace("\\", "/").replace('"""', "'''").rstrip('"')


def _none(case: Case) -> tuple[str, dict[str, Any]]:
    msg = f"there is no short script for {case.job['kind']!r}"
    raise Refusal(msg)


def _common(case: Case) -> dict[str, Any]:
    job = case.job
    values: dict[str, Any] = {
        "running": job["running"], "model": job.get("model"), "engine": job["engine"],
        "inputs": [item["name"] for item in job["inputs"]], "outputs": [item["name"] for item in job["outputs"]],
        "metric": None, "precision": False, "heavy": HEAVY, "direct": job.get("direct", False),
    }  # fmt: skip
    if job["running"]:
        allowed = ("atol", "rtol", "cosine", "mismatch")
        values.update(
            cases=job["cases"], tolerance={name: job["tolerance"][name] for name in allowed if name in job["tolerance"]},
            metric=job["metric"] if case.expected["by"] == "mismatch" else None,
            precision=case.expected["by"] == "degraded" and case.expected["kind"] == "precision",
        )  # fmt: skip
    return values


def _import(case: Case) -> tuple[str, dict[str, Any]]:
    asked = str(case.expected["asked"]).split()[0] if case.expected["by"] == "degraded" else None
    return "import.py.j2", {"modules": list(case.family.modules), "asked": asked}


def _onnxruntime(case: Case) -> tuple[str, dict[str, Any]]:
    job = case.job
    choice = job["options"].get("provider")
    providers = {None: job["settings"].get("providers") or ["CPUExecutionProvider"], "cpu": ["CPUExecutionProvider"],
                 "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}.get(choice)  # fmt: skip
    if providers is None or "TensorrtExecutionProvider" in providers:
        msg = f"there is no short script for the execution provider {choice!r}"
        raise Refusal(msg)
    listed: list[Any] = [providers] if isinstance(providers, str) else list(providers)
    if "CUDAExecutionProvider" in listed and job["options"].get("tf32", "off") != "allowed":
        listed = [(one, {"use_tf32": "0"}) if one == "CUDAExecutionProvider" else one for one in listed]
    cuda = listed != ["CPUExecutionProvider"]
    return "onnxruntime.py.j2", {**_common(case), "providers": listed, "external": job["external"], "cuda": cuda}


def _openvino(case: Case) -> tuple[str, dict[str, Any]]:
    job = case.job
    config = {"INFERENCE_NUM_THREADS": "1"}
    if job["options"].get("inference-precision", "asked") == "asked" and job["settings"].get("hint") != "default":
        flag = job["realised"] == "flag"
        config["INFERENCE_PRECISION_HINT"] = (
            {"fp16": "f16", "bf16": "bf16"}.get(job["precision"], "f32") if flag else "f32"
        )
    device = job["options"].get("device") or job["settings"].get("device") or "CPU"
    return "openvino.py.j2", {**_common(case), "config": config, "device": device}


def _litert(case: Case) -> tuple[str, dict[str, Any]]:
    job = case.job
    delegate = job["options"].get("delegate") or job["settings"].get("delegate") or "xnnpack"
    dynamic = (job["quantization"] or {}).get("mode") == "dynamic"
    resolver = "AUTO" if delegate == "xnnpack" else "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    return "litert.py.j2", {**_common(case), "resolver": resolver, "hybrid": "int8" if dynamic else "fp32"}


def _tensorrt(case: Case) -> tuple[str, dict[str, Any]]:
    job = case.job
    asked = {**{k: str(v) for k, v in job["settings"].items() if isinstance(v, str | int)}, **job["options"]}
    values = _common(case)
    if asked.get("device", "gpu") != "gpu" or asked.get("tune", "opt") != "opt":
        msg = "there is no short script for the DLA, nor for several profiles"
        raise Refusal(msg)
    if values["precision"]:
        msg = "which types the layers of an engine have is not read by a short script"
        raise Refusal(msg)
    version = case.stack.value("tensorrt") or ""
    if values["running"] and version.startswith(("7.", "8.0", "8.1", "8.2", "8.3", "8.4")):
        msg = f"TensorRT {version} names what goes in and out by number, for which there is no short script"
        raise Refusal(msg)
    flags = [_FLAGS[job["precision"]]] if job["realised"] == "flag" and job["precision"] in _FLAGS else []
    for option, flag in (("tf32", "TF32"), ("refit", "REFIT")):
        flags += [flag] if asked.get(option, "false") == "true" else []
    compatibility = asked.get("compatibility", "none")
    flags += ["VERSION_COMPATIBLE"] if compatibility != "none" else []
    flags += ["EXCLUDE_LEAN_RUNTIME"] if compatibility == "version-lean" else []
    hardware = asked.get("hardware", "none")
    profile = {name: (one["min"], one["opt"], one["max"]) for name, one in (job["profile"] or {}).items()}
    words = {
        "target": asked.get("target", "").upper(), "hardware": "" if hardware == "none" else hardware.upper().replace("-", "_"),
        "optimization": asked.get("optimization", ""), "workspace": asked.get("workspace", ""),
        "module": asked.get("module", "tensorrt"),
    }  # fmt: skip
    for name, word in words.items():  # they become names in Python
        if word and not _NAME.fullmatch(word):
            msg = f"{name} is {word!r}"
            raise Refusal(msg)
    return "tensorrt.py.j2", {
        **values, **words, "typed": job["realised"] != "flag", "flags": flags, "tf32": asked.get("tf32", "false") == "true",
        "profile": profile, "compatible": compatibility != "none",
    }  # fmt: skip


def _symbols(recipe: Mapping[str, Any], shapes: str) -> list[dict[int, str]]:
    """Of each input: axis -> symbol, where shapes are dynamic."""
    if shapes != "dynamic":
        return []
    return [{axis: dim for axis, dim in enumerate(item["shape"]) if isinstance(dim, str)} for item in recipe["inputs"]]


def _model(case: Case) -> dict[str, Any]:
    recipe = case.job["recipe"]
    return {"script": recipe.data["script"], "source": case.job["source"]}


def _torch_export(case: Case) -> tuple[str, dict[str, Any]]:
    options, recipe = case.job["options"], case.job["recipe"].data
    dims = _symbols(recipe, options.get("shapes", "static"))
    names = [item["name"] for item in recipe["inputs"]]
    return "torch_export.py.j2", {
        **_model(case), "opset": int(options["opset"]), "inputs": names, "case": case.job["case"],
        "names": sorted({name for axes in dims for name in axes.values()}),
        "dynamo": options.get("torch-exporter", "dynamo") == "dynamo", "dims": dims, "axes": dict(zip(names, dims, strict=False)),
    }  # fmt: skip


def _onnx_export(case: Case) -> tuple[str, dict[str, Any]]:
    options, recipe = case.job["options"], case.job["recipe"].data
    dynamic = options.get("shapes", "static") == "dynamic"
    symbol = recipe["inputs"][0]["shape"][0] if dynamic else None
    return "onnx_export.py.j2", {
        **_model(case), "opset": int(options["opset"]), "inputs": [item["name"] for item in recipe["inputs"]], "symbol": symbol,
        "batch": recipe["dims"]["static"][symbol] if symbol else 0,
    }  # fmt: skip


def _tensorflow_export(case: Case) -> tuple[str, dict[str, Any]]:
    options, recipe = case.job["options"], case.job["recipe"].data
    dynamic, sizes = options.get("shapes", "static") == "dynamic", recipe["dims"]["static"]
    specs = [
        (
            item["name"],
            item["dtype"],
            [(None if dynamic else sizes[dim]) if isinstance(dim, str) else dim for dim in item["shape"]],
        )
        for item in recipe["inputs"]
    ]
    frozen = options.get("saved-as", "saved-model") == "frozen-graph"
    return "tensorflow_export.py.j2", {**_model(case), "opset": int(options["opset"]), "specs": specs, "frozen": frozen}


def _torch(case: Case) -> tuple[str, dict[str, Any]]:
    job, values = case.job, _common(case)
    if values["precision"]:
        msg = "which types a module computes in is read from PyTorch's dispatcher, by no short script"
        raise Refusal(msg)
    recipe = job["recipe"].data
    dims = _symbols(recipe, job["shapes"])
    names = sorted({name for axes in dims for name in axes.values()})
    limits = {name: (recipe["dims"]["dynamic"][name]["min"], recipe["dims"]["dynamic"][name]["max"]) for name in names}
    tolerance = {k: v for k, v in job["tolerance"].items() if k in ("atol", "rtol", "cosine", "mismatch")}
    return "torch_engine.py.j2", {
        **values, **_model(case), "tolerance": tolerance, "cases": job.get("cases", []), "example": job["example"],
        "mode": job["options"].get("mode") or job["settings"].get("mode") or "eager", "dims": dims, "limits": limits,
        "precision_int8": job["precision"] == "int8", "device": job["settings"].get("device") or "cpu",
        "dtype": {"fp16": "float16", "bf16": "bfloat16"}.get(job["precision"], "float32"),
        "tf32": (job["options"].get("tf32") or job["settings"].get("tf32")) == "allowed",
    }  # fmt: skip


#: What drives the step -> (template, its values). Exporters and adapters of one name are told apart by `_exporter`.
_WRITERS = {
    "import": _import, "onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert, "tensorrt": _tensorrt,
    "torch": lambda case: _torch_export(case) if case.job["kind"] == "export" else _torch(case), "onnx": _onnx_export,
    "tensorflow": _tensorflow_export,
}  # fmt: skip


def model_files(case: Case) -> dict[str, str | Path]:
    """The model's own script with what is beside it, and the parts of the worker that it imports: name -> text or file."""
    recipe = case.job.get("recipe")
    if recipe is None:
        return {}
    folder = Path(recipe.directory)
    text = json.dumps(recipe.data, indent=1, sort_keys=True) + "\n"
    out: dict[str, str | Path] = {"model/recipe.json": _LOGIN.sub(r"\1", text)}
    # What the model is made from is in source/, if anything; a hidden file is its writer's own.
    given = (
        recipe.source.name.rstrip("/")
        if recipe.source is not None and recipe.source.kind in ("file", "folder")
        else None
    )
    texts = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") or part == "__pycache__" for part in Path(name).parts)
        if (
            not path.is_file()
            or path.is_symlink()
            or hidden
            or name in ("recipe.yaml", given)
            or name.startswith(f"{given}/")
        ):
            continue
        out[f"model/{name}"] = path
        if path.suffix == ".py":
            texts.append(path.read_text(encoding="utf-8"))
    wanted = [found for text in texts for found in _imports(text)]
    while wanted:
        name = wanted.pop()
        place = f"model/worker/exporters/{name}.py"
        source = WORKER / f"{name}.py"
        if place in out or not source.is_file():
            continue
        out[place] = source
        out["model/worker/__init__.py"] = out["model/worker/exporters/__init__.py"] = ""
        wanted += _imports(source.read_text(encoding="utf-8"))
    return out


def _imports(text: str) -> list[str]:
    """Modules of worker.exporters that a script names."""
    lists = re.findall(r"^\s*from worker\.exporters import ([\w, ]+)", text, re.M)
    return [name.strip() for one in lists for name in one.split(",")] + re.findall(r"worker\.exporters\.(\w+)", text)
