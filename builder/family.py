"""`images/<family>/family.yaml` -> Family, and the entries of matrix.yaml that name it -> Stacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from builder import facts, imagerules, match, nodes, versions
from builder.errors import SpecError
from builder.facts import Table
from builder.imagerules import BaseRule
from builder.match import Match
from builder.nodes import Map, Seq, Source, Text
from builder.section import NAME, VALUE, Section
from builder.values import TAKES, Family, ImageRules, Requirement, Role, Stack, Takes, Where

KEYS = ("family", "summary", "provides", "adapter", "exporter", "device", "needs", "run-needs", "isolation", "facts",
        "axes", "python", "image", "packages", "takes", "modules", "preload", "precision", "settings")  # fmt: skip
AXIS_KEYS = ("required", "default", "releases")
PACKAGE_KEYS = ("if", "unless", "add", "because", "source")
RULE_KEYS = ("if", "use", "because", "source")
ROLES: tuple[Role, ...] = ("exporter", "engine", "tools")
DEVICES = ("cpu", "cuda")
NEEDS = ("nvidia-gpu",)
ISOLATION = ("venv", "docker")
REALISED = ("graph", "flag")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
#: PEP 508 without addresses, options and paths: name, extras, version clauses, marker.
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?\s*([<>=!~][<>=!~A-Za-z0-9.,*+ _-]*)?(;[^/\\]*)?"
)


@dataclass(frozen=True, kw_only=True)
class AxisRule:
    required: bool
    default: str | None
    releases: str
    """Name of its list in `catalog/releases.yaml`."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One package line with its conditions."""

    text: str
    when: Match | None
    unless: Match | None
    because: str
    where: Where


@dataclass(frozen=True, kw_only=True)
class FamilyFile:
    """A family and the rules by which its stacks are made."""

    family: Family
    axes: Mapping[str, AxisRule]
    python: tuple[tuple[Match | None, str], ...]
    packages: tuple[Line, ...]
    precision: Mapping[str, tuple[tuple[Match | None, str], ...]]
    source: Source
    facts: Table | None = None
    """What the catalog knows of its images."""
    bases: tuple[BaseRule, ...] = ()

    def releases(self, axis: str) -> tuple[str, ...]:
        """The known values of an axis (or of `python`), oldest first."""
        if self.facts is not None and axis == self.facts.axis:
            return tuple(self.facts.records)
        return catalogue().get(self.axes[axis].releases if axis in self.axes else axis, ())


def catalogue() -> dict[str, tuple[str, ...]]:
    """name -> known release versions, oldest first, from `catalog/releases.yaml`. Raises SpecErrors."""
    return facts.releases()


