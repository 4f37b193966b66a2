"""What the facts say of a cell before it runs: supported, unsupported or unknown, rule by rule, each with its fact.

A rule asks the catalog one question of a cell ("does onnxruntime 1.16.3 take ONNX opset 21?"). Cells that ask the same share
one claim, which is made once. What is not recorded is `unknown`, and is tried. A claim that a run has refuted says `unknown`
too: observation beats documentation. builder/predict_score.py holds claims against what happened.

Raises SpecErrors, from anything that reads the catalog, when its files are damaged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from builder import knowledge, versions
from builder.answers import Answer, Fact, find, minor
from builder.facts_records import CATALOG, Catalog, Entry, OnnxRuntime, OpenVINO, TensorRT, TensorRTRTX, Toolkit
from builder.knowledge_exports import Written
from builder.knowledge_hardware import Runs
from builder.machine import Machine
from builder.values import Cell, Family, Stack, digest

State = Literal["supported", "unsupported", "unknown"]
RULES = MappingProxyType({
    "wheel": "the package has a wheel for this Python",
    "export-opset": "the exporter writes the opset that is asked for",
    "opset": "the engine takes the opset that is written",
    "ir": "the engine takes the ONNX IR version that is written",
    "numpy": "the engine's package takes this NumPy",
    "gpu": "the engine supports this compute capability",
    "precision": "the release has the precision on this compute capability",
    "driver": "the driver runs programs of this CUDA version",
    "portable": "an engine of that stack is loaded and run by this one",
})  # fmt: skip
"""Rule -> what it claims, in the order in which a cell would meet them."""
_PLACES = {rule: number for number, rule in enumerate(RULES)}
_READ = ("opset", "torch-exporter", "precision", "target")
"""The options that a rule reads: cells that differ in others are predicted alike."""
_KINDS = {"torchscript": "script", "dynamo": "graph"}
_EXPORTERS = {"torch": "torch", "tensorflow": "tf2onnx", "onnx": "onnx"}
"""Module of worker/exporters/ -> the package that writes the file."""
_TABLES: Mapping[str, type[Entry]] = {
    "onnxruntime": OnnxRuntime, "openvino": OpenVINO, "tensorrt": TensorRT, "tensorrt-rtx": TensorRTRTX,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one rule says of all cells that ask it the same."""

    rule: str
    subject: str
    """The question in words: "onnxruntime 1.16.3, ONNX opset 21"."""
    state: State
    """As the facts have it."""
    because: str
    facts: tuple[Fact, ...] = ()
    change: str = ""
    """Of an unsupported one: what would have to change."""
    refuted: str = ""
    """What was observed against it."""
    project: str = ""
    """Of `wheel`: the family of the stack that it is about."""
    opsets: tuple[int, ...] = ()
    """Of `opset` and `ir`: what the exporter was taken to write. A file of another opset shows nothing of it."""

    @property
    def meaning(self) -> str:
        return RULES[self.rule]

    @property
    def predicts(self) -> State:
        """What is expected of a cell: a fact that a run has refuted says nothing any more."""
        return "unknown" if self.refuted else self.state

    @cached_property
    def key(self) -> str:
        """Names the claim as the facts make it: a corrected fact makes another."""
        return digest([self.rule, self.subject, self.state, self.because])[:16]

    def as_dict(self) -> dict[str, Any]:
        facts = [
            {"text": it.text, "doubt": it.doubt, "sources": list(it.sources), "where": str(it.where)}
            for it in self.facts
        ]
        return {
            "key": self.key, "rule": self.rule, "subject": self.subject, "state": self.state, "because": self.because,
            "change": self.change or None, "refuted": self.refuted or None, "facts": facts,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Every claim that concerns a cell, in the order of RULES."""

    claims: tuple[Claim, ...]

    @property
    def against(self) -> Claim | None:
        """The first claim that says it cannot work."""
        return next((claim for claim in self.claims if claim.predicts == "unsupported"), None)

    @property
    def state(self) -> State:
        """`supported` where every rule that applies says so; no rule that applies says nothing."""
        if self.against is not None:
            return "unsupported"
        return "supported" if self.claims and all(claim.predicts == "supported" for claim in self.claims) else "unknown"


class Predictor:
    """Predicts cells. One instance a plan, so that each question is asked once."""

    def __init__(
        self, families: Mapping[str, Family], machine: Machine, *, refuted: Mapping[str, str] = MappingProxyType({}),
        catalog: Catalog = CATALOG,
    ) -> None:  # fmt: skip
        """`refuted`: key of a claim -> what was observed against it."""
        self.families = families
        self.machine = machine
        self.refuted = refuted
        self.catalog = catalog
        self._claims: dict[tuple[str, str], Claim] = {}
        self._wrote: dict[str, Answer[Written]] = {}
        self._predictions: dict[Hashable, Prediction] = {}

    def predict(self, cell: Cell) -> Prediction:
        """Raises SpecErrors."""
        question = (cell.engine.identity, cell.exporter.identity, *map(cell.options.get, _READ))
        if question not in self._predictions:
            found = sorted(self._applying(cell), key=lambda claim: _PLACES[claim.rule])
            self._predictions[question] = Prediction(claims=tuple(dict.fromkeys(found)))
        return self._predictions[question]

    def _applying(self, cell: Cell) -> Iterator[Claim]:
        options = cell.options
        for stack in (cell.exporter, cell.engine):
            yield from self._wheels(stack)
        written, told = self._written(cell)
        if told is not None:
            yield told
        name, version = self._engine(cell.engine)
        if not name:
            return
        if written is not None and written.opsets and name in knowledge.ENGINES:
            yield self._opset(name, version, written.opsets)
        if written is not None and written.ir is not None:
            yield from self._ir(name, version, written.ir, written.opsets)
        if numpy := cell.engine.value("numpy"):
            yield self._numpy(name, version, numpy)
        if self.families[cell.engine.family].device == "cuda":
            yield from self._hardware(name, version, cell.engine, options)

    def _once(self, rule: str, subject: str, ask: Callable[[], Claim]) -> Claim:
        known = self._claims.get((rule, subject))
        if known is None:
            known = ask()
            if against := self.refuted.get(known.key):
                known = replace(known, refuted=against)
            self._claims[rule, subject] = known
        return known

    def _judged(
        self, rule: str, subject: str, ask: Callable[[], Answer[bool]], change: Callable[[], str], *, project: str = "",
        opsets: Sequence[int] = (),
    ) -> Claim:  # fmt: skip
        def claim() -> Claim:
            answer = ask()
            because = "; ".join(dict.fromkeys(it.text for it in answer.facts))
            plain = Claim(
                rule=rule, subject=subject, state="supported", because=because, facts=answer.facts, project=project,
                opsets=tuple(opsets),
            )  # fmt: skip
            if answer.value is None:
                return replace(plain, state="unknown", because=answer.unknown)
            return plain if answer.value else replace(plain, state="unsupported", change=change())

        return self._once(rule, subject, claim)

    # Rules ------------------------------------------------------------------------------------------------------

    def _wheels(self, stack: Stack) -> Iterator[Claim]:
        """Of the package that a family is named after, where the catalog has what PyPI answered for this very release. Images
        come with their packages."""
        project, python = stack.family, stack.fields.get("python", "")
        listed = self.catalog.projects.get(project)
        version = stack.fields.get(project, "")
        if listed is None or version not in listed.releases or not listed.releases[version].python or not python:
            return
        names = {re.split(r"[^\w.-]", it.line.strip())[0].lower().replace("_", "-") for it in stack.requirements}
        if names and not project.startswith("tensorrt") and names.isdisjoint({project, listed.package}):
            return  # a family of that name that installs another package (onnxruntime-gpu): not what PyPI was asked about

        def ask() -> Answer[bool]:
            found = knowledge.wheel(project, version, catalog=self.catalog)
            if found.value is not None and python in found.value.python:
                return Answer(value=True, facts=found.facts)
            table = self.catalog.table(_TABLES[project]) if project in _TABLES else {}
            if python not in self._pythons and not getattr(find(table, minor(version)), "python", ()):
                return Answer(value=None, facts=found.facts, unknown=f"nobody asked PyPI about Python {python}")
            return Answer(value=False, facts=found.facts)

        def change() -> str:
            fitting = [name for name, release in listed.releases.items() if python in release.python]
            nearest = _nearest(version, fitting)
            pythons = ", ".join(listed.releases[version].python)
            return f"take Python {pythons}" + (f", or {project} {nearest}" if nearest else "")

        yield self._judged("wheel", f"{project} {version}, Python {python}", ask, change, project=project)

    @cached_property
    def _pythons(self) -> frozenset[str]:
        """Those that the listings of PyPI were made under: of others they say nothing."""
        every = (release for listed in self.catalog.projects.values() for release in listed.releases.values())
        return frozenset(python for release in every for python in release.python)

    def _written(self, cell: Cell) -> tuple[Written | None, Claim | None]:
        """What the engine is going to meet, as far as it is known, and what is to be said of the exporter."""
        asked = cell.options.get("opset", "")
        exporter = _EXPORTERS.get(self.families[cell.exporter.family].exporter or "")
        version = _pinned(cell.exporter, exporter) if exporter else ""
        if not exporter or not version or not re.fullmatch(r"[1-9][0-9]{0,3}", asked):
            return None, None
        kind = _KINDS.get(cell.options.get("torch-exporter", ""), "")
        subject = f"{exporter} {version}{f' ({kind})' if kind else ''}, ONNX opset {asked}"
        if subject not in self._wrote:
            self._wrote[subject] = knowledge.written(exporter, version, int(asked), kind=kind, catalog=self.catalog)
        answer = self._wrote[subject]

        def ask() -> Answer[bool]:
            if answer.value is None or not (answer.value.refused or answer.value.opset == int(asked)):
                return Answer(value=None, facts=answer.facts, unknown=answer.unknown)
            return Answer(value=not answer.value.refused, facts=answer.facts)

        def change() -> str:
            fitting = [key for key in self.catalog.table(knowledge.EXPORTERS[exporter]) if writes(key)]
            nearest, known = (
                _nearest(version, fitting),
                knowledge.opsets(exporter, version, exporter=kind, catalog=self.catalog),
            )
            last = known.value.last if known.value else None
            lower = f"ask for opset {last} or lower" if last and last < int(asked) else "ask for another opset"
            return lower + (f", or take {exporter} {nearest}" if nearest else "")

        def writes(key: str) -> bool:
            found = knowledge.written(exporter, key, int(asked), kind=kind, catalog=self.catalog)
            return found.value is not None and found.value.opset == int(asked)

        told = self._judged("export-opset", subject, ask, change)
        return answer.value, told

    def _engine(self, stack: Stack) -> tuple[str, str]:
        """The library that takes the ONNX file, and its version."""
        if version := stack.value("onnxruntime-gpu"):  # the same releases, built for CUDA
            return "onnxruntime", version
        for name in ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"):
            if version := stack.value(name):
                return name, version
        return "", ""

    def _opset(self, name: str, version: str, opsets: Sequence[int]) -> Claim:
        """Of every opset that the file may have: what holds of some only is not known of the cell."""

        def ask() -> Answer[bool]:
            return _alike(knowledge.takes_opset(name, version, opset, catalog=self.catalog) for opset in opsets)

        def change() -> str:
            most = max(opsets)
            taken = self._release(
                name, version, lambda key: knowledge.takes_opset(name, key, most, catalog=self.catalog)
            )
            known = knowledge.opsets(name, version, catalog=self.catalog).value
            lower = f"export with opset {known.last} or lower" if known and known.last and known.last < most else ""
            return ", or ".join(filter(None, (lower, taken))) or "take another opset or release"

        subject = f"{name} {version}, ONNX opset {' or '.join(map(str, opsets))}"
        return self._judged("opset", subject, ask, change, opsets=opsets)

    def _ir(self, name: str, version: str, ir: int, opsets: Sequence[int]) -> Iterator[Claim]:
        highest = knowledge.ir(name, version, catalog=self.catalog)
        if highest.value is None and not highest.facts:
            return  # nothing is recorded of this engine at all

        def ask() -> Answer[bool]:
            value = None if highest.value is None else ir <= highest.value
            return Answer(value=value, facts=highest.facts, unknown=highest.unknown)

        def takes(key: str) -> Answer[bool]:
            found = knowledge.ir(name, key, catalog=self.catalog)
            return Answer(value=found.value is not None and ir <= found.value)

        def change() -> str:
            return ", or ".join(filter(None, ("export with a lower opset", self._release(name, version, takes))))

        yield self._judged("ir", f"{name} {version}, ONNX IR {ir}", ask, change, opsets=opsets)

    def _numpy(self, name: str, version: str, numpy: str) -> Claim:
        def ask() -> Answer[bool]:
            return knowledge.takes_numpy(name, version, numpy, catalog=self.catalog)

        def takes(key: str) -> Answer[bool]:
            return knowledge.takes_numpy(name, key, numpy, catalog=self.catalog)

        def change() -> str:
            return ", or ".join(filter(None, ("take another NumPy", self._release(name, version, takes))))

        return self._judged("numpy", f"{name} {version}, NumPy {numpy}", ask, change)

    def _hardware(self, name: str, version: str, stack: Stack, options: Mapping[str, str]) -> Iterator[Claim]:
        """By the target where there is one (built here, for there), else by this machine's GPUs. Which of several kinds an
        engine will be built on is CUDA's choice, so that what holds of some only is not known of the cell."""
        target = options.get("target", "")
        named = _capability(target)
        mine = versions.ordered({gpu.compute_capability for gpu in self.machine.gpus})
        capabilities = [named] if named else [] if target else mine
        if capabilities and name in ("tensorrt", "tensorrt-rtx"):
            yield self._gpu(name, version, capabilities)
            yield self._precision(name, version, options.get("precision", "fp32"), capabilities)
        if not named and self.machine.gpus and self.machine.driver and (cuda := stack.value("cuda")):
            # NVIDIA's images bring the forward compatibility package; what pip installs does not.
            yield self._driver(self.machine.driver, cuda, "venv" not in self.families[stack.family].isolation)

    def _gpu(self, name: str, version: str, capabilities: Sequence[str]) -> Claim:
        ask = knowledge.tensorrt_takes if name == "tensorrt" else knowledge.tensorrt_rtx_takes

        def takes(key: str) -> Answer[bool]:
            return _alike(ask(key, capability, catalog=self.catalog) for capability in capabilities)

        return self._judged(
            "gpu", f"{name} {version}, compute capability {' or '.join(capabilities)}", lambda: takes(version),
            lambda: self._release(name, version, takes) or "take another GPU",
        )  # fmt: skip

    def _precision(self, name: str, version: str, precision: str, capabilities: Sequence[str]) -> Claim:
        """What the hardware lacks, nothing has. That it has it says enough of TensorRT, whose support matrix is where the
        catalog has it from; of TensorRT for RTX it is not recorded which operators a release has in which precision."""

        def ask() -> Answer[bool]:
            found = _alike(knowledge.precision(it, precision, catalog=self.catalog) for it in capabilities)
            if name == "tensorrt" or not found.value:
                return found
            unknown = f"the hardware has {precision}; which operators {name} {version} has in it is not recorded"
            return Answer(value=None, facts=found.facts, unknown=unknown)

        return self._judged(
            "precision", f"{name} {version}, {precision}, compute capability {' or '.join(capabilities)}", ask,
            lambda: f"take a GPU that has {precision}, or another precision",
        )  # fmt: skip

    def _driver(self, driver: str, cuda: str, compat: bool) -> Claim:
        names = {gpu.name for gpu in self.machine.gpus}
        kinds = {it.kind for name in names for it in knowledge.gpu(name, catalog=self.catalog).value or ()}
        # Of a major release alone, its first toolkit is the least that can be meant.
        known = [key for key in self.catalog.table(Toolkit) if key.split(".")[0] == cuda]
        toolkit = known[0] if known else cuda

        def ask() -> Answer[bool]:
            found = knowledge.driver_runs(driver, toolkit, *kinds if len(kinds) == 1 else (), catalog=self.catalog)
            if found.value is Runs.FORWARD and not compat:
                unknown = f"driver {driver} runs CUDA {toolkit} with the forward compatibility package alone"
                return Answer(value=None, facts=found.facts, unknown=unknown)
            value = None if found.value is None else found.value is not Runs.NO
            return Answer(value=value, facts=found.facts, unknown=found.unknown)

        return self._judged(
            "driver", f"driver {driver}, CUDA {cuda}{' in an image of NVIDIA' if compat else ''}", ask,
            lambda: "move the driver to a newer one, or take an older CUDA",
        )  # fmt: skip

    def _release(self, name: str, version: str, takes: Callable[[str], Answer[bool]]) -> str:
        """The nearest release that the facts allow, as advice."""
        fitting = [key for key in self.catalog.table(_TABLES[name]) if takes(key).value]
        nearest = _nearest(version, fitting)
        return f"take {name} {nearest}" if nearest else ""


def predict(cells: Iterable[Cell], predictor: Predictor) -> dict[str, Prediction]:
    """Cell id -> prediction. Raises SpecErrors."""
    return {cell.id: predictor.predict(cell) for cell in cells}


def _alike(answers: Iterable[Answer[bool]]) -> Answer[bool]:
    """One answer to a question that was asked of several, any of which may be the one: theirs where they agree."""
    found = list(answers)
    facts = tuple(dict.fromkeys(it for answer in found for it in answer.facts))
    values = {answer.value for answer in found}
    unknown = next((answer.unknown for answer in found if answer.unknown), "")
    if len(values) > 1:
        return Answer(value=None, facts=facts, unknown=unknown or "it takes one of them and not the other")
    return Answer(value=values.pop(), facts=facts, unknown=unknown)


def _nearest(version: str, fitting: Iterable[str]) -> str:
    """The oldest of those newer than a version, else the newest of those older; '' if there is none."""
    mine, known = versions.version(version), versions.ordered(fitting)
    newer = [key for key in known if mine is not None and (it := versions.version(key)) is not None and it > mine]
    return newer[0] if newer else known[-1] if known else ""


def _pinned(stack: Stack, package: str) -> str:
    """The version of a package that a stack's own requirements name exactly; '' if they do not."""
    if found := stack.value(package):
        return found
    for requirement in stack.requirements:
        if match := re.fullmatch(rf"{re.escape(package)}\s*==\s*([0-9][0-9a-z.+]*)", requirement.line.strip()):
            return match[1]
    return ""


def _capability(target: str) -> str:
    """The compute capability that a target names: sm89 -> 8.9; '' for other targets (`native`)."""
    match = re.fullmatch(r"sm_?([1-9][0-9]?)([0-9])[a-f]?", target)
    return f"{match[1]}.{match[2]}" if match else ""
