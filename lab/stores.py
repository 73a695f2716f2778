"""Servers of one trial beside its broker, never the same as the broker: where results are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lab.brokers.profile import Profile
from lab.brokers.redis import Redis, asking
from lab.engine.adapter import Engine

RESULT_KEY = "celery-task-meta-"  # celery 5.7.0 backends/base.py: KeyValueStoreBackend.task_keyprefix


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
