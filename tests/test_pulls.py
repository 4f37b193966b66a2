"""What is to be pulled: layers by what they stand on, each once, and what fits behind what comes before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import stacks

from builder import pulls
from builder.environment.engine import chain_ids
from builder.lock import Image, Layer, Lock, PlatformImage
from builder.values import ImageRules, Stack

PLATFORM = "linux/amd64"
RULES = ImageRules(interpreter="python3", site="own", env={}, checks={}, driver="driver")


def layer(name: str, size: int = 100) -> Layer:
    """`size`: bytes, compressed."""
    return Layer(digest=stacks.sha(f"packed {name}"), size=size, diff_id=stacks.sha(name))


def image(name: str, **facts: str) -> Any:
    """An image whose base is called like it."""
    stack = Stack(role="engine", entry="e", family="f", fields={"f": name}, facts=facts, base=f"nvcr.io/x/{name}:1")
    return SimpleNamespace(rendered=SimpleNamespace(stack=stack), family=SimpleNamespace(image=RULES))


def of(
    bases: dict[str, list[Layer]], present: frozenset[str] = frozenset(), free: int | None = None
) -> list[pulls.Pull]:
    locked = Lock(cutoff="")
    for name, layers in bases.items():
        found = PlatformImage(manifest=stacks.sha(name), config=stacks.sha(name), facts={}, layers=tuple(layers))
        locked.images[f"nvcr.io/x/{name}:1"] = Image(index=stacks.sha(name), platforms={PLATFORM: found})
    return pulls.of([image(name) for name in bases], locked, PLATFORM, present, free)


def test_a_layer_that_two_images_share_is_pulled_once() -> None:
    one, two = of({"one": [layer("base", 500), layer("a", 20)], "two": [layer("base", 500), layer("b", 30)]})
    assert (one.pull, one.size) == (520, 520)
    assert (two.pull, two.size) == (30, 530)
    assert (one.platform, one.disk) == (PLATFORM, int(520 * pulls.DISK))


def test_layers_that_the_engine_has_are_not_pulled() -> None:
    layers = [layer("base", 500), layer("a", 20), layer("b", 3)]
    present = frozenset(chain_ids([one.diff_id for one in layers[:2]]))
    (found,) = of({"one": layers}, present)
    assert (found.pull, found.size) == (3, 523)


def test_the_same_layer_on_top_of_others_is_another() -> None:
    """Engines keep layers by what lies below them: an equal layer in another image is no use."""
    one, two = of({"one": [layer("x"), layer("same", 40)], "two": [layer("y"), layer("same", 40)]})
    assert (one.pull, two.pull) == (140, 140)
    (found,) = of({"one": [layer("x"), layer("same", 40)]}, present=frozenset({layer("same").diff_id}))
    assert found.pull == 140, "its diff id alone is not its chain id"


def test_a_layer_that_is_twice_in_an_image_is_two_chains() -> None:
    (found,) = of({"one": [layer("x", 7), layer("x", 7)]})
    assert found.pull == 14


def test_refusals_come_in_order_and_what_was_taken_counts() -> None:
    room = int(400 * pulls.DISK)
    one, two, three = of({"one": [layer("a", 300)], "two": [layer("b", 200)], "three": [layer("c", 100)]}, free=room)
    assert one.refused == three.refused == "", "a smaller one behind it still fits"
    assert "nvcr.io/x/two:1" in two.refused and "docker system df" in two.refused
    assert (one.disk + three.disk) <= room < one.disk + two.disk


def test_a_layer_of_a_refused_image_is_not_here() -> None:
    big = layer("base", 1000)
    one, two = of({"one": [big, layer("a", 1)], "two": [big, layer("b", 1)]}, free=int(1000.5 * pulls.DISK))
    assert one.refused and two.refused
    assert two.pull == 1001


def test_what_is_here_fits_a_full_disk_and_an_unknown_one_refuses_nothing() -> None:
    layers = [layer("a", 10**12)]
    (full,) = of({"one": layers}, frozenset(chain_ids([layers[0].diff_id])), free=0)
    assert (full.pull, full.refused) == (0, "")
    (unknown,) = of({"one": layers}, free=None)
    assert unknown.refused == ""
    (known,) = of({"one": layers}, free=0)
    assert known.refused


def test_the_table_says_what_each_needs() -> None:
    locked = Lock(cutoff="")
    layers = (layer("a", 1_500_000_000), layer("b", 500_000_000))
    found = PlatformImage(manifest=stacks.sha("m"), config=stacks.sha("c"), facts={}, layers=layers)
    locked.images["nvcr.io/x/one:1"] = Image(index=stacks.sha("i"), platforms={PLATFORM: found})
    images = [image("one", driver="550"), image("one")]
    lines = pulls.table(pulls.of(images, locked, PLATFORM, frozenset(chain_ids([layers[0].diff_id])), None))
    assert lines == [
        "  image: f-one: nvcr.io/x/one:1 (linux/amd64): 500 MB to pull of 2.0 GB, about 1.9 GB of disk, driver 550 or newer",
        "  image: 1 more to build, whose base images are here or stand above",
    ]
    (refused,) = pulls.table(pulls.of(images[:1], locked, PLATFORM, frozenset(), 10**9))
    assert "needs about 7.4 GB of disk for nvcr.io/x/one:1, and the Docker engine has 1.0 GB left" in refused
