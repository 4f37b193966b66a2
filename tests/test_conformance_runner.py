"""Our outcomes of the operators' suite, case by case against those of the onnx package's own runner
(`onnx.backend.test.BackendTest` with `onnxruntime.backend`), for an old and a new ONNX Runtime. Marked `real`.

Every difference must be one of those in EXPLAINED, each a thing that the runner or `onnxruntime.backend` cannot do and
that says nothing of ONNX Runtime; none may be left over. Where both say that a case fails, ours must fail for the same
reason, if the runner names one: a refusal of the library, or wrong outputs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_adapters import make

from builder import suite, suite_list
from builder.environment.session import WorkerSession

pytestmark = pytest.mark.real

BUILDER = Path(__file__).parent.parent / "builder"
ONNX = "1.23.2"
#: ONNX Runtime -> its environment: the package with the tests in it, too, so that its runner can run there.
RUNTIMES = {
    "1.15.1": ("3.11", ("onnxruntime==1.15.1", "numpy<2", f"onnx=={ONNX}")),
    "1.31.1": ("3.12", ("onnxruntime==1.31.1", f"onnx=={ONNX}", "numpy")),
}

#: One line for each case: what the runner made of it. A crash would be the last line's; none was seen in these releases.
RUNNER = """
import json, sys, unittest, warnings
warnings.simplefilter("ignore")
import onnxruntime
import onnxruntime.backend
from onnx.backend.test import BackendTest
onnxruntime.set_default_logger_severity(4)
tests = BackendTest(onnxruntime.backend, __name__).test_cases["OnnxBackendNodeModelTest"]
with open(sys.argv[1], "w") as out:
    for name in sorted(name for name in dir(tests) if name.startswith("test_") and name.endswith("_cpu")):
        result = unittest.TestResult()
        tests(name).run(result)
        kind = "skip" if result.skipped else "error" if result.errors else "fail" if result.failures else "pass"
        text = (result.skipped or result.errors or result.failures or [(0, "")])[0][1]
        out.write(json.dumps([name[: -len("_cpu")], kind, text]) + "\\n")
"""

#: (the runner's word, what it says, our statuses) -> why they differ. All are of what `onnxruntime.backend` hands over or
#: reads, or of the runner's own comparison; ours goes on to the library itself and judges its outputs.
EXPLAINED = (
    (
        "error", r"Numpy_type \d+ can't be converted to MLDataType", ("match", "mismatch", "failed", "harness"),
        "it hands over arrays of ml_dtypes types (bfloat16, float8, int4...), which session.run() does not take; ours go "
        "over as OrtValues",
    ),
    (
        "error", r"Unable to handle object of type <class 'numpy\.[a-z0-9]+'>", ("match", "mismatch", "failed"),
        "the test's inputs are scalars of NumPy (numpy.float32), which session.run() does not take; ours are arrays without "
        "dimensions, which is what a tensor of rank 0 is",
    ),
    (
        "error", r"Unable to compare expected type <class 'numpy.ndarray'> and runtime type <class 'numpy.ndarray'>",
        ("match", "mismatch"),
        "its comparison takes the length of each item of a sequence, which an array without dimensions has not",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def environments(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("real-environments"))  # type: ignore[union-attr]


def job(python: Path, imports: tuple[str, ...], stage: str, input: dict[str, Any], folder: Path) -> dict[str, Any]:
    session = WorkerSession(python=python, worker_dir=BUILDER, imports=imports, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                            log=folder / f"{stage}.log", arguments=())  # fmt: skip
    session.start()
    try:
        end = session.run(stage, input, folder / stage, seconds=900, memory=8 << 30)
    finally:
        session.close()
    assert end.ok, end
    assert end.output is not None
    return dict(end.output["result"])


@pytest.fixture(scope="module")
def cases(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of cases, made in an environment of its own."""
    folder = tmp_path_factory.mktemp("suite")
    python = make(environments, f"onnx-{ONNX}-runner", *RUNTIMES["1.31.1"])
    asked = {"suite": {"package": "onnx", "version": ONNX, "kind": "node"}, "names": names()}
    result = job(python, ("onnx",), "suite", asked, folder)
    assert result["number"] == len(names())
    return folder / "suite" / str(result["cases"])


def names() -> list[str]:
    return [case.name for case in suite.listed("onnx", ONNX, "node")]


def test_the_list_of_cases_is_the_packages(environments: Path) -> None:
    python = make(environments, f"onnx-{ONNX}-runner", *RUNTIMES["1.31.1"])
    found = suite_list.ask(str(python))
    assert suite_list.dumps(found) == (suite.LISTS / f"onnx-{ONNX}-node.json.gz").read_bytes()


