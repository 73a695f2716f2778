"""The queue of one trial, as its broker sees it: what it holds, and what it is told to do with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.brokers.base import Namespace
from lab.errors import BrokerSilent
from lab.handles import Moment
from lab.judge import BROKER
from lab.nodes import PHASE_SECONDS, Recorder
from lab.settings import Settings
from lab.watch import Watch

COUNT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Queue:
    """Waits on the broker's own counts. ``tune`` records what the lab changed for a node."""

    namespace: Namespace
    watch: Watch
    record: Recorder
    tune: Callable[[str, Settings], None]

    def has(self, task: str) -> Moment:
        """Wait until the broker holds this task, and nobody else does yet."""
        self._ask_until(lambda: self.namespace.depth().ready > 0, f"the broker to hold {task}")
        self.record("reached", task, node=BROKER, phase="queued")
        return Moment(task, "queued", BROKER)

    def holds(self, ready: int, unacked: int) -> None:
        """Wait until it has so many tasks waiting, and so many out with workers without an answer.

        Unlike :meth:`lab.handles.Worker.prefetches` it sees what a worker was given and has not read.
        """

        def held() -> bool:
            depth = self.namespace.depth()
            if depth.ready != ready:
                return False
            return self.namespace.has_unacked(unacked) if depth.unacked is None else depth.unacked == unacked

        self._ask_until(held, f"the broker to hold {ready} tasks, with {unacked} more unacknowledged")

    def has_consumers(self, count: int) -> None:
        """Wait until the broker counts so many consumers; on Redis, for 0, until nobody waits for a task.

        That is a timeout of the broker's, or of TCP: how long it took is in the history.
        """
        began = time.monotonic()
        what = f"the broker to count {count} consumers"
        self._ask_until(lambda: self.namespace.has_consumers(count), what, COUNT_SECONDS)
        self.record("imposed", node=BROKER, seconds=round(time.monotonic() - began, 3))

    def is_polled(self) -> None:
        """Wait until a worker waits at Redis for its next task: between two tasks it does something else."""
        self._ask_until(self.namespace.is_polled, "a worker to wait at the broker for its next task")

    def expires(self) -> None:
        """Wait until the broker has deleted it, because nobody used it."""
        self._ask_until(lambda: not self.namespace.has_queue(), "the broker to delete the queue")

    def is_given_up(self) -> None:
        """Wait until the broker runs, and has stopped all of this kind of queue."""
        self._ask_until(self.namespace.is_given_up, "the broker to give up its queues")
        self.record("given-up", node=BROKER)

    def has_blocked(self, count: int) -> None:
        """Wait until the broker has blocked so many connections of the trial, because they published."""
        what = f"the broker to block {count} connections"
        self._ask_until(lambda: self.namespace.has_blocked(count), what, COUNT_SECONDS)

    def has_dead_letter(self, task: str) -> None:
        """Wait until the broker has put this task among its dead letters."""
        self._ask_until(lambda: task in self.namespace.dead_letters(), f"{task} to be a dead letter")

    def age(self) -> None:
        """Make it one that was declared long ago, not in the second before the fault."""
        self.namespace.remember_queues()

    def delete_leaderless(self) -> None:
        """Do what is left to an operator whose queue answers nobody. One that is alive spoils the trial."""
        self.namespace.delete_leaderless_queue()
        self.record("deleted", node=BROKER)

    def limit_deliveries(self, times: int) -> None:
        """Have a quorum queue drop what comes back more often than that, by a policy of the broker."""
        self.namespace.limit_deliveries(times)
        self.tune(BROKER, {"delivery-limit": times})

    def limit_unacknowledged(self, seconds: float, look_every: float) -> None:
        """Have RabbitMQ close channels that leave a delivery unacknowledged for longer than that.

        Both in seconds; ask before a worker starts. It holds for the whole broker: have one of your own.
        """
        self.namespace.limit_unacknowledged(seconds, look_every)
        self.tune(BROKER, {"consumer_timeout": seconds, "channel_tick_interval": look_every})

    def keep_dead_letters(self) -> None:
        """Have the broker put what it drops from here into a queue that no worker consumes."""
        self.namespace.keep_dead_letters()

    def limit_length(self, tasks: int, overflow: str) -> None:
        """Have it hold so many waiting tasks and no more. ``overflow`` says in RabbitMQ's words who goes."""
        self.namespace.limit_length(tasks, overflow)
        self.tune(BROKER, {"max-length": tasks})

    def expire_tasks(self, seconds: float) -> None:
        """Have the broker drop a task that waited for so long, by a policy of the broker."""
        self.namespace.expire_tasks(round(seconds * 1000))
        self.tune(BROKER, {"message-ttl": seconds})

    def expire_unused(self, seconds: float) -> None:
        """Have the broker delete the queue when it had no consumer for so long, by a policy of the broker."""
        self.namespace.expire_unused(round(seconds * 1000))
        self.tune(BROKER, {"expires": seconds})

    def _ask_until(self, answer: Callable[[], bool], what: str, seconds: float = PHASE_SECONDS) -> None:
        """Ask the broker until the answer is yes. While it is silent, it is not."""

        def yes() -> bool:
            try:
                return answer()
            except BrokerSilent:
                return False

        self.watch.poll(yes, what, seconds)
