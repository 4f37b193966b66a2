"""One registry over HTTP: the distribution protocol's GET, with its ways to authenticate, and nothing believed unchecked.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md; tokens:
https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/.

HTTPS always; plain HTTP for this machine itself only. Credentials come from Docker's own configuration, go to that registry
and to the HTTPS address of its token service, and to nobody whom a redirect names. No message holds a credential, an address
with a query (which may be signed), or the text of a library's exception (which may hold either).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import urllib.request
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from docker import auth

from builder.environment.reference import loopback
from builder.environment.transport import TIMEOUT, Answer, Transport, origin, within
from builder.errors import InfrastructureError

#: Bytes of a token service's answer.
TOKEN_LIMIT = 1 << 20
REDIRECTS = 5


class NotThere(Exception):
    """The registry says, in its own words, that it has no such thing."""


class Registry:
    """A registry, as asked for the repositories of one image; for one thread, and for PATIENCE seconds from now on."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._http = Transport(host)
        self._authorization: dict[str, str] = {}

    def manifest(self, repository: str, wanted: str, accept: str) -> tuple[bytes, str, str]:
        """A manifest or index by tag or digest: its bytes, its digest, which they have, and its media type. Raises NotThere,
        InfrastructureError."""
        answer = self._get(f"{repository}/manifests/{wanted}", repository, accept)
        asked = wanted if wanted.startswith("sha256:") else ""
        found = self._checked(answer, asked, repository)
        return answer.body, found, answer.headers.get("content-type", "").partition(";")[0].strip()

    def blob(self, repository: str, digest: str) -> bytes:
        """A small blob. Raises NotThere, InfrastructureError."""
        answer = self._get(f"{repository}/blobs/{digest}", repository, "*/*")
        self._checked(answer, digest, repository)
        return answer.body

    def _checked(self, answer: Answer, asked: str, repository: str) -> str:
        """The digest of a body, which is the one asked for and the one that the registry claims, where there are such."""
        found = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        claimed = answer.headers.get("docker-content-digest", "")
        for promised in (asked, claimed if claimed.startswith("sha256:") else ""):
            if promised and promised != found:
                said = f"promised {self._http.clean(promised)} and sent {found}"
                raise InfrastructureError(f"{self.host}: {repository}: {said}: a broken proxy, or worse")
        return found

    # Asking --------------------------------------------------------------------------------------------------------

    def _get(self, path: str, repository: str, accept: str) -> Answer:
        """GET below /v2/, authenticated when the registry asks for it."""
        url = f"{self._http.base}/v2/{path}"
        for attempt in (1, 2):
            answer = self._followed(url, {"Accept": accept, **self._authorization})
            if answer.status != 401 or attempt == 2:
                break
            self._authorization = {
                "Authorization": self._authenticate(answer.headers.get("www-authenticate", ""), repository)
            }
        words = self._http.words(answer.body)
        if answer.status == 200:
            return answer
        if answer.status == 404 and (words or self._is_registry()):
            raise NotThere(words or "HTTP 404")
        if answer.status in (401, 403):
            raise InfrastructureError(
                f"{self.host}: {repository}: access refused ({words or answer.status}); {self._http.login()}"
            )
        if answer.status == 404:
            raise InfrastructureError(
                f"{self.host}: answers as a web server, not as a registry; check its name or the mirror"
            )
        raise InfrastructureError(f"{self.host}: {repository}: HTTP {answer.status} {words}".rstrip())

    def _is_registry(self) -> bool:
        answer = self._followed(f"{self._http.base}/v2/", dict(self._authorization))
        return answer.status in (200, 401) or "docker-distribution-api-version" in answer.headers

    def _followed(self, url: str, headers: Mapping[str, str]) -> Answer:
        """GET, through redirects (registries hand blobs to storage services): to HTTPS only, and without the Authorization
        as soon as it is another host's."""
        sent = dict(headers)
        for _ in range(REDIRECTS):
            answer = self._http.ask("GET", url, sent)
            location = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                if answer.status == 401 and origin(url) != origin(self._http.base):
                    # what it asks for is not answered: its token service would be whoever's
                    msg = f"{self.host}: {urlsplit(url).hostname}, where it redirects to, refuses access"
                    raise InfrastructureError(msg)
                return answer
            target = self._allowed(url, location, "redirects to")
            if origin(target) != origin(url):
                sent.pop("Authorization", None)
            url = target
        raise InfrastructureError(f"{self.host}: redirects more than {REDIRECTS} times")

    def _allowed(self, url: str, target: str, does: str) -> str:
        """The address that an answer of `url` sends us to. Raises InfrastructureError for one where it may not."""
        try:
            target = urljoin(url, target)
            parts = urlsplit(target)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if not host or "@" in parts.netloc:
            raise InfrastructureError(f"{self.host}: {does} an address that is none")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._http.plain and loopback(parts.netloc)):
            msg = f"{self.host}: {does} {parts.scheme}://{host}, which is not HTTPS; nothing was sent there"
            raise InfrastructureError(self._http.clean(msg))
        return target

    # Authentication ------------------------------------------------------------------------------------------------

    def _authenticate(self, header: str, repository: str) -> str:
        """The Authorization that a challenge asks for. Raises InfrastructureError."""
        found = challenges(header)
        if "bearer" in found:
            return f"Bearer {self._token(found['bearer'], repository)}"
        if "basic" in found:
            login = self._basic(self._credentials())
            if login:
                return login
            raise InfrastructureError(f"{self.host}: {repository}: asks for a user; {self._http.login()}")
        raise InfrastructureError(
            f"{self.host}: {repository}: asks for a kind of authentication that is neither Bearer nor Basic"
        )

    def _token(self, challenge: Mapping[str, str], repository: str) -> str:
        """Ask the registry's token service, anonymously where Docker has no credentials for the registry."""
        parts = urlsplit(self._allowed("", challenge.get("realm", ""), "names a token service at"))
        # nvcr.io has a scope in the realm itself, with push (seen in https://issues.apache.org/jira/browse/MESOS-10092)
        query = dict(parse_qsl(parts.query))
        scope = challenge.get("scope", "")
        query["scope"] = scope if scope.endswith(":pull") and " " not in scope else f"repository:{repository}:pull"
        if challenge.get("service"):
            query["service"] = challenge["service"]
        place = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        known = self._credentials()
        if known.get("identity"):
            form = {
                **query, "grant_type": "refresh_token", "refresh_token": known["identity"], "client_id": "enginematrix",
            }  # fmt: skip
            answer = self._http.ask("POST", place, {}, form, TOKEN_LIMIT)
        else:
            login = self._basic(known)
            headers = {"Authorization": login} if login else {}
            answer = self._http.ask("GET", f"{place}?{urlencode(query)}", headers, None, TOKEN_LIMIT)
        if answer.status != 200:
            words = self._http.words(answer.body) or f"HTTP {answer.status}"
            whose = "the credentials in Docker's configuration" if known else "a pull without login"
            raise InfrastructureError(
                f"{self.host}: {repository}: its token service refuses {whose} ({words}); {self._http.login()}"
            )
        try:
            data = json.loads(answer.body)
            token = data.get("token") or data.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise InfrastructureError(f"{self.host}: {repository}: its token service gives no token")
        self._http.secrets.add(token)
        return token

    def _credentials(self) -> dict[str, str]:
        """{"user", "password"}, {"identity"} or {}, from Docker's configuration. Raises InfrastructureError."""
        try:
            config = auth.load_config()
            helper = auth.get_credential_store(config, self.host)
            if helper and shutil.which(f"docker-credential-{helper}") is None:
                msg = f"{self.host}: Docker keeps its credentials with docker-credential-{helper}, which is not on PATH"
                raise InfrastructureError(msg)
            found = within(TIMEOUT, lambda: config.resolve_authconfig(self.host)) or {}
        except InfrastructureError:
            raise
        except Exception as error:  # ValueError, DockerException, TypeError...: a damaged file, a helper that fails
            kind = type(error).__name__
            msg = (
                f"{self.host}: its credentials in Docker's configuration cannot be read ({kind}); {self._http.login()}"
            )
            raise InfrastructureError(msg) from None
        lower = {str(name).lower(): value for name, value in found.items()}
        out = {}
        if lower.get("identitytoken"):
            out = {"identity": str(lower["identitytoken"])}
        elif lower.get("username"):
            out = {"user": str(lower["username"]), "password": str(lower.get("password") or "")}
        self._http.secrets |= {value for name, value in out.items() if name != "user" and value}
        return out

    def _basic(self, known: Mapping[str, str]) -> str:
        if not known.get("user"):
            return ""
        text = base64.b64encode(f"{known['user']}:{known['password']}".encode()).decode()
        self._http.secrets.add(text)
        return f"Basic {text}"


def challenges(header: str) -> dict[str, dict[str, str]]:
    """`Bearer realm="https://...",service="x", Basic realm="y"` -> {"bearer": {"realm": ..., "service": ...}, "basic": ...}."""
    out: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for item in urllib.request.parse_http_list(header):
        match = re.fullmatch(r"(?:([A-Za-z0-9-]+)(?: +|$))?(?:([A-Za-z0-9_-]+)=(.*))?", item.strip(), re.DOTALL)
        if match is None:
            continue
        if match[1]:
            current = out.setdefault(match[1].lower(), {})
        if match[2]:
            value = match[3].strip()
            current[match[2].lower()] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return out
