"""What all parts of the TensorRT adapter ask of whichever library is there: TensorRT 7 to 11, or TensorRT for RTX."""

import importlib
import re
import sys

from worker.jobs import Failure


def library(job):
    return importlib.import_module(job.input.get("settings", {}).get("module") or "tensorrt")


def title(trt):
    """`tensorrt 10.16.1.11`, as messages name it."""
    return "%s %s" % (trt.__name__.replace("_bindings", ""), trt.__version__)


def release(trt):
    """(10, 16) of 10.16.1.11. For what no feature test can tell; everything else is tested by what is there."""
    return tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2])


def has(enum, name):
    """Whether an enumeration of the bindings has a member (hasattr alone also sees `name`, `value`)."""
    return name in getattr(enum, "__members__", {})


def option(job, name, default=""):
    """An option of the cell, else a setting of its family, else `default`, as text."""
    for place in ("options", "settings"):
        value = (job.input.get(place) or {}).get(name)
        if value not in (None, ""):
            return str(value)
    return default


def asked(job, name, default=False):
    """An option that is yes or no."""
    value = option(job, name, "true" if default else "false").lower()
    if value not in ("true", "false"):
        raise Failure("%s is %r; it is true or false" % (name, value))
    return value == "true"


def logger(trt):
    """Keeps the library's errors and warnings, and shows them in the log as they come."""

    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors, self.warnings, self.notes = [], [], []
            self.quiet = False

        def log(self, severity, message):
            kinds = trt.ILogger.Severity
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR):
                self.errors.append(message.strip())
            elif severity == kinds.WARNING:
                self.warnings.append(message.strip())
            else:
                if "DLA" in message or OTHER_RELEASE in message:
                    self.notes.append(message.strip())  # where a layer went is told as information
                return
            if not self.quiet:
                sys.stderr.write("[%s] %s\n" % (severity.name, message))

        def refusal(self, what):
            """Failure with the first error logged: those after it are mostly its echoes."""
            return Failure(self.errors[0] if self.errors else "%s, and the library logged no reason" % what)

    return Logger()


#: Said, as information, of a plan that another release built.
OTHER_RELEASE = "engine has been created with TensorRT"
#: trt.DataType -> our names of precisions.
PRECISIONS = {
    "FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool", "UINT8": "uint8", "INT4": "int4", "FP4": "fp4",
}  # fmt: skip


def precision(dtype):
    """Our name of a trt.DataType: `fp16`."""
    return PRECISIONS.get(dtype.name, dtype.name.lower())
