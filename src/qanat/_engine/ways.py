"""Where the value of a variable lies in a context, which is a mapping in the form of a tree.

CPython keeps it as a hash array mapped trie (Bagwell, "Ideal Hash Trees", 2001; PEP 567): nodes of up to 32
places, found by five bits of the variable's hash at a time. Whoever changes it copies the nodes on the way to
what is changed and shares the others.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context, ContextVar

_turns: dict[int, list[int]] = {}
"""By how many variables a context has: which of what each node refers to is the next one to the value.

Contexts with the same variables have their nodes alike. To look among all nodes each time made a run whose
handlers start a task each four times as slow with 40 variables, and with 300 ten times.
"""
_kinds: set[type] = set()
"""Types of nodes: nothing else is looked into."""
_referents = gc.get_referents


def way_to(variable: ContextVar[Any], value: object, context: Context) -> tuple[Any, tuple[Any, ...]]:
    """Return the mapping that a context is, and its nodes on the way to a variable's value but for the first.

    The mapping is None if the value is not found.
    """
    inner = _referents(context)
    if len(inner) == 1:
        size = len(context)
        # Of another context of this size, so they may lead elsewhere.
        way = _along(_turns.get(size, ()), value, inner)
        if way is None:
            turns = _turns[size] = _turns_to(variable, context)
            way = _along(turns, value, inner)
        if way is not None:
            return inner[0], way
    return None, ()


def _along(turns: Sequence[int], value: object, inner: list[Any]) -> tuple[Any, ...] | None:
    """Return the nodes of a mapping where a way goes along, without the first, if it leads to a value."""
    below = _referents(*_referents(*inner))
    way: tuple[Any, ...] = ()
    for turn in turns:
        if turn >= len(below):
            break
        node = below[turn]
        if node is value:
            return way
        if type(node) not in _kinds:
            break
        way = (*way, node)
        below = _referents(node)
    return None


def _turns_to(variable: ContextVar[Any], context: Context) -> list[int]:
    """Return which of what each node refers to is the next one to the value of a variable.

    With another value, the mapping has other nodes on the way to it and shares the rest.
    """
    changed = context.copy()
    changed.run(variable.set, object())
    one: list[Any] = _referents(*_referents(*_referents(context)))
    other: list[Any] = _referents(*_referents(*_referents(changed)))
    turns: list[int] = []
    while len(one) == len(other):
        turn = next((at for at, node in enumerate(one) if node is not other[at]), None)
        if turn is None:
            break
        turns.append(turn)
        kind: type[object] = type(cast("object", one[turn]))
        if kind is not type(other[turn]) or not kind.__name__.startswith("hamt_"):
            break
        _kinds.add(kind)
        one, other = _referents(one[turn]), _referents(other[turn])
    return turns
