"""TensorRT 7 to 11 and TensorRT for RTX, by feature tests. The engine is the serialized network (a *plan* file).

Settings: `module` (default `tensorrt`; `tensorrt_rtx_bindings`) and whatever tensorrt_config.py names, which are options
too. docs/tensorrt.md says what was run of this and what was not. The parts:

    tensorrt_api           library, logger, names of types
    tensorrt_config        flags, profiles, memory, devices, compatibility
    tensorrt_calibration   INT8 by calibration
    tensorrt_timing        timing caches
    tensorrt_parser        ONNX file -> network, or what of it is refused
    tensorrt_layers        layers before and after fusion, their precision
    tensorrt_engine        loading, running, timing; cuda: the CUDA runtime
"""

import re

from worker import adapters
from worker.adapters import tensorrt_api as api
from worker.adapters import (
    tensorrt_calibration,
    tensorrt_config,
    tensorrt_engine,
    tensorrt_layers,
    tensorrt_parser,
    tensorrt_timing,
)
from worker.adapters.tensorrt_parser import refusals, types  # noqa: F401  (for subgraph_search)
from worker.jobs import Failure


def build(job):
    trt = api.library(job)
    logger = api.logger(trt)
    builder = trt.Builder(logger)
    typed = tensorrt_config.strongly_typed(trt, job)
    network = builder.create_network(tensorrt_config.network_flags(trt, typed))
    config = builder.create_builder_config()
    with job.stage("parse"):
        parser = tensorrt_parser.parse(trt, job, network, config, logger)
        _mark(network, job.input.get("mark") or ())
        layers = tensorrt_layers.parsed(network)
    with job.stage("build"):
        configuration = tensorrt_config.Configuration(trt, job, builder, network, config, logger, typed)
        configuration.fill()
        calibrator = None
        if tensorrt_calibration.wanted(job):
            calibrator = tensorrt_calibration.attach(trt, job, config, network)
        timing = tensorrt_timing.attach(trt, job, config)
        plan = _plan(builder, network, config)
        calibrated = tensorrt_calibration.tell(calibrator) if calibrator else None
        if plan is None:
            raise tensorrt_layers.named(logger.refusal("building gave nothing"), layers)
        with open(job.path("engine.plan"), "wb") as file:
            file.write(plan)
        kept = tensorrt_timing.keep(job, config, timing)
    del parser  # the network's weights are the parser's
    found = {
        "typed": "strongly" if typed else "weakly", "flags": configuration.flags, "target": api.option(job, "target") or None,
        "precision": adapters.tally(tensorrt_layers.computing(layers)), "network_layers": len(layers),
        "from": "network as parsed" + ("" if typed else "; the builder may have chosen other types"),
        "warnings": list(dict.fromkeys(logger.warnings))[:20], **configuration.notes,
    }  # fmt: skip
    unread = sorted(set(job.input.get("options") or {}) - tensorrt_config.OPTIONS)
    if unread:
        found["unread"] = unread
    result = {"engine": "engine.plan", "found": found, "unsupported": []}
    if timing is not None:
        found["timing_cache"] = timing
    if kept:
        result["timing_cache"] = kept
    if calibrated:
        found["calibration"] = calibrated
        if not calibrated["reused"]:
            result["calibration_table"] = "calibration.table"
    result["degraded"] = configuration.degraded + _degraded(job, typed, layers)
    if "device" in configuration.notes:
        found["dla"], fallen = tensorrt_layers.on_dla(job, network, config, logger.warnings + logger.notes)
        result["degraded"] += fallen
    return result


#: `locate` names the tensors that are to be outputs too, and they are marked in the network.
MARKS = True


def _mark(network, names):
    """INetworkDefinition::markOutput; the parser gives tensors the names of the file. Raises Failure for one that the network has
    not: the parser may have done without."""
    if not names:
        return
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    tensors = {}
    for layer in layers:
        for index in range(layer.num_outputs):
            tensors[layer.get_output(index).name] = layer.get_output(index)
    there = {network.get_output(index).name for index in range(network.num_outputs)}
    for name in names:
        if name not in tensors:
            raise Failure("the network has no tensor %s to mark" % name)
        if name not in there:
            network.mark_output(tensors[name])


def _plan(builder, network, config):
    """The serialized engine, or None. TensorRT 7 has no `build_serialized_network`."""
    if hasattr(builder, "build_serialized_network"):
        return builder.build_serialized_network(network, config)
    engine = builder.build_engine(network, config)
    return None if engine is None else engine.serialize()


def _degraded(job, typed, layers):
    """A strongly typed network is computed in its own types. How Q/DQ pairs were fused, and what a builder chose that was
    free to, is known from a loaded engine only."""
    asked = job.input.get("precision")
    if not typed or asked == "int8":
        return []
    return adapters.shortfall(asked, tensorrt_layers.computing(layers), "in the strongly typed network")


def vouch(job, path):
    """Without a GPU no plan is deserialized. Asked for the plan's validity, TensorRT-RTX (1.4 and newer) tells of another
    release than its own before it misses the GPU: then that is raised as Failure. It prints the numbers of the plan's version
    as characters of these codes; a zero ends its message."""
    trt = api.library(job)
    logger = api.logger(trt)
    logger.quiet = True  # that there is no GPU is known, and is not what is asked
    runtime = trt.Runtime(logger)
    if not hasattr(runtime, "get_engine_validity"):
        return
    with open(path, "rb") as file:
        runtime.get_engine_validity(file.read())
    told = [note for note in logger.notes if api.OTHER_RELEASE in note]
    if told:
        raise Failure(re.sub("[\x01-\x1f]", lambda found: str(ord(found.group())), told[0]))


def load(job, path):
    return tensorrt_engine.Engine(job, path)
