"""Workers in containers for tests: the same fake adapter, the same marks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.environment import engine
from builder.environment.container import ContainerSession, store_labels
from builder.values import Docker
from workers.support import ARGUMENTS, BUILDER, FAKE, MARK, Fake

ADAPTER = FAKE.with_name("container_adapter.py")


class ContainerFake(Fake):
    """A session in a container of `image`, with the fake adapter and the one that looks around (`look`)."""

    session: ContainerSession

    def __init__(
        self, folder: Path, image: str, imports: Sequence[str] = (), *, readonly: Sequence[Path] = (),
        settings: Docker | None = None, store: Path | None = None, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(folder)
        arguments = (*ARGUMENTS, "--adapter", f"look={ADAPTER}")
        options: dict[str, Any] = {"python": "python3", "memory": 4 << 30, "cpus": 2, **more}
        self.session = ContainerSession(  # type: ignore[assignment]
            image=image, worker_dir=BUILDER, readonly=[FAKE, ADAPTER, *readonly], writable=folder, imports=imports,
            log=folder / "session.log", settings=settings or Docker(), labels=store_labels(store or folder, "test"),
            env={MARK: self.mark}, arguments=arguments, **options,
        )  # fmt: skip

    def look(self, what: str, **more: Any) -> Any:
        """What an action of container_adapter.py found."""
        self.count += 1
        self.last = self.folder / f"job-{self.count}"
        job = {"adapter": "look", "settings": {"do": what, **more}}
        end = self.session.run("build", job, self.last, seconds=30, memory=None)
        assert end.ok, end
        assert end.output is not None
        return end.output["result"]["got"]

    def left(self) -> list[dict[str, Any]]:
        """Containers with this one's labels."""
        return left(self.session.labels)


def left(labels: dict[str, str]) -> list[dict[str, Any]]:
    filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
    return engine.client().api.containers(all=True, filters=filters)


def owner(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid
