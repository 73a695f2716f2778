"""What every fault is: an injection with its proof, and an undo with its proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

LASTING = "what it did stays done; its nodes are removed with the trial"


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """Something broken on purpose.

    ``node`` is the name of what is struck, ``pid`` the process of it that is, 0 for all of them;
    ``longest`` bounds the fault in seconds: one that lasts longer is undone, and spoils its trial.
    """

    node: str
    pid: int = 0
    longest: float = 30.0

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

    @property
    def lasting(self) -> bool:
        """Whether there is nothing to undo: what is killed stays dead."""
        return True

    def revert(self) -> None:
        """Undo it. Idempotent."""
        return

    def reverted(self) -> str | None:
        """What shows that it is undone, ``None`` while nothing does."""
        return LASTING
