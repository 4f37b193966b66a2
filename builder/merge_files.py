"""What `merge` brings beside records: logs, and objects when asked; and what it says of a folder.

A file must be what its name says and lie where the store would have put it; no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from builder.errors import InfrastructureError
from builder.store import Store, file_sha256

Files = Literal["", "copy", "link"]
_PATH = re.compile(r"objects/[0-9a-f]{2}/[0-9a-f]{64}[^/\x00]*(/[^/\x00]+)?$")
_LOG = re.compile(r"logs/[0-9a-f]{2}/[0-9a-f]{64}\.txt$")


@dataclass(kw_only=True)
class Merged:
    """What one folder brought."""

    folder: Path
    new: dict[str, int] = field(default_factory=dict)
    """Table (steps, outcomes, runs, refuted) -> records that were not here before."""
    conflicts: list[str] = field(default_factory=list)
    """Same key, other result, each in words: both are kept."""
    objects: int = 0
    logs: int = 0
    told: bool = False
    """Whether it is a report.json alone: what became of cells, and nothing that they were made of."""
    refused: list[str] = field(default_factory=list)
    """Files that are not what they should be, each in words; they stay where they are."""

    def lines(self) -> Iterator[str]:
        brought = ", ".join(f"{number} {name}" for name, number in self.new.items() if number)
        files = f"; {self.objects} objects and {self.logs} logs" if self.objects or self.logs else ""
        alone = " (a report alone: outcomes without what they were made of)" if self.told else ""
        yield f"{self.folder}: {brought or 'nothing new'}{files}{alone}"
        yield from (f"  conflict: {text}" for text in self.conflicts)
        yield from (f"  refused: {text}" for text in self.refused)

    def as_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "new": self.new, "objects": self.objects, "logs": self.logs,
            "conflicts": self.conflicts, "refused": self.refused, "report-alone": self.told,
        }  # fmt: skip


def logs(store: Store, folder: Path, records: Sequence[Mapping[str, Any]], merged: Merged) -> None:
    """Bring the logs of steps, which are evidence and small."""
    for path in sorted({str(record["log"]) for record in records if record.get("log")}):
        source, target = folder / path, store.root / path
        if not _LOG.match(path):
            merged.refused.append(f"log {path[:120]!r}: not where a log belongs")
            continue
        if target.exists() or not _plain(folder, source):
            continue
        _place(source, target, "copy")
        merged.logs += 1


def objects(store: Store, folder: Path, records: Sequence[Mapping[str, Any]], merged: Merged, how: Files) -> None:
    """Bring the files that steps name; each must be what its name says. Sources of models are fetched again when needed."""
    from builder.collector import _entries

    wanted: dict[str, dict[str, Any]] = {}
    for record in records:
        try:
            wanted.update({str(entry["path"]): entry for entry in _entries(record)})
        except (TypeError, KeyError, AttributeError):
            merged.refused.append("a record that names its files in no way that is known here")
    for path, entry in sorted(wanted.items()):
        source, target = folder / path, store.root / path
        if not _PATH.match(path) or ".." in Path(path).parts:
            merged.refused.append(f"object {path[:120]!r}: not where an object belongs")
        elif target.exists() and store.present(entry):
            continue
        elif not _plain(folder, source):
            merged.refused.append(f"object {path}: not in that folder")
        elif file_sha256(source) != entry.get("sha256"):
            merged.refused.append(f"object {path}: other bytes than its name says")
        else:
            _place(source, target, how)
            merged.objects += 1


def _plain(folder: Path, path: Path) -> bool:
    """Whether a file is one, and in the folder: no link leads elsewhere."""
    return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())


def _place(source: Path, target: Path, how: Files) -> None:
    """Put a file into place at once. Raises InfrastructureError."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        if how == "link":
            os.link(source, beside)
        else:
            shutil.copyfile(source, beside, follow_symlinks=False)
            beside.chmod(0o444 if target.parts[-3:-2] == ("objects",) else 0o644)
        os.replace(beside, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        advice = "; without a common file system, --objects copy" if how == "link" else ""
        msg = f"{target}: cannot be written: {error}{advice}"
        raise InfrastructureError(msg) from error
