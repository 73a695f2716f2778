"""A broker that raises an alarm: it is short of memory or disk, and reads from nobody who publishes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lab.faults.base import Fault


@dataclass(frozen=True, slots=True)
class Alarm(Fault):
    """The broker's limit becomes one that it cannot keep. The undo gives it back the limit that it had.

    ``resource`` is what it is short of, ``alarms`` asks the broker itself which alarms it has.
    """

    resource: str = field(kw_only=True)
    sound: Callable[[str], None] = field(kw_only=True)
    clear: Callable[[str], None] = field(kw_only=True)
    alarms: Callable[[], Collection[str]] = field(kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.resource}-alarm"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.sound(self.resource)

    def proof(self) -> str | None:
        raised = self.resource in self.alarms()
        return f"the broker lists the alarm: {self.resource}" if raised else None

    def revert(self) -> None:
        self.clear(self.resource)

    def reverted(self) -> str | None:
        return None if self.resource in self.alarms() else f"the broker lists no alarm: {self.resource}"
