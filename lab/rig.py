"""One trial: what a scenario script holds in its hands."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from lab.brokers.base import Broker, Namespace
from lab.brokers.profile import Profile
from lab.cell import Cell
from lab.engine.adapter import Engine, Node, NodeSpec
from lab.errors import BrokerSilent, DeadlineExpired, EngineGone, Inconclusive, NodeDead
from lab.evidence import at_rest
from lab.faults import Fault, KillChild, KillNode
from lab.history import LAB, Backlog, Event, Scalar, parse_log
from lab.judge import SENTINEL
from lab.settings import TRANSPORT, Settings, Tuned, merged, nested, tuned
from lab.watch import Stop, Watch

BOOT_SECONDS = 20.0
PHASE_SECONDS = 10.0
SETTLE_SECONDS = 20.0
SENTINEL_SECONDS = 5.0
PUBLISHER = "publisher"
GATE_FOLDER, GATE_FILE = "/opt/lab/gate", "open"
INBOX_FOLDER = "/opt/lab/inbox"
UNPRIVILEGED_USER = "65534:65534"  # nobody: in every Debian, and Celery looks the group up

#: What every worker of the lab has. Gossip and mingle only add a second of start-up: they exchange
#: revoked ids and clocks, and take no part in delivery (celery 5.7.0 ``worker/consumer/mingle.py``).
WORKER_COMMAND = (
    *("python3", "-m", "celery", "--quiet", "-A", "worker.app", "worker"),
    *("--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
)
PUBLISHER_COMMAND = ("python3", "-m", "worker.publisher")
LAB_SETTINGS: Settings = {"worker_concurrency": 1, "broker_connection_retry_on_startup": True}

#: Given to a worker that starts after the fault: for it, production's hour has passed already. Every
#: worker sweeps once when it starts to consume, and again after 10 s at the earliest (kombu 5.7.0
#: ``transport/redis.py``: on_poll_init, restore_visible), when a trial is long over. Should it take
#: back work of its own all the same, the judge names that as a doubt.
HOUR_HAS_PASSED: Settings = {f"{TRANSPORT}visibility_timeout": 0.01}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is left of a trial when its nodes are gone."""

    history: tuple[Event, ...]
    backlog: Backlog
    tuned: tuple[Tuned, ...]


@dataclass(slots=True)
class Recorder:
    """The lab's own lines of the history, numbered like those of any process."""

    events: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, task: str | None = None, /, **detail: Scalar) -> None:
        with self._lock:  # nodes are silenced side by side, and each may report a defect
            self.events.append(Event(LAB, time.time_ns(), os.getpid(), len(self.events), name, task, detail))


@dataclass(slots=True)
class Worker:
    """One Celery worker of the trial."""

    node: Node
    watch: Watch
    record: Recorder
    prefetch_limit: int
    acks_late: bool

    @property
    def name(self) -> str:
        """Its name in the history."""
        return self.node.name

    def reaches(self, phase: str, task: str) -> None:
        """Wait until the worker holds this task at this phase.

        The child announces the phase, the parent accepts and acknowledges by itself: a task that is
        acknowledged early has reached its phase only when both have happened.
        """
        early = phase != "reserved" and not self.acks_late

        def reached(events: Sequence[Event]) -> bool:
            mine = [e for e in events if e.node == self.name and e.task == task]
            names = {e.name for e in mine}
            held = any(e.name == "held" and e.detail.get("phase") == phase for e in mine)
            accepted = phase == "reserved" or "accepted" in names
            return held and accepted and (not early or "acknowledged" in names)

        self.watch.until(reached, f"{self.name} to hold {task} {phase}", PHASE_SECONDS, self.name)
        self.record("reached", task, node=self.name, phase=phase, acknowledged=early)

    def prefetches(self, published: int) -> None:
        """Wait until it holds as many unacknowledged deliveries as it may, or everything published.

        Celery asks for prefetch multiplier x concurrency; 0 is without limit.
        """

        def full(events: Sequence[Event]) -> bool:
            received = sum(self._is(e, "received") for e in events)
            ended = sum(self._is(e, "acknowledged") or self._is(e, "rejected") for e in events)
            return received >= published or 0 < self.prefetch_limit <= received - ended

        self.watch.until(full, f"{self.name} to fill its prefetch window", PHASE_SECONDS, self.name)

    def child(self, task: str) -> int:
        """The pid of the pool process that holds this task, or of the newest one when none does."""

        def pids(events: Sequence[Event]) -> list[int]:
            running = [e.pid for e in events if self._is(e, "started", task)]
            return running or [e.pid for e in events if self._is(e, "child")]

        self.watch.until(lambda e: bool(pids(e)), f"{self.name} to have a child", PHASE_SECONDS, self.name)
        return pids(self.watch.events())[-1]

    def release(self) -> None:
        """Open its gate: what is held goes on, and nothing is held any more."""
        self.record("opened", node=self.name)
        self.node.put(GATE_FOLDER, GATE_FILE, b"")

    def idle(self, events: Sequence[Event]) -> bool:
        """Whether it has answered every delivery and ended every run, as far as was seen live."""
        return at_rest(event for event in events if event.node == self.name)

    def has_finished(self, tasks: Sequence[str], events: Sequence[Event]) -> bool:
        """Whether it has finished one of these tasks."""
        return any(e.node == self.name and e.name == "finished" and e.task in tasks for e in events)

    def _is(self, event: Event, name: str, task: str | None = None) -> bool:
        return event.node == self.name and event.name == name and task in (None, event.task)