def load(path: Path, name: str, errors: list[SpecError]) -> FamilyFile | None:
    """Read one family.yaml. None when errors were noted that leave nothing to work with."""
    loaded = nodes.load(path, name, errors)
    if loaded is None:
        return None
    source, node = loaded
    top = Section(source, node, KEYS, "the family")
    if not top.ok:
        return None
    before = len(errors)
    if top.name("family") not in ("", path.parent.name):
        top.error("family", f"must be the name of its folder, {path.parent.name!r}")
    provides = top.choices("provides", ROLES)
    if not provides:
        top.missing("provides", "exporter, engine or tools")
    adapter, exporter = top.name("adapter", required=False), top.name("exporter", required=False)
    if "engine" in provides and not adapter:
        top.missing("adapter", "a family that provides engines names its module of worker/adapters")
    if {"exporter", "tools"} & set(provides) and not exporter:
        top.missing("exporter", "a family that provides exporters or tools names its module of worker/exporters")
    takes: Takes = next((known for known in TAKES if known == top.choice("takes", TAKES, default="onnx")), "onnx")
    if takes == "module" and not exporter:
        top.error("takes", "a family that takes modules names the exporter whose recipes it loads", "exporter: torch")
    axes = _axes(top)
    table = _facts(top, axes)
    known = tuple(dict.fromkeys((*axes, *(table.names if table else ()), "python")))
    precision = _precision(top, known, "engine" in provides)
    image, bases = _image(top, known)
    settings = nodes.texts(top.node.items["settings"]) if isinstance(top.get("settings"), Map) else {}
    family = Family(
        name=path.parent.name,
        summary=top.text("summary", required=True),
        provides=frozenset(role for role in ROLES if role in provides),
        axes=(*axes, "python"),
        adapter=adapter or None,
        exporter=exporter or None,
        device=top.choice("device", DEVICES, default="cpu"),
        needs=top.choices("needs", NEEDS),
        run_needs=top.choices("run-needs", NEEDS),
        isolation=_isolation(top, image),
        precision={name: rules[-1][1] for name, rules in precision.items() if rules},
        modules=_table(top, "modules", (*known, "")),
        preload=tuple(item.value for item in top.values("preload", _MODULE)),
        settings=settings,
        sha256=hashlib.sha256(source.text.encode()).hexdigest(),
        where=source.top(),
        image=image,
        facts=table.names if table else (),
        takes=takes,
    )
    file = FamilyFile(
        family=family, axes=axes, python=_python(top, known, table), packages=_packages(top, known), precision=precision,
        source=source, facts=table, bases=bases,
    )  # fmt: skip
    return file if len(errors) == before else None


def _axes(top: Section) -> dict[str, AxisRule]:
    axes = {}
    for name, value, where in top.children("axes"):
        rule = Section(top.source, value, AXIS_KEYS, f"axis {name!r}")
        if name == "python":
            top.source.error(where, "'python' is always an axis, and the last", "leave it out")
        axes[name] = AxisRule(
            required=rule.boolean("required", False),
            default=rule.text("default") or None,
            releases=rule.text("releases") or name,
        )
    if "axes" not in top:
        top.missing("axes")
    return axes


def _facts(top: Section, axes: Mapping[str, AxisRule]) -> Table | None:
    name = top.name("facts", required=False)
    if not name:
        return None
    known = facts.tables()
    table = known.get(name)
    if table is None:
        top.error("facts", f"the catalog has no facts {name!r}", versions.nearest(name, known))
    elif table.axis not in axes:
        top.error(
            "facts", f"the facts {name!r} are given by {table.axis!r}", f"axes: {{{table.axis}: {{required: true}}}}"
        )
    return table


def _image(top: Section, known: Sequence[str]) -> tuple[ImageRules | None, tuple[BaseRule, ...]]:
    if "image" not in top:
        return None, ()
    section = Section(top.source, top.get("image"), imagerules.KEYS, "image")
    if not section.ok:
        return None, ()
    return imagerules.read(section, known, lambda rule, key: _condition(rule, key, known))


def _isolation(top: Section, image: ImageRules | None) -> tuple[str, ...]:
    """Ways to realise its stacks, the preferred one first. Without `isolation:`, an environment before an image."""
    found = top.choices("isolation", ISOLATION)
    if not found:
        return ISOLATION if image else ("venv",)
    if "docker" in found and "image" not in top:
        top.error("isolation", "docker needs 'image:', which says what its images are made of", "or leave docker out")
    if "docker" not in found and image is not None:
        top.error("isolation", "'image:' is for docker", "add docker, or leave 'image:' out")
    return found


def _table(top: Section, key: str, choices: Sequence[str]) -> dict[str, str]:
    table = {}
    for name, value, _ in top.children(key):
        if not isinstance(value, Text) or (nodes.is_null(value) and "" not in choices):
            top.source.error(value.where, f"{key} of {name!r} must be text")
        elif (text := "" if nodes.is_null(value) else value.value) not in choices:
            top.source.error(value.where, f"{text!r} cannot be the {key} of {name!r}", versions.nearest(text, choices))
        else:
            table[name] = text
    return table


