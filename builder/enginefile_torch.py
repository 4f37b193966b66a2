"""PyTorch's archives by their list of files, never unpacked: TorchScript, `.pt2`, `torch.save`; and safetensors.

A zip's list of files is read up to a limit, and of its files only those of a few bytes that are stored uncompressed
(`version`, `archive_format`): nothing is decompressed, so that no archive can swell. PyTorch stores all files uncompressed
(caffe2/serialize/inline_container.h). `.pt2`: https://docs.pytorch.org/docs/stable/export/pt2_archive.html.
safetensors: https://huggingface.co/docs/safetensors (u64 length, JSON).
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any

from builder.enginefile_content import Content, Damaged, Header, text

MAX_LIST = 8 << 20
MAX_FILES = 100_000
MAX_JSON = 8 << 20
_END = b"PK\x05\x06"
_FILE = b"PK\x01\x02"


def match(content: Content) -> Header | None:
    """The header of an archive, a pickle or safetensors, None if it is none. Raises Damaged."""
    head = content.at(0, 16)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(content)
    if (
        head[:1] == b"\x80"
        and head[1:2] in b"\x02\x03\x04\x05"
        and b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in content.at(0, 40)
    ):
        # torch.serialization.MAGIC_NUMBER, which begins what torch.save wrote before 1.6.
        return Header(format="torch-save", library="torch", details={"archive": "pickle"}, notes=(PICKLE,))
    if len(head) >= 10 and head[8:9] == b"{":
        return _safetensors(content)
    return None


PICKLE = "it is a pickle: loading it can run any code, so load only what you trust (torch.load, weights_only=True)"


def _archive(content: Content) -> Header:
    files, cut = _files(content)
    roots = {name.split("/", 1)[0] for name in files if "/" in name}
    root = next(iter(roots)) + "/" if len(roots) == 1 and all("/" in name for name in files) else ""
    inner = {name[len(root) :]: where for name, where in files.items()}
    details: dict[str, Any] = {"files": len(files)}
    notes: tuple[str, ...] = ("its list of files is longer than what was read",) if cut else ()
    version = _small(content, inner.get("version") or inner.get(".data/version"))
    if version:
        details["file_format_version"] = version
    kind = _small(content, inner.get("archive_format"))
    if kind == "pt2" or "models/model.json" in inner or "serialized_exported_program.json" in inner:
        archive_version = _small(content, inner.get("archive_version"))
        if archive_version:
            details["archive_version"] = archive_version
        if any(name.startswith("data/aotinductor/") for name in inner):
            details["aotinductor"] = True
            notes += ("it holds compiled kernels (AOTInductor), which are tied to the GPU and platform that they were "
                      "built for",)  # fmt: skip
        return Header(format="pt2", library="torch", details=details, notes=notes)
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return Header(format="torchscript", library="torch", details=details, notes=notes)
    if "data.pkl" in inner:
        return Header(format="torch-save", library="torch", details=details, notes=(*notes, PICKLE))
    return Header(format="zip", details=details, notes=(*notes, "a zip archive that is none of PyTorch's"))


def _files(content: Content) -> tuple[dict[str, tuple[int, int, int]], bool]:
    """Name -> (method, bytes, offset of its local header), and whether the list was cut."""
    tail_at = max(0, content.size - 65_557)
    tail = content.at(tail_at, 65_557)
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < 22:
        msg = "a zip archive without its list of files: cut off"
        raise Damaged(msg)
    size, offset = struct.unpack_from("<II", tail, found + 12)
    if size == 0xFFFFFFFF or offset == 0xFFFFFFFF:
        size, offset = _zip64(content, tail, found)
    if offset + size > tail_at + found:
        msg = f"its list of files would be at byte {offset}, of {size} bytes, and the file has {content.size}"
        raise Damaged(msg)
    data = content.at(offset, min(size, MAX_LIST))
    files: dict[str, tuple[int, int, int]] = {}
    at = 0
    while at + 46 <= len(data) and data[at : at + 4] == _FILE and len(files) < MAX_FILES:
        method, _, _, _, _, length = struct.unpack_from("<HHHIII", data, at + 10)
        name_size, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        local = struct.unpack_from("<I", data, at + 42)[0]
        files[text(data[at + 46 : at + 46 + name_size], 400)] = (method, length, local)
        at += 46 + name_size + extra + comment
    if at < len(data) and size <= MAX_LIST and len(files) < MAX_FILES:
        msg = f"its list of files breaks off after {len(files)}"
        raise Damaged(msg)
    return files, at < size


def _zip64(content: Content, tail: bytes, found: int) -> tuple[int, int]:
    locator = tail[max(0, found - 20) : found]
    if len(locator) < 20 or not locator.startswith(b"PK\x06\x07"):
        msg = "a zip archive whose list of files is not where it must be"
        raise Damaged(msg)
    at = struct.unpack_from("<Q", locator, 8)[0]
    if content.at(at, 4) != b"PK\x06\x06":
        msg = "a zip archive whose list of files is not where it must be"
        raise Damaged(msg)
    return content.number("<Q", at + 40), content.number("<Q", at + 48)


def _small(content: Content, where: tuple[int, int, int] | None) -> str:
    """The text of a file of a few bytes that is stored as it is; '' for any other."""
    if where is None or where[0] != 0 or not 0 < where[1] <= 64:
        return ""
    local = where[2]
    if content.at(local, 4) != b"PK\x03\x04":
        return ""
    skip = content.number("<H", local + 26) + content.number("<H", local + 28)
    return text(content.at(local + 30 + skip, where[1]).strip(), 64)


def _safetensors(content: Content) -> Header | None:
    length = content.number("<Q", 0)
    if length < 2 or length > 100_000_000:  # the limit of its own reader
        return None
    head = content.at(8, min(length, 200))
    if not re.match(rb'\{\s*("|\})', head):
        return None
    if 8 + length > content.size:
        return Header(
            format="safetensors", damage=f"its header would take {length} bytes and {content.size - 8} are there"
        )
    if length > MAX_JSON:
        return Header(
            format="safetensors", details={"header_bytes": length}, notes=("its header was too long to read",)
        )
    try:
        data = json.loads(content.at(8, length))
    except (ValueError, RecursionError):
        return Header(format="safetensors", damage="its header is no JSON")
    if not isinstance(data, dict):
        return None
    metadata = data.pop("__metadata__", {})
    details: dict[str, Any] = {"tensors": len(data)}
    if isinstance(metadata, dict) and metadata:
        details["metadata"] = {text(str(key), 40): text(str(value), 80) for key, value in list(metadata.items())[:16]}
    ends = [
        tensor["data_offsets"][1]
        for tensor in data.values()
        if isinstance(tensor, dict)
        and isinstance(tensor.get("data_offsets"), list)
        and len(tensor["data_offsets"]) == 2
    ]
    last = max((end for end in ends if isinstance(end, int)), default=0)
    damage = ""
    if 8 + length + last != content.size:
        damage = f"its tensors end at byte {8 + length + last} and the file at {content.size}"
    return Header(
        format="safetensors",
        details=details,
        damage=damage,
        notes=("weights only, without a model",),
    )
