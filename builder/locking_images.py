"""Base images, as locking asks for them: what is taken into the lock, what is kept, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from builder import lock, machine
from builder.environment import engine, registry, uv
from builder.errors import EngineMatrixError, InfrastructureError
from builder.values import Family, Stack


class Images:
    """The base images of the stacks that are being locked: each is asked for once, however many stacks are based on it."""

    def __init__(
        self,
        families: Mapping[str, Family],
        new: lock.Lock,
        stacks: Iterable[Stack],
        known: Iterable[Stack],
        update: bool,
    ) -> None:
        """`known`: the stacks that become Docker images, those that are not being locked too: an image that moves, moves for
        all that are based on it. `update`: ask for images that are locked, too."""
        self.families, self.new = families, new
        self.platforms = tuple(dict.fromkeys([*lock.PLATFORMS, engine.platform()]))
        self.errors: dict[str, str] = {}
        """Reference -> why there is no such image."""
        mine, docker = {stack.id for stack in stacks}, [stack for stack in known if stack.base]
        self.wanted = list(
            dict.fromkeys(
                stack.base for stack in docker
                if stack.id in mine and (update or new.lacks_image(stack, engine.platform()))
            )
        )  # fmt: skip
        self.users = [stack for stack in docker if stack.id in mine or stack.base in self.wanted]

    def ask(self, reference: str, mirrors: Mapping[str, str]) -> lock.Image | EngineMatrixError:
        try:
            return registry.resolve(reference, mirrors, self.platforms)
        except (uv.PackageError, InfrastructureError) as error:
            return error

    def take(
        self, reference: str, answer: lock.Image | EngineMatrixError, say: Callable[[str], None], troubles: list[str],
        away: list[str],
    ) -> None:  # fmt: skip
        """Put an answer into the lock, unless what is there is better."""
        old = self.new.images.get(reference)
        if isinstance(answer, InfrastructureError):
            away.append(str(answer))
        elif isinstance(answer, EngineMatrixError):
            if old is None:
                self.errors[reference] = str(answer)
            else:
                troubles.append(f"{reference}: kept as it was, at {old.index}: {answer}")
        else:
            users = [stack for stack in self.users if stack.base == reference]
            right = [stack for stack in users if old is not None and not self._judge(stack)]
            self.new.images[reference] = answer
            wrong = next(filter(None, map(self._judge, right)), "")
            if old is not None and wrong:
                self.new.images[reference] = old
                troubles.append(f"{reference}: kept as it was, at {old.index}; it is now {answer.index}: {wrong}")
            elif old is None:
                say(f"locked {reference} ({', '.join(sorted(answer.platforms))})")
            elif old.index != answer.index:
                say(f"{reference}: {lock.moved(old, answer)}, for {', '.join(stack.id for stack in users)}")

    def _judge(self, stack: Stack) -> str:
        return self.new.judge(stack, self.families[stack.family])

    def judge(self, here: machine.Machine, say: Callable[[str], None], troubles: list[str]) -> None:
        """Write into the entries of the stacks why their images are refused, and strike out what no longer holds."""
        for stack in self.users:
            pins = self.new.entry(stack)
            if pins is None or (stack.base not in self.new.images and stack.base not in self.errors):
                continue  # something was away
            refused = self.errors.get(stack.base) or self._judge(stack)
            if refused == pins.refused:
                continue
            self.new.stacks[stack.id] = dataclasses.replace(pins, refused=refused)
            if not refused:
                say(f"{stack.id}: its image is no longer refused")
            elif all(here.has(need) for need in self.families[stack.family].needs):
                troubles.append(f"{stack.id}: no image: {refused}")
            else:
                say(f"locked {stack.id} without image: {refused}")
