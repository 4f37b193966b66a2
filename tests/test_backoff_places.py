"""Infrastructure wherever it fails: tried again, each try kept, never evidence. Each place meets its own real trouble: a server,
a command, a worker's log."""

from __future__ import annotations

import http.server
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factory
import fake
import imageparts
import pytest

from builder import backoff, results
from builder.diagnose_catalog import catalog
from builder.environment import build_context, engine, images, uv
from builder.environment.session import WorkerDied
from builder.errors import EXIT_INFRASTRUCTURE, InfrastructureError, TransientError
from builder.execute import locks
from builder.execute.local import Local
from builder.plan import Plan, reconcile
from builder.store import Store
from builder.values import Docker

STACK = factory.stack(version="1.0")


# uv -----------------------------------------------------------------------------------------------------------------


class Index:
    """A package index that answers with `statuses` first, and then as it should, with no release of anything."""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses = statuses
        self.asked = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked += 1
                status = index.statuses.pop(0) if index.statuses else 200
                body = b"<html></html>" if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    made = Index([])
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_")) or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{made.server.server_port}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_an_index_that_fails_twice_is_asked_a_third_time(index: Index) -> None:
    index.statuses = [503, 503]
    with backoff.scope(backoff.Scope()) as scope, pytest.raises(uv.PackageError, match="nothing-of-ours"):
        uv.resolve_data("nothing-of-ours==1.0", "2026-11-20T00:00:00Z")
    assert index.asked == 3, "the third answer is one: it has no such package"
    assert [attempt["try"] for attempt in scope.attempts] == [1, 2]
    assert "503" in scope.attempts[0]["error"]


def test_an_index_that_stays_away_is_no_evidence(index: Index) -> None:
    index.statuses = [503] * 99
    with pytest.raises(InfrastructureError, match=r"no answer from the package index.*503.*\(tried 4 times in \d+ s\)"):
        uv.resolve_data("nothing-of-ours==1.0", "2026-11-20T00:00:00Z")
    assert index.asked == 4


def test_a_refused_login_is_told_at_once(index: Index) -> None:
    index.statuses = [401] * 99
    with pytest.raises(InfrastructureError, match="authentication") as caught:
        uv.resolve_data("nothing-of-ours==1.0", "2026-11-20T00:00:00Z")
    assert not isinstance(caught.value, TransientError) and index.asked == 1


# Docker -------------------------------------------------------------------------------------------------------------

AWAY = "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def command(folder: Path, failures: int, said: str = AWAY) -> engine.Cli:
    """A `docker` that cannot build so often, then can; it counts."""
    folder.mkdir()
    script = folder / "docker"
    script.write_text(
        f"""#!/bin/sh
case "$1" in
  image) echo '[\n{{"Id": "sha256:1", "RepoTags": []}}\n]'; exit 0;;
esac
n=$(cat {folder}/count 2>/dev/null || echo 0); n=$((n+1)); echo $n > {folder}/count
if [ $n -le {failures} ]; then echo "{said}" >&2; exit 1; fi
echo '#1 DONE 0.1s'
"""
    )
    script.chmod(0o755)
    return engine.Cli(str(script), False)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> images.DockerImage:
    made = imageparts.rendered(imageparts.templates(tmp_path / "images"), "sha256:" + "1" * 64)
    monkeypatch.setattr(build_context, "complete", build_context.write)  # no uv and no wheels beside it
    return images.DockerImage(Store(tmp_path / "artifacts"), made, Docker(), imageparts.family())


@pytest.mark.parametrize(("failures", "there"), [(2, True), (99, False)])
def test_an_engine_that_is_away_is_waited_for(
    image: images.DockerImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, there: bool
) -> None:
    cli = command(tmp_path / "bin", failures)
    monkeypatch.setattr(engine, "builder_cli", lambda: cli)
    with backoff.scope(backoff.Scope()) as scope:
        (end,) = images.build([image], jobs=1).values()
    tried = int((tmp_path / "bin" / "count").read_text())
    assert image.ready() is there and (end is None) is there
    if there:
        assert (tried, [attempt["try"] for attempt in scope.attempts]) == (3, [1, 2])
        assert "Cannot connect to the Docker daemon" in scope.attempts[0]["error"]
    else:
        assert isinstance(end, InfrastructureError) and "tried 5 times" in str(end) and tried == 5


