"""`qanat replay`: every decision of a recording once more."""

from __future__ import annotations

import json

from msgspec import structs

from qanat._app.replaying import replay
from qanat._cli.usage import UsageError


def run_replay(path: str, *, as_json: bool) -> int:
    """Replay a recording; the exit status is 1 if a decision is another one now.

    Raises:
        UsageError: If the file is not enough to replay it.
        InputError: If it cannot be read, or is of another format.
    """
    try:
        found = replay(path)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    print(json.dumps(structs.asdict(found)) if as_json else found)
    return 0 if found.difference is None else 1
