"""Cables pulled and connections closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.faults.base import Fault


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """A container off its network: packets vanish both ways, and neither end is told."""

    target: Node = field(kw_only=True)
    _address: list[str] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "cut"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self._address.append(self.target.address())
        self.target.disconnect()

    def proof(self) -> str | None:
        return None if self.target.address() else "the engine says: on no network"

    def revert(self) -> None:
        if self._address and not self.target.address():
            self.target.connect(self._address[0])

    def reverted(self) -> str | None:
        address = self.target.address()
        same = bool(self._address) and address == self._address[0]
        return f"the engine says: on its network as {address}, as before" if same else None


@dataclass(frozen=True, slots=True)
class CloseConnections(Fault):
    """The broker closes every connection of the trial, as an operator or a fail-over does."""

    close: Callable[[], int] = field(kw_only=True)
    _closed: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "close-connections"

    def inject(self) -> None:
        self._closed.append(self.close())

    def proof(self) -> str | None:
        closed = sum(self._closed)
        return f"the broker says that it closed {closed} connections" if closed else None
