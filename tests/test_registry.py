"""A registry is asked over real HTTP: what it says is checked, what it may not have is not sent, and every way to fail is
told apart: evidence (there is no such image) from infrastructure (nobody knows)."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import dockerparts
import factory
import pytest
import registries
from hypothesis import given
from hypothesis import strategies as st
from registries import IDENTITY, LIST, PASSWORD, SCHEMA2, USER, Fake, Reply, Seen, sha

from builder import lock
from builder.environment import reference, registry, registry_client, transport
from builder.environment.reference import Reference
from builder.environment.registry import NoSuchImage, mirror_of, mirrors_from, resolve
from builder.errors import InfrastructureError, UsageError
from builder.lock import Image, Lock
from builder.values import ImageRules

NAME = "nvcr.io/nvidia/tensorrt:24.05-py3"
REPOSITORY = "nvcr/nvidia/tensorrt"
ENV = {
    "CUDA_VERSION": "12.4.1.003",
    "TRT_VERSION": "8.6.1.6",
    "NVIDIA_REQUIRE_CUDA": "cuda>=12.4 brand=tesla,driver>=470",
}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with registries.running() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """No credentials, no proxy, and no waiting: the waits that were asked for."""
    waits: list[float] = []
    monkeypatch.setattr("builder.backoff.wait", lambda stop, seconds: waits.append(seconds))
    monkeypatch.setattr("builder.backoff.random.uniform", lambda low, high: high)
    config = tmp_path / "docker-config"
    config.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "ENGINEMATRIX_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    return waits


def ask(fake: Fake, name: str = NAME, **options: Any) -> Image:
    return resolve(name, {"nvcr.io": f"{fake.address}/nvcr"}, **options)


def credentials(tmp_path: Path, host: str, **entry: str) -> None:
    entry = entry or {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    (tmp_path / "docker-config" / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def full_text(error: BaseException) -> str:
    """Everything that a message, a chained exception or a traceback could show."""
    out, current = ["".join(traceback.format_exception(error))], error
    while current is not None:
        out += [str(current), repr(current), str(getattr(current, "text", ""))]
        current = current.__cause__ or current.__context__  # type: ignore[assignment]
    return "\n".join(out)


# References --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("python:3.12-slim", ("docker.io", "library/python", "3.12-slim", "")),
        ("python", ("docker.io", "library/python", "latest", "")),
        ("nvidia/cuda:12.4.1-base", ("docker.io", "nvidia/cuda", "12.4.1-base", "")),
        ("docker.io/python:3", ("docker.io", "library/python", "3", "")),
        ("index.docker.io/library/python:3", ("docker.io", "library/python", "3", "")),
        (NAME, ("nvcr.io", "nvidia/tensorrt", "24.05-py3", "")),
        ("localhost/x:1", ("localhost", "x", "1", "")),
        ("127.0.0.1:5000/x/y:1", ("127.0.0.1:5000", "x/y", "1", "")),
        ("[::1]:5000/x:1", ("[::1]:5000", "x", "1", "")),
        (f"nvcr.io/x@{sha(b'')}", ("nvcr.io", "x", "", sha(b""))),
        (f"nvcr.io/x:1@{sha(b'')}", ("nvcr.io", "x", "1", sha(b""))),
        ("h.io/a__b/c-d/e.f:1", ("h.io", "a__b/c-d/e.f", "1", "")),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, parts: tuple[str, str, str, str]) -> None:
    registry_, repository, tag, digest = parts
    assert reference.parse(text) == Reference(registry=registry_, repository=repository, tag=tag, digest=digest)


@pytest.mark.parametrize(
    "text",
    ["", ":", "@", "/", "nvcr.io/", "nvcr.io/x:", "nvcr.io/X:1", "nvcr.io//x:1", "nvcr.io/x/../../y:1", "nvcr.io/x:1\n",
     "nvcr.io/x:$(id)", "nvcr.io/x:`id`", "nvcr.io/x:1 --help", 'nvcr.io/x:"', "https://nvcr.io/x:1", "nvcr.io:0/x:1",
     "nvcr.io:99999/x:1", "user:password@nvcr.io/x:1", "nvcr.io/x@sha256:abc", f"nvcr.io/x@{sha(b'')}\n", "nvcr.io/x@md5:00",
     "nvcr.io/x:" + "a" * 200, "nvcr.io/" + "a" * 300 + ":1", "nvcr.io/x?y:1", "nvcr.io/\u0455:1", "a..b/x:1", "-a.io/x:1",
     "nvcr.io/x:1#y", "nvcr.io/%2e%2e/x:1"],
)  # fmt: skip
def test_hostile_references_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no image"):
        reference.parse(text)


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9./:@_-]{1,60}", fullmatch=True))
def test_what_is_taken_for_a_reference_is_harmless(text: str) -> None:
    try:
        found = reference.parse(text)
    except UsageError:
        return
    said = f"{found.registry}/{found.repository}:{found.tag}@{found.digest}"
    assert not set(said) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/:@[]")
    assert ".." not in found.repository


def test_plain_http_is_for_this_machine_alone() -> None:
    here = ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"]
    assert all(reference.loopback(host) for host in here)
    away = [
        "nvcr.io",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "0.0.0.0:5000",
        "10.0.0.1",
        "[::2]",
        "",
        "127.1",
    ]
    assert not any(reference.loopback(host) for host in away)
    assert transport.Transport("nvcr.io").base == "https://nvcr.io"
    assert transport.Transport("docker.io").base == "https://registry-1.docker.io"
    assert transport.Transport("localhost:5000").base == "http://localhost:5000"


# Mirrors -----------------------------------------------------------------------------------------------------------


def test_mirrors_of_the_environment_stand_before_the_files() -> None:
    file = {"nvcr.io": "old.example.com/nvcr", "quay.io": "q.example.com"}
    text = "nvcr.io=mirror:5000/nvcr  index.docker.io=localhost:5000 quay.io="
    assert mirrors_from(file, {"ENGINEMATRIX_MIRRORS": text}) == {
        "nvcr.io": "mirror:5000/nvcr",
        "docker.io": "localhost:5000",
    }
    assert mirrors_from(file, {}) == file
    assert file["nvcr.io"] == "old.example.com/nvcr"


@pytest.mark.parametrize(
    "text",
    ["nvcr.io", "=x", "nvcr.io=https://x.io", "nvcr.io=mirror/nvcr", "nvcr.io=a.io/..", "nvcr.io=u:s3cret@a.io",
     "u:s3cret@nvcr.io=a.io", "nvcr=a.io", "nvcr.io=a.io/$x", "nvcr.io=a.io:s3cret"],
)  # fmt: skip
def test_a_bad_mirror_says_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match=r"ENGINEMATRIX_MIRRORS: .*write .*mirror\.example\.com:5000/nvcr") as caught:
        mirrors_from({}, {"ENGINEMATRIX_MIRRORS": text})
    assert "s3cret" not in str(caught.value), "somebody's password"


def test_a_mirror_is_what_a_build_asks() -> None:
    mirrors = {"nvcr.io": "mirror.example.com:5000/nvcr"}
    assert mirror_of(NAME, mirrors) == "mirror.example.com:5000/nvcr"
    assert mirror_of("python:3.12", mirrors) == "docker.io"
    with pytest.raises(UsageError, match=r"the mirror of nvcr\.io is no registry"):
        mirror_of(NAME, {"nvcr.io": "mirror/nvcr"})


# What an image is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "manifest"), [(registries.INDEX, registries.MANIFEST), (LIST, SCHEMA2)])
def test_an_index_is_resolved_to_digests_and_versions(fake: Fake, index: str, manifest: str) -> None:
    amd = fake.image(REPOSITORY, env=ENV, layers=3, kind=manifest)
    arm = fake.image(REPOSITORY, architecture="arm64", config={"variant": "v8"}, kind=manifest)
    whole = fake.index(
        REPOSITORY, "24.05-py3", {"linux/amd64": amd, "linux/arm64/v8": arm, "linux/s390x": sha(b"")}, index
    )
    found = ask(fake)
    assert (found.index, sorted(found.platforms)) == (whole, ["linux/amd64", "linux/arm64"])
    one = found.platforms["linux/amd64"]
    assert (one.manifest, one.facts, found.platforms["linux/arm64"].manifest) == (amd, dict(sorted(ENV.items())), arm)
    assert [layer.size for layer in one.layers] == [1000, 1001, 1002]
    assert one.size == 3003
    assert one.layers[0].diff_id == sha(f"{REPOSITORY} 0".encode())
    assert fake.contents[f"/v2/{REPOSITORY}/blobs/{one.config}"].body.startswith(b'{"os"')


def test_a_single_manifest_tells_its_platform_itself(fake: Fake) -> None:
    digest = fake.image(REPOSITORY, "24.05-py3", architecture="arm64")
    assert sorted(ask(fake).platforms) == ["linux/arm64"]
    assert ask(fake).index == digest
    assert ask(fake, f"nvcr.io/nvidia/tensorrt@{digest}") == ask(fake)


def test_other_platforms_only_is_evidence(fake: Fake) -> None:
    fake.image(REPOSITORY, "24.05-py3", architecture="s390x")
    with pytest.raises(NoSuchImage, match=r"24\.05-py3: is for linux/s390x, not for linux/amd64 or linux/arm64"):
        ask(fake)
    fake.index(REPOSITORY, "24.06-py3", {"linux/s390x": sha(b""), "linux/arm64/v9": sha(b"")})
    with pytest.raises(NoSuchImage, match="is for linux/arm64/v9, linux/s390x, not"):
        ask(fake, NAME.replace("05", "06"))


@pytest.mark.parametrize(
    ("platform", "config"),
    [("linux/amd64", {"architecture": "arm64"}), ("linux/amd64", {"os": "windows"}),
     ("linux/arm64/v8", {"architecture": "arm64", "variant": "v7"}), ("linux/amd64", {"architecture": None})],
)  # fmt: skip
def test_an_image_that_is_not_what_its_index_says_is_refused(fake: Fake, platform: str, config: dict[str, Any]) -> None:
    fake.index(REPOSITORY, "24.05-py3", {platform: fake.image(REPOSITORY, config=config)})
    with pytest.raises(NoSuchImage, match=rf"is not what its index says: {platform} there, "):
        ask(fake)


def test_the_format_of_before_2016_is_named(fake: Fake) -> None:
    fake.manifest(REPOSITORY, {"schemaVersion": 1, "fsLayers": []}, registry.OLD + "+prettyjws", "24.05-py3")
    with pytest.raises(NoSuchImage, match="schema 1"):
        ask(fake)


def test_only_versions_come_out_of_an_images_environment() -> None:
    env = [
        *(f"{name}={value}" for name, value in ENV.items()), "CUDNN_VERSION=9.1.0.70", "PYTORCH_BUILD_VERSION=2.4.0a0+07cecf4",
        "NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS=", "L4T_VERSION=R36.3.0", "NCCL_VERSION=2.21.5-1+cuda12.4", "PYTHON_VERSION=3.12.4",
        "PATH=/usr/bin", f"API_TOKEN={PASSWORD}", "API_TOKEN_VERSION=1.2", "SECRET_VERSION=1", f"APP_VERSION={PASSWORD}",
        "CUDA_HOME=/usr/local/cuda", "CUDA_API_KEY=1234", f"NVIDIA_REQUIRE_LOGIN={PASSWORD}@example", "cuda_VERSION=1.0",
        "A_VERSION=1\nB=2", "A_VERSION=$(id)", "NVIDIA_REQUIRE_X=`id`", "no equals", 7, None, "=1",
        "B_VERSION=" + "1." * 99 + "1",
    ]  # fmt: skip
    assert registry.facts(env) == {
        **ENV, "CUDNN_VERSION": "9.1.0.70", "PYTORCH_BUILD_VERSION": "2.4.0a0+07cecf4", "L4T_VERSION": "R36.3.0",
        "NCCL_VERSION": "2.21.5-1+cuda12.4", "PYTHON_VERSION": "3.12.4",
    }  # fmt: skip
    assert registry.facts({"a": 1}) == registry.facts(None) == {}


# What is not there, and what nobody knows ---------------------------------------------------------------------------


def test_a_tag_that_is_not_there_is_evidence_in_the_registrys_words(fake: Fake) -> None:
    with pytest.raises(NoSuchImage) as caught:
        ask(fake)
    assert str(caught.value) == f"{NAME}: no such image: MANIFEST_UNKNOWN: manifest unknown"
    assert caught.value.text == f"asked {fake.address}/nvcr/nvidia/tensorrt", "who was asked is not for the lock"


def test_a_mirrors_own_name_is_kept_out_of_the_evidence(fake: Fake) -> None:
    """The message is recorded in the lock, which is published."""
    words = {
        "errors": [{"code": "NAME_UNKNOWN", "message": f"{fake.address} knows no such name\n\x1b[31m" + "x" * 999}]
    }
    fake.before.append(lambda seen: Reply(404, json.dumps(words).encode()))
    with pytest.raises(NoSuchImage, match=r"NAME_UNKNOWN: nvcr\.io knows no such name\?\?\[31mx+$") as caught:
        ask(fake)
    assert len(str(caught.value)) < 400


def test_a_404_of_a_web_server_is_no_evidence(fake: Fake) -> None:
    page = Reply(404, b"<html>not found</html>")
    fake.before.append(lambda seen: page)
    with pytest.raises(InfrastructureError, match="as a web server, not as a registry"):
        ask(fake)
    fake.before[:] = [lambda seen: Reply(200, b"{}") if seen.path == "/v2/" else page]
    with pytest.raises(NoSuchImage, match="no such image: HTTP 404"):
        ask(fake)


def test_parts_that_are_gone_are_evidence(fake: Fake) -> None:
    fake.index(REPOSITORY, "24.05-py3", {"linux/amd64": sha(b"gone")})
    with pytest.raises(NoSuchImage, match="MANIFEST_UNKNOWN"):
        ask(fake)


def lie(fake: Fake, part: str, **changes: Any) -> None:
    """Change the answer to what has `part` in its path."""
    for path, reply in list(fake.contents.items()):
        if part in path:
            fake.contents[path] = dataclasses.replace(reply, **changes)


@pytest.mark.parametrize("part", ["/manifests/24.05-py3", "/manifests/sha256", "/blobs/"])
def test_other_bytes_than_the_digest_says_are_refused(fake: Fake, part: str) -> None:
    fake.index(REPOSITORY, "24.05-py3", {"linux/amd64": fake.image(REPOSITORY, env=ENV)})
    body = fake.contents[f"/v2/{REPOSITORY}/manifests/24.05-py3"].body
    lie(fake, part, body=body.replace(b"amd64", b"arm64"))
    with pytest.raises(InfrastructureError, match=r"promised sha256:\w+ and sent sha256:\w+"):
        ask(fake)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"manifests": {}}', b'{"manifests": [], "layers": []}',
     b'{"config": 7, "layers": []}', b'{"config": {"digest": "sha256:x"}, "layers": []}',
     b'{"config": {"digest": 1}, "layers": []}', b'{"mediaType": ["x"], "manifests": [1, null, {"platform": 3}], "config": {}}',
     b'{"mediaType": "' + SCHEMA2.encode() + b'", "manifests": []}',
     b'{"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}, "digest": "../../../x"}]}',
     b'{"schemaVersion": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_hostile_documents_are_no_evidence(fake: Fake, body: bytes) -> None:
    fake.manifest(REPOSITORY, body, "application/json", "24.05-py3")
    with pytest.raises(InfrastructureError, match=rf"{fake.address}: {REPOSITORY}: answers with .* for {NAME}"):
        ask(fake)


@pytest.mark.parametrize(
    "values",
    [{"document": {"layers": [{"digest": sha(b""), "size": -1}] * 2}}, {"document": {"layers": [{"digest": sha(b"")}] * 2}},
     {"document": {"layers": [{"digest": sha(b""), "size": True}] * 2}}, {"document": {"layers": [7, 8]}},
     {"document": {"layers": {"a": 1}}}, {"config": {"rootfs": None}}, {"config": {"rootfs": {"diff_ids": [sha(b"")]}}},
     {"config": {"rootfs": {"diff_ids": ["x", "y"]}}}],
)  # fmt: skip
def test_layers_that_cannot_be_are_no_evidence(fake: Fake, values: dict[str, Any]) -> None:
    fake.image(REPOSITORY, "24.05-py3", **values)
    with pytest.raises(InfrastructureError, match="answers with"):
        ask(fake)


def test_an_endless_answer_is_cut_off(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport.Transport.ask, "__defaults__", (None, 1 << 20))
    fake.manifest(REPOSITORY, b" " * (1 << 21), "application/json", "24.05-py3")
    with pytest.raises(InfrastructureError, match="an answer of more than 1 MiB"):
        ask(fake)


# Faults ------------------------------------------------------------------------------------------------------------


def flaky(fake: Fake, times: int, reply: Reply) -> Callable[[Seen], Reply | None]:
    left = [times]

    def answer(seen: Seen) -> Reply | None:
        left[0] -= 1
        return reply if left[0] >= 0 else None

    fake.before.append(answer)
    return answer


@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(503, b"<html>"), Reply(429), Reply(200, b"{", length=10)],
)
def test_what_passes_is_waited_for(fake: Fake, reply: Reply, quiet: list[float]) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    flaky(fake, 2, reply)
    assert sorted(ask(fake).platforms) == ["linux/amd64"]
    assert quiet == [1.0, 2.0]


@pytest.mark.parametrize(
    ("reply", "words"),
    [(Reply(502, b'{"errors": [{"code": "UNAVAILABLE", "message": "later"}]}'), "HTTP 502 UNAVAILABLE: later"),
     (Reply(200, b"{", length=10), "the answer broke off"), (Reply(429), "too many requests.*docker login")],
)  # fmt: skip
def test_what_does_not_pass_names_registry_and_time(fake: Fake, reply: Reply, words: str, quiet: list[float]) -> None:
    fake.before.append(lambda seen: reply)
    with pytest.raises(InfrastructureError, match=rf"{fake.address}: {words}.*tried 4 times in \d+ s"):
        ask(fake)
    assert quiet == [1.0, 2.0, 4.0]


def test_a_rate_limit_says_how_long_to_wait(fake: Fake, quiet: list[float]) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    flaky(fake, 1, Reply(429, headers={"Retry-After": "7"}))
    ask(fake)
    assert quiet == [7.0]
    fake.before.append(lambda seen: Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(InfrastructureError, match=r"too many requests.*it asks to wait 3600 s: run again then"):
        ask(fake)
    assert quiet == [7.0], "nobody sits through an hour"


def test_a_date_to_wait_for_is_read() -> None:
    assert transport.retry_after(formatdate(1000.0, usegmt=True), 940.0) == 60.0
    assert transport.retry_after(formatdate(1000.0, usegmt=True), 2000.0) == 0.0
    assert [transport.retry_after(text, 0.0) for text in ("", "soon", "-5", "9" * 400, "٣")] == [0.0] * 5


def test_a_registry_that_is_down_is_named(quiet: list[float]) -> None:
    gone = f"127.0.0.1:{dockerparts.free_port()}"
    with pytest.raises(InfrastructureError, match=rf"^{gone}: Connection refused \(tried 4 times"):
        resolve(NAME, {"nvcr.io": gone})


def test_a_slow_registry_ends_with_its_name_and_seconds(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then: no timeout of a socket ends that."""
    monkeypatch.setattr(transport, "TIMEOUT", 0.3)
    fake.image(REPOSITORY, "24.05-py3")
    lie(fake, "/manifests/", drip=0.1)
    started = time.monotonic()
    with pytest.raises(
        InfrastructureError, match=rf"{fake.address}: no whole answer within 0\.3 s \(tried 4 times in 1 s"
    ):
        ask(fake)
    assert time.monotonic() - started < 5


