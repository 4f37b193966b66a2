"""report.html: one page that needs nothing but itself, and plotly beside it for the view of timings.

Everything in it that came from a log, a model or a file name is hostile: the page is made by Jinja2 with autoescape,
the data is JSON that no parser of HTML can leave, the script makes text nodes only, and a content policy forbids the
rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from builder.report.assemble import stacks
from builder.report.words import MEANING, duration, size
from builder.values import FAILING, STATUSES

TEMPLATES = Path(__file__).parent / "templates"
#: What the page's script is put together from, in this order: the ground, the views in the order of the navigation, the way
#: between them. They share one scope.
SCRIPTS = ("core", "selector", "overview", "matrix", "cells", "cell", "speed", "accuracy", "portability", "facts", "rules",
           "report")  # fmt: skip


def assets() -> list[Path]:
    """Files that lie beside the page, in `assets/`: plotly's minified bundle (MIT), as its Python package ships it."""
    import importlib.util

    # Found, not imported: importing plotly costs far more than copying a file.
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        return []
    bundle = Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return [bundle] if bundle.is_file() else []


#: Bytes of pictures that the page holds; of what goes beyond it says where they lie.
PICTURES = 6 << 20


def render(report: Mapping[str, Any], *, choose: bool = False, root: Path | None = None) -> str:
    """The page for a complete report (with findings). `choose`: choose.html lies beside it; `root`: the folder that its paths
    are relative to, for the pictures of outputs."""
    import jinja2
    from markupsafe import Markup

    data = embedded({**view(report), "pictures": pictures(report["cells"], root)})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    nonce = base64.b64encode(hashlib.sha256(data.encode()).digest()[:18]).decode()
    return environment.get_template("report.html.j2").render(
        report=report, statuses=[(s, report["counts"][s], MEANING[s]) for s in STATUSES if report["counts"][s]],
        nonce=nonce, choose=choose, css=Markup(_source("report.css")), js=Markup(script()), data=Markup(data),  # noqa: S704
    )  # fmt: skip


def script() -> str:
    """The page's script: one function, so that none of its names is seen from without."""
    return '"use strict";\n(() => {\n' + "\n".join(_source(f"{name}.js") for name in SCRIPTS) + "})();\n"


@cache
def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def embedded(value: Any) -> str:
    """JSON for inside `<script>`: no character in it means anything to HTML, nor ends a line of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script gets: the report with what repeats (stacks, loaded libraries) said once."""
    cells = report["cells"]
    engines = _ordered(cell["engine"] for cell in cells)
    exporters = _ordered(cell["exporter"] for cell in cells)
    builders = _ordered(cell["built_on"] for cell in cells if "built_on" in cell)
    builder_at = {stack["id"]: i for i, stack in enumerate(builders)}
    engine_at = {stack["id"]: i for i, stack in enumerate(engines)}
    exporter_at = {stack["id"]: i for i, stack in enumerate(exporters)}
    loaded: dict[str, int] = {}
    rows = []
    for cell in cells:
        row = {k: v for k, v in cell.items() if v not in (None, [], {}, "", False)}
        row["engine"], row["exporter"] = engine_at[cell["engine"]["id"]], exporter_at[cell["exporter"]["id"]]
        if "built_on" in cell:
            row["built_on"] = builder_at[cell["built_on"]["id"]]
        if cell["loaded"]:
            row["loaded"] = loaded.setdefault(json.dumps(cell["loaded"], sort_keys=True), len(loaded))
        rows.append(row)
    by_id = {cell["id"]: cell for cell in cells}
    machine = report["run"]["machine"]
    return {
        **{k: report[k] for k in ("version", "run", "counts", "selected", "exit", "undiagnosed")},
        "took": duration(report["run"]["seconds"]), "memory": size(machine["memory"]) if machine["memory"] else "",
        "statuses": [[status, MEANING[status]] for status in STATUSES], "failing": sorted(FAILING),
        "findings": [{**f, "where": stacks(by_id[i]["engine"] for i in f["cells"]),
                      "short": stacks((by_id[i]["engine"] for i in f["cells"]), 6)} for f in report["findings"]],
        "absent": _absent(cells), "engines": engines, "exporters": exporters, "builders": builders,
        "axes": _axes(cells), "cells": rows,
        "loaded": [json.loads(text) for text in loaded], "isolation": report["isolation"],
        "predictions": report["predictions"],
        "suites": report.get("suites", []), "operators": report.get("operators", False),
        "rules": {**report["rules"], "rules": [{k: v for k, v in r.items() if k != "cells"} for r in report["rules"]["rules"]]},
        "boundaries": report["boundaries"],
    }  # fmt: skip


def pictures(cells: Sequence[Mapping[str, Any]], root: Path | None) -> dict[str, str]:
    """Path -> data: address of the pictures of outputs, each once, those of failing cells first, PICTURES bytes in all. What
    is no PNG file below `root` is left out."""
    out: dict[str, str] = {}
    left = PICTURES
    for cell in sorted(cells, key=lambda cell: cell["status"] not in FAILING) if root is not None else ():
        for picture in (cell.get("files") or {}).get("pictures") or ():
            if root is None or picture["path"] in out:
                continue
            path = (root / picture["path"]).resolve()
            try:
                data = path.read_bytes() if path.is_relative_to(root.resolve()) else b""
            except OSError:
                continue
            if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) <= left:
                left -= len(data)
                out[picture["path"]] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return out


def _ordered(stacks_of: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stacks once each: families as they come, versions in their own order."""
    unique = {stack["id"]: dict(stack) for stack in stacks_of}
    families = list(dict.fromkeys(stack["family"] for stack in unique.values()))
    for stack in unique.values():
        more = [f"{k} {v}" for k, v in stack["fields"].items() if k not in (stack["family"], "python")]
        stack["version"] = stack["fields"].get(stack["family"]) or (more.pop(0) if more else stack["id"])
        stack["more"] = ", ".join(more)
        stack["label"] = f"{stack['version']} {stack['more']}".strip()
    return sorted(
        unique.values(),
        key=lambda s: (
            families.index(s["family"]),
            [_version(v) for k, v in s["fields"].items() if k != "python"],
            s["id"],
        ),
    )


def _version(text: str) -> tuple[int, Version | str]:
    try:
        return 0, Version(text)
    except InvalidVersion:
        return 1, text


def _axes(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Axis -> values, as they come; numbers in their order."""
    axes: dict[str, dict[str, None]] = {}
    for cell in cells:
        for name, value in cell["axes"].items():
            axes.setdefault(name, {})[str(value)] = None
    return {k: sorted(v, key=int) if all(x.isdigit() for x in v) else list(v) for k, v in axes.items()}


def _absent(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cells that were not run, by reason, most first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell["status"] in ("skipped", "unsupported"):
            groups.setdefault((cell["status"], cell["reason"]), []).append(cell)
    return [
        {"status": status, "reason": reason, "count": len(group), "where": stacks(cell["engine"] for cell in group),
         "cells": [cell["id"] for cell in group]}
        for (status, reason), group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
