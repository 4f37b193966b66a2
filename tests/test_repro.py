"""Which failing cells leave a folder, what may be in it, and that it is the same every time."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from builder import repro, repro_folder, repro_judge, repro_match, repro_scripts, repro_suite
from builder.errors import UsageError
from builder.lock import Pins
from builder.repro_case import Case
from builder.repro_folder import Folder
from builder.repro_match import Refusal
from builder.repro_scrub import scrub
from builder.store import Store
from builder.values import Requirement, Stack

# What is taken out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("failed: /home/ann/work/secret-project/model.onnx", "failed: model.onnx"),
        ("at ~ann/x/model.onnx and ~/y/z.txt", "at model.onnx and z.txt"),
        ("https://ann:hunter2@example.org/x", "https://example.org/x"),
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123 used", "token *** used"),
        ("Authorization: Bearer abcdefgh12345678", "***"),
        ("key AKIAABCDEFGHIJKLMNOP", "key ***"),
        ("the value is s3cr3t-of-mine!", "the value is ***!"),
        ("\x1b[31mred\x1b[m", "red"),
        ("|a-b| <= 1e-4 and a / b", "|a-b| <= 1e-4 and a / b"),
    ],
)
def test_no_folder_secret_or_credential_goes_out(text: str, left: str) -> None:
    assert scrub(text, {"MY_API_KEY": "s3cr3t-of-mine", "HOME": "/home/ann", "TERM_TOKEN": "x"}) == left


# Which cells ---------------------------------------------------------------------------------------------------------


def cell(name: str, *, status: str = "failed", line: str = "it is bad", key: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "id": f"id-{name}", "slug": name, "key": f"{name}.{key}", "status": status, "category": "run-error", "signature": None,
        "line": line, "reason": line, "diagnosis": None, "remedy": None, "source": None, "expected": None, "degraded": [],
        "engine": {"id": "e", "family": "f", "fields": {}}, "axes": {"model": "m"}, "files": {"model": None}, **more,
    }  # fmt: skip


class Site:
    """A store, and cells whose folders hold what is made up here."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(path)
        self.root = path / repro.FOLDER
        self.made: list[str] = []
        self.refused: dict[str, str] = {}
        monkeypatch.setattr(repro, "_make", self._make)

    def _make(self, chain: Any, found: Any, store: Store, limit: int = 0) -> Folder:
        self.made.append(found["slug"])
        if found["slug"] in self.refused:
            raise Refusal(self.refused[found["slug"]])
        return Folder(texts={"expected.json": found["key"]}, files={}, left_out={})

    def leave(self, cells: list[dict[str, Any]], how: repro.How = "findings") -> list[str]:
        """Slugs of the folders that were made now."""
        self.made.clear()
        chains: Any = [SimpleNamespace(cell=SimpleNamespace(id=one["id"], folder=one["slug"])) for one in cells]
        repro.leave(chains, self.store, cells, how)
        return sorted(self.made)

    def there(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.name not in ("README.md", "index.json"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path / "artifacts", monkeypatch)


def test_one_folder_a_finding_and_pointers_for_the_rest(site: Site) -> None:
    cells = [cell("a"), cell("b"), cell("c", line="another"), cell("ok", status="verified")]
    assert site.leave(cells) == ["a", "c"]
    assert site.there() == ["a", "b.txt", "c"]
    assert "a/, a folder that shows it" in (site.root / "b.txt").read_text()
    assert [one.get("repro") for one in cells] == [
        {"path": "repro/a", "own": True, "why": None}, {"path": "repro/a", "own": False, "why": None},
        {"path": "repro/c", "own": True, "why": None}, None,
    ]  # fmt: skip
    assert site.leave([cell("b"), cell("a"), cell("c", line="another")], "all") == ["b"]
    assert site.there() == ["a", "b", "c"]


def test_the_smallest_model_shows_it(site: Site) -> None:
    for name, size in (("large", 100), ("small", 1)):
        (site.store.root / name).write_bytes(b"x" * size)
    cells = [cell("a", files={"model": "large"}), cell("b", files={"model": "small"}), cell("c")]
    assert site.leave(cells) == ["b"]


def test_nothing_new_is_nothing_to_do(site: Site) -> None:
    assert site.leave([cell("ok", status="verified")]) == []
    assert not site.root.exists(), "nothing ever failed"
    site.leave([cell("a"), cell("b")])
    stamp = (site.root / "index.json").stat().st_mtime_ns
    again = [cell("a"), cell("b")]
    assert site.leave(again) == []
    assert (site.root / "index.json").stat().st_mtime_ns == stamp
    assert again[1]["repro"]["path"] == "repro/a", "it is told all the same"
    (site.root / "a" / "expected.json").unlink()
    assert site.leave([cell("a"), cell("b")]) == ["a"], "what was removed by hand is made again"
    assert site.leave([cell("a", key="2"), cell("b")]) == ["a"], "the cell came out otherwise"
    assert (site.root / "a" / "expected.json").read_text() == "a.2"


def test_folders_go_with_their_failures(site: Site) -> None:
    site.leave([cell("a"), cell("b"), cell("c", line="another")])
    assert site.leave([cell("c", line="another")]) == []
    assert site.there() == ["a", "b.txt", "c"], "those of cells that were not selected stay"
    assert site.leave([cell("a", status="skipped"), cell("b", status="blocked"), cell("c", status="verified")]) == []
    assert site.there() == ["a", "b.txt"], "those of cells that were not tried stay"
    site.leave([cell("a", status="verified"), cell("b")])
    assert site.there() == ["b"]
    site.leave([cell("a", status="verified"), cell("b", status="verified")])
    assert site.there() == []
    assert site.leave([cell("a")], "none") == []
    assert site.there() == []


def test_where_no_script_can_show_it_the_next_one_is_tried_and_the_reason_kept(site: Site) -> None:
    site.refused = {"a": "no script for this", "c": "nor for that"}
    cells = [cell("a"), cell("b"), cell("c", line="another"), cell("d", status="failed", suite={"name": "s"})]
    assert site.leave(cells) == ["a", "b", "c"]
    assert site.there() == ["a.txt", "b"]
    assert cells[2]["repro"] == {"path": None, "own": False, "why": "nor for that"}
    assert "nor for that" in (site.root / "README.md").read_text()
    site.refused = {f"x{n}": "no" for n in range(9)}
    many = [cell(f"x{n}") for n in range(9)]
    assert len(site.leave(many)) == repro.TRIES, "not each of thousands is asked"
    assert all(one["repro"]["why"] == "no" for one in many)


def test_so_many_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repro, "MOST", 2)
    cells = [cell(f"c{n}", line=f"kind {chr(65 + n)}") for n in range(4)]
    assert len(site.leave(cells)) == 2
    assert "2 folders are made by themselves" in cells[3]["repro"]["why"]
    assert "enginematrix repro id-c3 --folder" in cells[3]["repro"]["why"]
    monkeypatch.setattr(repro, "MOST", 200)
    monkeypatch.setattr(repro, "BYTES", 3)
    cells = [cell(f"c{n}", line=f"kind {chr(65 + n)}", key="2") for n in range(4)]
    site.leave(cells)
    assert "MiB at most" in cells[3]["repro"]["why"]