def test_patience_ends_too(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE", 0.5)
    fake.before.append(lambda seen: Reply(500))
    with pytest.raises(InfrastructureError, match=r"HTTP 500 \(tried once\)"):
        ask(fake)


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = registries.certificate(tmp_path)
    monkeypatch.setattr(transport, "loopback", lambda host: False)  # as if it were far away
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with registries.running(file) as fake:
        fake.image(REPOSITORY, "24.05-py3")
        with pytest.raises(
            InfrastructureError, match=r"certificate is not trusted \(self.signed certificate\).*SSL_CERT_FILE"
        ):
            ask(fake)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert sorted(ask(fake).platforms) == ["linux/amd64"]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        with pytest.raises(InfrastructureError, match=r"SSL_CERT_FILE=.*none\.pem: no such file"):
            ask(fake)


def test_a_registry_without_tls_is_not_talked_to(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "loopback", lambda host: False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(InfrastructureError, match=rf"{fake.address}: no TLS"):
        ask(fake)
    assert fake.seen == []


def test_a_proxy_is_asked_and_its_password_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://{USER}:{PASSWORD}@127.0.0.1:{dockerparts.free_port()}")
    with pytest.raises(InfrastructureError, match=r"^nvcr\.io: the proxy does not answer") as caught:
        resolve(NAME, {})
    assert PASSWORD not in full_text(caught.value)


# Credentials -------------------------------------------------------------------------------------------------------


def test_basic(fake: Fake, tmp_path: Path) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    fake.basic()
    with pytest.raises(InfrastructureError, match=rf"asks for a user; `docker login` {fake.address}"):
        ask(fake)
    credentials(tmp_path, fake.address)
    assert ask(fake).index


@pytest.mark.parametrize("challenge", ["", 'Bearer realm="http://{}/token?scope=repository:x:pull,push"',
                                       'Basic realm="x", bearer realm="http://{}/token"'])  # fmt: skip
def test_bearer_tokens(fake: Fake, tmp_path: Path, challenge: str) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    fake.bearer(challenge=challenge.format(fake.address))
    credentials(tmp_path, fake.address)
    assert ask(fake).index
    asked = [seen for seen in fake.seen if seen.path == "/token"]
    assert len(asked) == 1, "one token serves all questions"
    assert asked[0].query["scope"] == ["repository:x:pull" if not challenge else f"repository:{REPOSITORY}:pull"]
    assert asked[0].query.get("service") == ([] if challenge else ["test"]) or challenge


def test_a_token_without_login(fake: Fake) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    fake.bearer(anonymous=True)
    assert ask(fake).index
    assert not any("Basic" in seen.headers.get("authorization", "") for seen in fake.seen)


def test_an_identity_token_is_exchanged(fake: Fake, tmp_path: Path) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    fake.bearer()
    credentials(tmp_path, fake.address, identitytoken=IDENTITY)
    assert ask(fake).index
    asked = next(seen for seen in fake.seen if seen.path == "/token")
    assert (asked.method, "grant_type=refresh_token" in asked.body, IDENTITY in str(asked.query)) == (
        "POST",
        True,
        False,
    )


def test_credentials_of_a_helper(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "docker-config" / "config.json"
    config.write_text(json.dumps({"credHelpers": {fake.address: "enginematrix-test"}}))
    fake.image(REPOSITORY, "24.05-py3")
    fake.basic()
    with pytest.raises(InfrastructureError, match="docker-credential-enginematrix-test, which is not on PATH"):
        ask(fake)
    helper = tmp_path / "docker-credential-enginematrix-test"
    helper.write_text(f"#!/bin/sh\necho '{json.dumps({'Username': USER, 'Secret': PASSWORD})}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ask(fake).index
    helper.write_text(f"#!/bin/sh\necho 'broken {PASSWORD}'; exit 1\n")
    with pytest.raises(InfrastructureError, match="credentials in Docker's configuration cannot be read") as caught:
        ask(fake)
    assert PASSWORD not in str(caught.value)


def test_docker_hubs_credentials_are_found_under_its_old_name(tmp_path: Path) -> None:
    credentials(tmp_path, "https://index.docker.io/v1/")
    assert registry_client.Registry("docker.io")._credentials() == {"user": USER, "password": PASSWORD}
    assert registry_client.Registry("nvcr.io")._credentials() == {}


def test_a_netrc_is_not_read(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake.image(REPOSITORY, "24.05-py3")
    ask(fake)
    assert not any("authorization" in seen.headers for seen in fake.seen)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_blobs_of_another_host_are_fetched_without_credentials(fake: Fake, tmp_path: Path, kind: str) -> None:
    fake.image(REPOSITORY, "24.05-py3")
    getattr(fake, kind)()
    credentials(tmp_path, fake.address)
    with registries.running() as storage:
        for path, reply in list(fake.contents.items()):
            if "/blobs/" in path:
                storage.contents["/signed"] = reply
                fake.contents[path] = Reply(
                    307, headers={"Location": f"http://{storage.address}/signed?signature=secret"}
                )
        assert ask(fake).index
        assert [seen.path for seen in storage.seen] == ["/signed"]
        assert "authorization" not in storage.seen[0].headers
        storage.before.append(lambda seen: registries.denied(f'Basic realm="{storage.address}"', ""))
        with pytest.raises(InfrastructureError, match="where it redirects to, refuses access") as caught:
            ask(fake)
        assert "signature" not in full_text(caught.value)
        assert not any("authorization" in seen.headers for seen in storage.seen)


@pytest.mark.parametrize(
    "location",
    ["http://example.com/x", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:word@127.0.0.1/x",
     "https://", "http://[", "http://127.0.0.1:99999/x"],
)  # fmt: skip
def test_a_redirect_away_from_https_is_not_followed(fake: Fake, location: str) -> None:
    fake.before.append(lambda seen: Reply(302, headers={"Location": location}))
    with pytest.raises(InfrastructureError, match=r"redirects to .*(not HTTPS; nothing was sent there|is none)"):
        ask(fake)


def test_a_redirect_in_a_circle_ends(fake: Fake) -> None:
    fake.before.append(lambda seen: Reply(302, headers={"Location": seen.path}))
    with pytest.raises(InfrastructureError, match="redirects more than 5 times"):
        ask(fake)


@pytest.mark.parametrize(
    "realm", ["http://example.com/token", "ftp://x/y", "token", "", "https://a:b@example.com/token"]
)
def test_a_token_service_away_from_https_gets_nothing(fake: Fake, tmp_path: Path, realm: str) -> None:
    credentials(tmp_path, fake.address)
    fake.bearer(challenge=f'Bearer realm="{realm}"')
    with pytest.raises(InfrastructureError, match="names a token service at"):
        ask(fake)
    assert not any("authorization" in seen.headers for seen in fake.seen)


def test_a_far_registry_may_not_name_a_token_service_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = registries.certificate(tmp_path)
    monkeypatch.setattr(transport, "loopback", lambda host: False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with registries.running(file) as far, registries.running() as near:
        credentials(tmp_path, far.address)
        far.bearer(f"http://{near.address}/token")
        with pytest.raises(InfrastructureError, match="not HTTPS; nothing was sent there"):
            ask(far)
        assert near.seen == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"token": 7}', b'{"token": ""}', b'{"token": "a\\r\\nX: y"}', b"[" * 99_999]
)
def test_a_token_that_is_none(fake: Fake, body: bytes) -> None:
    fake.before.append(lambda seen: Reply(200, body) if seen.path == "/token" else None)
    fake.bearer()
    with pytest.raises(InfrastructureError, match="its token service gives no token"):
        ask(fake)


@pytest.mark.parametrize("challenge", ["", "Negotiate", "Digest realm=x", '",,=', "Bearer"])
def test_an_odd_challenge(fake: Fake, challenge: str) -> None:
    fake.before.append(lambda seen: registries.denied(challenge, ""))
    with pytest.raises(InfrastructureError, match="kind of authentication|names a token service at"):
        ask(fake)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
@pytest.mark.parametrize("entry", [{}, {"auth": "not base64!"}, {"auth": 7}, {"identitytoken": PASSWORD}])
def test_no_secret_reaches_a_message(fake: Fake, tmp_path: Path, kind: str, entry: dict[str, Any]) -> None:
    """The registry says back what it was sent, in its own words; a damaged configuration is not quoted either."""
    fake.image(REPOSITORY, "24.05-py3")
    getattr(fake, kind)()
    if not entry:  # credentials that it will not take
        fake.before.insert(0, lambda seen: registries.denied('Basic realm="x"', seen.headers.get("authorization", "")))
    credentials(tmp_path, fake.address, **entry)
    with pytest.raises(InfrastructureError) as caught:
        ask(fake)
    text = full_text(caught.value)
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    asked = any("authorization" in seen.headers or seen.body for seen in fake.seen)
    assert not asked or PASSWORD not in text
    assert encoded not in text
    assert "not base64" not in text


# With real parts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dockerparts.Registry]:
    """docker-registry, with a base under NGC's name."""
    with dockerparts.running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def push(real: dockerparts.Registry, path: str, **env: str) -> str:
    return real.push(dockerparts.derived(dockerparts.base("bookworm"), env=env), path)


RULES = ImageRules(
    interpreter="python3", site="system", env={"CUDA_VERSION": "cuda", "TRT_VERSION": "tensorrt"}, checks={}
)
FAMILY = factory.family("ngc", image=RULES)
STACK = dataclasses.replace(
    factory.stack(name="ngc"), base=NAME, facts={"cuda": "12.4.1", "tensorrt": "10.0.1.6", "python": "3.11"}
)


@pytest.mark.docker
def test_a_base_is_resolved_through_a_mirror(real: dockerparts.Registry) -> None:
    mirrors = {"nvcr.io": f"{real.address}/nvcr"}
    env = {"CUDA_VERSION": "12.4.1.003", "TRT_VERSION": "10.0.1.6", "MY_PASSWORD": PASSWORD}
    image = dockerparts.derived(dockerparts.base("bookworm"), env=env)
    layers = json.loads(dockerparts.docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image))
    digest = real.push(image, "nvcr/nvidia/tensorrt:24.05-py3")
    found = resolve(NAME, mirrors)
    assert found.index == digest == found.platforms["linux/amd64"].manifest
    one = found.platforms["linux/amd64"]
    assert one.facts == {"CUDA_VERSION": "12.4.1.003", "TRT_VERSION": "10.0.1.6"}
    assert one.layers
    assert one.size > 1 << 20
    assert one.config == dockerparts.docker("image", "inspect", "--format", "{{.Id}}", image)
    assert layers == [layer.diff_id for layer in one.layers]
    assert PASSWORD not in Lock(cutoff="", images={NAME: found}).dumps()
    assert real.address not in Lock(cutoff="", images={NAME: found}).dumps()
    assert lock.check_image(STACK, FAMILY, one) == ""


@pytest.mark.docker
def test_a_lying_base_is_refused_naming_both(real: dockerparts.Registry) -> None:
    push(real, "nvidia/tensorrt:24.07-py3", CUDA_VERSION="12.5.0", TRT_VERSION="10.0.1.6")
    name = "nvcr.io/nvidia/tensorrt:24.07-py3"
    found = resolve(name, {"nvcr.io": real.address}).platforms["linux/amd64"]
    message = lock.check_image(dataclasses.replace(STACK, base=name), FAMILY, found)
    assert message == f"{name}: its CUDA_VERSION is 12.5.0, the catalog says cuda 12.4.1"


@pytest.mark.docker
def test_a_real_registrys_words(real: dockerparts.Registry) -> None:
    push(real, "nvidia/tensorrt:24.08-py3")
    with pytest.raises(NoSuchImage, match=r"99\.99-py3: no such image: MANIFEST_UNKNOWN: manifest unknown"):
        resolve("nvcr.io/nvidia/tensorrt:99.99-py3", {"nvcr.io": real.address})
    with pytest.raises(NoSuchImage, match=r"other:1: no such image: (NAME|MANIFEST)_UNKNOWN"):
        resolve("nvcr.io/nvidia/other:1", {"nvcr.io": real.address})


def test_authorities_that_are_not_there_or_not_ours_to_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "authorities.crt"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(InfrastructureError, match=r"SSL_CERT_FILE=\S+/authorities\.crt: no such file; it is to name"):
        transport.certificates()
    path.touch()
    assert transport.certificates() == str(path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(InfrastructureError, match=r"authorities\.crt: cannot be read by this user"):
        transport.certificates()
