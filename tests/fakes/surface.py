"""What a compiled module of TensorRT's bindings has: `python surface.py tensorrt.so` prints it as JSON.

Runs in the bindings' own environment, standard library alone. The libraries that the module is linked against need not be
the real ones: importing it calls nothing of them (`stand_ins`)."""

import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path


def stand_ins(module: str, folder: str) -> None:
    """Empty libraries of the names that the module asks for, with the functions that it asks of them. Needs binutils and
    a C compiler."""
    needed = subprocess.run(["readelf", "-d", module], check=True, capture_output=True, text=True).stdout
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", module], check=True, capture_output=True, text=True
    ).stdout
    own = re.compile(
        r"create\w+_INTERNAL|get(?:BuilderPluginRegistry|NvOnnxParserVersion|PluginRegistry)|initLibNvInfer\w+|_ZN\d+nv\w+"
    )
    names = [
        name for name in (line.split()[-1].partition("@")[0] for line in symbols.splitlines()) if own.fullmatch(name)
    ]
    code = "".join(f"int {name}(void) {{ return 0; }}\n" for name in names)
    for library in re.findall(r"\[(libnv\w+\.so\.\d+)\]", needed):
        target = str(Path(folder) / library)
        command = ["cc", "-w", "-x", "c", "-", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", target]
        subprocess.run(command, input=code, check=True, text=True)
        code = ""


def read(path: str) -> dict:
    loader = importlib.machinery.ExtensionFileLoader("tensorrt", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("tensorrt", path, loader=loader))
    loader.exec_module(module)
    found: dict = {}
    visit(module, "", found)
    return found


def visit(holder: object, prefix: str, found: dict) -> None:
    for name in sorted(vars(holder)):
        value = getattr(holder, name)
        if name.startswith("_") or not isinstance(value, type):
            continue
        members = getattr(value, "__members__", None)
        if members:
            found[prefix + name] = {"enum": {key: int(member) for key, member in members.items()}}
            continue
        entry: dict = {}
        bases = [base.__name__ for base in value.__bases__ if base.__module__ != "pybind11_builtins"]
        if bases:
            entry["bases"] = bases
        for item in sorted(item for item in dir(value) if not item.startswith("_")):
            content = getattr(value, item)
            if not isinstance(content, type):
                kind = "properties" if isinstance(content, property) else "methods" if callable(content) else "values"
                entry.setdefault(kind, []).append(item)
        found[prefix + name] = entry
        visit(value, prefix + name + ".", found)


if __name__ == "__main__":
    json.dump(read(sys.argv[1]), sys.stdout)
