"""Where a job of a queue stands in its tree, and what its store remembers of that.

The id of a child is made of its parent's and its place, so that an attempt that spawns what an earlier
one spawned names the same job; with a key it is made of the root's and the key, so that equal keys of a
tree are one job. `life` is in it too: a job that is put back by `requeue`, or another one that has the
same id later, has other children.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from qanat._core.branch import Quorum, child_id, key_text
from qanat._core.store import bounds
from qanat._stores.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.branch import Key
    from qanat._core.store.values import StoredJob

TREE: Final = "qanat.tree"
"""Under this name the place in a tree is kept, among a job's metadata."""


class Scope(Struct, frozen=True):
    """What the ids of a job's children are made of.

    Attributes:
        job: The job's id.
        life: Tells this life of the job from others.
        root: The id of the job at the top of its tree.
        root_life: Tells that one's life from others.
        depth: How far it is below the root.
    """

    job: str
    life: str
    root: str
    root_life: str
    depth: int = 0

    def child(self, place: int | None, key: Key | None) -> str:
        """Return the id of a child by its place among those that the attempt spawns, or by its key."""
        if key is None:
            return child_id(self.job, f"{self.life}.{place}")
        return child_id(self.root, f"{key_text(key)}.{self.root_life}")

    def metadata(self, given: Mapping[str, Any] | None) -> bytes:
        """Return the metadata of a child as it is stored."""
        place = [self.root, self.root_life, self.depth + 1]
        return encode({**(given or {}), TREE: place}, most=bounds.METADATA_BYTES)


def scope_of(stored: StoredJob) -> Scope:
    """Return what the ids of a job's children are made of."""
    told = repr((stored.family, stored.put_at)).encode()
    life = blake2b(told, digest_size=4).hexdigest()
    place: Any = decode(stored.metadata).get(TREE) if stored.metadata else None
    if place is not None:
        root, root_life, depth = place
        return Scope(stored.id, life, str(root), str(root_life), int(depth))
    return Scope(stored.id, life, stored.id, life)


def read_metadata(data: bytes) -> dict[str, Any] | None:
    """Return the metadata that was handed in with a job; None if nothing was.

    Raises:
        SerialisationError: If it cannot be read.
    """
    if not data:
        return None
    metadata = decode(data, dict[str, Any])
    metadata.pop(TREE, None)
    return metadata or None


class After(Struct, frozen=True):
    """What is to be done once the last child of a job has ended.

    Attributes:
        name: The callback; "" if there is none, and only a `Quorum` is to be judged.
        gather: Whether it wants the values of the children.
        fails: Whether the job fails if a child failed that was spawned with `failure="fail"`.
        quorum: The share of children that have to be done; None without.
    """

    name: str
    gather: bool = False
    fails: bool = False
    quorum: float | None = None

    @property
    def text(self) -> str:
        """What a store keeps of it: the name, and after a question mark the rest."""
        words = [word for word, said in (("gather", self.gather), ("fail", self.fails)) if said]
        if self.quorum is not None:
            words.append(f"quorum={self.quorum!r}")
        return f"{self.name}?{'&'.join(words)}" if words or "?" in self.name else self.name


def read_after(text: str) -> After:
    """Return what a store kept."""
    if "?" not in text:
        return After(text)
    name, _, rest = text.rpartition("?")
    words = rest.split("&")
    quorum: float | None = None
    for word in words:
        if word.startswith("quorum="):
            try:
                quorum = Quorum(float(word[7:])).share
            except ValueError:
                quorum = None  # nobody else writes it
    return After(name, "gather" in words, "fail" in words, quorum)
