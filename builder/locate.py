"""`enginematrix locate CELL`: the first tensor of a cell's model that goes wrong, and the smallest piece that shows it.

The reference of a tensor is ONNX Runtime's on the CPU, in FP32 and without optimisation, on the exported model, in the stack
`tools`; the engine is built anew by the cell's own adapter, with a few tensors among its outputs each time (locate_search.py says
which). Both run as jobs of workers, as the steps of a run do. docs/accuracy.md has the method.

What is found lies beside the cell's other files in `artifacts/located/<cell>/`, and counts for as long as the steps that it is
about have the same keys.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import lock, machine, pipeline
from builder.environment.session import WorkerDied
from builder.errors import InfrastructureError, UsageError
from builder.execute.gpus import Gpus, usable
from builder.execute.inputs import Inputs, on
from builder.execute.lost import no_evidence
from builder.execute.records import now
from builder.locate_kept import FOLDER, SCHEMA
from builder.locate_search import SUDDEN, Graph, Reading, Refused, Search, wrong
from builder.plan import Chain, Step, reconcile
from builder.project import utc
from builder.store import Store
from builder.values import Stack

if TYPE_CHECKING:
    from builder.execute.sessions import Sessions

USERS = 4
"""Tensors made of the wrong one that a piece takes in, at most."""
WIDEN = 4
"""How many times a piece that does not show the fault by itself is made larger, before all that leads to it is taken."""
DEEPER = 3
"""How many steps more of what is made of it are taken in after that, before the whole model is."""
_PIECE = {"subgraph.onnx": "model", "subgraph.npz": "inputs"}
METHOD = (
    "relative error |got - ref| / |ref| (Euclidean norms) against ONNX Runtime on the CPU, FP32 and without optimisation, on the "
    "exported model"
)


def locate(
    work: pipeline.Work, *, memory: int, tries: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Search in the one cell of `work`; the result as docs/report-schema.md has it (`located`), stored beside the cell.

    memory: bytes of marked tensors at a time; tries: engines that are built at most. Raises UsageError for a cell that has not
    run, or has no graph to look into; InfrastructureError where the search itself could not be done."""
    here = machine.read()
    store = Store(work.project.artifacts)
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    planner = pipeline.make_planner(work, locked, here)
    plan = planner.plan(work.cells)
    tools = planner.environment(work.spec.tools)
    reconcile(plan, store.light(), store.root / "objects", engines=False)
    (chain,) = plan.chains
    _possible(chain, tools)
    from builder.execute.locks import lock_folder
    from builder.execute.sessions import Sessions, inputs_of

    run = f"{utc(time.time())}-{secrets.token_hex(2)}-locate"
    started = time.monotonic()
    with pipeline.in_use(store):
        sessions = Sessions(
            lambda step: pipeline.realise(step, work, store), store.work(run, ""), inputs_of(plan, store)
        )
        try:
            gpus = Gpus(usable(here.gpus, os.environ), lock_folder)
            site = Site(store, chain, tools, sessions, run, gpu=bool(here.gpus), gpus=gpus)
            found = site.search(work.spec.tools, memory, tries, say)
            found["seconds"] = round(time.monotonic() - started, 2)
            _keep(store, chain, found, site.files)
        except WorkerDied as error:
            msg = f"the worker ended: {error}"
            raise InfrastructureError(msg) from error
        finally:
            sessions.stop()
            shutil.rmtree(store.root / "work" / run, ignore_errors=True)
    return found


def _possible(chain: Chain, tools: Step) -> None:
    """Raises UsageError, with what to do, for a cell in which nothing can be located."""
    cell = f"{chain.cell.id} ({chain.cell.slug})"
    if chain.suite is not None:
        msg = f"{cell} is a case of a suite, and is one operator already"
    elif chain.built_in is not None:
        msg = f"{cell} loads an engine that another stack built; locate in a cell of that stack"
    elif chain.engine.data["family"].takes != "onnx":
        msg = f"{cell}: engines of {chain.cell.engine.family} are not built from an ONNX file, so no tensor of it can be marked"
    elif tools.state == "skip":
        msg = f"{cell}: the stack for the reference cannot be made here: {tools.skipped}"
    elif chain.run.state == "skip" or chain.engine.state == "skip":
        msg = f"{cell}: its engine cannot run here: {chain.run.skipped or chain.engine.skipped}"
    elif chain.run.state != "stored":
        msg = f"{cell} has not run to its end; `enginematrix run --select '#{chain.cell.id}'` runs it, `show` says why"
    else:
        return
    raise UsageError(msg)


@dataclass
class Site:
    """The two environments, and what is put to them."""

    store: Store
    chain: Chain
    tools: Step
    sessions: Sessions
    run: str
    gpu: bool
    gpus: Gpus
    files: dict[str, Path] = field(default_factory=dict)
    """What is to be kept: name -> file."""
    numbers: int = 0
    bytes_of: dict[str, int] = field(default_factory=dict)
    noise: dict[str, float | None] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    """Tensor -> [dtype, shape], of the engine's model."""

    def search(
        self, tools: Stack, memory: int, tries: int, say: Callable[[str], None]
    ) -> dict[str, Any]:  # fmt: skip
        inputs = Inputs(self.store, 1)
        self.job = {**inputs.of(self.chain.build), "threads": 1}
        reference = inputs.record(self.chain.reference)
        stored = inputs.record(self.chain.run)["result"]["comparison"]
        label = next((entry["case"] for entry in stored["outputs"] if entry["verdict"] == "mismatch"), None)
        case = next((case for case in reference["cases"] if case["label"] == label), reference["cases"][0])
        self.label, self.case = case["label"], inputs.file(case["artifact"], self.chain.reference)
        export = inputs.record(self.chain.export)
        self.plain = inputs.graph(export, self.chain.export)
        self.plain_inputs = export["result"]["inputs"]
        self.plain_data = [Path(entry["path"]).name for entry in export.get("data", ())]
        recipe = self.chain.build.data["recipe"]
        precision = self.chain.build.data["precision"]
        self.tolerance = recipe.tolerance[precision]
        metric = recipe.data.get("metric")
        self.metric = {"name": metric["name"], "minimum": metric["minimum"].get(precision)} if metric else None

        outline = self._ask(
            self.tools,
            {
                "part": "outline",
                "plain": self.plain,
                "model": self.job["model"],
                "case": self.case,
                "inputs": self.job["inputs"],
            },
        )
        graph = Graph(nodes=outline["nodes"], pairs=[(first, second) for first, second in outline["pairs"]])
        self.graph, self.types = graph, dict(outline["types"])
        self.outputs = [str(one) for one in outline["outputs"]]
        try:
            base = self._measure([])
        except Refused as error:
            msg = f"the engine could not be built and run again: {error}"
            raise InfrastructureError(msg) from error
        output = max(base["outputs"], key=_badness)
        verdict = base["comparison"]["verdict"]
        limit, by = _limit(output, mismatch=verdict == "mismatch")
        name = str(output["name"])

        def measure(names: Sequence[str]) -> Reading:
            got = self._measure(names)
            say(f"{len(names)} tensors marked: {sum(wrong(e, limit) for e in got['tensors'].values())} wrong")
            now_ = next(entry for entry in got["outputs"] if entry["name"] == name)
            return Reading(output=now_, tensors=got["tensors"])

        search = Search(graph=graph, limit=limit, measure=measure, size=self._size, memory=memory, tries=tries)
        bad = wrong(output, limit)
        first = search.run(name) if bad else None
        if not bad:
            search.survey(name)
        found: dict[str, Any] = {
            "schema": SCHEMA, "cell": self.chain.cell.id, "when": now(), "method": METHOD, "reference": tools.id,
            "build": self.chain.build.key, "run": self.chain.run.key, "case": self.label, "precision": precision,
            "output": {**_brief(name, output), "verdict": verdict, "allowed": output["allowed"]},
            "limit": limit, "limit_by": by, "first": None, "subgraph": None, "confirmed": search.confirmed,
            "finished": search.finished, "engines": search.used + 1, "tensors": len(graph.pairs),
            "absorbed": search.absorbed, "left": [{"tensor": t, "why": why} for t, why in search.left.items()],
            "measured": [
                {**_brief(t, search.known[t]), "noise": self.noise.get(t), "operator": self._maker(outline, t)[1]}
                for t in sorted(search.known, key=graph.order.__getitem__)
            ],
        }  # fmt: skip
        if first is not None:
            entry = search.known.get(first) or output
            found["first"] = self._first(outline, search, first, entry)
            found["subgraph"] = self._piece(first, limit, say)
        return found

    def _first(self, outline: Mapping[str, Any], search: Search, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        node, operator = self._maker(outline, name)
        inputs = [
            {**_brief(one, search.known[one]), "noise": self.noise.get(one)}
            if one in search.known
            else {**_brief(one, _UNKNOWN), "noise": None}
            for one in self.graph.inputs(name)
        ]
        before = [one["error"] for one in inputs if one["error"] is not None]
        growth = entry["error"] / max(before) if entry["error"] is not None and before and max(before) else None
        return {
            **_brief(name, entry), "noise": self.noise.get(name), "node": node, "operator": operator, "inputs": inputs,
            "growth": growth, "sudden": bool(entry["broken"]) or growth is None or growth >= SUDDEN,
        }  # fmt: skip

    def _maker(self, outline: Mapping[str, Any], name: str) -> tuple[str, str]:
        """(node, operator) of the exported model that makes a tensor, else of the engine's."""
        found = outline["makers"].get(name)
        if found is None and (at := self.graph.maker.get(name)) is not None:
            found = [self.graph.nodes[at]["name"], self.graph.nodes[at]["operator"]]
        return (str(found[0]), str(found[1])) if found else ("", "")

    # Jobs -------------------------------------------------------------------------------------------------------

    def _measure(self, names: Sequence[str]) -> dict[str, Any]:
        """An engine with these tensors marked, held against the reference. Raises Refused."""
        values = self._reference(names)
        marks = [[name, self.graph.marks[name]] for name in names]
        given = {
            **self.job, "part": "engine", "marks": marks, "names": list(names), "case": self.case, "label": self.label,
            "tolerance": self.tolerance, "metric": self.metric,
        }  # fmt: skip
        got = self._ask(self.chain.engine, given, values)
        for name, place in marks:
            if place == name and (dtype := got["tensors"][name]["dtype"]) and not (self.types.get(name) or [None])[0]:
                self.types[name] = [dtype, None]
        return got

    def _reference(self, names: Sequence[str]) -> Path:
        """The file of the reference's values of these tensors, in this order."""
        given = {
            "part": "reference", "model": self.plain, "data": self.plain_data, "inputs": self.plain_inputs,
            "names": list(names), "case": self.case,
        }  # fmt: skip
        got = self._ask(self.tools, given)
        for name, about in got["tensors"].items():
            self.noise[name], self.bytes_of[name] = about["noise"], about["bytes"]
        return Path(self.last / got["values"])

    def _size(self, name: str) -> int:
        """Bytes of a tensor: as seen, else as its type says, a quarter of a mebibyte where that is not known."""
        if name in self.bytes_of:
            return self.bytes_of[name]
        shape = (self.types.get(name) or [None, None])[1]
        if shape and all(isinstance(size, int) for size in shape):
            total = 4
            for size in shape:
                total *= max(1, size)
            return total
        return 1 << 18

    def _piece(self, name: str, limit: float, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The smallest piece around the node that shows the fault on the reference's own values: the node alone, with what is
        made of it (libraries fuse across that), then with ever more of what leads to it. None where none could be cut."""
        best: dict[str, Any] | None = None
        tried: list[list[int]] = []
        for indices, ends in self._pieces(name):
            if indices in tried:
                continue
            tried.append(indices)
            got = self._cut(name, indices, ends)
            if got is None:
                continue
            shows = wrong(got, limit)
            say(f"a piece of {len(indices)} of {got['of']} nodes: {'wrong' if shows else 'right'}")
            if best is None or shows:
                best = {key: got[key] for key in ("nodes", "operators", "of", "error", "broken", "reason")}
                best["reproduces"] = shows
                self.files = {key: _aside(self.last / got[it]) for key, it in _PIECE.items()}
            if shows:
                break
        return best

    def _pieces(self, name: str) -> Iterator[tuple[list[int], list[str]]]:
        """(nodes, tensors that it gives) of ever larger pieces."""
        graph = self.graph
        users = graph.users(name, (one for one, _ in graph.pairs))[:USERS]
        edge = set(graph.inputs(name))
        yield graph.between(name, edge), [name]
        beside = {one for user in users for one in graph.inputs(user)} - {name}
        for turn in range(WIDEN):
            yield self._with(name, users, edge | (beside - graph.upstream(name)) | (beside & edge)), [name, *users]
            for _ in range(2**turn):
                edge = {one for it in edge for one in graph.inputs(it)}
        yield self._with(name, users, set()), [name, *users]
        for _ in range(DEEPER):
            users += [one for one, _ in graph.pairs if one not in users and set(users) & set(graph.inputs(one))]
            yield self._with(name, users, set()), [name, *users]
        yield list(range(len(graph.nodes))), [name, *self.outputs]  # the model, as it was seen to be wrong

    def _with(self, name: str, users: Sequence[str], edge: set[str]) -> list[int]:
        return sorted({index for one in (name, *users) for index in self.graph.between(one, edge)})

    def _cut(self, name: str, indices: Sequence[int], ends: Sequence[str]) -> dict[str, Any] | None:
        made = {out for index in indices for out in self.graph.nodes[index]["outputs"]}
        taken = {one for index in indices for one in self.graph.nodes[index]["inputs"]} - made
        names = list(dict.fromkeys([name, *sorted(taken & set(self.graph.order))]))
        values = self._reference(names)
        given = {
            **self.job, "part": "cut", "indices": list(indices), "tensor": name, "names": names,
            "ends": [self.graph.marks.get(one, one) for one in ends], "case": self.case,
            "types": {k: v for k, v in self.types.items() if v[0]},
        }  # fmt: skip
        try:
            got = self._ask(self.chain.engine, given, values)
        except Refused:
            return None
        return None if "untyped" in got else got

    def _ask(self, environment: Step, given: dict[str, Any], values: Path | None = None) -> dict[str, Any]:
        """The result of a job. Raises Refused where the library did not do it, InfrastructureError where that says nothing."""
        self.numbers += 1
        folder = self.sessions.jobs_of(environment) / f"locate-{self.numbers}"
        folder.mkdir(parents=True)
        if values is not None:  # where the jobs of its environment may read
            os.link(values, folder / "reference.npz")
            given = {**given, "values": str(folder.resolve() / "reference.npz")}
        step = self.chain.build
        cuda = self.gpu and environment.data["family"].device == "cuda"
        from builder.execute.locks import machine_lock

        session = self.sessions.get(environment, gpu=cuda)
        with contextlib.ExitStack() as stack:
            stack.enter_context(machine_lock(exclusive=False))  # a timing has the machine to itself
            uuid = stack.enter_context(self.gpus.one(lambda: False)) if cuda and len(self.gpus) else None
            end = session.run(
                "locate",
                on(uuid, given),
                folder,
                seconds=max(step.seconds, 120.0),
                memory=None if cuda else step.memory,
            )
        self.last = folder
        if lost := no_evidence(end, stopped=False):
            msg = f"locate: {lost}"
            raise InfrastructureError(msg)
        output = end.output if isinstance(end.output, dict) else {}
        if output.get("ok") and isinstance(output.get("result"), dict):
            result: dict[str, Any] = output["result"]
            return result
        error = output.get("error") or {}
        text = str(error.get("message") or end.end)
        if environment is self.tools or error.get("type") == "BadInput":
            msg = f"the reference could not be computed: {text}" if environment is self.tools else text
            raise InfrastructureError(msg)
        raise Refused(text.splitlines()[0][:300])


_UNKNOWN: Mapping[str, Any] = {"error": None, "wrong": False, "reason": "not measured", "broken": 0, "max_abs": None,
                               "scale": None}  # fmt: skip


def _brief(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"tensor": name, **{key: entry[key] for key in ("error", "wrong", "reason", "broken", "max_abs", "scale")}}


def _badness(entry: Mapping[str, Any]) -> float:
    if entry["wrong"] or entry["error"] is None:
        return float("inf")
    return float(entry["error"]) / (entry["allowed"] or 1.0)


def _limit(output: Mapping[str, Any], *, mismatch: bool) -> tuple[float, str]:
    """(limit, where it comes from): the largest error that an output within the recipe's tolerance can have; where the output
    itself is below that (single elements or the metric fail it), half of its own error."""
    allowed, error = output["allowed"], output["error"]
    if allowed is None:
        return 1e-3, "no tolerance of elements or cosine: 1e-3"
    if mismatch and error is not None and not output["wrong"] and 0 < error <= allowed:
        return float(
            error
        ) / 2, f"half of the output's own error, which is within {allowed:.3g}: what fails is single values"
    return float(allowed), "the largest error of an output within the recipe's tolerance"


def _aside(path: Path) -> Path:
    """A job's file under a name that no later job takes."""
    return path.rename(path.with_name(f"kept-{path.name}")) if path.exists() else path


def _keep(store: Store, chain: Chain, found: dict[str, Any], files: Mapping[str, Path]) -> None:
    """Put a result and its files in the place of an earlier one's."""
    root = store.root / FOLDER
    folder, beside = root / chain.cell.id, root / f".{chain.cell.id}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, path in files.items():
        shutil.move(path, beside / name)
    if found["subgraph"] is not None:
        found["subgraph"].update(
            path=f"{FOLDER}/{chain.cell.id}/subgraph.onnx", inputs=f"{FOLDER}/{chain.cell.id}/subgraph.npz"
        )
    store.write_text(beside / "located.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    with store.lock(f"{FOLDER}-{chain.cell.id}"):
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
