"""The product, whole, on a machine with a GPU and no package index: lock, environments, cells, report of matrix.yaml here.

    python3 benchmarks/gpu/whole.py --wheels FOLDER [--project FOLDER] [--out FOLDER] [--group cells]

FOLDER holds the wheels that the stacks take beside what is installed with this Python (onnxruntime-gpu, ONNX Runtime and onnx of
the exporter, TensorRT for RTX); the rest (torch with its CUDA) is packed from what is installed, by installed.py. Then nothing is
special: `enginematrix lock` and `enginematrix run`, in a project folder of its own, with uv told to use that folder alone. With
--out the report, the lock and the results are kept there as one archive. Ends with the exit code of the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import installed

ROOT = Path(__file__).resolve().parents[2]
PACKED = (
    "torch", "triton", "onnxscript", "safetensors", "tokenizers", "pillow", "numpy", "sympy", "protobuf", "flatbuffers",
    "packaging", "ml_dtypes", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cufft", "nvidia-curand", "nvidia-cudnn-cu13",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--project", type=Path, default=Path(tempfile.gettempdir(), "enginematrix-on-a-gpu"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--group", default="cells")
    asked = parser.parse_args()
    begun = time.monotonic()
    project: Path = asked.project
    project.mkdir(parents=True, exist_ok=True)
    for name in ("images", "recipes"):
        shutil.copytree(ROOT / name, project / name, dirs_exist_ok=True)
    shutil.copy(Path(__file__).with_name("matrix.yaml"), project)
    asked.wheels.mkdir(parents=True, exist_ok=True)
    for found in installed.closure(PACKED):
        installed.pack(found, asked.wheels)
    print(f"{time.monotonic() - begun:.0f} s: {len(list(asked.wheels.glob('*.whl')))} wheels", flush=True)
    (project / "uv.toml").write_text("no-index = true\n", encoding="utf-8")
    env = {
        **os.environ, "UV_CONFIG_FILE": str(project / "uv.toml"), "UV_FIND_LINKS": str(asked.wheels.resolve()),
        "UV_PYTHON_DOWNLOADS": "never",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
    }  # fmt: skip
    code = 0
    for command in (["lock"], ["run", "--group", asked.group]):
        code = subprocess.run([sys.executable, "-m", "builder", *command], cwd=project, env=env, check=False).returncode
        print(f"{time.monotonic() - begun:.0f} s: {command[0]} ended with {code}", flush=True)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(asked.out / f"{asked.group}.tar.gz", "w:gz") as archive:
            for name in (
                "matrix.yaml",
                "matrix.lock",
                "artifacts/report",
                "artifacts/results.sqlite",
                "artifacts/logs",
            ):
                if (project / name).exists():
                    archive.add(project / name, name)
    return code


if __name__ == "__main__":
    sys.exit(main())
