"""What the report's filter and `--select` must agree on: patterns over values, and selectors with their errors."""
# ruff: noqa: E501  (tables of cases, one line each)

from __future__ import annotations

import itertools

VERSIONS = [
    "1.0", "1", "1.0.0", "1.15.1", "1.16.3", "1.16.0rc1", "1.16", "1.7", "1.7.1", "1.7.1.116", "1.7.post1", "1.7.dev3", "1.7a1",
    "1.7a1.dev2", "1.7b2", "1.7rc1", "1.7.post1.dev4", "2.13.0", "2.13.0+cpu", "2.13.0+cu12.8", "v1.7", "1.7-1", "1.7.0.0", "1!0.5",
    "10", "9", "08.1", "24.05", "24.10", "24.05-py3", "13", "21", "sm89", "sm120", "sm75", "fp32", "fp16", "int8", "resnet50", "",
    "a[b]", "ünïcode", "x-y", "new\nline",
]  # fmt: skip
OPERANDS = ["1.7", "1.7.0", "1.7.1", "1.16", "1.16.3", "1.7.post1", "1.7a1", "1.7.dev3", "1.7rc1", "2.13.0", "2.13.0+cpu", "1!0.5",
            "1.7.*", "1.*", "2.13.0.*", "1.7a1.*", "1.7.post1.*", "10", "24.05", "sm1*", "fp32", "sm89", "1", "1.7.1.116"]  # fmt: skip
PATTERNS = [
    *(op + operand for op, operand in itertools.product(("==", "!=", "<", "<=", ">", ">=", "~=", "==="), OPERANDS)),
    ">=1.15,<2", ">=1.15, <2", ">1.7,!=1.16.3", "==1.*,!=1.7.*", "", ">", "=1.7", "!1.7", "~1", ">=1.7,", "1.1*", "24.1", "*", "?", "sm[17]*",
    "sm[!7]*", "sm[7-9]*", "[a-", "a[[]b]", "a\\[b]", "*[]]*", "[!]]*", "fp??", "RESNET*", "*n*", "[z-a]", "[!z-a]", "x[,--]y", "new*", "1.7",
]  # fmt: skip
RECORDS = [
    {"id": "1a2b3c4d", "slug": "onnxruntime-1.16.3-py3.11.resnet50.opset17", "model": "resnet50", "opset": "17", "engine.onnxruntime": "1.16.3", "status": "verified"},
    {"id": "1a2b9999", "slug": "onnxruntime-1.31.0-py3.12.minilm.opset21", "model": "minilm", "opset": "21", "engine.onnxruntime": "1.31.0", "status": "failed"},
    {"id": "77aa0000", "slug": "tensorrt-rtx-1.7.1.116-cuda12.segmenter.opset13", "model": "segmenter", "opset": "13", "target": "sm120", "status": "built"},
    {"id": "77aa0001", "slug": "openvino-2026.2.0.resnet50.opset13", "model": "resnet50", "opset": "13", "engine.openvino": "2026.2.0", "status": "mismatch"},
]  # fmt: skip
NAMES = {"onnxruntime": "engine.onnxruntime", "openvino": "engine.openvino"} | {
    name: name for name in ("id", "slug", "model", "opset", "target", "status", "engine.onnxruntime", "engine.openvino")
}
SELECTORS = [
    "all", "not all", "model=resnet50", "model=resnet50,minilm", "model!=resnet50", "model=res*", "model=RES*", "model='resnet50'",
    "onnxruntime>=1.16,", "onnxruntime>=1.16", "onnxruntime>1.16.3", "onnxruntime<2", 'onnxruntime=">=1.15,<1.20"', "openvino!=2026.2.0",
    "not openvino=2026.2.0", "target!=sm75", "status=failed,mismatch", "status!=built and not model=minilm", "#1a2b", "#1a2b3", "#zz",
    "*resnet50*", "*.opset13", "slug=*rtx*", "model=resnet50 and opset=13 or status=built", "model=resnet50 and (opset=13 or status=built)",
    "not (model=resnet50 or opset=21)", "not not model=minilm", "model = resnet50", "opset>=14 and opset<18", "opset>=17,18",
    "model==resnet50", "model=", "model=resnet50 and", "and", "or model=x", "(model=x", "model=x)", "model=x model=y", "model>fp32",
    "'model'=resnet50", "model=\"a b\"", "model='unclosed", 'model="unclosed', "!", "not", "", "nosuch=1", "nosuch=1 and", "id=1a2b3c4d",
    "model=resnet50 AND opset=13", "opset>=1.*", "opset=1?", "opset=[12]?", "ünïcode=1", "model=''", "(" * 102 + "all" + ")" * 102,
]  # fmt: skip
