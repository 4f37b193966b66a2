"""`source:` of recipe.yaml: what is asked of where a model comes from, before anything reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from specs import RECIPE, Project

from builder import lock, recipe, sources
from builder.errors import SpecError, SpecErrors
from builder.values import Recipe

HASH = "a" * 64


def load(tmp_path: Path, source: str, *, script: bool = True) -> Recipe:
    project = Project(tmp_path)
    for name in ("model.onnx", "w.bin", "net.py", "sm/saved_model.pb", "model.safetensors"):
        project.write(f"recipes/alpha/{name}", "x")
    text = RECIPE if script else RECIPE.replace("script: export.py\n", "")
    project.recipe("alpha", text + f"source: {source.replace('HASH', HASH)}\n")
    return project.spec().recipes["alpha"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{kind: file, name: model.onnx, sha256: HASH}", "model.onnx"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: {w.bin: HASH}}", "model.onnx"),
        ("{kind: folder, name: sm, sha256: HASH}", "sm"),
        ("{kind: folder, name: sm, sha256: HASH, entry: saved_model.pb}", "sm/saved_model.pb"),
        ('{kind: url, name: "https://example.org/a%20b/net.onnx?x=1", sha256: HASH, limit: 2g}', "net.onnx"),
        ("{kind: hub, name: acme/net, revision: main, files: [onnx/model.onnx], entry: onnx/model.onnx}", "onnx/model.onnx"),
        ("{kind: package, name: models, version: 1.2.0, entry: models/net.onnx}", "models/net.onnx"),
    ],
)  # fmt: skip
def test_a_source_that_is_the_model_needs_no_script(source: str, name: str, tmp_path: Path) -> None:
    found = load(tmp_path, source, script=False)
    assert found.source is not None
    assert sources.model_name(found.source) == name


def test_a_callable_of_a_package_is_obtained_as_that_package(tmp_path: Path) -> None:
    found = load(tmp_path, "{kind: callable, name: 'net:build', arguments: {width: 8}}", script=False)
    assert found.source is None, "a module beside the recipe: nothing is to be obtained"
    found = load(tmp_path, "{kind: callable, name: 'models.net:build', package: models, version: 1.2.0}", script=False)
    assert found.source is not None and (found.source.kind, found.source.name) == ("package", "models")
    assert lock.data_package(found) == "models==1.2.0"


def test_the_lock_has_a_revision_with_its_files(tmp_path: Path) -> None:
    found = load(tmp_path, "{kind: hub, name: acme/net, revision: v1, files: ['b*', a.json]}")
    assert lock.data_package(found) == "hub:acme/net@v1:a.json,b*"
    other = load(tmp_path, "{kind: hub, name: acme/net, revision: v1, files: [a.json]}")
    assert found.source is not None and other.source is not None and found.source.identity != other.source.identity


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{kind: folder, name: ../beta, sha256: HASH}", "leads out of the recipe's folder"),
        ("{kind: folder, name: model.onnx, sha256: HASH}", "no folder 'model.onnx'"),
        ("{kind: file, name: sm, sha256: HASH}", "no file 'sm'"),
        ("{kind: folder, name: sm}", "needs its sha256"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: {../w.bin: HASH}}", "is no path beside the model"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: {/etc/x: HASH}}", "is no path beside the model"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: {w.bin: 1}}", "needs its sha256"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: {no.bin: HASH}}", "no file 'no.bin'"),
        ("{kind: file, name: model.onnx, sha256: HASH, data-files: [w.bin]}", "must be a mapping"),
        ("{kind: file, name: model.onnx, sha256: HASH, revision: main}", "has no 'revision'"),
        ("{kind: url, name: 'https://example.org/x.pkl', sha256: HASH}", "'x.pkl' is a pickle"),
        ("{kind: url, name: 'https://example.org/x', sha256: HASH, limit: lots}", "not an amount"),
        ("{kind: hub, name: acme/net, files: [a]}", "has no 'revision'"),
        ("{kind: hub, name: acme/net, revision: main}", "has no 'files'"),
        ("{kind: hub, name: acme/net, revision: 1.10, files: [a]}", "quote it"),
        ("{kind: hub, name: 'acme/net/x', revision: main, files: [a]}", "is no repository"),
        ("{kind: hub, name: '../../x', revision: main, files: [a]}", "is no repository"),
        ("{kind: hub, name: acme/net, revision: '../x', files: [a]}", "no branch, tag or commit"),
        ("{kind: hub, name: acme/net, revision: main, files: [../a]}", "is no path in a repository"),
        ("{kind: hub, name: acme/net, revision: main, files: [/a]}", "is no path in a repository"),
        ("{kind: hub, name: acme/net, revision: main, files: ['*.pkl']}", "is a pickle"),
        ("{kind: hub, name: acme/net, revision: main, files: [a], entry: ../a}", "is no path in what is obtained"),
        ("{kind: package, name: models, version: 1.2.0, entry: models/w.joblib}", "is a pickle"),
        ("{kind: callable, name: net.build}", "is no callable"),
        ("{kind: callable, name: 'net:build()'}", "is no callable"),
        ("{kind: callable, name: 'net:build', version: 1.2.0}", "needs the package"),
        ("{kind: callable, name: 'net:build', arguments: [1]}", "must be a mapping"),
        ("{kind: git, name: x}", "'git' is not a value of 'kind'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(source: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match=error) as caught:
        load(tmp_path, source)
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    "source",
    [
        "{kind: hub, name: acme/net, revision: main, files: [a]}",
        "{kind: package, name: models, version: 1.2.0}",
        "{kind: file, name: model.safetensors, sha256: HASH}",
    ],
)
def test_weights_alone_need_a_script(source: str, tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="has no 'script'"):
        load(tmp_path, source, script=False)


def test_the_bytes_of_a_large_declared_source_are_not_read_for_planning(tmp_path: Path) -> None:
    """Its hash stands in the recipe, and is checked when it is obtained: a model of gigabytes costs a plan nothing."""
    hashes = [load(tmp_path, "{kind: file, name: model.onnx, sha256: HASH}").sha256]
    folder = tmp_path / "recipes/alpha"

    def again() -> str:
        errors: list[SpecError] = []
        loaded = recipe.load(folder / "recipe.yaml", "recipe.yaml", errors)
        assert loaded is not None and not errors
        return loaded.recipe.sha256

    for size in (1 << 34, 1 << 35):  # sparse
        with (folder / "model.onnx").open("wb") as file:
            file.truncate(size)
        hashes.append(again())
    assert hashes[1] == hashes[2] != hashes[0], "a small file is read: a script might read it too"
    (folder / "w.bin").write_text("another")
    assert again() != hashes[2], "what no hash was declared of is read"
    with (folder / "w.bin").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(AssertionError):
        again()  # larger than what is read of one recipe


def test_the_name_of_a_tensor_stays_text(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for name, well in (("0", False), ("'0'", True), ("gpu_0/data", True), ("[1]", False)):
        project.recipe("alpha", RECIPE.replace("{name: x,", f"{{name: x, tensor: {name},"))
        if well:
            assert isinstance(project.spec().recipes["alpha"].data["inputs"][0]["tensor"], str)
        else:
            with pytest.raises(SpecErrors, match="tensor|quote it"):
                project.spec()
