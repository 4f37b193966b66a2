"""Adapters of other packages: found by their entry point, copied into the cell, held to the same contract as ours."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import contract_model, environment, plugins
from builder.contract import Broken, Subject, check
from builder.environment.session import WorkerSession
from builder.errors import EngineMatrixError
from builder.plan import Code

#: An engine in plain Python and NumPy: it reads the ONNX file of the contract, and nothing else.
TINY = '''
"""A tiny engine: the graph's MatMul, Relu and Add, computed by NumPy."""

import json

from worker.jobs import Failure


def build(job):
    with job.stage("parse"):
        with open(job.input["model"], "rb") as file:
            data = file.read()
        if not all(name in data for name in (b"MatMul", b"Relu", b"Add")) or data.count(b"y") < 2:
            raise Failure("the file is cut off or has other operators", [{"node": "", "operator": "?", "reason": "unknown"}])
        weight = data[data.index(b"B\\x01wJ0") + 5 :][:48]
        bias = data[data.index(b"B\\x01bJ\\x0c") + 5 :][:12]
    with job.stage("build"):
        with open(job.path("engine.tiny"), "w") as file:
            json.dump({"w": list(weight), "b": list(bias)}, file)
    return {"engine": "engine.tiny", "found": {"operators": 3}, "unsupported": [], "degraded": []}


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        import numpy

        with open(path) as file:
            kept = json.load(file)
        self.w = numpy.frombuffer(bytes(kept["w"]), dtype="float32").reshape(4, 3)
        self.b = numpy.frombuffer(bytes(kept["b"]), dtype="float32")
        self.outputs = ["y"]

    def run(self, arrays):
        return [(arrays[0] @ self.w).clip(min=0) + self.b]

    def proof(self):
        return {"found": {"precision": {"MatMul": {"fp32": 1}}}, "degraded": []}
