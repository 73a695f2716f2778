"""What the proxy between a worker and its broker does to the bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.faults.base import Fault

Obeyed = Callable[[], bool]
Order = Callable[[Mapping[str, str]], Obeyed]


@dataclass(frozen=True, slots=True)
class Wire(Fault):
    """An order to the proxy, and the order that undoes it. The proxy's own event is the proof."""

    verb: str = field(kw_only=True)
    do: Mapping[str, str] = field(kw_only=True)
    undo: Mapping[str, str] = field(kw_only=True)
    order: Order = field(kw_only=True)
    happened: Callable[[], bool] | None = field(default=None, kw_only=True)
    _injected: list[Obeyed] = field(default_factory=list, kw_only=True)
    _reverted: list[Obeyed] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return self.verb

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self._injected.append(self.order(self.do))

    def proof(self) -> str | None:
        done = self.happened or (self._injected[-1] if self._injected else None)
        return f"the proxy says: {self.verb}" if done and done() else None

    def revert(self) -> None:
        self._reverted.append(self.order(self.undo))

    def reverted(self) -> str | None:
        return "the proxy says: undone" if self._reverted and self._reverted[-1]() else None
