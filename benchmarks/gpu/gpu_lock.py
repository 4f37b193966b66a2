"""Two processes, every GPU of this machine, real kernels: no two jobs ever overlap on one GPU, and all GPUs are used at once.

    python3 benchmarks/gpu/gpu_lock.py [--out FILE] [--jobs 6] [--seconds 1.0]

Each of two host processes (as two runs of one user are) hands jobs out by builder/execute/gpus.py; a job computes on the GPU
that it was given and says which one CUDA showed it, by UUID, when it began and when it ended. Ends with 1 if two overlap, or a
job saw another GPU than its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import common

from builder.execute.gpus import Gpus

ADAPTER = """
import time

def build(job):
    with job.stage("build"):
        import torch

        begun = time.monotonic()
        device = torch.device("cuda")
        matrix = torch.ones(4096, 4096, device=device)
        while time.monotonic() - begun < float(job.input["settings"]["seconds"]):
            (matrix @ matrix).sum().item()
        name = "GPU-" + str(torch.cuda.get_device_properties(0).uuid)
        return {"engine": None, "saw": name, "count": torch.cuda.device_count(), "held": [begun, time.monotonic()]}
"""


def hand_out(folder: Path, jobs: int, seconds: float, uuids: list[str]) -> list[dict[str, Any]]:
    """One host process: its jobs, as many threads as there are GPUs."""
    adapter = folder / f"busy-{os.getpid()}.py"
    adapter.write_text(ADAPTER)
    done: list[dict[str, Any]] = []
    left = list(range(jobs))
    with common.session("torch", arguments=("--adapter", f"busy={adapter}")) as worker:

        def work() -> None:
            while True:
                with lock:
                    if not left:
                        return
                    left.pop()
                with Gpus(uuids, lambda: folder).one(lambda: False) as uuid:
                    job = {"adapter": "busy", "settings": {"seconds": str(seconds)}, "gpu": uuid}
                    result, _ = worker.result("build", job)
                with lock:
                    done.append({"gpu": uuid, **{name: result[name] for name in ("saw", "count", "held")}})

        lock = threading.Lock()
        threads = [threading.Thread(target=work) for _ in uuids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return done


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--host", type=Path, help="be one of the two: hand out jobs by the locks of this folder")
    asked = parser.parse_args()
    uuids = [gpu["uuid"] for gpu in common.gpus()]
    if asked.host:
        print(json.dumps(hand_out(asked.host, asked.jobs, asked.seconds, uuids)))
        return
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, __file__, "--host", name, "--jobs", str(asked.jobs), "--seconds", str(asked.seconds)]
        hosts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        answers = [host.communicate()[0] for host in hosts]
    done = [entry for answer in answers for entry in json.loads(answer.splitlines()[-1])]
    pairs = [(one, other) for number, one in enumerate(done) for other in done[number + 1 :] if _together(one, other)]
    figures = {
        "jobs": done, "overlaps_on_one_gpu": sum(one["gpu"] == other["gpu"] for one, other in pairs),
        "moments_with_several_gpus": sum(one["gpu"] != other["gpu"] for one, other in pairs),
        "saw_another": sum(entry["saw"] != entry["gpu"] or entry["count"] != 1 for entry in done),
        "jobs_by_gpu": {uuid: sum(entry["gpu"] == uuid for entry in done) for uuid in uuids},
    }  # fmt: skip
    common.finish(figures, asked.out)
    wrong = figures["overlaps_on_one_gpu"] or figures["saw_another"] or len(done) != 2 * asked.jobs
    sys.exit(1 if wrong or (len(uuids) > 1 and not figures["moments_with_several_gpus"]) else 0)


def _together(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["held"][0] < other["held"][1] and other["held"][0] < one["held"][1])


if __name__ == "__main__":
    main()
