"""Does a stack meet a requirement? Judged from facts alone: supported, unsupported or unknown, with the facts.

What is not recorded is unknown, and may be tried; it is never an objection. Observations come in later, in builder/pick.py.
"""

from __future__ import annotations

import re
from dataclasses import replace

from builder import knowledge, pick_model, versions
from builder.answers import Answer, Fact, minor, number
from builder.facts_records import Architectures, Catalog
from builder.knowledge_hardware import Runs
from builder.pick_question import Hardware, Question, Requirement, State, Verdict
from builder.pick_stacks import Candidate


class Judge:
    """Judges stacks from one catalog; what many stacks share is asked once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._runs: dict[tuple[str, str, str], Answer[Runs]] = {}
        self._takes: dict[tuple[str, str, str], Answer[bool]] = {}
        self._precise: dict[tuple[str, str], Answer[bool]] = {}
        self._models: dict[tuple[str, int, tuple[tuple[str, str], ...]], dict[str, Answer[bool]]] = {}

    def verdicts(self, stack: Candidate, question: Question) -> tuple[Verdict, ...]:
        """One for each requirement of the question, in its order. Raises SpecErrors."""
        return tuple(self.verdict(stack, question, requirement) for requirement in question.requirements)

    def verdict(self, stack: Candidate, question: Question, requirement: Requirement) -> Verdict:
        key = requirement.key
        if key.startswith("need:"):
            name = key.removeprefix("need:")
            return self._need(stack, requirement, name, question.needs[name])
        judge = {
            "gpu": self._gpu, "driver": self._driver, "python": _python, "precision": self._precision, "platform": _platform,
            "opset": self._model, "ir": self._model,
        }[key]  # fmt: skip
        return judge(stack, question, requirement)

    # Components -------------------------------------------------------------------------------------------------

    def _need(self, stack: Candidate, asked: Requirement, name: str, clause: str) -> Verdict:
        held = stack.components.get(name)
        if held is None:
            if name in stack.open:
                text = f"which {name} {stack.id} holds is not recorded"
                return Verdict(requirement=asked, state="unknown", because=text)
            text = f"{stack.id} is not known to hold {name}"
            return Verdict(requirement=asked, state="unsupported", because=text, facts=stack.facts)
        inferred = name in stack.inferred
        text = f"{stack.id} holds {name} {held}" + (" (inferred)" if inferred else "")
        state: State = "supported" if not clause or versions.matches(clause, held) else "unsupported"
        if clause and _coarse(held, clause):
            state, text = "unknown", f"of the {name} of {stack.id} only {held} is recorded"
        return Verdict(requirement=asked, state=state, because=text, facts=stack.facts, inferred=inferred)

    # The model ---------------------------------------------------------------------------------------------------

    def _model(self, stack: Candidate, question: Question, asked: Requirement) -> Verdict:
        """Its opset or its IR version; releases are many and what they take is asked once."""
        held = tuple((name, stack.components[name]) for name in pick_model.TAKERS if name in stack.components)
        key = (asked.key, question.opset if asked.key == "opset" else question.ir, held)
        if key not in self._models:
            self._models[key] = pick_model.answers(asked.key, key[1], held, self.catalog)
        return pick_model.verdict(stack, asked, self._models[key])

    # Hardware ---------------------------------------------------------------------------------------------------

    def _gpu(self, stack: Candidate, question: Question, asked: Requirement) -> Verdict:
        gpu = question.gpu
        assert gpu is not None
        if stack.device == "cpu":
            if not gpu.capabilities:
                return Verdict(requirement=asked, state="supported", because=f"{stack.id} computes on the CPU")
            text = f"{stack.id} computes on the CPU, and would leave the GPU unused"
            return Verdict(requirement=asked, state="unsupported", because=text, facts=stack.facts)
        if not gpu.capabilities:
            state: State = "supported" if stack.device == "any" else "unsupported"
            text = f"{stack.id} {'can compute on the CPU' if stack.device == 'any' else 'needs an NVIDIA GPU'}"
            return Verdict(requirement=asked, state=state, because=text, facts=stack.facts)
        if stack.group == "l4t" and gpu.kind and gpu.kind != "jetson":
            text = f"{stack.id} is for Jetson boards"
            return Verdict(requirement=asked, state="unsupported", because=text, facts=(*stack.facts, *gpu.facts))
        verdicts = [self._capability(stack, capability, asked) for capability in gpu.capabilities]
        if len(gpu.names) > 1:  # all of them are there: the worst counts
            order = ("unsupported", "unknown", "supported")
            verdicts = sorted(verdicts, key=lambda verdict: order.index(verdict.state))[:1]
        if len({verdict.state for verdict in verdicts}) > 1:
            text = f"{gpu.name} may have compute capability {' or '.join(gpu.capabilities)}, and {stack.id} takes not all of them"
            facts = tuple(fact for verdict in verdicts for fact in verdict.facts)
            return Verdict(requirement=asked, state="unknown", because=text, facts=facts)
        first = verdicts[0]
        if first.state == "supported" and gpu.kind == "jetson" and stack.group != "l4t":
            text = f"whether {stack.id} runs on a Jetson board is not recorded"
            return replace(first, state="unknown", because=text)
        return replace(first, facts=(*first.facts, *gpu.facts))

    def _capability(self, stack: Candidate, capability: str, asked: Requirement) -> Verdict:
        """Every part that is compiled for GPUs must take the capability; unsupported by one is unsupported."""
        answers = self._parts(stack, capability)
        facts = tuple(fact for answer in answers for fact in answer.facts)
        if refused := [answer for answer in answers if answer.value is False]:
            return Verdict(
                requirement=asked, state="unsupported", because=refused[0].facts[-1].text, facts=refused[0].facts
            )
        if opened := [answer for answer in answers if answer.value is None]:
            return Verdict(requirement=asked, state="unknown", because=opened[0].unknown, facts=facts)
        # That its toolkit can compile for a GPU says not yet that what is in it was compiled for it.
        compiled = any(name in stack.components for name in ("tensorrt", "tensorrt-rtx")) or stack.kind == "packages"
        doubtful = any(fact.doubt for fact in facts) or bool({"tensorrt", "cuda"} & stack.inferred) or not compiled
        return Verdict(requirement=asked, state="supported", because=facts[0].text, facts=facts, inferred=doubtful)

    def _parts(self, stack: Candidate, capability: str) -> list[Answer[bool]]:
        out = []
        for name in ("tensorrt", "tensorrt-rtx"):
            if name in stack.components:
                out.append(self._taken(name, stack.components[name], capability))
        cuda = stack.components.get("cuda", "")
        if cuda:
            whole = cuda if "." in cuda else self._newest_toolkit(cuda)
            compiled = self._taken("cuda", whole, capability)
            if compiled.value is not True or not out:
                out.append(compiled)
        if "torch" in stack.components and stack.kind == "packages":
            out.append(self._wheel(stack.components["torch"], cuda, capability))
        if stack.group in ("tensorflow", "onnxruntime-gpu") and all(answer.value for answer in out):
            what = f"for which GPUs the packages of {stack.id} are compiled is not recorded"
            out.append(Answer(value=None, unknown=what))
        return out or [Answer(value=None, unknown=f"what GPUs {stack.id} takes is not recorded")]

    def _newest_toolkit(self, major: str) -> str:
        from builder.facts_records import Toolkit

        known = [key for key in self.catalog.table(Toolkit) if key.split(".")[0] == major]
        return known[-1] if known else major

    def _taken(self, name: str, version: str, capability: str) -> Answer[bool]:
        key = (name, version, capability)
        if key not in self._takes:
            if name == "cuda":
                found = knowledge.compiles(version, capability, catalog=self.catalog)
            elif name == "tensorrt":
                found = knowledge.tensorrt_takes(version, capability, catalog=self.catalog)
            else:
                found = knowledge.tensorrt_rtx_takes(version, capability, catalog=self.catalog)
            self._takes[key] = found
        return self._takes[key]

    def _wheel(self, torch: str, cuda: str, capability: str) -> Answer[bool]:
        """Whether the wheels of a PyTorch release have kernels for a capability: those of the same major and no higher minor
        run on it, and PTX of a lower one is compiled for it."""
        from builder.answers import fact

        entry = next(
            (row for row in self.catalog.table(Architectures).values() if row.torch == minor(torch) and row.cuda == minor(cuda)),
            None,
        )  # fmt: skip
        if entry is None:
            what = f"for which GPUs the packages of torch {torch} with CUDA {cuda} are compiled is not recorded"
            return Answer(value=None, unknown=what)
        text = f"packages of torch {entry.torch} with CUDA {entry.cuda} have compute capabilities {', '.join(entry.capabilities)}"
        used = (fact(entry, text + (" and PTX" if entry.ptx else "")),)
        mine = number(capability).release
        known = [number(item).release for item in entry.capabilities]
        fits = any(item[0] == mine[0] and item <= mine for item in known) or (entry.ptx and min(known) <= mine)
        return Answer(value=fits, facts=used)

    def _driver(self, stack: Candidate, question: Question, asked: Requirement) -> Verdict:
        kind = question.gpu.kind if question.gpu is not None else ""
        if stack.device == "cpu":
            return Verdict(requirement=asked, state="supported", because=f"{stack.id} needs no driver")
        cuda = stack.components.get("cuda", "")
        if stack.group == "l4t":
            text = f"the driver of a Jetson board is part of L4T; which of them {stack.id} takes is not recorded"
            return Verdict(requirement=asked, state="unknown", because=text)
        if not cuda:
            text = f"which CUDA {stack.id} is built for is not recorded"
            return Verdict(requirement=asked, state="unknown", because=text)
        answer = self._running(question.driver, cuda if "." in cuda else f"{cuda}.0", kind)
        told = answer.facts[-1].text if answer.facts else answer.unknown
        if "." not in cuda:
            told = f"a driver that runs CUDA {cuda}.0 runs any CUDA {cuda}.x: {told}"
        inferred = "cuda" in stack.inferred or any(fact.doubt for fact in answer.facts)
        facts = (*stack.facts, *answer.facts)
        if stack.driver and "driver" not in stack.inferred:
            return self._floor(stack, question.driver, kind, answer, asked, facts)
        if answer.value is None:
            return Verdict(requirement=asked, state="unknown", because=answer.unknown, facts=facts)
        how = Runs.MINOR.value if answer.value is Runs.EXACT and "." not in cuda else answer.value.value
        if answer.value is Runs.NO:
            text = f"CUDA {cuda} of {stack.id} does not run on driver {question.driver}: {_floor_text(answer)}"
            return Verdict(requirement=asked, state="unsupported", because=text, facts=facts, inferred=inferred)
        return Verdict(
            requirement=asked,
            state="supported",
            because=f"{told} ({how})",
            facts=facts,
            inferred=inferred,
        )

    def _floor(self, stack: Candidate, driver: str, kind: str, answer: Answer[Runs], asked: Requirement,
               facts: tuple[Fact, ...]) -> Verdict:  # fmt: skip
        """An image whose release notes name the least driver, but for data center GPUs."""
        if number(driver) >= number(stack.driver):
            text = f"the release notes of {stack.id} ask for driver {stack.driver} or newer"
            if answer.value is not Runs.NO:
                return Verdict(requirement=asked, state="supported", because=text, facts=facts)
            text = f"{text}; by the rules of CUDA {driver} does not run its CUDA: {_floor_text(answer)}"
            return Verdict(requirement=asked, state="unknown", because=text, facts=facts)
        text = f"the release notes of {stack.id} ask for driver {stack.driver} or newer"
        if answer.value is Runs.NO:
            because = f"{text}; CUDA {stack.components['cuda']} does not run on {driver}: {_floor_text(answer)}"
            return Verdict(requirement=asked, state="unsupported", because=because, facts=facts)
        if answer.value is not None and kind == "datacenter":
            because = f"{text}, but of data center GPUs, on which driver {driver} runs its CUDA ({answer.value.value})"
            return Verdict(requirement=asked, state="supported", because=because, facts=facts)
        rule = (
            answer.unknown
            or f"by the rules of CUDA driver {driver} would run it ({answer.value.value if answer.value else '-'})"
        )
        return Verdict(requirement=asked, state="unknown", because=f"{text}; {rule}", facts=facts)

    def _running(self, driver: str, cuda: str, kind: str) -> Answer[Runs]:
        key = (driver, cuda, kind)
        if key not in self._runs:
            self._runs[key] = knowledge.driver_runs(driver, cuda, kind, catalog=self.catalog)
        return self._runs[key]

    def _precision(self, stack: Candidate, question: Question, asked: Requirement) -> Verdict:
        name, gpu = question.precision, question.gpu
        if name == "fp32":
            return Verdict(requirement=asked, state="supported", because="fp32 is everywhere")
        if stack.device == "cpu" or gpu is None or not gpu.capabilities:
            what = "a CPU" if stack.device == "cpu" else "a GPU that was not named"
            return Verdict(
                requirement=asked, state="unknown", because=f"whether {name} is fast on {what} is not recorded"
            )
        answers = []
        for capability in gpu.capabilities:
            key = (capability, name)
            if key not in self._precise:
                self._precise[key] = knowledge.precision(capability, name, catalog=self.catalog)
            answers.append(self._precise[key])
        facts = tuple(fact for answer in answers for fact in answer.facts)
        values = {answer.value for answer in answers}
        if values == {True}:
            return Verdict(requirement=asked, state="supported", because=facts[0].text, facts=facts)
        if values == {False} or (False in values and len(gpu.names) > 1):
            text = next(answer.facts[0].text for answer in answers if answer.value is False)
            return Verdict(requirement=asked, state="unsupported", because=text, facts=facts)
        unknown = next(
            (answer.unknown for answer in answers if answer.unknown), f"{gpu.name} may be any of several GPUs"
        )
        return Verdict(requirement=asked, state="unknown", because=unknown, facts=facts)


def _floor_text(answer: Answer[Runs]) -> str:
    return "; ".join(fact.text for fact in answer.facts)


def _python(stack: Candidate, question: Question, asked: Requirement) -> Verdict:
    if not stack.pythons:
        text = f"which Python {stack.id} is for is not recorded"
        return Verdict(requirement=asked, state="unknown", because=text)
    fits = minor(question.python) in {minor(python) for python in stack.pythons}
    text = f"{stack.id} {'has' if stack.reference else 'is for'} Python {', '.join(stack.pythons)}"
    state: State = "supported" if fits else "unsupported"
    return Verdict(requirement=asked, state=state, because=text, facts=stack.facts, inferred="python" in stack.inferred)


def _platform(stack: Candidate, question: Question, asked: Requirement) -> Verdict:
    if question.platform in stack.platforms:
        boards = "Jetson boards, which are " if stack.group == "l4t" else ""
        text = f"{stack.id} is for {boards}{', '.join(stack.platforms)}"
        return Verdict(requirement=asked, state="supported", because=text, facts=stack.facts)
    if stack.group == "l4t":
        text = f"{stack.id} is for Jetson boards, which are {', '.join(stack.platforms)}"
        return Verdict(requirement=asked, state="unsupported", because=text, facts=stack.facts)
    known = f": it is known to be for {', '.join(stack.platforms)}" if stack.platforms else ""
    text = f"whether there is {stack.id} for {question.platform} is not recorded{known}"
    return Verdict(requirement=asked, state="unknown", because=text)


def _coarse(held: str, clause: str) -> bool:
    """Whether a version is recorded with too few numbers to say if it fits: "12" against ">=12.4", "1.20" against "==1.20.1"."""
    mine = held.split(".")
    for operand in re.findall(r"[<>=!~]+\s*([0-9][0-9.]*)", clause):
        other = operand.rstrip(".").split(".")
        if other[: len(mine)] == mine and any(int(part) for part in other[len(mine) :]):
            return True
    return False


__all__ = ["Hardware", "Judge", "Question", "Requirement", "State", "Verdict"]
