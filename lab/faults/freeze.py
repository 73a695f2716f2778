"""A node that does not run for a while, and does not know: a suspended machine, a stalled host."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.faults.base import Fault


@dataclass(frozen=True, slots=True)
class Freeze(Fault):
    """Every process of a container stops between two instructions. Its connections stay open."""

    target: Node = field(kw_only=True)

    @property
    def name(self) -> str:
        return "freeze"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.target.pause()

    def proof(self) -> str | None:
        return "the engine says: paused" if self.target.state().paused else None

    def revert(self) -> None:
        if self.target.state().paused:
            self.target.unpause()

    def reverted(self) -> str | None:
        return None if self.target.state().paused else "the engine says: not paused"
