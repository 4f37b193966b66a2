"""JSON Schema (draft 2020-12) of matrix.yaml, family.yaml and recipe.yaml, for editors.

Made from the tables that the reader itself uses, so that a key the reader knows is a key that the editor knows. The
reader is stricter: places, patterns, names of fields and models, and rules that match nothing are beyond a schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from builder import calibration, family, imagerules, isolation, recipe, recipe_source, sample, spec, suite
from builder.section import NAME, VALUE
from builder.values import FAILING, STATUSES, TAKES

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Kind = Literal["matrix", "family", "recipe"]
KINDS: tuple[Kind, ...] = ("matrix", "family", "recipe")
Schema = dict[str, Any]

# Editors read 13 and 24.1 as numbers before they check: the reader takes their text as it is written.
_SCALAR: Schema = {"type": ["string", "number"]}
_VALUE: Schema = {"type": ["string", "number"], "pattern": f"^{VALUE.pattern}$"}
_TEXT: Schema = {"type": "string", "minLength": 1}
_NAME: Schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_NAMED: Schema = {"pattern": f"^{NAME.pattern}$"}
_BOOL: Schema = {"type": "boolean"}
_DURATION: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$"}
_SIZE: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?[kmgKMG]i?[bB]?$"}


def _list(item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, **more}


def _one_or_more(item: Schema) -> Schema:
    return {"anyOf": [item, _list(item, minItems=1, uniqueItems=True)]}


def _object(keys: Sequence[str], properties: Schema, required: Sequence[str] = (), **more: Any) -> Schema:
    """A closed mapping. Raises KeyError when the reader knows a key that is not described here."""
    return {
        "type": "object",
        "properties": {key: properties[key] for key in keys},
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _mapping(value: Schema, **more: Any) -> Schema:
    return {"type": "object", "additionalProperties": value, "propertyNames": _NAMED, **more}


_MATCH: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [{"type": ["string", "number", "null"]}, _list({"type": ["string", "number", "null"]}, minItems=1)]
    },
    "description": "field: exact value, glob or version range; a list means any of them; ~ means absent",
}


def _matrix() -> Schema:
    entry = {
        "type": "object",
        "properties": {"family": _NAME, "keep": {"enum": ["newest-patch"]}, "python": _one_or_more(_SCALAR)},
        "required": ["family"],
        "additionalProperties": _one_or_more(_SCALAR),
    }
    because = {"because": _TEXT, "optional": _BOOL, "source": _TEXT}
    constraint = _object(
        spec.CONSTRAINT_KEYS,
        {"if": _MATCH, "then": _MATCH, "never": _MATCH, **because},
        ["because"],
        oneOf=[{"required": ["if", "then"]}, {"required": ["never"]}],
    )
    attributes = {
        "timeout": _DURATION,
        "memory": _SIZE,
        "retry": {"type": "integer", "minimum": 0},
        "priority": {"type": "integer"},
        "measure": _BOOL,
    }
    some = [{"required": [key]} for key in spec.ATTRIBUTE_KEYS]
    fail = {
        "type": "string",
        "not": {"enum": [status for status in STATUSES if status not in FAILING]},
        "examples": [status for status in STATUSES if status in FAILING],
    }
    drawn = _object(
        spec.SAMPLE_KEYS,
        {
            "strategy": {"enum": list(sample.STRATEGIES)},
            "always": _TEXT,
            "soft": _BOOL,
            "seed": {"type": "integer", "minimum": 0},
            "max": {"type": "integer", "minimum": 1},
        },
        ["strategy"],
    )
    group = _object(
        spec.GROUP_KEYS,
        {"select": _TEXT, "sample": drawn, "budget": _DURATION, "order": _one_or_more({"enum": list(spec.ORDERS)})},
        ["select"],
    )
    axis = _object(spec.AXIS_KEYS, {"values": _one_or_more(_VALUE), "when": _MATCH}, ["values"])
    cases = _object(
        suite.KEYS,
        {
            "package": {"enum": list(suite.FAMILIES)},
            "version": _SCALAR,
            "kind": {"enum": list(suite.KINDS)},
            "timeout": _DURATION,
            "precision": {"enum": list(suite.PRECISIONS)},
            "target": {"type": "string", "pattern": "^sm[0-9]{2,3}$"},
            "strict": _BOOL,
        },
        ["package", "version"],
    )
    properties: Schema = {
        "suites": _mapping(
            cases, description="cases that somebody else wrote: one cell for each engine stack and case"
        ),
        "portability": {"type": "string", "description": "cells whose engines every stack of their family loads"},
        "schema": {"enum": [int(spec.SCHEMA), spec.SCHEMA]},
        "name": _NAME,
        "exporters": _mapping(entry, minProperties=1, description="stacks that turn a framework model into ONNX"),
        "engines": _mapping(entry, minProperties=1, description="stacks that turn ONNX into an engine"),
        "tools": {**entry, "description": "the stack that rewrites precision in ONNX graphs"},
        "axes": _mapping({"anyOf": [*_one_or_more(_VALUE)["anyOf"], axis]}, required=["model"]),
        "constraints": _list(constraint, description="physics: holds for every cell"),
        "exclude": _list(_object(spec.EXCLUDE_KEYS, {"match": _MATCH, **because}, ["match", "because"])),
        "include": _list({"type": "object", "minProperties": 1, "additionalProperties": _VALUE}),
        "set": _list(_object(spec.SET_KEYS, {"match": _MATCH, **attributes, **because}, ["match"], anyOf=some)),
        "expect": _list(
            _object(
                spec.EXPECT_KEYS,
                {"match": _MATCH, "fail": fail, "until": {"type": "string", "format": "date"}, **because},
                ["match", "fail", "because"],
            )
        ),
        "groups": _mapping({"anyOf": [_TEXT, group]}),
        "isolation": {"enum": list(isolation.ISOLATIONS), "description": "how stacks are realised (default: auto)"},
        "docker": _object(
            isolation.DOCKER_KEYS,
            {
                "mirrors": _mapping({"type": "string", "pattern": f"^{isolation.REGISTRY.pattern}$"}),
                "build-network": {"enum": list(isolation.NETWORKS)},
                "gpus": {"enum": list(isolation.GPUS)},
                "shm": _SIZE,
                "pids": {"type": "integer", "minimum": 64},
            },
        ),
    }
    out = _object(spec.KEYS, properties, ["schema", "name", "exporters", "engines", "axes"])
    return {**out, "patternProperties": {"^x-": {}}}


def _family() -> Schema:
    reason = {"because": _TEXT, "source": _TEXT}
    axis = _object(family.AXIS_KEYS, {"required": _BOOL, "default": _SCALAR, "releases": _NAME})
    python = _object(
        family.RULE_KEYS, {"if": _MATCH, "use": {"type": "string", "pattern": "^3\\.[0-9]+$"}, **reason}, ["use"]
    )
    package = _object(family.PACKAGE_KEYS, {"if": _MATCH, "unless": _MATCH, "add": _TEXT, **reason}, ["add"])
    base = _object(imagerules.BASE_KEYS, {"if": _MATCH, "use": _TEXT, **reason}, ["use"])
    agree: Schema = {
        "type": "object",
        "additionalProperties": _NAME,
        "description": "... -> field or fact it must agree with",
    }
    image = _object(
        imagerules.KEYS,
        {
            "base": {"anyOf": [_TEXT, _list(base, minItems=1)], "description": "registry/repository:tag, with {field}"},
            "interpreter": _TEXT,
            "site": {"enum": list(imagerules.SITES)},
            "env": agree,
            "checks": {**agree, "required": ["python"]},
            "driver": _NAME,
            "user": {"enum": list(imagerules.USERS)},
            "runtime": {"type": "string"},
        },
        ["base", "checks"],
    )
    realised = {"enum": list(family.REALISED)}
    rule = _object(family.RULE_KEYS, {"if": _MATCH, "use": realised, **reason}, ["use"])
    properties: Schema = {
        "family": _NAME,
        "summary": _TEXT,
        "adapter": _NAME,
        "exporter": _NAME,
        "provides": _list({"enum": list(family.ROLES)}, minItems=1),
        "device": {"enum": list(family.DEVICES)},
        "takes": {"enum": list(TAKES)},
        "needs": _list({"enum": list(family.NEEDS)}),
        "run-needs": _list({"enum": list(family.NEEDS)}),
        "isolation": _list({"enum": list(family.ISOLATION)}),
        "facts": {**_NAME, "description": "a table of the catalog: what its images hold"},
        "axes": _mapping(axis),
        "python": _list(python, minItems=1),
        "image": image,
        "packages": _list({"anyOf": [_TEXT, package]}),
        "modules": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        "preload": _list(_TEXT),
        "precision": _mapping({"anyOf": [realised, _list(rule, minItems=1)]}),
        "settings": {"type": "object"},
    }
    known = {"anyOf": [{"required": ["python"]}, {"required": ["facts"]}]}
    return _object(family.KEYS, properties, ["family", "summary", "provides", "axes", "packages"], **known)


def _recipe() -> Schema:
    number = {"type": "number"}
    count = {"type": "integer", "minimum": 1}
    sha256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    source = _object(
        recipe_source.KEYS,
        {
            "kind": {"enum": list(recipe_source.KINDS)},
            "name": _TEXT,
            "version": _TEXT,
            "revision": _TEXT,
            "sha256": sha256,
            "licence": _TEXT,
            "entry": {**_TEXT, "description": "the model in what is obtained: a path in it"},
            "files": _list(_TEXT, minItems=1),
            "data-files": {"type": "object", "additionalProperties": sha256},
            "limit": _SIZE,
            "arguments": {"type": "object"},
            "package": _TEXT,
        },
        ["kind", "name"],
    )
    size = {"anyOf": [count, {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}]}
    given = _object(
        recipe.INPUT_KEYS,
        {
            "name": _NAME,
            "dtype": {"enum": list(recipe.DTYPES)},
            "shape": _list(size),
            "range": _list(number, minItems=2, maxItems=2),
            "tensor": {**_TEXT, "description": "its name in the model, where that is another"},
        },
        ["name", "dtype", "shape"],
    )
    dims = {
        "static": _mapping(count),
        "dynamic": _mapping(_object(recipe.RANGE_KEYS, dict.fromkeys(recipe.RANGE_KEYS, count), recipe.RANGE_KEYS)),
    }
    tolerance = _object(
        recipe.TOLERANCE_KEYS,
        {"atol": number, "rtol": number, "cosine": number, "mismatch": number, "because": _TEXT},
        ["because"],
    )
    metric = _object(
        recipe.METRIC_KEYS, {"name": {"enum": list(recipe.METRICS)}, "minimum": _mapping(number)}, recipe.METRIC_KEYS
    )
    properties: Schema = {
        "recipe": _NAME,
        "summary": _TEXT,
        "exporters": _list(_NAME, minItems=1),
        "script": _TEXT,
        "source": source,
        "inputs": _list(given, minItems=1),
        "dims": _object(recipe.SHAPES, dims),
        "seeds": _list({"type": "integer"}),
        "uses": _list(_NAME),
        "tolerance": _mapping(tolerance, minProperties=1),
        "metric": metric,
        "images": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 1,
            "description": "outputs (their places, from 0) that are pictures: shown beside the reference's",
        },
        "calibration": _object(
            recipe.CALIBRATION_KEYS,
            {
                "samples": count,
                "seed": {"type": "integer"},
                "folder": _TEXT,
                "callable": _NAME,
                "layout": {"enum": list(calibration.LAYOUTS)},
                "method": {"enum": list(calibration.METHODS)},
                **{key: {"type": ["number", "array"], "items": {"type": "number"}} for key in ("mean", "std")},
            },
        ),
        "settings": {"type": "object"},
    }
    return _object(recipe.KEYS, properties, ["recipe", "summary", "exporters", "inputs", "dims", "tolerance"])


def schema(kind: Kind = "matrix") -> Schema:
    """The schema of one kind of file."""
    body = {"matrix": _matrix, "family": _family, "recipe": _recipe}[kind]()
    title = {"matrix": "matrix.yaml", "family": "images/<family>/family.yaml", "recipe": "recipes/<model>/recipe.yaml"}
    return {"$schema": DRAFT, "title": f"EngineMatrix {title[kind]}", **body}
