"""Cells -> steps, each made once however many cells need it, and what of them is already done.

A step's key is the hash of exactly what can change its bytes: what is installed (the stack's pins), its input artifacts,
the options it reads, the worker's code that serves it, and for what depends on it the machine. Keys are resolved
forwards, because an input's hash is known only when the step that makes it is done (or stored); what must run is found
backwards from what is wanted, so that a missing intermediate file matters only when something needs it.

Starts nothing: planning needs neither network, nor Docker, nor GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from builder import calibration, fit, portability_grid
from builder.isolation import Isolation, Realised, choose
from builder.lock import Lock, Pins, data_package
from builder.machine import Machine
from builder.store import Light
from builder.suite import Suite
from builder.values import Cell, Docker, Family, Recipe, Stack, Takes, digest

if TYPE_CHECKING:
    from builder.predict import Claim
    from builder.render import Rendered

Kind = Literal[
    "environment", "obtain", "reference", "export", "calibrate", "convert", "build", "run", "measure", "speedup",
    "suite", "conform",
]  # fmt: skip
KINDS: tuple[Kind, ...] = (
    "environment", "obtain", "reference", "export", "calibrate", "convert", "build", "run", "measure", "speedup",
    "suite", "conform",
)  # fmt: skip
State = Literal["stored", "failed", "run", "wait", "skip"]

#: How timings are taken (DESIGN: warm-up, windows until the last three medians agree within 5 %).
METHOD = {
    "warmup_seconds": 1.0,
    "warmup_runs": 10,
    "window_seconds": 0.5,
    "window_runs": 25,
    "windows": 10,
    "agree": 0.05,
}

#: Option axes that no engine build reads: they shape the exported file, or are passed in another way.
_NOT_ENGINE = frozenset({"opset", "precision", "shapes", calibration.AXIS})


@dataclass(eq=False, kw_only=True)
class Step:
    """One unit of work. Mutable while it is planned and executed; compared by identity."""

    kind: Kind
    name: str
    stack: Stack | None
    static: str
    """Digest of everything in the key but the needs' outputs."""
    needs: tuple[Step, ...]
    """Steps whose outputs it reads. Its environment is not among them: it is demanded only when the step runs."""
    environment: Step | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the executor needs to make the job's input: recipe, options, precision."""
    seconds: float = 120.0
    memory: int = 8 << 30
    retry: int = 0
    priority: int = 0
    key: str = ""
    state: State = "wait"
    output: str = ""
    mark: str = ""
    """The run that made its record: a step that was run again has another."""
    why: str = ""
    """Why it will run, for `plan --explain`."""
    skipped: str = ""
    """Why this machine cannot run it."""
    wanted: bool = False

    @property
    def done(self) -> bool:
        return self.state in ("stored", "failed", "skip")

    def resolve_key(self) -> bool:
        """Compute the key if every need has an output; whether it has one now."""
        if not self.key and all(need.output for need in self.needs):
            text = "\0".join([self.kind, self.static, *(need.output for need in self.needs)])
            self.key = hashlib.sha256(text.encode()).hexdigest()
        return bool(self.key)


@dataclass(kw_only=True)
class Chain:
    """The steps of one cell, in order. None where the cell has no such step."""

    cell: Cell
    exporter: Step
    engine: Step
    obtain: Step | None
    reference: Step
    export: Step
    convert: Step | None
    build: Step
    run: Step
    measure: Step | None
    speedup: Step | None = None
    """The engine against its framework's baseline, where it is timed and there is one. It decides no cell."""
    no_baseline: str = ""
    """Why there is none."""
    built_in: Step | None = None
    """The environment that the engine was built in, of a cell of the portability grid: `engine` then is where it is loaded."""
    suite: Suite | None = None
    """Whose case the cell is: then `export` (and `reference`) is the step that exports all cases, `build` (and `run`) the
    one that runs those of the shard."""
    against: Claim | None = None
    """The fact by which the cell is left alone, unless its steps are done already."""

    @property
    def left_alone(self) -> bool:
        """Whether it is predicted not to work and was not tried either. What became of its reference says nothing of it."""
        return self.against is not None and not any(
            step.state == "failed" or (step is self.build and step.done)
            for step in self.steps()
            if step is not self.reference
        )

    def steps(self) -> Iterator[Step]:
        """In the order in which a failure is reported: the first that failed is the cell's."""
        if self.suite is not None:
            yield from (self.exporter, self.engine, self.export, self.build)
            return
        for step in (
            self.exporter, self.built_in, self.engine, self.obtain, self.export, self.calibrate, self.convert, self.build,
            self.reference, self.run, self.measure, self.speedup,
        ):  # fmt: skip
            if step is not None:
                yield step

    @property
    def calibrate(self) -> Step | None:
        """The step that made the table of ranges from which the graph was quantised."""
        needs = self.convert.needs if self.convert is not None else ()
        return next((need for need in needs if need.kind == "calibrate"), None)

    def key(self) -> str:
        """Of the cell's result: every step it is made of, with what became of it."""
        parts = [
            f"{step.kind}:{step.key or step.static}:{step.state}{step.skipped}:{step.output}:{step.mark}"
            for step in self.steps()
        ]
        against = [self.against.key] if self.against is not None and self.left_alone else []
        return digest([self.cell.id, bool(self.measure), *parts, *against])


