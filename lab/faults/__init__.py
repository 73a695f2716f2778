"""Faults: one small file a family. Each fault proves that it landed, and that it is undone."""

from __future__ import annotations

from lab.faults.base import Fault
from lab.faults.kill import KillChild, KillNode

__all__ = ["Fault", "KillChild", "KillNode"]
