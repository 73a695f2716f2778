"""A Redis that keeps results: never the same as the broker, so each can die alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lab.brokers.redis import Redis, asking
from lab.servers.base import Beside, Finding
from lab.settings import Settings

RESULT_KEY = "celery-task-meta-"  # celery 5.7.0 backends/base.py: KeyValueStoreBackend.task_keyprefix


class ResultStore(Beside, Redis):
    """A Redis that is the result backend of one trial."""

    file = "redis-results"
    called = "results"

    @property
    def settings(self) -> Settings:
        return {"result_backend": f"redis://:{self.password}@{self.host}:{self.inner_port}/0"}

    def findings(self) -> Iterator[Finding]:
        """How many tasks have a result, and the state of each."""
        with asking(), self.client() as client:
            keys = sorted(client.scan_iter(f"{RESULT_KEY}*"))
            yield "results", None, {"stored": len(keys)}
            for key in keys:
                stored: Any = client.get(key)
                task = key.decode().removeprefix(RESULT_KEY)
                yield "result", task, {"state": str(json.loads(stored)["status"])}
