"""The smallest piece of a model that a library still refuses for the same reason, as a file that shows it.

From the node that was refused, alone; then with what feeds it, one step more at a time, until the refusal is there again;
then others are left out, furthest first, by halves, quarters and so on down to single nodes, for as long as it stays
(Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002). Where a library names no node, the whole
model is what is made smaller. Where the file does not say what type a tensor at the edge has, the library is asked: it
loads what leads there, and tells the types of its outputs.
"""

import os
import re
import time

from worker import adapters, subgraph
from worker.jobs import BadInput, Failure

LIMIT = {"tries": 60, "seconds": 60.0, "pieces": 4}


def reduce(job):
    """The job `subgraph`: see README.md. Enters the stage `parse`."""
    adapter = adapters.get(job.input["adapter"])
    limit = dict(LIMIT, **(job.input.get("limit") or {}))
    with job.stage("parse"):
        try:
            model = subgraph.read(job.input["model"])
        except subgraph.Damaged as error:
            raise BadInput("%s is no model to cut: %s" % (os.path.basename(job.input["model"]), error))
        # A piece of a model of dynamic shapes has inputs whose ranges nobody knows: it is looked for at one shape.
        model.freeze({name: shape["opt"] for name, shape in (job.input.get("profile") or {}).items()})
        library = Library(job, adapter, model, time.monotonic() + limit["seconds"])
        library.learn_all()
        pieces, seen = [], set()
        for entry in suspects(model, job.input.get("refused") or []) or [unnamed(job.input.get("message") or "")]:
            if len(pieces) == limit["pieces"] or kind(entry) in seen:
                continue
            seen.add(kind(entry))
            search = Search(model, library, entry, limit["tries"], job.input.get("alike") or [])
            found = search.smallest()
            if found:
                name = "subgraph-%d.onnx" % len(pieces)
                with open(job.path(name), "wb") as file:
                    file.write(search.file)
                nodes = [model.nodes[index] for index in found]
                alone = nodes[0] if len(nodes) == 1 else None  # then it is known after all
                pieces.append({
                    "model": name, "node": entry["node"] or (alone.name if alone else ""),
                    "operator": entry["operator"] or (alone.operator if alone else ""), "reason": entry["reason"],
                    "nodes": [node.name or "node %d" % node.index for node in nodes],
                    "operators": [node.operator for node in nodes], "of": len(model.nodes), "tries": search.tries,
                    "smallest": search.finished,
                })  # fmt: skip
    return {"subgraphs": pieces, "tries": library.tries}


def unnamed(message):
    """The entry of a refusal that names no node."""
    return {"index": None, "node": "", "operator": "", "reason": message}


def suspects(model, refused):
    """The entries of `unsupported` that name a node of the model, each with its `index`."""
    out = []
    for entry in refused:
        named = [node for node in model.nodes if entry.get("node") and node.name == entry["node"]]
        match = re.match(r"node (\d+)$", entry.get("node") or "")
        if not named and match and int(match.group(1)) < len(model.nodes):
            named = [model.nodes[int(match.group(1))]]
        if not named and entry.get("operator"):
            named = [node for node in model.nodes if plain(node.operator) == plain(entry["operator"])]
        for node in named[:1]:
            out.append({
                "index": node.index, "node": node.name or "node %d" % node.index, "operator": node.operator,
                "reason": entry.get("reason") or "",
            })  # fmt: skip
    return out


#: Nodes of a piece that is looked for elsewhere, and places where it is tried.
LIKENESS = {"nodes": 12, "places": 3}