class Rig:
    """The nodes of one trial, and what a script may do with them.

    ``number`` is its namespace on the broker; ``tag`` is in the names of its containers and the ids of
    its tasks, so that a task which leaked from another trial is seen as one that nobody published.
    Everything that it starts is removed by :meth:`close`; everything that it does is in the history.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        broker: Broker,
        profile: Profile,
        network: str,
        number: int,
        tag: str,
        cell: Cell,
        image: str,
        stop: Stop,
    ) -> None:
        self.cell = cell
        self._engine = engine
        self._broker = broker
        self._network = network
        self._number = number
        self._tag = tag
        self._image = image
        self._watch = Watch(stop)
        self._record = Recorder()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix=tag)
        self._publisher: Future[Node] | None = None
        self._nodes: list[Node] = []
        self._workers: list[Worker] = []
        self._dead: set[str] = set()
        self._injected: list[Fault] = []
        self._namespace: Namespace | None = None
        self._orders = 0
        self._published = 0
        self._tuned: dict[str, Tuned] = {}
        self._settings = merged(LAB_SETTINGS, profile.celery, cell.settings)

    def begin(self) -> None:
        """Open a fresh namespace on the broker and start the publisher."""
        self._namespace = self._broker.open(self._number)
        self._publisher = self._threads.submit(self._start, PUBLISHER, PUBLISHER_COMMAND, self._settings)

    # --- what a script calls ------------------------------------------------------------------

    def worker(self, name: str, *, hold: str | None = None, after_visibility_timeout: bool = False) -> Worker:
        """Start a worker and wait until it consumes. ``hold`` closes its gate at that phase."""
        hour_has_passed = after_visibility_timeout and self.cell.broker == "redis"
        overrides = HOUR_HAS_PASSED if hour_has_passed else {}
        settings = merged(self._settings, overrides, self.cell.extra)
        shortened = {k: v for k, v in overrides.items() if k not in self.cell.extra}
        for change in tuned(shortened):
            self._tuned[change.setting] = change
            self._record("tuned", node=name, setting=change.setting, value=str(change.value))
        node = self._start(name, WORKER_COMMAND, settings, hold)
        limit = int(str(self.cell["worker_prefetch_multiplier"])) * int(str(settings["worker_concurrency"]))
        worker = Worker(node, self._watch, self._record, limit, bool(self.cell["task_acks_late"]))
        self._workers.append(worker)
        self._await_ready(name)
        self._record("worker-up", node=name)
        return worker

    def publish(self, label: str, count: int = 1) -> list[str]:
        """Publish tasks one after another, and wait until the publisher was told about each."""
        ids = [f"{label}-{self._published + i}-{self._tag}" for i in range(count)]
        self._published += count
        order = json.dumps([{"id": task, "label": label} for task in ids]) + "\n"
        publisher = self._node(self._publisher)
        self._await_ready(PUBLISHER)
        publisher.put(INBOX_FOLDER, f"{self._orders:06}.json", order.encode())
        self._orders += 1

        def told(events: Sequence[Event]) -> bool:
            answered = {e.task for e in events if e.name in ("publish-ok", "publish-failed")}
            return answered >= set(ids)

        self._watch.until(told, f"the publisher to be told about {label}", PHASE_SECONDS, PUBLISHER)
        return ids

    def inject(self, fault: Fault) -> None:
        """Break something: recorded before, proved after. Without proof the trial will not count."""
        about: dict[str, Scalar] = {"fault": fault.name, "node": fault.node, "pid": fault.pid}
        self._record("inject", fault.task, **about, phase=fault.phase)
        self._injected.append(fault)  # before it is injected: a fault that fails half-way is undone too
        fault.inject()
        proofs: list[str] = []

        def landed() -> bool:
            proofs.extend(filter(None, [fault.proof()]))
            return bool(proofs)

        self._watch.poll(landed, f"the proof of {fault.name} on {fault.node}", fault.longest)
        self._record("landed", fault.task, **about, proof=proofs[0])
        if isinstance(fault, KillNode):
            self._dead.add(fault.node)

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until nothing is left to happen, and prove it.

        Quiet is: the broker holds nothing, and every worker that lives has ended all it received. Then
        sentinels are published: a queue and its consumer are first in, first out, so a worker that
        finished a sentinel has received everything before it. If no other work has come, it is over.
        On a deadline the workers are asked for a sentinel all the same, so that one that is stalled is
        told from one that had nothing to do, and the trial goes on to its verdict.
        """
        deadline = time.monotonic() + seconds
        try:
            while True:
                what = "the broker and the workers to come to rest"
                self._watch.poll(self._quiet, what, self._left(deadline))
                before = self._work_seen()
                self._send_sentinels(self._left(deadline))
                self._watch.poll(self._quiet, "the workers to end the sentinels", self._left(deadline))
                if self._work_seen() == before:
                    self._record("settled")
                    return
        except DeadlineExpired as expired:
            self._record("deadline", waited_for=expired.wrong)
        with suppress(DeadlineExpired):
            self._send_sentinels(SENTINEL_SECONDS)

    def _send_sentinels(self, seconds: float) -> None:
        """Publish sentinels, one after another, until every worker that lives has finished one."""
        deadline = time.monotonic() + seconds
        sent: list[str] = []
        while waiting := [w for w in self._living() if not w.has_finished(sent, self._watch.events())]:
            sent += self.publish(SENTINEL)
            what = f"{', '.join(w.name for w in waiting)} to finish a sentinel"
            self._watch.until(partial(_finished, sent[-1]), what, self._left(deadline))

    # --- how it ends --------------------------------------------------------------------------

    def collect(self) -> Evidence:
        """Make every node still, read what the broker holds and every log in full."""
        self._revert()
        if self._publisher is not None:
            self._publisher.result()  # it is in the list of nodes when it has been started
        living = [node for node in self._nodes if node.name not in self._dead]
        for node in living:
            self._freeze(node)

        def still() -> None:
            list(self._threads.map(self._silence, living))

        backlog = self._backlog(still)
        still()
        return Evidence((*self._logs(), *self._record.events), backlog, tuple(self._tuned.values()))

    def _revert(self) -> None:
        """Undo every fault, the last one first, and record the proof; what stays broken is a defect."""
        for fault in reversed(self._injected):
            fault.revert()
            if proof := fault.reverted():
                self._record("reverted", fault.task, fault=fault.name, node=fault.node, proof=proof)
            else:
                self._record("defect", what=f"{fault.name} on {fault.node} could not be undone")
        self._injected.clear()

    def _backlog(self, still: Callable[[], None]) -> Backlog:
        if self._namespace is None:
            return Backlog(readable=False)
        try:
            return self._namespace.backlog(still)
        except Inconclusive as error:
            self._record("defect", what=f"the backlog could not be read: {error.wrong}")
            return Backlog(readable=False)

    def _freeze(self, node: Node) -> None:
        """Freeze a node that nothing struck. One that died by itself spoils the trial."""
        try:
            node.pause()
        except NodeDead:
            last = node.log(errors=True).decode(errors="replace").strip().rpartition("\n")[2]
            self._record("defect", what=f"{node.name} died by itself: {last or 'it wrote no error'}")

    def _silence(self, node: Node) -> None:
        """End a node for good: what is read from one that may go on is no evidence."""
        try:
            with suppress(NodeDead):
                node.kill()
            self._watch.poll(lambda: not node.state().running, f"{node.name} to be dead", PHASE_SECONDS)
        except DeadlineExpired as error:
            self._record("defect", what=error.wrong)

    def _logs(self) -> list[Event]:
        """Every log in full. What was seen live and is not there is a defect, like any hole."""
        events: list[Event] = []
        for node, log in zip(self._nodes, self._threads.map(Node.log, self._nodes), strict=True):
            found, defects = parse_log(node.name, log)
            events += found
            for defect in defects:
                self._record("defect", what=defect)
        if missing := self._watch.missing_from(events):
            self._record("defect", what=f"{missing} events were seen live that the logs do not have")
        return events

    def errors(self) -> dict[str, str]:
        """What every node wrote to standard error: for people, never for verdicts."""
        found: dict[str, str] = {}
        with suppress(EngineGone):
            for node in self._nodes:
                found[node.name] = node.log(errors=True).decode(errors="replace")
        return found

    def note(self, name: str, **detail: Scalar) -> None:
        """Record something about the trial itself."""
        self._record(name, **detail)

    def close(self) -> None:
        """Remove every node of the trial and its namespace."""
        self._threads.shutdown(wait=True)  # a node that is being started is in the list after this
        for node in self._nodes:
            node.remove()
        if self._namespace is not None:
            self._namespace.close()

    # --- details ------------------------------------------------------------------------------

    @staticmethod
    def _node(starting: Future[Node] | None) -> Node:
        if starting is None:
            raise RuntimeError("the rig was not begun")
        return starting.result()

    @property
    def _fresh(self) -> Namespace:
        if self._namespace is None:
            raise RuntimeError("the rig was not begun")
        return self._namespace

    def _start(self, name: str, command: Sequence[str], settings: Settings, hold: str | None = None) -> Node:
        environment = {
            "LAB_NODE": name,
            "LAB_SETTINGS": json.dumps({**nested(settings), "broker_url": self._fresh.url}),
            **({"LAB_HOLD": hold} if hold else {}),
        }
        spec = NodeSpec(
            name=f"{self._tag}-{name}",
            image=self._image,
            command=command,
            network=self._network,
            alias=name,
            environment=environment,
            user=UNPRIVILEGED_USER,
            unprivileged=True,
        )
        self._watch.check()
        node = self._engine.start(spec)
        self._nodes.append(node)
        self._watch.follow(node)
        return node

    def _await_ready(self, name: str) -> None:
        self._watch.until(
            lambda events: any(e.node == name and e.name == "ready" for e in events),
            f"{name} to be ready",
            BOOT_SECONDS,
            name,
        )

    def _quiet(self) -> bool:
        alive = self._living()
        events = self._watch.events()
        if not all(worker.idle(events) for worker in alive):
            return False
        try:
            depth = self._fresh.depth()
        except BrokerSilent:
            return False
        if depth.consumers is not None and depth.consumers != len(alive):
            return False  # a dead worker's channel is not closed yet: its deliveries are not back
        return depth.ready == 0 and not depth.unacked

    def _living(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.name not in self._dead]

    def _work_seen(self) -> int:
        """How many deliveries the workers received that are no sentinels."""
        return sum(
            e.name == "received" and not str(e.task).startswith(SENTINEL) for e in self._watch.events()
        )

    def _left(self, deadline: float) -> float:
        return max(0.0, round(deadline - time.monotonic(), 1))


def _finished(task: str, events: Sequence[Event]) -> bool:
    return any(event.name == "finished" and event.task == task for event in events)


def kill_worker(worker: Worker, phase: str, task: str) -> Fault:
    """SIGKILL to a whole worker: main process and pool."""
    return KillNode(worker.name, phase, task, target=worker.node)


def kill_child(worker: Worker, phase: str, task: str) -> Fault:
    """SIGKILL to the pool process that holds the task; the worker's main process lives on."""
    return KillChild(worker.name, phase, task, pid=worker.child(task), target=worker.node)
