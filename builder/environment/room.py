"""What the Docker engine has already, and how much it has room for."""

from __future__ import annotations

import shutil

from builder.environment import engine
from builder.errors import InfrastructureError


def room() -> tuple[frozenset[str], int | None]:
    """The chain ids of the engine's layers, and the bytes left where it keeps them: None for an engine on another machine. An
    engine that does not answer has nothing and says nothing of its disk: that it does not answer is told by the build."""
    try:
        client = engine.client()
        present = engine.present_layers(client)
        folder = str(client.info().get("DockerRootDir") or "")
    except InfrastructureError:
        return frozenset(), None
    except engine.errors():
        return frozenset(), None
    try:
        local = engine.endpoint().socket is not None
        return present, shutil.disk_usage(folder).free if local and folder else None
    except OSError:  # an engine in a virtual machine keeps its data where we cannot look
        return present, None
