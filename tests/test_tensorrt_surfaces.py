"""The surfaces of the fake TensorRT releases against the real modules, as wheels have them (`-m real`).

The bindings' wheels are small (1 MB); the libraries they need are not, and are not there: stand-ins without content take
their place, since importing a module calls nothing of them. Of 8.4.1.5 the bindings come only with all libraries (774 MB):
its surface was read in the same way once, by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tensorrt_fake import SURFACES

from builder.environment import interpreters

pytestmark = pytest.mark.real

SCRIPT = Path(__file__).parent / "fakes" / "surface.py"
WHEELS = {
    "8.6.1": ("3.10", "tensorrt_bindings==8.6.1"),
    "10.0.1": ("3.12", "tensorrt-cu12-bindings==10.0.1"),
    "10.16.1.11": ("3.12", "tensorrt-cu12-bindings==10.16.1.11"),
    "11.4.0.106": ("3.12", "tensorrt-cu12-bindings==11.4.0.106"),
}


@pytest.mark.parametrize("release", WHEELS)
def test_a_fakes_surface_is_the_real_one(release: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for tool in ("cc", "readelf", "nm"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    python, wheel = WHEELS[release]
    uv = interpreters.uv_binary()
    place = request.config.cache.mkdir("real-environments") / f"tensorrt-bindings-{release}"
    if not (place / "whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        found = interpreters.find(python, uv, os.environ)
        for command in (
            [uv, "venv", "-q", "--no-project", "--python", str(found), str(place)],
            [uv, "pip", "install", "-q", "--no-deps", "--python", str(place / "bin" / "python"), wheel],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        (place / "whole").touch()
    (module,) = place.glob("lib/python*/site-packages/tensorrt_bindings/tensorrt.so")
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import surface; "
         f"surface.stand_ins({str(module)!r}, {str(tmp_path)!r})"], check=True,
    )  # fmt: skip
    real = json.loads(
        subprocess.run(
            [place / "bin" / "python", SCRIPT, module], check=True, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(tmp_path)},
        ).stdout
    )  # fmt: skip
    fake = json.loads((SURFACES / f"{release}.json").read_text(encoding="utf-8"))
    assert fake.pop("version")
    assert "wheel" in fake.pop("source")
    differing = {name for name in fake if fake[name] != real.get(name)}
    assert differing == set()
    # And what the adapter asks for by name is not missing from the fake alone.
    watched = ("ComputeCapability", "EngineValidity", "EngineInvalidityDiagnostics", "HardwareCompatibilityLevel")
    assert [name for name in watched if name in real and name not in fake] == []
