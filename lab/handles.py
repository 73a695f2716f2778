"""What scripts hold in their hands: a node, a publisher, a proxy, a worker; and a task seen at a phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.engine.node import Node
from lab.errors import DeadlineExpired, NodeDead
from lab.evidence import at_rest, is_held, is_unsent
from lab.history import Event
from lab.nodes import PHASE_SECONDS, Nodes

RESUME_SECONDS = 20.0
STATE_SECONDS = 1.0
GATES = "/opt/lab/gate"


@dataclass(frozen=True, slots=True)
class Moment:
    """A task seen at a phase, held there by a node."""

    task: str
    phase: str
    holder: str


@dataclass(slots=True)
class Handle:
    """A node that scripts hold in their hands: its name, its gate, its end."""

    node: Node
    nodes: Nodes
    hold: str | None = None

    @property
    def name(self) -> str:
        """Its name in the history."""
        return self.node.name

    @property
    def alive(self) -> bool:
        """Whether nothing proves that it is dead."""
        return self.name not in self.nodes.gone

    def open(self, gate: str) -> None:
        """Open one of its gates."""
        self.nodes.record("opened", node=self.name, gate=gate)
        self.node.put(GATES, gate, b"")

    def release(self) -> None:
        """Open its gate: what is held at its phase goes on, and nothing is held there any more."""
        if self.hold:
            self.open(self.hold)

    def ended(self) -> bool:
        """Whether it has ended by itself; records how, the first time that it is seen."""
        if self.alive and not (state := self.node.state()).running:
            self.nodes.gone.add(self.name)
            self.nodes.record("exited", node=self.name, code=state.exit_code, oom=state.oom_killed)
        return not self.alive

    def exits(self, seconds: float = PHASE_SECONDS) -> None:
        """Wait until it has ended by itself."""
        self.nodes.watch.poll(self.ended, f"{self.name} to exit", seconds)

    def says(
        self, name: str, task: str | None = None, *, times: int = 1, seconds: float = PHASE_SECONDS
    ) -> None:
        """Wait until it has reported an event, about a task if one is named, so many times."""

        def said(events: Sequence[Event]) -> bool:
            return self.count(name, task, events) >= times

        about = f" about {task}" if task else ""
        what = f"{self.name} to say {name!r}{about}" + (f" {times} times" if times > 1 else "")
        self.nodes.watch.until(said, what, seconds, self.name)

    def count(self, name: str, task: str | None = None, events: Sequence[Event] | None = None) -> int:
        """How many times it has reported an event so far."""
        events = self.nodes.watch.events() if events is None else events
        return sum(e.node == self.name and e.name == name and task in (None, e.task) for e in events)

    def _reached(self, task: str, phase: str, *, acknowledged: bool = False) -> Moment:
        self.nodes.record("reached", task, node=self.name, phase=phase, acknowledged=acknowledged)
        return Moment(task, phase, self.name)


@dataclass(slots=True)
class Ordered(Handle):
    """A node that takes orders (lab/worker/inbox.py)."""

    orders: int = 0

    def order(self, about: Mapping[str, object]) -> int:
        """Have it do something; the number of the order. Does not wait."""
        self.orders += 1
        self.node.tell({**about, "order": self.orders})
        return self.orders


@dataclass(slots=True)
class Publisher(Ordered):
    """A node that publishes what it is told to."""

    def was_told(self, ids: Sequence[str], seconds: float = PHASE_SECONDS) -> None:
        """Wait until it was told about each of these tasks: that it succeeded, or that it failed."""

        def told(events: Sequence[Event]) -> bool:
            return {e.task for e in events if e.name in ("publish-ok", "publish-failed")} >= set(ids)

        self.nodes.watch.until(told, f"{self.name} to be told about {ids[0]}", seconds, self.name)

    def commits(self, task: str) -> Moment:
        """Wait until it has committed to a task, and not published it yet."""

        def held(events: Sequence[Event]) -> bool:
            return any(e.node == self.name and e.task == task and is_held(e, "committed") for e in events)

        self.nodes.watch.until(held, f"{self.name} to commit {task}", PHASE_SECONDS, self.name)
        return self._reached(task, "committed")


@dataclass(slots=True)
class Proxy(Ordered):
    """The wire between a node and its broker. What it says carries the number of the order."""

    def obeyed(self, number: int) -> bool:
        """Whether it has said that it did what the order asked for."""
        return any(e.node == self.name and e.detail.get("order") == number for e in self.nodes.watch.events())

    def arm(self, trip: str) -> None:
        """Have it freeze by itself at the next such moment of the protocol."""
        number = self.order({"do": "arm", "trip": trip})
        self.nodes.watch.poll(lambda: self.obeyed(number), f"{self.name} to be armed", PHASE_SECONDS)


@dataclass(slots=True)
class Worker(Handle):
    """One Celery worker of the trial."""

    prefetch_limit: int = 0
    concurrency: int = 1
    acks_late: bool = False

    def reaches(self, phase: str, task: str) -> Moment:
        """Wait until the worker holds this task at this phase.

        The child announces the phase, the parent accepts and acknowledges by itself: a task that is
        acknowledged early has reached its phase only when both have happened.
        """
        early = phase != "reserved" and not self.acks_late

        def reached(events: Sequence[Event]) -> bool:
            mine = [e for e in events if e.node == self.name and e.task == task]
            names = {e.name for e in mine if not is_unsent(e)}
            held = any(is_held(e, phase) for e in mine)
            accepted = phase == "reserved" or "accepted" in names
            return held and accepted and (not early or "acknowledged" in names)

        what = f"{self.name} to hold {task} {phase}"
        self.nodes.watch.until(reached, what, PHASE_SECONDS, self.name)
        return self._reached(task, phase, acknowledged=early)

    def prefetches(self, published: int) -> None:
        """Wait until it holds as many unacknowledged deliveries as it may, or everything published.

        Celery asks for prefetch multiplier x concurrency; 0 is without limit.
        """

        def full(events: Sequence[Event]) -> bool:
            received = self.count("received", events=events)
            ended = self.count("acknowledged", events=events) + self.count("rejected", events=events)
            return received >= published or 0 < self.prefetch_limit <= received - ended

        self.nodes.watch.until(full, f"{self.name} to fill its prefetch window", PHASE_SECONDS, self.name)

    def child(self, task: str) -> int:
        """The pid of the pool process that holds this task, or of the newest one when none does."""

        def pids(events: Sequence[Event]) -> list[int]:
            mine = [e for e in events if e.node == self.name]
            running = [e.pid for e in mine if e.name == "started" and e.task == task]
            return running or [e.pid for e in mine if e.name == "child"]

        what = f"{self.name} to have a child"
        self.nodes.watch.until(lambda e: bool(pids(e)), what, PHASE_SECONDS, self.name)
        return pids(self.nodes.watch.events())[-1]

    def idle(self, events: Sequence[Event]) -> bool:
        """Whether it has answered every delivery and ended every run, as far as was seen live."""
        return at_rest(event for event in events if event.node == self.name)

    def resumes(self, seconds: float = RESUME_SECONDS) -> bool:
        """Wait until it consumes again after it lost its connection; false if it has exited instead."""
        back = f"{self.name} to consume again, or to exit"
        self.nodes.watch.poll(lambda: self._is_back() or self.ended(), back, seconds)
        return self.alive

    def _is_back(self) -> bool:
        return self.count("consuming") > self.count("disconnected") > 0

    def describe(self) -> None:
        """Have its main process say what state it is in. One that cannot say it is a finding too."""
        before = self.count("state")
        with suppress(DeadlineExpired, NodeDead):
            self.node.kill("SIGUSR2")
            self.says("state", times=before + 1, seconds=STATE_SECONDS)
