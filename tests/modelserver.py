"""Servers on loopback for the tests of sources: files with ranges that break off, and one that speaks a model hub's API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Server(ABC):
    """Answers by path; keeps what was asked. A context manager."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """(method, path, headers in lower case)."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.answer(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"

    @abstractmethod
    def answer(self, handler: BaseHTTPRequestHandler) -> None: ...

    def __enter__(self) -> Any:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)


class Files(Server):
    """Path -> bytes, with ranges and entity tags. `break_after`: how many bytes of an answer are sent before the connection is
    closed, one entry an answer. `rules`: path -> what answers in place of the file."""

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True) -> None:
        super().__init__()
        self.files = files
        self.ranges = ranges
        self.break_after: list[int] = []
        self.rules: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        if path in self.rules:
            self.rules[path](handler)
            return
        if path not in self.files:
            self.send(handler, 404, b"no such file")
            return
        body, status, headers = self.files[path], 200, {}
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        wanted = handler.headers.get("Range", "")
        if self.ranges and wanted and handler.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(body):
                self.send(handler, 416, Content_Range=f"bytes */{len(body)}")
                return
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        if self.ranges:
            headers["ETag"] = tag
        if self.break_after:
            broken_off(handler, status, body, self.break_after.pop(0), headers)
            return
        self.send(handler, status, body, **headers)


class Hub(Server):
    """Repositories of a model hub: name -> revision -> commit, and commit -> path -> bytes. As its API answers
    (https://huggingface.co/docs/hub/api; huggingface_hub's hf_api.py and file_download.py): files of more than `large` bytes are
    in Git LFS and say their SHA-256."""

    def __init__(self, *, large: int = 100) -> None:
        super().__init__()
        self.revisions: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large = large
        self.status = 0
        """Answer everything with this status, if it is one."""
        self.gated: set[str] = set()
        self.break_after: list[int] = []
        """As of Files, of answers with a file's bytes."""

    def push(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        commit = hashlib.sha1(json.dumps({k: v.hex() for k, v in files.items()}, sort_keys=True).encode()).hexdigest()
        self.revisions.setdefault(repository, {}).update({branch: commit, commit: commit})
        self.commits[commit] = files
        return commit

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        if self.status:
            self.send(handler, self.status, b"{}", Content_Type="application/json")
            return
        for repository, revisions in self.revisions.items():
            if repository in self.gated and repository in path:
                self.send(handler, 403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
                return
            api, files = f"/api/models/{repository}/revision/", f"/{repository}/resolve/"
            if path.startswith(api):
                self._info(handler, repository, revisions.get(path.removeprefix(api)))
                return
            if path.startswith(files):
                revision, _, name = path.removeprefix(files).partition("/")
                self._file(handler, revisions.get(revision), name)
                return
        self.send(handler, 401, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    def _info(self, handler: BaseHTTPRequestHandler, repository: str, commit: str | None) -> None:
        if commit is None:
            self.send(handler, 404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            return
        siblings = []
        for name, data in self.commits[commit].items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _blob(data)}
            if len(data) > self.large:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        body = {"id": repository, "modelId": repository, "sha": commit, "private": False, "gated": False, "tags": [],
                "downloads": 0, "likes": 0, "siblings": siblings}  # fmt: skip
        self.send(handler, 200, json.dumps(body).encode(), Content_Type="application/json")

    def _file(self, handler: BaseHTTPRequestHandler, commit: str | None, name: str) -> None:
        data = self.commits.get(commit or "", {}).get(name)
        if commit is None or data is None:
            self.send(handler, 404, b"", X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            return
        tag = hashlib.sha256(data).hexdigest() if len(data) > self.large else _blob(data)
        headers = {"ETag": f'"{tag}"', "X_Repo_Commit": commit, "Accept_Ranges": "bytes"}
        wanted = handler.headers.get("Range", "")
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send(handler, 206, data[start:], **headers)
            return
        if self.break_after and handler.command == "GET":
            broken_off(handler, 200, data, self.break_after.pop(0), headers)
            return
        self.send(handler, 200, data, **headers)


def broken_off(handler: BaseHTTPRequestHandler, status: int, body: bytes, kept: int, headers: dict[str, str]) -> None:
    """Promise the whole body, send the first `kept` bytes of it and close the connection."""
    handler.close_connection = True
    handler.send_response(status)
    for name, value in {**headers, "Content_Length": str(len(body))}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body[:kept])
    handler.wfile.flush()
    handler.connection.shutdown(2)


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
