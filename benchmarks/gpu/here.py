"""What `doctor` and `pick --here` say of this machine's GPUs, against nvidia-smi: run where there is an NVIDIA GPU.

    python benchmarks/gpu/here.py [--out FOLDER]

Fails (exit code 1) where they differ, where nvidia-smi sees no GPU, and where pick would take another GPU or driver than is
here. With --out, what each program said is kept there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("name", "uuid", "memory.total", "compute_cap", "driver_version", "mig.mode.current")


def told(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if not done.stdout:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def smi() -> tuple[list[dict[str, str]], str]:
    """Each GPU by nvidia-smi's query, and the CUDA version in its banner."""
    rows = told("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits").strip().splitlines()
    banner = re.search(r"CUDA (?:UMD )?Version:\s*([0-9.]+)", told("nvidia-smi"))
    return [dict(zip(FIELDS, map(str.strip, row.split(",")), strict=True)) for row in rows], banner[1] if banner else ""


def check(name: str, report: dict[str, Any]) -> dict[str, Any]:
    return next(row["data"] for row in report["checks"] if row["name"] == name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a folder for what the programs said")
    options = parser.parse_args()
    gpus, cuda = smi()
    enginematrix = (sys.executable, "-m", "builder")
    texts = {
        "nvidia-smi.txt": told("nvidia-smi", "-q"), "doctor.txt": told(*enginematrix, "doctor"),
        "doctor.json": told(*enginematrix, "doctor", "--json"),
        "pick.txt": told(*enginematrix, "pick", "--here", "--need", "tensorrt>=10", "--limit", "3"),
        "pick.json": told(*enginematrix, "pick", "--here", "--need", "tensorrt>=10", "--emit", "json"),
    }  # fmt: skip
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (options.out / name).write_text(text, encoding="utf-8")
    doctor, pick = json.loads(texts["doctor.json"]), json.loads(texts["pick.json"])
    seen = check("GPUs", doctor)["gpus"]
    rows = [
        ("GPUs", len(gpus), len(seen)), ("driver", gpus[0]["driver_version"], check("NVIDIA driver", doctor)["version"]),
        ("CUDA of the driver", cuda, check("NVIDIA driver", doctor)["cuda"]),
        ("pick: driver", gpus[0]["driver_version"], pick["asked"]["driver"]),
        ("pick: GPU", gpus[0]["name"], pick["asked"]["gpu"]["name"]),
        ("pick: compute capability", sorted({gpu["compute_cap"] for gpu in gpus}),
         sorted(pick["asked"]["gpu"]["compute_capability"])),
    ]  # fmt: skip
    for number, (theirs, ours) in enumerate(zip(gpus, seen, strict=False)):
        rows += [
            (f"GPU {number}: name", theirs["name"], ours["name"]), (f"GPU {number}: UUID", theirs["uuid"], ours["uuid"]),
            (f"GPU {number}: compute capability", theirs["compute_cap"], ours["compute_capability"]),
            (f"GPU {number}: memory, MiB", int(theirs["memory.total"]), round(ours["memory"] / 2**20)),
            (f"GPU {number}: MIG", theirs["mig.mode.current"] == "Enabled", bool(ours.get("mig"))),
        ]  # fmt: skip
    wrong = 0
    for what, theirs, ours in rows:
        same = theirs == ours
        wrong += not same
        print(f"{'ok  ' if same else 'DIFF'} {what}: nvidia-smi {theirs}, ours {ours}")
    return int(bool(wrong or not gpus))


if __name__ == "__main__":
    sys.exit(main())
