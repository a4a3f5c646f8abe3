"""What operators see of queues, and what they do to them, from the shell."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat._cli.operators import table, without_secrets
from qanat._core.store.values import Settle
from qanat._stores.sqlite.paths import VOLATILE
from tests._cli.hostile import EVIL, OBEYED, fill
from tests._cli.shell import call, command, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests._cli.shell import Ran

pytestmark = pytest.mark.real

URL = "sqlite:///work.db"


def at(where: Path) -> str:
    return f"sqlite:///{where}/work.db"


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a file system in memory for a disk: where tests lie is not what is tested here."""
    monkeypatch.delitem(VOLATILE, 0x01021994)


def op(where: Path, *arguments: str, **variables: str) -> Ran:
    return call(where, *arguments, **{"QANAT_STORE": URL, **variables})


def loaded(ran: Ran) -> Any:
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii()
    return json.loads(ran.stdout)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Give a directory with a queue of five jobs, one of them dead."""
    with qanat.open(at(tmp_path)) as store:
        queue = store.queue("emails", unique="active", keep=600.0, max_attempts=3)
        queue.put_many([{"n": n} for n in range(5)], id=lambda item: f"job{item['n']}", lane=lambda _: "eu")
        (job,) = queue.lease()
        error = "Traceback:\n  File x\nValueError: no address"
        store.carry(
            queue._asking.settle(
                [Settle(id=job.id, token=job.token, kind="dead", reason="bad", error=error)]
            ),
            "emails",
        )
    return tmp_path


def test_ls_shows_queues_and_their_jobs(where: Path):
    with qanat.open(at(where)) as store:
        store.queue("other").put(1)
        store.queue("other").admin.pause()
    assert op(where, "ls").stdout.splitlines() == [
        "queue   ready  leased  scheduled  waiting  done  dead  cancelled",
        "emails      4       0          0        0     0     1          0",
        "other       1       0          0        0     0     0          0  paused",
    ]
    (emails, other) = loaded(op(where, "ls", "--json"))["queues"]
    assert (emails["ready"], emails["dead"], emails["paused"], other["paused"]) == (4, 1, False, True)


def test_ls_of_an_empty_store_says_so(tmp_path: Path):
    with qanat.open(at(tmp_path)):
        pass
    ran = op(tmp_path, "ls")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "there is no queue yet" in ran.stderr


def test_jobs_are_shown_page_by_page(where: Path):
    ran = op(where, "jobs", "--limit", "3")
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [
        ["id", "state"], ["job1", "ready"], ["job2", "ready"], ["job3", "ready"],
    ]  # fmt: skip
    after = ran.stderr.split()[-1]
    rest = op(where, "jobs", "--after", after)
    assert [line.split()[:2] for line in rest.stdout.splitlines()[1:]] == [
        ["job4", "ready"],
        ["job0", "dead"],
    ]
    assert rest.stderr == ""
    assert op(where, "jobs", "--limit", "5").stderr == ""
    assert "bad: ValueError: no address" in rest.stdout


def test_jobs_of_a_state_and_a_lane(where: Path):
    assert op(where, "jobs", "--state", "dead").stdout.splitlines()[1].startswith("job0  eu")
    assert len(loaded(op(where, "jobs", "--lane", "eu", "--json"))["jobs"]) == 5
    ran = op(where, "jobs", "--lane", "us")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "emails has no such jobs" in ran.stderr


def test_show_tells_all_of_a_job(where: Path):
    ran = op(where, "show", "job0")
    assert ran.returncode == 0
    for line in ("state     dead: bad", 'item      {"n":0}', "lane      eu", "attempt   1 of at most 3"):
        assert line in ran.stdout.splitlines()
    assert "    ValueError: no address" in ran.stdout.splitlines()
    told = loaded(op(where, "show", "job0", "--json"))
    assert (told["item"], told["reason"], told["state"]) == ({"n": 0}, "bad", "dead")


@pytest.mark.parametrize("deed", ["show", "why"])
def test_a_job_that_is_not_there_is_told(where: Path, deed: str):
    ran = op(where, deed, "nobody", "job1")
    assert ran.returncode == 1
    assert "there is no job 'nobody' in emails" in ran.stderr
    assert "job1" in ran.stdout


def test_why_gives_reasons(where: Path):
    op(where, "pause")
    told = op(where, "why", "job2").stdout
    assert told.startswith("job2 is ready:\n  its queue is paused")
    assert "1 ready job of its lane 'eu' comes before it" in told
    assert loaded(op(where, "why", "job2", "--json"))["why"][0].startswith("its queue is paused")


def test_retry_lets_jobs_run_again(where: Path):
    ran = op(where, "retry", "job0", "job1", "nobody")
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == [
        "job0 is ready again", "job1 stays, as it has not ended", "nobody is unknown",
    ]  # fmt: skip
    with qanat.open(at(where)) as store:
        assert store.queue("emails").counts().dead == 0


def test_retry_all_lets_all_dead_jobs_run_again(where: Path):
    assert loaded(op(where, "retry", "--all", "--json"))["results"] == {"ready": 1}
    assert op(where, "retry", "--all").stdout == "emails: there is nothing to retry\n"


def test_retry_tells_of_keys_that_others_hold(where: Path):
    with qanat.open(at(where)) as store:
        queue = store.queue("emails")
        first = queue.put("first", key="k")
        queue.cancel(first.id)
        queue.put("second", key="k")
    ran = op(where, "retry", "--all", "--state", "cancelled")
    assert (ran.returncode, ran.stdout) == (1, "emails: 1 stays, as another job holds its key\n")


def test_cancel(where: Path):
    ran = op(where, "cancel", "job1", "job0")
    assert (ran.returncode, ran.stdout) == (1, "job1 is cancelled\njob0 stays, as it has ended already\n")
    ran = op(where, "cancel", "--all")
    assert ran.returncode == 2
    assert "to cancel 3 jobs of emails give --yes" in ran.stderr
    assert op(where, "cancel", "--all", "--yes").stdout == "emails: 3 are cancelled\n"
    assert op(where, "cancel", "--all").stdout == "emails: there is nothing to cancel\n"


def test_pause_and_resume(where: Path):
    assert op(where, "pause").stdout == "emails is paused: 4 ready jobs wait, 0 leased go on\n"
    assert op(where, "pause").stdout.startswith("emails is paused already")
    assert loaded(op(where, "resume", "--json")) == {"queue": "emails", "paused": False, "before": True}
    assert op(where, "resume").stdout == "emails is running already: 4 jobs are ready\n"


def test_purge_asks_before_it_deletes(where: Path):
    ran = op(where, "purge", "--state", "ready")
    assert ran.returncode == 2
    assert "to delete 4 ready jobs of emails for good give --yes" in ran.stderr
    assert op(where, "purge", "--state", "ready", "--yes").stdout == "emails: 4 ready jobs were deleted\n"
    assert loaded(op(where, "purge", "--state", "ready", "--json"))["purged"] == 0


@pytest.mark.parametrize(("answer", "left", "status"), [("n\n", 1, 2), ("y\n", 0, 0)])
def test_purge_asks_at_a_terminal(where: Path, answer: str, left: int, status: int):
    main, other = pty.openpty()
    process = subprocess.Popen(
        command("purge", "--state", "dead"), cwd=where, env=environment(QANAT_STORE=URL), stdin=other, stdout=other,
        stderr=other, start_new_session=True,
    )  # fmt: skip
    os.close(other)
    written = b""
    end = time.monotonic() + 20
    while b"[y/N]" not in written:
        assert time.monotonic() < end
        if select.select([main], [], [], 0.1)[0]:
            written += os.read(main, 4096)
    assert b"Delete 1 dead job of emails for good? [y/N]" in written
    os.write(main, answer.encode())
    assert process.wait(20) == status
    os.close(main)
    with qanat.open(at(where)) as store:
        assert store.queue("emails").counts().dead == left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs", "--queue", "email"], "there is no queue 'email', there are emails"),
        (["pause", "--queue", "a b"], "name must be 1 to 128"),
        (["jobs", "--limit", "0"], "limit must be at least 1"),
        (["jobs", "--limit", "1.5"], "must be a whole number"),
        (["jobs", "--state", "gone"], "Choose from"),
        (["jobs", "--after", "zz"], "after must be what the page before said"),
        (["jobs", "--after", "\u00fc"], "after must be what the page before said"),
        (["show"], "name a job by its id"),
        (["why", "x" * 600], "id must have 1 to 512 bytes"),
        (["retry"], "name jobs by their ids, or give --all"),
        (["retry", "a", "--all"], "and not both"),
        (["retry", "a", "--state", "dead"], "--state goes with --all"),
        (["retry", "--all", "--state", "ready"], "need no retry"),
        (["cancel", "--all", "--state", "dead"], "have ended"),
        (["purge", "--state", "leased"], "cancel them first"),
        (["ls", "--store", "sqlite:///nowhere.db"], "there is no file nowhere.db"),
        (["ls", "--store", "sqlite:///work.db/nowhere.db"], "there is no file work.db/nowhere.db"),
        (["ls", "--store", f"sqlite:///{'long' * 100}"], "cannot be opened: File name too long"),
        (["ls", "--store", "memory://"], "memory:// ends with the command"),
        (["ls", "--bogus"], "Try: qanat ls --help"),
        (["doctor", "--repair"], "--check"),
        (["doctor", "--require", "much"], "require must be one of"),
        (["doctor", "--queue", "nope"], "there is no queue 'nope'"),
        (["doctor", "--store", "sqlite:///nowhere.db"], "there is no file nowhere.db"),
    ],
)
def test_wrong_usage_is_told(where: Path, arguments: list[str], message: str):
    ran = op(where, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert not (where / "nowhere.db").exists()


def test_a_queue_is_named_if_there_are_several(where: Path):
    with qanat.open(at(where)) as store:
        store.queue("other").put(1)
    ran = op(where, "jobs")
    assert ran.returncode == 2
    assert "name a queue with --queue: there are emails, other" in ran.stderr
    assert op(where, "jobs", QANAT_QUEUE="other").returncode == 0
    assert op(where, "jobs", QANAT_JOBS_QUEUE="emails", QANAT_QUEUE="other").stdout.count("job") == 5


@pytest.mark.parametrize("json_", [[], ["--json"]], ids=["text", "json"])
def test_what_is_in_a_store_is_shown_and_not_obeyed(tmp_path: Path, json_: list[str]):
    ids = fill(at(tmp_path))
    every = list(ids.values())
    calls = [
        ["ls"], ["jobs"], *(["jobs", "--state", state] for state in ("ready", "dead", "leased", "scheduled")),
        ["show", *every], ["why", *every], ["show", EVIL], ["jobs", "--lane", EVIL], ["retry", *every],
        ["cancel", *every, EVIL], ["doctor", "--check"], ["jobs", "--queue", EVIL], ["jobs", "--after", EVIL],
    ]  # fmt: skip
    for arguments in calls:
        ran = op(tmp_path, *arguments, *json_)
        assert not OBEYED.search(ran.stdout), arguments
        assert not OBEYED.search(ran.stderr), arguments
        assert not any(line.startswith("forged") for line in ran.stdout.splitlines()), arguments


MARKER = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{MARKER}@localhost:1",
        f"redis+sentinel://localhost:1/name?sentinel_password={MARKER}",
        f"redis://:{MARKER}@localhost:1/a/b",
        f"redis://localhost:1?bogus={MARKER}",
        f"unix://x:{MARKER}@/nowhere/s",
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["doctor"], ["doctor", "--json"], ["put", "--queue", "q", "a"], ["show", "a", "--json"]],
    ids=" ".join,
)
def test_secrets_in_urls_are_never_printed(tmp_path: Path, url: str, arguments: list[str]):
    ran = call(tmp_path, *arguments, "--store", url)
    assert ran.returncode in {1, 2}
    assert MARKER not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_secrets_are_hidden_where_they_stand_by_mistake(tmp_path: Path):
    for arguments in (["ls", f"redis://:{MARKER}@h", "--bogus"], ["ls", "--bogus", f"redis://:{MARKER}@h"]):
        ran = call(tmp_path, *arguments)
        assert ran.returncode == 2
        assert MARKER not in ran.stderr
    assert (
        without_secrets("at redis://a:b@h and https://c:d@h") == "at redis://a:***@h:6379 and https://c:d@h"
    )
    assert without_secrets("unix://a") == "unix://***"


def test_doctor_examines_a_file(where: Path):
    ran = op(where, "doctor", "--require", "fsync", "--check")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"{URL} promises 'fsync': jobs survive a loss of power\n")
    assert ran.stdout.endswith("\nall promises hold\n")
    told = loaded(op(where, "doctor", "--json"))
    assert (told["promises"], told["ok"], told["store"]) == ("fsync", True, URL)
    assert {"name", "verdict", "read", "means", "mend"} == set(told["findings"][0])


def test_doctor_fails_if_less_is_promised_than_required(where: Path):
    ran = op(where, "doctor", "--require", "replicas(1)")
    assert ran.returncode == 1
    assert "BROKEN  required" in ran.stdout
    assert ran.stdout.endswith("1 promise does not hold\n")


def test_doctor_mends_what_contradicts_itself(where: Path):
    import sqlite3

    connection = sqlite3.connect(where / "work.db")
    with connection:
        connection.execute("UPDATE queues SET ready = 7 WHERE name = 'emails'")
    connection.close()
    ran = op(where, "doctor", "--check")
    assert ran.returncode == 1
    assert "BROKEN  check emails" in ran.stdout
    assert "mend: qanat doctor --queue emails --check --repair" in ran.stdout
    assert op(where, "doctor", "--check", "--repair").returncode == 0
    assert op(where, "doctor", "--check").returncode == 0


def test_doctor_of_a_file_that_is_none_is_told(tmp_path: Path):
    (tmp_path / "work.db").write_bytes(b"not a database, but long enough to be taken for one" * 20)
    ran = op(tmp_path, "doctor")
    assert ran.returncode == 1
    assert ran.stdout.startswith(f"{URL} cannot be used as it is\n")


def test_output_that_cannot_be_written_is_no_fault(where: Path):
    for redirection in (">&-", "| head -c 1"):
        line = f"{sys.executable} -m qanat jobs {redirection}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=where, env=environment(QANAT_STORE=URL), capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b""), redirection


def test_a_table_is_cut_to_fit_its_ids_last():
    rows = [["i" * 32, "x" * 30, "some words that are long" * 3]]
    for room in (80, 60, 52):
        (head, line) = table(["id", "lane", "what"], rows, room, numbers=False)
        assert line.startswith("i" * 32)
        assert len(line) <= room
        assert head.startswith("id")
    (_, line) = table(["id", "what"], [["\u6c34" * 5, "\u6c34" * 9]], 22, numbers=False)
    assert line == "\u6c34" * 5 + "  " + "\u6c34" * 4 + " …"
    assert table(["id", "n", ""], [["a", "1", "b"], ["c", "22", ""]], None, numbers=True) == [
        "id   n", "a    1  b", "c   22",
    ]  # fmt: skip