def test_ten_thousand_failures_leave_one_folder_and_the_next_time_nothing(site: Site) -> None:
    cells = [cell(f"c{n:05}") for n in range(10_000)]
    started = time.monotonic()
    assert site.leave(cells) == ["c00000"]
    first = time.monotonic() - started
    assert len(site.there()) == 10_000
    started = time.monotonic()
    assert site.leave([cell(f"c{n:05}") for n in range(10_000)]) == []
    assert time.monotonic() - started < 1.0
    assert first < 20.0


def test_gc_takes_what_is_of_no_cell(site: Site) -> None:
    site.leave([cell("a"), cell("b"), cell("c", line="another")])
    (site.root / "c.zip").touch()
    assert {path.name for path in repro.unused(site.store.root, {"a", "b"})} == {"c", "c.zip"}
    assert not repro.unused(site.store.root, {"a", "b", "c", "c.zip"})


def test_what_gc_took_costs_no_later_run_anything(site: Site) -> None:
    site.leave([cell("a"), cell("b", line="another")])
    shutil.rmtree(site.root / "b")
    site.leave([cell("a")])
    stamp = (site.root / "index.json").stat().st_mtime_ns
    site.leave([cell("a")])
    assert (site.root / "index.json").stat().st_mtime_ns == stamp


