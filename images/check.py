"""Does this image hold what it is promised to hold? Runs inside it, before anything is built on it.

    python3 check.py --python 3.10 --cuda 12.4.1 --cudnn 9.1.0 --tensorrt 10.0.1.6 --distribution torch=2.4.0

For each thing the version is asked of the thing itself (the library is loaded and says it, or its file's name does, or the
metadata of an installed distribution); only where that fails is a variable of the image believed, and the line says so. One
line each: "ok: tensorrt 10.0.1 (libnvinfer.so.10), promised 10.0.1.6". Versions are compared as far as both go. Ends with 1
when one is another, or cannot be found.

Standard library only, Python 3.6 and newer: it runs on whatever Python the image has.
"""

import argparse
import glob
import json
import os
import re
import subprocess
import sys

#: Where libraries are, below the root, when no LD_LIBRARY_PATH says it. Stubs (lib64/stubs) are none.
FOLDERS = (
    "usr/local/tensorrt/lib", "usr/local/tensorrt/targets/*/lib", "opt/tensorrt/lib", "usr/local/cuda/lib64",
    "usr/local/cuda/targets/*/lib", "usr/local/cuda-*/lib64", "usr/local/cuda-*/targets/*/lib", "usr/local/lib",
    "usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/nvidia", "usr/lib", "usr/lib64", "lib/*-linux-gnu",
)  # fmt: skip
PACKAGES = ("usr/lib/python3/dist-packages", "usr/lib/python3*/site-packages", "usr/local/lib/python3*/dist-packages",
            "usr/local/lib/python3*/site-packages", "opt/*/lib/python3*/site-packages")  # fmt: skip
VERSION = re.compile(r"[vVrR]?([0-9]+(?:\.[0-9]+)*)(?:(a|b|rc)([0-9]+))?")
#: Loaded in a process of its own: a library may abort or hang without a GPU.
ASK = "import ctypes, sys; f = getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2]); f.restype = ctypes.c_size_t; print(int(f()))"
ASK_RUNTIME = (
    "import ctypes, sys; v = ctypes.c_int(); f = getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2]); "
    "assert f(ctypes.byref(v)) == 0; print(v.value)"
)


def agree(found, promised):
    """Whether two versions are one as far as both go: 12.4.1 and 12.4.1.003, 8.6.1 and 8.6.1.6+cuda12.0; not 8.6.1 and
    8.6.3. Compared are the numbers at their beginning, and a pre-release (2.4.0a0) where both have one: as builder/image.py
    compares what an image's configuration says."""
    one, other = VERSION.match(found.strip()), VERSION.match(promised.strip())
    if one is None or other is None:
        return found.strip().lower() == promised.strip().lower()
    if any(int(a) != int(b) for a, b in zip(one.group(1).split("."), other.group(1).split("."))):
        return False
    return one.group(2) is None or other.group(2) is None or one.group(2, 3) == other.group(2, 3)


