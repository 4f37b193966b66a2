"""One job at a time on a GPU: an exclusive lock by UUID, over all runs of this user on this machine.

A job is given its GPU by CUDA_VISIBLE_DEVICES, by UUID, before anything of CUDA is initialised in its process
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html, "CUDA Environment Variables"). The lock is flock(2) on a
file per UUID: it goes with the process that held it, however that ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.errors import InfrastructureError
from builder.machine import Gpu

KINDS = frozenset({"build", "run", "measure", "speedup", "conform"})
"""Steps that use a GPU, where their family's engines run on one. Builders time their kernels on it."""


def usable(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[str, ...]:
    """UUIDs of the GPUs that jobs may be given: those that CUDA_VISIBLE_DEVICES names (all without it), and of them those of
    the first one's kind: results are kept by the kind of GPU, which must not depend on which one a job happened to get."""
    chosen = list(gpus)
    if "CUDA_VISIBLE_DEVICES" in environ:
        chosen = []
        for name in environ["CUDA_VISIBLE_DEVICES"].split(","):
            found = [g for i, g in enumerate(gpus) if name.strip() == str(i) or g.uuid.startswith(name.strip() or "-")]
            if len(found) != 1:
                break  # as CUDA has it: what follows a name that it does not know is not seen
            chosen += [gpu for gpu in found if gpu not in chosen]
    kinds = [(gpu.name, gpu.compute_capability) for gpu in chosen]
    return tuple(gpu.uuid for gpu, kind in zip(chosen, kinds, strict=True) if kind == kinds[0])


class Gpus:
    """The GPUs that jobs may be given. `folder()` gives the folder of the locks, which all runs of this user share."""

    def __init__(self, uuids: Sequence[str], folder: Callable[[], Path]) -> None:
        self.uuids = tuple(uuids)
        self._folder = folder

    def __len__(self) -> int:
        return len(self.uuids)

    @contextlib.contextmanager
    def one(self, stop: Callable[[], bool]) -> Iterator[str]:
        """The UUID of a GPU that nothing else of ours uses meanwhile. Waits until there is one; raises InfrastructureError once
        `stop()` says so, or when the folder of the locks cannot be used."""
        folder = self._folder()
        with contextlib.ExitStack() as stack:
            files = {uuid: stack.enter_context((folder / f"gpu-{uuid}").open("ab")) for uuid in self.uuids}
            while True:
                for uuid, file in files.items():
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    yield uuid
                    return
                if stop():
                    msg = "interrupted"
                    raise InfrastructureError(msg)
                time.sleep(0.02)
