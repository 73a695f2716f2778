"""Redis: a database per trial; queues are lists, deliveries wait in the hash ``unacked``.

Source: kombu 5.7.0 ``transport/redis.py``. A queue is one list per priority step, the message's
``headers.id`` is the task id; ``unacked`` maps a delivery tag to ``[message, exchange, routing key]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lab.brokers.base import Broker, Depth, Namespace
from lab.engine.adapter import LOOPBACK
from lab.errors import BrokerSilent, EnvironmentLacks
from lab.history import Backlog

DATABASES = 256  # as in compose/redis-*.yml
ANSWER_SECONDS = 5.0

# One atomic look: the lists are every queue with its priority steps, whatever their names.
_DEPTH = """
local ready = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok == 'list' then ready = ready + redis.call('LLEN', key) end
end
return {ready, redis.call('HLEN', 'unacked')}
"""
_BACKLOG = """
local ready = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok == 'list' then
    for _, message in ipairs(redis.call('LRANGE', key, 0, -1)) do table.insert(ready, message) end
  end
end
return {ready, redis.call('HVALS', 'unacked')}
"""


class Redis(Broker):
    """A Redis server."""

    ports = ("LAB_PORT",)
    inner_port = 6379

    def client(self, database: int = 0) -> redis.Redis:
        """A client from outside, over 127.0.0.1. It does not retry: the lab decides that."""
        return redis.Redis(
            host=LOOPBACK,
            port=self.public["LAB_PORT"],
            db=database,
            password=self.password,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def version(self) -> str:
        with asking(), self.client() as client:
            info: Any = client.info("server")
        return str(info["redis_version"])

    def has_written(self) -> bool:
        """Its append-only buffer is empty.

        With ``appendfsync everysec`` it answers and keeps what it was told in its own memory while an
        fsync is under way, for up to two seconds (redis 8.0 ``aof.c``: flushAppendOnlyFile).
        """
        with asking(), self.client() as client:
            info: Any = client.info("persistence")
        return not info.get("aof_buffer_length")

    def limit_memory(self, size: int) -> None:
        """Refuse what needs more memory than that many bytes; 0 is no limit. The policy is its own."""
        with asking(), self.client() as client:
            client.config_set("maxmemory", size)

    def memory_is_full(self) -> bool:
        """Ask by a write of a key that nobody else has."""
        with asking(), self.client(DATABASES - 1) as client:
            try:
                client.set("lab-probe", "")
            except redis.exceptions.OutOfMemoryError:
                return True
            client.delete("lab-probe")
        return False

    def open(self, number: int) -> Namespace:
        """A database that is empty: those of trials long closed are used again."""
        database = number % DATABASES
        with asking(), self.client(database) as client:
            if client.dbsize():
                raise EnvironmentLacks(f"database {database} of this Redis is not empty", "start another lab")
        return RedisDatabase(self, database)


class RedisDatabase(Namespace):
    """One numbered database of a server."""

    def __init__(self, broker: Redis, number: int) -> None:
        self.url = f"redis://:{broker.password}@{broker.host}:6379/{number}"
        self._client = broker.client(number)
        self._number = str(number)

    def depth(self) -> Depth:
        with asking():
            ready, unacked = self._ask(_DEPTH)
        return Depth(ready=int(ready), unacked=int(unacked), consumers=None)

    def backlog(self, still: Callable[[], None]) -> Backlog:
        with asking():
            ready, unacked = self._ask(_BACKLOG)
        still()
        return Backlog(
            ready=tuple(_ids(json.loads(message) for message in ready)),
            unacked=tuple(_ids(json.loads(entry)[0] for entry in unacked)),
        )

    def close_connections(self) -> int:
        with asking():
            return sum(int(self._client.client_kill_filter(_id=client["id"])) for client in self._clients())

    def is_polled(self) -> bool:
        with asking():
            return any(client["cmd"] == "brpop" and "b" in client["flags"] for client in self._clients())

    def _clients(self) -> list[Any]:
        """The connections that nodes of the trial have."""
        mine = self._client.client_id()
        clients: Any = self._client.client_list()
        return [c for c in clients if c["db"] == self._number and int(c["id"]) != mine]

    def _ask(self, script: str) -> Any:
        return self._client.eval(script, 0)

    def close(self) -> None:
        try:
            with self._client as client:
                client.flushdb()
        except redis.RedisError:
            return  # the broker itself is being removed, or was the victim


def _ids(messages: Iterable[Any]) -> Iterable[str]:
    return sorted(str(message["headers"]["id"]) for message in messages)


@contextmanager
def asking() -> Iterator[None]:
    """Turn what redis-py raises into :class:`BrokerSilent`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerSilent(f"Redis does not answer: {error}") from error
