"""Take out of a text what names this machine or its user, before it goes to somebody else: folders, secrets, credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from builder.diagnose_text import clean

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH", re.IGNORECASE)
_LOOKS_SECRET = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}|nvapi-[\w-]{20,}|AKIA[0-9A-Z]{16}|"
    r"xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})|(?i:(?:(?:authorization|bearer)[:= ]+)+[\w.~+/=-]{8,})"
)
_HOME = re.compile(r"(?<![\w.])~[\w.-]*/(?:[\w.+@~%-]+/)*")
MARK = "***"


def scrub(text: str, environ: Mapping[str, str] | None = None) -> str:
    """`text` without folders (files keep their names), credentials in addresses, what looks like a token, and the values of the
    environment's variables whose names say that they are secret."""
    env = os.environ if environ is None else environ
    for name, value in sorted(env.items(), key=lambda item: -len(item[1])):
        if len(value) >= 6 and _SECRET.search(name):
            text = text.replace(value, MARK)
    return clean(_HOME.sub("", _LOOKS_SECRET.sub(MARK, text)))
