"""The folder of a case: everything that shows the failure, for somebody who has nothing of ours. The same case gives the same
bytes, as a folder or as an archive.

    requirements.txt   every package with its hashes, from the lock     reproduce.py   the library's own API, nothing else
    requirements.in    the lines that it was resolved from              judge.py       is it the same failure?
    expected.json      what was seen                                    reproduce.sh   environment, reproduce.py, judge.py
    README.md          for a vendor's issue                             model, cases   what was read; hard links where they can be
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import repro_judge
from builder.lock import lines as requirement_lines
from builder.repro_case import Case, lines
from builder.repro_match import Refusal
from builder.repro_readme import libraries, machine, readme
from builder.repro_scripts import environment, library, model_files, script
from builder.repro_scrub import scrub

SCHEMA = 1
TITLE = 160
MESSAGE = 20000
"""Characters of the title and of the message in expected.json, at most."""
_EXECUTABLE = frozenset({"reproduce.sh", "reproduce.py"})


@dataclass(frozen=True, kw_only=True)
class Folder:
    texts: Mapping[str, str | bytes]
    files: Mapping[str, Path]
    """Name -> stored file."""
    left_out: Mapping[str, int]
    """Name -> bytes of what is too large."""

    def size(self) -> int:
        return sum(len(_bytes(text)) for text in self.texts.values()) + sum(
            p.stat().st_size for p in self.files.values()
        )


def make(case: Case, limit: int) -> Folder:
    """What the folder holds; a file of more than `limit` bytes is left out, and README.md says how to make it.
    Raises Refusal for what no script can show, OSError where a file cannot be read."""
    title = title_of(case)
    texts: dict[str, str | bytes] = {"reproduce.py": script(case, title)}
    files: dict[str, Path] = {}
    for name, item in model_files(case).items():
        if isinstance(item, str):
            texts[name] = item
        else:
            files[name] = item
    files.update(case.files)
    left_out = {name: size for name, path in files.items() if (size := path.stat().st_size) > limit}
    texts.update(case.blobs)
    needs = [name for name in (*case.files, *case.blobs) if not name.startswith(("smallest", "piece"))]
    files = {name: path for name, path in files.items() if name not in left_out}
    bare = not case.pins.packages
    rendered = (case.step.environment or case.step).data["rendered"]
    rules = rendered and case.family.image
    system = bool(rules and rules.site == "system")
    if not re.fullmatch(r"3\.\d+", case.pins.python):  # it is read by a shell
        msg = f"its Python is {case.pins.python!r}"
        raise Refusal(msg)
    example = _example(case)
    texts["reproduce.sh"] = environment().get_template("reproduce.sh.j2").render(
        python=case.pins.python, example=example, bare=bare, system=system,
        torch=_backend(case.pins.packages),
    )  # fmt: skip
    texts["judge.py"] = Path(repro_judge.__file__).read_text(encoding="utf-8")
    texts["requirements.txt"] = "" if bare else case.pins.requirements_txt()
    texts["requirements.in"] = "".join(f"{line}\n" for line in requirement_lines(case.stack))
    expected = _expected(case, title, needs)
    texts["expected.json"] = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    gpu = case.family.device == "cuda" and case.phase == "run"
    image = case.environment.get("image")
    if rendered is not None and image:
        base = f"{image['base']}@{image['digest']}"
        texts["Dockerfile"] = environment().get_template("Dockerfile.j2").render(base=base, gpu=gpu)
        texts[".dockerignore"] = "env\n"
    texts["README.md"] = readme(case, title, texts, files, left_out, example, gpu)
    return Folder(texts=texts, files=files, left_out=left_out)


def title_of(case: Case) -> str:
    """One line that names library, version and what was seen."""
    version = case.stack.value(case.stack.family) or case.stack.fields.get("release") or ""
    what = str(case.expected.get("text") or case.cell["line"] or case.cell["reason"])
    text = " ".join(scrub(f"{library(case)} {version}: {what}").split())
    return text if len(text) <= TITLE else text[: TITLE - 3] + "..."


def _example(case: Case) -> str:
    """A package that the stack is named by, in another version."""
    found = (re.match(r"([A-Za-z0-9._-]+)(\[[\w,.-]+\])?==", line) for line in requirement_lines(case.stack))
    return next((f"{one[1]}==VERSION" for one in found if one), "PACKAGE==VERSION")


def _backend(pins: Sequence[str]) -> str:
    """Which build of PyTorch is among the pins, as uv calls it: `cpu`, `cu126`; '' without PyTorch."""
    found = (re.match(r"torch==[\w.]+?(?:\+(cpu|cu\d+|rocm[\d.]+))?(?: ;|$)", pin) for pin in pins)
    return next((one[1] or "cpu" for one in found if one), "")


def _expected(case: Case, title: str, needs: list[str]) -> dict[str, Any]:
    cell = case.cell
    probe = case.environment.get("probe") or {}
    return {
        "schema": SCHEMA, "cell": cell["id"], "name": cell["slug"], "title": title, "status": cell["status"],
        "stage": cell["stage"], "category": cell["category"], "signature": cell["signature"], "when": cell["when"],
        "line": scrub(str(cell["line"] or "")), "message": "\n".join(lines(case.message, MESSAGE)),
        "end": {k: v for k, v in case.end.items() if k != "note"}, "phase": case.phase, "match": dict(case.expected),
        "seconds": case.step.seconds, "command": cell["command"], "needs": needs,
        "summary": scrub(str(cell["reason"])).replace("Failure: ", ""),
        "python": probe.get("python"), "distributions": probe.get("distributions") or {}, "libraries": libraries(case),
        "machine": machine(case),
    }  # fmt: skip


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def write(folder: Folder, target: Path, *, link: bool) -> None:
    """Put it into `target`, in the place of what is there. `link`: files may share their bytes with the store's. Raises
    OSError."""
    beside = target.with_name(f".{target.name[:150]}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        for name, text in folder.texts.items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(text))
            path.chmod(0o755 if name in _EXECUTABLE else 0o644)
        for name, source in folder.files.items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _put(source, path, link=link and not name.startswith("model/"))
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _put(source: Path, path: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source.resolve(), path)
        except OSError:  # another file system
            pass
        else:
            return
    shutil.copyfile(source, path)
    path.chmod(0o644)


def archive(folder: Folder, target: Path, name: str) -> None:
    """The same as a zip with one folder in it: nothing of the moment or the machine in it, and not compressed (what fills it are
    weights, and compressed bytes hang on the version of zlib). Raises OSError."""
    beside = target.with_name(f".{target.name[:150]}.{os.getpid()}")
    members: dict[str, str | bytes | Path] = {**folder.texts, **folder.files}
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as file:
            for member in sorted(members):
                about = zipfile.ZipInfo(f"{name}/{member}", (1980, 1, 1, 0, 0, 0))
                about.create_system = 3
                about.external_attr = (0o100755 if member in _EXECUTABLE else 0o100644) << 16
                item = members[member]
                if not isinstance(item, Path):
                    file.writestr(about, _bytes(item))
                    continue
                about.file_size = item.stat().st_size
                with item.open("rb") as source, file.open(about, "w") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
