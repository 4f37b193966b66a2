"""Every way the program ends other than well, with its exit code. Exceptions are for bad input and our bugs;
a cell that fails is a value, never an exception."""

from __future__ import annotations

from collections.abc import Sequence

from builder.values import Where

EXIT_OK = 0
EXIT_FAILURES = 1
EXIT_USAGE = 2
EXIT_INFRASTRUCTURE = 3
EXIT_BUDGET = 4
EXIT_BUG = 70
"""EX_SOFTWARE of sysexits.h: Python's own 1 would say that cells fail."""
EXIT_INTERRUPTED = 130


class EngineMatrixError(Exception):
    """Base of the errors that are shown without a traceback."""

    exit_code = EXIT_USAGE


class UsageError(EngineMatrixError):
    """Bad input on the command line."""


class SpecError(EngineMatrixError):
    """One thing wrong in a file: `matrix.yaml:14:7: unknown axis 'tensort'; perhaps 'tensorrt'?`."""

    def __init__(self, where: Where, message: str, *, hint: str = "", text: str = "") -> None:
        self.where = where
        self.message = message
        self.hint = hint
        self.text = text
        super().__init__(str(self))

    def __str__(self) -> str:
        out = f"{self.where}: {self.message}"
        if self.hint:
            out += f"; {self.hint}"
        if self.text:
            caret = " " * (self.where.column - 1) + "^"
            out += f"\n    {self.text}\n    {caret}"
        return out


class SpecErrors(EngineMatrixError):
    """All the things wrong in the files, in order of place."""

    def __init__(self, errors: Sequence[SpecError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.where))
        super().__init__("\n".join(str(error) for error in self.errors))


class InfrastructureError(EngineMatrixError):
    """Network, disk, daemon, a missing interpreter: never evidence about versions."""

    exit_code = EXIT_INFRASTRUCTURE


class TransientError(InfrastructureError):
    """Infrastructure that may work in a moment: the same thing may be tried again (builder/backoff.py)."""
