"""A file from an address: continued where it broke off, limited in size, and in its place only when its hash is right.

`requests` takes proxies, certificates and credentials where its users expect them: HTTP(S)_PROXY, NO_PROXY,
REQUESTS_CA_BUNDLE, ~/.netrc (https://requests.readthedocs.io/en/latest/user/advanced/). A mirror may stand in for an address,
since the hash decides: ENGINEMATRIX_SOURCE_MIRRORS="https://models.example.com/=https://mirror.example.com/models/ ...".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from builder import backoff
from builder.errors import InfrastructureError, UsageError
from builder.recipe_source import safe
from builder.sources import SourceError, mismatch

ATTEMPTS = 4
TIMEOUT = (30, 60)
"""Seconds: to connect, and between two pieces."""
REDIRECTS = 10
VARIABLE = "ENGINEMATRIX_SOURCE_MIRRORS"
_PIECE = 1 << 20
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be another one in a moment."""


class _Broken(Exception):
    """This try did not bring the whole file; the next one may. `pause`: seconds that the server asks to wait."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


def download(address: str, target: Path, sha256: str, limit: int, partial: Path, *, pause: float = 1.0) -> int:
    """Bytes of the file, now at `target`. What of it came before it broke off stays at `partial`.

    `pause`: seconds before the second try at most, twice as many before each further one (builder/backoff.py). Raises
    SourceError (no such file, larger than `limit` bytes, other bytes than `sha256` says), InfrastructureError, UsageError,
    OSError (disk)."""
    asked = mirrored(address)
    where = shown(asked)
    partial.parent.mkdir(parents=True, exist_ok=True)
    fresh = False
    tries = backoff.Tries(where, backoff.Policy(tries=ATTEMPTS, base=pause))
    with requests.Session() as session:
        while True:
            try:
                whole = _fetch(session, asked, partial, limit, where)
            except _Broken as error:
                _again(tries, error, partial)
                continue
            found = _sha256(partial)
            if found == sha256:
                target.parent.mkdir(parents=True, exist_ok=True)
                size = partial.stat().st_size
                os.replace(partial, target)
                _note(partial).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    partial.parent.rmdir()
                return size
            partial.unlink()
            _note(partial).unlink(missing_ok=True)
            if whole or fresh:
                raise mismatch(where, found, sha256)
            fresh = True  # two halves of two different files: once more, from its beginning
            _again(tries, _Broken("what came in parts is not one file"), partial)


def _again(tries: backoff.Tries, broken: _Broken, partial: Path) -> None:
    if not tries.again(str(broken), broken.pause):
        kept = "what came of it is kept: " if partial.exists() else ""
        msg = f"{tries.what}: {broken} ({tries}); {kept}check the network and run again"
        raise InfrastructureError(msg) from broken


def _fetch(session: requests.Session, address: str, partial: Path, limit: int, where: str) -> bool:
    """Add to `partial` what it lacks; whether all of it came in this one answer. Raises _Broken to be tried again."""
    have = partial.stat().st_size if partial.exists() else 0
    validator = _validator(partial) if have else ""
    headers = {"Accept-Encoding": "identity", "User-Agent": "enginematrix"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        with _get(session, address, headers, where) as answer:
            if answer.status_code == 416:  # nothing is left to send, or what is here is longer than the file is now
                if answer.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return False
                partial.unlink(missing_ok=True)
                raise _Broken("the file there is shorter than what was kept")
            _refused(answer, where)
            begins = f"bytes {have}-"
            more = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(begins) and have > 0
            if answer.status_code == 206 and not more:
                raise _Broken(f"it answered with another part than {begins}")
            before = have if more else 0
            announced = int(answer.headers.get("Content-Length") or 0)
            _fits(before + announced, announced, limit, partial, where)
            if not more:
                tag = answer.headers.get("ETag", "")
                validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
                _note(partial).write_text(json.dumps({"validator": validator}), encoding="utf-8")
            came = before
            with partial.open("ab" if more else "wb") as file:
                # Not iter_content: a Content-Encoding that nobody asked for would change the bytes that the hash is of.
                while piece := answer.raw.read(_PIECE, decode_content=False):
                    came += len(piece)
                    if came > limit:
                        raise _too_large(where, came, limit)
                    file.write(piece)
            if announced and came != before + announced:
                raise _Broken(f"it broke off after {came} of {before + announced} bytes")
    except requests.exceptions.InvalidURL as error:
        raise SourceError("NotFound", f"{where}: no address: {error}") from error
    except (requests.exceptions.RequestException, _urllib3_error()) as error:
        raise _Broken(_plain(error, address)) from error
    return not more


def _get(session: requests.Session, address: str, headers: Mapping[str, str], where: str) -> requests.Response:
    """Follow redirects, each held to the same rule as the address itself."""
    for _ in range(REDIRECTS):
        answer = session.get(address, headers=dict(headers), stream=True, allow_redirects=False, timeout=TIMEOUT)
        if not answer.is_redirect:
            return answer
        address = urljoin(address, answer.headers["Location"])
        answer.close()
        if not safe(address):
            raise SourceError("NotFound", f"{where}: it redirects to {shown(address)}, which is not https")
    raise SourceError("NotFound", f"{where}: more than {REDIRECTS} redirects")


def _refused(answer: requests.Response, where: str) -> None:
    status = answer.status_code
    if status in (200, 206):
        return
    if status in _AGAIN:
        after = answer.headers.get("Retry-After", "")
        raise _Broken(f"HTTP status {status} ({answer.reason})", min(float(after), 30.0) if after.isdigit() else 0.0)
    if status in (401, 403, 407):
        msg = f"{where}: HTTP status {status} ({answer.reason}): it wants credentials; put them into ~/.netrc and run again"
        raise InfrastructureError(msg)
    if status in (404, 410):
        raise SourceError("NotFound", f"{where}: HTTP status {status}: no such file; correct the recipe's address")
    raise SourceError("NotFound", f"{where}: HTTP status {status} ({answer.reason})")


def _fits(total: int, coming: int, limit: int, partial: Path, where: str) -> None:
    if total > limit:
        raise _too_large(where, total, limit)
    free = shutil.disk_usage(partial.parent).free
    if coming > free:
        msg = f"{where}: {coming} bytes are to come and {free} are free; free some space and run again"
        raise InfrastructureError(msg)


def _too_large(where: str, size: int, limit: int) -> SourceError:
    return SourceError(
        "TooLarge",
        f"{where}: {size} bytes or more, and at most {limit} are taken; raise `limit` in its source if that is right",
    )


def mirrored(address: str) -> str:
    """The address to ask: that of a mirror where ENGINEMATRIX_SOURCE_MIRRORS names one; the longest beginning decides.
    Raises UsageError."""
    best = ""
    for item in os.environ.get(VARIABLE, "").split():
        old, equals, new = item.partition("=")
        if not equals or not safe(old) or not safe(new):
            msg = f"{VARIABLE}: write https://models.example.com/=https://mirror.example.com/models/, blanks between several"
            raise UsageError(msg)
        if address.startswith(old) and len(old) > len(best):
            best, out = old, new + address[len(old) :]
    return out if best else address


def shown(address: str) -> str:
    """An address without what may be secret: user, password, query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _plain(error: Exception, address: str) -> str:
    """A library's words without the query and the password of the address."""
    text = " ".join(str(error).split())
    parts = urlsplit(address)
    for secret in (parts.query, parts.password or ""):
        text = text.replace(secret, "...") if secret else text
    return f"{type(error).__name__}: {text[:300]}"


def _urllib3_error() -> type[Exception]:
    from urllib3.exceptions import HTTPError  # requests does not wrap what its raw stream raises

    return HTTPError


def _note(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _validator(partial: Path) -> str:
    try:
        return str(json.loads(_note(partial).read_text(encoding="utf-8"))["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sha256(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sha.update(piece)
    return sha.hexdigest()
