"""The options of a queue: which are fixed in the store, and which are this handle's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

from msgspec import Struct
from msgspec.structs import replace

from qanat._core.arguments import positive, whole
from qanat._core.shown import shown
from qanat._core.store import bounds, rules
from qanat._core.store.values import Conf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.store.values import Unique

_FIXED: Final = ("unique", "max_attempts", "max_age", "keep")
_OWN: Final = ("lease", "type", "replicas", "durable")


class QueueArgs(TypedDict, total=False):
    """Every option of a queue but its type."""

    unique: Unique
    lease: float
    max_attempts: int | None
    max_age: float | None
    keep: float
    replicas: int
    durable: bool


class RotationArgs(TypedDict, total=False):
    """Every option of a rotation but its intervals and its type."""

    lease: float
    replicas: int
    durable: bool


class Options(Struct, frozen=True, kw_only=True):
    """What a handle of a queue was opened with.

    Attributes:
        conf: What is fixed in the store at first use; None if nothing of it was given.
        given: The names of what was given of it.
        lease: Seconds of its leases.
        type: What items are read as.
        replicas: How many replicas must have what is put.
        durable: Whether what is put must be on disk.
    """

    conf: Conf | None
    given: tuple[str, ...]
    lease: float = 30.0
    type: Any = Any
    replicas: int = 0
    durable: bool = False


def checked_options(options: Mapping[str, Any]) -> Options:
    """Return the options of a call.

    Raises:
        TypeError: If there is no such option, or a value is of the wrong kind.
        ValueError: If a value is out of range.
    """
    known = (*_FIXED, *_OWN)
    for name in options:
        if name not in known:
            raise TypeError(f"{name!r} is not an option of a queue; the options are {', '.join(known)}")
    fixed = {name: options[name] for name in _FIXED if name in options}
    conf = Conf(**fixed) if fixed else None
    if conf is not None:
        bounds.check_conf(conf)
    lease = positive("lease", options.get("lease", 30.0))
    bounds.check_seconds("lease", lease, above=True)
    replicas = whole("replicas", options.get("replicas", 0), 0)
    bounds.check_whole("replicas", replicas, 0, bounds.LARGEST)
    durable = options.get("durable", False)
    if not isinstance(durable, bool):
        raise TypeError(f"durable must be True or False, got {shown(durable)}")
    kind = options.get("type")
    return Options(
        conf=conf, given=tuple(fixed), lease=lease, type=Any if kind is None else kind, replicas=replicas,
        durable=durable,
    )  # fmt: skip


ROTATING: Final = Conf(order="due", max_attempts=None, max_crashes=None, keep_dead=0.0)
"""What a rotation is set to: who is longest overdue comes first, and nothing ends an item but its removal."""


def is_rotation(held: Conf) -> bool:
    """Say whether what is set so is a rotation."""
    return held.order == "due"


def rotation_options(options: Mapping[str, Any]) -> Options:
    """Return the options of a rotation, but for those that are its own; errors as `checked_options`."""
    for name in options:
        if name not in _OWN:
            known = ", ".join(("every", "jitter", *_OWN))
            raise TypeError(f"{name!r} is not an option of a rotation; the options are {known}")
    return replace(checked_options(options), conf=ROTATING, given=("order",))


def check_same(queue: str, options: Options, held: Conf) -> None:
    """Check that what was given is what the queue was set to at its first use.

    Raises:
        ValueError: If something differs.
    """
    if options.conf is None:
        return
    if is_rotation(options.conf) and not is_rotation(held):
        raise ValueError(f"name must be that of a rotation, and {queue!r} is a queue: take another name")
    for name in rules.differences(options.conf, held):
        if name in options.given:
            raise ValueError(
                f"{name} must be {getattr(held, name)!r}, as queue {queue!r} was set at its first use, got "
                f"{getattr(options.conf, name)!r}: leave it out, or take another queue"
            )
