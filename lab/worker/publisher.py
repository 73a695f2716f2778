"""A node that publishes when the lab tells it to, and records what it was told about each task.

An order has ``tasks``, each ``{"id", "label", "act", "about", "options"}``, or ``settings`` that hold
from then on, or a task to ``revoke``: ``{"id", "workers"}``, so many of which must answer. With ``canvas``
the tasks are the steps of one chain, or the header of one chord and, last, its body: the one call that
publishes them promises each of them. A publisher that is held at the phase *committed* has told its own
caller that all is well, and has not published yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from celery import Signature, chain, chord
from kombu.exceptions import KombuError

from . import gate
from .app import TASK_NAME, app
from .events import emit
from .inbox import orders
from .probe import versions

ANSWER_SECONDS = 5.0


def publish(tasks: Sequence[dict[str, Any]], send: Callable[[Sequence[dict[str, Any]]], Any]) -> None:
    """Publish tasks in one call. An exception is what the publisher is told: that it failed."""
    for task in tasks:
        emit("asked", task["id"], label=task["label"])
    gate.hold("committed", tasks[0]["id"])
    connection = app.connection_for_write()
    told_failed = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    told_failed += (RuntimeError,)  # of a result backend that is away: celery 5.7.0 backends/asynchronous.py
    try:
        send(tasks)
    except told_failed as error:
        for task in tasks:
            emit("publish-failed", task["id"], error=f"{type(error).__name__}: {error}")
    else:
        for task in tasks:
            emit("publish-ok", task["id"])


def send_one(tasks: Sequence[dict[str, Any]]) -> None:
    """Send the only task."""
    [task] = tasks
    app.send_task(TASK_NAME, task_id=task["id"], kwargs=arguments(task), **task["options"])


def send_chain(tasks: Sequence[dict[str, Any]]) -> None:
    """Send the first step, with all the others in its message."""
    chain(*map(step, tasks), app=app).apply_async()


def send_chord(tasks: Sequence[dict[str, Any]]) -> None:
    """Send the header, with the body in each of its messages."""
    *header, body = tasks
    chord(map(step, header), step(body), app=app).apply_async(task_id=body["id"])


CANVASES = {"chain": send_chain, "chord": send_chord}


def step(task: dict[str, Any]) -> Signature:
    """A task of a canvas. It is immutable: it does not take the result of the one before."""
    options = {"task_id": task["id"], **task["options"]}
    return Signature(TASK_NAME, kwargs=arguments(task), options=options, immutable=True, app=app)


def arguments(task: dict[str, Any]) -> dict[str, Any]:
    """What the task is called with."""
    return {"act": task["act"], **task["about"]}


def revoke(task: str, workers: int) -> None:
    """Revoke one task. What is not answered by all is not announced as known."""
    told = app.control.revoke(task, reply=True, limit=workers, timeout=ANSWER_SECONDS)
    if len(told or ()) == workers:
        emit("revocation-known", task, answer=str(told))


def main(trial: str | None = None) -> None:
    """Serve orders, those that are about this trial, until killed."""
    emit("ready", **versions())
    for order in orders(trial):
        app.conf.update(order.get("settings", {}))  # before it first published: its backend is not made yet
        if revoked := order.get("revoke"):
            revoke(revoked["id"], revoked["workers"])
        tasks = order.get("tasks", [])
        if canvas := order.get("canvas"):
            publish(tasks, CANVASES[canvas])
            continue
        for task in tasks:
            publish([task], send_one)


if __name__ == "__main__":
    main()
