"""What `locate` found: read from beside the cell, and told as text. See locate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.plan import Chain

SCHEMA = 1
FOLDER = "located"
"""Under `artifacts/`."""


def stored(root: Path, cells: Mapping[str, Chain]) -> dict[str, dict[str, Any]]:
    """Cell -> what was located in it, for those whose steps still have the keys that it was about. `root`: the store's."""
    out: dict[str, dict[str, Any]] = {}
    folder = root / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name
        chain = cells.get(name)
        if chain is None:
            continue
        try:
            found = json.loads((path / "located.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        keys = (chain.build.key, chain.run.key)
        if isinstance(found, dict) and found.get("schema") == SCHEMA and (found.get("build"), found.get("run")) == keys:
            out[name] = found
    return out


def lines(found: Mapping[str, Any], artifacts: Path) -> list[str]:
    """A result as text."""
    output, first, piece = found["output"], found["first"], found["subgraph"]
    out = [
        f"{'output':<11} {output['tensor']} of case {found['case']}: {_told(output)}; more than {found['limit']:.3g} is wrong "
        f"({found['limit_by']})"
    ]
    if first is None:
        worst = max(found["measured"], key=lambda one: one["error"] or 0.0, default=None)
        most = f"; the largest, {worst['tensor']}: {_told(worst)}" if worst else ""
        out.append(
            f"{'located':<11} no tensor goes wrong: {len(found['measured'])} of {found['tensors']} measured{most}"
        )
    else:
        out.append(f"{'located':<11} {first['tensor']}, made by {first['operator']} {first['node']}: {_told(first)}")
        out += [f"{'  from':<11} {one['tensor']}: {_told(one)}" for one in first["inputs"]]
        if not first["sudden"]:
            out.append(
                f"{'gradual':<11} its inputs are nearly as far off ({first['growth']:.2g} times): the error grows along the way"
            )
        if not found["confirmed"]:
            out.append(f"{'doubt':<11} it and all its inputs could not be seen in one engine that was still wrong")
    if not found["finished"]:
        out.append(f"{'doubt':<11} the search ended at its limit of engines; --tries gives more")
    healed = [one["tensor"] for one in found["left"] if one["why"] == "healed"]
    if healed:
        out.append(
            f"{'healed':<11} the output was right with {', '.join(healed[:5])} marked: what the library fuses there is part of it"
        )
    refused = [one for one in found["left"] if one["why"] != "healed"]
    out += [f"{'not seen':<11} {one['tensor']}: {one['why']}" for one in refused[:5]]
    if found["absorbed"]:
        out.append(f"{'absorbed':<11} wrong, and what is made of it right: {', '.join(found['absorbed'][:5])}")
    if piece is not None:
        shows = "shows it" if piece["reproduces"] else "alone does not show it"
        out.append(
            f"{'piece':<11} {artifacts / piece['path']} ({len(piece['nodes'])} of {piece['of']} nodes) {shows}; {_told(piece)}"
        )
    out.append(f"{'search':<11} {found['engines']} engines, {len(found['measured'])} of {found['tensors']} tensors measured, "
               f"{found.get('seconds', 0):.1f} s; reference {found['reference']}")  # fmt: skip
    return out


def _told(entry: Mapping[str, Any]) -> str:
    text = entry["reason"] or ("no number" if entry["error"] is None else f"error {entry['error']:.3g}")
    return text + (f" (noise {entry['noise']:.1g})" if entry.get("noise") is not None else "")
