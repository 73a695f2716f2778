"""What a task may do beside waiting: a scenario publishes it with the name of one of these."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import gate


def nothing(_task: Any) -> None:
    """Succeed."""


def sentinel(task: Any, gate_name: str) -> None:
    """Wait at a gate of its own, so that as many run at once as the worker can run."""
    gate.wait(gate_name, task.request.id)


def fail(_task: Any) -> None:
    """End by an exception."""
    raise RuntimeError("as it was told to")


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


def die_when_told(task: Any) -> None:
    """Wait at a gate that is named after the process that runs it, then die."""
    gate.wait(f"die-{os.getpid()}", task.request.id)
    die(task)


ACTS: Mapping[str, Callable[..., Any]] = {
    act.__name__: act for act in (nothing, sentinel, fail, die, leave, die_once, leave_once, die_when_told)
}