def _condition(section: Section, key: str, known: Sequence[str]) -> Match | None:
    if key not in section:
        return None
    found = match.read(section.source, section.node.items[key])
    for term in found.terms if found else ():
        if term.field not in known:
            section.source.error(term.where, f"unknown axis {term.field!r}", versions.nearest(term.field, known))
    return found


def _python(top: Section, known: Sequence[str], table: Table | None) -> tuple[tuple[Match | None, str], ...]:
    rules = []
    for rule in top.sections("python", RULE_KEYS, "a python rule"):
        use = rule.text("use", required=True)
        if use and not _PYTHON.fullmatch(use):
            rule.error("use", f'{use!r} is not a Python such as "3.11"')
        rules.append((_condition(rule, "if", [name for name in known if name != "python"]), use))
    if not rules and (table is None or "python" in top):
        top.missing("python", 'a list such as [{use: "3.12"}]')
    return tuple(rules)


def _precision(top: Section, known: Sequence[str], required: bool) -> dict[str, tuple[tuple[Match | None, str], ...]]:
    """precision -> rules, the first that matches a stack decides; the last has no condition."""
    table: dict[str, tuple[tuple[Match | None, str], ...]] = {}
    for name, value, where in top.children("precision"):
        if isinstance(value, Text):
            value = Seq((Map({"use": value}, {"use": value.where}, where, 1),), where, 1)
        if not isinstance(value, Seq) or not value.items:
            top.source.error(value.where, f"the precision {name!r} is {' or '.join(REALISED)}, or a list of rules")
            continue
        rules = []
        for item in value.items:
            rule = Section(top.source, item, RULE_KEYS, "a precision rule")
            use = rule.choice("use", REALISED, required=True)
            rules.append((_condition(rule, "if", known), use))
        if rules[-1][0] is not None:
            top.source.error(where, f"the last rule of precision {name!r} must hold without a condition")
        table[name] = tuple(rules)
    if required and not table:
        top.missing("precision", "how fp32, fp16 and int8 are realised: graph or flag")
    return table


def _packages(top: Section, known: Sequence[str]) -> tuple[Line, ...]:
    node = top.get("packages")
    if not isinstance(node, Seq):
        top.error("packages", "'packages' must be a list") if node else top.missing("packages")
        return ()
    lines = []
    for item in node.items:
        if isinstance(item, Text):
            text, when, unless, because, where = item.value, None, None, "", item.where
        else:
            rule = Section(top.source, item, PACKAGE_KEYS, "a package rule")
            text, because, where = rule.text("add", required=True), rule.text("because"), rule.where("add")
            when, unless = _condition(rule, "if", known), _condition(rule, "unless", known)
        for name in _PLACEHOLDER.findall(text):
            if name not in known:
                top.source.error(where, f"unknown axis {{{name}}}", versions.nearest(name, known))
        if not _REQUIREMENT.fullmatch(_PLACEHOLDER.sub("1", text)):
            top.source.error(where, f"{text!r} is not a requirement", "a name and versions, no address, no option")
        lines.append(Line(text=text, when=when, unless=unless, because=because, where=where))
    return tuple(lines)


def expand(file: FamilyFile, role: Role, entry: str, section: Section | None, source: Source) -> list[Stack]:
    """The stacks of one entry of matrix.yaml, in the order of the family's axes; errors are noted in `source`.

    Without a section (the default tools) each required axis takes its default, or else its newest known release.
    """
    choices: dict[str, list[str]] = {}
    keep = section.choice("keep", ("newest-patch",)) if section else ""
    for name, rule in (*file.axes.items(), ("python", AxisRule(required=False, default=None, releases="python"))):
        if section is not None and name in section:
            choices[name] = _values(section, name, file.releases(name), keep)
        elif rule.default is not None:
            choices[name] = [rule.default]
        elif rule.required and section is None and file.releases(name):
            choices[name] = [file.releases(name)[-1]]
        elif rule.required:
            where = section.node.where if section else source.top()
            source.error(where, f"{entry!r} has no {name!r}", f"family {file.family.name!r} needs it")
            return []
    stacks = []
    for values in product(*choices.values()):
        fields = dict(zip(choices, values, strict=True))
        stack = _stack(file, role, entry, fields, section, source)
        if stack is not None:
            stacks.append(stack)
    return stacks


