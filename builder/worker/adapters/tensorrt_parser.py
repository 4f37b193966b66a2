"""ONNX file -> network, and what the parser says of a file that it does not take: node by node.

A release tells of more the newer it is: from 10.0 on an error names its node and operator, before only its index; the
list of subgraphs that are and are not supported is `supports_model` up to 10.x and `supports_model_v2` from 10.1 on. The
list alone is not to be believed: TensorRT for RTX 1.4 names one of two unknown operators in it, and 1.7 gives an empty
one, where both log both errors. So errors count first, then the list, and what neither names was not judged.
"""

import os
import time

from worker import subgraph
from worker.adapters import tensorrt_api as api
from worker.adapters import tensorrt_config
from worker.jobs import Failure


def parse(trt, job, network, config, logger):
    """Fill the network; the parser, which must outlive it. Raises Failure with every node that was refused."""
    parser = trt.OnnxParser(network, logger)
    if hasattr(parser, "set_builder_config"):
        parser.set_builder_config(config)
    path = job.input["model"]
    if parse_file(parser, path):
        return parser
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    failure = Failure(_words(errors[0]) if errors else str(logger.refusal("parsing failed")))
    nodes = _nodes(path)
    failure.unsupported = refused(errors, nodes)
    failure.found = {"parser": survey(trt, job, failure.unsupported)}
    raise failure


def _words(error):
    """An error as the bindings write it, with its node; its description where they do not (before 8.0)."""
    text = str(error)
    return error.desc() if text.startswith("<") else text


def parse_file(parser, path):
    """`parse_from_file` finds external data beside the file in every release."""
    return bool(parser.parse_from_file(path))


def _nodes(path):
    """The file's nodes, or none where it is damaged."""
    try:
        return subgraph.read(path).nodes
    except (subgraph.Damaged, OSError):
        return []


def refused(errors, nodes):
    """[{"node", "operator", "reason"}] of the parser's errors. Those that name no node are of the whole file."""
    entries = []
    for error in errors:
        name = operator = ""
        if hasattr(error, "node_name"):
            name, operator = error.node_name(), error.node_operator()
        index = error.node()
        # An error of the whole file has the index -1, or no nodes to point into.
        if 0 <= index < len(nodes) and (not operator or plain(nodes[index].operator) == operator):
            name = name or nodes[index].name or "node %d" % index
            operator = nodes[index].operator if not operator else operator
        if operator or name:
            entry = {"node": name, "operator": operator, "reason": error.desc()}
            if entry not in entries:
                entries.append(entry)
    return entries


def plain(operator):
    return operator.split(".")[-1]


#: A survey of a file that was refused may cost this much more (s).
PATIENCE = 20.0


def survey(trt, job, entries):
    """{"nodes", "supported", "refused", "unjudged": names, "operators": {operator: may be supported}} of a file that was
    refused: which of its nodes the parser takes. A parser stops at the first node that it cannot use, so what comes before
    is asked about as one piece, and what comes after node by node, wherever the types of its inputs are known."""
    try:
        model = subgraph.read(job.input["model"])
    except (subgraph.Damaged, OSError):
        return None
    names = [node.name or "node %d" % node.index for node in model.nodes]
    bad = {index for index, name in enumerate(names) if any(name == entry["node"] for entry in entries)}
    builder, network, parser = fresh(trt, job, api.logger(trt))
    good = set()
    for indices, supported in _subgraphs(parser, job.input["model"]):
        if supported:
            good.update(index for index in indices if index < len(names))
    good -= bad
    until = time.monotonic() + PATIENCE
    before = set(range(min(bad))) if bad else set()
    if before and _takes(job, model, before):
        good |= before
    # What no node is blamed for is the whole file's, and would be refused of every piece.
    for index in range(len(names) if bad else 0):
        if index not in good | bad and time.monotonic() < until and _takes(job, model, {index}):
            good.add(index)
    operators = sorted({plain(node.operator) for node in model.nodes})
    return {
        "nodes": len(names), "supported": len(good), "refused": len(bad),
        "unjudged": [name for index, name in enumerate(names) if index not in good | bad][:200],
        "operators": {name: bool(parser.supports_operator(name)) for name in operators},
    }  # fmt: skip


def _takes(job, model, indices):
    """Whether the parser takes a piece; the types of what is in it are noted in the model."""
    path = job.path("survey.onnx")
    try:
        piece = model.cut(indices, probe=True)
    except subgraph.Untyped:
        return False
    with open(path, "wb") as file:
        file.write(piece)
    try:
        found = types(job, path)
    except Failure:
        return False
    finally:
        os.unlink(path)
    for name, known in found.items():
        if name not in model.types:
            model.learn(name, *known)
    return True


def _subgraphs(parser, path):
    """[(indices of nodes, supported)], as far as the release has such a list."""
    with open(path, "rb") as file:
        data = file.read()
    if hasattr(parser, "supports_model_v2"):
        parser.supports_model_v2(data, path)
        return [(list(parser.get_subgraph_nodes(index)), bool(parser.is_subgraph_supported(index)))
                for index in range(parser.num_subgraphs)]  # fmt: skip
    try:
        _, groups = parser.supports_model(data, path)
    except TypeError:  # no path before 8.0
        _, groups = parser.supports_model(data)
    return [(list(indices), bool(supported)) for indices, supported in groups]


def fresh(trt, job, logger):
    """(builder, network, parser) for a file of its own."""
    builder = trt.Builder(logger)
    network = builder.create_network(tensorrt_config.network_flags(trt, tensorrt_config.strongly_typed(trt, job)))
    return builder, network, trt.OnnxParser(network, logger)


def refusals(job, path):
    """What the parser refuses of a file: for `subgraph_search`."""
    trt = api.library(job)
    _builder, _network, parser = fresh(trt, job, api.logger(trt))
    if parse_file(parser, path):
        return []
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return refused(errors, _nodes(path)) or [{"node": "", "operator": "", "reason": "the file was refused"}]


#: trt.DataType -> onnx.TensorProto.DataType
ELEMENTS = {
    "FLOAT": 1, "UINT8": 2, "INT8": 3, "INT32": 6, "INT64": 7, "BOOL": 9, "HALF": 10, "BF16": 16, "FP8": 17, "INT4": 22,
    "FP4": 23,
}  # fmt: skip


def types(job, path):
    """Name -> (onnx element type, shape with None for what is not known) of the tensors in a file, as far as the parser
    keeps their names. Raises Failure when it does not take the file."""
    trt = api.library(job)
    logger = api.logger(trt)
    _builder, network, parser = fresh(trt, job, logger)
    if not parse_file(parser, path):
        raise logger.refusal("parsing failed")
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    tensors = [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    out = {}
    for tensor in tensors:
        if tensor is None or tensor.dtype.name not in ELEMENTS:
            continue
        try:
            shape = [size if size >= 0 else None for size in tensor.shape]
        except ValueError:  # a tensor of no known rank has a length of -1
            shape = None
        out[tensor.name] = (ELEMENTS[tensor.dtype.name], shape)
    return out
