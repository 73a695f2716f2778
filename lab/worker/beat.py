"""Celery's own scheduler, which says what it sends and when it has written its file.

Only a beat imports this: what a worker or a publisher sends is told elsewhere.
"""

from __future__ import annotations

import os
import shelve
from datetime import timedelta
from importlib import import_module
from typing import Any

from celery import signals
from celery.beat import PersistentScheduler

from . import gate
from .events import emit
from .probe import versions

BERKELEY = "Berkeley DB"


class Shelves:
    """Opens the schedule file as the database that is named, or as what this Python chooses by itself.

    Which one it chooses depends on how it was built (cpython 3.11 ``dbm/__init__.py``: _names).
    """

    @staticmethod
    def open(filename: str, *, writeback: bool) -> shelve.Shelf[Any]:
        """Raises ``RuntimeError`` where this Python's ndbm is of another family."""
        kind = os.environ.get("LAB_SHELF")
        module = import_module(f"dbm.{kind}" if kind else "dbm")
        if getattr(module, "library", BERKELEY) != BERKELEY:
            raise RuntimeError(f"this Python's dbm.{kind} is {module.library}, not {BERKELEY}")
        return shelve.Shelf(module.open(filename, "c"), writeback=writeback)


class ProbedScheduler(PersistentScheduler):
    """Says what its file told it, and when it has nothing to do but wait.

    Stops for good before its n-th tick at the gate ``tick-n``, or before the first one that it waited for at
    the gate ``waited``, where that is held. A tick that is stopped is not booked as run.
    """

    persistence = Shelves
    tick_number = 0
    waited = False

    def setup_schedule(self) -> None:
        for entry in self.app.conf.beat_schedule.values():
            if (first := entry.pop("first", None)) is not None:  # it counts only where no file knows better
                entry["last_run_at"] = self.app.now() - timedelta(seconds=entry["schedule"] - first)
        super().setup_schedule()
        entries = self.schedule.values()
        runs = sum(entry.total_run_count for entry in entries)
        emit("remembers", runs=runs, due=any(entry.is_due()[0] for entry in entries))
        emit("ready", **versions())

    def tick(self, *about: Any, **options: Any) -> Any:
        seconds = super().tick(*about, **options)
        if seconds and seconds > 0:
            self.waited = True
            emit("waits", seconds=seconds)
        return seconds

    def reserve(self, entry: Any) -> Any:
        self.tick_number += 1
        gate.hold(f"tick-{self.tick_number}", None)
        if self.waited:
            gate.hold("waited", None)
        emit("due")
        return super().reserve(entry)

    def sync(self) -> None:
        super().sync()
        emit("synced")

    def close(self) -> None:
        emit("shutting-down")
        super().close()


@signals.before_task_publish.connect
def _asked(headers: dict[str, Any], **_: Any) -> None:
    emit("asked", headers["id"], label="target")


@signals.after_task_publish.connect
def _published(headers: dict[str, Any], **_: Any) -> None:
    emit("publish-ok", headers["id"])
