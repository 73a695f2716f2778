"""What a task may do beside waiting: a scenario publishes it with the name of one of these."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from celery.exceptions import Reject

from . import gate
from .charges import charge

BITE = 1 << 20


def nothing(_task: Any) -> None:
    """Succeed."""


def sentinel(task: Any, gate_name: str) -> None:
    """Wait at a gate of its own, so that as many run at once as the worker can run."""
    gate.wait(gate_name, task.request.id)


def die(_task: Any) -> None:
    """End the process that runs it, like a segmentation fault in a library."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_task: Any) -> None:
    """Call ``sys.exit``."""
    sys.exit(3)


def die_once(task: Any) -> None:
    """Die in the first delivery, and succeed in the next one."""
    if not task.request.delivery_info["redelivered"]:
        die(task)


def leave_once(task: Any) -> None:
    """Call ``sys.exit`` in the first delivery, and succeed in the next one."""
    if not task.request.delivery_info["redelivered"]:
        leave(task)


def eat(_task: Any, most: int) -> None:
    """Take memory until the kernel ends this process, or so many bytes are taken and it has not."""
    hoard: list[bytes] = []
    while len(hoard) * BITE < most:
        hoard.append(b"x" * BITE)  # written to: zeroes alone would take no memory
    raise MemoryError(f"nobody minded that {most} bytes were taken")


def eat_once(task: Any, most: int) -> None:
    """Eat in the first delivery, and succeed in the next one."""
    if not task.request.delivery_info["redelivered"]:
        eat(task, most)


def die_when_told(task: Any) -> None:
    """Wait at a gate that is named after the process that runs it, then die."""
    gate.wait(f"die-{os.getpid()}", task.request.id)
    die(task)


def fail(_task: Any) -> None:
    """Raise an error."""
    raise ValueError("the task was told to fail")


def reject(_task: Any) -> None:
    """Tell the broker to drop its message."""
    raise Reject("the task was told to reject", requeue=False)


def retry_once(task: Any) -> None:
    """Ask for a retry at once in the first run, and succeed in the retry."""
    if not task.request.retries:
        raise task.retry(countdown=0)


ACTS: Mapping[str, Callable[..., Any]] = {
    act.__name__: act
    for act in (
        *(nothing, sentinel, die, leave, die_once, leave_once, eat, eat_once, die_when_told),
        *(retry_once, fail, reject, charge),
    )
}
