"""What the events say of one task and of one node, counted. Decides nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.history import Backlog, Event, History, in_order

OUT_OF_MEMORY = "out-of-memory"
KILLS = ("kill", OUT_OF_MEMORY)  # the faults that end a process, or with pid 0 a whole node
WHOLE_NODE = 0  # an inject event with this pid struck every process of the node


class Told(StrEnum):
    """What the publisher was told about one task."""

    OK = "ok"
    FAILED = "failed"
    NOTHING = "unknown"


@dataclass(slots=True)  # not frozen: that takes longer than all the counting, two hundred thousand times
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
    cut: int = 0  # runs that ended with their whole node, or that the worker cancelled
    retried: int = 0
    held: str = ""  # "ready", "unacked", "dead" (in the dead-letter queue), or "": nothing
    open: bool = False  # a worker that lives has it in its hands still
    orphan_finish: bool = False  # a process finished it that never started it

    @property
    def coming(self) -> bool:
        """Whether the broker will deliver it again. A dead letter waits for a person."""
        return self.held in ("ready", "unacked")


def gather(
    events: Sequence[Event], *, held: str, in_hand: bool, dead: set[str], flags_lie: bool = False
) -> Evidence:
    """Count what happened to one task. ``events`` are those of that task, ``dead`` the killed nodes.

    ``held`` is where the broker has it, ``in_hand`` whether a node that lives has work to do with it.
    ``flags_lie`` where the broker was started again: RabbitMQ 4.0 then flags messages as redelivered
    that were never delivered.
    """
    names = [event.name for event in events]
    count = names.count  # of a few: no dictionary is as fast
    received = count("received")
    fresh = any(e.name == "received" and not e.detail.get("redelivered") for e in events)
    unread = 1 if received and not fresh and not flags_lie else 0
    started = {(e.node, e.pid) for e in events if e.name == "started"}
    finished = {(e.node, e.pid) for e in events if e.name == "finished"}
    return Evidence(
        asked=count("asked"),
        told=_told(names, events, dead),
        received=received,
        deliveries=received + unread - count("retried"),
        starts=count("started"),
        finishes=count("finished"),
        failures=count("failed") + count("revoked"),
        acknowledged=count("acknowledged"),
        rejected=count("rejected"),
        cut=len({run for run in started - finished if run[0] in dead}) + count("cancelled"),
        retried=count("retried"),
        held=held,
        open=in_hand,
        orphan_finish=not finished <= started,
    )


def where_held(backlog: Backlog) -> dict[str, str]:
    """Where the broker has each task that it holds: *ready* before *unacked* before *dead*."""
    places = (("dead", backlog.dead), ("unacked", backlog.unacked), ("ready", backlog.ready))
    return {task: place for place, ids in places for task in ids}


def _told(names: Sequence[str], events: Sequence[Event], dead: set[str]) -> Told:
    """What the publisher was told. One that died when it had committed has told its caller: all is well."""
    if "publish-failed" in names:
        return Told.FAILED
    died = "held" in names and any(is_held(event, "committed") and event.node in dead for event in events)
    return Told.OK if died or "publish-ok" in names else Told.NOTHING


def is_held(event: Event, gate: str) -> bool:
    """Whether this event says that its task waits at that gate."""
    return event.name == "held" and event.detail.get("phase") == gate


#: What changes the hands of a node: the words that follow in :class:`Hand`, and a connection's end.
MOVES = {
    *("received", "acknowledged", "rejected", "accepted", "started"),
    *("finished", "failed", "retried", "cancelled", "disconnected"),
}


@dataclass(slots=True)
class Hand:
    """What one node holds of one task: deliveries that it has to answer, runs that it has to end.

    A run that its dead child left is ended by the parent, which fails the task or gives it back. A run
    that nobody received is one whose log lost a line. A connection that is lost takes those deliveries
    with it that no process has accepted, and a run that the worker cancels leaves its delivery unanswered.
    A late acknowledgement ends a run too: of one that Celery skipped as done before, it is the only sign.
    """

    received: int = 0
    answered: int = 0
    dropped: int = 0
    accepted: int = 0
    started: int = 0
    ended: int = 0
    late: int = 0

    def take(self, event: Event) -> None:
        """Count one event of this node and task."""
        match event.name:
            case "received":
                self.received += 1
            case "acknowledged" | "rejected":
                self.answered += 1
                self.ended += is_requeue(event)
                self.late += bool(event.detail.get("late"))
            case "accepted":
                self.accepted += 1
            case "started":
                self.started += 1
            case "finished" | "failed" | "retried":
                self.ended += 1
            case "cancelled":
                self.ended += 1
                self.dropped += self.received > self.answered + self.dropped

    def lose_connection(self) -> None:
        """Forget what no process has begun."""
        begun = max(self.accepted, self.started, self.answered)
        self.dropped += max(0, self.received - begun - self.dropped)

    @property
    def empty(self) -> bool:
        """Whether everything is answered and ended."""
        begun = max(self.accepted, self.started)
        answered = self.received == self.answered + self.dropped
        return answered and begun <= max(self.ended, self.late) and self.started <= self.received


def at_rest(events: Iterable[Event]) -> bool:
    """Whether a node has answered every delivery and ended every run that these events show."""
    return not in_hand(events)


def in_hand(events: Iterable[Event]) -> set[str]:
    """The tasks of which a node has a delivery to answer, or a run to end. ``events`` are its own."""
    hands: dict[str, Hand] = defaultdict(Hand)
    for event in in_order(event for event in events if event.name in MOVES):
        if event.name == "disconnected":
            for hand in hands.values():
                hand.lose_connection()
        elif event.task:
            hands[event.task].take(event)
    return {task for task, hand in hands.items() if not hand.empty}


def is_unsent(event: Event) -> bool:
    """Whether this is an acknowledgement that was booked, and lost with the connection before it went out."""
    return event.name == "acknowledged" and event.detail.get("sent") is False


def is_requeue(event: Event) -> bool:
    """Whether the worker gave the delivery back to the broker."""
    return event.name == "rejected" and bool(event.detail.get("requeue"))


def dead_nodes(history: History) -> set[str]:
    """Nodes that the lab killed as a whole, or saw ended, with proof of the engine."""
    killed = (
        event
        for event in history.lab("landed")
        if event.detail.get("fault") in KILLS and event.detail.get("pid") == WHOLE_NODE
    )
    return {str(event.detail.get("node")) for event in (*killed, *history.lab("exited"))}