@dataclass(kw_only=True)
class Plan:
    chains: list[Chain]
    steps: list[Step]
    """Each once, needs before those that need them."""

    def todo(self) -> list[Step]:
        return [step for step in self.steps if step.wanted and step.state in ("run", "wait")]

    def environments(self) -> list[Step]:
        """Those that something to run is run in, made before or not."""
        busy = {step if step.kind == "environment" else step.environment for step in self.todo()}
        return [step for step in self.steps if step in busy and not step.skipped]

    def counts(self) -> dict[str, dict[str, int]]:
        """kind -> {"total", "run", "stored"}."""
        out: dict[str, dict[str, int]] = {}
        for step in self.steps:
            row = out.setdefault(step.kind, {"total": 0, "run": 0, "stored": 0})
            row["total"] += 1
            row["run"] += step.wanted and not step.done
            row["stored"] += step.state in ("stored", "failed")
        return out


@dataclass(frozen=True, kw_only=True)
class Code:
    """Hashes of the worker's code by what it serves."""

    common: str
    exporters: str
    adapters: Mapping[str, str]
    compare: str
    timing: str
    conform: str = ""
    suite: str = ""

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Code:
        """From file -> hash (`environment.worker_hashes`)."""
        adapters = {name[9:-3]: value for name, value in files.items() if name.startswith("adapters/")}
        owners = tuple(name for name in adapters if name.endswith("_") and not name.startswith("_"))
        shared = {name: value for name, value in adapters.items() if not name.startswith(owners)}
        special = ("compare.py", "picture.py", "timing.py", "locate.py", "locate_model.py")
        return cls(
            common=digest(
                {k: v for k, v in files.items() if "/" not in k and k not in special and not k.startswith("conform")}
            ),
            conform=digest({k: v for k, v in files.items() if k.startswith("conform") and k != "conform_export.py"}),
            suite=digest({k: v for k, v in files.items() if k in ("conform_export.py", "conform_data.py")}),
            exporters=digest({k: v for k, v in files.items() if k.startswith("exporters/")}),
            adapters={name: digest([shared, value]) for name, value in adapters.items() if name not in shared},
            compare=digest([files.get("compare.py", ""), files.get("picture.py", "")]),
            timing=files.get("timing.py", ""),
        )

    def adapter(self, name: str) -> str:
        """An adapter's modules are those of its name, of its name with an underscore (`onnxruntime_.py` never shadows a
        library), those that go on from there (`onnxruntime_profile.py`), and an adapter that it goes on from
        (`torch_tensorrt_.py` from `torch_.py`). Modules of no adapter (`cuda.py`) are in the hash of every one."""
        mine = {
            file: value
            for file, value in self.adapters.items()
            if file == name or file.startswith(name + "_") or (file.endswith("_") and name.startswith(file))
        }
        return digest(mine or dict(self.adapters))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an engine's family asks of an export besides the recipe's options."""

    takes: Takes
    precision: str = ""
    """Where the exporter itself writes it into the file (tflite), else ''."""
    mode: str = ""
    """How it quantises, for int8: a mode of `calibration`."""

    @property
    def calibrated(self) -> bool:
        """Whether it reads the calibration inputs that the reference made."""
        return self.precision == "int8" and self.mode != "dynamic"

    def words(self) -> list[str]:
        """For names and keys; none for plain ONNX."""
        return [word for word in (self.takes, self.precision, self.mode) if word and self.takes != "onnx"]


class Planner:
    """Makes the steps. One instance a plan."""

    def __init__(
        self,
        *,
        families: Mapping[str, Family],
        recipes: Mapping[str, Recipe],
        reference_stacks: Mapping[str, Stack],
        tools: Stack | None,
        lock: Lock,
        machine: Machine,
        code: Code,
        isolation: Isolation = "venv",
        docker: bool = False,
        platform: str = "linux/amd64",
        images: Path | None = None,
        refused: Mapping[str, str] = MappingProxyType({}),
        settings: Docker | None = None,
        against: Mapping[str, Claim] = MappingProxyType({}),
        suites: Mapping[str, Suite] = MappingProxyType({}),
        quantizers: Mapping[str, Stack] = MappingProxyType({}),
    ) -> None:
        """`docker`: whether a Docker engine may answer here; `images`: the folder of the families, for their templates;
        `refused`: stacks whose images this machine has no room for -> why; `settings`: the limits of containers;
        `against`: cells that are not to be tried -> the fact that says that they cannot work; `quantizers`: value of the axis
        `quantization` -> the stack that does it, where that is not `tools`."""
        self.families = families
        self.recipes = recipes
        self.reference_stacks = reference_stacks
        self.tools = tools
        self.lock = lock
        self.machine = machine
        self.code = code
        self.isolation: Isolation = isolation
        self.docker = docker
        self.platform = platform
        self.images = images
        self.refused = refused
        self.settings = settings or Docker()
        self.against = against
        self.suites = suites
        self.quantizers = quantizers
        self.steps: dict[tuple[Any, ...], Step] = {}
        self._statics: dict[tuple[Any, ...], str] = {}

    def plan(self, cells: Iterable[Cell]) -> Plan:
        chains = [self._suite(cell) if cell.model in self.suites else self._chain(cell) for cell in cells]
        return Plan(chains=chains, steps=list(self.steps.values()))

    def _loaded_elsewhere(self, cell: Cell) -> Chain:
        """The chain of a cell of the portability grid: all steps of the cell that builds its engine, but for the last, which
        loads and runs it in the other stack."""
        ordinary = portability_grid.ordinary(cell)
        chain = self._chain(ordinary)
        recipe, family = self.recipes[cell.model], self.families[cell.engine.family]
        engine = self._environment(cell.engine)
        if engine is not chain.engine:
            precision = cell.options.get("precision", "fp32")
            run = self._run("run", cell, recipe, family, chain.build, chain.export, chain.reference, precision, engine)
        else:
            run = chain.run
        for step in (engine, run):
            step.seconds = max(step.seconds, cell.attributes.timeout)
            step.memory = max(step.memory, cell.attributes.memory)
            step.retry = max(step.retry, cell.attributes.retry)
            step.priority = max(step.priority, cell.attributes.priority)
        return replace(
            chain, cell=cell, engine=engine, built_in=chain.engine, run=run, against=self.against.get(cell.id)
        )

    def _chain(self, cell: Cell) -> Chain:
        if cell.built_on is not None:
            return self._loaded_elsewhere(cell)
        recipe = self.recipes[cell.model]
        family = self.families[cell.engine.family]
        options = cell.options
        precision = options.get("precision", "fp32")
        shapes = options.get("shapes", "static")
        realised = _realised(cell, family, precision)
        exporter, engine = self._environment(cell.exporter), self._environment(cell.engine)
        obtain = self._obtain(recipe)
        reference = self._reference(recipe, shapes, obtain)
        if family.takes == "module":
            export = self._module(recipe, cell.engine, engine, shapes, obtain)
        else:
            asked = Asked(takes=family.takes)
            if family.takes == "tflite":
                kind = calibration.kind(family.settings, options, precision)
                asked = Asked(takes="tflite", precision=precision, mode=kind["mode"] if kind else "")
            export = self._export(recipe, cell.exporter, exporter, options, obtain, reference, asked)
        convert = None
        if family.takes == "onnx" and realised == "graph" and precision != "fp32":
            convert = self._convert(recipe, family, export, precision, reference, options)
        build = self._build(cell, recipe, family, engine, convert or export, precision, realised, shapes, reference)
        run = self._run("run", cell, recipe, family, build, export, reference, precision)
        measure = None
        if cell.attributes.measure:
            measure = self._run("measure", cell, recipe, family, build, export, reference, precision)
        speedup, no_baseline = self._speedup(cell, recipe, shapes, measure, obtain, reference, export)
        chain = Chain(
            cell=cell, exporter=exporter, engine=engine, obtain=obtain, reference=reference, export=export,
            convert=convert, build=build, run=run, measure=measure, speedup=speedup,
            no_baseline=no_baseline, against=self.against.get(cell.id),
        )  # fmt: skip
        attributes = cell.attributes
        against = [speedup.data["baseline"]] if speedup is not None else []
        for step in (*chain.steps(), *before(chain.speedup), *against):
            step.seconds = max(step.seconds, attributes.timeout)
            step.memory = max(step.memory, attributes.memory)
            step.retry = max(step.retry, attributes.retry)
            step.priority = max(step.priority, attributes.priority)
        return chain

    def _suite(self, cell: Cell) -> Chain:
        """The chain of one case. All cases of a suite share the step that exports them, those of a shard the one that runs
        them on an engine stack."""
        suite, family = self.suites[cell.model], self.families[cell.engine.family]
        exporter, engine = self._environment(cell.exporter), self._environment(cell.engine)
        cases = self._cases(suite, exporter)
        conform = self._conform(cell, suite, family, engine, cases)
        attributes = cell.attributes
        for step in (exporter, engine, cases, conform):
            step.seconds = max(step.seconds, attributes.timeout)
            step.memory = max(step.memory, attributes.memory)
            step.retry = max(step.retry, attributes.retry)
            step.priority = max(step.priority, attributes.priority)
        return Chain(
            cell=cell, exporter=exporter, engine=engine, obtain=None, reference=cases, export=cases, convert=None,
            build=conform, run=conform, measure=None, suite=suite,
        )  # fmt: skip

    def _cases(self, suite: Suite, environment: Step) -> Step:
        identity = ("suite", suite.stack.id, suite.kind)
        if step := self.steps.get(identity):
            return step
        static = [environment.output, suite.asked, suite.names_digest, self.code.common, self.code.suite]
        return self._step(
            identity,
            kind="suite",
            name=f"{suite.package} {suite.version} {suite.kind} tests",
            stack=suite.stack,
            static=digest(static),
            needs=(),
            environment=environment,
            data={"suite": suite},
        )

    def _conform(self, cell: Cell, suite: Suite, family: Family, environment: Step, cases: Step) -> Step:
        shard = suite.shard_of[cell.options["case"]]
        identity = ("conform", cell.engine.id, suite.name, shard)
        if step := self.steps.get(identity):
            return step
        names = suite.shards[shard]
        loads = all(self.machine.has(need) for need in family.run_needs)
        target = suite.target if family.device == "cuda" and not loads else ""
        static = [
            environment.output, family.settings, list(names), suite.precision, target, suite.timeout, loads,
            self.machine.cpu_key, self.machine.gpu_key, self.code.common, self.code.conform,
            self.code.adapter(family.adapter or ""),
        ]  # fmt: skip
        step = self._step(
            identity,
            kind="conform",
            name=f"{cell.engine.id} {suite.name} {shard + 1}/{len(suite.shards)}",
            stack=cell.engine,
            static=digest(static),
            needs=(cases,),
            environment=environment,
            data={"suite": suite, "names": names, "target": target, "loads": loads},
        )
        step.seconds = suite.BUDGET + 120.0
        return step

    def _step(self, identity: tuple[Any, ...], **values: Any) -> Step:
        step = Step(seconds=0.0, memory=0, **values)
        self.steps[identity] = step
        return step

    def environment(self, stack: Stack) -> Step:
        """The step that makes a stack's environment."""
        return self._environment(stack)

    def _environment(self, stack: Stack) -> Step:
        identity = ("environment", stack.id)
        if step := self.steps.get(identity):
            return step
        family = self.families[stack.family]
        realised = choose(family, self.isolation, self.docker)
        pins = self.lock.entry(stack, docker=realised == "docker")
        rendered = self._image(stack, family, pins) if realised == "docker" else None
        key = self._realised_key(family, realised, pins, rendered)
        # What is declared is held against what is imported: of two stacks that are made alike, one may say otherwise.
        declared = sorted((module, stack.value(field) if field else None) for module, field in family.modules.items())
        step = self._step(
            identity,
            kind="environment",
            name=stack.id,
            stack=stack,
            static=digest([key, realised, declared, self.code.common]),
            needs=(),
            data={"pins": pins, "family": family, "isolation": realised, "rendered": rendered},
        )
        step.resolve_key()
        step.output = key
        missing = [need for need in family.needs if not self.machine.has(need)]
        reason = self.machine.lacks(missing[0]) if missing else fit.trouble(
            stack, family, realised, asked=self.isolation, docker=self.docker, image=self.lock.images.get(stack.base),
            platform=self.platform, machine=self.machine,
        ) or self.refused.get(stack.id, "")  # fmt: skip
        if reason:
            step.state = "skip"
            step.skipped = f"{stack.family} {reason}"
        return step

    def _realised_key(self, family: Family, realised: Realised, pins: Pins | None, rendered: Rendered | None) -> str:
        """What names an environment in the keys of all that is made in it. In a container that is also how it is started: its
        user, its runtime and its limits decide what fails, and a failure must not outlive them. An image that is not locked
        yet has a key of its own: what was made in a virtual environment of the same packages says nothing of it."""
        if realised == "venv":
            return _pins_key(pins)
        rules = family.image
        how = [rules.user, rules.runtime] if rules is not None else []
        image = rendered.key if rendered is not None else ["no image", _pins_key(pins)]
        return digest(["docker", image, *how, self.settings.shm, self.settings.pids])

    def _image(self, stack: Stack, family: Family, pins: Pins | None) -> Rendered | None:
        """The stack's Dockerfile; None while the lock does not say what goes into it."""
        locked = self.lock.images.get(stack.base)
        image = locked.platforms.get(self.platform) if locked else None
        if pins is None or pins.unresolved or image is None or self.images is None:
            return None
        from builder.render import render

        return render(stack, family, pins, image, self.platform, self.images, self.lock.cutoff_of(stack.id))

    def _obtain(self, recipe: Recipe) -> Step | None:
        if recipe.source is None:
            return None
        identity = ("obtain", recipe.name)
        if step := self.steps.get(identity):
            return step
        source = recipe.source
        hashes = self.lock.sources.get(data_package(recipe) or "", ())
        return self._step(
            identity,
            kind="obtain",
            name=f"{source.name} {source.version}".strip(),
            stack=None,
            static=digest([*source.identity, list(hashes)]),
            needs=(),
            data={"source": source, "hashes": hashes, "recipe": recipe},
        )

    def _reference(self, recipe: Recipe, shapes: str, obtain: Step | None) -> Step:
        identity = ("reference", recipe.name, shapes)
        if step := self.steps.get(identity):
            return step
        stack = self.reference_stacks[recipe.name]
        environment = self._environment(stack)
        return self._step(
            identity,
            kind="reference",
            name=f"{recipe.name} {shapes} on {stack.id}",
            stack=stack,
            static=digest([environment.output, recipe.sha256, {"shapes": shapes}, self._exporter_code()]),
            needs=(obtain,) if obtain else (),
            environment=environment,
            data={"recipe": recipe, "options": {"shapes": shapes}},
        )

    def _export(
        self, recipe: Recipe, stack: Stack, environment: Step, options: Mapping[str, str], obtain: Step | None,
        reference: Step, asked: Asked,
    ) -> Step:  # fmt: skip
        used = tuple((name, options[name]) for name in recipe.uses if name in options)
        identity = ("export", stack.id, recipe.name, used, asked)
        if step := self.steps.get(identity):
            return step
        return self._step(
            identity,
            kind="export",
            name=f"{recipe.name} {' '.join([f'{k} {v}' if k == 'opset' else v for k, v in used] + asked.words())}"
            f" from {stack.id}",
            stack=stack,
            static=digest([environment.output, recipe.sha256, dict(used), self._exporter_code(), *asked.words()]),
            needs=tuple(need for need in (obtain, reference if asked.calibrated else None) if need is not None),
            environment=environment,
            data={
                "recipe": recipe, "options": dict(used), "takes": asked.takes, "precision": asked.precision,
                "quantization": {"mode": asked.mode} if asked.mode else None,
            },
        )  # fmt: skip

    def _module(self, recipe: Recipe, stack: Stack, environment: Step, shapes: str, obtain: Step | None) -> Step:
        """The recipe's module with its weights, as the engine stack itself loads it: what its engines are built from."""
        identity = ("module", stack.id, recipe.name, shapes)
        if step := self.steps.get(identity):
            return step
        adapter = self.families[stack.family].adapter or ""
        return self._step(
            identity,
            kind="export",
            name=f"{recipe.name} {shapes} module in {stack.id}",
            stack=stack,
            static=digest(
                [environment.output, recipe.sha256, shapes, self._exporter_code(), self.code.adapter(adapter), "module"]
            ),
            needs=(obtain,) if obtain else (),
            environment=environment,
            data={"recipe": recipe, "options": {"shapes": shapes}, "takes": "module", "precision": ""},
        )

    def _convert(
        self, recipe: Recipe, family: Family, export: Step, precision: str, reference: Step, options: Mapping[str, str]
    ) -> Step:
        # Engines take int8 graphs of different kinds; those of one kind share one.
        kind = calibration.kind(family.settings, options, precision)
        data = (reference,) if calibration.needs_data(kind) else ()
        identity = ("convert", id(export), precision, *map(id, data), str(kind))
        if step := self.steps.get(identity):
            return step
        mode = kind["mode"] if kind else ""
        stack = self.quantizers.get(mode, self.tools)
        assert stack is not None  # the spec demands one where a precision is realised in the graph
        environment = self._environment(stack)
        table = (self._calibrate(recipe, export, reference, environment),) if mode == "static" else ()
        return self._step(
            identity,
            kind="convert",
            name=f"{export.name} to {precision}{f' ({mode})' if mode not in ('', 'static') else ''}",
            stack=stack,
            static=digest([environment.output, precision, kind, self._exporter_code()]),
            needs=(export, *data, *table),
            environment=environment,
            data={"recipe": recipe, "precision": precision, "quantization": kind},
        )

    def _calibrate(self, recipe: Recipe, export: Step, reference: Step, environment: Step) -> Step:
        """The table of ranges of a model over data, made once for every kind of graph that is quantised with it."""
        identity = ("calibrate", id(export), id(reference))
        if step := self.steps.get(identity):
            return step
        method = (recipe.data.get("calibration") or {}).get("method", calibration.METHODS[0])
        return self._step(
            identity,
            kind="calibrate",
            name=f"{export.name} ({method})",
            stack=environment.stack,
            static=digest([environment.output, method, self._exporter_code()]),
            needs=(export, reference),
            environment=environment,
            data={"recipe": recipe},
        )

    def _build(
        self, cell: Cell, recipe: Recipe, family: Family, environment: Step, graph: Step, precision: str, realised: str,
        shapes: str, reference: Step,
    ) -> Step:  # fmt: skip
        options = tuple(
            (name, value) for name, value in cell.options.items() if name not in _NOT_ENGINE and name not in recipe.uses
        )
        dynamic = shapes if shapes != "static" else ""
        kind = calibration.kind(family.settings, cell.options, precision)
        # Builders that quantise by themselves read the samples; the others find 8 bits in the graph.
        samples = (reference,) if realised == "flag" and calibration.needs_data(kind) else ()
        identity = ("build", cell.engine.id, id(graph), precision, dynamic, options, str(kind), *map(id, samples))
        if step := self.steps.get(identity):
            return step
        part = ("build", cell.engine.id, cell.model, precision, dynamic, options, str(kind))
        static = self._statics.get(part)
        if static is None:
            static = self._statics[part] = digest(
                [
                    environment.output, precision, realised, dict(options), family.settings, kind,
                    recipe.data.get("dims", {}).get(shapes) if dynamic else None,
                    self.machine.gpu_key if self.machine.gpus else "", self.machine.cpu_key if family.device == "cpu" else "",
                    self.code.common, self.code.adapter(family.adapter or ""),
                    *([recipe.sha256, self.code.exporters] if family.takes == "module" else []),
                ]
            )  # fmt: skip
        return self._step(
            identity,
            kind="build",
            name=".".join([cell.engine.id, recipe.name, *cell.options.values()]),
            stack=cell.engine,
            static=static,
            needs=(graph, *samples),
            environment=environment,
            data={
                "recipe": recipe, "family": family, "precision": precision, "realised": realised, "shapes": shapes,
                "options": dict(options), "quantization": kind,
            },
        )  # fmt: skip

    def _run(
        self, kind: Literal["run", "measure"], cell: Cell, recipe: Recipe, family: Family, build: Step, export: Step,
        reference: Step, precision: str, elsewhere: Step | None = None,
    ) -> Step:  # fmt: skip
        # The tolerance is the recipe's for the precision; the inputs and what they must give are the reference's.
        identity = (kind, id(build), id(reference), id(elsewhere))
        environment = elsewhere or build.environment
        if step := self.steps.get(identity):
            return step
        missing = [need for need in family.run_needs if not self.machine.has(need)]
        unloadable = ""
        if elsewhere is not None and missing and portability_grid.tells(family):
            unloadable, missing = f"loading it {self.machine.lacks(missing[0])}", []
        part = (kind, cell.engine.id, cell.model, precision, tuple(build.data["options"].items()), unloadable)
        static = self._statics.get(part)
        if static is None:
            static = self._statics[part] = digest(
                [
                    environment.output if environment else "", family.settings, precision, build.data["options"],
                    self.code.common, self.code.adapter(family.adapter or ""), self.machine.cpu_key, self.machine.gpu_key,
                    *([unloadable] if unloadable else []),
                    [recipe.tolerance.get(precision), recipe.data.get("metric"), recipe.data.get("images"), self.code.compare]
                    if kind == "run"
                    else [self.machine.cores, self.code.timing, METHOD],
                ]
            )  # fmt: skip
        step = self._step(
            identity,
            kind=kind,
            name=f"{build.name} in {cell.engine.id}" if elsewhere else build.name,
            stack=cell.engine,
            static=static,
            # The exported file stands in the key through the engine; its names and order come from its own record.
            needs=(build, reference),
            environment=environment,
            data={**build.data, "export": export, "build": build, "reference": reference, "unloadable": unloadable},
        )
        if missing and environment is not None and environment.state != "skip":
            step.state = "skip"
            step.skipped = f"loading it {self.machine.lacks(missing[0])}"
        return step

    def _speedup(
        self, cell: Cell, recipe: Recipe, shapes: str, measure: Step | None, obtain: Step | None, reference: Step, export: Step,
    ) -> tuple[Step | None, str]:  # fmt: skip
        """The engine against its framework, eager and in FP32 on the same device; a model that has none, an ONNX file, against
        ONNX Runtime in FP32 on the CPU, which is its reference. Or why there is nothing to hold it against. The baseline is
        built and timed as any engine."""
        if measure is None:
            return None, ""
        device = self.families[cell.engine.family].device
        stacks = [cell.engine, cell.exporter, self.reference_stacks[recipe.name]]
        able = [stack for stack in stacks if self._loads(stack, recipe)]
        framed = bool(able)
        if not able and self.families[cell.engine.family].takes == "onnx":
            able = [stack for stack in stacks[1:] if self._runs_onnx(stack)]
        stack = next((stack for stack in able if self.families[stack.family].device == device), None)
        if stack is None:
            where = (
                f"on {self.families[able[0].family].device}, not on {device}" if able else "in no stack of this cell"
            )
            return None, f"{recipe.name} runs in its own framework {where}" if framed or not able else (
                f"{recipe.name} has no framework of its own, and its reference runs {where}"
            )
        family, environment = self.families[stack.family], self._environment(stack)
        # What the cell sets otherwise than the baseline's family has it (TF32) is the engine's, not the baseline's.
        said = {**family.settings, "mode": "eager"} if framed else family.settings
        options = {
            name: said[name] for name in cell.options if name in said
        }  # in the cell's order: equal steps are one
        if framed:
            options.setdefault("mode", "eager")
        eager = replace(cell, engine=stack, options={**options, "precision": "fp32", "shapes": shapes})
        graph = self._module(recipe, stack, environment, shapes, obtain) if framed else export
        realised = "flag" if framed else "graph"
        build = self._build(eager, recipe, family, environment, graph, "fp32", realised, shapes, reference)
        baseline = self._run("measure", eager, recipe, family, build, graph, reference, "fp32")
        if baseline is measure:
            return None, "it is the baseline itself"
        identity = ("speedup", id(measure), id(baseline))
        if step := self.steps.get(identity):
            return step, ""
        from builder import speed

        return self._step(
            identity,
            kind="speedup",
            name=f"{measure.name} against {stack.id}",
            stack=cell.engine,
            static=digest([measure.static, baseline.static, speed.ROUNDS, dict(speed.ROUND_METHOD), speed.AGREE]),
            needs=(measure.needs[0], build, reference),
            environment=measure.environment,
            data={
                "recipe": recipe, "measure": measure, "baseline": baseline,
                "of": f"{family.exporter} itself, eager, in FP32" if framed
                else "no framework: ONNX Runtime on the CPU in FP32, its reference",
            },
        ), ""  # fmt: skip

    def _loads(self, stack: Stack, recipe: Recipe) -> bool:
        """Whether a stack runs the recipe's own module by the framework itself: adapter and exporter of a framework have its
        name; another that starts from its modules (Torch-TensorRT) makes engines of them."""
        family, reference = self.families[stack.family], self.families[self.reference_stacks[recipe.name].family]
        return family.takes == "module" and family.adapter == family.exporter == reference.exporter

    def _runs_onnx(self, stack: Stack) -> bool:
        """Whether a stack that exports can run what it exports."""
        family = self.families[stack.family]
        return family.takes == "onnx" and family.adapter is not None

    def _exporter_code(self) -> list[str]:
        return [self.code.common, self.code.exporters]