def test_a_damaged_index_is_no_index(site: Site) -> None:
    site.leave([cell("a")])
    for text in ("{damaged", "[]", '{"schema": 99}'):
        (site.root / "index.json").write_text(text)
        assert site.leave([cell("a")]) == ["a"]


# One cell's ----------------------------------------------------------------------------------------------------------


def test_export_takes_no_folder_of_others_and_no_cell_without_a_failure(site: Site, tmp_path: Path) -> None:
    chain: Any = SimpleNamespace(cell=SimpleNamespace(id="id-a", folder="a"))
    with pytest.raises(UsageError, match="there is no failure to show"):
        repro.export(chain, cell("a", status="verified"), site.store, None, zipped=False)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    with pytest.raises(UsageError, match="no such folder"):
        repro.export(chain, cell("a"), site.store, mine, zipped=False)
    assert (mine / "precious").exists()
    site.refused = {"a": "no script for this"}
    with pytest.raises(UsageError, match=r"no script for this; .*show id-a --log"):
        repro.export(chain, cell("a"), site.store, None, zipped=False)
    site.refused = {}
    assert repro.export(chain, cell("a"), site.store, None, zipped=False).path == site.root / "a"
    assert repro.export(chain, cell("a"), site.store, tmp_path / "x", zipped=True).path == tmp_path / "x.zip"


