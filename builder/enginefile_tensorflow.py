"""TensorFlow's protobufs, told apart by their fields: a SavedModel (`saved_model.pb`) and a frozen graph (`GraphDef`).

tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, framework/graph.proto, framework/versions.proto.
"""

from __future__ import annotations

from typing import Any

from builder.enginefile_content import Content, Damaged, Exhausted, Header, text
from builder.enginefile_protobuf import LENGTH, VARINT, Field, Walk


def match(content: Content) -> Header | None:
    """The header of a SavedModel or a frozen graph, None if it is neither. Ask only of what is no ONNX model."""
    first = next(_fields(Walk(content), 0, content.size), None)
    if first is None:
        return None
    if (first.number, first.wire) == (1, VARINT):
        return _saved_model(content)
    return _graph(content) if (first.number, first.wire) in ((1, LENGTH), (4, LENGTH)) else None


def _fields(walk: Walk, start: int, end: int) -> Any:
    try:
        yield from walk.fields(start, end)
    except (Damaged, Exhausted):
        return


def _saved_model(content: Content) -> Header | None:
    walk = Walk(content)
    details: dict[str, Any] = {}
    graphs: list[Field] = []
    damage = ""
    try:
        for field in walk.fields(0, content.size):
            if (field.number, field.wire) == (1, VARINT):
                details["schema_version"] = field.value
            elif (field.number, field.wire) == (2, LENGTH):
                graphs.append(field)
            else:
                return None
    except (Damaged, Exhausted) as error:
        damage = str(error) or "it has too many fields"
    if not graphs or details.get("schema_version", 0) != 1:  # the only one there is
        return None
    version = ""
    tags: list[str] = []
    recognised = False
    for part in _fields(walk, graphs[0].start, graphs[0].end):
        if (part.number, part.wire) != (1, LENGTH):  # MetaGraphDef.meta_info_def
            continue
        recognised = True
        for item in _fields(walk, part.start, part.end):
            if (item.number, item.wire) == (4, LENGTH) and len(tags) < 16:
                tags.append(text(walk.bytes(item), 40))
            elif (item.number, item.wire) == (5, LENGTH):
                version = text(walk.bytes(item), 40)
    if not recognised:
        return None
    details.update(meta_graphs=len(graphs), tags=tags)
    return Header(format="saved-model", library="tensorflow", version=version, details=details, damage=damage)


def _graph(content: Content) -> Header | None:
    walk = Walk(content)
    details: dict[str, Any] = {}
    nodes, damage = 0, ""
    notes: tuple[str, ...] = ()
    try:
        for field in walk.fields(0, content.size):
            if (field.number, field.wire) not in ((1, LENGTH), (2, LENGTH), (3, VARINT), (4, LENGTH), (5, LENGTH)):
                return None
            if field.number == 1:
                if nodes == 0 and not _is_node(walk, field):
                    return None
                nodes += 1
            elif field.number == 4:
                for item in _fields(walk, field.start, field.end):
                    if item.number in (1, 2) and item.wire == VARINT:
                        details["producer" if item.number == 1 else "min_consumer"] = item.value
    except Damaged as error:
        damage = str(error)
    except Exhausted:
        notes = ("it has more nodes than were read",)
    if not nodes:
        return None
    details["nodes"] = nodes
    return Header(format="frozen-graph", library="tensorflow", details=details, damage=damage, notes=notes)


def _is_node(walk: Walk, field: Field) -> bool:
    """NodeDef: a name (1) and an operator (2), both of plain letters."""
    seen = {
        item.number: walk.bytes(item, 200)
        for item in _fields(walk, field.start, field.end)
        if item.wire == LENGTH and item.number in (1, 2)
    }
    return len(seen) == 2 and all(value and value.isascii() and value.decode().isprintable() for value in seen.values())
