"""Where an engine file loads and where not: what the rules (portability_rules.py) say of one file.

What no source states and nobody tried is unknown, and said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.enginefile import EngineFile
from builder.portability_answer import Answer, Asked, Gpu, Verdict, no, release, unknown, yes
from builder.portability_library import library
from builder.portability_rules import RULES, Rule


def rules_of(file: EngineFile) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES.values() if file.header.format in rule.formats)


def verdict(answers: Sequence[Answer]) -> Verdict:
    """The worst of them: one no is a no, one unknown leaves it open. Of no answer: nothing is against it."""
    verdicts = {answer.verdict for answer in answers}
    return "will-not-load" if "will-not-load" in verdicts else "unknown" if "unknown" in verdicts else "loads"


def judge(file: EngineFile, asked: Asked) -> tuple[Answer, ...]:
    """An answer to each thing asked, and one to what is wrong with the file in any case."""
    answers: list[Answer] = []
    if file.header.damage:
        answers.append(no("the file", file.header.damage, "damaged"))
    answers += [library(file, name, version) for name, version in asked.libraries.items()]
    if asked.no_gpu and file.header.format in ("tensorrt-plan", "tensorrt-rtx-plan"):
        answers.append(no("GPU", asked.no_gpu, file.header.format.removesuffix("-plan") + "-gpu"))
    if asked.gpus:
        order: dict[Verdict, int] = {"loads": 0, "unknown": 1, "will-not-load": 2}
        answers.append(min((_gpu(file, gpu) for gpu in asked.gpus), key=lambda answer: order[answer.verdict]))
    return (*answers, *_machine(file, asked))


def _gpu(file: EngineFile, gpu: Gpu) -> Answer:
    header, about = file.header, str(gpu)
    if header.format == "tensorrt-rtx-plan":
        return _rtx_gpu(file, gpu, about)
    if header.format == "tensorrt-plan":
        return _plan_gpu(file, gpu, about)
    if header.format in RULES["no-gpu"].formats or header.details.get("device") == "CPU":
        return yes(about, "the file is tied to no GPU", "no-gpu")
    return unknown(about, "no rule is recorded for this format and GPUs", "none")


def _rtx_gpu(file: EngineFile, gpu: Gpu, about: str) -> Answer:
    rule, capabilities = "tensorrt-rtx-gpu", file.header.capabilities
    if capabilities is None:
        return unknown(about, "the file does not say what it was built for", rule)
    targets = ", ".join(capabilities) or "no target known here"
    if gpu.capability in capabilities:
        return yes(about, f"built for {targets}", rule)
    if file.header.details.get("unknown_target_bits"):
        return unknown(about, f"built for {targets} and for a target that has no name here", rule)
    return no(about, f"built for {targets}", rule)


def _plan_gpu(file: EngineFile, gpu: Gpu, about: str) -> Answer:
    rule, built = "tensorrt-gpu", (file.header.capabilities or (file.header.built_on,))[0]
    if not built:
        return unknown(about, "the file does not say on which GPU it was built", rule)
    if built == gpu.capability:
        return yes(
            about, f"built on compute capability {built}; TensorRT warns on another model of GPU than its own", rule
        )
    # The worker's builds set no hardware compatibility level (builder/worker/adapters/tensorrt_.py).
    if file.manifest or min(release(built), release(gpu.capability)) < (8, 0):
        return no(about, f"built on compute capability {built}", rule)
    return unknown(
        about,
        f"built on compute capability {built}: only with hardware compatibility, which its header does not say",
        rule,
    )


def _machine(file: EngineFile, asked: Asked) -> list[Answer]:
    """Platform, driver and processor of the machine that is asked about."""
    header = file.header
    answers: list[Answer] = []
    if asked.platform and header.format == "tensorrt-plan":
        if not header.platform:
            because = "the file does not say on which platform it was built"
            answers.append(unknown(asked.platform, because, "tensorrt-platform"))
        else:
            here = header.platform == asked.platform
            answers.append((yes if here else no)(asked.platform, f"built on {header.platform}", "tensorrt-platform"))
    cuda: Any = header.details.get("cuda")
    if asked.cuda and cuda:
        enough = release(asked.cuda) >= release(str(cuda))
        because = f"built with CUDA {cuda}" + ("" if enough else ", which is newer than the driver's")
        answers.append((yes if enough else unknown)(f"driver for CUDA {asked.cuda}", because, "tensorrt-rtx-cuda"))
    requires = header.details.get("requires")
    if asked.here and isinstance(requires, dict):
        because = f'exported on "{requires.get("isa")}"; what the library would call this one is not known here'
        answers.append(unknown("this processor", because, "openvino-blob-processor"))
    return answers
