"""`images/**/*.j2`: Dockerfile templates, filled. A name that a family does not declare is an error before anything is
rendered, with the template's file and line: by default Jinja would turn a typo into `FROM `. So is what Jinja would leave out
without a word: a block that no parent has, and text beside the blocks."""

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
        msg = f"{_place(error, images / name)}: {error.message}: not known of {stack.id}; ask first: {{% if ... is defined %}}"
        raise RenderError(msg) from error
    except RenderError:
        raise
    except Exception as error:  # a template's expressions are code of its author: they may raise anything
        msg = f"{_place(error, images / name)}: {type(error).__name__}: {error}"
        raise RenderError(msg) from error
    # Blocks that say nothing leave blank lines behind.
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _texts(images: Path) -> tuple[tuple[str, str], ...]:
    """Every template: its name, as another would extend it, and its text. One that is not UTF-8 is told when it is used: it
    costs no other family."""
    paths = sorted(path for path in (*images.glob("*.j2"), *images.glob("*/*.j2")) if path.is_file())
    return tuple(
        (path.relative_to(images).as_posix(), path.read_text(encoding="utf-8", errors="surrogateescape"))
        for path in paths
    )


def _place(error: BaseException, template: Path) -> str:
    """file:line of the innermost template that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".j2")]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(template)


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
            tree = self._parsed(current)
            self._check_ignored(current, tree)
            for unknown in sorted(self._undeclared(current, tree)):
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

    def _parsed(self, name: str) -> nodes.Template:
        if name not in self.texts:
            raise jinja2.TemplateNotFound(name)
        if not self.texts[name].isascii() and re.search("[\udc80-\udcff]", self.texts[name]):
            msg = f"{self.images / name}: is not UTF-8"
            raise RenderError(msg)
        return self.environment.parse(self.texts[name], name)

    def _undeclared(self, name: str, tree: nodes.Template) -> set[str]:
        try:
            return meta.find_undeclared_variables(tree)
        except jinja2.TemplateSyntaxError as error:  # an unknown filter: Jinja does not say in which file
            error.name = name
            raise

    def _check_ignored(self, name: str, tree: nodes.Template) -> None:
        """Raises RenderError for what Jinja leaves out of a template that extends another."""
        place = next((number for number, node in enumerate(tree.body) if isinstance(node, nodes.Extends)), None)
        if place is None:
            return
        known = self._blocks(_extended(tree), {name})
        for node in tree.body[place + 1 :]:
            where = f"{self.images / name}:{node.lineno}"
            if isinstance(node, nodes.Block) and node.name not in known:
                msg = f"{where}: the template that it extends has no block {node.name!r}"
                hint = versions.nearest(node.name, known)
                raise RenderError(f"{msg}; {hint}" if hint else msg)
            for part in node.nodes if isinstance(node, nodes.Output) else ():
                text = part.data.strip() if isinstance(part, nodes.TemplateData) else "{{ ... }}"
                if text:
                    msg = f"{where}: {text.splitlines()[0][:60]!r} stands in no block, and would be left out"
                    raise RenderError(f"{msg}; the blocks are {', '.join(sorted(known))}")

    def _blocks(self, name: str | None, seen: set[str]) -> set[str]:
        """The blocks of a template and of those that it extends. Raises RenderError for a circle."""
        if name is None:
            return set()
        if name in seen:
            msg = f"{self.images / name}: extends itself"
            raise RenderError(msg)
        tree = self._parsed(name)
        return {block.name for block in tree.find_all(nodes.Block)} | self._blocks(_extended(tree), seen | {name})


def _extended(tree: nodes.Template) -> str | None:
    """The template that one extends; None where it extends none, or one that a value names."""
    found = tree.find(nodes.Extends)
    return found.template.value if found is not None and isinstance(found.template, nodes.Const) else None


@lru_cache(maxsize=8)
def _templates(images: Path, texts: tuple[tuple[str, str], ...]) -> _Templates:
    return _Templates(images, dict(texts))


def _quoted(value: str) -> str:
    """A value of LABEL: in double quotes, where backslash, quote and dollar mean something."""
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
