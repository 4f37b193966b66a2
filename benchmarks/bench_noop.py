"""A run with nothing to do over 100 finished cells, as a whole process (bar 0.5 s)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import synthetic

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    synthetic.write(folder, 100)
    synthetic.complete(folder)
    command = [
        sys.executable,
        "-m",
        "builder",
        "run",
        "--fail-on",
        "never",
    ]  # the fake versions differ from the declared
    synthetic.show("run of 100 finished cells", synthetic.median(command, folder), 0.5)
    help_ = [sys.executable, "-m", "builder", "--help"]
    synthetic.show("--help", synthetic.median(help_, folder), 0.15)
