"""`enginematrix facts`: list the catalog's facts, ask it, check it for contradictions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import EXIT_FAILURES, EXIT_OK, SpecErrors, UsageError

if TYPE_CHECKING:
    from builder.answers import Answer, Fact
    from builder.facts_records import Catalog, Entry

HELP = "List the facts about versions, GPUs and drivers with their sources; `facts check` finds contradictions."
_KEYS = frozenset(("key", "sources", "where"))
_DOUBTS = ("note", "conflict", "doubt", "inferred")


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `facts`."""
    parser.add_argument(
        "what", metavar="WHAT", nargs="*",
        help="a table, and words that its records must have (default: the tables); `check`; or a question: "
        "`gpu NAME`, `driver VERSION [CUDA [KIND]]`, `image REFERENCE`, `wheel PROJECT VERSION`, "
        "`numpy PROJECT VERSION NUMPY`, `opsets ENGINE VERSION`, `written EXPORTER VERSION OPSET [KIND]`",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON (default: no)")


def call(options: argparse.Namespace) -> int:
    """Print what was asked for. 1: `check` found something, or the catalog cannot be read. Raises UsageError."""
    from builder.facts_records import CATALOG

    return answer(list(options.what), options.json, CATALOG)


def answer(what: list[str], as_json: bool, catalog: Catalog) -> int:
    """`call`, of any catalog."""
    if what[:1] == ["check"]:
        if len(what) > 1:
            msg = f"facts check takes no {what[1]!r}"
            raise UsageError(msg)
        return _check(as_json, catalog)
    tables = _tables(catalog)
    if not what:
        counts = {name: len(rows) for name, rows in tables.items()}
        _print(as_json, counts, (f"{name:28} {count:4} records" for name, count in counts.items()))
        return EXIT_OK
    name, *words = what
    if name in _QUESTIONS and words:
        return _ask(name, words, as_json, catalog)
    chosen = [table for table in tables if table == name or table.partition("/")[0] == name]
    if not chosen:
        from builder.versions import nearest

        msg = f"no facts about {name!r}; {nearest(name, [*tables, *_QUESTIONS, 'check'])}"
        raise UsageError(msg.rstrip("; "))
    rows = [
        {"table": table, **row} for table in chosen for row in tables[table]
        if all(word.casefold() in json.dumps(row, ensure_ascii=False).casefold() for word in words)
    ]  # fmt: skip
    _print(as_json, rows, (_row(row) for row in rows))
    return EXIT_OK


def _check(as_json: bool, catalog: Catalog) -> int:
    from builder import facts_check

    try:
        found, known = facts_check.check(catalog), facts_check.known(catalog)
    except SpecErrors as errors:
        data = [{"rule": "file", "text": error.message, "where": str(error.where)} for error in errors.errors]
        _print(as_json, {"found": data, "known": []}, (str(error) for error in errors.errors))
        return EXIT_FAILURES
    lines = [f"{item.where}: known {item.rule}: {item.text}" for item in known]
    lines += [f"{item.where}: {item.rule}: {item.text}" for item in found]
    lines.append(f"{len(found)} contradictions; {len(known)} disagreements and doubts that are known and explained")
    data_ = {
        key: [{"rule": item.rule, "text": item.text, "where": str(item.where)} for item in items]
        for key, items in (("found", found), ("known", known))
    }
    _print(as_json, data_, lines)
    return EXIT_FAILURES if found else EXIT_OK


def _tables(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """`file/table` -> records as plain data, each with its sources and place."""
    from builder.facts_records import FILES

    found: dict[str, list[dict[str, Any]]] = {}
    for file, tables in FILES.items():
        for table, cls in tables.items():
            stem = file.removesuffix(".yaml")
            name = stem if stem == table else f"{stem}/{table}"
            found[name] = [_plain(entry) for entry in catalog.table(cls).values()]
    for table, images in catalog.images.items():
        found[f"images/{table}"] = [
            {"key": key, **row.facts, "note": row.note, "conflict": row.conflict, "inferred": list(row.inferred),
             "sources": list(row.sources), "where": str(row.where)}
            for key, row in images.records.items()
        ]  # fmt: skip
    for project, listed in catalog.projects.items():
        found[f"releases/{project}"] = [
            {"key": version, "python": list(release.python), "sources": [listed.source], "where": str(release.where)}
            for version, release in listed.releases.items()
        ]
    return found


def _plain(entry: Entry) -> dict[str, Any]:
    import dataclasses

    row = {item.name.replace("_", "-"): getattr(entry, item.name) for item in dataclasses.fields(entry)}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
    return {
        **{key: value for key, value in plain.items() if value not in ("", [], 0, False)},
        "where": str(entry.where),
    }


def _row(row: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in row.items() if key not in (*_KEYS, *_DOUBTS, "table") and value}
    text = ", ".join(f"{key} {_text(value)}" for key, value in shown.items())
    lines = [f"{row['table']} {row['key']}: {text}"]
    lines += [f"    {key}: {_text(row[key])}" for key in _DOUBTS if row.get(key)]
    lines += [f"    source: {source}" for source in row["sources"]]
    return "\n".join([*lines, f"    at {row['where']}"])


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _ask(name: str, words: list[str], as_json: bool, catalog: Catalog) -> int:
    from builder.answers import Answer

    least, most, ask = _QUESTIONS[name]
    if name == "gpu":
        words = [" ".join(words)]
    if not least <= len(words) <= most:
        msg = f"facts {name} takes {least}{f' to {most}' if most > least else ''} words, not {len(words)}"
        raise UsageError(msg)
    data, lines = {}, []
    for title, found in ask(words, catalog).items():
        assert isinstance(found, Answer)
        value = _value(found.value)
        told = value if value is not None else "unknown"
        data[title] = {"value": value, "unknown": found.unknown, "facts": [_fact(fact) for fact in found.facts]}
        lines.append(f"{title}: {told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)}")
        if found.unknown:
            lines.append(f"    {found.unknown}")
        for fact in found.facts:
            lines.append(f"    {fact.text}" + (f" ({fact.doubt})" if fact.doubt else ""))
            lines += [f"        source: {source}" for source in fact.sources]
            lines.append(f"        at {fact.where}")
    _print(as_json, data, lines)
    return EXIT_OK


def _fact(fact: Fact) -> dict[str, Any]:
    return {"text": fact.text, "doubt": fact.doubt, "sources": list(fact.sources), "where": str(fact.where)}


def _value(value: Any) -> Any:
    """An answer's value as plain data."""
    import dataclasses
    from enum import Enum

    from builder.facts_records import Entry

    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, Entry):
        return _plain(value).get("name", value.key)
    if dataclasses.is_dataclass(value):
        return {item.name: _value(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else value


def _gpu(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    found: dict[str, Answer[Any]] = {"gpu": knowledge.gpu(words[0], catalog=catalog)}
    capability = knowledge.capability(words[0], catalog=catalog)
    found["compute capability"] = capability
    if capability.value is not None:
        found["cuda"] = knowledge.toolkits(capability.value, catalog=catalog)
        found["tensorrt"] = knowledge.tensorrt_releases(capability.value, catalog=catalog)
        asked = {name: knowledge.precision(capability.value, name, catalog=catalog) for name in knowledge.PRECISIONS}
        found["fast precisions"] = knowledge.Answer(
            value={name: answer.value for name, answer in asked.items()}, facts=asked["fp16"].facts
        )
    return found


def _driver(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    if len(words) == 1:
        return {"cuda": knowledge.driver_cuda(words[0], catalog=catalog)}
    kind = words[2] if len(words) > 2 else ""
    if kind and kind not in knowledge.KINDS:
        msg = f"{kind!r} is no kind of GPU; there are {', '.join(knowledge.KINDS)}"
        raise UsageError(msg)
    return {f"driver {words[0]} runs CUDA {words[1]}": knowledge.driver_runs(words[0], words[1], kind, catalog=catalog)}


def _image(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    return {"image": knowledge.image(words[0], catalog=catalog)}


def _wheel(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    return {"wheel": knowledge.wheel(words[0], words[1], catalog=catalog)}


def _opsets(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    engine, version = words
    if engine not in knowledge.ENGINES:
        msg = f"{engine!r} is none of {', '.join(knowledge.ENGINES)}"
        raise UsageError(msg)
    found: dict[str, Answer[Any]] = {"opsets": knowledge.opsets(engine, version, catalog=catalog)}
    if engine in ("torch", "tf2onnx"):
        found["default opset"] = knowledge.default_opset(engine, version, catalog=catalog)
    if engine in ("onnx", "onnxruntime"):
        found["ir"] = knowledge.ir(engine, version, catalog=catalog)
    return found


def _numpy(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    return {f"{words[0]} {words[1]} works with NumPy {words[2]}": knowledge.takes_numpy(*words, catalog=catalog)}


def _written(words: list[str], catalog: Catalog) -> dict[str, Answer[Any]]:
    from builder import knowledge

    exporter, version, opset = words[:3]
    if exporter not in knowledge.EXPORTERS:
        msg = f"{exporter!r} is none of {', '.join(knowledge.EXPORTERS)}"
        raise UsageError(msg)
    if not opset.isascii() or not opset.isdecimal() or len(opset) > 3 or int(opset) < 1:
        msg = f"{opset!r} is no opset"
        raise UsageError(msg)
    kind = words[3] if len(words) > 3 else ""
    if kind and (exporter != "torch" or kind not in ("script", "graph")):
        msg = f"{kind!r} is no kind of exporter; torch has script and graph"
        raise UsageError(msg)
    return {"written": knowledge.written(exporter, version, int(opset), kind=kind, catalog=catalog)}


_QUESTIONS: dict[str, tuple[int, int, Callable[[list[str], Any], dict[str, Any]]]] = {
    "gpu": (1, 1, _gpu), "driver": (1, 3, _driver), "image": (1, 1, _image), "wheel": (2, 2, _wheel), "opsets": (2, 2, _opsets),
    "numpy": (3, 3, _numpy), "written": (3, 4, _written),
}  # fmt: skip


def _print(as_json: bool, data: Any, lines: Iterable[str]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
