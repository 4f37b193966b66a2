"""The builder's configuration: what a cell asks, set by whatever way this release has, and read back.

Options of a cell, or settings of its family (text; an option comes first):

    target            sm89                    compute capability to build for (TensorRT for RTX)
    workspace         268435456               bytes of device memory that a layer may use while it runs
    tf32              true, false             whether FP32 may be computed in TF32 (default false)
    compatibility     version, version-lean   loads in later releases too; `version-lean` without the runtime inside (8.6+)
    hardware          ampere-plus, same-compute-capability    loads on other GPUs too (8.6+, 10.8+)
    device            dla, dla:1              a core of the Deep Learning Accelerator
    gpu_fallback      true, false             whether layers that it cannot run go to the GPU (default true)
    optimization      0 to 5                  effort (8.6+)
    refit             true, false             whether weights can be replaced later (default false)
    tune              opt, min+max, ...       the points of the profile, each the optimum of a profile of its own
    timing_cache      shared, off             whether timings of earlier builds are used (default: as the host hands one)

What a release cannot do is a Failure; what it takes and does not do is found by reading it back.
"""

import re

from worker.adapters import tensorrt_api as api
from worker.jobs import Failure

#: Bytes, for releases whose own default is none at all (TensorRT 7 to 8.3: IBuilderConfig::getMaxWorkspaceSize,
#: "default is 0"; from 8.4 on it is all of the device's memory).
WORKSPACE = 1 << 30
FLAGS = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8", "int4": "INT4", "fp4": "FP4"}
POINTS = ("min", "opt", "max")
#: Options that this adapter reads; a cell's others are named in `found.unread`, since a misspelt one would do nothing.
OPTIONS = frozenset((
    "target", "workspace", "tf32", "compatibility", "hardware", "device", "gpu_fallback", "optimization", "refit", "tune",
    "timing_cache", "calibration",
))  # fmt: skip


