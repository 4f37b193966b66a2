"""Files of a model hub's repository, through `huggingface_hub` (an optional dependency: the `hub` extra).

The lock says which commit a revision was and the hash of every file: ("commit:<40 hex>", "sha256:<64 hex>:<bytes>:<path>", ...).
The library takes its own settings: HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE, and the proxies of the environment
(https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder import backoff
from builder.errors import InfrastructureError, TransientError, UsageError
from builder.lock import HUB
from builder.recipe_source import ADVICE, PICKLES, plain
from builder.sources import SourceError, mismatch
from builder.store import file_sha256
from builder.values import Source

ATTEMPTS = 3
"""Of a file, each going on where the last one broke off (in pieces of 10 MB), beyond what the library tries itself."""
SMALL = 64 << 20
"""Bytes of a file that is not stored by its SHA-256 on the hub, at most: the hub itself keeps larger ones in Git LFS or Xet."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Away(TransientError):
    """The hub does not answer, or broke off: it may answer in a moment."""


def resolve(name: str) -> tuple[str, ...]:
    """Ask the hub for the commit and the files of `lock.data_package`'s name. Raises SourceError (no such repository,
    revision or file), UsageError (the library is missing), InfrastructureError."""
    repository, revision, patterns = parse(name)
    with _errors(repository, revision):
        info = _api().model_info(repository, revision=revision, files_metadata=True)
        commit = str(info.sha or "")
        if not _COMMIT.fullmatch(commit):
            msg = f"{repository}: the hub names no commit for {revision!r}"
            raise InfrastructureError(msg)
        lines = []
        files = {str(item.rfilename): item for item in info.siblings or ()}
        for path in sorted(_wanted(files, patterns, f"{repository} at {revision}")):
            size, sha256 = _hash(repository, commit, files[path])
            lines.append(f"sha256:{sha256}:{size}:{path}")
    return (f"commit:{commit}", *lines)


def parse(name: str) -> tuple[str, str, tuple[str, ...]]:
    """(repository, revision, patterns) of "hub:owner/name@revision:pattern,pattern"."""
    repository, _, rest = name.removeprefix(HUB).partition("@")
    revision, _, patterns = rest.partition(":")
    return repository, revision, tuple(patterns.split(","))


def entries(locked: Sequence[str]) -> tuple[str, list[tuple[str, int, str]]]:
    """(commit, [(sha256, bytes, path)]) of what the lock says. Raises ValueError when it is damaged."""
    commit, files = "", []
    for line in locked:
        kind, _, rest = line.partition(":")
        if kind == "commit" and _COMMIT.fullmatch(rest):
            commit = rest
        elif kind == "sha256" and (found := re.fullmatch(r"([0-9a-f]{64}):([0-9]+):(.+)", rest)) and plain(found[3]):
            files.append((found[1], int(found[2]), found[3]))
        else:
            raise ValueError(line)
    if not commit or not files:
        msg = "no commit, or no file"
        raise ValueError(msg)
    return commit, files


def fetch(source: Source, locked: Sequence[str], folder: Path, partial: Path) -> None:
    """The locked files into `folder`, under their paths. Unfinished ones stay in `partial`, where the library goes on with
    them. Raises SourceError, UsageError, InfrastructureError, OSError."""
    from builder.lock import data_package_of

    if not locked:  # the hub had no such thing when it was asked: it says so again, or it has it by now
        resolve(data_package_of(source))
        msg = f"{source.name} at {source.version}: not in the lock; run `enginematrix lock`"
        raise InfrastructureError(msg)
    try:
        commit, files = entries(locked)
    except ValueError as error:
        msg = f"{source.name}: what the lock says of it is damaged ({error}); run `enginematrix lock`"
        raise SourceError("NotInLock", msg) from error
    total = sum(size for _, size, _ in files)
    if total > source.limit:
        msg = f"{source.name}: its files have {total} bytes, and at most {source.limit} are taken; raise `limit` if that is right"
        raise SourceError("TooLarge", msg)
    partial.mkdir(parents=True, exist_ok=True)
    if total > (free := shutil.disk_usage(partial).free):
        msg = f"{source.name}: {total} bytes are to come and {free} are free; free some space and run again"
        raise InfrastructureError(msg)
    for sha256, _, path in files:
        there = partial / path
        if not (there.is_file() and file_sha256(there) == sha256):
            there = _fetched(source.name, commit, path, partial)
            if (found := file_sha256(there)) != sha256:
                shutil.rmtree(partial, ignore_errors=True)
                raise mismatch(f"{source.name}/{path} at {commit[:12]}", found, sha256, "the lock")
    for _, _, path in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / path, target)
    shutil.rmtree(partial, ignore_errors=True)


