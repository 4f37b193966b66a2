"""Memory that a job takes: of this process by the kernel's own high-water mark, of a GPU by NVML.

The mark (VmHWM of /proc/self/status, proc(5)) is put back to what is resident now by writing 5 to /proc/self/clear_refs, so
that what the libraries took while they were imported, before the job was forked, is not counted as the engine's.
"""

import ctypes
import os


class Host:
    """Resident memory of this process from now on, in bytes: `before` what was there, `peak` the most since."""

    def __init__(self):
        self.reset = _reset()
        self.before = status("VmRSS")

    def figures(self):
        """{"before", "peak"}, or None where the kernel does not tell. `peak` is null where its mark cannot be put back: it
        would be that of something else."""
        if self.before is None:
            return None
        return {"before": self.before, "peak": status("VmHWM") if self.reset else None}


def status(name):
    """A field of /proc/self/status in bytes, or None."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _reset():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


class _Memory(ctypes.Structure):
    """nvmlMemory_t of nvml.h."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Device:
    """Memory in use on the GPUs that this process may see, all processes together: nothing of ours runs beside a timing.

    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html (nvmlDeviceGetMemoryInfo)."""

    def __init__(self):
        self.handles = []
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if library.nvmlInit_v2():
            return
        self.library = library
        self.handles = _visible(library)
        self.before = self.peak = self.used()

    def used(self):
        """Bytes now, or None when NVML refuses."""
        total = 0
        for handle in self.handles:
            found = _Memory()
            if self.library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(found)):
                return None
            total += found.used
        return total

    def look(self):
        """Note what is in use now."""
        now = self.used() if self.handles else None
        if now is not None and self.peak is not None:
            self.peak = max(self.peak, now)

    def figures(self):
        """{"before", "peak", "from"} or None without a GPU. The peak is of the moments at which `look` was called."""
        if not self.handles or self.before is None:
            return None
        return {"before": self.before, "peak": self.peak, "from": "NVML, the whole GPU, looked at between windows"}


def _visible(library):
    """Handles of the GPUs in CUDA_VISIBLE_DEVICES (UUIDs or numbers), of all without it."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    names = [str(index) for index in range(count.value)] if wanted is None else wanted.split(",")
    handles = []
    for name in (name.strip() for name in names):
        handle = ctypes.c_void_p()
        if name.isdigit():
            failed = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(handle))
        else:
            failed = library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
        if failed:
            break  # CUDA too sees none from the first that it does not know on
        handles.append(handle)
    return handles
