"""The folder that BuildKit is given to build a stack's image from: `artifacts/images/<stack id>/`.

What was rendered, and beside it what no text can be: `uv`, which makes the environment inside, and `wheels/`, the locked
wheels that this machine keeps in a folder of its own (UV_FIND_LINKS), apart for each file of `requirements/`: a RUN that
saw a neighbour's wheels would not share that neighbour's layer. All are hard links, so thirty folders hold one uv; BuildKit
sends of a folder only what a Dockerfile mounts, and of that only what changed since it was last sent.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from builder.environment import interpreters, uv
from builder.errors import InfrastructureError
from builder.lock import Pins
from builder.render import Rendered
from builder.store import Store, file_sha256

_MACHINES = {62: "linux/amd64", 183: "linux/arm64"}
"""e_machine of an ELF file (elf(5): EM_X86_64, EM_AARCH64) -> platform."""


def folder(store: Store, rendered: Rendered) -> Path:
    return store.root.resolve() / "images" / rendered.stack.id


def write(store: Store, rendered: Rendered) -> Path:
    """Write what was rendered, Dockerfile and files; its folder. What is there already and right is left alone, so that
    BuildKit need not look at it again. Raises InfrastructureError when the disk refuses."""
    root = folder(store, rendered)
    wanted = {root / "Dockerfile": rendered.dockerfile, **{root / name: text for name, text in rendered.files.items()}}
    groups = [root / "wheels" / group for group in _groups(rendered)]
    try:
        # What is written and removed below is ours only where no link leads elsewhere. All of `images/` may be a link.
        for path in (root / "requirements", root / "wheels", *groups, *wanted):
            if path.is_symlink():
                msg = f"{path}: a symbolic link, where a build context has none; remove it and run again"
                raise InfrastructureError(msg)
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if _read(path) != text:
                store.write_text(path, text)
            path.chmod(0o644)  # modes are part of BuildKit's cache keys, whatever this user's umask; folders' too
        for stale in set((root / "requirements").glob("*")) - set(wanted):
            stale.unlink(missing_ok=True)
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
            group.chmod(0o755)
    except OSError as error:
        msg = f"{root}: cannot be written: {error}; free some space or check its rights"
        raise InfrastructureError(msg) from error
    return root


def complete(store: Store, rendered: Rendered) -> Path:
    """`write`, and put uv and the wheels beside. Raises InfrastructureError, also when uv is for another processor."""
    root = write(store, rendered)
    binary = Path(interpreters.uv_binary()).resolve()
    check_architecture(binary, rendered.platform)
    kept = store.root.resolve() / "images" / ".kept"
    try:
        _link(binary, root / "uv", kept)
        found = {}
        for group, pins in _groups(rendered).items():
            for name, wheel in wheels(pins, uv.environ(), rendered.platform):
                found[root / "wheels" / group / name] = wheel
        for target, wheel in found.items():
            _link(wheel, target, kept)
        for stale in set((root / "wheels").glob("*/*")) - set(found):
            stale.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{root}: cannot be written: {error}; free some space or check its rights"
        raise InfrastructureError(msg) from error
    return root


def _groups(rendered: Rendered) -> dict[str, Pins]:
    """`dependencies`, `own`: the name of each file of `requirements/`, and the pins that stand in it."""
    out = {}
    for name, text in rendered.files.items():
        if name.startswith("requirements/"):
            lines = {line.removesuffix(" \\") for line in text.splitlines()}
            out[Path(name).stem] = replace(
                rendered.pins, packages=tuple(pin for pin in rendered.pins.packages if pin in lines)
            )
    return out


def check_architecture(binary: Path, platform: str) -> None:
    """Raises InfrastructureError when a program is not for `platform`."""
    with binary.open("rb") as file:
        head = file.read(20)
    machine = struct.unpack_from("<H", head, 18)[0] if head[:4] == b"\x7fELF" and len(head) == 20 else 0
    if _MACHINES.get(machine) != platform:
        msg = (
            f"the image is for {platform}, and this machine's uv ({binary.name}) for "
            f"{_MACHINES.get(machine, 'something else')}; build it on a machine of that kind"
        )
        raise InfrastructureError(msg)


def wheels(pins: Pins, environ: Mapping[str, str], platform: str) -> Iterator[tuple[str, Path]]:
    """File name and file of the locked wheels that local folders of uv's `find-links` hold: by name, version and hash."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    wanted = {}
    for pin in pins.packages:
        name, equal, version = pin.partition(";")[0].strip().partition("==")
        if equal:
            with contextlib.suppress(InvalidVersion):
                wanted[canonicalize_name(name.partition("[")[0]), Version(version)] = pins.hashes[pin]
    for entry in environ.get("UV_FIND_LINKS", "").split(","):
        place = Path(entry.strip().removeprefix("file://"))
        there = bool(entry.strip()) and os.path.isdir(place)  # noqa: PTH112 - false for what this user may not enter
        for wheel in sorted(place.glob("*.whl")) if there else ():
            try:
                project, release, _, tags = parse_wheel_filename(wheel.name)
            except InvalidWheelFilename:
                continue
            hashes = wanted.get((project, release))
            if hashes and any(_fits(tag.platform, platform) for tag in tags) and _sha256(wheel) in hashes:
                yield wheel.name, wheel.resolve()


def _sha256(wheel: Path) -> str:
    stat = wheel.stat()
    return _hashed(wheel, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _hashed(wheel: Path, _size: int, _changed: int) -> str:
    """Once a process: a wheel of PyTorch has 200 MB."""
    return f"sha256:{file_sha256(wheel)}"


def _fits(tag: str, platform: str) -> bool:
    return tag == "any" or tag.endswith({"linux/amd64": "_x86_64", "linux/arm64": "_aarch64"}.get(platform, ""))


_COPYING = threading.Lock()


def _link(source: Path, target: Path, kept: Path) -> None:
    """Make `target` the file `source`: a hard link, or where there can be none (another file system, another owner) one
    to a single copy in `kept`."""
    if target.exists() and target.samefile(source):
        return
    stat = source.stat()
    copy = kept / f"{stat.st_size}-{stat.st_mtime_ns}-{source.name}"
    if target.exists() and copy.exists() and target.samefile(copy):
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(source)
    except OSError:
        with _COPYING:
            if not copy.exists():
                kept.mkdir(parents=True, exist_ok=True)
                part = copy.with_name(f"{copy.name}.{os.getpid()}")
                shutil.copyfile(source, part)
                part.chmod(stat.st_mode & 0o755)
                os.replace(part, copy)
        beside.hardlink_to(copy)
    os.replace(beside, target)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