def _values(section: Section, name: str, known: Sequence[str], keep: str) -> list[str]:
    out: list[str] = []
    for item in section.values(name, None):
        text = item.value
        if not versions.is_pattern(text):
            if not (_PYTHON if name == "python" else VALUE).fullmatch(text):
                section.source.error(item.where, f"{text!r} cannot be a value of {name!r}")
            elif text not in out:
                out.append(text)
            continue
        problem = versions.problem(text)
        found = versions.expand(text, known) if problem is None else []
        if problem is not None:
            section.source.error(item.where, problem)
        elif not known:
            section.source.error(item.where, f"the catalogue has no releases of {name!r}", "write the versions out")
        elif not found:
            section.source.error(item.where, f"no known release of {name!r} fits {text!r}",
                                 f"the newest is {known[-1]}")  # fmt: skip
        out += [value for value in (versions.newest_patch(found) if keep else found) if value not in out]
    return out


def _stack(
    file: FamilyFile, role: Role, entry: str, fields: dict[str, str], section: Section | None, source: Source
) -> Stack | None:
    where = section.node.where if section else source.top()
    table = file.facts
    record = table.records.get(fields[table.axis]) if table and table.axis in fields else None
    values = {**(record.facts if record else {}), **fields}
    if "python" not in values or ("python" not in fields and file.python):
        use = next((use for condition, use in file.python if condition is None or condition.over(values)), None)
        if use is None:
            if table is not None and not file.python:
                value = fields.get(table.axis, "")
                at = section.where(table.axis) if section else where
                hint = "" if record else versions.nearest(value, table.records) + " or "
                source.error(
                    at, f"the catalog knows no python of {file.family.name} {value}", f'{hint}add python: "3.12"'
                )
            else:
                source.error(
                    where, f"no python rule of family {file.family.name!r} takes {fields}", 'add python: "3.12"'
                )
            return None
        fields["python"] = values["python"] = use
    requirements = []
    for line in file.packages:
        if (line.when and not line.when.over(values)) or (line.unless and line.unless.over(values)):
            continue
        absent = [name for name in _PLACEHOLDER.findall(line.text) if name not in values]
        if absent:
            file.source.error(line.where, f"entry {entry!r} gives no {absent[0]!r}, which this line reads",
                              f"put the line under if: {{{absent[0]}: \"*\"}}")  # fmt: skip
            return None
        text = _PLACEHOLDER.sub(lambda found: values[found[1]], line.text)
        requirements.append(Requirement(line=text, because=line.because))
    realised = {
        name: next((use for condition, use in rules if condition is None or condition.over(values)), "")
        for name, rules in file.precision.items()
    }
    base, wrong, rule = imagerules.choose(file.bases, values)
    if file.bases and not base:
        at = section.where(wrong) if section and wrong in section else where
        if wrong in values:
            message = f"{values[wrong]!r} cannot be part of an image's name"
            source.error(at, message, "letters, digits and '.', '_', '-' only")
        elif rule is not None:
            file.source.error(rule.where, f"entry {entry!r} gives no {wrong!r}, which this image reads")
        else:
            source.error(
                at, f"no base rule of family {file.family.name!r} takes {fields}", "end with a rule without 'if'"
            )
        return None
    return Stack(role=role, entry=entry, family=file.family.name, fields=fields, requirements=tuple(requirements),
                 precision=realised, facts=dict(record.facts) if record else {}, base=base)  # fmt: skip


def names(images: Path) -> list[str]:
    """The families that there are."""
    return sorted(path.parent.name for path in images.glob("*/family.yaml") if NAME.fullmatch(path.parent.name))
