"""HTTP as a registry is asked: one question, with a limit on time and size, repeated while it is worth it.

No message holds a credential, an address with a query (which may be signed), or the text of a library's exception (which
may hold either).
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from builder import __version__, backoff
from builder.environment.reference import DOCKER_IO, DOCKER_IO_HOST, loopback
from builder.errors import InfrastructureError

#: Seconds that one answer may take, from the connection to its last byte.
TIMEOUT = 20.0
#: Seconds that all questions about one image may take, with the waits between them.
PATIENCE = 120.0
ATTEMPTS = 4
#: Bytes of a manifest or a configuration: registries need not take manifests above 4 MiB (distribution-spec, "Pushing
#: Manifests"); the configurations of NGC's images have some tens of KiB.
LIMIT = 4 << 20
#: Where systems keep their authorities: the files that Go, and so the Docker engine, looks for (crypto/x509/root_linux.go).
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Broken(Exception):
    """An answer that did not come whole: worth another try."""


class _Final(Exception):
    """What another try would not mend."""


class Transport:
    """Questions to one registry and to whom it sends us, for PATIENCE seconds from now on; for one thread."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.plain = loopback(host)
        self.base = f"{'http' if self.plain else 'https'}://{DOCKER_IO_HOST if host == DOCKER_IO else host}"
        self.secrets: set[str] = set()
        """What must be in no message."""
        self._until = time.monotonic() + PATIENCE
        # an adapter and no session: no ~/.netrc, no cookies, no redirects, whose bodies a session reads without a limit
        self._adapter = requests.adapters.HTTPAdapter()

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None = None,
        limit: int = LIMIT,
    ) -> Answer:
        """One question, asked again with growing waits while the answer is "later" or breaks off. Raises
        InfrastructureError."""
        who = self.host if origin(url) == origin(self.base) else f"{self.host}: {urlsplit(url).hostname}"
        left = self._until - time.monotonic()
        tries = backoff.Tries(who, backoff.Policy(tries=ATTEMPTS, total=left))
        while True:
            left = self._until - time.monotonic()
            if left <= 0:
                raise InfrastructureError(f"{who}: no whole answer within {PATIENCE:g} s; try again later")
            wait = 0.0
            try:
                seconds = min(TIMEOUT, left)
                answer = within(seconds, partial(self._once, method, url, headers, data, limit, seconds))
            except (_Broken, TimeoutError) as error:
                why = str(error)
            except _Final as error:
                raise InfrastructureError(f"{who}: {error}") from None
            else:
                if answer.status != 429 and answer.status < 500:
                    return answer
                why = f"HTTP {answer.status} {self.words(answer.body)}".rstrip()
                wait = retry_after(answer.headers.get("retry-after", ""), time.time())
                if answer.status == 429:
                    why = f"too many requests ({why}); {self.login()} for a higher limit"
            if not tries.again(why, wait):
                if tries.made < ATTEMPTS and wait:
                    raise InfrastructureError(f"{who}: {why}; it asks to wait {wait:.0f} s: run again then")
                raise InfrastructureError(f"{who}: {why} ({tries}); check the network and run again")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None,
        limit: int,
        seconds: float,
    ) -> Answer:
        local = loopback(urlsplit(url).netloc)
        sent = {"User-Agent": f"enginematrix/{__version__}", "Accept-Encoding": "identity", **headers}
        try:
            request = requests.Request(method, url, headers=sent, data=data).prepare()
            proxies = {} if local else requests.utils.get_environ_proxies(url)
            with self._adapter.send(
                request, stream=True, timeout=seconds, verify=certificates(), proxies=proxies
            ) as response:  # fmt: skip
                body = bytearray()
                # not iter_content, which would unpack what claims to be packed: digests and the limit are for what was sent
                for part in response.raw.stream(1 << 16, decode_content=False):
                    body += part
                    if len(body) > limit:
                        raise _Final(f"an answer of more than {limit >> 20} MiB, which no manifest needs")
                names = {name.lower(): value for name, value in response.headers.items()}
                return Answer(status=response.status_code, headers=names, body=bytes(body))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _kind(error) from None

    def login(self) -> str:
        """What gives Docker credentials for this registry."""
        return "`docker login`" + ("" if self.host == DOCKER_IO else f" {self.host}")

    def words(self, body: bytes) -> str:
        """What the registry says of an error, as "MANIFEST_UNKNOWN: manifest unknown"; '' when it does not say it in the
        protocol's form."""
        try:
            errors = json.loads(body)["errors"]
            said = [f"{item['code']}: {item.get('message', '')}".rstrip(": ") for item in errors[:3]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return ""
        return self.clean("; ".join(said))

    def clean(self, text: str) -> str:
        """Text of a stranger, fit to be shown: short, printable, without our credentials."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return "".join(char if char.isprintable() else "?" for char in text)[:300]


def certificates() -> str | bool:
    """The file with the authorities to trust: as requests and OpenSSL are told by the environment, else the system's, where
    companies put their own; requests' own when the system has none. Raises InfrastructureError."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if path := os.environ.get(name):
            if not os.access(path, os.R_OK):
                what = "cannot be read by this user" if os.path.lexists(path) else "no such file"
                raise InfrastructureError(f"{name}={path}: {what}; it is to name the authorities to trust")
            return path
    return next((path for path in BUNDLES if Path(path).exists()), True)


def retry_after(text: str, now: float) -> float:
    """Seconds that a Retry-After asks for: a number or a date; 0 when it says nothing that can be read."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, if it does so in time; else TimeoutError. Timeouts of sockets begin anew with each byte,
    so that a server which sends one now and then would hold us for ever; the thread that waits for it is left behind."""
    done: list[Any] = []

    def work() -> None:
        try:
            done.append((call(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s")
    value, error = done[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was made from, as requests and urllib3 wrap them."""
    for _ in range(10):
        if error is None:
            return
        yield error
        inner = [arg for arg in (*error.args, getattr(error, "reason", None)) if isinstance(arg, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__


def _kind(error: Exception) -> _Broken | _Final:
    """What happened, in our words: those of libraries may hold addresses."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _Final(
                f"its certificate is not trusted ({cause.verify_message}); name the right authorities in SSL_CERT_FILE"
            )
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _Final(f"no TLS ({cause.reason or 'handshake failed'})")
        if isinstance(cause, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader | UnicodeError):
            return _Final("an address or a header that HTTP cannot carry")
        if isinstance(cause, urllib3.exceptions.ProxyError):
            return _Broken("the proxy does not answer")
        if isinstance(cause, socket.gaierror):
            return _Broken("its name cannot be resolved")
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return _Broken(cause.strerror)
    if any(isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError) for cause in causes):
        return _Broken("no answer in time")
    return _Broken("the answer broke off")
