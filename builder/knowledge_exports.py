"""What an exporter really writes when it is asked for an ONNX opset. Questions to the catalog; see builder/knowledge.py."""

from __future__ import annotations

from dataclasses import dataclass

from builder.answers import Answer, Fact, absent, fact, find
from builder.facts_records import CATALOG, Catalog, Entry, Exporter, Onnx, Tf2onnx
from builder.knowledge_software import opsets
from builder.versions import ordered

EXPORTERS: dict[str, type[Entry]] = {"torch": Exporter, "tf2onnx": Tf2onnx, "onnx": Onnx}
"""What writes ONNX files -> its table: torch.onnx, tf2onnx, and onnx.version_converter."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What comes out. `opsets`: every opset that the file may have, ascending: one where it is certain, none where the
    exporter refuses; `ir`: its IR version, None where it is not known or nothing is written."""

    opsets: tuple[int, ...]
    ir: int | None

    @property
    def opset(self) -> int | None:
        """The opset of the file; None where there is no file, or it may be one of several."""
        return self.opsets[0] if len(self.opsets) == 1 else None

    @property
    def refused(self) -> bool:
        """Whether the exporter ends with an error instead of writing a file."""
        return not self.opsets


def written(exporter: str, version: str, opset: int, *, kind: str = "", catalog: Catalog = CATALOG) -> Answer[Written]:
    """What an exporter's release writes when it is asked for an opset.

    `exporter`: torch, tf2onnx or onnx (its version converter); `kind`: 'script' or 'graph' of torch, by default the one that
    torch.onnx.export takes unasked. `unknown` stands beside a value that is known in part. Raises SpecErrors; ValueError for
    another exporter and for what is no opset.
    """
    if exporter not in EXPORTERS:
        msg = f"{exporter!r} is none of {', '.join(EXPORTERS)}"
        raise ValueError(msg)
    if opset < 1:
        msg = f"{opset} is not an opset"
        raise ValueError(msg)
    table = catalog.table(EXPORTERS[exporter])
    entry = find(table, version)
    if entry is None:
        return Answer(value=None, unknown=absent(table, version, exporter))
    if isinstance(entry, Exporter) and (kind or entry.default) == "graph":
        return _graph(entry, opset, catalog)
    known = opsets(exporter, version, exporter="script" if exporter == "torch" else "", catalog=catalog)
    if known.value is None or known.value.last is None:
        return Answer(value=None, facts=known.facts, unknown=known.unknown)
    label = f"{exporter} {entry.key}" + (" (script exporter)" if exporter == "torch" else "")
    by_opset = isinstance(entry, Exporter | Tf2onnx) and entry.ir_by_opset
    if known.value.beyond is not None and opset >= known.value.beyond:
        refusal = fact(entry, f"{label} refuses ONNX opset {known.value.beyond} and above")
        return Answer(value=Written(opsets=(), ir=None), facts=(refusal,))
    if isinstance(entry, Exporter) and by_opset and opset not in {item.opset for item in catalog.table(Onnx).values()}:
        refusal = fact(entry, f"{label} refuses an opset that no release of ONNX brought, as {opset}")
        return Answer(value=Written(opsets=(), ir=None), facts=(refusal,))
    above = opset > known.value.last
    if above and not (isinstance(entry, Exporter) and entry.soft and entry.script_refused > opset):
        reason = f"what {label} writes when it is asked for opset {opset} is not recorded"
        return Answer(value=None, facts=known.facts, unknown=reason)
    asked = fact(entry, f"{label} writes the opset that it is asked for" + (", with a warning" if above else ""))
    if not by_opset:
        reason = f"the IR version that {label} writes is not recorded"
        if isinstance(entry, Onnx):
            reason = "onnx.version_converter leaves the IR version as it is in the model"
        return Answer(value=Written(opsets=(opset,), ir=None), facts=(asked,), unknown=reason)
    ir, brought = _came_with(opset, catalog)
    if ir is not None and isinstance(entry, Tf2onnx) and opset >= 7:
        ir = max(
            ir, 4
        )  # its OPSET_TO_IR_VERSION has 4 for 7 and 8, which came with IR 3: PlaceholderWithDefault needs it
    unknown = "" if ir is not None else f"the IR version that came with opset {opset} is not recorded"
    return Answer(value=Written(opsets=(opset,), ir=ir), facts=(asked, *brought), unknown=unknown)


def _graph(entry: Exporter, opset: int, catalog: Catalog) -> Answer[Written]:
    """The exporter by torch.export builds its graph at one opset and converts it, or leaves it there if it cannot."""
    label = f"torch {entry.key} (graph exporter)"
    known = opsets("torch", entry.key, exporter="graph", catalog=catalog)
    if known.value is None or known.value.first is None or known.value.last is None:
        return Answer(value=None, facts=known.facts, unknown=known.unknown)
    first, last = known.value.first, known.value.last
    if opset > last:
        reason = f"what {label} writes when it is asked for opset {opset} is not recorded"
        return Answer(value=None, facts=known.facts, unknown=reason)
    ir = entry.graph_ir or None
    unknown = "" if ir else f"the IR version that {label} writes is not recorded"
    how = f"{label} writes IR version {ir}" if ir else label
    if opset >= first:
        text = f"{how}; of opsets {first} to {last} it writes the one that it is asked for"
        return Answer(value=Written(opsets=(opset,), ir=ir), facts=(fact(entry, text),), unknown=unknown)
    text = f"{how}; asked for an opset below {first} it writes {first} wherever it cannot convert the model down"
    reason = f"whether the model can be converted down to opset {opset} shows only when it is exported"
    return Answer(value=Written(opsets=(opset, first), ir=ir), facts=(fact(entry, text),), unknown=unknown or reason)


def _came_with(opset: int, catalog: Catalog) -> tuple[int | None, tuple[Fact, ...]]:
    """The IR version of the first release of ONNX that has an opset (onnx.helper.OP_SET_ID_VERSION_MAP is made so)."""
    table = catalog.table(Onnx)
    for key in ordered(table):
        entry = table[key]
        if entry.opset >= opset:
            found = entry.ir if entry.ir and not entry.doubt else None
            return found, (fact(entry, f"ONNX opset {opset} came with IR version {found}"),) if found else ()
    return None, ()
