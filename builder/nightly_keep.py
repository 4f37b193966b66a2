"""What each night leaves for the next one: with which run it ended, what it covered, how it exited. A table of the results
database, made by the first night (docs/nightly.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builder.store import Store

_TABLE = "create table if not exists nights (id text primary key, started text not null, record text not null)"


def put(store: Store, night: str, started: str, record: Mapping[str, Any]) -> None:
    """Keep a night. Raises InfrastructureError."""
    row = (night, started, json.dumps(record, sort_keys=True))
    store.write_all([(_TABLE, [()]), ("insert or replace into nights values (?,?,?)", [row])])


def nights(store: Store, select: str, matrix: str) -> list[dict[str, Any]]:
    """The nights of a selection of a matrix (by its name), in the order in which they were kept: clocks are set back."""
    if not store.read("select 1 from sqlite_master where name = 'nights'"):
        return []
    rows = store.read("select id, started, record from nights order by rowid")
    found = [{**json.loads(record), "id": night, "started": started} for night, started, record in rows]
    return [night for night in found if (night.get("select"), night.get("matrix")) == (select, matrix)]