def _realised(cell: Cell, family: Family, precision: str) -> str:
    """`graph` or `flag`: as the stack or its family has it; by the option `calibration` the builder makes INT8 of it itself,
    where the family has calibrators."""
    if precision == "int8" and family.settings.get("calibration") and cell.options.get("calibration", "qdq") != "qdq":
        return "flag"
    return cell.engine.precision.get(precision) or family.precision.get(precision, "graph")


def _pins_key(pins: Pins | None) -> str:
    if pins is None:
        return "unlocked"
    return pins.key if not pins.unresolved else digest(["unresolved", pins.python, pins.requirements, pins.unresolved])


def unlocked(environment: Step) -> bool:
    """Whether the lock does not say what goes into an environment, or what its image is based on."""
    pins: Pins | None = environment.data["pins"]
    in_image = environment.data["isolation"] == "docker"
    return pins is None or (in_image and environment.data["rendered"] is None and not pins.unresolved)


Again = Literal["", "failed", "all"]
"""What to run though it is stored: nothing, what failed and all engines (`--failed`), or every step but environments and
sources (`repro`)."""


def holds(step: Step, stored_ok: bool, answers: bool, again: Again) -> bool:
    """Whether a stored result stands for this step."""
    if again == "all" and step.kind not in ("environment", "obtain"):
        return False
    if again == "failed" and step.kind in ("build", "run", "measure", "speedup", "conform"):
        return False  # a cell that is wrong, or not what was asked, has steps that all went well
    return answers and (stored_ok or again != "failed")


