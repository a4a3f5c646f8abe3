"""The judge is judged: a history that is well is found well, and each that is wrong is found wrong."""

from __future__ import annotations

import pytest

from tests.crash.history import Diary, Event, History, Last, faults, read

# Worker 1 does a, is killed with b in its hands, and 2 does b; c fails first, and 2 does it again.
WELL = """
0.0 9 put a 0 sa
0.0 9 put b 0 sb
0.0 9 put c 0 sc
0.1 9 put-ok a 0 sa
0.1 9 put-ok b 0 sb
0.1 9 put-ok c 0 sc
0.9 1 ready - 0 -
1.0 1 lease a 1 1
1.0 1 lease b 2 1
1.1 1 start a 1 sa
1.2 1 start b 2 sb
1.3 1 end a 1 -
1.4 1 settle a 1 done
1.5 1 settle-ok a 1 done
2.0 1 gone - 0 -
2.5 2 ready - 0 -
3.0 2 lease c 3 1
3.1 2 start c 3 sc
3.2 2 fell c 3 ValueError
3.2 2 settle c 3 retry
3.3 2 settle-ok c 3 retry
4.0 2 rescued b 0 -
4.0 2 lease b 4 2
4.0 2 lease c 5 2
4.1 2 start b 4 sb
4.1 2 start c 5 sc
4.2 2 end b 4 -
4.2 2 end c 5 -
4.3 2 settle b 4 done
4.3 2 settle c 5 done
4.4 2 settle-ok b 4 done
4.4 2 settle-ok c 5 done
""".strip()
RESCUED = "4.0 2 rescued b 0 -\n4.0 2 lease b 4 2"
LAST = {"a": Last("done", 1), "b": Last("done", 4), "c": Last("done", 5)}


def events(text):
    told = (line.split() for line in text.splitlines())
    return [
        Event(float(at), int(pid), word, id, int(token), detail) for at, pid, word, id, token, detail in told
    ]


def found(text, last=LAST, **options):
    return {fault.partition(":")[0] for fault in faults(History(events(text), last, **options))}


def test_a_history_that_is_well_is_found_well():
    history = History(events(WELL), LAST, gap=2.0, at_once=2)
    assert faults(history) == []
    assert (history.repeats, history.lost) == (2, set())


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("put-ok a 0 sa", "put-ok a 0 sa\n0.1 9 put d 0 sd\n0.1 9 put-ok d 0 sd", "lost_jobs"),
        ("4.4 2 settle-ok b 4 done", "4.4 2 settle-ok b 4 done\n4.5 2 settle-ok b 2 done", "ended_twice"),
        ("4.4 2 settle-ok b 4 done", "4.4 2 settle-ok b 4 dead\n4.5 2 settle-ok b 2 done", "ended_twice"),
        ("4.0 2 lease c 5 2", "4.0 2 lease c 5 2\n4.0 2 lease a 6 2", "begun_after_end"),
        ("2.0 1 gone", "1.9 1 start a 1 sa\n2.0 1 gone", "begun_after_end"),
        ("4.0 2 lease b 4 2", "4.0 2 lease b 2 2", "falling_tokens"),
        ("4.0 2 lease b 4 2", "4.0 2 lease b 1 2", "falling_tokens"),
        ("0.0 9 put a 0 sa\n", "", "invented_jobs"),
        ("1.1 1 start a 1 sa", "1.1 1 start a 1 sb", "invented_jobs"),
        ("0.1 9 put-ok a 0 sa", "0.1 9 put-full a 0 sa", "refused_jobs"),
        ("1.3 1 end a 1 -\n", "", "done_by_nobody"),
        ("4.2 2 end b 4 -", "4.2 2 end b 2 -", "done_by_nobody"),
        ("2.0 1 gone - 0 -\n", "", "leased_again_without_reason"),
        ("2.0 1 gone - 0 -", "4.5 1 gone - 0 -", "leased_again_without_reason"),
        ("3.2 2 settle c 3 retry\n3.3 2 settle-ok c 3 retry\n", "", "leased_again_without_reason"),
        (RESCUED, RESCUED.replace("4.0", "4.6"), "late_recovery"),
        (RESCUED, "4.6 2 lease b 4 2", "late_recovery"),
        ("1.2 1 start b 2 sb", "1.2 1 start b 2 sb\n1.2 1 start c 9 sc", "too_many_at_once"),
    ],
)
def test_a_history_that_is_wrong_is_found_wrong(old, new, fault):
    assert old in WELL
    assert fault in found(WELL.replace(old, new), gap=2.0, at_once=2)


@pytest.mark.parametrize(
    ("last", "fault"),
    [
        ({"a": Last("done", 1), "b": Last("done", 4)}, "lost_jobs"),
        (LAST | {"b": Last("leased", 4)}, "left_over"),
        (LAST | {"b": Last("done", 2)}, "begun_after_end"),
        (LAST | {"b": Last("done", 9)}, "done_by_nobody"),
        (LAST | {"d": Last("done", 6)}, "invented_jobs"),
    ],
)
def test_an_end_that_does_not_fit_the_history_is_found(last, fault):
    assert fault in found(WELL, last)


def test_what_a_fault_excuses_is_excused_and_nothing_else():
    zombie = WELL.replace("2.0 1 gone - 0 -\n", "") + "\n4.5 1 start b 2 sb\n4.6 1 end b 2 -"
    assert found(zombie) == {"leased_again_without_reason", "begun_after_end"}
    assert found(zombie, pauses=True) == set()
    assert found(WELL.replace("2.0 1 gone - 0 -\n", ""), outages=True) == set()
    last = {"a": Last("done", 1), "c": Last("done", 5)}
    assert found(WELL, last) == {"lost_jobs"}
    assert found(WELL, last, losses=True) == set()
    assert History(events(WELL), last).lost == {"b"}


def test_what_is_written_is_read_and_a_line_cut_short_is_not(tmp_path):
    path = tmp_path / "history"
    diary = Diary(path)
    diary.tell("lease", ("a", 1, "1"), ("b", 2, "1"))
    diary.tell("gone", pid=7)
    diary.close()
    with path.open("a") as file:
        file.write("1.0 1 sta")
    lease, other, gone = read(path)
    assert (lease.word, lease.id, lease.token, lease.detail) == ("lease", "a", 1, "1")
    assert (other.id, other.token, gone.word, gone.pid) == ("b", 2, "gone", 7)
