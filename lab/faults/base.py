"""What every fault is: an injection with its proof, and an undo with its proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """Something broken on purpose, at a phase of one task.

    ``pid`` is the process that is struck, 0 for the whole node; ``longest`` bounds the fault in
    seconds, after which it is reverted whatever happens.
    """

    node: str
    phase: str | None
    task: str | None
    pid: int = 0
    longest: float = 10.0

    @property
    @abstractmethod
    def name(self) -> str:
        """The verb, as histories record it."""

    @abstractmethod
    def inject(self) -> None:
        """Break it. Returns when the engine says that it is done."""

    @abstractmethod
    def proof(self) -> str | None:
        """What shows that it landed, ``None`` while nothing does."""

    @abstractmethod
    def revert(self) -> None:
        """Undo it. Idempotent."""

    @abstractmethod
    def reverted(self) -> str | None:
        """What shows that it is undone, ``None`` while nothing does."""
