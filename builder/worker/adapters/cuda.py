"""The few calls of the CUDA runtime that moving arrays and timing take, for every adapter; by ctypes: no framework is needed."""

import ctypes
import glob
import os
import sys

from worker.jobs import Failure


class Cuda:
    """Raises Failure with CUDA's own words."""

    def __init__(self, library=None):
        self.library = library or ctypes.CDLL(cudart())
        self.library.cudaGetErrorString.restype = ctypes.c_char_p

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            raise Failure("%s: %s (CUDA error %d)" % (name, self.library.cudaGetErrorString(code).decode(), code))

    def stream(self):
        """A stream of its own: TensorRT synchronises where it is given the default one."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        return handle.value or 0

    def allocate(self, size):
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def free(self, pointer):
        self.library.cudaFree(ctypes.c_void_p(pointer))

    def to_device(self, pointer, array, stream):
        self._copy(ctypes.c_void_p(pointer), ctypes.c_void_p(array.ctypes.data), array.nbytes, 1, stream)

    def to_host(self, array, pointer, stream):
        self._copy(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(pointer), array.nbytes, 2, stream)

    def _copy(self, to, source, size, kind, stream):
        self._call("cudaMemcpyAsync", to, source, ctypes.c_size_t(size), kind, ctypes.c_void_p(stream))

    def wait(self, stream):
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def event(self):
        handle = ctypes.c_void_p()
        self._call("cudaEventCreate", ctypes.byref(handle))
        return handle.value

    def record(self, event, stream):
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def between(self, first, second):
        """Seconds of device time between two events; waits for the second. CUDA's resolution is about 0.5 us."""
        self._call("cudaEventSynchronize", ctypes.c_void_p(second))
        milliseconds = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(milliseconds), ctypes.c_void_p(first), ctypes.c_void_p(second))
        return milliseconds.value / 1000.0

    def memory(self):
        """(free, total) bytes of the device."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value


class Buffers:
    """Device memory by name, kept from call to call and grown when it has to be: allocating is no part of a timing."""

    def __init__(self, cuda):
        self.cuda, self.held = cuda, {}

    def get(self, name, size):
        """The address of at least `size` bytes."""
        address, room = self.held.get(name, (None, -1))
        if room < size:
            if address is not None:
                self.cuda.free(address)
            address, room = self.cuda.allocate(size), size
            self.held[name] = (address, room)
        return address

    def total(self):
        """Bytes held."""
        return sum(room for _, room in self.held.values())


def cudart():
    """The CUDA runtime library: the one mapped already, else of the packages installed, else what the system finds."""
    with open("/proc/self/maps") as file:
        for line in file:
            if "libcudart.so" in line:
                return line.split(None, 5)[5].rstrip("\n")
    for folder in sys.path:
        found = sorted(glob.glob(os.path.join(folder, "nvidia", "**", "libcudart.so.*"), recursive=True))
        if found:
            return found[-1]
    return "libcudart.so"
