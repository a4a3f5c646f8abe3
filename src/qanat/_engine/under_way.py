"""The keys that are under way in a run with a journal, and whose jobs they are.

Most jobs are plain: roots of the run's own handler that nothing sets apart. Such a job stands for itself
under its key, until somebody follows it, cancels it, or it fails: then it gets an entry. Millions of
entries that say nothing would cost as much as the jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qanat._core.job import NEW, Job
from qanat._core.kept import ASKING, KEEPING, WITH_DISPATCHER, Entry

if TYPE_CHECKING:
    from qanat._core.kept import Key


class UnderWay:
    """Keys from when their first job arrives until the last outcome is handed over.

    Attributes:
        entries: The entry of each key; of a plain job itself.
        by_job: For each job that has not ended the entry of its key; for a plain one the key.
    """

    __slots__ = ("by_job", "entries")

    def __init__(self) -> None:
        """Begin with none."""
        self.entries: dict[Key, Entry | Job[Any]] = {}
        self.by_job: dict[Job[Any], Entry | Key] = {}

    def add_plain(self, jobs: list[Job[Any]], keys: list[Key]) -> bool:
        """Take plain jobs in by their keys; False if two have the same one, or somebody has it already."""
        new = dict(zip(keys, jobs, strict=True))
        if len(new) < len(jobs) or not self.entries.keys().isdisjoint(keys):
            return False
        self.entries.update(new)
        self.by_job.update(zip(jobs, keys, strict=True))
        return True

    def add(self, key: Key, job: Job[Any], delay: float, now: float) -> Entry:
        """Take a job in with an entry, as the first one of its key."""
        entry = self.entries[key] = self.by_job[job] = Entry(key, job, job, delay, now)
        return entry

    def entry_at(self, key: Key) -> Entry:
        """Return the entry of a key that is under way; a plain job gets one."""
        found = self.entries[key]
        if type(found) is Entry:
            return found
        job = cast("Job[Any]", found)
        entry = self.entries[key] = Entry(key, job, job, 0.0, job.offered_at)
        if job in self.by_job:
            self.by_job[job] = entry
            entry.where = ASKING if job._status == NEW else WITH_DISPATCHER
        else:
            entry.where = KEEPING
        return entry

    def entry_of(self, job: Job[Any]) -> Entry | None:
        """Return the entry of a job that has not ended; a plain one gets one."""
        found = self.by_job.get(job)
        return found if found is None or type(found) is Entry else self.entry_at(cast("Key", found))

    def leaders(self) -> list[tuple[Key, Job[Any]]]:
        """Return all keys, each with the job that leads; from any thread."""
        found = list(self.entries.items())  # in one step
        return [(key, entry.job if type(entry) is Entry else cast("Job[Any]", entry)) for key, entry in found]
