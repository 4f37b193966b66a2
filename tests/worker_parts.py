"""The worker's modules in this process, under the name that they have in a cell.

The host's own folder must not be on the path for that: its modules (`select`) would stand before the standard library's.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import builder.worker


def part(name: str) -> Any:
    """A module of the worker: `part("adapters.litert_")`."""
    sys.modules.setdefault("worker", builder.worker)
    found: ModuleType = importlib.import_module(f"worker.{name}")
    return found
