"""A node that publishes when the lab tells it to, and records what it was told about each task.

An order is a list of tasks: ``{"id", "label", "act", "about", "options"}``, or of tasks to revoke: ``{"id",
"revoke"}`` with the number of workers that must answer. A publisher that is held at
the phase *committed* has told its own caller that all is well, and has not published yet.
"""

from __future__ import annotations

from typing import Any

from kombu.exceptions import KombuError

from . import gate
from .app import TASK_NAME, app
from .events import emit
from .inbox import orders
from .probe import versions

ANSWER_SECONDS = 5.0


def publish(task: dict[str, Any]) -> None:
    """Publish one task. An exception is what the publisher is told: that it failed."""
    emit("asked", task["id"], label=task["label"])
    gate.hold("committed", task["id"])
    connection = app.connection_for_write()
    told_failed = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    try:
        about = {"act": task["act"], **task["about"]}
        app.send_task(TASK_NAME, task_id=task["id"], kwargs=about, **task["options"])
    except told_failed as error:
        emit("publish-failed", task["id"], error=f"{type(error).__name__}: {error}")
    else:
        emit("publish-ok", task["id"])


def revoke(task: dict[str, Any]) -> None:
    """Revoke one task. What is not answered by all is not announced as known."""
    told = app.control.revoke(task["id"], reply=True, limit=task["revoke"], timeout=ANSWER_SECONDS)
    if len(told or ()) == task["revoke"]:
        emit("revocation-known", task["id"], answer=str(told))


def main() -> None:
    """Serve orders until killed."""
    emit("ready", **versions())
    for order in orders():
        for task in order:
            (revoke if "revoke" in task else publish)(task)


if __name__ == "__main__":
    main()
