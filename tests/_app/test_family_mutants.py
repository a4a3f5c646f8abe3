"""The model of trees finds the mistakes that they are prone to: each mutant here is caught."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.branch import Branch
from qanat._core.dispatcher.kinship import Kinship
from qanat._core.family import Family
from qanat.testing import virtual_time
from tests._app.test_family_properties import World, check_model, drawn, run
from tests._core.dispatcher.test_mutants import mutate

if TYPE_CHECKING:
    from collections.abc import Callable

MUTANTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "a callback waits for its children alone": (Family._final, "if branch.open_jobs or branch.late:", "if branch.open_jobs:"),
    "a complete tree does not tell the one above": (Family.look, "above.late -= 1", "pass"),
    "the callback of an earlier attempt stays": (
        Branch.renew, "self.callback = self.policies = self.spawned = None", "self.policies = None",
    ),
    "a quorum counts what failed": (Branch.verdict, "if done < failure.share", "if failed < failure.share"),
    "a policy is not waited for": (Family._final, "if branch.open_jobs:", "if not branch.open_jobs:"),
    "a callback keeps its slot": (Kinship._free, "dispatcher.running -= 1", "pass"),
    "a callback that failed is called once": (Kinship.finish, 'elif verdict.kind != "dead":', "elif False:"),
}  # fmt: skip


def check(seed: int) -> None:
    rng = random.Random(seed)
    world, roots = World(), [drawn(rng, 3) for _ in range(3)]
    with virtual_time("asyncio") as time:
        check_model(world, roots, time.run(run, world, roots, 2, []))


SEEDS = range(12)


@pytest.mark.slow
def test_no_mutant_is_found_where_there_is_none():
    for seed in SEEDS:
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch):
    function, old, new = MUTANTS[name]
    mutate(monkeypatch, function, old, new)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - however it shows
        for seed in SEEDS:
            check(seed)
