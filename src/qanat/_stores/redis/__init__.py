"""Queues in a Redis or Valkey server, shared by many machines."""

from __future__ import annotations

from qanat._stores.redis.store import RedisStore

__all__ = ["RedisStore"]
