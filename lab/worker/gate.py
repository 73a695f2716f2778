"""Holds a task at a named phase until the lab opens the gate or kills the process.

The gate is closed when the node starts with ``LAB_HOLD=<phase>``. The lab opens it by putting a
file into the container through the engine: no network is involved that a fault could cut.
"""

from __future__ import annotations

import os
import time

from .events import emit

OPENED = os.environ.get("LAB_GATE", "/opt/lab/gate/open")
POLL_SECONDS = 0.005
LONGEST_SECONDS = 300.0

_held_phase = os.environ.get("LAB_HOLD")


def closed(phase: str) -> bool:
    """Whether a task that reaches this phase must wait."""
    return phase == _held_phase and not os.path.exists(OPENED)


def hold(phase: str, task: str) -> None:
    """Block the calling thread while the gate is closed; announce the wait and its end."""
    if not closed(phase):
        return
    emit("held", task, phase=phase)
    deadline = time.monotonic() + LONGEST_SECONDS
    while closed(phase):
        if time.monotonic() > deadline:
            emit("hold-expired", task, phase=phase)
            return
        time.sleep(POLL_SECONDS)
    emit("passed", task, phase=phase)
