"""Faults: one small file a family. Each fault proves that it landed, and that it is undone."""

from __future__ import annotations

from lab.faults.alarm import Alarm
from lab.faults.base import Fault
from lab.faults.disk import DiskFull
from lab.faults.freeze import Freeze
from lab.faults.kill import KillChild, KillNode, Stop
from lab.faults.log import DamagedLog
from lab.faults.memory import Eviction, MemoryFull, OutOfMemory
from lab.faults.network import CloseConnections, Cut
from lab.faults.power import PowerCut
from lab.faults.signals import ControlShutdown, Signal
from lab.faults.wire import Wire

__all__ = [
    "Alarm",
    "CloseConnections",
    "ControlShutdown",
    "Cut",
    "DamagedLog",
    "DiskFull",
    "Eviction",
    "Fault",
    "Freeze",
    "KillChild",
    "KillNode",
    "MemoryFull",
    "OutOfMemory",
    "PowerCut",
    "Signal",
    "Stop",
    "Wire",
]
