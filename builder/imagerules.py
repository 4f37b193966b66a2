"""`image:` of a family.yaml: the base image of its stacks, and what is asked of it.

Everything here ends in a Dockerfile, so every text is held to a pattern that needs no quoting there, and so is every value
that fills a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from builder import versions
from builder.environment import reference
from builder.errors import UsageError
from builder.match import Match
from builder.nodes import Map, Seq, Text
from builder.section import NAME, Section
from builder.values import ImageRules, Where

KEYS = ("base", "interpreter", "site", "env", "checks", "driver", "user", "runtime")
BASE_KEYS = ("if", "use", "because", "source")
SITES = ("own", "system")
USERS = ("any", "root")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PART = re.compile(r"[A-Za-z0-9._-]+")
"""A value in an image's name: narrower than a version, which may have '+' or '!'."""
_REFERENCE = re.compile(
    r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
)
_INTERPRETER = re.compile(r"/?[A-Za-z0-9._][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def is_reference(text: str) -> bool:
    """Whether a text is registry/repository:tag. The registry is named always, so that a mirror can stand for it: Docker takes
    "nvidia/cuda:12.4.1" for one of docker.io. The digest is the lock's."""
    if not _REFERENCE.fullmatch(text) or not reference.is_host(text.partition("/")[0]):
        return False
    try:
        reference.parse(text)
    except UsageError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class BaseRule:
    """One line of `image.base`: the first whose condition holds gives a stack its base image."""

    text: str
    when: Match | None
    where: Where


Condition = Callable[[Section, str], Match | None]
"""Reads the matcher under a key of a section, its names checked."""


def read(image: Section, known: Sequence[str], condition: Condition) -> tuple[ImageRules, tuple[BaseRule, ...]]:
    """The rules of an `image:` section; `known` are the fields and facts that the family has. Mistakes are noted."""
    checks = _table(image, "checks", known, NAME)
    if "checks" not in image:
        image.missing("checks", "at least checks: {python: python}")
    elif "python" not in checks:
        image.error("checks", "every image is asked for its python", "checks: {python: python, ...}")
    interpreter = image.text("interpreter") or "python{python}"
    _placeholders(image, interpreter, image.where("interpreter"), known)
    if not _INTERPRETER.fullmatch(PLACEHOLDER.sub("1", interpreter)):
        image.error("interpreter", f"{interpreter!r} is not the name or path of a program", 'such as "python{python}"')
    driver = image.name("driver", required=False)
    if driver and driver not in known:
        image.error("driver", f"unknown field or fact {driver!r}", versions.nearest(driver, known))
    site = image.choice("site", SITES, default="own")
    user = image.choice("user", USERS, default="any")
    empty = isinstance(node := image.get("runtime"), Text) and not node.value
    rules = ImageRules(
        interpreter=interpreter,
        site="system" if site == "system" else "own",
        env=_table(image, "env", known, _VARIABLE),
        checks=checks,
        driver=driver,
        user="root" if user == "root" else "any",
        runtime="" if empty else image.name("runtime", required=False),
    )
    return rules, _bases(image, known, condition)


def _bases(image: Section, known: Sequence[str], condition: Condition) -> tuple[BaseRule, ...]:
    node = image.get("base")
    if isinstance(node, Text):
        sections = [Section(image.source, Map({"use": node}, {"use": node.where}, node.where, 1), BASE_KEYS, "a base")]
    elif isinstance(node, Seq) and node.items:
        sections = [Section(image.source, item, BASE_KEYS, "a base rule") for item in node.items]
    elif node is not None:
        image.error("base", "'base' must be an image with its tag, or a list of rules of which each says which to use")
        return ()
    else:
        image.missing("base", 'an image with its tag, such as "docker.io/library/python:{python}-slim-bookworm"')
        return ()
    rules = []
    for section in sections:
        text, where = section.text("use", required=True), section.where("use")
        _placeholders(image, text, where, known)
        if text and not is_reference(PLACEHOLDER.sub("1", text)):
            hint = "registry/repository:tag, such as docker.io/library/ubuntu:24.04"
            image.source.error(where, f"{text!r} is not an image with registry and tag", hint)
        rules.append(BaseRule(text=text, when=condition(section, "if"), where=where))
    return tuple(rules)


def _placeholders(image: Section, text: str, where: Where, known: Sequence[str]) -> None:
    for name in PLACEHOLDER.findall(text):
        if name not in known:
            image.source.error(where, f"unknown field or fact {{{name}}}", versions.nearest(name, known))


def _table(image: Section, key: str, known: Sequence[str], names: re.Pattern[str]) -> dict[str, str]:
    """name -> field or fact."""
    table: dict[str, str] = {}
    node = image.get(key)
    if node is not None and not isinstance(node, Map):
        image.error(key, f"{key!r} must be a mapping")
        return table
    for name, value in node.items.items() if node else ():
        if not names.fullmatch(name):
            image.source.error(node.keys[name] if node else value.where, f"{name!r} cannot be a name in {key!r}")
        elif not isinstance(value, Text) or value.value not in known:
            text = value.value if isinstance(value, Text) else ""
            image.source.error(value.where, f"unknown field or fact {text!r}", versions.nearest(text, known))
        else:
            table[name] = value.value
    return table


def choose(rules: Sequence[BaseRule], values: Mapping[str, str]) -> tuple[str, str, BaseRule | None]:
    """(reference, name of what is wrong, rule) for a stack's fields and facts: the name is that of a placeholder whose value
    is absent or cannot stand in an image's name, '' when all is well."""
    for rule in rules:
        if rule.when is None or rule.when.over(values):
            for name in PLACEHOLDER.findall(rule.text):
                if not PART.fullmatch(values.get(name, "")):
                    return "", name, rule
            text = PLACEHOLDER.sub(lambda found: values[found[1]], rule.text)
            if not is_reference(text):  # a capital letter in a repository
                return "", next(iter(PLACEHOLDER.findall(rule.text)), ""), rule
            return text, "", rule
    return "", "", None
