"""The error of aio-py-rq."""


class NotEnoughSyncedSlavesError(Exception):
    """Say that what was added is stored, and that fewer replicas have it than were asked for."""
