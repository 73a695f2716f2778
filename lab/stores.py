"""Servers of one trial beside its broker, never the same as the broker: for results, and for charges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pg8000.exceptions import Error as PostgresError
from pg8000.native import Connection

from lab.brokers.base import Server
from lab.brokers.profile import Profile
from lab.brokers.redis import Redis, asking
from lab.engine.adapter import LOOPBACK, Engine
from lab.errors import BrokerSilent

RESULT_KEY = "celery-task-meta-"  # celery 5.7.0 backends/base.py: KeyValueStoreBackend.task_keyprefix
ANSWER_SECONDS = 5.0
TABLES = """
CREATE TABLE charges (id bigint GENERATED ALWAYS AS IDENTITY, task text NOT NULL);
CREATE TABLE keys (task text PRIMARY KEY)
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
STILL = "LOCK TABLE charges IN SHARE MODE"  # when whoever writes has ended, by a commit or otherwise
CHARGES = "SELECT task, count(*) FROM charges GROUP BY task ORDER BY task"


class ResultStore(Redis):
    """A Redis that is the result backend of one trial."""

    def __init__(self, engine: Engine, network: str, tag: str) -> None:
        profile = Profile.of_store("redis-results")
        super().__init__(engine, profile, network, f"{tag}-results", alias="results")

    @property
    def url(self) -> str:
        """Where nodes of the trial find it."""
        return f"redis://:{self.password}@{self.host}:{self.inner_port}/0"

    def states(self) -> Iterator[tuple[str, str]]:
        """Every task that has a result, with its state. Raises :class:`BrokerSilent`."""
        with asking(), self.client() as client:
            for key in sorted(client.scan_iter(f"{RESULT_KEY}*")):
                stored: Any = client.get(key)
                yield key.decode().removeprefix(RESULT_KEY), str(json.loads(stored)["status"])


class Ledger(Server):
    """A PostgreSQL in which the tasks of one trial write what they charged (lab/worker/charges.py)."""

    ports = ("LAB_PORT",)
    inner_port = 5432

    def __init__(self, engine: Engine, network: str, tag: str) -> None:
        super().__init__(
            engine, Profile.of_store("postgres-ledger"), network, f"{tag}-ledger", alias="ledger"
        )

    @property
    def where(self) -> str:
        """Where nodes of the trial find it, as JSON."""
        return json.dumps(self._where(self.host, self.inner_port))

    def _where(self, host: str, port: int) -> dict[str, Any]:
        return {"user": "postgres", "password": self.password, "host": host, "port": port}

    @contextmanager
    def client(self) -> Iterator[Connection]:
        """A client from outside, over 127.0.0.1. Raises :class:`BrokerSilent` for every error."""
        where = self._where(LOOPBACK, self.public["LAB_PORT"])
        try:
            with Connection(**where, timeout=ANSWER_SECONDS) as client:
                yield client
        except (PostgresError, OSError) as error:
            raise BrokerSilent(f"PostgreSQL does not answer: {error}") from error

    def version(self) -> str:
        with self.client() as client:
            return str(client.run("SHOW server_version")[0][0]).split()[0]

    def make_tables(self) -> None:
        """Have the tables of :mod:`lab.worker.charges`."""
        with self.client() as client:
            client.run(TABLES)

    def waiting(self) -> int:
        """How many transactions wait for another one to end. Raises :class:`BrokerSilent`."""
        with self.client() as client:
            return int(client.run(WAITING)[0][0])

    def charges(self) -> dict[str, int]:
        """How often each task has charged. Raises :class:`BrokerSilent`."""
        with self.client() as client:
            client.run("BEGIN")
            client.run(STILL)
            return {task: int(times) for task, times in client.run(CHARGES)}
