"""Read an API page by page and have each document summed up, within what the API allows.

    python examples/paged_api.py                        # an API of its own, on loopback
    python examples/paged_api.py --others 12            # others use part of what it allows

The API allows so many requests and so many tokens in a window, and answers 429 beyond. What a summary
costs is estimated before it is asked for, and settled to what the answer says that it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import qanat
from servers import Api, serving

ESTIMATE = 280
"""Tokens that a summary may cost; rather too high, as what was not used is given back."""

# Straight to the server: it is on this machine, whatever proxy is set.
opener = build_opener(ProxyHandler({}))


class Page(NamedTuple):
    """A page of the list of documents."""

    cursor: int


class Document(NamedTuple):
    """A document that is to be summed up."""

    number: int


def estimate(item: Page | Document) -> dict[str, float]:
    """Return what a job may cost; that it is a request is counted by itself."""
    return {"tokens": ESTIMATE if isinstance(item, Document) else 0}


def ask(path: str) -> Any:
    """Return the answer of the API; a 429 closes the whole budget for as long as it says."""
    port = qanat.current_job().state
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return json.load(response)
    except HTTPError as error:
        error.close()
        if error.code == 429:
            raise qanat.throttle_from(error, limit="api") from None
        raise


def read_page(page: Page) -> int:
    """Read one page: the next one is a job of its own, and so is each document on this one."""
    job = qanat.current_job()
    found = ask(f"/documents?cursor={page.cursor}")
    if found["next"] is not None:
        job.spawn(Page(found["next"]))
    for number in found["ids"]:
        job.spawn(Document(number), handler=sum_up)
    return len(found["ids"])


def sum_up(document: Document) -> str:
    """Have one document summed up, and settle what that cost."""
    found = ask(f"/summary?id={document.number}")
    qanat.current_job().charge("tokens", found["tokens"])
    text: str = found["text"]
    return text


def main() -> int:
    """Read all pages and print what came of it."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--documents", type=int, default=Api.documents, help="how many there are")
    options.add_argument("--others", type=int, default=0, help="requests of others in each window")
    given = options.parse_args()
    if given.documents < 0:
        options.error(f"--documents must be at least 0, got {given.documents}")
    if not 0 <= given.others < Api.requests:
        options.error(f"--others must be from 0 to {Api.requests - 1}, got {given.others}")
    Api.documents, Api.others = given.documents, given.others
    window = f"{Api.window}s"
    budget = qanat.Budget("api", requests=f"{Api.requests}/{window}", tokens=f"{Api.tokens}/{window}")
    with serving(Api) as port:
        outcomes: qanat.Outcomes[Any, Any] = qanat.run(
            read_page, [Page(0)],
            limits=budget, cost=estimate, concurrency=8, retry=qanat.Retry(3, on=OSError), state=port,
        )  # fmt: skip
    summaries = {
        outcome.item.number: outcome.value
        for outcome in outcomes
        if outcome.ok and isinstance(outcome.item, Document)
    }
    for number, text in sorted(summaries.items())[:3]:
        print(f"{number}: {text}")
    pages = sum(outcome.ok and isinstance(outcome.item, Page) for outcome in outcomes)
    print(f"{len(summaries)} documents of {pages} pages summed up")
    if not sys.stderr.isatty():  # where the live view has said it
        print(outcomes.summary())
    for outcome in outcomes.failed:
        print(f"{outcome.item}: {outcome.error}", file=sys.stderr)
    requests, tokens = Api.most["requests"], Api.most["tokens"]
    print(f"the API counted at most {requests} requests and {tokens:,} tokens in a window")
    print(f"and refused {Api.refused} of {Api.asked} requests")
    return 1 if outcomes.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