def test_what_the_versions_or_a_password_are_to_blame_for_is_built_once(
    image: images.DockerImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "ERROR: failed to solve: pulling from host r.test failed with status code [manifests 2]: 401 Unauthorized"
    ran = "#4 [2/2] RUN x\n#4 0.1 no\n#4 ERROR: executor failed running [/bin/sh -c x]: exit code: 1"
    for place, said in (("a", refused), ("b", ran)):
        cli = command(tmp_path / place, 99, said)
        monkeypatch.setattr(engine, "builder_cli", lambda cli=cli: cli)
        (end,) = images.build([image], jobs=1).values()
        assert end is not None and (tmp_path / place / "count").read_text().strip() == "1", said
        assert isinstance(end, images.ImageError) is (said == ran)


def test_a_container_is_started_again_when_the_engine_comes_back(
    image: images.DockerImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Session:
        starts = 0

        def start(self, seconds: float) -> None:
            Session.starts += 1
            if Session.starts < 3:
                raise TransientError("the Docker engine did not start a container")

    monkeypatch.setattr(image, "_session", lambda *_: Session())
    place: Any = None
    assert isinstance(image.start((), tmp_path / "log", 1.0, place=place), Session)
    assert Session.starts == 3


# Jobs ---------------------------------------------------------------------------------------------------------------


def run(
    tmp_path: Path, world: fake.World, name: str = "one", deadline: float | None = None
) -> tuple[Plan, Local, Store, list[str]]:
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(STACK).plan([factory.cell(STACK)])
    reconcile(plan, store.light(), store.root / "objects")
    told: list[str] = []
    listener = fake.Listener()
    listener.message = told.append  # type: ignore[method-assign, assignment]
    local = Local(plan, store, world, listener, run=name, jobs=1, cores=1, deadline=deadline)
    assert local.run()
    return plan, local, store, told


class Troubled:
    """Builds end with `ends`, one after the other, and then well."""

    def __init__(self, *ends: dict[str, Any], log: str = "") -> None:
        self.ends = list(ends)
        self.log = log
        self.builds = 0

    def __call__(self, stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage != "build":
            return fake.well(stage, job, folder)
        self.builds += 1
        assert [path.name for path in folder.iterdir()] == ["log.txt"], "nothing of the try before"
        if not self.ends:
            return fake.well(stage, job, folder)
        (folder / "left.bin").write_text("half")
        if self.log:
            (folder / "log.txt").write_text(self.log)
        return self.ends.pop(0)


KILLED = {"end": {"signal": int(signal.SIGKILL), "name": "SIGKILL"}}
FULL = {"error": {"stage": "build", "type": "OSError", "message": "[Errno 28] No space left on device"}}
VAGUE = {"error": {"stage": "build", "type": "RuntimeError", "message": "writing the engine failed"}}
FAILED = {"error": {"stage": "build", "type": "RuntimeError", "message": "no kernel for Det"}}


@pytest.mark.parametrize(("end", "log"), [(KILLED, ""), (FULL, ""), (VAGUE, "E: write: No space left on device\n")])
def test_a_job_that_the_host_ended_is_done_again_and_each_try_kept(
    tmp_path: Path, end: dict[str, Any], log: str
) -> None:
    script = Troubled(end, end, log=log)
    plan, local, store, told = run(tmp_path, fake.World(script))
    (chain,) = plan.chains
    assert script.builds == 3 and local.infrastructure == {} and chain.run.state == "stored"
    record = store.step(chain.build.key)
    assert record is not None and record.state == "ok"
    assert [attempt["try"] for attempt in record.record["retries"]] == [1, 2]
    assert record.record["attempts"] == 1 and not record.record["flaky"], "that is for jobs that crash by themselves"
    other = store.step(chain.export.key)
    assert other is not None and "retries" not in other.record
    assert len(told) == 2 and told[0].startswith("build ") and "(try 2 of 3)" in told[0]


def test_in_the_end_it_is_infrastructure_not_evidence_and_the_next_run_tries_again(tmp_path: Path) -> None:
    script = Troubled(*[FULL] * 99)
    plan, local, store, _ = run(tmp_path, fake.World(script))
    (chain,) = plan.chains
    assert script.builds == 3 and "tried 3 times" in local.infrastructure[chain.build]
    assert store.step(chain.build.key) is None
    (cell,) = results.judge(plan.chains, store, local.infrastructure, "")
    assert (cell["status"], cell["category"], cell["signature"]) == ("blocked", "infrastructure", "disk-full")
    assert "enginematrix gc" in cell["remedy"] and "tried 3 times" in cell["line"]
    report = {"cells": [{**cell, "expected": None}], "run": {"interrupted": False, "over_budget": False}}
    assert results.exit_code(report, "unexpected")[0] == EXIT_INFRASTRUCTURE
    script.ends = []
    plan, local, store, _ = run(tmp_path, fake.World(script), "two")
    assert plan.chains[0].run.state == "stored" and script.builds == 4


def test_a_failure_of_the_versions_is_stored_at_once(tmp_path: Path) -> None:
    script = Troubled(FAILED, FAILED)
    plan, local, store, told = run(tmp_path, fake.World(script))
    assert script.builds == 1 and plan.chains[0].build.state == "failed" and not local.infrastructure and not told
    assert store.step(plan.chains[0].build.key) is not None


def test_no_try_begins_after_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_folder", lambda: tmp_path)  # a timing elsewhere here would use the budget up
    script = Troubled(*[FULL] * 99)
    world = fake.World(script, pause=0.3)
    run(tmp_path, world, deadline=time.monotonic() + 1.5)
    assert script.builds == 1


def test_an_environment_whose_text_tells_of_the_network_is_no_evidence(tmp_path: Path) -> None:
    text = next(s.example for s in catalog().signatures if s.id == "vendor-index-unreachable")
    world = fake.World()
    world.broken[STACK.id] = uv.PackageError(f"{STACK.id}: Failed to build", text)
    plan, local, store, _ = run(tmp_path, world)
    (chain,) = plan.chains
    assert "tried 4 times" in local.infrastructure[chain.engine] and store.step(chain.engine.key) is None
    world.broken[STACK.id] = uv.PackageError(f"{STACK.id}: no wheel", "Because x==1 has no usable wheels and so on")
    plan, local, store, _ = run(tmp_path, world, "two")
    assert not local.infrastructure and plan.chains[0].engine.state == "failed"


def test_a_worker_that_the_host_killed_while_it_imported_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = WorkerDied("the worker ended before it was ready", signal=signal.SIGKILL, exit=None, log="")
    begun: list[str] = []
    start = fake.FakeEnvironment.start

    def starting(self: fake.FakeEnvironment, *args: Any, **named: Any) -> fake.FakeSession:
        if self.step.name == STACK.id:
            begun.append(self.step.name)
            if len(begun) < 3:
                raise died
        return start(self, *args, **named)

    monkeypatch.setattr(fake.FakeEnvironment, "start", starting)
    plan, local, store, _ = run(tmp_path, fake.World())
    assert len(begun) == 3 and not local.infrastructure and plan.chains[0].run.state == "stored"
    record = store.step(plan.chains[0].engine.key)
    assert record is not None and len(record.record["retries"]) == 2


def test_control_c_ends_a_run_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads wait a minute for their next try; the terminal's Ctrl-C reaches the main thread alone."""
    monkeypatch.setattr(backoff, "wait", lambda stop, seconds: stop.wait(seconds))
    monkeypatch.setattr("builder.backoff.random.uniform", lambda low, high: 60.0)
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(STACK).plan([factory.cell(STACK)])
    reconcile(plan, store.light(), store.root / "objects")
    listener = fake.Listener()
    asked: list[float] = []

    def message(text: str) -> None:
        asked.append(time.monotonic())
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    listener.message = message  # type: ignore[method-assign]
    local = Local(plan, store, fake.World(Troubled(*[FULL] * 9)), listener, run="one", jobs=1, cores=1)
    assert not local.run(), "interrupted"
    assert asked and time.monotonic() - asked[0] < 3.0
    assert local.infrastructure == {} and store.step(plan.chains[0].build.key) is None


def test_what_stays_broken_is_not_waited_for_by_every_step(tmp_path: Path) -> None:
    stacks = [factory.stack(version=f"1.{number}") for number in range(6)]
    store = Store(tmp_path / "artifacts")
    plan = factory.planner(*stacks).plan([factory.cell(stack) for stack in stacks])
    reconcile(plan, store.light(), store.root / "objects")
    script = Troubled(*[FULL] * 99)
    local = Local(plan, store, fake.World(script), fake.Listener(), run="one", jobs=1, cores=1)
    assert local.run()
    assert len(local.infrastructure) == 6 and script.builds == 3 * 3 + 3
