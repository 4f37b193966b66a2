"""report.html: one page that needs nothing but itself, plotly beside it for the views that plot, and beyond some thousand
cells the folder with their details (builder/report/data.py).

Everything in it that came from a log, a model or a file name is hostile: the page is made by Jinja2 with autoescape,
the data is JSON that no parser of HTML can leave, the script makes text nodes only, and a content policy forbids the
rest.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from builder.report import data, known, story, versions
from builder.report.assemble import stacks
from builder.report.words import MEANING, duration, size
from builder.values import FAILING, STATUSES

TEMPLATES = Path(__file__).parent / "templates"
#: What the page's script is put together from, in this order: the ground, the views in the order of the navigation, the way
#: between them. They share one scope.
SCRIPTS = ("core", "pep440", "grammar", "selector", "axes", "overview", "matrix", "cells", "cell", "story", "known",
           "speed", "accuracy", "versions", "portability", "facts", "rules", "report")  # fmt: skip


def assets() -> list[Path]:
    """Files that lie beside the page, in `assets/`: plotly's minified bundle (MIT), as its Python package ships it."""
    import importlib.util

    # Found, not imported: importing plotly costs far more than copying a file.
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        return []
    bundle = Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return [bundle] if bundle.is_file() else []


#: Characters of details that the page holds; where they are more, all of them lie beside it.
INLINE = 8 << 20
#: What the names of folders with details begin with.
FOLDER = "cells-"
KEPT = 600
#: Keys of the report that only their own views read.
ANALYSIS = ("predictions", "rules", "boundaries")
#: Bytes of pictures that the page holds; of what goes beyond it says where they lie.
PICTURES = 6 << 20


def render(
    report: Mapping[str, Any], *, choose: bool = False, root: Path | None = None, out: Path | None = None
) -> str:
    """The page for a complete report (with findings). `choose`: choose.html lies beside it; `root`: the folder that its paths
    are relative to, for the pictures of outputs; `out`: the folder for details that are too many for the page (they are in it
    otherwise), which `sweep` clears of those of older pages."""
    import jinja2
    from markupsafe import Markup

    shared: dict[str, data.Texts] = {}
    with Parts(out) as parts:
        for rows in data.parts(report["cells"], shared):
            parts.add(embedded(rows))
    head = embedded({**view(report), "part": data.PART, "parts": parts.folder})
    blocks = {
        "numbers": data.numbers(report["cells"]), "analysis": {name: report[name] for name in ANALYSIS},
        "shared": {name: texts.values for name, texts in shared.items()}, "pictures": pictures(report["cells"], root),
        "story": story.for_page(report["cells"], root), "versions": versions.for_page(report["cells"]),
        "known": known.for_page(report["cells"], root),
    }  # fmt: skip
    scripts = [("data", head), *((name, embedded(value)) for name, value in blocks.items()),
               *((f"part-{at}", text) for at, text in enumerate(parts.texts))]  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    nonce = base64.b64encode(hashlib.sha256(head.encode()).digest()[:18]).decode()
    return environment.get_template("report.html.j2").render(
        report=report, statuses=[(s, report["counts"][s], MEANING[s]) for s in STATUSES if report["counts"][s]],
        nonce=nonce, choose=choose, css=Markup(_source("report.css") + _source("story.css")), js=Markup(script()),  # noqa: S704
        scripts=[(name, Markup(text)) for name, text in scripts],  # noqa: S704
    )  # fmt: skip


class Parts:
    """The texts of details: kept for the page up to INLINE bytes, and beyond that written as scripts into a folder named by
    what is in it, complete before any page names it. Without `out` all are kept."""

    def __init__(self, out: Path | None) -> None:
        self.out, self.texts, self.folder = out, list[str](), ""
        self._bytes, self._number, self._sha = 0, 0, hashlib.sha256()
        self._beside: Path | None = None

    def add(self, text: str) -> None:
        self.texts.append(text)
        self._bytes += len(text)
        if self.out is not None and (self._beside is not None or self._bytes > INLINE):
            self._flush(self.out)

    def _flush(self, out: Path) -> None:
        if self._beside is None:
            self._beside = Path(tempfile.mkdtemp(dir=out, prefix=f".{FOLDER}"))
        for text in self.texts:
            script = f"enginematrixPart({self._number},{text});\n".encode("utf-8", "replace")
            self._sha.update(script)
            (self._beside / f"{self._number}.js").write_bytes(script)
            self._number += 1
        self.texts = []

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._beside is None:
            return
        target = self._beside.with_name(f"{FOLDER}{self._sha.hexdigest()[:16]}")
        self.folder = target.name
        if kind is None:
            self._beside.chmod(0o755)
            with contextlib.suppress(OSError):  # it is there: the same details under the same name
                self._beside.rename(target)
            os.utime(target)
        shutil.rmtree(self._beside, ignore_errors=True)


def sweep(out: Path, html: str) -> None:
    """Remove details that the page does not name, once they are KEPT seconds old: another run may be about to name them, and a
    page of before may still be open."""
    for path in (*out.glob(f"{FOLDER}*"), *out.glob(f".{FOLDER}*")):
        with contextlib.suppress(OSError):
            if f'"{path.name}"' not in html and path.stat().st_mtime < time.time() - KEPT:
                shutil.rmtree(path, ignore_errors=True)


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
    """What the page's script gets at once: all cells as columns (`data.columns`), and what the overview says of them."""
    cells = report["cells"]
    by_id = {cell["id"]: cell for cell in cells}
    machine = report["run"]["machine"]
    failing = [cell for cell in cells if cell["status"] in FAILING]
    return {
        **{k: report[k] for k in ("version", "run", "counts", "selected", "exit", "undiagnosed")},
        "took": duration(report["run"]["seconds"]), "memory": size(machine["memory"]) if machine["memory"] else "",
        "statuses": [[status, MEANING[status]] for status in STATUSES], "failing": sorted(FAILING),
        "findings": [{**{k: v for k, v in f.items() if k not in ("cells", "engines")}, "first": f["cells"][0],
                      "where": stacks(by_id[i]["engine"] for i in f["cells"]),
                      "short": stacks((by_id[i]["engine"] for i in f["cells"]), 6)} for f in report["findings"]],
        "absent": _absent(cells), "axes": _axes(cells), **data.columns(cells, report["findings"]),
        "tally": {
            "failing": len(failing), "known": sum(_state(cell) == "expected" for cell in failing),
            "fixed": [at for at, cell in enumerate(cells) if _state(cell) not in (None, "expected")],
            "timed": sum(bool(cell["measure"]) for cell in cells), "moved": sum("built_on" in cell for cell in cells),
            "compared": sum(bool(cell["comparison"]) for cell in cells),
            "facts": len(report["predictions"]["rules"]), "refuted": len(report["predictions"]["refuted"]),
            "rules": len(report["rules"]["rules"]),
            "explained": bool(report["rules"]["rules"] or report["rules"]["unexplained"] or report["boundaries"]),
        },
        "isolation": report["isolation"], "coverage": report["coverage"], "since": report.get("since"),
        "suites": report.get("suites", []), "operators": report.get("operators", False),
    }  # fmt: skip


def _state(cell: Mapping[str, Any]) -> str | None:
    return cell["expected"]["state"] if cell["expected"] else None


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
        {"status": status, "reason": reason, "count": len(group), "where": stacks(cell["engine"] for cell in group)}
        for (status, reason), group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