def test_the_archive_is_the_same_bytes_whenever_and_from_wherever(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    model = tmp_path / "a" / "m"
    model.write_bytes(b"model")
    folder = Folder(texts={"reproduce.sh": "echo\n", "README.md": "ä\n"}, files={"model.onnx": model}, left_out={})
    repro_folder.archive(folder, tmp_path / "1.zip", "name")
    model.chmod(0o400)
    os.utime(model, (0, 0))
    other = Folder(texts=dict(reversed(folder.texts.items())), files=folder.files, left_out={})
    repro_folder.archive(other, tmp_path / "2.zip", "name")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as file:
        modes = {one.filename: one.external_attr >> 16 for one in file.infolist()}
    assert modes == {"name/README.md": 0o100644, "name/model.onnx": 0o100644, "name/reproduce.sh": 0o100755}


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "x"
    repro_folder.write(Folder(texts={"expected.json": "1"}, files={}, left_out={}), target, link=True)
    broken = Folder(texts={"expected.json": "2"}, files={"model.onnx": tmp_path / "gone"}, left_out={})
    with pytest.raises(FileNotFoundError):
        repro_folder.write(broken, target, link=True)
    assert (target / "expected.json").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


# The scripts ---------------------------------------------------------------------------------------------------------

BOTH = {"inputs": [{"name": "x"}], "outputs": [{"name": "y"}]}
ENGINE = {
    **BOTH, "precision": "int8", "realised": "graph", "options": {}, "settings": {}, "quantization": None, "profile": None,
    "engine": None, "tolerance": {"atol": 1e-3, "because": "text"}, "shapes": "static", "model": "model.onnx",
    "external": False, "cases": [("static", "cases/static.npz")], "metric": "top1-agreement", "example": "cases/static.npz",
    "source": None, "running": True,
}  # fmt: skip
RECIPE = SimpleNamespace(
    data={
        "script": "export.py", "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3]}],
        "dims": {"static": {"N": 1}, "dynamic": {"N": {"min": 1, "opt": 2, "max": 4}}},
    },
    directory=".",
)  # fmt: skip
MISMATCH = {"by": "mismatch", "outputs": [], "metric": None}
DEGRADED = {"by": "degraded", "kind": "precision", "asked": "fp16", "got": "fp32", "share": 0.9}
ERROR = {"by": "error", "text": "it is bad"}
PROFILE = {"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}


def case(job: dict[str, Any], match: dict[str, Any], phase: str = "run", **family: Any) -> Case:
    about = SimpleNamespace(
        **{
            "name": "f",
            "exporter": None,
            "adapter": None,
            "device": "cpu",
            "image": None,
            "modules": {"numpy": ""},
            **family,
        }
    )
    environment = SimpleNamespace(data={"family": about, "rendered": None})
    stack = Stack(
        role="engine", entry="e", family="f", fields={"f": "1.0", "python": "3.11"},
        requirements=(Requirement(line="numpy==1.26.4"),),
    )  # fmt: skip
    pins = Pins(
        python="3.11",
        requirements=("numpy==1.26.4",),
        packages=("numpy==1.26.4",),
        hashes={"numpy==1.26.4": ("sha256:0",)},
    )
    step: Any = SimpleNamespace(environment=environment, data={}, seconds=5.0)
    found = cell(
        "a",
        command="enginematrix repro a",
        loaded={},
        stage="run",
        when="2026-11-21T00:00:00Z",
        comparison={"tolerance": {"atol": 1e-3}},
    )
    return Case(
        chain=None, cell=found, step=step, stack=stack, pins=pins, environment={"probe": {}}, phase=phase, expected=match,  # type: ignore[arg-type]
        end={"exit": 1}, message="it is bad", job=job,
    )  # fmt: skip


def engine(kind: str, **more: Any) -> dict[str, Any]:
    return {**ENGINE, "kind": kind, "recipe": RECIPE, **more}


def _every() -> Iterable[tuple[str, Case]]:
    for kind in ("onnxruntime", "openvino", "litert", "tensorrt", "torch"):
        yield f"{kind} built", case(engine(kind, running=False), ERROR, "build")
        yield f"{kind} wrong", case(engine(kind), {**MISMATCH, "metric": {"name": "top1-agreement", "minimum": 0.9}})
        yield f"{kind} short of memory", case(engine(kind), {"by": "memory", "bytes": 1 << 30})
        if kind in ("onnxruntime", "openvino", "litert"):
            yield f"{kind} in another precision", case(engine(kind), DEGRADED)
    for kind in ("onnxruntime", "openvino"):
        yield f"{kind} case of a suite", case(engine(kind, direct=True), MISMATCH)
        yield f"{kind} case of a suite, built", case(engine(kind, direct=True, running=False), ERROR, "build")
    yield "embedding", case(engine("openvino", metric="embedding-cosine"), MISMATCH)
    for kind in ("onnxruntime", "openvino", "tensorrt"):
        yield f"{kind} of another release", case(engine(kind, engine="engine.bin"), ERROR)
    yield "weights beside", case(engine("onnxruntime", external=True), ERROR)
    yield "cuda", case(engine("onnxruntime", options={"provider": "cuda"}), ERROR)
    asked = {
        "target": "sm89",
        "hardware": "ampere-plus",
        "compatibility": "version-lean",
        "optimization": "3",
        "workspace": "9",
    }
    yield "tensorrt as asked", case(engine("tensorrt", options=asked, profile=PROFILE, realised="flag"), ERROR)
    for mode in ("eager", "torchscript", "aotinductor"):
        for shapes in ("static", "dynamic"):
            yield f"torch {mode} {shapes}", case(engine("torch", options={"mode": mode}, shapes=shapes), MISMATCH)
    yield "torch on a GPU", case(engine("torch", options={"mode": "eager"}, settings={"device": "cuda"}), MISMATCH)
    for exporter in ("torch", "onnx", "tensorflow"):
        for shapes in ("static", "dynamic"):
            for more in ({"torch-exporter": "torchscript", "saved-as": "frozen-graph"}, {}):
                job = {"kind": "export", "recipe": RECIPE, "source": "source", "case": "cases/opt.npz"}
                options = {"opset": "17", "shapes": shapes, **more}
                yield (
                    f"{exporter} {shapes} {len(more)}",
                    case({**job, "options": options}, ERROR, "export", exporter=exporter),
                )
    yield "import", case({"kind": "import"}, ERROR, "build")
    yield (
        "another version",
        case({"kind": "import"}, {"by": "degraded", "kind": "version", "asked": "numpy 1", "got": "numpy 2"}),
    )


EVERY = dict(_every())


def test_tf32_of_a_gpu_is_what_the_cell_asked_for() -> None:
    line = "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = "
    assert line + "False\n" in repro_scripts.script(EVERY["torch on a GPU"], "title")
    allowed = case(engine("torch", options={"mode": "eager", "tf32": "allowed"}, settings={"device": "cuda"}), MISMATCH)
    assert line + "True\n" in repro_scripts.script(allowed, "title")
    assert "allow_tf32" not in repro_scripts.script(EVERY["torch eager static"], "title")


@pytest.mark.parametrize("name", EVERY)
def test_each_script_is_python_of_every_version_and_short(name: str) -> None:
    text = repro_scripts.script(EVERY[name], 'a "title" with """ and \\ in it')
    tree = ast.parse(text, feature_version=(3, 6))
    assert ast.get_docstring(tree, clean=False)
    assert len(text.splitlines()) < 190
    assert "enginematrix" not in text.lower()
    assert "PHASE: " in text
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    known = set(dir(__builtins__)) | set(__builtins__ if isinstance(__builtins__, dict) else ())
    known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    known |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {"__file__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(one.asname or one.name).split(".")[0] for one in node.names}
    assert names <= known, f"names that nothing defines: {sorted(names - known)}"


@pytest.mark.parametrize(
    ("job", "match", "why"),
    [
        (engine("torch_tensorrt"), ERROR, "no short script for 'torch_tensorrt'"),
        (engine("onnxruntime", options={"provider": "tensorrt"}), ERROR, "execution provider 'tensorrt'"),
        (engine("tensorrt", options={"device": "dla"}), ERROR, "DLA"),
        (engine("tensorrt"), DEGRADED, "types the layers"),
        (engine("tensorrt", options={"target": "sm89); import os #"}), ERROR, "target is"),
        (engine("torch"), DEGRADED, "dispatcher"),
    ],
)
def test_what_no_script_can_show_says_so(job: dict[str, Any], match: dict[str, Any], why: str) -> None:
    with pytest.raises(Refusal, match=why):
        repro_scripts.script(case(job, match), "title")


def test_the_readme_claims_nothing_and_names_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t-of-mine")
    found = case({"kind": "import"}, ERROR, "build")
    found.cell["line"] = found.cell["reason"] = f"cannot open {tmp_path}/secret-project/x.so with s3cr3t-of-mine"  # type: ignore[index]
    made = repro_folder.make(found, 1 << 20)
    everything = json.dumps(dict(made.texts))
    assert str(tmp_path) not in everything and "secret-project" not in everything and "s3cr3t" not in everything
    text = made.texts["README.md"]
    for part in (
        "## Environment",
        "## Steps",
        "## Expected",
        "## Actual",
        "Nothing is claimed",
        "cannot open x.so with ***",
    ):
        assert part in text
    assert made.texts["requirements.txt"] == "numpy==1.26.4 \\\n    --hash=sha256:0\n"
    assert made.texts["requirements.in"] == "numpy==1.26.4\n"
    assert made == repro_folder.make(found, 1 << 20), "the same every time"


@pytest.mark.parametrize(
    ("line", "kind", "message", "told"),
    [
        ("ValueError: it is bad today", "ValueError", "it is bad today", "it is bad today"),
        ("…it is bad today…", "Fail", "head: it is bad today and so on", "it is bad today"),
        ("Failure: IBuilder said no", "Failure", "IBuilder said no", "IBuilder said no"),
        ("export failed without a message", "KeyError", "", "KeyError"),
        ("killed", "RuntimeError", "something else was said\nmore", "something else was said"),
    ],
)
def test_what_is_recognised_is_what_the_library_said(line: str, kind: str, message: str, told: str) -> None:
    assert repro_match._telling(line, kind, message, "") == told


def test_without_a_word_of_the_library_nothing_can_be_recognised() -> None:
    with pytest.raises(Refusal, match="gave no reason"):
        repro_match._telling("build failed without a message", "Failure", "", "")


# Cases of suites -----------------------------------------------------------------------------------------------------


def suite_file(path: Path, values: dict[str, tuple[int, bytes, list[int]]]) -> repro_suite.Cases:
    """A file of one case, in the layout of worker/conform_data.py: its inputs and outputs are `values`."""
    data, said = b"the model", []
    for name, (kind, raw, shape) in values.items():
        said.append({"name": name, "kind": "tensor", "type": kind, "shape": shape, "at": [len(data), len(raw)]})
        data += raw
    case = {"name": "test_x", "model": [0, 9], "inputs": said[:-1], "outputs": said[-1:]}
    index = json.dumps({"format": 1, "cases": [case]}).encode()
    path.write_bytes(data + index + b"enginematrix-cases %d %d" % (len(data), len(index)))
    return repro_suite.Cases(path)


def test_the_tensors_of_a_case_are_what_numpy_reads(tmp_path: Path) -> None:
    arrays = [
        numpy.arange(6, dtype="float32").reshape(2, 3),
        numpy.array(7, dtype="int64"),
        numpy.zeros((0, 2), "bool"),
    ]
    numbers = {"float32": 1, "int64": 7, "bool": 9}
    values = {f"v{n}": (numbers[a.dtype.name], a.tobytes(), list(a.shape)) for n, a in enumerate(arrays)}
    cases = suite_file(tmp_path / "cases.zip", values)
    case = cases.cases["test_x"]
    assert cases.part(case["model"]) == b"the model"
    (tmp_path / "x.npz").write_bytes(cases.npz(case))
    with numpy.load(tmp_path / "x.npz") as found:
        assert found.files == ["input_0", "input_1", "output_0"]
        for name, array in zip(found.files, arrays, strict=True):
            assert found[name].dtype == array.dtype
            numpy.testing.assert_array_equal(found[name], array)


def test_what_numpy_lacks_and_damaged_files_are_told(tmp_path: Path) -> None:
    cases = suite_file(tmp_path / "cases.zip", {"a": (16, b"xx", [1]), "b": (1, b"xxxx", [1])})
    with pytest.raises(repro_suite.Odd, match="type 16, which NumPy lacks"):
        cases.npz(cases.cases["test_x"])
    (tmp_path / "bad.zip").write_bytes(b"PK")
    for name in ("bad.zip", "gone.zip"):
        with pytest.raises(repro_suite.Odd, match="cannot be read"):
            repro_suite.Cases(tmp_path / name)


@pytest.mark.parametrize(
    ("reason", "name", "kind"),
    [
        ("output 1 differs in 3 of 8 values, by up to 0.5", "b", "elements"),
        ("output 0 has shape [2], expected [3]", "a", "shape"),
        ("output 0 is int32, expected int64", "a", "dtype"),
        ("output 0 has NaN or infinity in other places than expected (1 of 8 values)", "a", "nonfinite"),
        ("gave 1 outputs, the case has 2", "b", "missing"),
    ],
)
def test_how_a_case_is_wrong_is_said_in_the_words_of_the_script(reason: str, name: str, kind: str) -> None:
    outputs = [{"name": "a"}, {"name": "b"}]
    assert repro_suite.wrong("c", reason, outputs) == [{"case": "c", "name": name, "wrong": [kind]}]


def test_in_which_way_a_case_is_wrong_may_be_unknown() -> None:
    with pytest.raises(repro_suite.Odd, match="differs of itself"):
        repro_suite.wrong("c", "output 0 differs of itself", [{"name": "a"}])


# Images and imports --------------------------------------------------------------------------------------------------


def test_of_an_image_there_is_a_dockerfile_by_digest() -> None:
    found = case({"kind": "import"}, ERROR, "build", device="cuda", image=SimpleNamespace(site="system"))
    found.step.environment.data["rendered"] = object()
    digest = f"sha256:{'0' * 64}"
    image = {
        "base": "registry.example/x/tensorrt:24.05-py3",
        "digest": digest,
        "tag": "t",
        "platform": "linux/amd64",
        "key": "k",
    }
    made = repro_folder.make(replace(found, environment={"probe": {}, "image": image}, phase="run"), 1 << 20)
    lines = str(made.texts["Dockerfile"]).splitlines()
    assert f"FROM registry.example/x/tensorrt:24.05-py3@{digest}" in lines
    assert 'ENTRYPOINT ["/bin/sh", "./reproduce.sh"]' in lines
    assert made.texts[".dockerignore"] == "env\n"
    assert "--system-site-packages" in str(made.texts["reproduce.sh"])
    assert "docker run --rm --gpus all repro" in str(made.texts["README.md"])
    bare = replace(found, pins=replace(found.pins, packages=(), hashes={}), environment={"probe": {}, "image": image})
    made = repro_folder.make(bare, 1 << 20)
    assert made.texts["requirements.txt"] == ""
    assert "venv" not in str(made.texts["reproduce.sh"]), "nothing is added to the image's own packages"


@pytest.mark.parametrize("python", ["3.11'; rm -rf ~ #", "2.7", "3.11\n"])
def test_what_a_shell_would_read_is_held_to_its_form(python: str) -> None:
    found = case({"kind": "import"}, ERROR, "build")
    with pytest.raises(Refusal, match="its Python is"):
        repro_folder.make(replace(found, pins=replace(found.pins, python=python)), 1 << 20)


def test_a_failing_import_is_shown_by_importing(tmp_path: Path) -> None:
    for modules, code in (({"no_such_module_at_all": ""}, 0), ({"json": ""}, 1)):
        text = "No module named 'no_such_module_at_all'"
        made = repro_folder.make(
            case({"kind": "import"}, {"by": "error", "text": text}, "build", modules=modules), 1 << 20
        )
        repro_folder.write(made, tmp_path / "x", link=False)
        done = subprocess.run(
            [sys.executable, "-I", str(tmp_path / "x/judge.py")], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr


def test_memory_that_is_refused_under_the_cells_limit_is_shown(tmp_path: Path) -> None:
    found = case({"kind": "import"}, {"by": "memory", "bytes": 64 << 20}, "build", modules={"greedy": ""})
    made = repro_folder.make(found, 1 << 20)
    for size, code in ((256 << 20, 0), (1 << 10, 1)):
        script = str(made.texts["reproduce.py"]).replace("importlib.import_module(name)", f"bytearray({size})")
        texts = {**made.texts, "reproduce.py": script}
        repro_folder.write(Folder(texts=texts, files={}, left_out={}), tmp_path / "x", link=False)
        done = subprocess.run(
            [sys.executable, "-I", str(tmp_path / "x/judge.py")], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr


# TensorRT, without a GPU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["8.6.1", "10.0.1", "10.16.1.11", "11.4.0.106"])
def test_tensorrts_script_builds_and_runs_over_the_surface_of_each_release(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the fakes (tests/fakes): what the script calls is there, and the numbers go to the device and back."""
    from builder import worker

    monkeypatch.setitem(sys.modules, "worker", sys.modules.get("worker", worker))
    from fakes import onnxfile, tensorrt_fake

    made = tensorrt_fake.module(release, tensorrt_fake.World())
    monkeypatch.setitem(sys.modules, made.__name__, made)
    logger = {
        "__init__": lambda self, severity: made.ILogger.__init__(self),
        "log": lambda *said: print(*said),
        "WARNING": 2,
    }
    monkeypatch.setattr(made, "Logger", type("Logger", (made.ILogger,), logger))  # the fakes have none that prints
    cudart = tensorrt_fake.Cudart()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cudart)
    monkeypatch.setattr(sys, "argv", ["reproduce.py"])
    monkeypatch.chdir(tmp_path)
    nodes = [("Relu", "relu", ["x"], ["r"]), ("Add", "add", ["r", "r"], ["y"])]
    onnxfile.write(tmp_path / "model.onnx", nodes, shape=["N", 3])
    x = numpy.array([[-1.0, 0.5, 2.0], [1.0, -3.0, 4.0]], "float32")
    (tmp_path / "cases").mkdir()
    for wrong in (0.0, 1.0):
        numpy.savez(
            tmp_path / "cases" / "static.npz", input_0=x, output_0=2 * numpy.maximum(x, 0) + numpy.float32(wrong)
        )
        job = engine("tensorrt", profile=PROFILE, settings={"module": made.__name__})
        text = repro_scripts.script(case(job, MISMATCH), "title")
        exec(
            compile(text, "reproduce.py", "exec"), {"__name__": "__main__", "__file__": str(tmp_path / "reproduce.py")}
        )
        result = repro_judge.result(capsys.readouterr().out)
        assert [row["wrong"] for row in result["outputs"]] == [["elements"] if wrong else []]
    assert not cudart.live, "what was allocated is freed"
