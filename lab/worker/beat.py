"""Celery's own scheduler, which says what it sends and when it has written its file.

Only a beat imports this: what a worker or a publisher sends is told elsewhere.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.beat import PersistentScheduler

from . import gate
from .events import emit
from .probe import versions


class ProbedScheduler(PersistentScheduler):
    """Stops for good at the gate ``tick-n`` before its n-th tick, where that is held."""

    tick_number = 0

    def setup_schedule(self) -> None:
        super().setup_schedule()
        emit("ready", **versions())

    def sync(self) -> None:
        super().sync()
        emit("synced")

    def apply_async(self, entry: Any, *about: Any, **options: Any) -> Any:
        self.tick_number += 1
        gate.hold(f"tick-{self.tick_number}", None)
        return super().apply_async(entry, *about, **options)


@signals.before_task_publish.connect
def _asked(headers: dict[str, Any], **_: Any) -> None:
    emit("asked", headers["id"], label="target")


@signals.after_task_publish.connect
def _published(headers: dict[str, Any], **_: Any) -> None:
    emit("publish-ok", headers["id"])
