"""choose.html: `pick` as a page. One file that asks nobody: choose GPU, driver, versions and precision, see the stacks that fit.

All that facts and runs say is judged here, by builder/pick.py and its parts, for every value that can be chosen; the page's
script looks it up, compares version clauses, and ranks. Texts are foreign, as in report.html: see builder/report/page.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from builder.project import Project
from builder.values import digest

if TYPE_CHECKING:
    from builder.facts_records import Catalog
    from builder.pick_stacks import Candidate

NAME = "choose.html"
_HERE = Path(__file__).parent
_JUDGING = (
    "answers.py",
    "versions.py",
    "facts*.py",
    "knowledge*.py",
    "pick*.py",
    "catalog/*.yaml",
    "report/choose*.py",
)
"""What the answers are made of, beside the stored runs: while it is the same, so are they."""
_MADE: dict[str, dict[str, Any]] = {}
"""What the facts say, by `facts_key`."""


def write(project: Project, report: Mapping[str, Any], *, always: bool = False) -> bool:
    """Write the page beside report.html unless it is there and would say just the same; whether it was written.

    Raises OSError, SpecErrors (a wrong catalog), StoreError, LockError.
    """
    from builder.report.assemble import write as whole

    known = facts_key()
    mark = project.report / ".choose"
    content = digest([known, _runs_key(project), _file_key(project.lock), [cell["id"] for cell in report["cells"]]])
    with contextlib.suppress(OSError):
        if not always and (project.report / NAME).exists() and mark.read_text(encoding="utf-8") == content:
            return False
    whole(project.report / NAME, render(data(project, report, facts(project.report / ".choose-facts.json", known))))
    whole(mark, content)
    return True


def facts_key() -> str:
    """Hash of the catalog and of the code that judges."""
    sha = hashlib.sha256()
    for pattern in (*_JUDGING, "report/templates/*"):
        for path in sorted(_HERE.parent.glob(pattern)):
            sha.update(path.name.encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


def _runs_key(project: Project) -> list[Any]:
    """Changes with every outcome that is stored; nothing is read of them."""
    name = f"file:{quote(str((project.artifacts / 'results.sqlite').resolve()))}?mode=ro"
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(name, uri=True)) as db:
        return list(db.execute("select max(rowid), count(*) from outcomes").fetchone())
    return []


def _file_key(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def facts(kept: Path, key: str) -> dict[str, Any]:
    """What the facts say, from `kept` where that was made of the same catalog and code; else judged anew and kept."""
    from builder.facts_records import CATALOG
    from builder.report.assemble import write as whole

    if key not in _MADE:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(kept.read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.get("key") == key:
                _MADE[key] = dict(found["facts"])
                return _MADE[key]
        _MADE[key] = judged(CATALOG)
    with contextlib.suppress(OSError):  # then it is made again next time
        whole(kept, json.dumps({"key": key, "facts": _MADE[key]}, separators=(",", ":")))
    return _MADE[key]


def judged(catalog: Catalog) -> dict[str, Any]:
    """What the facts say of every stack, as the page looks it up. Raises SpecErrors."""
    from builder import pick, pick_conflict
    from builder.pick_judge import Judge, Question
    from builder.pick_stacks import ALIASES, COMPONENTS, candidates
    from builder.report import choose_options, choose_tables
    from builder.report.choose_tables import OWN, STACK

    stacks = candidates(catalog)
    words, judge = choose_tables.Words(), Judge(catalog)
    options = choose_options.gpus(catalog)
    values = choose_options.values(catalog, stacks)
    other, gpus = choose_options.other_gpus(options, stacks, catalog, words.texts)
    tables = {"gpu": choose_tables.table(judge, "gpu", [("", {})], stacks, [gpu for gpu in gpus if gpu], words)}
    for key, known in values.items():
        asked = [(value, {key: value}) for value in known]
        tables[key] = choose_tables.table(judge, key, asked, stacks, gpus, words, free=key == "driver")
    own: dict[str, Any] = dict.fromkeys(values, OWN)
    every = Question(gpu=options[1].hardware, needs={STACK: OWN}, **own)
    return {
        "classes": list(pick.CLASSES), "aliases": ALIASES, "components": list(COMPONENTS),
        "requirements": [[found.key.split(":")[0], found.text] for found in every.requirements], "same": pick_conflict._SAME,
        "gpus": [_gpu(option, words) for option in options], "other_gpus": other, "values": values,
        "branches": choose_options.branches(catalog), "tables": tables,
        "needs": choose_tables.needs(judge, COMPONENTS, stacks, words),
        "instead": choose_options.others(values, stacks, catalog, words.texts),
        "floors": choose_options.floors(stacks, catalog), "move": choose_options.driver_words(catalog, OWN),
        "stacks": [_stack(stack, words) for stack in stacks],
        "verdicts": words.verdicts.all(), "texts": words.texts.all(), "facts": words.facts.all(), "sources": words.sources.all(),
    }  # fmt: skip


def _gpu(option: Any, words: Any) -> dict[str, Any]:
    from builder.pick_judge import Question

    gpu = option.hardware
    found = {
        "label": option.label,
        "detail": option.detail,
        "search": option.search,
        "name": option.name,
        "also": option.also,
    }
    if gpu is not None:
        asked = Question(gpu=gpu).requirements[0].text
        found |= {"asked": asked, "capabilities": gpu.capabilities, "kind": gpu.kind, "told": gpu.name,
                  "facts": [words.fact(fact) for fact in gpu.facts]}  # fmt: skip
    return found


def _stack(stack: Candidate, words: Any) -> dict[str, Any]:
    return {
        "id": stack.id, "group": stack.group, "order": stack.order, "kind": stack.kind, "held": stack.components,
        "python": stack.pythons, "image": stack.reference, "platforms": stack.platforms,
        "facts": [words.fact(fact) for fact in stack.facts],
    }  # fmt: skip


def data(project: Project, report: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What the script gets: what the facts say, and what the runs of this project's store say. Raises SpecErrors, StoreError,
    LockError."""
    from builder import pick, pick_evidence
    from builder.facts_records import CATALOG
    from builder.pick_stacks import candidates
    from builder.report import choose_evidence, choose_options

    stacks = candidates(CATALOG)
    observations = pick_evidence.read(project.artifacts / "results.sqlite")
    cells = {cell["id"] for cell in report["cells"]}
    options = [option.hardware for option in choose_options.gpus(CATALOG)]
    limit = (pick.pick.__kwdefaults__ or {})["max_age"]
    outcomes = sum(item.role == "engine" for items in observations.values() for item in items)
    return {
        **known, "emit": emitted(stacks, project), "max_age": limit, "name": report["run"]["matrix"]["name"],
        "written": report["run"]["started"], "outcomes": outcomes, "all_outcomes": outcomes < pick_evidence.LIMIT,
        "evidence": choose_evidence.weighed(stacks, options, observations, CATALOG, cells.__contains__),
    }  # fmt: skip


