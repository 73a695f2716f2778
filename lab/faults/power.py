"""The power of a broker's machine fails: what its disk has not been told to keep is gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from lab.engine.disks import Disk
from lab.engine.node import Node
from lab.errors import NodeDead
from lab.faults.base import Fault
from lab.faults.kill import start_again

SAME_DISK = 'grep -qxF "$1" "$2/.celery-lab" && touch "$2/.celery-lab-again"'


@dataclass(frozen=True, slots=True)
class PowerCut(Fault):
    """The file system is shut down without its journal being flushed, then the broker gets SIGKILL.

    What the broker wrote and did not fsync was in the kernel's memory only, and is gone. The undo starts the
    broker again: its disk is mounted again, and the journal replayed. ``folder`` is where it is mounted.

    What it is not: the loop device itself has no cache that could be lost, so a disk that lies about
    its flushes is another story, and so is a sector that is half written.
    """

    target: Node = field(kw_only=True)
    disk: Disk = field(kw_only=True)
    folder: str = field(kw_only=True)
    answers: Callable[[], bool] = field(kw_only=True)
    _cut: list[bool] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "power-cut"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.disk.cut()
        with suppress(NodeDead):  # a broker may end by itself when its disk fails
            self.target.kill("SIGKILL")
        self._cut.append(True)

    def proof(self) -> str | None:
        if not self._cut or self.target.state().running or not self.disk.released():
            return None
        return "the file system was shut down and took no write any more; the engine says: not running"

    def revert(self) -> None:
        start_again(self.target)

    def reverted(self) -> str | None:
        """A disk that was not mounted afresh would take no write, and another would not have the marker."""
        if not self.answers() or not self.disk.is_kept():
            return None
        same = ["sh", "-c", SAME_DISK, "sh", self.disk.volume, self.folder]
        if self.target.execute(same):
            return None
        return "it was started again on its disk mounted afresh, and answers"
