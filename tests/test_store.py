"""Nothing half-written is taken as whole, and two runs do not harm each other."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from builder.errors import InfrastructureError
from builder.store import Light, StepRecord, Store, StoreError


def record(key: str, **values: object) -> StepRecord:
    default: dict[str, object] = {
        "key": key, "kind": "build", "name": key, "state": "ok", "output": "o", "seconds": 1.0, "created": "2026", "run": "r",
        "record": {},
    }  # fmt: skip
    return StepRecord(**{**default, **values})  # type: ignore[arg-type]


def test_steps_come_back_as_they_were(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = record("k", limits={"timeout": 3.0}, record={"error": {"message": "é\x00"}})
    store.put_step(one)
    assert Store(tmp_path).step("k") == one
    assert store.light() == {"k": Light(state="ok", output="o", limits={"timeout": 3.0}, mark="r")}
    store.forget(["k"])
    assert store.step("k") is None


def test_what_is_no_text_does_not_stop_the_report(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_step(record("k", record={"error": {"message": "bad \udcff name"}}))
    found = store.step("k")
    assert found is not None
    assert found.record["error"]["message"].encode() == b"bad ? name"


def test_a_damaged_database_is_said_to_be_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(3000):
        store.put_step(record(f"k{number}", record={"pad": "x" * 200}))
    store._db.execute("pragma wal_checkpoint(truncate)")
    store._db.close()
    with (tmp_path / "results.sqlite").open("r+b") as file:
        file.seek(1 << 16)
        file.write(b"\xff" * (1 << 18))
    with pytest.raises(StoreError, match="damaged|not a readable"):
        Store(tmp_path).light()


def test_two_threads_that_install_the_worker_at_once_leave_it_whole(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from builder.environment import install_worker, worker_files

    for number in range(20):
        with ThreadPoolExecutor(4) as pool:
            places = set(pool.map(install_worker, [tmp_path / str(number)] * 4))
        assert len(places) == 1
        assert len(list((places.pop() / "worker").rglob("*.py"))) == len(worker_files())
        assert not list((tmp_path / str(number) / "worker").glob(".*"))


def test_more_keys_than_a_query_takes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(1203):
        store.put_step(record(f"k{number}"))
    assert len(store.steps([f"k{number}" for number in range(1300)])) == 1203


def test_objects_are_named_by_their_bytes_and_keep_their_suffix(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    file = tmp_path / "model.onnx"
    file.write_bytes(b"engine")
    entry = store.add_object(file)
    assert entry["path"].endswith(entry["sha256"] + ".onnx")
    assert (store.root / entry["path"]).read_bytes() == b"engine"
    assert store.intact(entry)
    file.write_bytes(b"engine")
    assert store.add_object(file) == entry


@pytest.mark.parametrize("damage", [b"", b"engin3", b"engine and more"])
def test_a_corrupt_object_is_noticed(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path / "a")
    file = tmp_path / "model.onnx"
    file.write_bytes(b"engine")
    entry = store.add_object(file)
    path = store.root / entry["path"]
    path.chmod(0o644)
    path.write_bytes(damage)
    assert not Store(tmp_path / "a").intact(entry)
    store.discard(entry)
    assert not store.present(entry)


def test_adding_over_a_corrupt_object_mends_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    file = tmp_path / "model.onnx"
    file.write_bytes(b"engine")
    entry = store.add_object(file)
    path = store.root / entry["path"]
    path.chmod(0o644)
    path.write_bytes(b"engin3")
    file.write_bytes(b"engine")
    fresh = Store(tmp_path / "a")
    fresh.add_object(file)
    assert path.read_bytes() == b"engine"


def test_a_database_from_the_future_is_refused(tmp_path: Path) -> None:
    Store(tmp_path)
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer EngineMatrix"):
        Store(tmp_path)


def test_a_database_that_is_none_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "results.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(StoreError, match="move it away"):
        Store(tmp_path)


def test_a_full_disk_is_infrastructure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "a")
    file = tmp_path / "model.onnx"
    file.write_bytes(b"engine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InfrastructureError, match=r"No space left.*nothing finished is lost"):
        store.add_object(file)
    with pytest.raises(InfrastructureError, match="No space left"):
        store.write_text(tmp_path / "x", "text")
    assert list(tmp_path.glob(".x*")) == []


def test_a_killed_writer_leaves_the_store_readable_and_lets_go_of_its_lock(tmp_path: Path) -> None:
    Store(tmp_path)
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from builder.store import Store, StepRecord
        store = Store(Path(sys.argv[1]))
        with store.lock("step"):
            n = 0
            print("locked", flush=True)
            while True:
                n += 1
                store.put_step(StepRecord(key=f"k{n}", kind="build", name="n", state="ok", output="o", seconds=1.0,
                                          created="", run="", record={"n": n, "pad": "x" * 5000}))
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"locked\n"
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = Store(tmp_path)
    keys = list(store.light())
    assert len(keys) > 3
    assert all(found.record["pad"] == "x" * 5000 for found in store.steps(keys).values())
    started = time.monotonic()
    with store.lock("step"):
        assert time.monotonic() - started < 5


def test_a_lock_holds_the_same_step_and_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from builder.store import Store
        store = Store(Path(sys.argv[1]))
        with store.lock(sys.argv[2]):
            print("got", flush=True)
        """
    )
    with store.lock("one"):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path), "two"], capture_output=True, timeout=20)
        assert other.stdout == b"got\n"
        same = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), "one"], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            same.communicate(timeout=0.7)
    assert same.communicate(timeout=20)[0] == b"got\n"


def test_results_remember_the_newest_status(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_run("a", "2026-01-01", None, {}, {"c1": ("failed", "k"), "c2": ("verified", "k")})
    store.put_run("b", "2026-01-02", None, {"select": "all"}, {"c1": ("verified", "k")})
    assert store.latest_status() == {"c1": "verified", "c2": "verified"}
    assert [run["id"] for run in store.runs()] == ["a", "b"]


def test_outcomes_by_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_outcomes({f"k{n}": ("cell", {"status": "verified", "n": n}) for n in range(700)})
    assert store.outcomes(["k3", "k699", "nothing"]) == {
        "k3": {"status": "verified", "n": 3}, "k699": {"status": "verified", "n": 699},
    }  # fmt: skip