def strongly_typed(trt, job):
    """Whether to build strongly typed: whenever the precision is in the graph and the library can. From 11 on it always
    is (https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x.html)."""
    if not api.has(trt.BuilderFlag, "FP16"):
        return True
    return api.has(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and job.input.get("realised") != "flag"


def network_flags(trt, typed):
    """Explicit batch has to be asked for while there is another kind: up to TensorRT 9, whose builder has a
    `max_batch_size`. 10 has nothing else, and 11 lost the word."""
    kinds, flags = trt.NetworkDefinitionCreationFlag, 0
    if typed and api.has(kinds, "STRONGLY_TYPED"):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    if api.has(kinds, "EXPLICIT_BATCH") and hasattr(trt.Builder, "max_batch_size"):
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    return flags


class Configuration:
    """Fills a configuration in. `flags`: names of the builder's flags that were set; `notes`: what `found` tells of the
    rest; `degraded`: what was taken and is not so."""

    def __init__(self, trt, job, builder, network, config, logger, typed):
        self.trt, self.job, self.builder, self.network = trt, job, builder, network
        self.config, self.logger, self.typed = config, logger, typed
        self.flags, self.notes, self.degraded = [], {}, []

    def fill(self):
        self._precision()
        self._workspace()
        self._target()
        self._compatibility()
        self._hardware()
        self._device()
        self._effort()
        self._profiles()
        self._verbosity()

    def _cannot(self, what):
        return Failure("%s %s" % (api.title(self.trt), what))

    def set(self, name):
        """Set a flag by name, and see that it is set. Raises Failure where the release has none of that name."""
        if not api.has(self.trt.BuilderFlag, name):
            raise self._cannot("has no BuilderFlag.%s" % name)
        flag = getattr(self.trt.BuilderFlag, name)
        self.config.set_flag(flag)
        if not self.config.get_flag(flag):
            raise self._cannot("did not take BuilderFlag.%s" % name)
        self.flags.append(name)

    def _precision(self):
        wanted = FLAGS.get(self.job.input.get("precision"))
        flagged = wanted and api.has(self.trt.BuilderFlag, wanted)
        if wanted and self.job.input.get("realised") == "flag" and not flagged:
            raise self._cannot("has no BuilderFlag.%s" % wanted)
        if flagged and not self.typed:
            self.set(wanted)
        if api.has(self.trt.BuilderFlag, "TF32"):
            # On by default, and FP32 would then be computed with 10 bits of mantissa.
            if api.asked(self.job, "tf32"):
                self.set("TF32")
            else:
                self.config.clear_flag(self.trt.BuilderFlag.TF32)
        if api.asked(self.job, "refit"):
            self.set("REFIT")
        elif self.config.get_flag(self.trt.BuilderFlag.REFIT):
            self.config.clear_flag(self.trt.BuilderFlag.REFIT)

    def _workspace(self):
        text = api.option(self.job, "workspace")
        if text and not re.match(r"[1-9]\d*$", text):
            raise Failure("workspace is %r; it is a number of bytes" % text)
        pools = hasattr(self.config, "set_memory_pool_limit")
        size = int(text) if text else None if pools else WORKSPACE
        if size is None:
            return
        if pools:
            pool = self.trt.MemoryPoolType.WORKSPACE
            self.config.set_memory_pool_limit(pool, size)
            got = self.config.get_memory_pool_limit(pool)
        else:
            self.config.max_workspace_size = size
            got = self.config.max_workspace_size
        self.notes["workspace"] = int(got)
        if got != size:
            self.degraded.append({
                "asked": "workspace %d" % size, "got": "workspace %d" % got, "how": "read back from the configuration",
            })  # fmt: skip

    def _target(self):
        target = api.option(self.job, "target")
        if not target:
            return
        if not hasattr(self.config, "set_compute_capability"):
            raise self._cannot("cannot build for a chosen compute capability")
        # A target that this release lacks is its own AttributeError.
        capability = getattr(self.trt.ComputeCapability, target.upper())
        self.config.num_compute_capabilities = 1
        self.config.set_compute_capability(capability, 0)
        if self.config.get_compute_capability(0) != capability:
            raise self._cannot("did not take the target %s" % target)

    def _compatibility(self):
        kind = api.option(self.job, "compatibility", "none")
        if kind not in ("none", "version", "version-lean"):
            raise Failure("compatibility is %r; it is none, version or version-lean" % kind)
        if kind != "none":
            if not api.has(self.trt.BuilderFlag, "VERSION_COMPATIBLE"):
                raise self._cannot("has no version-compatible engines (8.6 is the first)")
            self.set("VERSION_COMPATIBLE")
            if kind == "version-lean":
                self.set("EXCLUDE_LEAN_RUNTIME")

    def _hardware(self):
        kind = api.option(self.job, "hardware", "none")
        if kind == "none":
            return
        levels = getattr(self.trt, "HardwareCompatibilityLevel", None)
        name = kind.upper().replace("-", "_")
        if levels is None or not api.has(levels, name):
            raise self._cannot("has no hardware compatibility %r" % kind)
        before = len(self.logger.warnings)
        self.config.hardware_compatibility_level = getattr(levels, name)
        # TensorRT for RTX takes the value and says that it does nothing with it.
        for warning in self.logger.warnings[before:]:
            if "unsupported" in warning.lower():
                raise self._cannot("has no hardware-compatible engines: %s" % warning)
        if self.config.hardware_compatibility_level != getattr(levels, name):
            raise self._cannot("did not take the hardware compatibility %s" % kind)
        self.notes["hardware"] = kind

    def _device(self):
        device = api.option(self.job, "device", "gpu")
        match = re.match(r"dla(?::(\d+))?$", device)
        if device == "gpu":
            return
        if not match:
            raise Failure("device is %r; it is gpu, dla or dla:<core>" % device)
        core = int(match.group(1) or 0)
        if core >= self.builder.num_DLA_cores:
            raise self._cannot("finds %d DLA cores here, and core %d was asked" % (self.builder.num_DLA_cores, core))
        self.config.default_device_type = self.trt.DeviceType.DLA
        self.config.DLA_core = core
        if api.asked(self.job, "gpu_fallback", True):
            self.set("GPU_FALLBACK")
        self.notes["device"] = "dla:%d" % core

    def _effort(self):
        level = api.option(self.job, "optimization")
        if not level:
            return
        if not re.match(r"[0-5]$", level):
            raise Failure("optimization is %r; it is a number from 0 to 5" % level)
        if not hasattr(self.config, "builder_optimization_level"):
            raise self._cannot("has no optimization levels (8.6 is the first)")
        self.config.builder_optimization_level = int(level)
        self.notes["optimization"] = int(self.config.builder_optimization_level)

    def _profiles(self):
        """One optimization profile for each point to tune for; all of them span the whole range."""
        shapes = self.job.input.get("profile")
        if not shapes:
            return
        points = api.option(self.job, "tune", "opt").split("+")
        if not set(points) <= set(POINTS) or len(set(points)) != len(points):
            raise Failure("tune is %r; it is made of min, opt and max, with + between" % "+".join(points))
        inputs = {self.network.get_input(index).name: self.network.get_input(index)
                  for index in range(self.network.num_inputs)}  # fmt: skip
        for name in shapes:
            if name in inputs and inputs[name].is_shape_tensor:
                raise Failure("%s is a shape tensor: a range of its values is needed, and a recipe has none" % name)
        made = []
        for point in points:
            profile = self.builder.create_optimization_profile()
            for name, shape in sorted(shapes.items()):
                profile.set_shape(name, shape["min"], shape[point], shape["max"])
            if self.config.add_optimization_profile(profile) < 0:
                raise self.logger.refusal("the optimization profile was refused")
            made.append(profile)
        self.notes["profiles"] = points
        # Calibration runs at one shape: the optimum of its own profile.
        if self.job.input.get("calibration") and hasattr(self.config, "set_calibration_profile"):
            self.config.set_calibration_profile(made[0])

    def _verbosity(self):
        """Have the engine keep what its inspector tells: names, types and tactics of layers."""
        kinds = getattr(self.trt, "ProfilingVerbosity", None)
        if kinds is None or not hasattr(self.config, "profiling_verbosity"):
            return
        # DETAILED was called VERBOSE before there was an inspector.
        name = "DETAILED" if api.has(kinds, "DETAILED") else "VERBOSE"
        self.config.profiling_verbosity = getattr(kinds, name)
