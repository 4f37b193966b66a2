"""Packages that are installed beside this Python as wheels again: a folder that a resolver can install from without an index.

    python3 benchmarks/gpu/installed.py FOLDER torch onnxscript ...

Named packages and all that they ask for, in the versions that are here; what is not installed is left out. A wheel holds what the
package's RECORD names, uncompressed (https://packaging.python.org/en/latest/specifications/binary-distribution-format/). Without
scripts: they begin with the path of this Python.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path


def closure(names: Iterable[str]) -> Iterator[metadata.Distribution]:
    """The distributions of these names and of their requirements, each once, whatever the requirements' markers."""
    left, seen = list(names), set()
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        yield found
        for requirement in found.requires or ():
            if match := re.match(r"[A-Za-z0-9._-]+", requirement):
                left.append(match[0])


def pack(found: metadata.Distribution, folder: Path) -> Path | None:
    """The wheel of a distribution. None where it does not say what it consists of, or is an editable one."""
    files = [file for file in found.files or () if ".." not in file.parts and "__pycache__" not in file.parts]
    tags = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.M)
    if not files or not tags or '"editable": true' in (found.read_text("direct_url.json") or ""):
        return None
    parts = [sorted({tag.split("-")[part] for tag in tags}) for part in range(3)]
    name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
    path = folder / f"{name}-{found.version}-{'-'.join('.'.join(part) for part in parts)}.whl"
    if not path.exists():
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as wheel:
            for file in files:
                if Path(str(file.locate())).is_file():
                    wheel.write(file.locate(), str(file))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    made = [path for found in closure(asked.names) if (path := pack(found, asked.folder))]
    size = sum(path.stat().st_size for path in made)
    print(f"{len(made)} wheels, {size / 2**20:.0f} MiB, of {sys.executable}")


if __name__ == "__main__":
    main()
