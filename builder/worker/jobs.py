"""Inside a job's own process: run the stage asked for, catch what it raises, leave `output.json`. See README.md."""

import contextlib
import faulthandler
import json
import math
import os
import re
import resource
import sys
import time
import traceback

from worker import loaded, processes

#: Stages of exporter stacks, each a function of the exporter's module; the others are those of engines.py.
EXPORTER_STAGES = ("reference", "export", "calibrate", "convert")
ENGINE_STAGES = ("build", "run", "measure", "subgraph")

#: What a system says when memory is refused, in the words of Python, C++, the C library and protobuf.
REFUSED = re.compile(
    r"std::bad_alloc|cannot allocate memory|failed to allocate memory|unable to allocate", re.IGNORECASE
)
#: Memory of a device is another matter: its limit is not ours.
DEVICE = re.compile(r"cuda|gpu|device memory", re.IGNORECASE)


class Failure(Exception):  # noqa: N818
    """The library refused: its message is the outcome. `unsupported` lists {"node", "operator", "reason"}; `kind` is
    the name of the library's own exception, when there was one."""

    def __init__(self, message, unsupported=(), kind="Failure"):
        Exception.__init__(self, message)
        self.unsupported = list(unsupported)
        self.kind = kind
        self.found = None


class BadInput(Exception):  # noqa: N818
    """The job cannot be done for a reason that says nothing of versions: a mistake of the host's."""


class Job:
    """What a stage gets: `input` (dict), `dir` (absolute), `stage(name)`, `path(name)`."""

    def __init__(self, kind, input, dir, tell):
        self.kind = kind
        self.input = input
        self.dir = dir
        self.stages = []
        self.current = None
        self._tell = tell

    @contextlib.contextmanager
    def stage(self, name):
        """Everything inside is this stage: timed, told to the host, blamed when it raises."""
        self._tell({"stage": name})
        self.current = name
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages.append({"stage": name, "seconds": time.perf_counter() - started})

    def path(self, name):
        """Absolute path of a file in the job's folder."""
        return os.path.join(self.dir, name)


def enter(message, report):
    """Be the job. Never returns; the exit code is 0 when the stage was carried out, be its outcome good or bad."""
    code = 1
    try:
        faulthandler.enable()  # a crash leaves the Python stack in the log, and stays a crash
        processes.go_first()
        os.chdir(message["dir"])

        def tell(what):
            processes.write_all(report, json.dumps(what).encode() + b"\n")

        tell({"pid": os.getpid()})
        job = Job(message["stage"], message["input"], message["dir"], tell)
        processes.limit(message["limits"].get("memory"))
        output, code = perform(job)
        leave(output, job)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        code = 1
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        processes.flush_c()
        # Not sys.exit: exit handlers and destructors of libraries whose threads did not survive the fork hang or crash.
        os._exit(code)


def perform(job):
    """(output, exit code) of a job. Raises only what is not an Exception."""
    output, code, refused = {}, 0, ""
    if job.input.get("gpu"):  # nothing of CUDA is initialised yet in this process
        os.environ["CUDA_VISIBLE_DEVICES"] = job.input["gpu"]
    try:
        result = find(job)(job)
        output = {"ok": True, "result": clean(result, "result", job)}
    except SystemExit:
        raise
    except Exception as error:
        lift_limit()
        text = scrub(describe(error), job)
        where = job.current or job.kind
        output = {
            "ok": False,
            "error": {
                "stage": where, "type": getattr(error, "kind", type(error).__name__), "message": text,
                "traceback": scrub(traceback.format_exc()[-20000:], job),
            },
        }  # fmt: skip
        if getattr(error, "unsupported", None):
            output["error"]["unsupported"] = clean(error.unsupported, "unsupported", job)
        if getattr(error, "found", None):
            output["error"]["found"] = clean(error.found, "found", job)
        if isinstance(error, (BadInput, BadOutput)):
            code = 1
        elif isinstance(error, MemoryError) or (REFUSED.search(text) and not DEVICE.search(text)):
            refused = text if text == type(error).__name__ else "%s: %s" % (type(error).__name__, text)
        print(output["error"]["traceback"], file=sys.stderr)
    output["stages"] = job.stages
    if refused:
        with open(job.path("memory.txt"), "w") as file:
            file.write(refused.splitlines()[0][:500])
    output["loaded"] = loaded.truth()
    return output, code


def preload():
    """Import what jobs will need of the worker itself, once, so that no job pays for it. None of it imports a
    library."""
    from worker import adapters, compare, conform, engines, exporters, picture, timing

    for name in adapters.FILES:
        adapters.get(name)
    return compare, conform, engines, exporters, picture, timing


def find(job):
    """The function that carries out the stage. Raises BadInput when there is none."""
    if job.kind == "export" and job.input.get("takes") == "module":
        from worker import engines

        return engines.module
    if job.kind in EXPORTER_STAGES:
        from worker import exporters

        name = job.input.get("exporter", "tools" if job.kind == "convert" else None)
        module = exporters.EXPORTERS.get(name)
        function = getattr(module, job.kind, None)
        if function is None:
            raise BadInput("no exporter %r that can %s" % (name, job.kind))
        return function
    if job.kind == "suite":
        from worker import conform_export

        return conform_export.suite
    if job.kind == "conform":
        from worker import conform

        return conform.conform
    if job.kind == "locate":
        from worker import locate

        return locate.locate
    if job.kind in ENGINE_STAGES:
        from worker import engines

        return getattr(engines, job.kind)
    known = EXPORTER_STAGES + ENGINE_STAGES + ("locate", "suite", "conform")
    raise BadInput("no stage %r; there are %s" % (job.kind, ", ".join(known)))


def lift_limit():
    """After a failure, let the record of it be written even when the limit on memory is what failed."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def describe(error):
    text = str(error).strip()
    if isinstance(error, KeyError):
        text = "missing key %s" % text
    return text or type(error).__name__


def scrub(text, job):
    """Take the places of this machine out of a text: the job's folder, the folders of its inputs, the environment."""
    places = {job.dir: "."}
    for value in job.input.values():
        if isinstance(value, str) and os.path.isabs(value):
            places[os.path.dirname(value)] = "."
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    places[prefix] = ""
    places[sys.prefix] = "env"
    places[sys.base_prefix] = "python"
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            new = places[place]
            text = text.replace(place + "/", new + "/" if new and new != "." else "")
    return text


class BadOutput(Exception):  # noqa: N818
    """A stage gave something that is not JSON."""


def clean(value, where, job):
    """`value` as plain JSON: numpy scalars as numbers, tuples as lists. JSON has no NaN and no infinity: such a number
    becomes null, and its place and what it was are kept in `job.nonfinite`. Raises BadOutput naming the place."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if not hasattr(job, "nonfinite"):
            job.nonfinite = {}
        job.nonfinite[where] = repr(value)
        return None
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise BadOutput("%s has the key %r, which is not text" % (where, key))
        return {key: clean(item, "%s.%s" % (where, key), job) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item, "%s.%d" % (where, index), job) for index, item in enumerate(value)]
    raise BadOutput("%s is not JSON: %s" % (where, type(value).__name__))


def leave(output, job):
    """Write `output.json` beside its place, then rename it there."""
    if getattr(job, "nonfinite", None):
        output["nonfinite"] = job.nonfinite
    data = json.dumps(output, allow_nan=False).encode("utf-8")
    part = job.path("output.json.part")
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, job.path("output.json"))
