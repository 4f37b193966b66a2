"""TensorRT and TensorRT-RTX plans: their headers, which NVIDIA does not document.

Sources. Real plans of TensorRT-RTX 1.4.0.76, 1.5.0.114, 1.6.1.120 and 1.7.1.116 (CUDA 12 and 13), built for each target
and for several at once, and two TensorRT plans that others published: 8.6.1.6, built on an RTX 4090
(github.com/smile2game/nvidia-game, model.plan), and 7.1.3.4, built on a T4 (github.com/bleedingfight/cuda, model.plan).
No plan of TensorRT itself could be built by this project, which had no such GPU; NVIDIA states that its version is among
the first bytes (github.com/NVIDIA/TensorRT/issues/3073), and others rely on bytes 24 to 27
(github.com/autowarefoundation/autoware_universe/pull/10320).

    offset  ftrt (TensorRT 8.6 and newer)         vtrt (TensorRT-RTX)
    0       magic, u32 0                          the same
    8       u64 version of this header (1)        (2)
    16      u64 bytes in the whole file           the same
    24      u8 major, minor, patch, build         the same
    28      u32 0                                 magic again
    32                                            u64 one bit for each target
    48                                            u64 CUDA (12090), 0 in 1.7
    32, 64  sections to the first section's begin: 8 bytes tag, u64 offset, u64 bytes

The section ENGN is an archive (magic `ptrt`). A plan before 8.6 is that archive alone.
"""

from __future__ import annotations

import json
import re
from typing import Any

from builder.enginefile_content import Content, Damaged, Header

TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capability of each bit, lowest first: seen by building for one target after the other."""
_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx", b"ptrt": "tensorrt"}
_BYTE = rb"\x02[\x00\x80]\x01\x00(.)"
_VERSION = re.compile(_BYTE * 4, re.DOTALL)
_INT = rb"\x07[\x00\x80]\x01\x00"
_DEVICE = re.compile(_INT + rb"(.)\0\0\0" + _INT + rb"(.)\0\0\0" + _INT + rb"(.{4})" + _INT + rb"(.{4})", re.DOTALL)
"""Compute capability, clock and memory clock (kHz) of the GPU that built the plan, as they stand in both real ones."""
MAX_PREFIX = 1 << 20


def match(content: Content) -> Header | None:
    """The header of a plan, None if it is none. Raises Damaged."""
    start, prefix = _prefix(content)
    magic = content.at(start, 4)
    if magic not in _MAGIC:
        return None
    library = _MAGIC[magic]
    name = "tensorrt-rtx-plan" if library == "tensorrt-rtx" else "tensorrt-plan"
    details: dict[str, Any] = {"magic": magic.decode()}
    notes: tuple[str, ...] = ()
    if start:
        details["prefix_bytes"] = start
        details["written_by"] = prefix
        notes = ("before the plan stands a block of JSON, which must be cut off for the library itself to load it",)
    if magic == b"ptrt":
        found = _archive(content, start, content.size, details)
        return Header(format=name, library=library, notes=notes, details=details, **found)
    layout = content.number("<Q", start + 8)
    total = content.number("<Q", start + 16)
    version = ".".join(str(part) for part in content.at(start + 24, 4))
    details.update(header_version=layout, bytes=total)
    if version.count(".") < 3:
        msg = f"it ends at byte {content.size}, within its header"
        raise Damaged(msg)
    if layout not in (1, 2):
        notes += (f"header version {layout} was never seen; its version, size and targets may be read wrongly",)
    damage = ""
    if total != content.size - start:
        damage = f"the header says {total} bytes and there are {content.size - start}"
    if library == "tensorrt":
        sections = _sections(content, start, 32, details)
        found = {}
        if "ENGN" in sections and not damage:
            begin, size = sections["ENGN"]
            found = _archive(content, start + begin, start + begin + size, details)
        found["version"] = version
        return Header(format=name, library=library, details=details, notes=notes, **{"damage": damage, **found})
    mask = content.number("<Q", start + 32)
    cuda = content.number("<Q", start + 48)
    capabilities = tuple(value for bit, value in enumerate(TARGETS) if mask >> bit & 1)
    unknown = [bit for bit in range(64) if mask >> bit & 1 and bit >= len(TARGETS)]
    if unknown:
        details["unknown_target_bits"] = unknown
    if cuda:
        details["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
    _sections(content, start, 64, details)
    return Header(
        format=name, library=library, version=version, capabilities=capabilities, details=details, notes=notes,
        damage=damage,
    )  # fmt: skip


def _prefix(content: Content) -> tuple[int, str]:
    """(where the plan begins, what wrote the block before it). Ultralytics puts u32 length and JSON before it
    (https://github.com/ultralytics/ultralytics, engine/exporter.py)."""
    head = content.at(0, 5)
    length = int.from_bytes(head[:4], "little")
    if head[4:] != b"{" or not 2 <= length <= MAX_PREFIX or content.at(4 + length, 4) not in _MAGIC:
        return 0, ""
    try:
        data = json.loads(content.at(4, length))
    except (ValueError, RecursionError):
        return 0, ""
    return 4 + length, "Ultralytics" if isinstance(data, dict) and "stride" in data else "unknown"


def _sections(content: Content, start: int, table: int, details: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Tag -> (offset from the plan's begin, bytes). The table ends where the first section begins; at most eight are read."""
    found: dict[str, tuple[int, int]] = {}
    for index in range(8):
        entry = start + table + 24 * index
        begin = min((offset for offset, _ in found.values()), default=table + 24)
        tag = content.at(entry, 4)[::-1]
        if table + 24 * (index + 1) > begin or not re.fullmatch(rb"[A-Z]{4}", tag):
            break
        found[tag.decode()] = (content.number("<Q", entry + 8), content.number("<Q", entry + 16))
    details["sections"] = sorted(found)
    return found


def _archive(content: Content, start: int, end: int, details: dict[str, Any]) -> dict[str, Any]:
    """Version and GPU from an archive's first values. Its header has had several layouts, told apart by which of them gives
    the size that is there."""
    if content.at(start, 4) != b"ptrt":
        return {}
    one, two = content.number("<I", start + 4), content.number("<I", start + 8)
    layouts = (
        (24, content.number("<Q", start + 16), two),  # 8.x
        (24, content.number("<Q", start + 12), one),  # 7.x
        (20, content.number("<Q", start + 8), one),  # as in TensorRT-RTX
    )
    fitting = [layout for layout in layouts if start + layout[0] + layout[1] == end]
    header, _, serialization = fitting[0] if fitting else layouts[0] if one == 0 else layouts[1]
    details["serialization_version"] = serialization
    head = content.at(start + header, 160)
    found: dict[str, Any] = {}
    version = _VERSION.match(head)
    if version:
        found["version"] = ".".join(str(part[0]) for part in version.groups())
        device = _DEVICE.search(head, version.end())
        if device:
            major, minor = device[1][0], device[2][0]
            clock, memory = (int.from_bytes(device[index], "little") for index in (3, 4))
            if 3 <= major <= 15 and minor <= 9 and 100_000 <= clock <= 5_000_000 and 100_000 <= memory <= 30_000_000:
                found["built_on"] = f"{major}.{minor}"
    if not fitting:
        found["damage"] = "none of the sizes in its header is the one that is there: cut off, or a layout never seen"
    return found
