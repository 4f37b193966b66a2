"""`images/**/*.j2`: Dockerfile templates, filled. A name that a family does not declare is an error before anything is
rendered, with the template's file and line: by default Jinja would turn a typo into `FROM `."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import jinja2
from jinja2 import meta, nodes

from builder import versions
from builder.errors import EngineMatrixError
from builder.values import Family, Stack

TEMPLATE = "Dockerfile.j2"
RESERVED = ("base", "build", "labels")
"""What the renderer itself gives a template."""


class RenderError(EngineMatrixError):
    """A template that reads what there is not, or a value that must not stand in a Dockerfile."""


def fill(images: Path, family: Family, stack: Stack, names: Mapping[str, object]) -> str:
    """The Dockerfile of a stack: its family's template with `names`. Raises RenderError."""
    name = f"{family.name}/{TEMPLATE}"
    declared = {*family.axes, *family.facts, "python"}
    allowed = {one.replace("-", "_") for one in declared}
    clash = sorted(allowed & set(RESERVED))
    if clash:
        msg = f"{family.where}: {clash[0]!r} is the renderer's own word and cannot be an axis or a fact"
        raise RenderError(msg)
    try:
        templates = _templates(images, _texts(images))
        for place, unknown in templates.reads(name):
            if unknown not in allowed and unknown not in RESERVED:
                hint = versions.nearest(unknown, allowed)
                msg = f"{place}: {unknown!r} is no axis or fact that family {family.name!r} declares"
                raise RenderError(f"{msg}; {hint}" if hint else msg)
        text = templates.environment.get_template(name).render(names)
    except jinja2.TemplateSyntaxError as error:
        msg = f"{images / (error.name or name)}:{error.lineno}: {error.message}"
        raise RenderError(msg) from error
    except jinja2.TemplateNotFound as error:
        msg = f"{images / str(error.name)}: no such template"
        raise RenderError(msg) from error
    except jinja2.UndefinedError as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".j2")]
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(images / name)
        msg = f"{place}: {error.message}: not known of {stack.id}; ask first: {{% if ... is defined %}}"
        raise RenderError(msg) from error
    # Blocks that say nothing leave blank lines behind.
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _texts(images: Path) -> tuple[tuple[str, str], ...]:
    """Every template: its name, as another would extend it, and its text."""
    paths = sorted((*images.glob("*.j2"), *images.glob("*/*.j2")))
    return tuple((path.relative_to(images).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


class _Templates:
    """The templates of a folder, compiled once: a plan renders dozens of stacks."""

    def __init__(self, images: Path, texts: Mapping[str, str]) -> None:
        def load(name: str) -> tuple[str, str, None] | None:
            return (texts[name], str(images / name), None) if name in texts else None

        self.images = images
        self.environment = jinja2.Environment(  # noqa: S701 - no HTML, and its values are held to patterns
            loader=jinja2.FunctionLoader(load), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
            keep_trailing_newline=True,
        )  # fmt: skip
        self.environment.filters["exec"] = json.dumps
        self.environment.filters["label"] = _quoted
        self.texts = texts
        self.known: dict[str, tuple[tuple[str, str], ...]] = {}

    def reads(self, name: str) -> tuple[tuple[str, str], ...]:
        """(file:line, name) of all that a template and those it extends take from outside. Raises RenderError, and
        jinja2's errors."""
        if name not in self.known:
            self.known[name] = tuple(self._reads(name))
        return self.known[name]

    def _reads(self, name: str) -> Iterator[tuple[str, str]]:
        waiting, seen = [name], set()
        while waiting:
            current = waiting.pop()
            seen.add(current)
            if current not in self.texts:
                raise jinja2.TemplateNotFound(current)
            tree = self.environment.parse(self.texts[current], current)
            for unknown in sorted(meta.find_undeclared_variables(tree)):
                lines = [node.lineno for node in tree.find_all(nodes.Name) if node.name == unknown]
                yield f"{self.images / current}:{min(lines)}", unknown
            for other in meta.find_referenced_templates(tree):
                if other is None:
                    msg = (
                        f"{self.images / current}: a template names the one it extends as it is written, not by a value"
                    )
                    raise RenderError(msg)
                if other not in seen:
                    waiting.append(other)


@lru_cache(maxsize=8)
def _templates(images: Path, texts: tuple[tuple[str, str], ...]) -> _Templates:
    return _Templates(images, dict(texts))


def _quoted(value: str) -> str:
    """A value of LABEL: in double quotes, where backslash, quote and dollar mean something."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