def test_another_packages_cases_are_refused(environments: Path, tmp_path: Path) -> None:
    python = make(environments, f"onnx-{ONNX}-runner", *RUNTIMES["1.31.1"])
    session = WorkerSession(python=python, worker_dir=BUILDER, imports=(), env={}, log=tmp_path / "log", arguments=())
    session.start()
    try:
        asked = {"package": "onnx", "version": ONNX, "kind": "node"}
        for wrong, message in (
            (
                {"suite": asked, "names": names()[1:]},
                "has 1884 cases, the suite's list 1883; only in the package: test_abs",
            ),
            (
                {"suite": {**asked, "version": "1.22.0"}, "names": names()},
                f"the environment has onnx {ONNX}, the suite is of 1.22.0",
            ),
        ):
            end = session.run("suite", wrong, tmp_path / "job", seconds=300, memory=8 << 30)
            assert end.output is not None and message in end.output["error"]["message"]
            shutil.rmtree(tmp_path / "job")
    finally:
        session.close()


@pytest.mark.parametrize("version", RUNTIMES)
def test_every_case_ends_as_the_packages_own_runner_has_it(
    version: str, environments: Path, cases: Path, tmp_path: Path
) -> None:  # fmt: skip
    python = make(environments, f"onnxruntime-{version}-runner", *RUNTIMES[version])
    told = tmp_path / "runner.jsonl"
    subprocess.run(
        [str(python), "-c", RUNNER, str(told)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, timeout=900,
    )  # fmt: skip
    theirs = {name: (kind, text) for name, kind, text in map(json.loads, told.read_text().splitlines())}
    asked = {"adapter": "onnxruntime", "cases": str(cases), "names": names(), "limit": 60, "budget": 800, "settings": {},
             "options": {}, "precision": "f32", "loads": True}  # fmt: skip
    ours = job(python, ("onnxruntime", "numpy"), "conform", asked, tmp_path)["cases"]
    assert set(ours) == set(theirs) == set(names())

    same = {"pass": ("match",), "fail": ("mismatch",), "error": ("failed",)}
    explained: Counter[str] = Counter()
    left = {}
    for name, (kind, text) in theirs.items():
        mine = ours[name]
        if mine["status"] in same.get(kind, ()) and (kind != "error" or _same_refusal(text, mine["error"]["message"])):
            continue
        why = next((reason for word, pattern, statuses, reason in EXPLAINED
                    if word == kind and mine["status"] in statuses and re.search(pattern, text)), None)  # fmt: skip
        if why is None:
            left[name] = (kind, text[-300:], mine)
        else:
            explained[why] += 1
    print(
        version,
        Counter(kind for kind, _ in theirs.values()),
        Counter(case["status"] for case in ours.values()),
        dict(explained),
    )
    assert not left, json.dumps(left, indent=1)[:6000]
    # What is explained is a small part: the comparison must not explain itself away.
    assert sum(explained.values()) < 0.1 * len(theirs)


def _same_refusal(text: str, message: str) -> bool:
    """Whether the library's words are the same: the runner's text is a traceback that ends with them."""

    def plain(words: str) -> str:
        return re.sub(r"\s+|0x[0-9a-f]+|\./", " ", words).strip()

    return plain(message)[:200] in plain(text)


#: Cases whose values are easily lost on the way: without dimensions, empty, of text, of types that NumPy lacks, of bool.
DELICATE = (
    "test_abs", "test_add", "test_and2d", "test_clip_default_max", "test_clip_default_min", "test_clip_default_int8_max",
    "test_cast_BFLOAT16_to_FLOAT", "test_cast_FLOAT_to_BFLOAT16", "test_less", "test_range_int32_type_negative_delta",
    "test_slice", "test_where_example",
)  # fmt: skip
OPENVINO = {"2023.3.0": "3.11", "2026.4.1": "3.12"}


@pytest.mark.parametrize("version", OPENVINO)
def test_values_reach_openvino_and_come_back(version: str, environments: Path, cases: Path, tmp_path: Path) -> None:
    """Wrong here would be our own doing: a plain script gets them right in both releases."""
    python = make(environments, f"openvino-{version}", OPENVINO[version], (f"openvino=={version}", "numpy"))
    asked = {"adapter": "openvino", "cases": str(cases), "names": list(DELICATE), "limit": 60, "budget": 300, "settings": {},
             "options": {}, "precision": "f32", "loads": True}  # fmt: skip
    ours = job(python, ("openvino", "numpy"), "conform", asked, tmp_path)["cases"]
    assert {name: case["status"] for name, case in ours.items()} == dict.fromkeys(DELICATE, "match"), ours
