"""Planning 1,000 and 10,000 cells, as a whole process: nothing stored, and everything stored (bars 0.3 s and 1 s)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import synthetic

for cells, bar in ((1000, 0.3), (10000, 1.0)):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write(folder, cells)
        command = [sys.executable, "-m", "builder", "plan", "--group", "all"]
        synthetic.show(f"plan of {cells} cells, nothing stored", synthetic.median(command, folder), bar)
        assert synthetic.complete(folder) == cells
        synthetic.show(f"plan of {cells} cells, all up to date", synthetic.median(command, folder), bar)
