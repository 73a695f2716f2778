"""A broker that has no memory left for more: it lives, answers, and takes no new task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.faults.base import Fault


@dataclass(frozen=True, slots=True)
class MemoryFull(Fault):
    """The broker's memory limit falls below what it holds. The undo gives it back the limit that it had.

    ``full`` asks the broker itself by a write, not by its settings.
    """

    fill: Callable[[], None] = field(kw_only=True)
    free: Callable[[], None] = field(kw_only=True)
    full: Callable[[], bool] = field(kw_only=True)

    @property
    def name(self) -> str:
        return "memory-full"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.fill()

    def proof(self) -> str | None:
        return "the broker refuses a write: it has no memory left" if self.full() else None

    def revert(self) -> None:
        self.free()

    def reverted(self) -> str | None:
        return None if self.full() else "the broker takes a write again"
