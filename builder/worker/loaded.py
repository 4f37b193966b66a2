"""What is really there: the interpreter, the imports that were asked for, the packages installed, the libraries
mapped."""

import importlib
import os
import platform
import re
import sys

#: Where the version is, for modules that do not carry `__version__` themselves in every release.
VERSIONS = {"openvino": "openvino.runtime"}
#: Modules that stand in the way of isolation: with `openvino_telemetry` importable, openvino's tools start a thread and
#: processes that report usage over the network; openvino and NNCF have stand-ins of their own for when it is absent
#: (openvino/tools/ovc/telemetry_utils.py, nncf/telemetry/wrapper.py).
BLOCKED = {"openvino": ("openvino_telemetry",), "nncf": ("openvino_telemetry",)}


def probe(imports):
    """Import each name and tell what came of it. The `probe` of README.md."""
    modules = {}
    for name in imports:
        for blocked in BLOCKED.get(name.split(".")[0], ()):
            sys.modules[blocked] = None
        try:
            module = importlib.import_module(name)
            path = getattr(module, "__file__", None) or ""
            modules[name] = {"version": version(module), "file": relative(path)}
            owners = installers(path) if "." not in name else []  # parts of a package come with it
            if len(owners) > 1:
                modules[name]["installers"] = owners
        except (Exception, SystemExit) as error:
            modules[name] = {"error": "%s: %s" % (type(error).__name__, error)}
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "modules": modules,
        "distributions": distributions(),
        "pid": os.getpid(),
    }


def version(module):
    """`__version__`, or what `get_version()` gives, or None; of the module that VERSIONS names for it, when it has
    none."""
    other = VERSIONS.get(module.__name__)
    if not hasattr(module, "__version__") and not hasattr(module, "get_version") and other:
        try:
            module = importlib.import_module(other)
        except ImportError:
            return None
    found = getattr(module, "__version__", None)
    if found is None and hasattr(module, "get_version"):
        found = module.get_version()
    return None if found is None else str(found)


def distributions():
    """Name (normalised as PEP 503 does) -> version of what is installed on `sys.path`, by the folders' names."""
    found = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            match = re.match(r"(.+?)-([^-]+)(?:-.*)?\.(?:dist|egg)-info$", entry)
            if match:
                found.setdefault(re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2))
    return dict(sorted(found.items()))


def installers(path):
    """`name version` of each distribution that says it installed this very file, sorted. Several, and the last one installed
    overwrote the others': packages of one import name (onnxruntime and onnxruntime-openvino, -cu12 and -cu13) may lie in one
    environment, and then nothing but the order decides whose code runs. By RECORD
    (https://packaging.python.org/en/latest/specifications/recording-installed-packages/)."""
    place = relative(path)
    if not place.startswith(("site-packages/", "dist-packages/")):
        return []
    site, found = path[: -len(place)] + place.split("/")[0], []
    for entry in os.listdir(site):
        match = re.match(r"(.+?)-([^-]+)\.dist-info$", entry)
        try:
            with open(os.path.join(site, entry, "RECORD"), errors="surrogateescape") as file:
                listed = "\n" + file.read()
        except OSError:  # no distribution, or one that no tool of today installed
            continue
        if match and "\n%s," % place.split("/", 1)[1] in listed.replace('"', ""):
            found.append("%s %s" % (re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2)))
    return sorted(found)


def relative(path):
    """A path that names no machine: from `site-packages/` on within the environment; a library of the system as it is;
    of anything else the file's name alone."""
    parts = path.split("/")
    for name in ("site-packages", "dist-packages"):
        if name in parts:
            return "/".join(parts[parts.index(name) :])
    if path.startswith(("/lib", "/usr/")):
        return path
    return parts[-1]


def truth():
    """The `loaded` of README.md: shared libraries mapped into this process now, less those of Python itself, and the
    versions of the modules imported."""
    own = [os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_exec_prefix, "lib")]
    libraries = {}
    with open("/proc/self/maps", errors="surrogateescape") as file:
        for line in file:
            path = line.rstrip("\n").split(None, 5)[5:]
            if not path or not re.search(r"\.so($|\.)", path[0]):
                continue
            path = path[0]
            inside = "/site-packages/" in path or "/dist-packages/" in path
            if not inside and sys.base_prefix != "/usr" and path.startswith(tuple(own)):
                continue
            if not inside and "/lib-dynload/" in path:
                continue
            place = relative(path)
            libraries[place] = {"name": os.path.basename(path), "path": place}
            if inside:
                libraries[place]["distribution-relative"] = place.split("/", 1)[1]
    modules = {}
    for name, module in sorted(sys.modules.items()):
        if "." in name or name.startswith("_"):
            continue
        try:
            if "/site-packages/" in (getattr(module, "__file__", None) or "") or name in VERSIONS:
                found = version(module)
        except Exception:  # a module object may do anything when asked for an attribute
            continue
        else:
            if "/site-packages/" in (getattr(module, "__file__", None) or "") and found:
                modules[name] = found
    return {"libraries": [libraries[place] for place in sorted(libraries)], "modules": modules}
