"""What a user would write: the program that `qanat demo` runs and shows."""

from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import qanat

# Straight to the server: it is on this machine, whatever proxy is set.
opener = build_opener(ProxyHandler({}))


def fetch(url: str) -> int:
    """Return the size of a page."""
    try:
        with opener.open(url, timeout=5) as answer:
            return len(answer.read())
    except HTTPError as error:
        error.close()
        if error.code == 429:  # the server asks for a pause
            raise qanat.Throttled(error.headers["Retry-After"]) from None
        if error.code == 404:  # trying again would not help
            raise qanat.Discard("there is no such page") from None
        raise


def crawl(urls: list[str], file: str) -> qanat.Outcomes[str, int]:
    """Fetch all pages gently, and after a crash those that are left."""
    rules = qanat.Rules(concurrency=20, rate="40/s", retry=4, timeout=10)
    return qanat.run(fetch, urls, rules=rules, journal=file, progress=True)
