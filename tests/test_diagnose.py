"""Every signature against the literal text it was made from, and the traps: hostile logs, noise, what taints what."""

from __future__ import annotations

import random
import re
import string
import subprocess
import sys
import time

import pytest
from packaging.specifiers import SpecifierSet

from builder import diagnose as d
from builder import diagnose_unknown
from builder.diagnose_catalog import INFRASTRUCTURE, Signature, catalog, required
from builder.diagnose_text import LINE_LIMIT
from builder.values import STAGES

SIGNATURES = catalog().signatures
BY_TEXT = [s for s in SIGNATURES if s.regex]


def error(message: str, kind: str = "RuntimeError") -> dict[str, str]:
    return {"stage": "build", "type": kind, "message": message, "traceback": ""}


def loaded(s: Signature) -> dict[str, str]:
    """Releases, as libraries tell them, that a signature is about."""
    told = {"openvino": ("2023.0.2-11065-e662b1a3301-releases/2023/0", "2024.3.0-16041-1e3b88e4e3f-releases/2024/3"),
            "onnxruntime": ("1.23.2",)}  # fmt: skip
    return {
        module: next(text for text in told[module] if text.split("-")[0] in SpecifierSet(wanted))
        for module, wanted in s.versions.items()
    }


def test_catalogue_is_closed_and_whole() -> None:
    whole = catalog()
    assert len({s.id for s in SIGNATURES}) == len(SIGNATURES) >= 180
    for s in SIGNATURES:
        assert s.category in whole.categories, s.id
        assert s.severity in ("error", "secondary", "silent", "warning", "info"), s.id
        assert s.stages <= set(STAGES), s.id
        assert bool(s.regex) != bool(s.end), f"{s.id}: a regex or a signal, not both"
        assert s.diagnosis.strip().endswith("."), s.id
        assert s.remedy and s.source, s.id
        assert s.category in INFRASTRUCTURE or not s.lasting, s.id
    stated = {name for name, entry in whole.categories.items() if entry.get("infrastructure")}
    assert stated == INFRASTRUCTURE
    fallbacks = {f"{stage}-error" for stage in STAGES} | {
        "crash",
        "timeout",
        "memory",
        "accuracy",
        "degraded",
        "killed",
    }
    assert fallbacks <= set(whole.categories)


@pytest.mark.parametrize("s", BY_TEXT, ids=lambda s: s.id)
def test_example_matches_its_own_signature_first(s: Signature) -> None:
    stage = min(s.stages) if s.stages else "build"
    status = "failed" if s.severity in ("error", "secondary") else "degraded"
    for message, log in ((s.example, ""), ("", s.example)):
        found = d.diagnose(stage, status, error(message, "") if message else None, None, log, loaded(s))
        assert found.signature == s.id
        assert found.category == s.category
        assert found.infrastructure == (s.category in INFRASTRUCTURE)
        assert found.transient == (found.infrastructure and not s.lasting)
        assert 0 < len(found.line) <= LINE_LIMIT
        assert found.diagnosis and "{" not in found.diagnosis
        stored = d.group_key(status, found.category, found.signature, found.line, found.diagnosis)
        assert stored == found.group_key


@pytest.mark.parametrize("s", [s for s in BY_TEXT if s.versions], ids=lambda s: s.id)
def test_a_signature_of_some_releases_says_nothing_of_others(s: Signature) -> None:
    stage = min(s.stages) if s.stages else "build"
    for versions in ({}, dict.fromkeys(s.versions, "9999.1.0"), dict.fromkeys(s.versions, "none")):
        assert d.diagnose(stage, "failed", error(s.example, ""), None, "", versions).signature != s.id


@pytest.mark.parametrize("s", BY_TEXT, ids=lambda s: s.id)
def test_the_quick_look_never_hides_a_match(s: Signature) -> None:
    match = re.search(s.regex, s.example)
    assert match
    literals = required(s.regex)
    assert not literals or any(text in match.group() for text in literals)


