"""An `obtain` step: a model's data, downloaded or copied by this program itself, before any job reads it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from builder import sources
from builder.errors import InfrastructureError, UsageError
from builder.execute.records import Records
from builder.plan import Step
from builder.store import StepRecord, file_sha256
from builder.values import Source, digest


def obtain(records: Records, step: Step) -> StepRecord:
    """A model's data into `sources/<digest of its files>/`. Nothing of it is executed. Raises InfrastructureError."""
    store = records.store
    source: Source = step.data["source"]
    started = time.monotonic()
    folder = store.work(records.run, step.key[:24])
    # What breaks off stays here for the next try, until `gc`.
    partial = store.root / "sources" / f".partial-{step.key[:32]}"
    try:
        sources.obtain(source, step.data["hashes"], Path(step.data["recipe"].directory), folder, partial)
        files = {
            str(path.relative_to(folder)): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith((".lock", "RECORD"))
        }
        output = digest(files)[:32]
        target = store.root / "sources" / output
        if not target.exists():
            folder.rename(target)
    except sources.SourceError as error:
        shutil.rmtree(partial, ignore_errors=True)
        failure = {"stage": "obtain", "type": error.kind, "message": str(error)}
        return records.finish(
            step, "failed", "", {"end": {"exit": 1}, "error": failure}, time.monotonic() - started, {}
        )
    except (OSError, UsageError) as error:  # an optional library that is not here, a variable that says nothing
        msg = f"obtain {step.name}: {error}"
        raise InfrastructureError(msg) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    record = {
        "end": {"exit": 0}, "files": len(files), "sha256": files if len(files) <= 100 else {},
        "stages": [{"stage": "obtain", "seconds": seconds}],
    }  # fmt: skip
    return records.finish(step, "ok", output, record, seconds, {})
