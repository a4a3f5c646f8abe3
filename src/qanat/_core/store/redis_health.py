"""What the settings and the state of a Redis or Valkey server mean for the queues in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from qanat._core.store.finding import Finding, size_in_words
from qanat._core.store.levels import level_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS: Final = (
    "appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write", "min-replicas-max-lag",
)  # fmt: skip
"""What is asked of CONFIG; all else INFO tells, which more users may call."""
OLDEST: Final = (6, 2)
"""The first version whose commands the scripts may use."""
DISK_WAIT: Final = (7, 2)
"""The first version that can say when the disk has what was put (WAITAOF)."""
SKEW: Final = 1.0
"""Seconds by which clocks may differ unmentioned."""
FULL: Final = 0.8
"""Share of the memory, or of the connections, from which it is mentioned."""
REFUSING: Final = 0.98
"""Share of the memory from which the next put may not fit."""


class RedisReadings(Struct, frozen=True, kw_only=True):
    """What was read from one server.

    Attributes:
        info: What INFO told.
        config: The `SETTINGS`; None if the server does not show them.
        level: What the store promises, by its settings.
        skew: Seconds by which the server's clock is ahead of this machine's.
        round_trip: Seconds that it took to ask for the time.
        exposed: Whether the connection crosses a network without TLS.
        scripts: What the server said when a script was to run; "" if it ran.
        waits: Whether it can be asked to wait for replicas.
        cluster: What CLUSTER INFO told; empty if it is no cluster.
        node: Which node of a cluster it is; "" if there is one server.
    """

    info: dict[str, Any]
    config: dict[str, str] | None
    level: str
    skew: float = 0.0
    round_trip: float = 0.0
    exposed: bool = False
    scripts: str = ""
    waits: bool = True
    cluster: dict[str, str] = field(default_factory=dict[str, str])
    node: str = ""

    def number(self, name: str) -> int:
        """Return a number of INFO; 0 if it does not tell it."""
        value = self.info.get(name, 0)
        return int(value) if isinstance(value, (int, float)) else 0

    def text(self, name: str) -> str:
        """Return a text of INFO; "" if it does not tell it."""
        return str(self.info.get(name, ""))

    def setting(self, name: str) -> int:
        """Return a number of CONFIG; 0 if it does not tell it."""
        text = (self.config or {}).get(name, "")
        return int(text) if text.isdecimal() else 0

    @property
    def version(self) -> tuple[int, ...]:
        """The version of Redis whose commands the server has."""
        return tuple(int(part) for part in re.findall(r"\d+", self.text("redis_version"))[:3])


def redis_findings(readings: RedisReadings) -> list[Finding]:
    """Return what the readings of one server mean."""
    found = [finding for look in _LOOKS for finding in look(readings)]
    if not readings.node:
        return found
    return [
        Finding(f"{each.name} of {readings.node}", each.verdict, each.read, each.means, each.mend)
        for each in found
    ]


def _version(at: RedisReadings) -> Iterator[Finding]:
    told = at.text("redis_version") or "unknown"
    read = f"Redis {told}"
    if at.text("valkey_version"):
        read = f"Valkey {at.text('valkey_version')}, with the commands of Redis {told}"
    if not at.version:
        yield Finding("version", "unverified", read, "whether the scripts can run is not known")
    elif at.version < OLDEST:
        yield Finding("version", "broken", read, "scripts need Redis 6.2", "install a newer server")
    elif at.version < DISK_WAIT:
        yield Finding("version", "ok", read, "it has no WAITAOF, so puts with durable=True are refused")
    else:
        yield Finding("version", "ok", read)


def _scripts(at: RedisReadings) -> Iterator[Finding]:
    if at.scripts:
        yield Finding(
            "scripts", "broken", at.scripts, "every deed is a script, so nothing can be done",
            "redis-cli ACL SETUSER <user> +@read +@write +@scripting +time",
        )  # fmt: skip
    if not at.waits:
        yield Finding(
            "waiting", "advice", "WAIT is refused", "puts with replicas= cannot be carried out",
            "redis-cli ACL SETUSER <user> +wait +waitaof",
        )  # fmt: skip


def _role(at: RedisReadings) -> Iterator[Finding]:
    role = at.text("role")
    if role in {"slave", "replica"}:
        master = f"{at.text('master_host')}:{at.text('master_port')}"
        yield Finding(
            "role", "broken", f"replica of {master}", "it takes no writes",
            "name the master, or the sentinels: redis+sentinel://host:26379/mymaster",
        )  # fmt: skip
    elif role:
        yield Finding("role", "ok", "master")
    else:
        yield Finding("role", "unverified", "INFO tells none", "whether it takes writes is not known")


def _cluster(at: RedisReadings) -> Iterator[Finding]:
    state = at.cluster.get("cluster_state")
    if state is None:
        return
    slots = f"{at.cluster.get('cluster_slots_ok', '?')} of 16384 slots are served"
    if state == "ok":
        yield Finding("cluster", "ok", f"cluster_state ok, {slots}")
    else:
        yield Finding(
            "cluster", "broken", f"cluster_state {state}, {slots}", "some queues cannot be reached",
            "redis-cli --cluster check <host:port>",
        )  # fmt: skip


def _durability(at: RedisReadings) -> Iterator[Finding]:
    aof = at.number("aof_enabled")
    if at.config is None:
        yield Finding(
            "durability", "unverified", f"aof_enabled {aof}, and CONFIG is refused",
            "how often it is written to the disk is not known",
            "redis-cli ACL SETUSER <user> +config|get",
        )  # fmt: skip
        return
    if aof:
        fsync = at.config.get("appendfsync", "")
        weak = fsync not in {"everysec", "always"}
        yield Finding(
            "durability", "advice" if weak else "ok", f"appendonly yes, appendfsync {fsync}",
            _FSYNC.get(fsync, "how often that is, this version does not know"),
            "redis-cli CONFIG SET appendfsync everysec" if weak else "",
        )  # fmt: skip
        return
    save = at.config.get("save", "")
    read = f"appendonly no, save {save!r}"
    if at.level.startswith("replicas"):
        yield Finding(
            "durability", "advice", read,
            f"{level_in_words(at.level)}; if all end at once, all jobs are gone",
            "redis-cli CONFIG SET appendonly yes",
        )  # fmt: skip
    else:
        lost = "all jobs since the last snapshot" if save else "all jobs"
        yield Finding(
            "durability", "broken", read, f"{lost} are lost when the server ends",
            "redis-cli CONFIG SET appendonly yes, and write it into the server's file: CONFIG REWRITE",
        )  # fmt: skip


_FSYNC: Final = {
    "always": level_in_words("fsync"),
    "everysec": level_in_words("~1s") + ", a killed server loses none",
    "no": "a loss of power takes half a minute of jobs with it, a killed server loses none",
}


def _disk(at: RedisReadings) -> Iterator[Finding]:
    status = at.text("aof_last_write_status") or "ok"
    if at.number("aof_enabled") and status != "ok":
        yield Finding(
            "disk", "broken", f"aof_last_write_status {status}", "the server refuses every write",
            "make room on the server's disk: df -h, and see the server's log",
        )  # fmt: skip
    elif at.number("aof_delayed_fsync"):
        yield Finding(
            "disk", "advice", f"aof_delayed_fsync {at.number('aof_delayed_fsync')}",
            "so often the disk took more than two seconds, which a loss of power would take with it",
            "give the server a faster disk, or one for itself",
        )  # fmt: skip
    else:
        yield Finding("disk", "ok", f"aof_last_write_status {status}, aof_delayed_fsync 0")
    saved = at.text("rdb_last_bgsave_status") or "ok"
    if saved != "ok":
        refuses = (at.config or {}).get("stop-writes-on-bgsave-error") == "yes" and (at.config or {}).get(
            "save"
        )
        yield Finding(
            "snapshots", "broken" if refuses else "advice", f"rdb_last_bgsave_status {saved}",
            "the server refuses every write" if refuses else "the last snapshot was not written",
            "see the server's log; make room, then redis-cli BGSAVE",
        )  # fmt: skip


def _eviction(at: RedisReadings) -> Iterator[Finding]:
    policy, most, used = at.text("maxmemory_policy"), at.number("maxmemory"), at.number("used_memory")
    if not policy:
        yield Finding("eviction", "unverified", "INFO tells none", "whether jobs may be dropped is not known")
    elif policy != "noeviction":
        yield Finding(
            "eviction", "broken" if most else "advice", f"maxmemory-policy {policy}",
            f"jobs {'are' if most else 'would be'} dropped unseen when memory runs out",
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        )  # fmt: skip
    else:
        yield Finding("eviction", "ok", "maxmemory-policy noeviction")
    if not most:
        yield Finding(
            "memory",
            "ok",
            f"{size_in_words(used)} used, maxmemory 0",
            "it grows until the system has none left; a bound would let puts be refused before",
        )
        return
    read = f"{size_in_words(used)} of {size_in_words(most)} used"
    if used >= most * REFUSING:
        yield Finding(
            "memory",
            "broken",
            read,
            "puts are refused, or are about to be; only what frees memory is done",
            "let workers drain the queues, or redis-cli CONFIG SET maxmemory <more>",
        )
    elif used >= most * FULL:
        yield Finding(
            "memory",
            "advice",
            read,
            "puts are refused once it is full",
            "redis-cli CONFIG SET maxmemory <more>",
        )
    else:
        yield Finding("memory", "ok", read)


def _replicas(at: RedisReadings) -> Iterator[Finding]:
    there, good = at.number("connected_slaves"), at.number("min_slaves_good_slaves")
    needed = at.setting("min-replicas-to-write")
    read = f"{there} replicas"
    if at.config is None:
        if there:
            yield Finding(
                "replicas",
                "unverified",
                f"{read}, and CONFIG is refused",
                "whether writes wait for them is not known",
            )
        return
    read = f"{read}, min-replicas-to-write {needed}"
    if needed and (good if "min_slaves_good_slaves" in at.info else there) < needed:
        yield Finding(
            "replicas",
            "broken",
            read,
            "the server refuses every write",
            "start the replicas, or redis-cli CONFIG SET min-replicas-to-write 0",
        )
    elif there and not needed:
        yield Finding(
            "replicas", "advice", read,
            "a master that is cut off goes on taking jobs, which are lost when a replica takes its place",
            "redis-cli CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1",
        )  # fmt: skip
    elif there:
        yield Finding(
            "replicas",
            "ok",
            f"{read}, min-replicas-max-lag {at.setting('min-replicas-max-lag')}",
            "a failover may still lose the last moment: put with replicas=",
        )
    else:
        yield Finding("replicas", "ok", read, "the server's own disk is the only copy")


def _clients(at: RedisReadings) -> Iterator[Finding]:
    there, most = at.number("connected_clients"), at.number("maxclients")
    if most and there >= most * FULL:
        yield Finding(
            "clients",
            "advice",
            f"{there} of {most} connections used",
            "workers are turned away once all are",
            "redis-cli CONFIG SET maxclients <more>",
        )


def _clock(at: RedisReadings) -> Iterator[Finding]:
    ahead = f"{abs(at.skew):.3f} s {'ahead' if at.skew >= 0 else 'behind'}"
    read = f"the server is {ahead}, give or take {at.round_trip / 2:.3f} s"
    if abs(at.skew) > SKEW + at.round_trip / 2:
        yield Finding(
            "clock", "advice", read,
            "leases and delays go by the server and are right; times of the clock and schedules made here "
            "are off by so much",
            "let both machines run an NTP service: timedatectl set-ntp true",
        )  # fmt: skip
    else:
        yield Finding("clock", "ok", read)


def _network(at: RedisReadings) -> Iterator[Finding]:
    if at.exposed:
        yield Finding(
            "network",
            "advice",
            "no TLS, and the server is on another machine",
            "who is on the way reads passwords and jobs, and can change them",
            "set up TLS in the server, and use rediss://",
        )


_LOOKS: Final[tuple[Callable[[RedisReadings], Iterator[Finding]], ...]] = (
    _version, _role, _scripts, _cluster, _durability, _disk, _eviction, _replicas, _clients, _clock, _network,
)  # fmt: skip
