"""A registry made of a dictionary, over real HTTP on loopback, that can be told to misbehave."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
USER, PASSWORD, IDENTITY = "someone", "hunter2-is-no-secret", "identity-of-someone"


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """Content-Length, where it is to be a lie."""
    drip: float = 0.0
    """Seconds between one byte and the next."""


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: str


class Fake:
    """`contents`: path -> Reply. `before`: functions that may answer a request in their place."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.contents: dict[str, Reply] = {}
        self.before: list[Callable[[Seen], Reply | None]] = []
        self.seen: list[Seen] = []
        self.stopped = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                query, body = parse_qs(parts.query), self.rfile.read(length).decode()
                seen = Seen(self.command, parts.path, query, headers, body)
                fake.seen.append(seen)
                self.reply(
                    next(filter(None, (answer(seen) for answer in fake.before)), None) or fake.stored(parts.path)
                )

            do_POST = do_GET  # noqa: N815

            def reply(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
                self.send_header("Connection", "close")
                self.end_headers()
                if reply.drip:
                    for byte in reply.body:
                        if fake.stopped.wait(reply.drip):
                            return
                        self.wfile.write(bytes([byte]))
                else:
                    self.wfile.write(reply.body)
                self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away

        self.server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stored(self, path: str) -> Reply:
        unknown = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "x"}}]}
        return self.contents.get(path) or Reply(404, json.dumps(unknown).encode())

    def stop(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # What is in it -----------------------------------------------------------------------------------------------

    def blob(self, repository: str, data: bytes) -> str:
        self.contents[f"/v2/{repository}/blobs/{sha(data)}"] = Reply(body=data)
        return sha(data)

    def manifest(self, repository: str, document: Any, kind: str, *names: str) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        for name in (sha(data), *names):
            headers = {"Content-Type": kind, "Docker-Content-Digest": sha(data)}
            self.contents[f"/v2/{repository}/manifests/{name}"] = Reply(body=data, headers=headers)
        return sha(data)

    def image(
        self, repository: str, *names: str, env: Mapping[str, str] = {}, layers: int = 2, architecture: str = "amd64",
        kind: str = MANIFEST, config: Mapping[str, Any] = {}, document: Mapping[str, Any] = {},
    ) -> str:  # fmt: skip
        """One platform's image; its digest."""
        diff_ids = [sha(f"{repository} {number}".encode()) for number in range(layers)]
        content = {
            "os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Env": [f"{name}={value}" for name, value in env.items()]},
            "history": [{"created_by": "ENV x", "empty_layer": True}], **config,
        }  # fmt: skip
        data = json.dumps(content).encode()
        entries = [
            {"mediaType": "x", "size": 1000 + n, "digest": sha(f"packed {d}".encode())} for n, d in enumerate(diff_ids)
        ]
        pointer = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": len(data),
            "digest": self.blob(repository, data),
        }
        whole = {"schemaVersion": 2, "mediaType": kind, "config": pointer, "layers": entries, **document}
        return self.manifest(repository, whole, kind, *names)

    def index(self, repository: str, tag: str, entries: Mapping[str, str], kind: str = INDEX) -> str:
        """An index of "linux/arm64/v8" -> digest, with an attestation as BuildKit adds it; its digest."""
        listed = []
        for platform, digest in {**entries, "unknown/unknown": sha(b"attestation")}.items():
            os_, architecture, *variant = platform.split("/")
            described = {"os": os_, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
            listed.append({"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": described})
        return self.manifest(repository, {"schemaVersion": 2, "mediaType": kind, "manifests": listed}, kind, tag)

    # How it asks for credentials ---------------------------------------------------------------------------------

    def basic(self) -> None:
        """Ask for Basic, and take one user."""
        right = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        def answer(seen: Seen) -> Reply | None:
            if seen.headers.get("authorization") == right:
                return None
            return denied('Basic realm="registry"', seen.headers.get("authorization", ""))

        self.before.append(answer)

    def bearer(self, realm: str = "", *, anonymous: bool = False, challenge: str = "") -> None:
        """Ask for a token of /token here (or elsewhere), given to one user, to his identity token, or to anybody."""
        right = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        realm = realm or f"http://{self.address}/token"

        def answer(seen: Seen) -> Reply | None:
            if seen.path == "/token":
                known = seen.headers.get("authorization") == right or f"refresh_token={IDENTITY}" in seen.body
                if not known and not anonymous:
                    return denied("", seen.headers.get("authorization", ""))
                return Reply(body=json.dumps({"token": "opaque-token"}).encode())
            if seen.headers.get("authorization") == "Bearer opaque-token":
                return None
            return denied(challenge or f'Bearer realm="{realm}",service="test",scope="repository:x:pull"', "")

        self.before.append(answer)


def denied(challenge: str, echo: str) -> Reply:
    """401, from a registry that is so careless as to say what it was sent."""
    said = {"errors": [{"code": "UNAUTHORIZED", "message": f"authentication required {echo} {PASSWORD}"}]}
    return Reply(401, json.dumps(said).encode(), {"WWW-Authenticate": challenge} if challenge else {})


@contextlib.contextmanager
def running(certificate: Path | None = None) -> Iterator[Fake]:
    fake = Fake(certificate)
    try:
        yield fake
    finally:
        fake.stop()


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody signed, with its key, in one file."""
    key, path = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + key.read_text())
    return path
