"""The one door to the catalog: questions about images, drivers, GPUs, engines and wheels, each answered with its facts.

An `Answer` carries its value and the facts it rests on, each with sources and a place. What the catalog does not hold, or is
newer than it, is answered `None` with the reason in `unknown`: such a version may be tried, it is never guessed at. Every
question takes `catalog=`, by default the one of this project, and raises SpecErrors if a file of it is wrong.
"""

from __future__ import annotations

from builder.answers import Answer, Fact, minor, number
from builder.facts_records import CATALOG, KINDS, PRECISIONS, Catalog, Gpu
from builder.knowledge_exports import EXPORTERS, Written, written
from builder.knowledge_hardware import (
    DriverCuda,
    Range,
    Runs,
    capability,
    compiles,
    driver_cuda,
    driver_runs,
    gpu,
    precision,
    tensorrt_releases,
    tensorrt_rtx_takes,
    tensorrt_takes,
    toolkits,
)
from builder.knowledge_packages import Wheel, takes_numpy, wheel
from builder.knowledge_software import (
    ENGINES,
    Image,
    Opsets,
    default_opset,
    image,
    ir,
    opsets,
    takes_opset,
)

__all__ = [
    "CATALOG", "ENGINES", "EXPORTERS", "KINDS", "PRECISIONS", "Answer", "Catalog", "DriverCuda", "Fact", "Gpu",
    "Image", "Opsets", "Range", "Runs", "Wheel", "Written", "capability", "compiles", "default_opset", "driver_cuda",
    "driver_runs", "gpu", "image", "ir", "minor", "number", "opsets", "precision", "takes_numpy", "takes_opset",
    "tensorrt_releases", "tensorrt_rtx_takes", "tensorrt_takes", "toolkits", "wheel", "written",
]  # fmt: skip
