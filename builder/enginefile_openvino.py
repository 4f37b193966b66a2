"""OpenVINO: what `export_model` writes for the CPU, and IR (.xml, with its .bin beside it).

The blob's header: `ov::pass::StreamSerialize::DataHeader`, six u64 (offset and bytes of custom data, constants, model), in
openvinotoolkit/openvino src/core/include/openvino/pass/serialize.hpp; checked against blobs of 2023.0, 2023.3, 2024.3,
2024.6, 2025.2, 2026.0 and 2026.4. The model is IR, as it is in 2023, and combined with a key by XOR in 2024 and newer.
2026.4 puts before it the magic `RR_UPCVO`, a u32 version, u64 bytes and what the library compares on import
(openvinotoolkit/openvino pull request 36969): "meta=1.0;ov=2026.4.1;isa=...".
"""

from __future__ import annotations

import re
from typing import Any

from builder.enginefile_content import Content, Damaged, Header, text

MAGIC = b"RR_UPCVO"
_PLAIN = b"<?xml"
_CODED = bytes.fromhex("0c5f086f68")
"""How the same five letters begin in blobs of 2024.3 to 2026.4."""
_NET = re.compile(rb"<net\s[^>]{0,400}>")
_ATTRIBUTE = re.compile(rb"\b(name|version)\s*=\s*[\"']([^\"']{0,200})[\"']")
_RUNTIME = re.compile(rb"<Runtime_version\s+value\s*=\s*\"([^\"]{1,100})\"")
_MAX_REQUIREMENTS = 4096


def match(content: Content) -> Header | None:
    """The header of a blob or an IR, None if it is neither. Raises Damaged."""
    head = content.at(0, 4096)
    if head.startswith(MAGIC):
        return _blob(content, *_requirements(content))
    if len(head) > 48 and content.number("<Q", 0) == 48:
        return _blob(content, 0, {})
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    net = _NET.search(head) if stripped.startswith(b"<") else None
    return _ir(content, net[0]) if net else None


def _requirements(content: Content) -> tuple[int, dict[str, str]]:
    """(where the blob's own header begins, what the library compares on import)."""
    layout, length = content.number("<I", 8), content.number("<Q", 12)
    if length > _MAX_REQUIREMENTS:
        msg = f"what it requires of the library would be {length} bytes long"
        raise Damaged(msg)
    said = dict(part.split("=", 1) for part in text(content.at(20, length), 1000).split(";") if "=" in part)
    said["requirements_version"] = str(layout)
    return 20 + length, said


def _blob(content: Content, start: int, said: dict[str, str]) -> Header | None:
    numbers = [content.number("<Q", start + 8 * index) for index in range(6)]
    (custom, custom_size), (constants, constants_size), (model, model_size) = zip(
        numbers[::2], numbers[1::2], strict=True
    )
    if start == 0 and custom + custom_size != constants:
        return None  # 48 may begin anything
    # Offsets count from the file's begin or, in a blob that was written behind something, from the header's.
    base = start if custom == 48 else 0
    details: dict[str, Any] = {"constants_bytes": constants_size, "model_bytes": model_size}
    if custom_size and b"<cnndata" in content.at(base + custom, 200):
        details["device"] = "CPU"
    if said:
        details["device"] = "CPU"
        details["requires"] = {"openvino": said.get("ov", ""), "isa": said.get("isa", "")}
    damage = ""
    if constants + constants_size != model or base + model + model_size != content.size:
        damage = f"its parts end at byte {base + model + model_size} and the file at {content.size}"
    coding = content.at(base + model, 5)
    details["model"] = {_PLAIN: "plain", _CODED: "coded"}.get(coding, "unknown") if not damage else "unknown"
    return Header(
        format="openvino-blob", library="openvino", version=said.get("ov", ""), details=details, damage=damage
    )


def _ir(content: Content, net: bytes) -> Header:
    attributes = {key.decode(): value for key, value in _ATTRIBUTE.findall(net)}
    details: dict[str, Any] = {
        "ir_version": text(attributes.get("version", b""), 20),
        "name": text(attributes.get("name", b"")),
    }
    tail = content.at(max(0, content.size - (64 << 10)), 64 << 10)
    runtime = _RUNTIME.search(tail)
    if runtime:
        details["written_by"] = text(runtime[1], 100)
    damage = "" if b"</net>" in tail else "it has no end (</net>): cut off"
    return Header(
        format="openvino-ir", library="openvino", version=_release(details.get("written_by", "")), details=details,
        damage=damage,
    )  # fmt: skip


def _release(written_by: str) -> str:
    """2024.3.0-16041-1e3b88e4e3f-releases/2024/3 -> 2024.3.0."""
    found = re.match(r"\d+(?:\.\d+)+", written_by)
    return found[0] if found else ""
