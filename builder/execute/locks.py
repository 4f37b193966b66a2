"""One timing at a time on this machine, with nothing of ours beside it, over all runs of this user.

The locks are flock(2): they go with the process that held them, however that ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from builder.errors import InfrastructureError


@contextlib.contextmanager
def machine_lock(*, exclusive: bool, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Shared by every job of this user on this machine; a timing takes it alone, whichever run it belongs to.

    Two locks: whoever wants the second stands at the first, the gate, meanwhile. So a timing that waits for the jobs that
    run keeps new ones back, and is not kept waiting for ever by another run's. Waits until `stop()`.

    Raises InfrastructureError when the folder of the locks cannot be used."""
    folder = lock_folder()
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with (folder / "machine").open("ab") as machine:
        with (folder / "gate").open("ab") as gate:
            _flock(gate, kind, stop)
            _flock(machine, kind, stop)
        yield


def lock_folder() -> Path:
    """The folder of the locks of this user on this machine. Raises InfrastructureError when it cannot be used."""
    folder = Path(tempfile.gettempdir(), f"enginematrix-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    except OSError as error:
        msg = f"{folder}: {error}; remove it, or set TMPDIR to a folder of your own"
        raise InfrastructureError(msg) from error
    if not mine:
        msg = f"{folder}: belongs to somebody else; remove it, or set TMPDIR to a folder of your own"
        raise InfrastructureError(msg)
    return folder


def _flock(file: IO[bytes], kind: int, stop: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop():
                msg = "interrupted"
                raise InfrastructureError(msg) from None
            time.sleep(0.05)
        else:
            return