def _fetched(repository: str, commit: str, path: str, folder: Path) -> Path:
    def once() -> Path:
        with _errors(repository, commit):
            return _download(repository, commit, path, folder)

    return backoff.retry(f"{repository}/{path}", once, backoff.Policy(tries=ATTEMPTS))


def _wanted(files: dict[str, Any], patterns: Sequence[str], where: str) -> set[str]:
    out: set[str] = set()
    for pattern in patterns:
        found = [path for path in files if fnmatch.fnmatchcase(path, pattern)]
        if not found:
            there = ", ".join(sorted(files)[:12]) or "none"
            raise SourceError("NotFound", f"{where} has no file {pattern!r}; there are {there}")
        out.update(found)
    for path in out:
        if not plain(path):
            raise SourceError("NotFound", f"{where}: {path!r} is no path that can be kept")
        if path.lower().endswith(PICKLES):
            raise SourceError("Pickle", f"{where}: {path!r} is a pickle; {ADVICE}")
    return out


def _hash(repository: str, commit: str, item: Any) -> tuple[int, str]:
    """(bytes, sha256) of a file. Large ones have it on the hub; of a small one the hub knows git's own hash alone, so it is
    fetched and held against that."""
    if item.lfs is not None:
        return int(item.lfs.size), str(item.lfs.sha256)
    if item.size is not None and item.size > SMALL:
        raise SourceError("TooLarge", f"{repository}/{item.rfilename}: {item.size} bytes and no SHA-256 on the hub")
    with tempfile.TemporaryDirectory() as folder:
        data = _download(repository, commit, str(item.rfilename), Path(folder)).read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if item.blob_id and blob != item.blob_id:
        raise mismatch(f"{repository}/{item.rfilename}", f"git blob {blob}", f"git blob {item.blob_id}", "the hub")
    return len(data), hashlib.sha256(data).hexdigest()


def _library() -> Any:
    try:
        library: Any = importlib.import_module("huggingface_hub")
        tools: Any = importlib.import_module("huggingface_hub.utils")
    except ImportError as error:
        msg = (
            "a source of kind 'hub' needs huggingface_hub, an optional dependency; install it beside enginematrix: "
            "pip install 'enginematrix[hub]'"
        )
        raise UsageError(msg) from error
    tools.disable_progress_bars()
    return library


def _api() -> Any:
    return _library().HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="enginematrix")


def _download(repository: str, commit: str, path: str, folder: Path) -> Path:
    library = _library()
    return Path(
        library.hf_hub_download(
            repository, path, revision=commit, local_dir=folder, endpoint=os.environ.get("HF_ENDPOINT"),
            library_name="enginematrix",
        )
    )  # fmt: skip


@contextmanager
def _errors(repository: str, revision: str) -> Iterator[None]:
    """The library's errors as ours: what is not there is the recipe's mistake, all else this machine's or the hub's."""
    _library()
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except (SourceError, InfrastructureError):
        raise
    except errors.GatedRepoError as error:
        msg = f"{repository}: its owner lets in only whom they know; accept its terms on the hub and set HF_TOKEN"
        raise InfrastructureError(msg) from error
    except errors.RepositoryNotFoundError as error:
        # The hub answers 401 alike for a repository that is not there and for one that is private.
        if os.environ.get("HF_TOKEN"):
            raise SourceError(
                "NotFound", f"{repository}: the hub has no such repository, or not for HF_TOKEN"
            ) from error
        raise SourceError(
            "NotFound", f"{repository}: the hub has no such repository (or a private one: set HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError("NotFound", f"{repository}: it has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        msg = f"{repository}: the hub does not answer ({type(cause).__name__}: {_line(cause)}); check the network and run again"
        raise Away(msg) from error
    except errors.EntryNotFoundError as error:
        raise SourceError("NotFound", f"{repository}: {_line(error)}") from error
    except errors.HFValidationError as error:
        raise SourceError("NotFound", f"{repository}: {_line(error)}") from error
    except errors.OfflineModeIsEnabled as error:
        msg = f"{repository}: HF_HUB_OFFLINE forbids asking the hub; unset it, or run where the files are already"
        raise InfrastructureError(msg) from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (400, 404, 410):
            raise SourceError("NotFound", f"{repository} at {revision}: {_line(error)}") from error
        msg = f"{repository}: {_line(error)}; check the network and run again"
        raise Away(msg) from error
    except Exception as error:
        # The library's HTTP client (requests, httpx or its successor, by version) raises errors of its own.
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in (
            "httpx",
            "httpx2",
            "httpcore",
            "requests",
        ):
            msg = f"{repository}: {type(error).__name__}: {_line(error)}; check the network and the disk and run again"
            raise Away(msg) from error
        raise


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
