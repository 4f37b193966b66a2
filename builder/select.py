"""The selector language: groups, `--select`, `pick` and the report's filter all speak it.

    SELECT  := OR
    OR      := AND (`or` AND)*
    AND     := NOT (`and` NOT)*
    NOT     := `not` NOT | `(` OR `)` | TERM
    TERM    := `all` | `changed` | GROUP | `#`ID-PREFIX | SLUG-GLOB | FIELD OP VALUES
    OP      := `=` | `!=` | `>` | `>=` | `<` | `<=`
    VALUES  := VALUE (`,` VALUE)*          (one of them, for `=`; none of them, for `!=`; a single version otherwise)

A value is exact text, or a glob, after `=` and `!=`; it is a PEP 440 version after the others. Words with blanks,
commas or parentheses are put in single or double quotes. A field that a cell does not have matches no operator, `!=`
included; `not FIELD=VALUE` takes those cells as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from builder import versions
from builder.errors import UsageError

RESERVED = frozenset({"all", "and", "or", "not", "changed", "id", "slug", "status", "model", "engine", "exporter",
                      "family", "python"})  # fmt: skip
"""Words with a meaning of their own: no axis or group may have them as its name."""
MAX_LENGTH = 10_000
MAX_DEPTH = 100


class SelectError(UsageError):
    """A selector that cannot be understood, with the offset (from zero) of the trouble."""

    def __init__(self, text: str, offset: int, message: str, hint: str = "") -> None:
        self.text, self.offset, self.message, self.hint = text, offset, message, hint
        shown = "".join(c if c.isprintable() else " " for c in text)
        if len(shown) > 160:
            start = max(0, offset - 80)
            shown, offset = shown[start : start + 160], offset - start
        full = f"{message}; {hint}" if hint else message
        super().__init__(f"{full}\n    {shown}\n    {' ' * offset}^")


@dataclass(frozen=True, slots=True)
class Compare:
    field: str
    operator: str
    values: tuple[str, ...]
    offset: int

    def accepts(self, value: str | None) -> bool:
        """Whether a field's value fits; an absent one never does."""
        if value is None:
            return False
        if self.operator in ("=", "!="):
            found = any(versions.matches(pattern, value) for pattern in self.values)
            return found == (self.operator == "=")
        return versions.matches(self.operator + self.values[0], value)


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word: `all`, `changed`, a group, `#` and the beginning of an id, or a slug glob."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expr


@dataclass(frozen=True, slots=True)
class Both:
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Either:
    left: Expr
    right: Expr


Expr: TypeAlias = Compare | Word | Not | Both | Either
Leaf: TypeAlias = Compare | Word

_TOKEN = re.compile(
    r"""(?P<blank>\s+)|(?P<op>!=|>=|<=|==|=|>|<)|(?P<punct>[(),])"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s=!<>(),"']+)"""
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise SelectError(text, at, f"{text[at]!r} is out of place", "a quote that is not closed?")
        kind = found.lastgroup or ""
        if kind in ("double", "single"):
            out.append(_Token("quoted", found[kind], at))
        elif kind != "blank":
            out.append(_Token(kind, found[kind], at))
        at = found.end()
    out.append(_Token("end", "", len(text)))
    return out


def parse(text: str) -> Expr:
    """The expression of a selector. Raises SelectError."""
    if len(text) > MAX_LENGTH:
        raise SelectError(text[:160], 0, f"a selector of more than {MAX_LENGTH} characters")
    parser = _Parser(text)
    expr = parser.either(0)
    parser.expect_end()
    return expr


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def fail(self, message: str, hint: str = "") -> SelectError:
        return SelectError(self.text, self.token.offset, message, hint)

    def take(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def keyword(self, word: str) -> bool:
        if self.token.kind == "word" and self.token.text == word:
            self.at += 1
            return True
        return False

    def expect_end(self) -> None:
        if self.token.kind != "end":
            raise self.fail(f"{self.token.text!r} is out of place", "join terms with 'and' or 'or'")

    def either(self, depth: int) -> Expr:
        left = self.both(depth)
        while self.keyword("or"):
            left = Either(left, self.both(depth))
        return left

    def both(self, depth: int) -> Expr:
        left = self.negation(depth)
        while self.keyword("and"):
            left = Both(left, self.negation(depth))
        return left

    def negation(self, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise self.fail(f"nested deeper than {MAX_DEPTH} levels")
        if self.keyword("not"):
            return Not(self.negation(depth + 1))
        if self.token.kind == "punct" and self.token.text == "(":
            self.take()
            inner = self.either(depth + 1)
            if self.token.text != ")" or self.token.kind != "punct":
                raise self.fail("a parenthesis is not closed")
            self.take()
            return inner
        return self.term()

    def term(self) -> Expr:
        if self.token.kind not in ("word", "quoted") or self.token.text in ("and", "or"):
            what = repr(self.token.text) if self.token.text else "the end"
            raise self.fail(f"expected a term before {what}", "such as model=resnet50")
        first = self.take()
        if self.token.kind != "op":
            return Word(first.text, first.offset)
        operator = self.take()
        if operator.text == "==":
            raise SelectError(self.text, operator.offset, "'==' is not an operator", "write '='")
        values = [self.value()]
        while self.token.kind == "punct" and self.token.text == ",":
            self.take()
            values.append(self.value())
        if operator.text not in ("=", "!="):
            if len(values) > 1:
                raise SelectError(self.text, operator.offset, f"{operator.text!r} compares with one version")
            if (problem := versions.problem(operator.text + values[0])) is not None:
                raise SelectError(self.text, operator.offset, problem)
        return Compare(first.text, operator.text, tuple(values), first.offset)

    def value(self) -> str:
        if self.token.kind not in ("word", "quoted") or not self.token.text:
            raise self.fail("expected a value")
        return self.take().text


def evaluate(expr: Expr, leaf: Callable[[Leaf], int], everything: int) -> int:
    """The cells that fit, as bits, given the bits of a single term and those of all cells."""
    if isinstance(expr, Not):
        return everything & ~evaluate(expr.inner, leaf, everything)
    if isinstance(expr, Both):
        return evaluate(expr.left, leaf, everything) & evaluate(expr.right, leaf, everything)
    if isinstance(expr, Either):
        return evaluate(expr.left, leaf, everything) | evaluate(expr.right, leaf, everything)
    return leaf(expr)


def leaves(expr: Expr) -> list[Leaf]:
    """All terms, from left to right."""
    if isinstance(expr, Not):
        return leaves(expr.inner)
    if isinstance(expr, Both | Either):
        return leaves(expr.left) + leaves(expr.right)
    return [expr]
