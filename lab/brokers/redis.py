"""Redis: a database per trial; queues are lists, deliveries wait in the hash ``unacked``.

Source: kombu 5.7.0 ``transport/redis.py``. A queue is one list per priority step, the message's
``headers.id`` is the task id; ``unacked`` maps a delivery tag to ``[message, exchange, routing key]``.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lab.brokers.base import Broker, Cache, Depth, Namespace
from lab.engine.adapter import LOOPBACK
from lab.engine.node import NodeSpec
from lab.errors import BrokerSilent, EnvironmentLacks
from lab.history import Backlog
from lab.settings import Settings

DATABASES = 256  # as in compose/redis-*.yml
ANSWER_SECONDS = 5.0
EACH_SECOND = "1 1"  # seconds, changes
PROBES = 2
MANIFEST = "appendonly.aof.manifest"
UNENDED = 255
CACHE = "page:"
CACHE_BYTES, PAGE_BYTES, PAGES_AT_ONCE = 1 << 20, 4096, 50
PAGES = 5000  # so many are the cache twenty times over: what may be evicted by then has been
OLD_SECONDS = 2

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

    def meet_full_disk(self) -> Settings:
        """Snapshots are taken by the clock: where they are, one is due each second from now."""
        with asking(), self.client() as client:
            told: Any = client.config_get("save")
            if told["save"]:
                client.config_set("save", EACH_SECOND)
        return {"save": EACH_SECOND} if told["save"] else {}

    ends_on_full_disk = True  # where it answers for nothing that it has not written

    def disk_is_full(self) -> bool:
        """Ask by writes that together are more than the last block of a file has room for."""
        with asking(), self.client(DATABASES - 1) as client:
            try:
                for _ in range(PROBES):
                    client.set("lab-probe", bytes(PAGE_BYTES))
                    client.delete("lab-probe")
            except redis.exceptions.ResponseError as error:
                if "MISCONF" in str(error):
                    return True
                raise
        return False

    log_folder = "appendonlydir"

    def newest_log(self, files: Mapping[str, bytes]) -> str:
        """The last one of type i in the manifest (redis 8.0 ``src/aof.c``: getAofManifestAsString)."""
        lines = files[MANIFEST].decode().splitlines()
        return [line.split()[1] for line in lines if " type i" in line][-1]

    def mend_log(self) -> int:
        manifest = f"{self.profile.service.data}/{self.log_folder}/{MANIFEST}"
        mender = self.engine.start(
            NodeSpec(
                name=f"{self.node.id[:12]}-mender",
                image=self.profile.image,
                command=("sh", "-c", f"yes | redis-check-aof --fix {manifest}"),
                network="",
                alias="mender",
                volumes_of=self.node.id,
            )
        )
        try:
            with closing(mender.follow()) as said:
                deque(said, maxlen=0)  # to its end
            state = mender.state()
        finally:
            mender.remove()
        return UNENDED if state.running else state.exit_code

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

    def has_consumers(self, count: int) -> bool:
        """Redis counts none. Who has gone may still wait there, for a second, and be given the next task."""
        return count > 0 or not self.is_polled()

    def is_polled(self) -> bool:
        with asking():
            return any(client["cmd"] == "brpop" and "b" in client["flags"] for client in self._clients())

    def _clients(self) -> list[Any]:
        """The connections that nodes of the trial have."""
        mine = self._client.client_id()
        clients: Any = self._client.client_list()
        return [c for c in clients if c["db"] == self._number and int(c["id"]) != mine]

    def cache(self) -> Cache:
        return RedisCache(self._client)

    def _ask(self, script: str) -> Any:
        return self._client.eval(script, 0)

    def close(self) -> None:
        try:
            with self._client as client:
                client.flushdb()
        except redis.RedisError:
            return  # the broker itself is being removed, or was the victim


class RedisCache(Cache):
    """Strings with a time to live, in the database of the queue."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._number = count()
        self._pages_since_old = 0

    def grow(self, policy: str, key: str) -> None:
        with asking():
            info: Any = self._client.info("memory")
            self._client.config_set("maxmemory-policy", policy)
            self._client.config_set("maxmemory", info["used_memory"] + CACHE_BYTES)
            while self.spares(key) and self._pages_since_old < PAGES:
                try:
                    self._write_pages(key)
                except redis.exceptions.OutOfMemoryError:
                    return

    def _write_pages(self, key: str) -> None:
        """Write some, and count those that are younger than the key by Redis' own clock.

        That clock ticks once a second (redis 8.0 ``src/server.h``: LRU_CLOCK_RESOLUTION). Who asks how long a
        key was idle, or whether it exists, does not use it (``src/object.c``; ``src/db.c``: existsCommand).
        """
        old = (self._client.object("idletime", key) or 0) >= OLD_SECONDS
        with self._client.pipeline(transaction=False) as pages:
            for _ in range(PAGES_AT_ONCE):
                pages.set(f"{CACHE}{next(self._number)}", b"x" * PAGE_BYTES, ex=3600)
            pages.execute()
        self._pages_since_old += PAGES_AT_ONCE * old

    def spares(self, key: str) -> bool:
        with asking():
            return bool(self._client.exists(key))

    def evicted(self) -> int:
        with asking():
            info: Any = self._client.info("stats")
        return int(info["evicted_keys"])

    def limited(self) -> bool:
        with asking():
            told: Any = self._client.config_get("maxmemory")
        return bool(told["maxmemory"] != "0")

    def free(self) -> None:
        with asking():
            self._client.config_set("maxmemory", 0)
            self._client.config_set("maxmemory-policy", "noeviction")
            if pages := list(self._client.scan_iter(f"{CACHE}*", count=1000)):
                self._client.delete(*pages)


def _ids(messages: Iterable[Any]) -> Iterable[str]:
    return sorted(str(message["headers"]["id"]) for message in messages)


@contextmanager
def asking() -> Iterator[None]:
    """Turn what redis-py raises into :class:`BrokerSilent`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerSilent(f"Redis does not answer: {error}") from error
