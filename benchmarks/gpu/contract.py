"""The contract of adapters, held to ONNX Runtime's CUDA provider: in every environment of it that whole.py has made.

    python3 benchmarks/gpu/contract.py [--project FOLDER]

Ends with 1 where a clause does not hold, or there is no such environment. With CUDA's libraries missing the contract holds as
well (the CPU answers), so what the session has is printed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import common

from builder.contract import Broken, Subject, check

SETTINGS = {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"], "tf32": "off"}
ASK = """
import sys, onnxruntime
onnxruntime.preload_dlls()
print(onnxruntime.InferenceSession(sys.argv[1], providers=sys.argv[2:]).get_providers())
"""


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--project", type=Path, default=Path(tempfile.gettempdir(), "enginematrix-on-a-gpu"))
    asked = parser.parse_args()
    rows = []
    for found in sorted(asked.project.glob("artifacts/env/*/lib/python3*/site-packages/onnxruntime_gpu-*.dist-info")):
        python = found.parents[3] / "bin" / "python"
        with tempfile.TemporaryDirectory() as name:
            subject = Subject(
                name="onnxruntime", file=common.WORKER / "worker" / "adapters" / "onnxruntime_.py", python=python,
                imports=("onnxruntime",), settings=SETTINGS,
            )  # fmt: skip
            problems: list[str] = []
            try:
                check(subject, Path(name))
            except Broken as broken:
                problems = broken.problems
            session = subprocess.run(
                [python, "-c", ASK, str(Path(name, "model.onnx")), *SETTINGS["providers"]],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        rows.append(
            {"package": found.name, "problems": problems, "session": session.stdout.strip() or session.stderr[-500:]}
        )
    common.finish({"contract": rows}, asked.out)
    sys.exit(1 if not rows or any(row["problems"] for row in rows) else 0)


if __name__ == "__main__":
    main()
