"""Faults: one small file a family. Each fault proves that it landed, and that it is undone."""

from __future__ import annotations

from lab.faults.base import Fault
from lab.faults.freeze import Freeze
from lab.faults.kill import KillChild, KillNode, Stop
from lab.faults.memory import Eviction, MemoryFull, OutOfMemory
from lab.faults.network import CloseConnections, Cut
from lab.faults.power import PowerCut
from lab.faults.signals import ControlShutdown, Signal
from lab.faults.wire import Wire

__all__ = [
    "CloseConnections",
    "ControlShutdown",
    "Cut",
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
