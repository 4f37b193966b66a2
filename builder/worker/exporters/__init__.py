"""How a framework model becomes ONNX, one module per framework, and how an ONNX file changes precision.

Each exporter module has `reference(job)` and `export(job)`; the tools module has `convert(job)`. What goes in and what
comes out is laid down in ../README.md. Importing this package imports no framework.
"""

from worker.exporters import convert, onnx_, tensorflow_, torch_

EXPORTERS = {"torch": torch_, "tensorflow": tensorflow_, "onnx": onnx_, "tools": convert}
