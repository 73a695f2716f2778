"""When a trial is over: nothing is left to happen, and every worker that lives has proved that it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from lab.brokers.base import Namespace
from lab.errors import BrokerSilent, DeadlineExpired
from lab.evidence import is_held
from lab.handles import Worker
from lab.history import SENTINEL, Event
from lab.nodes import Recorder
from lab.watch import Watch

SENTINEL_SECONDS = 5.0
SPREAD_SECONDS = 1.0  # a worker that is busy in its main thread takes what nobody sees it take
UNLIMITED = 20  # sentinels more, for a worker that fetches without limit


@dataclass(slots=True)
class Settling:
    """Waits until the broker and the workers are at rest, and asks every worker to prove itself.

    ``publish`` publishes sentinels, which wait at the gate that is named, and returns their ids.
    """

    namespace: Namespace
    workers: Sequence[Worker]
    publish: Callable[[int, str], list[str]]
    watch: Watch
    record: Recorder
    rounds: int = 0

    def settle(self, seconds: float) -> None:
        """Wait until nothing is left to happen, and prove it.

        Quiet is: the broker holds nothing, and every worker that lives has ended all it received. Then
        sentinels are published: a queue and its consumer are first in, first out, so a worker that
        finished a sentinel has received everything before it. If no other work has come, it is over. On
        a deadline the workers are asked for sentinels all the same, so that one that is
        stalled is told from one that had nothing to do, and the trial goes on to its verdict.
        """
        if not self.workers:
            return
        deadline = time.monotonic() + seconds
        try:
            while True:
                self._await_quiet("the broker and the workers to come to rest", deadline)
                before = self._work_seen()
                self._prove_workers(_left(deadline))
                self._await_quiet("the workers to end the sentinels", deadline)
                if self._work_seen() == before:
                    self.record("settled")
                    return
        except DeadlineExpired as expired:
            self.record("deadline", waited_for=expired.wrong)
        try:
            self._prove_workers(SENTINEL_SECONDS)
        except DeadlineExpired:
            for worker in self.workers:
                worker.describe()

    def _await_quiet(self, what: str, deadline: float) -> None:
        self.watch.poll(self._quiet, what, _left(deadline))

    def _quiet(self) -> bool:
        events = self.watch.events()
        if not all(worker.idle(events) for worker in self.workers):
            return False
        try:
            depth = self.namespace.depth()
        except BrokerSilent:
            return False
        if depth.consumers is not None and depth.consumers != len(self.workers):
            return False  # a dead worker's channel is not closed yet: its deliveries are not back
        return depth.ready == 0 and not depth.unacked

    def _prove_workers(self, seconds: float) -> None:
        """Have every worker run as many sentinels at once as it can, then let them all finish.

        Whatever way the broker shares them out, a worker that is not full gets one of the next.
        """
        deadline = time.monotonic() + seconds
        self.rounds += 1
        gate = f"{SENTINEL}-{self.rounds}"
        most = sum(w.concurrency + (w.prefetch_limit or UNLIMITED) for w in self.workers)
        sent: list[str] = []
        try:
            while idle := [w for w in self.workers if self._running(w, gate) < w.concurrency]:
                if not (left := _left(deadline)):
                    names = ", ".join(worker.name for worker in idle)
                    raise DeadlineExpired(
                        f"waited {seconds:g} s for {names} to run as much at once as it can"
                    )
                if len(sent) < most:
                    sent += self.publish(sum(w.concurrency - self._running(w, gate) for w in idle), gate)
                with suppress(DeadlineExpired):
                    what = f"the workers to take {gate}"
                    self.watch.until(partial(self._spread, sent, gate), what, min(left, SPREAD_SECONDS))
        finally:
            with ThreadPoolExecutor(len(self.workers)) as threads:
                list(threads.map(lambda worker: worker.open(gate), self.workers))
        finished = f"{len(sent)} sentinels to finish"
        self.watch.until(partial(_all_finished, sent), finished, _left(deadline))

    def _spread(self, sent: Sequence[str], gate: str, events: Sequence[Event]) -> bool:
        """Whether every sentinel was received, and every worker that could start one has."""
        received = {e.task for e in events if e.name == "received"}
        return received >= set(sent) and all(
            self._busy(worker, sent, gate, events) for worker in self.workers
        )

    def _busy(self, worker: Worker, sent: Sequence[str], gate: str, events: Sequence[Event]) -> bool:
        mine = {e.task for e in events if e.node == worker.name and e.name == "received"} & set(sent)
        return self._running(worker, gate) >= min(len(mine), worker.concurrency)

    def _running(self, worker: Worker, gate: str) -> int:
        held = {e.task for e in self.watch.events() if e.node == worker.name and is_held(e, gate)}
        return min(len(held), worker.concurrency)

    def _work_seen(self) -> int:
        """How many deliveries the workers received that are no sentinels."""
        return sum(e.name == "received" and not str(e.task).startswith(SENTINEL) for e in self.watch.events())


def _all_finished(tasks: Sequence[str], events: Sequence[Event]) -> bool:
    return {e.task for e in events if e.name == "finished"} >= set(tasks)


def _left(deadline: float) -> float:
    return max(0.0, round(deadline - time.monotonic(), 1))
