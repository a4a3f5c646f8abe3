"""Crawl a web site: every page once, gently, and on again after a crash.

    python examples/crawler.py                          # a site of its own, on loopback
    python examples/crawler.py https://example.com/ --pages 100

Press Ctrl-C, or kill it with -9, and run it again: pages that were read are not read again.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import nullcontext
from functools import lru_cache
from html.parser import HTMLParser
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen
from urllib.robotparser import RobotFileParser

import qanat
from servers import Site, serving

AGENT = "qanat-example"


class Links(HTMLParser):
    """The links and the title of a page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[str] = []
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title"
        address = dict(attrs).get("href")
        if tag == "a" and address:
            self.found.append(urldefrag(urljoin(self.base, address)).url)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def host(url: str) -> str:
    """Return the lane of a page: each host has its own."""
    return urlsplit(url).netloc


def politeness(_host: str) -> list[qanat.Limit]:
    """Return what holds for each host: two at once, and 50 a second."""
    return [qanat.Concurrency(2), qanat.SlidingWindow(50, 1.0)]


@lru_cache(maxsize=1000)
def robots(root: str) -> RobotFileParser:
    """Return the rules of a host, read once."""
    rules = RobotFileParser(f"{root}/robots.txt")
    rules.read()
    return rules


def visit(url: str) -> str:
    """Read a page, hand in what it links to, and return its title."""
    job = qanat.current_job()
    parts = urlsplit(url)
    if not robots(f"{parts.scheme}://{parts.netloc}").can_fetch(AGENT, url):
        raise qanat.Discard("robots.txt does not want it read")
    job.describe(f"reads {parts.path}")
    try:
        with urlopen(Request(url, headers={"User-Agent": AGENT}), timeout=20) as response:
            kind: str = response.headers.get_content_type()
            if kind != "text/html":
                return kind
            coding: str = response.headers.get_content_charset() or "utf-8"
            text = response.read(5_000_000).decode(coding, "replace")
    except HTTPError as error:
        if error.code in {429, 503}:
            raise qanat.throttle_from(error) from None
        if error.code < 500:
            raise qanat.Discard(f"the server says {error.code}") from None
        raise
    links = Links(url)
    links.feed(text)
    for link in links.found:
        if urlsplit(link).scheme in {"http", "https"} and host(link) in job.state:
            job.spawn(link, key=link)
    return links.title


def main() -> int:
    """Crawl what the command line says."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("start", nargs="*", help="where to begin; none: a site of its own on loopback")
    options.add_argument("--pages", type=int, default=1_000, help="how many pages at most")
    options.add_argument("--depth", type=int, default=20, help="how far from the start")
    options.add_argument("--journal", default="crawl.db", help="what was read, for the next run")
    options.add_argument("--port", type=int, help="crawl the site that is served at this port of loopback")
    given = options.parse_args()
    own = not given.start and given.port is None
    with serving(Site) if own else nullcontext(given.port) as port:
        start = given.start or [f"http://127.0.0.1:{port}/page/0"]
        hosts = {host(url) for url in start}
        if port is not None:
            hosts.add(f"localhost:{port}")
        outcomes = qanat.run(
            visit, start, key=lambda url: url, lane=host, lane_limits=politeness, concurrency=16,
            retry=qanat.Retry(3, on=(URLError, TimeoutError)), timeout=30, max_jobs=given.pages,
            max_depth=given.depth, journal=given.journal, state=hosts,
        )  # fmt: skip
    by_host = Counter(host(outcome.item) for outcome in outcomes if outcome.ok)
    print(outcomes.summary())
    for name, number in sorted(by_host.items()):
        print(f"{number:,} pages of {name}")
    discarded = Counter(str(outcome.error) for outcome in outcomes.failed)
    for reason, number in discarded.most_common():
        print(f"{number:,} not read: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
