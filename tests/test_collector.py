"""`gc` removes what nothing needs, keeps what stored results refer to, and refuses where it cannot know."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small import MATRIX, Small

from builder import cli, machine, pipeline, samples
from builder.errors import EXIT_USAGE
from builder.lock import LockError
from builder.plan import reconcile


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def test_nothing_that_the_matrix_needs_goes(small: Small) -> None:
    small.run("1")
    assert small.left() == 0
    assert small.collect() == {}
    assert small.left() == 0


def test_what_left_the_matrix_goes(small: Small) -> None:
    small.run("1")
    small.files.write("matrix.yaml", MATRIX.replace("[alpha, beta]", "[alpha]").replace("[1.16.3, 1.20.1]", "1.20.1"))
    dry = small.collect(dry_run=True)
    assert small.sources() == {"weights of alpha", "weights of beta"}
    assert small.collect() == dry
    assert small.sources() == {"weights of alpha"}
    assert dry["sources"] == dry["env"] == 1
    assert small.left() == 0
    small.files.write("matrix.yaml", MATRIX)
    small.run("2")
    assert small.left() == 0, "all that went can be made again"
    assert small.sources() == {"weights of alpha", "weights of beta"}


def test_the_sources_of_the_runs_that_are_kept_stay(small: Small) -> None:
    """A record that says that a source is there, and none there, would fail every export from it."""
    small.run("1")
    small.data("beta", "other weights")
    small.run("2")
    assert small.collect(keep_runs=2) == {}
    assert small.sources() == {"weights of alpha", "weights of beta", "other weights"}
    small.data("beta", "weights of beta")
    assert small.left() == 0
    small.collect(keep_runs=0)
    assert small.sources() == {"weights of alpha", "weights of beta"}
    small.data("beta", "other weights")
    small.run("3")
    assert small.sources() == {"weights of alpha", "weights of beta", "other weights"}, "fetched again"


def test_the_record_of_a_source_that_is_gone_goes(small: Small) -> None:
    store = small.run("1")
    for path in (small.artifacts / "sources").iterdir():
        shutil.rmtree(path)
    assert small.collect()["records"] == 2
    assert "obtain" not in {record.kind for record in store.steps(store.light()).values()}
    small.run("2")
    assert small.sources() == {"weights of alpha", "weights of beta"}, "fetched again"
    assert small.world.jobs == [], "and with the same bytes, all else still holds"


def test_samples_that_no_kept_record_names_go(small: Small) -> None:
    store = small.run("1")
    told, data = samples.entry("call", [[0.25]], 0)
    key = next(iter(store.light()))
    named = store.steps([key])[key]
    store.put_step(replace(named, record={**named.record, "samples": [told]}), {told["sha256"]: data})
    store.write_all([("insert into samples values (?,?)", [("of a measurement that is gone", b"x")])])
    assert small.collect()["samples"] == 1
    assert list(store.sample_sizes()) == [told["sha256"]]


def test_without_a_lock_nothing_is_removed(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.run("1")
    (small.folder / "matrix.lock").unlink()
    with pytest.raises(LockError, match="restore it, or run `enginematrix lock`"):
        small.collect()
    assert cli.main(["-f", str(small.folder / "matrix.yaml"), "gc"]) == EXIT_USAGE
    assert "matrix.lock: no such file" in capsys.readouterr().err
    assert len(list((small.artifacts / "env").iterdir())) == 3
    assert small.left() == 0


def test_with_half_a_lock_nothing_is_removed(small: Small) -> None:
    small.run("1")
    half = json.loads(small.lock.dumps())
    del half["stacks"]["engine-onnxruntime1.16.3-py3.11"]
    (small.folder / "matrix.lock").write_text(json.dumps(half))
    with pytest.raises(LockError, match=r"no entry for engine-onnxruntime1\.16\.3-py3\.11"):
        small.collect()
    assert small.left() == 0


def test_beside_a_run_it_does_nothing(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    store = small.run("1")
    with pipeline.in_use(store):
        assert cli.main(["-f", str(small.folder / "matrix.yaml"), "gc"]) == 3
    assert "a run is using these artifacts" in capsys.readouterr().err


def test_the_results_of_engines_that_were_not_kept_stay(small: Small) -> None:
    """`run --keep none` has nothing to do after it."""
    store = small.run("1")
    plan, _ = small.plan()
    for chain in plan.chains:
        found = store.step(chain.build.key)
        assert found is not None
        store.discard(found.record["artifact"])
    assert "records" not in small.collect()
    again = pipeline.make_plan(small.work, small.lock, machine.read())
    reconcile(again, store.light(), store.root / "objects", engines=False)
    assert not again.todo()