'''


def adapter(folder: Path, text: str = TINY) -> Path:
    path = folder / "tiny_adapter.py"
    path.write_text(text)
    return path


def subject(folder: Path, text: str = TINY) -> Subject:
    return Subject(name="tiny", file=adapter(folder, text), python=sys.executable)


def test_a_good_adapter_passes(tmp_path: Path) -> None:
    check(subject(tmp_path), tmp_path)


def test_the_contracts_own_model_is_what_it_says(tmp_path: Path) -> None:
    import numpy as np

    files = contract_model.write(tmp_path)
    with np.load(files["right.npz"], allow_pickle=False) as case:
        x, y = case["input_0"], case["output_0"]
    weight = np.array(contract_model.WEIGHT, dtype="float32")
    assert np.allclose((x @ weight).clip(min=0) + np.array(contract_model.BIAS, dtype="float32"), y, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import json\n", "import json\nimport numpy\n", "imports numpy when the adapter is imported"),
        ("def load(job, path)", "def read(job, path)", "no function load"),
        ("def build(job)", "def build(job, more)", "build takes 2 arguments, not 1"),
        ("import json\n", "import json\nif (n := 1): pass\n", "no Python 3.6"),
        ('with job.stage("parse")', 'with job.stage("build")', "entered the stages build, build"),
        ('return {"engine": "engine.tiny"', 'return {"engine": "elsewhere"', "no file with content"),
        ('"unsupported": [], "degraded": []', '"unsupported": [], "degraded": [{"asked": "x"}]', "no list of entries"),
        (".clip(min=0) + self.b", " + self.b", "does not match the reference"),
        ("return [(arrays[0] @ self.w).clip(min=0) + self.b]", "import os; os.abort()", "SIGABRT"),
        ('{"found": {"precision": {"MatMul": {"fp32": 1}}}, ', '{"found": {}, ', "`found` is empty"),
        ("raise Failure(", 'open(job.path("e"), "w").write("x")\n            return {"engine": "e"}\n            raise Failure(',
         "a broken model is not refused"),
    ],
)  # fmt: skip
def test_each_clause_can_be_broken(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TINY
    with pytest.raises(Broken) as error:
        check(subject(tmp_path, TINY.replace(old, new)), tmp_path)
    assert said in str(error.value)


def test_an_engine_that_answers_whatever_is_expected_is_found_out(tmp_path: Path) -> None:
    """An adapter that reads the reference from the case would match a wrong one too."""
    cheat = TINY.replace(
        "return [(arrays[0] @ self.w).clip(min=0) + self.b]",
        "import numpy\n        self.job = getattr(self, 'job', None)\n"
        "        import glob, os\n        cases = sorted(glob.glob(os.path.join(os.getcwd(), '..', '*.npz')))\n"
        "        which = 'wrong' if getattr(self, 'again', False) else 'right'\n        self.again = True\n"
        "        return [numpy.load(next(c for c in cases if which in c))['output_0']]",
    )
    with pytest.raises(Broken, match="a wrong reference is not a mismatch"):
        check(subject(tmp_path, cheat), tmp_path)


# Entry points ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A third party's package, installed: its module and its metadata, as a wheel leaves them."""
    site = tmp_path / "site"
    (site / "tinyengine").mkdir(parents=True)
    (site / "tinyengine" / "__init__.py").write_text("raise RuntimeError('the host must not import this')\n")
    (site / "tinyengine" / "adapter.py").write_text(TINY)
    info = site / "tinyengine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyengine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[enginematrix.adapters]\ntiny = tinyengine.adapter\n")
    monkeypatch.syspath_prepend(str(site))
    plugins.adapters.cache_clear()
    yield info
    monkeypatch.undo()
    plugins.adapters.cache_clear()


def test_an_entry_point_brings_an_adapter_into_the_cell(package: Path, tmp_path: Path) -> None:
    assert plugins.adapters() == {"tiny": package.parent / "tinyengine" / "adapter.py"}
    hashes = environment.worker_hashes()
    assert "adapters/tiny_.py" in hashes
    place = environment.install_worker(tmp_path / "artifacts")
    assert (place / "worker" / "adapters" / "tiny_.py").read_text() == TINY
    files = contract_model.write(tmp_path)
    job = {
        "adapter": "tiny", "model": str(files["model.onnx"]), "inputs": contract_model.INPUTS,
        "outputs": contract_model.OUTPUTS, "precision": "fp32", "settings": {}, "options": {},
    }  # fmt: skip
    session = WorkerSession(
        python=Path(sys.executable), worker_dir=place, imports=(), env={"PATH": "/usr/bin"}, log=tmp_path / "log"
    )
    with session:
        end = session.run("build", job, tmp_path / "build", seconds=60, memory=None)
        assert end.ok, end
        cases = [{"file": str(files["right.npz"]), "label": "static"}]
        more = {"engine": str(tmp_path / "build" / "engine.tiny"), "cases": cases, "metric": None}
        end = session.run(
            "run", {**job, **more, "tolerance": {"atol": 1e-5, "rtol": 1e-4}}, tmp_path / "run", seconds=60, memory=None
        )
        assert end.ok and end.output is not None
        assert end.output["result"]["comparison"]["verdict"] == "match"


def test_its_code_is_part_of_the_keys_of_what_it_serves(package: Path) -> None:
    before = Code.of(environment.worker_hashes())
    (package.parent / "tinyengine" / "adapter.py").write_text(TINY + "\n# changed\n")
    after = Code.of(environment.worker_hashes())
    assert before.adapter("tiny") != after.adapter("tiny")
    assert before.adapter("onnxruntime") == after.adapter("onnxruntime")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("openvino = tinyengine.adapter", "EngineMatrix has an adapter of that name"),
        ("tiny = tinyengine.nowhere", "RuntimeError"),
        ("tiny = tinyengine.adapter:build", "must name a module"),
        ("Ti_ny = tinyengine.adapter", "small letters"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_an_error(package: Path, line: str, said: str) -> None:
    (package / "entry_points.txt").write_text(textwrap.dedent(f"[enginematrix.adapters]\n{line}\n"))
    with pytest.raises(EngineMatrixError, match="tinyengine offers the engine adapter") as error:
        plugins.adapters()
    assert said in str(error.value)