def reconcile(
    plan: Plan, light: Mapping[str, Light], objects: Path, *, again: Again = "", engines: bool = True
) -> None:
    """Fill in keys and states from the store, then find what must run. One `stat` for each wanted engine file. `engines`:
    whether the files of engines are wanted for themselves, or only where a step to run reads one."""
    for step in plan.steps:
        if step.state != "skip":
            settle(step, light, again)
    for chain in plan.chains:
        build = chain.build
        after = (chain.run, chain.measure, chain.speedup)
        readers = [step for step in after if step is not None and step.state != "skip"]
        wanted = chain.suite is None and (engines or not all(step.done for step in readers))
        if wanted and build.state == "stored" and not (objects / build.output[:2] / build.output).exists():
            build.state, build.why, build.output = "run", "its engine file is gone", ""
            for step in readers:  # what is built anew may be other bytes
                step.state, step.key, step.output = "wait", "", ""
        for goal in () if chain.left_alone else (build, *after):
            if goal is not None and not goal.done:
                _want(goal)


def settle(step: Step, light: Mapping[str, Light], again: Again = "") -> None:
    """Decide one step whose needs are decided."""
    if any(need.state in ("failed", "skip") for need in step.needs) or (
        step.environment is not None and step.environment.state in ("failed", "skip")
    ):
        step.state = "wait"  # never reached; the cell's outcome is its failed need's
        return
    if not step.resolve_key():
        step.state, step.why = "wait", f"waits for {next(n.name for n in step.needs if not n.output)}"
        return
    found = light.get(step.key)
    step.mark = found.mark if found else ""
    if found is None:
        step.state, step.why = "run", "no stored result with this key"
    elif not holds(step, found.state == "ok", answers := found.answers(step.seconds, step.memory), again):
        step.state = "run"
        step.why = "asked to run again" if answers else "its limits are wider than those it was stopped by"
    elif found.state == "ok":
        step.state = "stored"
        step.output = step.output or found.output
    else:
        step.state = "failed"


