"""The names of queues: kept as they are, unless a store cannot hold them."""

import re
from hashlib import blake2b
from typing import Final

_KEPT: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


def stored_name(name: object) -> str:
    """Return the name of a queue in the store.

    One that holds a colon, or anything else that names in a store cannot hold, has dashes in those places
    and ends in a digest, so that no two become the same.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a text, got {name!r}")
    if not name:
        raise ValueError("name must not be empty")
    if _KEPT.fullmatch(name):
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9._-]', '-', name)[:100]}-{digest}"
