"""Make the list of a suite's cases that planning reads: `builder/suites/PACKAGE-VERSION-KIND.json.gz`.

    python -m builder.suite_list PYTHON

PYTHON is the interpreter of an environment that has the package: `uv run --with onnx==1.23.2 ...`, or one below
`artifacts/env/`. The same package gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from builder.environment import WORKER
from builder.suite import LISTS


def ask(python: str) -> dict[str, Any]:
    """What the package in an interpreter's environment has: {"version", "kind", "cases": [[name, operator, domain, opset]]}.

    Raises subprocess.CalledProcessError when it cannot say."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy in a folder of its own: modules beside the worker would be taken for the standard library's.
        shutil.copytree(WORKER, Path(folder, "worker"), ignore=shutil.ignore_patterns("__pycache__"))
        command = [python, "-m", "worker.conform_export", "--list"]
        done = subprocess.run(command, check=True, capture_output=True, cwd=folder, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def dumps(found: dict[str, Any]) -> bytes:
    """The file's bytes. One case a line, so that what is unpacked reads and differs well."""
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in found["cases"])
    about = json.dumps({"version": found["version"], "kind": found["kind"]})[1:-1]
    return gzip.compress(f'{{{about}, "cases": [\n{lines}\n]}}\n'.encode(), mtime=0)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(str(__doc__))
        return 2
    found = ask(arguments[0])
    path = LISTS / f"onnx-{found['version']}-{found['kind']}.json.gz"
    path.write_bytes(dumps(found))
    sys.stdout.write(f"{path}: {len(found['cases'])} cases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
