"""A node that publishes when the lab tells it to, and records what it was told about each task.

An order is a JSON file that the lab puts into the inbox through the engine. Its last byte is a
newline, so a file that is still being written is told from a whole one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from kombu.exceptions import KombuError

from .app import TASK_NAME, app
from .events import emit
from .probe import versions

INBOX = Path("/opt/lab/inbox")
POLL_SECONDS = 0.005


def orders(inbox: Path) -> Iterator[list[dict[str, Any]]]:
    """Every order in turn, for as long as the node lives."""
    for number in count():
        path = inbox / f"{number:06}.json"
        while not (path.exists() and (text := path.read_text()).endswith("\n")):
            time.sleep(POLL_SECONDS)
        yield json.loads(text)


def publish(task: dict[str, Any]) -> None:
    """Publish one task. An exception is what the publisher is told: that it failed."""
    emit("asked", task["id"], label=task["label"])
    connection = app.connection_for_write()
    told_failed = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    try:
        app.send_task(TASK_NAME, task_id=task["id"], **task.get("options", {}))
    except told_failed as error:
        emit("publish-failed", task["id"], error=f"{type(error).__name__}: {error}")
    else:
        emit("publish-ok", task["id"])


def main() -> None:
    """Serve orders until killed."""
    emit("ready", **versions())
    for order in orders(INBOX):
        for task in order:
            publish(task)


if __name__ == "__main__":
    main()
