"""What changed between two runs beside a cell's outcome: lock entries of its stacks, its recipe, the machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict


class Change(TypedDict):
    """One component: `old` or `new` is "" where it was not there."""

    stack: str
    """Stack id; "" for what is not of a stack."""
    component: str
    old: str
    new: str


Entry = Mapping[str, Any]
"""What a stack was locked to (`history_keep.entry`)."""

MACHINE = ("cpu", "cores", "driver", "cuda", "kernel", "platform", "glibc", "gpu_trouble")


def change(component: str, old: object, new: object, stack: str = "") -> Change:
    return {"stack": stack, "component": component, "old": _word(old), "new": _word(new)}


def _word(value: object) -> str:
    return "" if value is None else str(value)


def stack(name: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Change] | None:
    """Components of one stack that differ between two runs, by name; None where one of them did not keep its entries."""
    if not before or not after:
        return None
    if name not in before or name not in after:  # a cell's model may be made in another tools stack than it was
        words = ("used" if name in before else "not used", "used" if name in after else "not used")
        return [change("stack", *words, name)] if words[0] != words[1] else []
    old, new = before[name], after[name]
    out = [
        change(part, old.get(part, ""), new.get(part, ""), name)
        for part in ("python", "isolation", "unresolved", "refused")
        if old.get(part, "") != new.get(part, "")
    ]
    was, now = old.get("packages") or {}, new.get("packages") or {}
    for package in sorted(was.keys() | now.keys()):
        one, two = was.get(package), now.get(package)
        if one == two:
            continue
        if one and two and one[0] == two[0]:
            out.append(change(package, f"{one[0]} (files {one[1]})", f"{two[0]} (files {two[1]})", name))
        else:
            out.append(change(package, one[0] if one else "", two[0] if two else "", name))
    image, other = old.get("image") or {}, new.get("image") or {}
    if image.get("base") != other.get("base"):
        out.append(change("base image", image.get("base"), other.get("base"), name))
    elif image != other:
        out.append(change("Dockerfile", image.get("dockerfile"), other.get("dockerfile"), name))
    return out


def machine(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Change]:
    """What differs between two machines as reports have them; [] where one is not known."""
    if not old or not new:
        return []
    out = [change(part, old.get(part), new.get(part)) for part in MACHINE if old.get(part) != new.get(part)]
    before, after = (round(int(each.get("memory") or 0) / 2**30) for each in (old, new))
    if before != after:  # what the kernel keeps for itself differs between boots
        out.append(change("memory", f"{before} GiB", f"{after} GiB"))
    was, now = gpus(old), gpus(new)
    if was != now:
        out.append(change("GPU", was, now))
    return out


def gpus(machine: Mapping[str, Any]) -> str:
    """Kinds of GPU, not which card of a kind: "NVIDIA L4 (8.9) x2"; "none"."""
    names = [f"{gpu.get('name')} ({gpu.get('compute_capability')})" for gpu in machine.get("gpus") or ()]
    return ", ".join(f"{name} x{names.count(name)}" for name in sorted(set(names))) or "none"


def run(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs between two runs as a whole: machine, matrix, worker, this program, tools of the lock."""
    out = machine(old.get("machine"), new.get("machine"))
    for word, path in (
        ("processor flags", ("processor", "flags")), ("environment variables", ("processor", "environment")),
        ("matrix", ("matrix", "sha256")), ("worker code", ("code",)), ("EngineMatrix", ("version",)),
        ("lock", ("lock", "sha256")),
    ):  # fmt: skip
        was, now = _at(old, path), _at(new, path)
        if was and now and was != now:  # "": a report alone does not say it
            out.append(change(word, was[:12], now[:12]))
    before, after = (each.get("lock", {}).get("tools") for each in (old, new))
    if before is not None and after is not None:
        out += [
            change(tool, before.get(tool), after.get(tool))
            for tool in sorted(before.keys() | after.keys()) if before.get(tool) != after.get(tool)
        ]  # fmt: skip
    return out


def recipe(model: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    was, now = (each.get("recipes", {}).get(model) for each in (old, new))
    return [change(f"recipe {model}", was[:12], now[:12])] if was and now and was != now else []


def _at(record: Mapping[str, Any], path: Sequence[str]) -> str | None:
    value: Any = record
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else str(value)


def words(changes: Iterable[Change]) -> list[str]:
    """One line a component, however many stacks it changed in: "numpy 1.26.4 -> 2.0.1 (3 stacks)"."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for one in changes:
        where.setdefault((one["component"], one["old"], one["new"]), []).append(one["stack"])
    out = []
    for (component, old, new), stacks in where.items():
        names = sorted({name for name in stacks if name})
        tail = f" ({names[0]})" if len(names) == 1 else f" ({len(names)} stacks)" if names else ""
        out.append(f"{component} {old or 'none'} -> {new or 'none'}{tail}")
    return out
