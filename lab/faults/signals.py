"""Signals and orders that ask a worker to leave: it obeys in its own way, so its own word is the proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.faults.base import Fault

CELERY = ("python3", "-m", "celery", "-A", "worker.app")


@dataclass(frozen=True, slots=True)
class ControlShutdown(Fault):
    """``celery control shutdown``, through the broker. ``heard`` counts how often it stopped to consume."""

    target: Node = field(kw_only=True)
    heard: Callable[[], int] = field(kw_only=True)
    _before: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "control-shutdown"

    def inject(self) -> None:
        self._before.append(self.heard())
        self.target.begin([*CELERY, "control", "shutdown"])

    def proof(self) -> str | None:
        told = bool(self._before) and self.heard() > self._before[-1]
        return "the worker stopped to consume when it was told to leave" if told else None


@dataclass(frozen=True, slots=True)
class Signal(Fault):
    """A signal to the main process of a worker. ``heard`` counts the shutdowns that it announced."""

    target: Node = field(kw_only=True)
    number: str = field(kw_only=True)
    heard: Callable[[], int] = field(kw_only=True)
    _before: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return self.number

    def inject(self) -> None:
        self._before.append(self.heard())
        self.target.kill(self.number)

    def proof(self) -> str | None:
        if self._before and self.heard() > self._before[-1]:
            return f"the worker announced that it shuts down on {self.number}"
        return None
