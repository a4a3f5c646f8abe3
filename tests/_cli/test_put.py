"""`qanat put`: what is stored, what was there, and where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from tests._cli.hostile import EVIL, OBEYED
from tests._cli.shell import call, command, ended, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests._cli.shell import Ran

pytestmark = pytest.mark.real

STORE = ("--store", "sqlite:///work.db", "--queue", "emails")


def put(where: Path, *arguments: str, stdin: str | bytes = b"", **variables: str) -> Ran:
    return call(where, "put", *STORE, *arguments, stdin=stdin, **variables)


def jobs(where: Path, state: Any = "ready") -> list[qanat.QueueJob[Any]]:
    with qanat.open(f"sqlite:///{where}/work.db") as store:
        return store.queue("emails").find(state=state, limit=1000).jobs


def test_arguments_are_items_and_their_ids_are_printed(tmp_path: Path):
    ran = put(tmp_path, "a", "b c", "--priority", "2", "--lane", "eu", "--handler", "send")
    assert ran.returncode == 0
    assert ran.stderr == "qanat: stored 2 jobs in emails\n"
    found = jobs(tmp_path)
    assert [job.id for job in found] == ran.stdout.split()
    assert [(job.item, job.lane, job.priority, job.handler) for job in found] == [
        ("a", "eu", 2.0, "send"), ("b c", "eu", 2.0, "send"),
    ]  # fmt: skip


def test_a_dash_is_a_name_like_any_other(tmp_path: Path):
    assert put(tmp_path, '{"-": "-"}', "--format", "jsonl", "--id", "-").stdout == "-\n"
    assert put(tmp_path, "b", "--lane", "-", "--handler", "-").returncode == 0
    assert {job.lane for job in jobs(tmp_path)} == {"", "-"}
    for arguments, words in ((["show", "-"], "id        -"), (["jobs", "--lane", "-"], '"b"')):
        ran = call(tmp_path, *arguments, QANAT_STORE="sqlite:///work.db")
        assert words in ran.stdout, ran.stderr
    assert '"b"' not in call(tmp_path, "jobs", "--lane", "", QANAT_STORE="sqlite:///work.db").stdout


def test_arguments_may_be_json(tmp_path: Path):
    ran = put(tmp_path, '{"to": "ada"}', "--format", "jsonl", "--id", "to", "--json")
    assert json.loads(ran.stdout) == {
        "queue": "emails", "stored": 1, "there": 0, "stopped": False, "ids": ["ada"],
    }  # fmt: skip
    assert jobs(tmp_path)[0].item == {"to": "ada"}


def test_a_file_is_put_with_its_fields(tmp_path: Path):
    (tmp_path / "in.csv").write_text("id,host,rank,mail\n1,eu,5,a\n2,us,1,b\n")
    arguments = ("-f", "in.csv", "--id", "id", "--lane", "host", "--priority", "rank", "--delay", "10m")
    assert put(tmp_path, *arguments).stderr == "qanat: stored 2 jobs in emails\n"
    assert put(tmp_path, *arguments).stderr == "qanat: stored 0 jobs in emails, 2 were there already\n"
    found = {job.id: (job.lane, job.priority, job.item["mail"]) for job in jobs(tmp_path, "scheduled")}
    assert found == {"1": ("eu", 5.0, "a"), "2": ("us", 1.0, "b")}


def test_what_is_set_at_first_use(tmp_path: Path):
    lines = '{"k":"x"}\n{"k":"y"}\n{"k":"x"}\n'
    settings = ("--unique", "active", "--keep", "1h", "--max-attempts", "2")
    ran = put(tmp_path, "-f", "-", "--format", "jsonl", "--key", "k", *settings, stdin=lines)
    assert ran.stderr == "qanat: stored 2 jobs in emails, 1 was there already\n"
    ran = put(tmp_path, "z", "--unique", "forever")
    assert ran.returncode == 2
    assert "unique must be 'active'" in ran.stderr


def test_more_than_one_chunk_of_several_files(tmp_path: Path):
    (tmp_path / "a.txt").write_text("".join(f"{n}\n" for n in range(1500)))
    (tmp_path / "b.txt").write_text("".join(f"{n}\n" for n in range(700)))
    ran = put(tmp_path, "-f", "a.txt", "--file", "b.txt")
    assert ran.stderr == "qanat: stored 2200 jobs in emails\n"
    assert ran.stdout == ""


def test_a_broken_line_leaves_what_came_before(tmp_path: Path):
    (tmp_path / "in.jsonl").write_text('{"n":1}\n{"n":2}\nnonsense\n{"n":4}\n')
    ran = put(tmp_path, "-f", "in.jsonl")
    assert ran.returncode == 2
    assert "in.jsonl, line 3: is not JSON" in ran.stderr
    assert ran.stderr.endswith("; stored 2 jobs in emails before that\n")
    assert [job.item for job in jobs(tmp_path)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        ('{"a":1}', ["--id", "b"], "line 1: the item has no field 'b' for --id"),
        ('"text"', ["--id", "b"], "the item has no fields"),
        ('{"a":""}', ["--id", "a"], "line 1: id must have 1 to 512 bytes"),
        ('{"a":"high"}', ["--priority", "a"], "priority must be a number, got 'high'"),
        ('{"a":"nan"}', ["--priority", "a"], "priority must be"),
        ('{"a":[1]}', ["--key", "a"], "key"),
        ('{"a":1}', ["--key", "a"], 'open it with unique="active"'),
        ("1e999", [], "the number 1e999 is too large"),
        ('"' + "x" * 1_100_000 + '"', [], "value must take at most 1048576 bytes"),
        ("[" * 200 + "]" * 200, [], "nests more than 100 deep"),
        ('"\\ud800"', [], "half a character"),
    ],
)
def test_what_cannot_be_a_job_is_told_with_its_line(
    tmp_path: Path, line: str, flags: list[str], message: str
):
    ran = put(tmp_path, "-f", "-", "--format", "jsonl", *flags, stdin=line + "\n")
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "stored 0 jobs in emails before that" in ran.stderr
    assert not jobs(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name items, or files with --file"),
        (["-"], "standard input is --file -"),
        (["a", "-f", "b"], "and not both"),
        (["a", "--format", "csv"], "--file"),
        (["-f", "nowhere"], "nowhere: No such file"),
        (["a", "--delay", "soon"], "delay must be a time"),
        (["a", "--keep", "long"], "keep must be a time"),
        (["a", "--max-attempts", "0"], "max_attempts must be"),
        (["nonsense", "--format", "jsonl"], "argument, line 1: is not JSON"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str], message: str):
    ran = put(tmp_path, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_a_wrong_name_of_a_queue_is_told(tmp_path: Path):
    ran = call(tmp_path, "put", "a", "--store", "sqlite:///work.db", QANAT_PUT_QUEUE="no such name")
    assert ran.returncode == 2
    assert "name must be 1 to 128" in ran.stderr


def test_hostile_items_are_stored_as_they_are_and_not_obeyed(tmp_path: Path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": EVIL, "bad": EVIL}) + "\n")
    ran = put(tmp_path, "-f", "in.jsonl", "--id", "id", "--priority", "bad")
    assert not OBEYED.search(ran.stdout + ran.stderr)
    ran = put(tmp_path, json.dumps({"id": EVIL}), "--format", "jsonl", "--id", "id")
    assert ran.returncode == 0
    assert not OBEYED.search(ran.stdout + ran.stderr)
    assert jobs(tmp_path)[0].id == EVIL


def test_input_that_pauses_is_stored_meanwhile_and_ctrl_c_says_how_much(tmp_path: Path):
    process = subprocess.Popen(
        command("put", *STORE, "-f", "-"), cwd=tmp_path, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    end = time.monotonic() + 20
    while not ((tmp_path / "work.db").exists() and len(jobs(tmp_path)) == 2):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    writer = os.dup(process.stdin.fileno())
    status, out, err = ended(process)
    os.close(writer)
    assert (status, out) == (143, "")
    assert err == "qanat: stopped: stored 2 jobs in emails\n"
