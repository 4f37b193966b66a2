"""A recipe's source -> a folder with its files, each held against its hash before anything else reads it.

Two kinds of trouble: SourceError, when what the recipe asks for is not there, or not what it says (bad input: evidence, and
stored); InfrastructureError, when network, disk or credentials of this machine are in the way (neither). Nothing obtained is
ever executed or unpickled here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

from builder import recipe_onnx, versions
from builder.errors import EngineMatrixError, UsageError
from builder.lock import HUB
from builder.recipe_model import Model
from builder.recipe_source import ADVICE, PICKLES
from builder.store import file_sha256
from builder.values import Source


class SourceError(EngineMatrixError):
    """What a recipe asks for is not there, or is not what it says. `kind` names the mistake: NotFound, HashMismatch,
    TooLarge, Pickle, ExternalData, NotInLock."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def resolve(name: str, cutoff: str) -> tuple[str, ...]:
    """What the lock says of a source (`lock.data_package`): hashes of a package, commit and files of a hub's repository.
    Raises PackageError, SourceError, InfrastructureError."""
    if name.startswith(HUB):
        from builder import sources_hub

        return sources_hub.resolve(name)
    from builder.environment import uv

    return uv.resolve_data(name, cutoff)


def obtain(source: Source, locked: Sequence[str], directory: Path, folder: Path, partial: Path) -> None:
    """Fill `folder` (which is there, and empty). `directory`: the recipe's own; `locked`: what the lock says of the source;
    `partial`: folder where an unfinished download stays for the next try. Raises SourceError, PackageError,
    InfrastructureError, OSError."""
    if source.kind == "package":
        from builder.environment import uv

        uv.install_data(f"{source.name}=={source.version}", locked, folder)
    elif source.kind == "url":
        from builder import sources_http

        name = file_name(source.name)
        wanted = {name: (source.name, source.sha256)}
        wanted |= {beside: (urljoin(source.name, beside), sha256) for beside, sha256 in source.beside.items()}
        left = source.limit
        for target, (address, sha256) in wanted.items():
            left -= sources_http.download(address, folder / target, sha256, left, partial / sha256)
    elif source.kind == "hub":
        from builder import sources_hub

        sources_hub.fetch(source, locked, folder, partial)
    elif source.kind == "folder":
        _copy_folder(directory / source.name, folder / PurePosixPath(source.name).name, source)
    else:
        main = Path(source.name)
        for name, sha256 in {main.name: source.sha256, **source.beside}.items():
            _copy(directory / main.parent / name, folder / name, sha256)
    _check(source, folder)


def file_name(address: str) -> str:
    """The last part of an address's path, as the name of a file."""
    name = PurePosixPath(unquote(urlsplit(address).path)).name
    return name if name and name not in (".", "..") and "\\" not in name and "\0" not in name else "download"


def model_name(source: Source) -> str:
    """The model in what is obtained, relative to it; '' where the source names none."""
    if source.kind == "url":
        return file_name(source.name)
    if source.kind == "file":
        return PurePosixPath(source.name).name
    if source.kind == "folder":
        return str(PurePosixPath(PurePosixPath(source.name).name, source.entry))
    return source.entry


def tree_sha256(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a folder: what a source of kind `folder` declares. Raises
    SourceError for links, which may lead anywhere."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            msg = f"{path.relative_to(folder)} is a symbolic link; copy the file itself there"
            raise SourceError("NotFound", msg)
        if path.is_file():
            lines.append(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def mismatch(name: str, found: str, wanted: str, said: str = "the recipe") -> SourceError:
    return SourceError("HashMismatch", f"{name}: sha256 is {found}, {said} says {wanted}")


def _copy(path: Path, target: Path, sha256: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise SourceError("NotFound", f"{path.name}: no such file beside the recipe")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    if (found := file_sha256(target)) != sha256:
        raise mismatch(path.name, found, sha256)


def _copy_folder(path: Path, target: Path, source: Source) -> None:
    if not path.is_dir():
        raise SourceError("NotFound", f"{source.name}: no such folder beside the recipe")
    tree_sha256(path)  # no links: what is copied is what is there
    shutil.copytree(path, target)
    if (found := tree_sha256(target)) != source.sha256:
        raise mismatch(source.name, found, source.sha256)


def _check(source: Source, folder: Path) -> None:
    """The model is there, nothing that was asked for is a pickle, and no ONNX file reaches out of its folder."""
    entry = model_name(source)
    if entry and not (folder / entry).exists():
        there = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        near = versions.nearest(entry, there) or f"there are {', '.join(there[:8])}{', ...' if len(there) > 8 else ''}"
        raise SourceError("NotFound", f"{source.name} has no {entry!r}; {near}")
    asked = [folder / entry] if source.kind in ("package", "folder") and entry else []
    if source.kind in ("url", "file", "hub"):
        asked = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in asked:
        if path.is_file() and is_pickle(path):
            raise SourceError("Pickle", f"{path.name} is a pickle; {ADVICE}")
    for path in asked if source.kind != "folder" else sorted(folder.rglob("*.onnx")):
        if path.suffix == ".onnx" and path.is_file():
            check_external(path)
    if entry and (folder / entry).is_file() and not entry.endswith(".onnx"):
        with contextlib.suppress(UsageError):  # ONNX by another name, or no ONNX at all
            _check_places(folder / entry, recipe_onnx.read(folder / entry))


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle by its bytes (protocol 2 to 5: PROTO, the protocol, ..., STOP), or by its name. The zip
    archive of `torch.save` is none: it can be read with weights_only=True."""
    if path.name.lower().endswith(PICKLES):
        return True
    with path.open("rb") as file:
        head = file.read(2)
        if len(head) < 2 or head[0] != 0x80 or head[1] not in (2, 3, 4, 5):
            return False
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b".":
            return True
        # What torch.save wrote before 1.6 is several pickles and then raw numbers; its first is a number of its own.
        file.seek(0)
        return b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in file.read(40)


def check_external(path: Path) -> None:
    """Raise SourceError, naming the tensor, for an ONNX file whose external data is not in its own folder, or is not ONNX."""
    try:
        model = recipe_onnx.read(path)
    except UsageError as error:
        raise SourceError("ExternalData", str(error)) from error
    _check_places(path, model)


def _check_places(path: Path, model: Model) -> None:
    for external in model.external:
        if why := recipe_onnx.escapes(external, path.parent):
            raise SourceError("ExternalData", f"{path.name}: {why}")
