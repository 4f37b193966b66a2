"""Engine adapters of other packages: entry points of the group `enginematrix.adapters`, name -> module.

    [project.entry-points."enginematrix.adapters"]
    tinyengine = "tinyengine.enginematrix_adapter"

The module is one file under the worker's rules (builder/worker/README.md): it is copied into the cell like our own adapters and
never imported here, so what it needs, it needs there. Its hash is part of the keys of all that it serves.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib import metadata
from pathlib import Path

from builder.errors import EngineMatrixError
from builder.section import NAME

GROUP = "enginematrix.adapters"


@functools.cache
def adapters() -> dict[str, Path]:
    """Name -> file of every adapter that an installed package offers. Raises EngineMatrixError for one that cannot be used."""
    found: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        owner = point.dist.name if point.dist else "a package"
        if not NAME.fullmatch(point.name) or "_" in point.name:
            raise _unusable(owner, point.name, "a name has small letters, digits and '-' only")
        if (Path(__file__).parent / "worker" / "adapters" / f"{point.name}_.py").exists():
            raise _unusable(owner, point.name, "EngineMatrix has an adapter of that name")
        if point.name in found:
            raise _unusable(owner, point.name, f"{owners[point.name]} offers one of that name too")
        found[point.name], owners[point.name] = _file(point, owner), owner
    return found


def _file(point: metadata.EntryPoint, owner: str) -> Path:
    """The module's file, by the distribution's own list, so that nothing of the package is imported; an editable installation
    has none there and is asked for by the import system, which imports the packages that the module lies in."""
    if point.attr:
        raise _unusable(owner, point.name, f"{point.value!r} must name a module, not something in it")
    parts = point.module.split(".")
    if point.dist is not None:
        for tail in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
            place = Path(str(point.dist.locate_file(tail)))
            if place.is_file():
                return place
    try:
        spec = importlib.util.find_spec(point.module)
    except Exception as error:
        raise _unusable(
            owner, point.name, f"{point.module!r} cannot be found: {type(error).__name__}: {error}"
        ) from error
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise _unusable(owner, point.name, f"there is no file of the module {point.module!r}")
    return Path(spec.origin)


def _unusable(owner: str, name: str, why: str) -> EngineMatrixError:
    return EngineMatrixError(f"{owner} offers the engine adapter {name!r}, which cannot be used: {why}")
