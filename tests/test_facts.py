"""The catalog of images: what is in it, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import facts, versions
from builder.errors import SpecErrors

TEXT = """
sources: {notes: "Release notes - https://example.com"}
tables:
  one:
    axis: release
    about: an example
    facts: [cuda, tensorrt]
    records:
      "24.10": {cuda: "12.6.2", source: [notes]}
      "24.02": {cuda: "12.3.2", tensorrt: "8.6.3", inferred: [tensorrt], conflict: two say two, source: [notes]}
"""


def read(tmp_path: Path, text: str) -> dict[str, facts.Table]:
    path = tmp_path / "images.yaml"
    path.write_text(text.lstrip("\n"))
    return facts.read(path)


def wrong(tmp_path: Path, old: str, new: str) -> str:
    assert old in TEXT
    with pytest.raises(SpecErrors) as caught:
        read(tmp_path, TEXT.replace(old, new))
    return str(caught.value)


def test_a_table(tmp_path: Path) -> None:
    table = read(tmp_path, TEXT)["one"]
    assert (table.axis, table.names) == ("release", ("cuda", "tensorrt"))
    assert list(table.records) == ["24.02", "24.10"]  # by version, not by place
    record = table.records["24.02"]
    assert record.facts == {"cuda": "12.3.2", "tensorrt": "8.6.3"}
    assert (record.inferred, record.conflict) == (("tensorrt",), "two say two")
    assert record.sources == ("Release notes - https://example.com",)
    assert table.records["24.10"].facts == {"cuda": "12.6.2"}


@pytest.mark.parametrize("bad", ["12.6'2", '12.6\\"2', "12.6\\n2", "12.6$2", "12.6\\\\2", "12 6", "", "-12"])
def test_a_fact_that_could_be_more_than_a_version(bad: str, tmp_path: Path) -> None:
    assert wrong(tmp_path, '"12.6.2"', f'"{bad}"').startswith("images.yaml:8:23: ")


def test_mistakes_have_places(tmp_path: Path) -> None:
    assert "images.yaml:8:17: unknown key 'cuba' in record '24.10'; perhaps 'cuda'?" in wrong(
        tmp_path, 'cuda: "12.6.2"', 'cuba: "12.6.2"'
    )
    assert "record '24.10' has no 'source'; no fact without its source" in wrong(
        tmp_path, '"12.6.2", source: [notes]', '"12.6.2"'
    )
    assert "no source 'note' in this file; perhaps 'notes'?" in wrong(
        tmp_path, "two, source: [notes]", "two, source: [note]"
    )
    assert "'cudnn' is not a value of 'inferred'" in wrong(tmp_path, "inferred: [tensorrt]", "inferred: [cudnn]")
    assert "duplicate key '24.10'" in wrong(tmp_path, '"24.02"', '"24.10"')
    assert "24.10 is read as 24.1 by other YAML tools" in wrong(tmp_path, '"24.10"', "24.10")


def test_the_catalogs_tables() -> None:
    tables = facts.tables()
    assert {name: len(table.records) for name, table in tables.items()} == {
        "ngc-tensorrt": 53, "ngc-pytorch": 32, "ngc-tensorflow": 9, "l4t": 6,
    }  # fmt: skip
    needed = {"ngc-tensorrt": "tensorrt", "ngc-pytorch": "torch", "ngc-tensorflow": "tensorflow", "l4t": "tensorrt"}
    for name, table in tables.items():
        assert list(table.records) == versions.ordered(table.records)
        for key, record in table.records.items():
            assert {"cuda", needed[name]} <= set(record.facts), (name, key)
            assert record.sources and all(record.sources)
            assert all(versions.version(record.facts[fact]) for fact in ("cuda", "tensorrt") if fact in record.facts)
            major = record.facts["cuda"].split(".")[0]
            if major == "13":
                assert int(record.facts["driver"].split(".")[0]) >= 580, (name, key)


def test_what_sources_say_differently_is_in_the_record() -> None:
    table = facts.tables()["ngc-tensorrt"]
    assert table.records["22.01"].facts["tensorrt"] == "8.2.2.1"
    assert table.records["22.01"].conflict == "the NVIDIA/TensorRT tag 22.01 asks for 8.2.1.8"
    assert table.records["21.10"].facts["cuda"] == "11.4"  # 11.4.2 and 11.4.3.001: what both say
    assert table.records["23.05"].inferred == ("python", "tensorrt")


def test_platforms_where_they_are_known(tmp_path: Path) -> None:
    tables = facts.tables()
    assert tables["ngc-pytorch"].records["25.12"].platforms == ("linux/amd64", "linux/arm64")
    assert tables["ngc-pytorch"].records["24.01"].platforms == ()  # not recorded: it may be anywhere
    assert {record.platforms for record in tables["l4t"].records.values()} == {("linux/arm64",)}
    path = tmp_path / "images.yaml"
    text = (facts.CATALOG / "images.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("[linux/amd64, linux/arm64]", "[linux/amd64, linux/arm46]", 1), encoding="utf-8")
    with pytest.raises(SpecErrors, match="'linux/arm46' is not a platform; perhaps 'linux/arm64'"):
        facts.read(path)
