"""A job as users see it, whatever its record says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qanat._app.durable.queue_job import QueueJob, of_stored
from qanat._core.store.values import StoredJob

SAID: dict[str, Any] = {
    "body": b"1", "handler": "h", "lane": "l", "priority": -1.0, "key": "", "metadata": b"{}", "attempt": 3,
    "crashes": 2, "token": 7, "worker": "w", "note": "n", "put_at": 1.0, "due_at": 2.0, "started_at": 3.0,
    "ended_at": 0.0, "value": b"", "reason": "r", "error": "e", "parent": "",
}  # fmt: skip
HIDDEN = {"metadata": "_metadata", "value": "_value"}


@pytest.mark.parametrize("state", ["leased", "ready"])
@pytest.mark.parametrize("name", [None, *SAID])
def test_what_a_record_says_is_seen(name: str | None, state: Any):
    given = {} if name is None else {name: SAID[name]}
    job = of_stored(StoredJob(id="a", state=state, **given), int)
    defaults = {field.name: field.default for field in msgspec.structs.fields(QueueJob)}
    token = SAID["token"] if name == "token" and state == "leased" else 0
    wanted = {**defaults, "id": "a", "state": state, "put_at": 0.0, "_type": int}
    wanted |= {HIDDEN.get(each, each): value for each, value in given.items()} | {"token": token}
    assert {field: getattr(job, field) for field in defaults} == wanted
