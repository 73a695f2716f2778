"""Who made an object of the engine: labels at creation, and whether that owner still lives.

A lab removes an object only when its owner is dead on this very host, or when it has expired and
its host cannot be asked. Two labs side by side never touch each other's objects.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

RUN = "celery-lab.run"
OWNER = "celery-lab.owner"
EXPIRES = "celery-lab.expires"
LONGEST_RUN_SECONDS = 6 * 3600
PROC = Path("/proc")
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process of a host: a pid alone would be reused."""

    host: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(_here(), os.getpid(), _started(os.getpid()))

    @classmethod
    def read(cls, labels: Mapping[str, str]) -> Owner | None:
        """The owner that the labels name, ``None`` when they are not the lab's."""
        host, _, rest = labels.get(OWNER, "").partition("|")
        pid, _, started = rest.partition("|")
        return cls(host, int(pid), started) if host and pid.isdigit() else None

    def labels(self, run: str) -> dict[str, str]:
        """What every object of this run carries."""
        return {
            RUN: run,
            OWNER: f"{self.host}|{self.pid}|{self.started}",
            EXPIRES: str(int(time.time()) + LONGEST_RUN_SECONDS),
        }

    def alive(self) -> bool:
        """Whether this very process runs now. Only meaningful on its own host."""
        return _started(self.pid) == self.started


def is_abandoned(labels: Mapping[str, str]) -> bool:
    """Whether an object may be removed by somebody who did not make it."""
    owner = Owner.read(labels)
    if owner is None:
        return False
    if owner.host == _here():
        return not owner.alive()
    return int(labels.get(EXPIRES, "0")) < time.time()


def _started(pid: int) -> str:
    """When a process started, in a form that no clock adjustment changes (proc(5): field 22, in ticks)."""
    if not (PROC / "self").exists():
        try:
            return f"{psutil.Process(pid).create_time():.2f}"
        except psutil.NoSuchProcess:
            return GONE
    try:
        state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return GONE
    return GONE if state in ("Z", "X") else fields[18]


def _here() -> str:
    """This host, this boot, and the name space in which a pid has its meaning."""
    if not (PROC / "self").exists():
        return platform.node()
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()}/{boot}/{(PROC / 'self/ns/pid').readlink()}"
