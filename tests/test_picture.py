"""Pictures of outputs beside the reference's, read back by a decoder of our own (the PNG of picture.py alone)."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest

from builder import worker

sys.modules.setdefault("worker", worker)

from worker import jobs, picture  # noqa: E402


def read(data: bytes) -> Any:
    """(H, W, 3) of a PNG file, every chunk's checksum held."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert zlib.crc32(name + body) == struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]
        chunks.append((name, body))
        at += 12 + size
    assert [name for name, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [8, 2, 0, 0, 0]
    rows = numpy.frombuffer(zlib.decompress(chunks[1][1]), "uint8").reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def parts(data: bytes, width: int) -> list[Any]:
    pixels = read(data)
    at = [0, width + picture.GAP, 2 * (width + picture.GAP)]
    assert pixels.shape[1] == at[2] + width
    return [pixels[:, x : x + width] for x in at]


def test_classes_are_coloured_by_their_largest_score_and_the_difference_is_where_it_is() -> None:
    reference = numpy.zeros((1, 4, 5, 6), "float32")
    reference[0, 2] = 1.0
    got = reference.copy()
    got[0, 3, 1, 2] = 3.0  # one place of another class
    data, told = picture.side_by_side(reference, got)
    first, second, difference = parts(data, 6)
    assert (first == picture.CLASSES[2]).all()
    assert tuple(second[1, 2]) == picture.CLASSES[3]
    assert told == {"kind": "classes", "width": 6, "height": 5, "step": 1, "difference": 3.0, "broken": 0}
    assert tuple(difference[1, 2]) == (255, 255, 255)
    assert difference.sum() == 3 * 255


def test_an_engine_stands_on_the_scale_of_the_reference() -> None:
    reference = numpy.linspace(0, 1, 12, dtype="float32").reshape(1, 1, 3, 4)
    data, told = picture.side_by_side(reference, reference * 0.5)
    first, second, _ = parts(data, 4)
    assert (told["kind"], told["difference"]) == ("grey", 0.5)
    assert (first.max(), second.max()) == (255, 127)


def test_places_that_are_not_finite_are_seen() -> None:
    reference = numpy.ones((1, 3, 2, 2), "float32")
    got = reference.copy()
    got[0, 1, 0, 1] = numpy.nan
    got[0, 1, 1, 1] = numpy.inf
    data, told = picture.side_by_side(reference, got)
    _, second, difference = parts(data, 2)
    assert (told["kind"], told["broken"], told["difference"]) == ("colour", 2, 0.0)
    for y in (0, 1):
        assert tuple(second[y, 1]) == tuple(difference[y, 1]) == picture.BROKEN
    nothing = numpy.full((1, 1, 2, 2), numpy.nan, "float32")
    assert picture.side_by_side(reference[:, :1], nothing)[1]["difference"] is None


def test_a_large_map_is_thinned_and_loses_no_difference() -> None:
    reference = numpy.zeros((2, 1, 700, 513), "float32")
    got = reference.copy()
    got[0, 0, 698, 511] = 9.0
    data, told = picture.side_by_side(reference, got)
    assert (told["step"], told["width"], told["height"], told["difference"]) == (3, 171, 234, 9.0)
    assert (parts(data, 171)[2] == 255).any()


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 0, 3)])
def test_what_is_no_map_is_left_out(shape: tuple[int, ...], tmp_path: Path) -> None:
    job = jobs.Job("run", {"images": [0, 7]}, str(tmp_path), lambda what: None)
    array = numpy.zeros(shape, "float32")
    assert picture.draw(job, [("static", [array], [array])], ["mask"]) == []
    assert picture.draw(job, [("static", [numpy.zeros((1, 1, 2, 2))], [None])], ["mask"]) == []
    assert picture.draw(job, [], ["mask"]) == []


def test_the_first_case_is_drawn_as_a_file(tmp_path: Path) -> None:
    job = jobs.Job("run", {"images": [0]}, str(tmp_path), lambda what: None)
    maps = [numpy.full((1, 1, 2, 2), value) for value in (0.0, 1.0)]
    (told,) = picture.draw(job, [("static", [maps[0]], [maps[1]]), ("static.1", [maps[1]], [maps[1]])], ["mask"])
    assert (told["case"], told["name"], told["difference"]) == ("static", "mask", 1.0)
    read((tmp_path / told["file"]).read_bytes())