def dotted(number, base):
    """8601 and 1000 -> "8.6.1"; 100001 and 10000 -> "10.0.1"."""
    return "%d.%d.%d" % (number // base, number % base // 100, number % 100)


def ask(code, library, function):
    """The number that a function of a library gives; None when it cannot be loaded or called here."""
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", code, library, function], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        return int(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


class Image:
    """What there is below a root folder, with the image's variables."""

    def __init__(self, root, environ):
        self.root = root
        self.environ = environ

    def below(self, path):
        return os.path.join(self.root, path.lstrip("/"))

    def library(self, name):
        """The library as a loader would find it: the newest of the first folder that has one; None."""
        folders = [entry for entry in self.environ.get("LD_LIBRARY_PATH", "").split(":") if entry.startswith("/")]
        folders += [
            *FOLDERS,
            *(pattern + "/" + inner for pattern in PACKAGES for inner in ("tensorrt_libs", "nvidia/*/lib")),
        ]
        for folder in folders:
            found = glob.glob(os.path.join(self.below(folder), name + ".so*"))
            if found:
                return max(found, key=lambda path: (numbers(os.path.realpath(path)), path))
        return None

    def packages(self):
        """Folders of installed distributions, in the order in which Python looks."""
        if os.path.abspath(self.root) == "/":
            return [entry for entry in sys.path if os.path.isdir(entry)]
        return [path for pattern in PACKAGES for path in sorted(glob.glob(self.below(pattern)))]

    def text(self, *patterns):
        """(text, path) of the first file that there is."""
        for pattern in patterns:
            for path in sorted(glob.glob(self.below(pattern))):
                try:
                    with open(path, encoding="utf-8", errors="replace") as file:
                        return file.read(), "/" + os.path.relpath(path, self.root)
                except OSError:
                    continue
        return None, ""

    def variable(self, *names):
        """(version, evidence) from the image's variables."""
        for name in names:
            found = re.match(r"v?([0-9]+(\.[0-9A-Za-z+_]+)*)", self.environ.get(name, ""))
            if found:
                return found.group(1), "variable %s, for want of anything better" % name
        return None


def numbers(path):
    """The version in a library's file name: /usr/lib/libnvinfer.so.10.0.1 -> [10, 0, 1]."""
    return [int(part) for part in os.path.basename(path).partition(".so")[2].split(".") if part.isdigit()]


def by_name(path):
    """(version, evidence) from the name of a library's file, when it says more than the major version."""
    real = os.path.realpath(path)
    found = numbers(real)
    return (".".join(map(str, found)), "file " + os.path.basename(real)) if len(found) > 1 else None


def python(image):
    return "%d.%d.%d" % sys.version_info[:3], sys.executable


def cuda(image):
    text, path = image.text("usr/local/cuda/version.json", "usr/local/cuda-*/version.json")
    if text is not None:
        try:
            version = json.loads(text)["cuda"]["version"]
        except (ValueError, KeyError, TypeError):
            version = ""
        if version:
            # Some toolkits print a date for the third number: 11.6.20220318.
            return ".".join(part for part in str(version).split(".") if len(part) < 8), path
    text, path = image.text("usr/local/cuda/version.txt", "usr/local/cuda-*/version.txt")
    found = re.search(r"CUDA Version ([0-9.]+)", text or "")
    if found:
        return found.group(1), path
    library = image.library("libcudart")
    if library:
        number = ask(ASK_RUNTIME, library, "cudaRuntimeGetVersion")
        if number:
            return "%d.%d" % (number // 1000, number % 1000 // 10), os.path.basename(library)
    return image.variable("CUDA_VERSION")


def cudnn(image):
    library = image.library("libcudnn")
    if library:
        number = ask(ASK, library, "cudnnGetVersion")
        if number:  # 8903 is 8.9.3; from 9 on 90100 is 9.1.0
            return dotted(number, 10000 if number >= 90000 else 1000), os.path.basename(library)
        if by_name(library):
            return by_name(library)
    return image.variable("CUDNN_VERSION", "NV_CUDNN_VERSION")


def tensorrt(image):
    library = image.library("libnvinfer")
    if library:
        number = ask(ASK, library, "getInferLibVersion")
        if number:  # 8601 is 8.6.1; from 10 on 100001 is 10.0.1
            return dotted(number, 10000 if number >= 100000 else 1000), os.path.basename(library)
        if by_name(library):
            return by_name(library)
    for name in ("tensorrt", "tensorrt-libs", "tensorrt-cu12-libs", "tensorrt-cu13-libs", "tensorrt-cu11-libs"):
        found = distribution(image, name)
        if found:
            return found
    return image.variable("TRT_VERSION", "TENSORRT_VERSION")


def distribution(image, name):
    """(version, evidence) of an installed distribution, as its metadata says it. Python 3.6 has no importlib.metadata."""
    wanted = re.sub(r"[-_.]+", "-", name).lower()
    for folder in image.packages():
        for entry in sorted(os.listdir(folder)):
            base, kind = os.path.splitext(entry)
            if kind not in (".dist-info", ".egg-info") or re.sub(r"[-_.]+", "-", base).lower().find(wanted) != 0:
                continue
            for path in ("METADATA", "PKG-INFO", ""):
                try:
                    with open(
                        os.path.join(folder, entry, path).rstrip("/"), encoding="utf-8", errors="replace"
                    ) as file:
                        head = file.read(65536).split("\n\n")[0]
                except OSError:
                    continue
                fields = dict(line.split(": ", 1) for line in head.splitlines() if re.match(r"(Name|Version): ", line))
                if re.sub(r"[-_.]+", "-", fields.get("Name", "")).lower() == wanted and "Version" in fields:
                    return fields["Version"].strip(), entry
    return None


def main(arguments, environ):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    for name in ("python", "cuda", "cudnn", "tensorrt"):
        parser.add_argument("--" + name, metavar="VERSION")
    parser.add_argument("--distribution", metavar="NAME=VERSION", action="append", default=[])
    parser.add_argument("--root", default="/", metavar="FOLDER", help="look below this folder (for tests)")
    options = parser.parse_args(arguments)
    image = Image(options.root, environ)
    looks = [(look.__name__, look, getattr(options, look.__name__)) for look in (python, cuda, cudnn, tensorrt)]
    for pair in options.distribution:
        name, equals, version = pair.partition("=")
        if not (name and equals and version):
            parser.error("--distribution %s: write NAME=VERSION" % pair)
        looks.append((name, lambda image, name=name: distribution(image, name), version))
    bad = 0
    for name, look, promised in looks:
        if promised is None:
            continue
        found = look(image)
        if found is None:
            line = "missing: no %s found in the image, promised %s" % (name, promised)
        else:
            fits = agree(found[0], promised)
            line = "%s: %s %s (%s), promised %s" % ("ok" if fits else "wrong", name, found[0], found[1], promised)
        bad += not line.startswith("ok")
        print(line, file=sys.stderr if not line.startswith("ok") else sys.stdout, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
