"""A disk that has no room left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.engine.disks import Disk
from lab.engine.node import Node
from lab.errors import Inconclusive
from lab.faults.base import Fault
from lab.faults.kill import start_again


@dataclass(frozen=True, slots=True)
class DiskFull(Fault):
    """The disk of a broker has no room left, and the broker has met that: it refuses a write.

    ``refuses`` asks it by a write that is not as small as the room in the last block of a file. For a
    broker that ``may_end`` of that write its end is proof as well; of any other it would mean that what is
    published next meets nobody. The undo gives the room back, and starts a broker that has ended.
    """

    target: Node = field(kw_only=True)
    disk: Disk = field(kw_only=True)
    refuses: Callable[[], bool] = field(kw_only=True)
    may_end: bool = field(kw_only=True)
    answers: Callable[[], bool] = field(kw_only=True)
    _full: list[bool] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "disk-full"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.disk.fill()
        self._full.append(True)

    def proof(self) -> str | None:
        if not self._full:
            return None
        if self._told() is True:
            return "the disk took no write any more, and the broker refuses one"
        state = self.target.state()
        if state.running or not self.may_end:
            return None
        return f"the disk took no write any more, and the broker ended: exit code {state.exit_code}"

    def revert(self) -> None:
        if self._full:
            self._full.clear()
            self.disk.free()
        start_again(self.target)

    def reverted(self) -> str | None:
        if self._full:
            return None
        start_again(self.target)  # one that was still about to end when there was room again
        takes = self.answers() and self._told() is False
        return "the disk took a write, and so did the broker" if takes else None

    def _told(self) -> bool | None:
        """Whether the broker refuses a write; ``None`` when it does not answer."""
        try:
            return self.refuses()
        except Inconclusive:
            return None
