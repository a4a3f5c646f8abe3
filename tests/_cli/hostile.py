"""A queue whose every text tries to take over the terminal, and what no command may print."""

from __future__ import annotations

import re

import qanat
from qanat._core.store.values import NewJob, Settle

EVIL = "\x1b[2J\x1b]0;own\x07\x1b]52;c;aGk=\x07\u202egpj\nforged\r\u200b\x9b31m\x7f"
"""Clears the screen, sets the title and the clipboard, turns the writing, forges a line."""
EVIL_ID = "evil" + EVIL

OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]")
"""Every control but the line feed, and what hides or turns text."""


def fill(url: str) -> dict[str, str]:
    """Make a queue with a job in every state, and return their ids by their states."""
    with qanat.open(url) as store:
        queue = store.queue("emails", unique="active", keep=3600.0, max_attempts=3, lease=600.0)
        ids: dict[str, str] = {}
        for state in ("done", "dead", "waiting", "retried", "leased"):
            queue.put({"text": EVIL}, id=f"{state}{EVIL}", lane=EVIL, key=f"{state}{EVIL}")
            (job,) = queue.lease()
            ids[state] = job.id
            error = f"Traceback (most recent call last):\n  in {EVIL}\nValueError: {EVIL}"
            settle = {
                "done": Settle(id=job.id, token=job.token, kind="done", value=b'"\\u001b[2J"'),
                "dead": Settle(id=job.id, token=job.token, kind="dead", reason=EVIL, error=error),
                "waiting": Settle(
                    id=job.id, token=job.token, kind="done", after=EVIL, children=(NewJob(id=EVIL_ID),)
                ),
                "retried": Settle(id=job.id, token=job.token, kind="retry", delay=600.0, error=error),
            }.get(state)
            if settle is not None:
                store.carry(queue._asking.settle([settle]), "emails")
            elif state == "leased":
                store.carry(queue._asking.extend([job]), "emails")
            if state == "waiting":
                queue.cancel(EVIL_ID)  # so its parent goes on with its callback
        ids["ready"] = queue.put([EVIL], lane=EVIL, handler=EVIL, metadata={EVIL: EVIL}).id
        return ids
