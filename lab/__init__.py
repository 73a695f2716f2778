"""A broker failure-mode simulation lab for Celery. This is what a scenario imports."""

from __future__ import annotations

from lab.catalogue import CONFIRM, EARLY_LATE_OR_REJECT, EARLY_OR_LATE, FILE_SYSTEM, Axis, scenario
from lab.cell import Cell
from lab.engine.node import SHARED
from lab.handles import Moment, Worker
from lab.judge import Expectation, Surprise
from lab.rig import Rig
from lab.servers.base import Beside
from lab.servers.ledger import Ledger
from lab.verbs import (
    close_connections,
    control_shutdown,
    crash_broker,
    crash_server,
    cut,
    cut_power,
    cut_wire,
    damage_log,
    end_broker,
    evict,
    exhaust_memory,
    fill_disk,
    fill_memory,
    freeze,
    freeze_broker,
    freeze_wire,
    kill,
    kill_child,
    raise_alarm,
    send_signal,
    stop_broker,
    trip,
)

__all__ = [
    "CONFIRM",
    "EARLY_LATE_OR_REJECT",
    "EARLY_OR_LATE",
    "FILE_SYSTEM",
    "SHARED",
    "Axis",
    "Beside",
    "Cell",
    "Expectation",
    "Ledger",
    "Moment",
    "Rig",
    "Surprise",
    "Worker",
    "close_connections",
    "control_shutdown",
    "crash_broker",
    "crash_server",
    "cut",
    "cut_power",
    "cut_wire",
    "damage_log",
    "end_broker",
    "evict",
    "exhaust_memory",
    "fill_disk",
    "fill_memory",
    "freeze",
    "freeze_broker",
    "freeze_wire",
    "kill",
    "kill_child",
    "raise_alarm",
    "scenario",
    "send_signal",
    "stop_broker",
    "trip",
]
