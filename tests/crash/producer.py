"""A process that puts jobs until it is killed, or has put enough, and writes down what it was told.

python -m tests.crash.producer URL QUEUE NAME NUMBER SECONDS BATCH
"""

from __future__ import annotations

import sys
import time

import qanat
from qanat.errors import PutUnknown, StoreFull, StoreUnavailable
from tests.crash.app import diary, sum_of


def main(url: str, name: str, who: str, number: str, seconds: str, batch: str) -> None:
    items = [{"n": each, "do": "nap", "with": float(seconds)} for each in range(int(number))]
    size = int(batch)
    with qanat.open(url) as store:
        queue = store.queue(name, keep=3600.0)
        for begin in range(0, len(items), size):
            part = items[begin : begin + size]
            told = [(f"{who}-{item['n']}", 0, sum_of(item)) for item in part]
            diary.tell("put", *told)
            while True:
                try:
                    queue.put_many(part, id=lambda item: f"{who}-{item['n']}")
                except PutUnknown:
                    diary.tell("put-unknown", *told)
                except StoreFull:
                    diary.tell("put-full", *told)
                except StoreUnavailable:
                    pass
                else:
                    diary.tell("put-ok", *told)
                    break
                time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
