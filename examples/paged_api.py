"""Read an API page by page and have each document summed up, within what the API allows.

    python examples/paged_api.py                        # an API of its own, on loopback

The API allows so many requests and so many tokens in a window, and answers 429 beyond. What a summary
costs is estimated before it is asked for, and settled to what the answer says that it was.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import qanat
from servers import Api, serving

ESTIMATE = 200
"""Tokens that a summary may cost."""


def ask(port: int, path: str) -> Any:
    """Return the answer of the API; a 429 closes the run's lane until the API says."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return json.load(response)
    except HTTPError as error:
        if error.code == 429:
            raise qanat.throttle_from(error) from None
        raise


def page(cursor: int) -> int:
    """Read one page: the next page is a job of its own, and so is each document on this one."""
    job = qanat.current_job()
    found = ask(job.state, f"/documents?cursor={cursor}")
    if found["next"] is not None:
        job.spawn(found["next"], key=f"page {found['next']}")
    for document in found["ids"]:
        job.spawn(document, handler=summary, key=f"document {document}", metadata={"of page": cursor})
    return len(found["ids"])


def summary(document: int) -> str:
    """Have one document summed up, and settle what it cost."""
    job = qanat.current_job()
    found = ask(job.state, f"/summary?id={document}")
    job.charge("tokens", found["tokens"])
    return found["text"]


def main() -> int:
    """Read all pages and print what came of it."""
    budget = qanat.Budget("api", requests="30/2s", tokens="6000/2s", concurrency=8)
    with serving(Api) as port:
        outcomes = qanat.run(
            page, [0], state=port, limits=budget, cost=lambda item: {"tokens": ESTIMATE}, retry=2, concurrency=8
        )
    summaries = [outcome for outcome in outcomes if outcome.parent is not None and isinstance(outcome.value, str)]
    print(outcomes.summary())
    print(f"{len(summaries)} documents summed up; the API had to refuse {Api.refused} times")
    return 1 if outcomes.failed else 0


if __name__ == "__main__":
    sys.exit(main())
