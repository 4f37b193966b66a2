"""What a build is lent and must not keep: certificates, logins of package indexes.

They reach a RUN as files of BuildKit's secret mounts, which are in no layer, no history and no cache key. Whatever was
read here is also struck out of logs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import netrc
import os
import re
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InfrastructureError

_LOGIN = re.compile(r"://([^/\s\"'@]+)@")
_SHORT = 3
"""A text of fewer characters is no secret worth hiding: it would be struck out of every word."""


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Secret id -> file, and the texts in them that no log may hold."""

    files: Mapping[str, Path] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """As `--secret` and bake files take them: CSV, so a path may hold a comma."""
        return [f"id={name},{csv(f'src={path}')}" for name, path in self.files.items()]

    def hide(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return _LOGIN.sub("://***@", text)


def csv(value: str) -> str:
    """A field as the docker command's --secret and --mount take it, whatever commas and quotes are in it."""
    return '"' + value.replace('"', '""') + '"' if re.search(r'[",\n]', value) else value


@contextlib.contextmanager
def lent(environ: Mapping[str, str]) -> Iterator[Secrets]:
    """The secrets of this machine: `certificates` (SSL_CERT_FILE), `netrc` (NETRC or ~/.netrc), `uv-config` (the user's
    uv.toml, and the indexes that variables name; a file of mode 0600 that is gone afterwards).

    Raises InfrastructureError for a uv.toml that cannot be read."""
    files: dict[str, Path] = {}
    hidden: set[str] = set()
    home = Path(environ.get("HOME") or "/nonexistent")
    # os.path.isfile, since a folder that this user may not enter (HOME is root's, after `su`) is no error: nothing is lent
    certificates = Path(environ.get("SSL_CERT_FILE") or "/nonexistent")
    if os.path.isfile(certificates):  # noqa: PTH113
        files["certificates"] = certificates
    logins = Path(environ.get("NETRC") or home / ".netrc")
    if os.path.isfile(logins):  # noqa: PTH113
        files["netrc"] = logins
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            hidden |= {password for _, _, password in netrc.netrc(str(logins)).hosts.values() if password}
    for value in environ.values():
        hidden |= _logins(value)
    config = uv_config(environ, home)
    hidden |= _logins(config)
    ordered = tuple(sorted((text for text in hidden if len(text) >= _SHORT), key=len, reverse=True))
    if not config:
        yield Secrets(files=files, hidden=ordered)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "uv.toml")
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(config)
        yield Secrets(files={**files, "uv-config": target}, hidden=ordered)


def _logins(text: str) -> set[str]:
    """Passwords in addresses, as they stand and decoded; also where a quote or an `@` in one was left as it is."""
    found = set()
    words = [re.split(r"[/?#]", word.partition("://")[2])[0] for word in text.split() if "://" in word]
    for login in {*_LOGIN.findall(text), *(word.rpartition("@")[0] for word in words if "@" in word)}:
        password = login.partition(":")[2] or login
        found |= {login, password, urllib.parse.unquote(password)}
    return found


# uv's configuration ------------------------------------------------------------------------------------------------

_DEFAULT = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_FURTHER = ("UV_INDEX", "UV_EXTRA_INDEX_URL")
_PLAIN = {"UV_INDEX_STRATEGY": "index-strategy"}


def uv_config(environ: Mapping[str, str], home: Path) -> str:
    """The uv.toml for a build, "" for none: the user's own as it is, or, where variables name indexes, one with these before
    the user's. pip's variables count where nothing names an index for uv. Raises InfrastructureError."""
    source = _uv_toml(environ, home)
    try:
        own = source.read_text(encoding="utf-8") if source else ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{source}: cannot be read: {error}"
        raise InfrastructureError(msg) from error
    default = next((environ[name] for name in _DEFAULT if environ.get(name)), "")
    further = [word for name in _FURTHER for word in environ.get(name, "").split()]
    hosts = environ.get("UV_INSECURE_HOST", "").split()
    plain = {key: environ[name] for name, key in _PLAIN.items() if environ.get(name)}
    logins = any(value and re.fullmatch(r"UV_INDEX_.+_(USERNAME|PASSWORD)", name) for name, value in environ.items())
    if not (default or further or hosts or plain or (own and logins)):
        if own:
            return own
        default = environ.get("PIP_INDEX_URL", "")
        further = environ.get("PIP_EXTRA_INDEX_URL", "").split()
        hosts = environ.get("PIP_TRUSTED_HOST", "").split()
        if not (default or further or hosts):
            return ""
    data = _parsed(own, source) if own else {}
    if default:
        data.pop("index-url", None)
    indexes = [_index(word, environ) for word in further]
    if default:
        indexes.append({**_index(default, environ), "default": True})
    for index in data.get("index", ()):
        if not (default and index.get("default")):
            indexes.append(
                {**index, "url": _with_login(str(index.get("url", "")), str(index.get("name", "")), environ)}
            )
    data["index"] = indexes
    data["allow-insecure-host"] = [*hosts, *data.get("allow-insecure-host", ())]
    return _toml({**data, **plain})


def _uv_toml(environ: Mapping[str, str], home: Path) -> Path | None:
    """As uv looks for it: UV_CONFIG_FILE, the user's, the system's (docs.astral.sh/uv/concepts/configuration-files)."""
    if environ.get("UV_NO_CONFIG"):
        return None
    if environ.get("UV_CONFIG_FILE"):
        return Path(environ["UV_CONFIG_FILE"])
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = (user / "uv" / "uv.toml", Path("/etc/xdg/uv/uv.toml"), Path("/etc/uv/uv.toml"))
    return next((path for path in places if os.path.isfile(path)), None)  # noqa: PTH113


def _parsed(text: str, source: Path | None) -> dict[str, Any]:
    try:
        tomllib = importlib.import_module("tomllib")
    except ImportError:  # Python 3.10
        msg = f"variables name package indexes, and so may {source}: reading both needs Python 3.11; use one of them"
        raise InfrastructureError(msg) from None
    try:
        return dict(tomllib.loads(text))
    except ValueError as error:
        msg = f"{source}: not TOML: {error}"
        raise InfrastructureError(msg) from error


def _index(word: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """`name=https://...` or an address, as uv's variables have it."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", word)
    if match is None:
        return {"url": word}
    return {"name": match[1], "url": _with_login(match[2], match[1], environ)}


def _with_login(url: str, name: str, environ: Mapping[str, str]) -> str:
    """With the login that UV_INDEX_<NAME>_USERNAME and _PASSWORD give."""
    prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    user, password = environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")
    if not name or not (user or password) or _LOGIN.search(url):
        return url
    quoted = urllib.parse.quote(user, safe="") + (f":{urllib.parse.quote(password, safe='')}" if password else "")
    return url.replace("://", f"://{quoted}@", 1)


def _toml(data: Mapping[str, Any]) -> str:
    """Of what uv's configuration has: texts, truths, numbers, lists, tables. JSON's texts are TOML's."""
    flat = {key: value for key, value in data.items() if not isinstance(value, Mapping) and not _tables(value)}
    lines = [f"{json.dumps(key)} = {_value(value)}" for key, value in flat.items() if value not in ([], None)]
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines.append(f"{json.dumps(key)} = {_value(value)}")
    for key, value in data.items():
        if _tables(value):
            for table in value:
                lines += [f"[[{key}]]", *(f"{json.dumps(name)} = {_value(inner)}" for name, inner in table.items())]
    return "\n".join(lines) + "\n"


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    return json.dumps(value) if isinstance(value, str | bool | int | float) else json.dumps(str(value))
