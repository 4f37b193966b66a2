"""Sources: what is obtained is what was asked for, byte by byte, or an error that says whose mistake it is."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import enginefiles
import pytest
from modelserver import Files, Hub, Server

from builder import sources, sources_http, sources_hub
from builder.errors import InfrastructureError, UsageError
from builder.sources import SourceError
from builder.values import Source

DATA = os.urandom(300_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        sources_http.VARIABLE,
        "HF_TOKEN",
        "HF_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def get(address: str, folder: Path, sha256: str, limit: int = 1 << 30) -> bytes:
    target = folder / "got" / "file"
    size = sources_http.download(address, target, sha256, limit, folder / "partial" / sha256, pause=0.01)
    data = target.read_bytes()
    assert size == len(data)
    return data


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    with Files({"/a/model.onnx": DATA}) as server:
        assert get(server.base + "/a/model.onnx?key=secret", tmp_path, sha(DATA)) == DATA
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_is_continued_or_begun_again(ranges: bool, tmp_path: Path) -> None:
    with Files({"/m": DATA}, ranges=ranges) as server:
        server.break_after = [100_000, 50_000]
        assert get(server.base + "/m", tmp_path, sha(DATA)) == DATA
        asked = [headers.get("range") for _, _, headers in server.asked]
    assert len(asked) == 3
    if ranges:
        starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in asked[1:] if text]
        assert len(starts) == 2 and 0 < starts[0] < starts[1] <= 150_000, "each goes on where the last one broke off"
        assert all("if-range" in headers for _, _, headers in server.asked[1:])


def test_a_later_run_continues_what_an_earlier_one_left(tmp_path: Path) -> None:
    with Files({"/m": DATA}) as server:
        server.break_after = [40_000] * sources_http.ATTEMPTS
        with pytest.raises(InfrastructureError, match="what came of it is kept"):
            get(server.base + "/m", tmp_path, sha(DATA))
        had = (tmp_path / "partial" / sha(DATA)).stat().st_size
        assert had >= 40_000
        server.asked.clear()
        assert get(server.base + "/m", tmp_path, sha(DATA)) == DATA
        assert server.asked[0][2]["range"] == f"bytes={had}-"


def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(tmp_path: Path) -> None:
    """The second half of another file would never give the hash: the entity tag tells, and so does the hash where it lies."""
    old = os.urandom(len(DATA))
    for lies in (False, True):
        folder = tmp_path / str(lies)
        with Files({"/m": old}) as server:
            server.break_after = [50_000] * sources_http.ATTEMPTS  # never all of it
            with pytest.raises(InfrastructureError):
                get(server.base + "/m", folder, sha(DATA))
            server.files["/m"] = DATA
            if lies:
                (note,) = (folder / "partial").glob("*.json")
                note.unlink()  # no validator: the server cannot tell that it is another file
            assert get(server.base + "/m", folder, sha(DATA)) == DATA


def test_other_bytes_are_the_recipes_mistake(tmp_path: Path) -> None:
    with Files({"/m": DATA}) as server:
        with pytest.raises(SourceError, match=f"sha256 is {sha(DATA)}, the recipe says {'0' * 64}") as caught:
            get(server.base + "/m", tmp_path, "0" * 64)
        assert len(server.asked) == 1, "it came whole: asking again gives the same"
    assert caught.value.kind == "HashMismatch"
    assert left(tmp_path) == []


def test_too_large_is_refused_before_and_while_it_comes(tmp_path: Path) -> None:
    def endless(handler: Any) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()  # no length: nobody says how much will come
        for _ in range(1000):
            handler.wfile.write(bytes(10_000))

    with Files({"/m": DATA}) as server:
        with pytest.raises(SourceError, match="300000 bytes or more, and at most 299999") as caught:
            get(server.base + "/m", tmp_path, sha(DATA), limit=len(DATA) - 1)
        assert caught.value.kind == "TooLarge"
        server.rules["/endless"] = endless
        with pytest.raises(SourceError, match="at most 100000 are taken"):
            get(server.base + "/endless", tmp_path, sha(DATA), limit=100_000)
    assert all(path.stat().st_size <= 100_000 for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(("status", "kind"), [(404, "NotFound"), (410, "NotFound"), (400, "NotFound")])
def test_what_is_not_there_is_the_recipes_mistake(status: int, kind: str, tmp_path: Path) -> None:
    with Files({}) as server:
        server.rules["/m"] = lambda handler: Server.send(handler, status)
        with pytest.raises(SourceError, match=f"HTTP status {status}") as caught:
            get(server.base + "/m", tmp_path, sha(DATA))
        assert len(server.asked) == 1
    assert caught.value.kind == kind


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_are_this_machines(status: int, tmp_path: Path) -> None:
    with Files({}) as server:
        server.rules["/m"] = lambda handler: Server.send(handler, status)
        with pytest.raises(InfrastructureError, match=r"wants credentials; put them into ~/\.netrc"):
            get(server.base + "/m", tmp_path, sha(DATA))


def test_a_busy_server_is_asked_again_after_what_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("builder.backoff.wait", lambda stop, seconds: waits.append(seconds))
    with Files({"/m": DATA}) as server:
        count = []

        def busy(handler: Any) -> None:
            count.append(1)
            if len(count) == 2:
                del server.rules["/m"]
            Server.send(handler, 503, Retry_After="1")

        server.rules["/m"] = busy
        assert get(server.base + "/m", tmp_path, sha(DATA)) == DATA
    assert len(waits) == 2 and min(waits) >= 1


def test_no_server_is_infrastructure_and_no_secret_is_told(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://me:hunter2@127.0.0.1:{port}/m?token=hunter3"
    with pytest.raises(InfrastructureError, match="check the network") as caught:
        get(address, tmp_path, sha(DATA))
    assert "hunter" not in str(caught.value)


def test_a_redirect_is_followed_and_held_to_https(tmp_path: Path) -> None:
    with Files({"/m": DATA}) as server:
        server.rules["/here"] = lambda handler: Server.send(handler, 302, Location="/m")
        server.rules["/away"] = lambda handler: Server.send(handler, 302, Location="http://example.invalid/m")
        server.rules["/file"] = lambda handler: Server.send(handler, 302, Location="file:///etc/hostname")
        server.rules["/round"] = lambda handler: Server.send(handler, 302, Location="/round")
        assert get(server.base + "/here", tmp_path, sha(DATA)) == DATA
        for path, why in (("/away", "not https"), ("/file", "not https"), ("/round", "more than 10 redirects")):
            with pytest.raises(SourceError, match=why):
                get(server.base + path, tmp_path, sha(DATA))


def test_a_mirror_stands_in_and_the_hash_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Files({"/copy/m": DATA}) as server:
        monkeypatch.setenv(
            sources_http.VARIABLE,
            f"https://models.example.com/={server.base}/copy/ https://other.example.com/={server.base}/no/",
        )
        assert get("https://models.example.com/m", tmp_path, sha(DATA)) == DATA
    monkeypatch.setenv(sources_http.VARIABLE, "https://a/=http://insecure.example.com/")
    with pytest.raises(UsageError, match=sources_http.VARIABLE):
        sources_http.mirrored("https://a/b")


def test_a_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every client takes it: the variable names a server that is asked for whole addresses."""
    with Files({"/m": DATA}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base)
        monkeypatch.setenv("http_proxy", proxy.base)
        monkeypatch.setenv("no_proxy", "")
        assert get("http://localhost:9/m", tmp_path, sha(DATA)) == DATA
        assert proxy.asked[0][1] == "http://localhost:9/m"