def alike(model, operators, index):
    """Sets of nodes with these operators, in the order of the file, each fed by others of them: where a piece that was refused
    of another model may be in this one. With `index` only those that hold that node. At most LIKENESS["places"] of them: the
    first, one in the middle, the last."""
    if not operators or len(operators) > LIKENESS["nodes"]:
        return []
    found = []
    for end in model.nodes:
        if end.operator != operators[-1]:
            continue
        nodes, missing, edge = {end.index}, list(operators[:-1]), [end.index]
        while edge and missing:
            for producer in sorted(model.producers({edge.pop(0)}) - nodes, reverse=True):
                operator = model.nodes[producer].operator
                if operator in missing:
                    missing.remove(operator)
                    nodes.add(producer)
                    edge.append(producer)
        if not missing and (index is None or index in nodes):
            found.append(nodes)
    places = sorted({0, len(found) // 2, len(found) - 1}) if found else []
    return [found[place] for place in places[: LIKENESS["places"]]]


def plain(operator):
    """An operator without its domain, however a library writes that: `custom.NoSuchOp`, `custom:NoSuchOp(1)`."""
    return re.sub(r"\(.*", "", operator).split(":")[-1].split(".")[-1]


def kind(entry):
    """What makes two refusals one: the operator and the reason, less names and numbers."""
    text = re.sub(r"\{[^}]*\}|for node [^.)]*|'[^']*'|\"[^\"]*\"", "#", entry.get("reason") or "")
    return plain(entry.get("operator") or ""), re.sub(r"\d+", "#", text).strip()


class Library:
    """The engine library, asked whether it takes a file. Counts its answers; asks nothing after `until`, which all searches
    of a model share."""

    def __init__(self, job, adapter, model, until):
        self.job, self.adapter, self.model, self.until = job, adapter, model, until
        self.built = job.input.get("failed_at", "parse") != "parse"
        self.tries, self.unknown = 0, set()

    def refusals(self, data):
        """[{"node", "operator", "reason"}] of a file's bytes; empty when the library takes it. What was refused when it
        was built has to be built."""
        self.tries += 1
        path = self.job.path("piece.onnx")
        with open(path, "wb") as file:
            file.write(data)
        try:
            if hasattr(self.adapter, "refusals") and not self.built:
                return self.adapter.refusals(self.job, path)
            return self._built(path, data)
        finally:
            os.unlink(path)

    def _built(self, path, data):
        """As an adapter without `refusals` shows it: by building."""
        cut = subgraph.Model(data)
        values = [[subgraph.signature(cut.types[name]) for name in names if name in cut.types and name not in cut.weights]
                  for names in (cut.inputs, cut.outputs)]  # fmt: skip
        inputs, outputs = (
            [{"name": name, "dtype": "", "shape": shape or []} for name, _, shape in side] for side in values
        )
        part = _Part(self.job, dict(self.job.input, model=path, inputs=inputs, outputs=outputs, profile=None))
        try:
            self.adapter.build(part)
        except MemoryError:
            raise
        except Exception as error:
            named = list(getattr(error, "unsupported", ()))
            return named or [{"node": "", "operator": "", "reason": str(error).strip()}]
        return []

    def learn(self, name):
        """Ask for a tensor's type, by what leads to it. False when that cannot be had."""
        if name in self.unknown or self.over():
            return False
        self.unknown.add(name)  # ask once
        if name not in self.model.makers:
            return False
        try:
            piece = self.model.cut(self.model.ancestors({self.model.makers[name]}), [name], probe=True)
        except subgraph.Untyped:
            return False
        return name in self._types(piece)

    def learn_all(self):
        """Ask for the types of all tensors at once: what was refused when it was built is read as a whole."""
        if self.built:
            try:
                self._types(self.model.cut(range(len(self.model.nodes)), probe=True))
            except subgraph.Untyped:
                pass

    def _types(self, piece):
        """The types that the library tells of a piece's tensors, noted in the model."""
        if not hasattr(self.adapter, "types"):
            return {}
        self.tries += 1
        path = self.job.path("piece.onnx")
        with open(path, "wb") as file:
            file.write(piece)
        try:
            types = self.adapter.types(self.job, path)
        except Failure:
            return {}
        finally:
            os.unlink(path)
        for name in types:
            if name not in self.model.types:
                self.model.learn(name, *types[name])
        return types

    def over(self):
        return time.monotonic() > self.until


class _Part(object):
    """A job for a piece: the same, but what it tells of stages goes nowhere."""

    def __init__(self, job, input):
        self.kind, self.input, self.dir, self.path = job.kind, input, job.dir, job.path

    def stage(self, name):
        return _Quiet()


class _Quiet(object):
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


class Search:
    """For one refused node. `file` holds the piece that was found last, `finished` whether nothing smaller is left."""

    def __init__(self, model, library, entry, tries, alike=()):
        self.model, self.library, self.entry, self.alike = model, library, entry, alike
        self.left = tries
        self.tries, self.file, self.finished = 0, None, False

    def smallest(self):
        """Indices of the nodes, or None when no piece was refused for the same reason."""
        for operators in self.alike:
            for nodes in alike(self.model, operators, self.entry["index"]):
                if not self._over() and self.refused(nodes):
                    return self._shrink(nodes)
        everything = set(range(len(self.model.nodes)))
        nodes = everything if self.entry["index"] is None else {self.entry["index"]}
        while not self.refused(nodes):
            if nodes == everything or self._over():
                return None
            # When all that leads to it is not enough, it takes something that comes after, or beside, the node.
            nodes = nodes | (self.model.producers(nodes) or everything)
        return self._shrink(nodes)

    def _shrink(self, nodes):
        """Leave out what can be left out, in ever smaller parts."""
        size = max(len(nodes) // 2, 1)
        while True:
            rest = self._furthest(nodes)
            for start in range(0, len(rest), size):
                if self._over():
                    return sorted(nodes)
                part = set(rest[start : start + size]) & nodes
                if part and part != nodes and self.refused(nodes - part):
                    nodes = nodes - part
            if size == 1:
                self.finished = True
                return sorted(nodes)
            size = max(min(size, len(nodes)) // 2, 1)

    def _furthest(self, nodes):
        """All but the refused node, those first that are most steps away from it; from the end, when none is named."""
        first = self.entry["index"]
        if first is None:
            return sorted(nodes, reverse=True)
        steps, edge, far = {first: 0}, {first}, 0
        while edge:
            far += 1
            edge = self.model.producers(edge) - set(steps)
            steps.update((index, far) for index in edge)
        return sorted(nodes - {first}, key=lambda index: (-steps.get(index, far + 1), index))

    def _over(self):
        return self.left <= 0 or self.library.over()

    def _same(self, entry):
        """Whether a refusal is the one looked for. A parser names operators of ONNX, a builder its own kinds of layer."""
        operator, reason = self._kind(entry)
        ours, mine = self._kind(self.entry)
        return reason == mine and (operator == ours or not (operator and ours) or self.library.built)

    def _kind(self, entry):
        """As `kind`, without the names of operators: some libraries list all that they refuse in one sentence."""
        operator, reason = kind(entry)
        names = sorted({node.operator for node in self.model.nodes}, key=len, reverse=True)
        reason = re.sub(r"(?<![\w.])(?:%s)(?![\w.])" % "|".join(map(re.escape, names)), "#", reason)
        return operator, re.sub(r"#(?:, #)+", "#", reason)

    def refused(self, nodes):
        """Whether the piece is refused as the whole was. A piece whose edge has no type cannot be asked about."""
        for name in self.model.ends(nodes):
            if name not in self.model.types and self.model.makers[name] != self.entry["index"]:
                self.library.learn(name)
        data = self._piece(nodes, False)
        if data is None:
            return False
        if self._ask(data):
            return True
        # An output of no known type: some libraries want its shape in its place, for others nothing then needs the node.
        other = self._piece(nodes, True)
        return other != data and self._ask(other)

    def _piece(self, nodes, probe):
        """The file of these nodes, or None when an edge of it has no type that can be known."""
        while True:
            try:
                return self.model.cut(nodes, probe=probe)
            except subgraph.Untyped as error:
                if not self.library.learn(error.name):
                    return None

    def _ask(self, data):
        self.left, self.tries = self.left - 1, self.tries + 1
        same = any(self._same(entry) for entry in self.library.refusals(data))
        if same:
            self.file = data
        return same
