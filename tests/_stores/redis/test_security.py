"""No text of a user becomes part of a script or of a key's name but where both are made."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from qanat._core.store.values import NewJob
from qanat._stores import redis as room
from qanat._stores.redis import RedisStore
from qanat._stores.redis.keys import Keys
from qanat._stores.redis.scripts import _PARTS, CLOCK, script

ROOM = Path(room.__file__).parent
MODULES = sorted(ROOM.glob("*.py"))
LUA = sorted((ROOM / "lua").glob("*.lua"))


def calls(module, *names):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in names:
                yield node


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_commands_and_scripts_are_named_by_constants(module):
    senders = ("execute_command", "_send_script", "command", "told", "eval", "evalsha", "register_script")
    for call in calls(module, *senders):
        first = call.args[0]
        if isinstance(first, ast.Starred):
            # Only these hand on what they were given: `command` and `told`, whose callers are looked at, too.
            assert module.name in {"calling.py", "durability.py"}
            continue
        assert isinstance(first, ast.Constant), ast.unparse(call)


def test_the_text_of_a_script_is_sent_by_one_function():
    found = [
        (module.name, ast.unparse(parts[1]))
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if (parts := node.args if isinstance(node, ast.Call) else getattr(node, "elts", None))
        and isinstance(parts[0], ast.Constant)
        and parts[0].value in {"EVAL", "EVALSHA"}
    ]
    assert found == [("calling.py", "sha"), ("calling.py", "sha"), ("calling.py", "text")]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_keys_are_made_in_one_place(module):
    made = re.findall(r'f"[^"]*:[^"]*(?:meta|queues)"', module.read_text())
    assert bool(made) == (module.name == "keys.py")


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.name)
def test_scripts_load_no_code_and_decode_no_payload(path):
    text = re.sub(r"--.*", "", path.read_text())
    assert not re.search(r"\b(loadstring|load|dofile|setfenv|cjson)\b", text)
    # What msgpack takes apart is links, specs and `more`: what we packed ourselves.
    assert not re.search(r"cmsgpack\.unpack\((blob|rest|body|value)", text)


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.name)
def test_every_key_of_a_script_goes_through_one_function(path):
    text = re.sub(r"--.*", "", path.read_text())
    for command, argument in re.findall(r"call\('([A-Z]+)',\s*([^\s,)(]+)", text):
        fine = argument in {"key", "KEYS[1]", "name"} or command == "TIME"
        assert fine, f"{command} {argument}"


def test_every_script_is_of_fixed_parts_and_has_one_clock():
    assert {path.stem for path in LUA} == {part for parts in _PARTS.values() for part in parts}
    for name in _PARTS:
        text = script(name).text
        assert text.count(CLOCK) == 1
        assert CLOCK not in script(name, by_hand=True).text
        assert script(name).sha != script(name, by_hand=True).sha


@pytest.mark.parametrize("name", ["", "a:b", "a b", "{a}", "a}", "a\n", "é", "a" * 129, "*"])
def test_a_name_that_could_be_more_than_a_name_is_refused(name):
    with pytest.raises(ValueError, match="must be 1 to 128 of the letters"):
        Keys().meta(name)
    with pytest.raises(ValueError, match="prefix must be"):
        Keys(name)


@pytest.mark.real
@pytest.mark.parametrize(
    "text",
    ["') redis.call('FLUSHALL') ('", "a}:jobs", "{b}", "\r\nFLUSHALL\r\n", "%s%n", "\x7f\x01", "\u202e", "*"],
)
def test_hostile_texts_come_back_as_they_went_in(store, text):
    job = NewJob(id=text, lane=text, key=text, handler=text, body=text.encode(), metadata=text.encode())
    store.put("q", [job, NewJob(id="bystander")])
    [leased] = store.claim("q", 1, worker=text, lease=30.0).jobs
    got = (leased.id, leased.lane, leased.key, leased.handler, leased.worker)
    assert got == (text,) * 5
    assert (leased.body, leased.metadata) == (text.encode(), text.encode())
    assert store.get("q", ["bystander"])[0] is not None
    assert store.check("q") == []


@pytest.mark.real
def test_no_key_lies_outside_the_prefix_of_the_store(server):
    store = RedisStore.open(server.url + "?prefix=mine")
    store.put("q", [NewJob(id="a"), NewJob(id="b", delay=9.0, key="k")])
    store.claim("q", 1, worker="w", lease=30.0)
    assert all(key.startswith(b"mine:") for key in server.command("KEYS", "*"))
    store.close()
