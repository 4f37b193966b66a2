"""The protobuf wire format, walked over a file without its schema and without loading what it holds.

https://protobuf.dev/programming-guides/encoding/. A length is only ever skipped over, after it was held against the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.enginefile_content import Content, Damaged, Exhausted

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 200_000


@dataclass(slots=True)
class Field:
    number: int
    wire: int
    value: int
    """The number itself (VARINT), or the bytes that the value takes."""
    start: int
    """Where the value begins."""
    end: int


class Walk:
    """Walks messages of one file; the fields of all of them count towards one limit."""

    def __init__(self, content: Content, limit: int = MAX_FIELDS) -> None:
        self.content = content
        self.left = limit

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in [start, end). Raises Damaged at what is no field or reaches past the end, and
        Exhausted after too many of them."""
        while start < end:
            self.left -= 1
            if self.left < 0:
                raise Exhausted
            key, start = self._varint(start, end)
            number, wire = key >> 3, key & 7
            if number == 0 or number > 1 << 29:
                msg = f"no field can have the number {number} (byte {start})"
                raise Damaged(msg)
            if wire == VARINT:
                begin = start
                value, start = self._varint(start, end)
                yield Field(number, wire, value, begin, start)
                continue
            if wire == LENGTH:
                value, start = self._varint(start, end)
            elif wire in (FIXED64, FIXED32):
                value = 8 if wire == FIXED64 else 4
            else:
                msg = f"wire type {wire} at byte {start} is none"
                raise Damaged(msg)
            if value > end - start:
                yield Field(number, wire, value, start, end)
                msg = f"field {number} at byte {start} says {value} bytes and {end - start} are left"
                raise Damaged(msg)
            yield Field(number, wire, value, start, start + value)
            start += value

    def bytes(self, field: Field, limit: int = 1024) -> bytes:
        return self.content.at(field.start, min(field.end - field.start, limit))

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        data = self.content.at(start, min(10, end - start))
        value = 0
        for index, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, start + index + 1
        msg = f"no number ends at byte {start}"
        raise Damaged(msg)


def signed(value: int) -> int:
    """An int64 of the wire format."""
    return value - (1 << 64) if value >> 63 else value