def test_required_takes_only_what_is_certain() -> None:
    assert required(r"abc(?:def)?ghij+k") == ("ghij",)
    assert required(r"abcd?ef") == ("abc",)
    assert required(r"abcde{2}x|long text\.") == ("abcd", "long text.")
    assert required(r"abc|\d+") == ()
    assert required(r"(?i)abcdef") == ()
    assert required(r"[abc]]defg\[hi") == ("]defg[hi",)


# ---------------------------------------------------------------- text seen in this project's own matrix

ORT_OPSET = (
    "[ONNXRuntimeError] : 1 : FAIL : Load model from /data/jobs/7/model.onnx failed:/onnxruntime_src/onnxruntime/core/"
    "graph/model_load_utils.h:46 void onnxruntime::model_load_utils::ValidateOpsetForDomain(const std::unordered_map<"
    "std::basic_string<char>, int>&, const onnxruntime::logging::Logger&, bool, const string&, int) ONNX Runtime only "
    "*guarantees* support for models stamped with official released onnx opset versions. Opset 21 is under development "
    "and support for this is limited. The operator schemas and or other functionality may change before next ONNX "
    "release and in this case ONNX Runtime will not guarantee backward compatibility. Current official support for "
    "domain ai.onnx is till opset 19.\n"
)
OPENVINO = (
    "Check 'false' failed at src/inference/src/core.cpp:100:\nCheck 'unknown_operators.empty()' failed at "
    "src/frontends/onnx/frontend/src/core/graph.cpp:226:\n"
    "OpenVINO does not support the following ONNX operations: {}\n\n"
)
RTX_LOG = """\
[WARNING] In JIT build, strongly typed is enabled by default.
[ERROR] ModelImporter.cpp:138: While parsing node number 0 [Swish -> "y"]:
[ERROR] ModelImporter.cpp:140: --- Begin node ---
input: "x"
[ERROR] ModelImporter.cpp:141: --- End node ---
[ERROR] ModelImporter.cpp:149: ERROR: ModelImporter.cpp:291 In function parseNodeStaticCheck:
[1] Op type Swish is not supported in TensorRT-RTX.
[ERROR] [checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at \
/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))
"""
NO_GPU_NOISE = RTX_LOG.splitlines()[-1]
UV_REFUSED = """\
Using Python 3.13.0 environment at: env
error: Request failed after 3 retries in 4.9s
  cause: Failed to fetch: http://127.0.0.1:9/simple/onnx/
  cause: error sending request for url (http://127.0.0.1:9/simple/onnx/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""


def test_line_shows_the_part_that_matters() -> None:
    found = d.diagnose("parse", "failed", error(ORT_OPSET, "Fail"), None, "")
    assert found.signature == "ort-opset-not-released"
    assert found.diagnosis == "The model uses opset 21 of domain ai.onnx; this ONNX Runtime supports it up to 19."
    assert "Opset 21 is under development" in found.line and "/data/jobs" not in found.line


def test_equal_failures_group_and_others_do_not() -> None:
    def key(operators: str, where: str = "7") -> str:
        log = f"noise {where}\n"
        return d.diagnose("parse", "failed", error(OPENVINO.format(operators)), None, log).group_key

    assert key("Det") == key("Det", "0x7f10d1b10ab0")
    assert key("Det") != key("Gelu")
    lines = [
        f"[11/21/2026-09:0{i}:1{i}] [E] lib.cpp:{i}2: bad tensor at 0x7f10d1b1{i}000 after {i}.5 ms in /tmp/j{i}/x.so"
        for i in (1, 2)
    ]
    first, second = (d.diagnose("build", "failed", None, None, line) for line in lines)
    assert first.signature is None and first.group_key == second.group_key
    assert first.group_key != d.diagnose("build", "failed", None, None, lines[0].replace("bad", "good")).group_key


def test_gpu_less_noise_after_every_error_is_never_the_cause() -> None:
    found = d.diagnose("parse", "failed", None, None, RTX_LOG)
    assert (found.signature, found.diagnosis) == (
        "rtx-operator-unsupported",
        "This TensorRT-RTX does not support Swish.",
    )
    unknown = d.diagnose(
        "build", "failed", None, None, f"[ERROR] Unexpected exception bad optional access\n{NO_GPU_NOISE}\n"
    )
    assert (unknown.category, unknown.signature) == ("build-error", None)
    assert unknown.line == "[ERROR] Unexpected exception bad optional access"
    assert unknown.diagnosis is None and unknown.remedy is None


def test_infrastructure_taints_what_a_log_says_of_versions() -> None:
    assert d.diagnose("environment", "failed", None, None, UV_REFUSED).category == "network"
    both = "ERROR: No matching distribution found for tensorrt==8.4\n" + UV_REFUSED
    assert d.diagnose("environment", "failed", None, None, both).category == "network"
    assert d.diagnose("environment", "failed", None, None, both.splitlines()[0]).category == "packaging"
    # ... but a connection that a model or engine could not make says nothing of the network.
    assert d.diagnose("run", "failed", error("Connection refused"), None, "").category == "run-error"


def test_vendor_stub_without_its_index_is_the_network_not_the_version() -> None:
    log = (
        "error: Failed to build `tensorrt-cu12-libs==10.9.0.34`\n  cause: The build backend returned an error\n"
        '  File "request.py", line 1347, in do_open\n    raise URLError(err)\n'
        "socket.gaierror: [Errno -2] Name or service not known\n\n"
        + next(s.example for s in SIGNATURES if s.id == "vendor-index-unreachable")
    )
    found = d.diagnose("environment", "failed", None, None, log)
    assert (found.signature, found.infrastructure) == ("vendor-index-unreachable", True)
    assert "tensorrt-cu12-libs" in (found.diagnosis or "")


def test_message_before_log_and_primary_before_secondary() -> None:
    log = "ImportError: libnvinfer.so.8: cannot open shared object file: No such file or directory\n"
    assert d.diagnose("parse", "failed", error(ORT_OPSET), None, log).category == "unsupported-opset"
    follow = error("'NoneType' object has no attribute 'create_execution_context'", "AttributeError")
    assert d.diagnose("load", "failed", follow, None, log).signature == "libnvinfer-missing"
    assert d.diagnose("load", "failed", follow, None, "").signature == "trt-null-engine-after-load"


def test_warnings_are_no_cause_of_a_failure_but_of_a_degraded_outcome() -> None:
    log = "[W] [TRT] generated with INT64 weights, while TensorRT does not natively support INT64.\n[E] it broke\n"
    found = d.diagnose("build", "failed", None, None, log)
    assert (found.signature, found.line) == (None, "[E] it broke")
    silent = "[W:onnxruntime:Default] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 12.*\n"
    assert d.diagnose("run", "degraded", None, None, silent).signature == "ort-cuda-ep-not-created"
    assert d.diagnose("run", "degraded", None, None, "").category == "degraded"


@pytest.mark.parametrize(
    ("status", "end", "log", "category", "line"),
    [
        ("crashed", {"signal": 11, "name": "SIGSEGV"}, "", "crash", "killed by SIGSEGV in run"),
        ("crashed", {"signal": 6, "name": "SIGABRT"}, "terminate called after throwing an instance of 'X'\n", "crash",
         "killed by SIGABRT in run: terminate called after throwing an instance of 'X'"),
        ("crashed", {"signal": 11, "name": "SIGSEGV"},
         'Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f2f (most recent call first):\n'
         '  File "/data/worker/adapters/openvino_.py", line 51 in build\n  File "/data/x.py", line 1 in y\n',
         "crash", "killed by SIGSEGV in run: at openvino_.py, line 51, in build"),
        ("crashed", {"signal": 9, "name": "SIGKILL"}, "", "killed", "killed by SIGKILL in run"),
        ("timeout", {"timeout": 120.0}, "", "timeout", "no end within 120 s in run"),
        ("out-of-memory", {"memory": 8 << 30}, "", "memory", "out of memory in run"),
        ("failed", {"exit": 3}, "", "run-error", "run failed without a message (exit status 3)"),
        ("failed", None, "", "run-error", "run failed without a message"),
    ],
)  # fmt: skip
def test_without_a_signature_the_end_speaks(
    status: str, end: dict[str, object], log: str, category: str, line: str
) -> None:
    found = d.diagnose("run", status, None, end, log)
    assert (found.category, found.signature, found.line) == (category, None, line)
    assert found.infrastructure == (category == "killed")


def test_a_hang_is_not_explained_by_a_line_that_came_before() -> None:
    found = d.diagnose("build", "timeout", None, {"timeout": 60.0}, "[E] Unsupported SM: 0x601\n")
    assert (found.category, found.signature) == ("timeout", None)


def test_silent_crash_is_known_by_its_versions() -> None:
    end = {"signal": 11, "name": "SIGSEGV"}
    versions = {"onnxruntime": "1.16.3", "numpy": "2.4.6"}
    found = d.diagnose("run", "crashed", None, end, "", versions)
    assert (found.category, found.signature) == ("python-abi", "ort-numpy2-crash")
    assert "1.16.3" in (found.diagnosis or "") and "2.4.6" in (found.diagnosis or "")
    assert d.group_key("crashed", found.category, found.signature, found.line, found.diagnosis) == found.group_key
    for other in ({"onnxruntime": "1.19.2"}, {"numpy": "1.26.4"}, {"numpy": "not a version"}):
        assert d.diagnose("run", "crashed", None, end, "", {**versions, **other}).category == "crash"
    assert d.diagnose("run", "crashed", None, {"signal": 6, "name": "SIGABRT"}, "", versions).category == "crash"


# ---------------------------------------------------------------- the first meaningful line


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ('Traceback (most recent call last):\n  File "/a/b.py", line 3, in f\n    raise KeyError("error: no")\n'
         "KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\n"
         'Traceback (most recent call last):\n  File "/a/c.py", line 9, in g\n    h()\nValueError: later\n',
         "KeyError: 'x'"),
        ("UserWarning: error-prone\n[W] failed softly\nall good so far\n[E] the cause\n[E] the consequence\ndone\n",
         "[E] the cause"),
        ("2026-11-21 09:38:20.722: I tensorflow/x.cc:75] not supported here\nsomething could not be done\nbye\n",
         "something could not be done"),
        ("error: Outer\n  cause: middle\n  cause: the root\nmore\n", "error: Outer: the root"),
        ("\x1b[31m[E] red\x1b[0m \x1b]0;title\x07tail\n", "[E] red tail"),
        ("fine\nfine\nstill fine\n", "build failed without a message"),
        ("E1121 09:37:20.211 1 x.cc:1] boom\n", "E1121 09:37:20.211 1 x.cc:1] boom"),
    ],
)  # fmt: skip
def test_first_line_of_a_log(log: str, line: str) -> None:
    assert d.diagnose("build", "failed", None, None, log).line == line


def test_message_lines_that_only_say_where_are_passed_over() -> None:
    where = "Exception from src/inference/src/cpp/core.cpp:95:\nException from src/x/graph_cache.cpp:27:\n"
    message = where + "zz node not found\n"
    assert d.diagnose("parse", "failed", error(message, ""), None, "").line == "zz node not found"
    assert d.diagnose("parse", "failed", error("", "ImportError"), None, "").line == "ImportError"


def test_records_name_no_machine_and_no_login() -> None:
    line = d.diagnose(
        "obtain", "failed", error("cannot read https://me:secret@host.example/a/b and /home/me/env/lib/x.so"), None, ""
    ).line
    assert "secret" not in line and "/home" not in line
    assert "https://host.example/a/b" in line and "x.so" in line


# ---------------------------------------------------------------- hostile input

rnd = random.Random(1)
NOISE = {
    "random": "".join(rnd.choice(string.printable) for _ in range(1 << 20)),
    "one letter": "a" * (1 << 20),
    "slashes": "/a" * (1 << 19),
    "newlines": "\n" * (1 << 20),
    "spaces": " " * (1 << 20),
    "escapes": "\x1b[" * (1 << 19),
    "brackets": "[E]" * 350_000,
    "check": "Check '" * 150_000,
    "nearly": ("Because " + "b" * 900 + "\n") * 1100,
    "nearly a conflict": ("x requires a<" + "b" * 300 + ", but you have") * 3000,
    "nearly a stub": "<urlopen error x>\n" * 58_000,
    "nearly a trace": ("Failed to export the model with torch.export\n" * 23_000),
    "all beginnings": "".join(s.example[:40] + "\n" for s in BY_TEXT) * 130,
    "dots": "No module named 'a" + "a." * (1 << 19),
}


@pytest.mark.parametrize("name", NOISE)
def test_a_megabyte_of_noise_takes_less_than_a_second(name: str) -> None:
    d.diagnose("build", "failed", None, None, "")
    for stage, status in (("environment", "failed"), ("run", "degraded")):
        start = time.process_time()
        found = d.diagnose(stage, status, error(NOISE[name]), None, NOISE[name])
        assert time.process_time() - start < 1.0
        assert len(found.line) <= LINE_LIMIT and "\n" not in found.line


def test_importing_reads_no_catalogue() -> None:
    code = (
        "import sys, builder.diagnose; print([m for m in ('yaml', 'packaging', 'rich', 'jinja2') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


# ---------------------------------------------------------------- what the catalogue does not know


def cells(*rows: tuple[str, str | None, str | None, str]) -> dict[str, dict[str, object]]:
    """(status, category, signature, line) -> cells by id."""
    return {
        f"{number:012x}": {"status": status, "category": category, "signature": signature, "line": line}
        for number, (status, category, signature, line) in enumerate(rows)
    }


def test_undiagnosed_is_what_failed_without_a_signature_and_says_nothing_of_itself() -> None:
    rows = cells(
        ("failed", "build-error", None, "odd"), ("crashed", "crash", None, "killed by SIGSEGV in run"),
        ("failed", "packaging", "no-usable-wheels", "known"), ("failed", "run-error", "ort-node-failed", "known"),
        ("mismatch", "accuracy", None, "wrong"), ("degraded", "precision-fallback", None, "other"),
        ("timeout", "timeout", None, "no end"), ("out-of-memory", "memory", None, "memory"),
        ("blocked", "infrastructure", None, "network"), ("verified", None, None, ""), ("skipped", None, None, ""),
    )  # fmt: skip
    assert [d.undiagnosed(cell) for cell in rows.values()] == [True, True] + [False] * 9


def test_the_undiagnosed_are_named_with_the_command_that_prints_them() -> None:
    rows = cells(*[("failed", "build-error", None, "odd")] * 3, ("failed", "packaging", "no-usable-wheels", "known"))
    findings = [
        {"count": 3, "line": "odd", "cells": list(rows)[:3]}, {"count": 1, "line": "known", "cells": list(rows)[3:]}
    ]  # fmt: skip
    rows = {
        name: {**cell, "id": name, "command": f"enginematrix -f b.yaml repro {name}"} for name, cell in rows.items()
    }
    (gap,) = diagnose_unknown.unknown(findings, rows)
    assert (gap.count, gap.line, gap.command) == (3, "odd", "enginematrix -f b.yaml show 000000000000 --log")
