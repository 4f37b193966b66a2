"""What all tests share: golden files, and a guard over the home directory."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

_HOME = os.path.realpath(os.path.expanduser("~")) + os.sep
#: Below the home directory, and yet ours: the checkout, temporary folders, and what caches are for.
_OURS = tuple(
    os.path.realpath(path) + os.sep for path in (ROOT, tempfile.gettempdir(), os.path.join(_HOME, ".cache"), sys.prefix)
)
_guarding = False


def _guard(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: this process writes nothing in the real home directory. Other processes (uv) keep their HOME."""
    if not _guarding or event not in ("open", "os.mkdir", "os.remove", "os.rename"):
        return
    if event == "open":
        flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    for path in args[:2] if event == "os.rename" else args[:1]:
        if isinstance(path, str | bytes | os.PathLike):
            full = os.path.realpath(os.fsdecode(path))
            if full.startswith(_HOME) and not full.startswith(_OURS):
                msg = f"a test touches the real home directory: {event} {full}"
                raise RuntimeError(msg)


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _home_is_left_alone() -> Iterator[None]:
    global _guarding
    _guarding = True
    yield
    _guarding = False


@pytest.fixture(autouse=True)
def _tries_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what a test lets fail (builder/backoff.py); test_backoff.py has its own clock."""
    monkeypatch.setattr("builder.backoff.wait", lambda stop, seconds: stop.is_set())


@functools.cache
def _docker_trouble() -> str:
    import dockerparts

    return dockerparts.trouble()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `docker` are skipped with the reason where they cannot run; in CI that is a failure."""
    if item.get_closest_marker("docker") and (trouble := _docker_trouble()):
        if os.environ.get("CI") or os.environ.get("ENGINEMATRIX_REQUIRE_DOCKER") == "1":
            pytest.fail(f"this must run here: {trouble}", pytrace=False)
        pytest.skip(trouble)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that of several processes none is left with one at the end."""

    def order(item: pytest.Item) -> int:
        marks = {mark.name for mark in item.iter_markers()}
        return min([number for number, name in enumerate(("docker", "real", "browser")) if name in marks], default=3)

    items.sort(key=order)


class Dealer(LoadScopeScheduling):  # type: ignore[misc]
    """How `make test` deals the tests out to its processes: a module stays together, since its fixtures are dear, and so do all
    modules that need Docker, since their tests look at what the engine holds."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        return "docker" if _needs_docker(module) else module


@functools.cache
def _needs_docker(module: str) -> bool:
    return "mark.docker" in (ROOT / module).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Dealer:
    return Dealer(config, log)


@pytest.fixture(scope="session")
def _container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import dockerparts
    from workers.containers import ContainerFake

    fake = ContainerFake(tmp_path_factory.mktemp("container"), dockerparts.python_base("3.11"))
    yield fake
    fake.session.close()
    assert not fake.left()


@pytest.fixture
def contained(_container: Any) -> Any:
    """A worker in a container, the same for all tests (one takes a second to start); for tests marked `docker`."""
    _container.session.start()
    return _container


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/ (then review it as code)")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden("errors/x.txt", text): the text is what that file of tests/golden/ says."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}; run pytest --update-golden and review it"
        assert text == path.read_text(encoding="utf-8")

    return check
