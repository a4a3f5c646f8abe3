"""Errors of stores: they carry their facts, and cross processes."""

import pickle

import pytest

from qanat import errors


@pytest.mark.parametrize(
    ("error", "facts", "text"),
    [
        (errors.LeaseLost(["a", "b"]), {"ids": ("a", "b")}, "the lease is lost of 'a', 'b': it expired"),
        (errors.LeaseLost(list("abcde")), {"ids": tuple("abcde")}, "of 'a', 'b', 'c' and 2 more: "),
        (errors.PutUnknown("a"), {"id": "a"}, "job 'a' may be stored or not: put it again under this id"),
        (
            errors.NotReplicated("a", 1, 2),
            {"id": "a", "got": 1, "wanted": 2},
            "1 replicas have it instead of 2",
        ),
    ],
)
def test_an_error_keeps_its_facts_across_processes(error, facts, text):
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(back) is type(error)
    assert {name: getattr(back, name) for name in facts} == facts
    assert text in str(back) == str(error)


def test_errors_of_stores_are_also_what_they_stand_for():
    assert issubclass(errors.StoreUnavailable, (errors.StoreError, ConnectionError))
    assert issubclass(errors.StoreUnavailable, ConnectionError)
    assert issubclass(errors.StoreForked, RuntimeError)
    assert {each.__base__ for each in (errors.StoreFull, errors.StoreVersionError)} == {errors.StoreError}