# Files and folders beside the recipe -----------------------------------------------------------------------------------


def obtain(source: Source, tmp_path: Path, locked: tuple[str, ...] = ()) -> Path:
    folder = tmp_path / "obtained"
    folder.mkdir()
    sources.obtain(source, locked, tmp_path / "recipe", folder, tmp_path / "partial")
    return folder


def beside(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / "recipe" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return sha(data)


def test_an_onnx_file_comes_with_its_data(tmp_path: Path) -> None:
    model = enginefiles.onnx(external="weights.bin")
    source = Source(
        kind="file", name="net/model.onnx", sha256=beside(tmp_path, "net/model.onnx", model),
        beside={"weights.bin": beside(tmp_path, "net/weights.bin", b"1234")},
    )  # fmt: skip
    folder = obtain(source, tmp_path)
    assert left(folder) == ["model.onnx", "weights.bin"]
    (folder / "weights.bin").unlink()
    (folder / "model.onnx").unlink()
    folder.rmdir()
    (tmp_path / "recipe/net/weights.bin").write_bytes(b"5678")
    with pytest.raises(SourceError, match=r"weights\.bin: sha256 is"):
        obtain(source, tmp_path)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("/etc/hostname", "an absolute path"),
        ("../secret", "leads out of the model's folder"),
        ("a/../../secret", "leads out of the model's folder"),
        ("C:secret", "an absolute path"),
        ("\\\\host\\share", "an absolute path"),
        ("..\\secret", "leads out of the model's folder"),
        ("", "names no file"),
        ("nothing.bin", "no such file beside the model"),
        ("link.bin", "is a symbolic link"),
        ("linked/weights.bin", "is a symbolic link"),
        ("folder", "not a regular file"),
    ],
)  # fmt: skip
def test_external_data_that_reaches_out_is_refused_by_its_tensor(location: str, why: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link.bin").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (tmp_path / "weights.bin").write_text("x")
    model = enginefiles.onnx(external=location) if location else _nowhere()
    (folder / "m.onnx").write_bytes(model)
    with pytest.raises(SourceError, match=f"tensor 'w'.*{why}") as caught:
        sources.check_external(folder / "m.onnx")
    assert caught.value.kind == "ExternalData"


@pytest.mark.parametrize("name", ["m.onnx", "model.bin", "model"])
def test_no_name_of_a_model_hides_where_its_data_is(name: str, tmp_path: Path) -> None:
    source = Source(kind="file", name=name, sha256=beside(tmp_path, name, enginefiles.onnx(external="../secret")))
    with pytest.raises(SourceError, match="leads out of the model's folder"):
        obtain(source, tmp_path)


def _nowhere() -> bytes:
    tensor = enginefiles.block(8, b"w") + enginefiles.number(14, 1)
    graph = enginefiles.block(5, tensor)
    return enginefiles.number(1, 8) + enginefiles.block(7, graph)


def _external(location: str, name: bytes = b"deep", **entries: int) -> bytes:
    """A TensorProto whose data is elsewhere."""
    pairs = {"location": location, **{key: str(value) for key, value in entries.items()}}
    data = b"".join(
        enginefiles.block(13, enginefiles.block(1, key.encode()) + enginefiles.block(2, value.encode()))
        for key, value in pairs.items()
    )
    return enginefiles.block(8, name) + enginefiles.number(14, 1) + data


@pytest.mark.parametrize(
    "place", ["attribute", "subgraph", "function", "sparse", "training", "tensors", "loop in loop"]
)
def test_a_tensor_is_found_wherever_a_model_may_keep_one(place: str, tmp_path: Path) -> None:
    block, tensor = enginefiles.block, _external("../out")
    sparse = block(1, tensor)
    graph, more = b"", b""
    if place == "attribute":
        graph = block(1, block(4, b"Constant") + block(5, block(1, b"value") + block(5, tensor)))
    elif place == "tensors":
        graph = block(1, block(4, b"Custom") + block(5, block(1, b"values") + block(10, tensor)))
    elif place == "subgraph":
        graph = block(1, block(4, b"If") + block(5, block(1, b"then_branch") + block(6, block(5, tensor))))
    elif place == "loop in loop":
        inner = block(1, block(4, b"Loop") + block(5, block(6, block(15, sparse))))
        graph = block(1, block(4, b"Loop") + block(5, block(6, inner)))
    elif place == "function":
        more = block(25, block(1, b"f") + block(7, block(4, b"Constant") + block(5, block(5, tensor))))
    elif place == "sparse":
        graph = block(15, sparse)
    else:
        more = block(20, block(2, block(5, tensor)))
    path = tmp_path / "m.onnx"
    path.write_bytes(enginefiles.number(1, 8) + block(7, graph + block(2, b"g")) + more)
    with pytest.raises(SourceError, match="tensor 'deep' has its data in '../out'"):
        sources.check_external(path)


@pytest.mark.parametrize(
    ("offset", "length", "well"), [(0, 4, True), (2, 2, True), (2, 3, False), (5, 0, False), (-1, 2, False)]
)
def test_external_data_must_be_as_long_as_it_says(offset: int, length: int, well: bool, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"1234")
    graph = enginefiles.block(5, _external("w.bin", offset=offset, length=length))
    (tmp_path / "m.onnx").write_bytes(enginefiles.number(1, 8) + enginefiles.block(7, graph))
    if well:
        sources.check_external(tmp_path / "m.onnx")
    else:
        with pytest.raises(SourceError, match="and the file has 4"):
            sources.check_external(tmp_path / "m.onnx")


def test_a_folder_is_held_to_the_hash_of_all_its_files(tmp_path: Path) -> None:
    beside(tmp_path, "sm/saved_model.pb", enginefiles.saved_model())
    beside(tmp_path, "sm/variables/variables.index", b"index")
    tree = sources.tree_sha256(tmp_path / "recipe" / "sm")
    source = Source(kind="folder", name="sm", sha256=tree)
    folder = obtain(source, tmp_path)
    assert left(folder) == ["saved_model.pb", "variables.index"]
    assert (folder / "sm" / "variables").is_dir()
    (tmp_path / "recipe/sm/variables/variables.index").rename(tmp_path / "recipe/sm/variables/other.index")
    (tmp_path / "other").mkdir()
    with pytest.raises(SourceError, match="sha256"):
        sources.obtain(source, (), tmp_path / "recipe", tmp_path / "other", tmp_path / "partial")
    (tmp_path / "recipe/sm/link").symlink_to("/etc/hostname")
    with pytest.raises(SourceError, match="symbolic link"):
        sources.tree_sha256(tmp_path / "recipe" / "sm")


@pytest.mark.parametrize(
    "data",
    [*(pickle.dumps({"weights": [1.0, 2.0]}, protocol=protocol) for protocol in (2, 3, 4, 5)), enginefiles.TORCH_OLD],
)
def test_a_pickle_is_refused_with_advice_whatever_its_name(data: bytes, tmp_path: Path) -> None:
    source = Source(kind="file", name="weights.bin", sha256=beside(tmp_path, "weights.bin", data))
    with pytest.raises(SourceError, match=r"is a pickle; .*convert weights to \.safetensors") as caught:
        obtain(source, tmp_path)
    assert caught.value.kind == "Pickle"


def test_what_is_no_pickle_is_none(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\x80", b"\x80\x02rest", enginefiles.TORCHSCRIPT, enginefiles.TFLITE, DATA)):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert not sources.is_pickle(path), number


def test_an_entry_that_is_not_there_names_what_is(tmp_path: Path) -> None:
    beside(tmp_path, "net/model.onnx", enginefiles.onnx())
    tree = sources.tree_sha256(tmp_path / "recipe" / "net")
    with pytest.raises(SourceError, match=r"net/modle\.onnx.*perhaps 'net/model\.onnx'"):
        obtain(Source(kind="folder", name="net", sha256=tree, entry="modle.onnx"), tmp_path)


def test_an_address_may_have_files_beside_it(tmp_path: Path) -> None:
    model, weights = enginefiles.onnx(external="w.bin"), b"1234"
    with Files({"/x/model.onnx": model, "/x/w.bin": weights}) as server:
        source = Source(
            kind="url", name=f"{server.base}/x/model.onnx", sha256=sha(model), beside={"w.bin": sha(weights)}
        )
        assert left(obtain(source, tmp_path)) == ["model.onnx", "w.bin"]
    assert not (tmp_path / "partial").exists()
    assert sources.model_name(source) == "model.onnx"


# A hub -----------------------------------------------------------------------------------------------------------------

WEIGHTS = os.urandom(5000)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("huggingface_hub")
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.base)
        server.push(
            "acme/net", "main", {"model.safetensors": WEIGHTS, "config.json": b"{}", "onnx/a.onnx": enginefiles.onnx()}
        )
        yield server


def source_of(*patterns: str, revision: str = "main", **more: Any) -> Source:
    return Source(kind="hub", name="acme/net", version=revision, patterns=patterns, **more)


def lock_of(source: Source) -> tuple[str, ...]:
    from builder.lock import data_package_of

    return sources.resolve(data_package_of(source), "")


def test_a_revision_becomes_a_commit_and_hashes(hub: Hub, tmp_path: Path) -> None:
    source = source_of("*.safetensors", "config.json")
    locked = lock_of(source)
    commit = hub.revisions["acme/net"]["main"]
    assert locked == (
        f"commit:{commit}", f"sha256:{sha(b'{}')}:2:config.json", f"sha256:{sha(WEIGHTS)}:{len(WEIGHTS)}:model.safetensors",
    )  # fmt: skip
    hub.push("acme/net", "main", {"model.safetensors": b"moved" * 100, "config.json": b"[]"})
    folder = obtain(source, tmp_path, locked)
    assert left(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS, (
        "the commit that was locked, wherever the branch is now"
    )
    assert not (tmp_path / "partial").exists()
    assert lock_of(source)[0] != locked[0]


def test_a_hub_that_gives_other_bytes_than_the_lock_says(hub: Hub, tmp_path: Path) -> None:
    source = source_of("model.safetensors")
    locked = lock_of(source)
    hub.commits[hub.revisions["acme/net"]["main"]]["model.safetensors"] = os.urandom(len(WEIGHTS))
    with pytest.raises(SourceError, match="the lock says") as caught:
        obtain(source, tmp_path, locked)
    assert caught.value.kind == "HashMismatch"


def test_a_hubs_file_that_breaks_off_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    source = source_of("model.safetensors")
    locked = lock_of(source)
    hub.break_after = [2000]
    hub.asked.clear()
    folder = obtain(source, tmp_path, locked)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    times = sum(method == "GET" and "resolve" in path for method, path, _ in hub.asked)
    assert times == 2, "its library writes pieces of 10 MB: what is smaller it begins again"


def test_offline_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    """The library reads this setting when it is imported."""
    script = "from builder import sources_hub; sources_hub.resolve('hub:acme/net@main:config.json')"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert "InfrastructureError" in ran.stderr and "HF_HUB_OFFLINE forbids" in ran.stderr
    assert not hub.asked


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (Source(kind="hub", name="acme/none", version="main", patterns=("a",)), "NotFound", "no such repository"),
        (source_of("a", revision="v9"), "NotFound", "it has no revision 'v9'"),
        (source_of("*.bin"), "NotFound", r"no file '\*\.bin'; there are config\.json"),
    ],
)
def test_what_the_hub_has_not_is_the_recipes_mistake(source: Source, kind: str, words: str, hub: Hub) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        lock_of(source)
    assert caught.value.kind == kind


