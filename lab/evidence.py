"""What the events say of one task and of one node, counted. Decides nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from lab.history import LAB, Backlog, Event

WHOLE_NODE = 0  # an inject event with this pid struck every process of the node
ENDS_OF_A_RUN = ("finished", "failed", "retried")


class Told(StrEnum):
    """What the publisher was told about one task."""

    OK = "ok"
    FAILED = "failed"
    NOTHING = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was counted for one task.

    ``deliveries`` counts what the broker sent, also what nobody read: a first reception that is
    already flagged as redelivered had a delivery before it. A retry is published anew by the worker
    itself and is no delivery again.
    """

    asked: int = 0
    told: Told = Told.NOTHING
    received: int = 0
    deliveries: int = 0
    starts: int = 0
    finishes: int = 0
    failures: int = 0
    acknowledged: int = 0
    rejected: int = 0
    cut: int = 0  # runs that ended with their whole node
    retried: int = 0
    held: str = ""  # "ready", "unacked", or "" when the broker holds nothing
    open: bool = False  # a worker that lives has it in its hands still
    orphan_finish: bool = False  # a process finished it that never started it


def gather(events: Iterable[Event], task: str, backlog: Backlog, dead: set[str]) -> Evidence:
    """Count what happened to one task. ``events`` are those of that task, ``dead`` the killed nodes."""
    by_node: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_node[event.node].append(event)
    everything = [event for own in by_node.values() for event in own]
    count = Counter(event.name for event in everything)
    fresh = sum(e.name == "received" and not e.detail.get("redelivered") for e in everything)
    unread = 1 if count["received"] and not fresh else 0
    started = {(e.node, e.pid) for e in everything if e.name == "started"}
    finished = {(e.node, e.pid) for e in everything if e.name == "finished"}
    return Evidence(
        asked=count["asked"],
        told=_told(count),
        received=count["received"],
        deliveries=count["received"] + unread - count["retried"],
        starts=count["started"],
        finishes=count["finished"],
        failures=count["failed"],
        acknowledged=count["acknowledged"],
        rejected=count["rejected"],
        cut=len({run for run in started - finished if run[0] in dead}),
        retried=count["retried"],
        held="ready" if task in backlog.ready else "unacked" if task in backlog.unacked else "",
        open=any(not at_rest(own) for node, own in by_node.items() if node not in dead),
        orphan_finish=not finished <= started,
    )


def _told(count: Counter[str]) -> Told:
    if count["publish-ok"]:
        return Told.OK
    return Told.FAILED if count["publish-failed"] else Told.NOTHING


def at_rest(events: Iterable[Event]) -> bool:
    """Whether a node has answered every delivery and ended every run that these events show.

    A run that its dead child left is ended by the parent, which fails the task or gives it back. A run
    that nobody received is one whose log lost a line.
    """
    tasks: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        if event.task:
            tasks[event.task][event.name] += 1
            tasks[event.task]["requeued"] += is_requeue(event)
    return all(_ended(count) for count in tasks.values())


def _ended(count: Counter[str]) -> bool:
    answered = count["acknowledged"] + count["rejected"]
    ended = sum(count[name] for name in ENDS_OF_A_RUN) + count["requeued"]
    begun = max(count["accepted"], count["started"])
    return count["received"] == answered and begun <= ended and count["started"] <= count["received"]


def is_requeue(event: Event) -> bool:
    """Whether the worker gave the delivery back to the broker."""
    return event.name == "rejected" and bool(event.detail.get("requeue"))


def lab_events(history: Iterable[Event], name: str) -> Iterator[Event]:
    """The lab's own events of one name."""
    return (event for event in history if event.node == LAB and event.name == name)


def dead_nodes(history: Iterable[Event]) -> set[str]:
    """Nodes that the lab killed as a whole, with proof."""
    return {
        str(event.detail.get("node"))
        for event in lab_events(history, "landed")
        if event.detail.get("fault") == "kill" and event.detail.get("pid") == WHOLE_NODE
    }