def remake(plan: Plan, whole: Callable[[Iterable[Step]], Iterable[Step]]) -> None:
    """Have made again what steps to run read and what is not there any more, and what that takes in turn. `whole`: those of
    some stored steps whose files are all there."""
    while True:
        todo = [step for step in plan.steps if step.wanted and not step.done]
        read = {need for step in todo for need in step.needs if need.state == "stored"}
        gone = read - set(whole(read))
        if not gone:
            return
        for step in gone:
            step.state, step.why, step.output = "run", "its file is gone, and something to run reads it", ""
            _want(step)
        for step in todo:  # what is made anew may be other bytes
            if not gone.isdisjoint(step.needs):
                step.state, step.key, step.output = "wait", "", ""


def _want(step: Step) -> None:
    """Mark a step and whatever it lacks; a step behind a failed or impossible one is never reached."""
    if step.wanted or step.done:
        return
    if blocked(step):
        return
    step.wanted = True
    for need in step.needs:
        _want(need)
    if step.environment is not None and not step.environment.done:
        step.environment.wanted = True


def before(step: Step | None) -> Iterator[Step]:
    """All that a step needs, and what that needs."""
    for need in step.needs if step is not None else ():
        yield need
        yield from before(need)


def blocked(step: Step) -> bool:
    """Whether a failed or skipped step stands before it."""
    if step.environment is not None and step.environment.state in ("failed", "skip"):
        return True
    return any(need.state in ("failed", "skip") or blocked(need) for need in step.needs)
