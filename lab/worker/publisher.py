"""A node that publishes when the lab tells it to, and records what it was told about each task.

An order has ``tasks``, each ``{"id", "label", "act", "about", "options"}``, or ``settings`` that hold
from then on. A publisher that is held at the phase *committed* has told its own caller that all is well,
and has not published yet.
"""

from __future__ import annotations

from typing import Any

from kombu.exceptions import KombuError

from . import gate
from .app import TASK_NAME, app
from .events import emit
from .inbox import orders
from .probe import versions


def publish(task: dict[str, Any]) -> None:
    """Publish one task. An exception is what the publisher is told: that it failed."""
    emit("asked", task["id"], label=task["label"])
    gate.hold("committed", task["id"])
    connection = app.connection_for_write()
    told_failed = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    told_failed += (RuntimeError,)  # of a result backend that is away: celery 5.7.0 backends/asynchronous.py
    try:
        about = {"act": task["act"], **task["about"]}
        app.send_task(TASK_NAME, task_id=task["id"], kwargs=about, **task["options"])
    except told_failed as error:
        emit("publish-failed", task["id"], error=f"{type(error).__name__}: {error}")
    else:
        emit("publish-ok", task["id"])


def main() -> None:
    """Serve orders until killed."""
    emit("ready", **versions())
    for order in orders():
        app.conf.update(order.get("settings", {}))  # before it first published: its backend is not made yet
        for task in order.get("tasks", ()):
            publish(task)


if __name__ == "__main__":
    main()
