"""A PostgreSQL with what tasks charged: an effect outside of Celery and its broker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.engine.adapter import LOOPBACK
from lab.errors import BrokerSilent
from lab.servers.base import Beside, Finding

if TYPE_CHECKING:
    from pg8000.native import Connection

ANSWER_SECONDS = 5.0
TABLES = """
CREATE TABLE charges (id bigint GENERATED ALWAYS AS IDENTITY, task text NOT NULL);
CREATE TABLE keys (task text PRIMARY KEY)
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
STILL = "LOCK TABLE charges IN SHARE MODE"  # when whoever writes has ended, by a commit or otherwise
CHARGES = "SELECT task, count(*) FROM charges GROUP BY task ORDER BY task"


class Ledger(Beside):
    """A PostgreSQL in which the tasks of one trial write what they charged (lab/worker/charges.py)."""

    file = "postgres-ledger"
    called = "ledger"
    ports = ("LAB_PORT",)
    inner_port = 5432

    @property
    def environment(self) -> Mapping[str, str]:
        return {"LAB_LEDGER": json.dumps(self._where(self.host, self.inner_port))}

    def _where(self, host: str, port: int) -> dict[str, Any]:
        return {"user": "postgres", "password": self.password, "host": host, "port": port}

    @contextmanager
    def client(self) -> Iterator[Connection]:
        """A client from outside, over 127.0.0.1. Raises :class:`BrokerSilent` for every error."""
        from pg8000.exceptions import Error as PostgresError  # 0.14 s that only runs with a ledger need
        from pg8000.native import Connection

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

    def findings(self) -> Iterator[Finding]:
        """How many tasks have charged, and how often each."""
        with self.client() as client:
            client.run("BEGIN")
            client.run(STILL)
            charged = client.run(CHARGES)
        yield "ledger", None, {"tasks": len(charged)}
        for task, times in charged:
            yield "charged", task, {"times": int(times)}
