"""Holds a task at a named gate until the lab opens it or kills the process.

A phase is a gate that is closed on nodes started with ``LAB_HOLD=<phase>``. Other gates, like those of
the sentinels, are closed for whoever is told to wait at them. The lab opens a gate by putting a file
of its name into the container through the engine: no network is involved that a fault could cut.
"""

from __future__ import annotations

import os
import time

from .events import emit

FOLDER = "/opt/lab/gate"
POLL_SECONDS = 0.005
LONGEST_SECONDS = 300.0

_held_phase = os.environ.get("LAB_HOLD")
_held_label = os.environ.get("LAB_HOLD_ONLY", "")


def closed(phase: str) -> bool:
    """Whether a task that reaches this phase must wait."""
    return phase == _held_phase and not _opened(phase)


def hold(phase: str, task: str | None) -> None:
    """Block the calling thread while this phase is held here, for this task. An id begins with its label."""
    if closed(phase) and (task or "").startswith(_held_label):
        wait(phase, task)


def wait(gate: str, task: str | None) -> None:
    """Block the calling thread until the gate is open; announce the wait and its end."""
    emit("held", task, phase=gate)
    deadline = time.monotonic() + LONGEST_SECONDS
    while not _opened(gate):
        if time.monotonic() > deadline:
            emit("hold-expired", task, phase=gate)
            return
        time.sleep(POLL_SECONDS)
    emit("passed", task, phase=gate)


def _opened(gate: str) -> bool:
    return os.path.exists(os.path.join(FOLDER, gate))
