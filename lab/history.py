"""The append-only list of what happened in one trial, and how it is read from logs and files.

An event is known by ``(node, pid, seq)``: every process numbers its own lines from 0, so a log that
lost lines shows a hole. Times are for people and for durations; no verdict compares the clocks of
two machines.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

Scalar = str | int | float | bool | None

LAB = "lab"
TARGET = "target"  # the label of the tasks that a scenario is about
SENTINEL = "sentinel"  # the label of those that the lab publishes to prove that a worker takes work
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Event:
    """One line of one process. ``at`` is in nanoseconds since the epoch, by that node's clock."""

    node: str
    at: int
    pid: int
    seq: int
    name: str
    task: str | None = None
    detail: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies this event in its trial."""
        return (self.node, self.pid, self.seq)

    def to_json(self) -> str:
        """The event as one line, without the newline."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the broker holds at the end: ids ready for delivery, ids delivered and unacknowledged.

    ``dead`` are those that it put into a dead-letter queue, where no worker looks.
    ``readable`` is false when the broker could not be asked; then nothing can be called lost.
    """

    ready: tuple[str, ...] = ()
    unacked: tuple[str, ...] = ()
    readable: bool = True
    dead: tuple[str, ...] = ()

    def __contains__(self, task: str) -> bool:
        return task in self.ready or task in self.unacked


class NotAnEvent(ValueError):
    """A line that no probe wrote."""


def parse_event(line: str | bytes) -> Event:
    """Read one line. Raises :class:`NotAnEvent` with the reason."""
    try:
        raw = json.loads(line)
        event = Event(
            node=raw["node"],
            at=raw["at"],
            pid=raw["pid"],
            seq=raw["seq"],
            name=raw["name"],
            task=raw["task"],
            detail=raw["detail"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NotAnEvent(f"{error!r} in {line[:120]!r}") from error
    numbers = (event.at, event.pid, event.seq)
    names = (event.node, event.name)
    if not all(type(n) is int for n in numbers) or not all(isinstance(n, str) for n in names):
        raise NotAnEvent(f"wrong types in {line[:120]!r}")
    if not isinstance(event.detail, dict) or not isinstance(event.task, str | None):
        raise NotAnEvent(f"wrong types in {line[:120]!r}")
    return event


def parse_log(node: str, log: bytes) -> tuple[list[Event], list[str]]:
    """Read the whole output of one node: its events, and what is wrong with the log.

    A defect never hides an event; it makes the trial inconclusive.
    """
    events: list[Event] = []
    defects: list[str] = []
    lines = log.split(b"\n")
    if lines[-1]:
        defects.append(f"the log of {node} ends in the middle of a line")
    strange: list[NotAnEvent] = []
    for line in lines[:-1]:
        try:
            events.append(parse_event(line))
        except NotAnEvent as error:
            strange.append(error)
    if strange:
        defects.append(f"the log of {node} has {len(strange)} lines that are no events: {strange[0]}")
    defects.extend(holes(events))
    return events, defects


def holes(events: Iterable[Event]) -> Iterator[str]:
    """Name every process whose numbering misses or repeats a line."""
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for event in events:
        numbers[event.node, event.pid].append(event.seq)
    for (node, pid), seen in sorted(numbers.items()):
        if sorted(seen) != list(range(len(seen))):
            yield f"the log of {node} (pid {pid}) lost or repeats lines: has {len(seen)}, last {max(seen)}"


def _grouped(events: Sequence[Event], attribute: str) -> dict[Any, list[Event]]:
    groups: dict[Any, list[Event]] = defaultdict(list)
    for key, event in zip(map(attrgetter(attribute), events), events, strict=True):
        groups[key].append(event)
    return dict(groups)


_ORDER = attrgetter("at", "node", "pid", "seq")


def in_order(events: Iterable[Event]) -> list[Event]:
    """By time, then by process: how a person reads a history."""
    return sorted(events, key=_ORDER)


class History:
    """The events of one trial, read once: found by who wrote them, by name, and by task.

    What the lab says of itself stands apart from what nodes say, so a word of one is never taken for a
    word of the other.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)
        self.nodes = _grouped(self.events, "node")
        self.own = self.nodes.pop(LAB, [])
        theirs = [event for event in self.events if event.node != LAB]
        self._lab = _grouped(self.own, "name")
        self._named = _grouped(theirs, "name")
        self.tasks = _grouped(theirs, "task")
        for nobody in (None, ""):
            self.tasks.pop(nobody, None)

    def of(self, node: str) -> Sequence[Event]:
        """What one node says."""
        return self.nodes.get(node, ())

    def lab(self, name: str) -> Sequence[Event]:
        """The lab's own events of one name."""
        return self._lab.get(name, ())

    def named(self, *names: str) -> list[Event]:
        """What nodes say, of these names."""
        return [event for name in names for event in self._named.get(name, ())]

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of every task that was published."""
        return {e.task: str(e.detail.get("label", "")) for e in self.named("asked") if e.task}

    @cached_property
    def targets(self) -> frozenset[str]:
        """The tasks that the scenario is about."""
        return frozenset(task for task, label in self.labels.items() if label == TARGET)