def test_a_pickle_of_a_hub_is_refused_before_it_comes(hub: Hub) -> None:
    hub.push("acme/net", "main", {"weights.pkl": b"x" * 1000})
    with pytest.raises(SourceError, match="is a pickle"):
        lock_of(source_of("*"))
    assert not any("resolve" in path for _, path, _ in hub.asked)


def test_a_hub_in_trouble_is_infrastructure(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add("acme/net")
    with pytest.raises(InfrastructureError, match="accept its terms"):
        lock_of(source_of("config.json"))
    hub.gated.clear()
    hub.status = 500
    with pytest.raises(InfrastructureError, match="500"):
        lock_of(source_of("config.json"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(InfrastructureError, match="check the network"):
            lock_of(source_of("config.json"))


def test_a_hub_file_is_bounded_and_a_damaged_lock_is_said(hub: Hub, tmp_path: Path) -> None:
    source = source_of("model.safetensors", limit=100)
    with pytest.raises(SourceError, match="at most 100 are taken"):
        obtain(source, tmp_path, lock_of(source))
    for number, locked in enumerate(
        (("commit:zz",), ("sha256:aa:1:x",), (f"commit:{'0' * 40}", f"sha256:{'0' * 64}:1:../x"))
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(SourceError, match="what the lock says of it is damaged"):
            sources_hub.fetch(source, locked, tmp_path / str(number), tmp_path / "partial")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'enginematrix\[hub\]'"):
        lock_of(source_of("config.json"))
