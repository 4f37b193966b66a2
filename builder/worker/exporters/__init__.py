"""How a framework model becomes ONNX, one module per framework, and how an ONNX file changes precision.

Each exporter module has `reference(job)` and `export(job)`; tools modules have `convert(job)`, and `calibrate(job)` where a
table of ranges is made apart. What goes in and what comes out is laid down in ../README.md. Importing this package imports
no framework.
"""

from worker.exporters import convert, nncf_, onnx_, tensorflow_, torch_

EXPORTERS = {"torch": torch_, "tensorflow": tensorflow_, "onnx": onnx_, "tools": convert, "nncf": nncf_}