def emitted(stacks: Sequence[Candidate], project: Project) -> list[list[str]]:
    """Of each stack what fetches it: an image's pull line, without a platform and for each; or its requirement lines. Hashes
    of packages are for `pick --emit`, which resolves them."""
    from builder import lock, pick_emit, pick_known
    from builder.errors import UsageError
    from builder.report.choose_options import PLATFORMS

    known = pick_known.Known(lock=lock.read(project.lock))
    out = []
    for stack in stacks:
        texts = [] if stack.reference else ["\n".join(stack.packages)]
        for platform in ("", *PLATFORMS) if stack.reference else ():
            try:
                texts.append(pick_emit.docker(stack, known, platform).rstrip("\n"))
            except UsageError as error:  # the image is not for that platform
                texts.append(f"# {error}")
        out.append(texts)
    return out


def render(value: Mapping[str, Any]) -> str:
    """The page."""
    import base64

    import jinja2
    from markupsafe import Markup

    from builder.report import page

    text = page.embedded(value)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(page.TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    nonce = base64.b64encode(hashlib.sha256(text.encode()).digest()[:18]).decode()
    source = {
        name: (page.TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "choose.css", "choose.js")
    }
    return environment.get_template("choose.html.j2").render(
        name=value["name"], written=value["written"], stacks=len(value["stacks"]), nonce=nonce,
        css=Markup(source["report.css"] + source["choose.css"]), js=Markup(source["choose.js"]), data=Markup(text),  # noqa: S704
    )  # fmt: skip
