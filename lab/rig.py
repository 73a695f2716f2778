"""One trial: what a scenario script holds in its hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from lab.brokers.base import ALIAS, Namespace
from lab.brokers.profile import Profile
from lab.cell import Cell
from lab.engine.disks import Disk
from lab.errors import Inconclusive
from lab.faults import Fault
from lab.handles import Handle, Moment, Proxy, Publisher, Worker
from lab.harm import Harm
from lab.history import SENTINEL, Backlog, Event, Scalar
from lab.judge import BROKER
from lab.nodes import BEAT_COMMAND, PHASE_SECONDS, PROXY_COMMAND, PUBLISHER_COMMAND, Nodes, Recorder
from lab.queue import Queue
from lab.servers.base import Beside
from lab.servers.ledger import Ledger
from lab.settings import TRANSPORT, Settings, Tuned, merged, tuned
from lab.settle import Settling
from lab.stages import Stage
from lab.watch import Stop, Watch

AnyBeside = TypeVar("AnyBeside", bound=Beside)

SETTLE_SECONDS = 20.0
ANSWER_SECONDS = 20.0
WIRE = "wire"
TASK = "lab.work"  # the only task that nodes know (lab/worker/app.py)

#: What every worker of the lab has. Gossip and mingle only add a second of start-up: they exchange
#: revoked ids and clocks, and take no part in delivery (celery 5.7.0 ``worker/consumer/mingle.py``).
WORKER_COMMAND = (
    *("python3", "-m", "celery", "--quiet", "-A", "worker.app", "worker"),
    *("--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
)
LAB_SETTINGS: Settings = {"worker_concurrency": 1, "broker_connection_retry_on_startup": True}

#: Given to a worker that starts after the fault: for it, production's hour has passed already. Every
#: worker sweeps once when it starts to consume, and again after 10 s at the earliest (kombu 5.7.0
#: ``transport/redis.py``: on_poll_init, restore_visible), when a trial is long over. Should it take
#: back work of its own all the same, the judge names that as a doubt.
HOUR_HAS_PASSED: Settings = {f"{TRANSPORT}visibility_timeout": 0.01}


@dataclass(frozen=True, slots=True)
class Remains:
    """All that is left of a trial when its nodes are gone."""

    history: tuple[Event, ...]
    backlog: Backlog
    tuned: tuple[Tuned, ...]


class Rig:
    """The nodes of one trial, and what a script may do with them.

    Its number on the stage is its namespace on the broker, and in the names of its containers and the ids
    of its tasks, so that a task which leaked from another trial is seen as one that nobody published.
    Everything that it starts is removed by :meth:`close`; everything that it does is in the history.
    """

    def __init__(self, stage: Stage, cell: Cell, profile: Profile, image: str, stop: Stop) -> None:
        self.cell = cell
        self.broker = stage.broker
        self.watch = Watch(stop)
        self._stage = stage
        self._number = stage.next_number()
        tag = f"{stage.name}-{self._number}"
        self._record = Recorder()
        self._nodes = Nodes(stage.engine, image, stage.ground.network, tag, self.watch, self._record)
        self._starting = ThreadPoolExecutor(max_workers=1, thread_name_prefix=tag)
        self._publisher: Future[Publisher] | None = None
        self._workers: list[Worker] = []
        self._servers: list[Beside] = []
        self._environment: dict[str, str] = {}
        self.harm = Harm(self.watch, self._record, self._nodes.gone)
        self._namespace: Namespace | None = None
        self._published = 0
        self._tuned: dict[tuple[str, str], Tuned] = {}
        self._tell_tuned(cell.settings)
        self._settings = merged(LAB_SETTINGS, profile.celery, cell.settings)

    def begin(self) -> None:
        """Open a fresh namespace on the broker and start the publisher."""
        self._namespace = self.broker.open(self._number)
        self._publisher = self._starting.submit(self._borrow_publisher)

    # --- nodes ----------------------------------------------------------------------------------

    def worker(
        self,
        name: str,
        *,
        hold: str | None = None,
        only: str = "",
        after_visibility_timeout: bool = False,
        through: Proxy | None = None,
        settings: Settings | None = None,
        memory: int | None = None,
        folder: str | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        cable: bool = False,
        wait: bool = True,
    ) -> Worker:
        """Start a worker and wait until it consumes. ``hold`` closes its gate at that phase.

        With ``only``, a label, the gate is closed for tasks of that label alone. One that is to be cut off
        needs a ``cable`` of its own; others share the address of the publisher.
        ``through`` puts a proxy between it and its broker; ``settings`` are for it alone; ``memory`` is its
        limit in bytes, ``folder`` what it sees at SHARED; ``options`` go to ``celery worker``.
        """
        hour_has_passed = after_visibility_timeout and self.cell.broker == "redis"
        overrides = HOUR_HAS_PASSED if hour_has_passed else {}
        own = merged(self._settings, overrides, self.cell.extra, settings or {})
        self._tune(name, {k: v for k, v in overrides.items() if k not in self.cell.extra})
        self._tell_tuned(settings or {})
        # On the command line, and not in the settings: Celery patches for gevent before it reads these.
        pool = str(own.pop("worker_pool", self.cell["worker_pool"]))
        command = (*WORKER_COMMAND, "--pool", pool, "--hostname", f"celery@{name}", *options)
        url = self._with_url(own, through)
        node = self._nodes.start(
            name,
            command,
            url,
            hold=hold,
            memory=memory,
            folder=folder,
            environment={"LAB_HOLD_ONLY": only, **self._environment, **(environment or {})},
            address_of="" if cable else self._default_publisher().node.id,
        )
        concurrency = int(str(own["worker_concurrency"]))
        worker = Worker(
            node,
            self._nodes,
            hold,
            prefetch_limit=int(str(self.cell["worker_prefetch_multiplier"])) * concurrency,
            concurrency=1 if pool == "solo" else concurrency,
            # A solo worker runs the task in its loop, which sends an early acknowledgement after it.
            acks_late=bool(self.cell["task_acks_late"]) or pool == "solo",
        )
        self._workers.append(worker)
        if wait:  # one that is not waited for is one that will not come up
            self._nodes.await_ready(name)
            self._record("worker-up", node=name, concurrency=worker.concurrency)
        return worker

    def _borrow_publisher(self) -> Publisher:
        settings = self._with_url(self._settings, None)
        node = self._nodes.adopt(self._stage.ground.publishers.lend(self._nodes.tag, settings))
        return Publisher(node, self._nodes)

    def publisher(
        self,
        name: str,
        *,
        hold: str | None = None,
        through: Proxy | None = None,
        settings: Settings | None = None,
    ) -> Publisher:
        """Start another publisher than the one that the trial has."""
        own = merged(self._settings, settings or {})
        self._tell_tuned(settings or {})
        url = self._with_url(own, through)
        host = self._default_publisher().node.id
        node = self._nodes.start(name, PUBLISHER_COMMAND, url, hold=hold, takes_orders=True, address_of=host)
        return Publisher(node, self._nodes, hold)

    def beat(
        self,
        name: str,
        *,
        every: float,
        ticks: int | None = None,
        first: float | None = None,
        folder: str | None = None,
        shelf: str = "",
        options: Sequence[str] = (),
    ) -> Handle:
        """Start a beat whose only entry is due ``every`` so many seconds.

        It is stopped after so many ``ticks``; without, before the first one that it has to wait for. With
        ``first``, a new file says that the entry had run before, and is due again in so many seconds. The
        schedule file is in ``folder``, or it has one of its own that nobody sees again; ``shelf`` is the
        module of ``dbm`` that makes it. ``options`` go to ``celery beat``.
        """
        entry = {"task": TASK, "schedule": every} | ({} if first is None else {"first": first})
        own = self._with_url(merged(self._settings, {"beat_schedule": {"tick": entry}}), None)
        hold = "waited" if ticks is None else f"tick-{ticks + 1}"
        environment = {"LAB_SHELF": shelf}
        command = (*BEAT_COMMAND, *options)
        node = self._nodes.start(
            name, command, own, hold=hold, folder=folder, environment=environment,
            address_of=self._default_publisher().node.id,
        )  # fmt: skip
        self._nodes.await_ready(name)
        self._record("beat-up", node=name, every=every)
        return Handle(node, self._nodes, hold)

    def proxy(self) -> Proxy:
        """Start a wire that workers and publishers can be put behind."""
        port = self.broker.inner_port
        node = self._nodes.start(WIRE, (*PROXY_COMMAND, str(port), ALIAS), {}, takes_orders=True)
        self._nodes.await_ready(WIRE)
        return Proxy(node, self._nodes)

    def broker_exits(self) -> None:
        """Wait until the broker has ended by itself."""
        self.watch.poll(lambda: not self.broker.node.state().running, "the broker to exit", PHASE_SECONDS)
        state = self.broker.node.state()
        self._record("exited", node=BROKER, code=state.exit_code, oom=state.oom_killed)

    def folder(self, name: str) -> str:
        """Make a folder that outlives the nodes that see it, each at the path SHARED."""
        return self._nodes.folder(name)

    def result_backend(self) -> Beside:
        """Start a Redis beside the broker that stores results. Nodes that start after this use it.

        The publisher that the trial has is told of it, so call this before the first publish.
        """
        from lab.servers.results import ResultStore  # on demand: not every run needs redis-py, 0.4 s

        server = self._beside(ResultStore)
        self._default_publisher().order({"settings": server.settings})
        return server

    def ledger(self) -> Ledger:
        """Start a PostgreSQL beside the broker, into which tasks charge. Workers that start after this do."""
        server = self._beside(Ledger)
        server.make_tables()
        self._record("ledger-up", version=server.version())
        return server

    def wait_for_blocked(self, ledger: Ledger) -> None:
        """Wait until a transaction in the ledger waits for another one to end."""
        self.watch.poll(lambda: ledger.waiting() > 0, "a transaction to wait for another", ANSWER_SECONDS)

    def _beside(self, server_class: type[AnyBeside]) -> AnyBeside:
        server = server_class(self._nodes.engine, self._nodes.network, self._nodes.tag)
        self._servers.append(server)
        self.watch.poll(server.answers, f"{server.alias} to answer", ANSWER_SECONDS)
        self._settings.update(server.settings)
        self._environment.update(server.environment)
        return server

    # --- tasks ----------------------------------------------------------------------------------

    def publish(
        self,
        label: str,
        count: int = 1,
        *,
        act: str = "nothing",
        about: Mapping[str, Scalar] | None = None,
        by: Publisher | None = None,
        wait: bool = True,
        **options: Scalar,
    ) -> list[str]:
        """Publish tasks one after another, and ``wait`` until the publisher was told about each.

        ``act`` is what the task does (:mod:`lab.worker.acts`), ``about`` its arguments; ``options`` go to
        Celery's ``send_task``, like ``countdown``.
        """
        common = {"label": label, "act": act, "about": about or {}, "options": options}
        return self._order([common] * count, by, wait=wait)

    def chain(self, *labels: str) -> list[str]:
        """Publish a chain of tasks, one for each label. Who was told ok was promised every step."""
        return self._canvas("chain", labels, {})

    def chord(self, *labels: str, acts: Mapping[str, str] | None = None) -> list[str]:
        """Publish a chord: the last label is that of its body. ``acts`` are what labels do."""
        return self._canvas("chord", labels, acts or {})

    def _canvas(self, kind: str, labels: Sequence[str], acts: Mapping[str, str]) -> list[str]:
        steps = [{"label": w, "act": acts.get(w, "nothing"), "about": {}, "options": {}} for w in labels]
        return self._order(steps, canvas=kind)

    def _order(
        self,
        tasks: Sequence[Mapping[str, Any]],
        by: Publisher | None = None,
        *,
        wait: bool = True,
        canvas: str | None = None,
    ) -> list[str]:
        ids = [f"{t['label']}-{n}-{self._nodes.tag}" for n, t in enumerate(tasks, self._published)]
        self._published += len(ids)
        publisher = by or self._default_publisher()
        self._nodes.await_ready(publisher.name)
        orders = [{"id": task, **about} for task, about in zip(ids, tasks, strict=True)]
        publisher.order({"tasks": orders, "canvas": canvas})
        if wait:
            publisher.was_told(ids)
        return ids

    def revoke(self, task: str, workers: int = 1) -> None:
        """Revoke a task, and wait until so many workers have answered that they will not run it."""
        publisher = self._default_publisher()
        publisher.order({"revoke": {"id": task, "workers": workers}})
        publisher.says("revocation-known", task)

    # --- faults ---------------------------------------------------------------------------------

    def inject(self, fault: Fault, moment: Moment | None = None) -> Fault:
        """Break something: recorded before, proved after. Without proof the trial will not count.

        ``moment`` is the phase of a task that the fault must meet. A fault that outlasts its longest
        duration is undone, and spoils the trial.
        """
        self.harm.inject(fault, moment)
        return fault

    def heal(self, fault: Fault) -> None:
        """Undo a fault, and prove it."""
        self.harm.heal(fault)

    def write_out(self) -> None:
        """Wait until the broker has given the kernel all that it was told."""
        self.watch.poll(self.broker.has_written, "the broker to write what it was told", ANSWER_SECONDS)

    def sync(self) -> None:
        """Have all that the broker has written so far reach its disk, and record it.

        What comes before it (users, queues, the first tasks) is not at stake in a power cut. On RabbitMQ
        that needs a publisher who waited for confirms: what is not confirmed may be in its memory still.
        """
        self.write_out()
        self.disk.sync()
        self._record("synced", node=BROKER)

    def let_pass(self, seconds: float) -> None:
        """Let time pass that is the experiment's own variable, or that a call takes which nobody can see."""
        self.watch.let_pass(seconds)
        self._record("passed-by", node=BROKER, seconds=seconds)

    # --- how it ends ----------------------------------------------------------------------------

    def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until nothing is left to happen, and have every worker that lives prove itself."""
        alive = [worker for worker in self._workers if worker.alive]

        def sentinels(count: int, gate: str) -> list[str]:
            about = {"gate_name": gate}  # whether results are stored is not what it proves
            return self.publish(SENTINEL, count, act=SENTINEL, about=about, ignore_result=True)

        Settling(self.namespace, alive, sentinels, self.watch, self._record).settle(seconds)

    def collect(self) -> Remains:
        """Make every node still, read what the broker holds and every log in full."""
        self.harm.revert()
        if self._publisher is not None:
            self._publisher.result()  # it is among the nodes when it has been started
        self._nodes.freeze()
        backlog = self._backlog()
        self._nodes.silence()
        self._read_servers()
        logs = [*self._nodes.logs(), *self._disk_log()]
        return Remains((*logs, *self._record.events), backlog, tuple(self._tuned.values()))

    def _disk_log(self) -> list[Event]:
        if self.broker.disk is None:
            return []
        events, defects = self.broker.disk.events()
        for defect in defects:
            self._record("defect", what=defect)
        return events

    def _backlog(self) -> Backlog:
        if self._namespace is None:
            return Backlog(readable=False)
        try:
            return self._namespace.backlog(self._nodes.silence)
        except Inconclusive as error:
            self._record("defect", what=f"the backlog could not be read: {error.wrong}")
            return Backlog(readable=False)

    def _read_servers(self) -> None:
        """Record what is found in every server beside the broker."""
        for server in self._servers:
            try:
                findings = list(server.findings())
            except Inconclusive as error:
                self._record("defect", what=f"{server.alias} could not be read: {error.wrong}")
            else:
                for name, task, detail in findings:
                    self._record(name, task, **detail)

    def errors(self) -> dict[str, str]:
        """What every node wrote to standard error: for people, never for verdicts."""
        return self._nodes.errors()

    def note(self, name: str, **detail: Scalar) -> None:
        """Record something about the trial itself."""
        self._record(name, **detail)

    def close(self) -> None:
        """Remove every node of the trial and its namespace."""
        self._starting.shutdown(wait=True)  # a node that is being started is in the list after this
        self.harm.forget()
        self._nodes.remove()
        for server in self._servers:
            server.node.remove()
        if self._namespace is not None:
            self._namespace.close()

    # --- details --------------------------------------------------------------------------------

    @property
    def namespace(self) -> Namespace:
        """The trial's own part of the broker."""
        if self._namespace is None:
            raise RuntimeError("the rig was not begun")
        return self._namespace

    @property
    def queue(self) -> Queue:
        """The queue of the trial, as its broker sees it."""
        return Queue(self.namespace, self.watch, self._record, self._tune)

    @property
    def disk(self) -> Disk:
        """The disk of the broker, which only a scenario that asked for one has."""
        if self.broker.disk is None:
            raise RuntimeError("this scenario has no disk: @scenario(..., disk=True)")
        return self.broker.disk

    def _default_publisher(self) -> Publisher:
        if self._publisher is None:
            raise RuntimeError("the rig was not begun")
        return self._publisher.result()

    def _with_url(self, settings: Settings, through: Proxy | None) -> Settings:
        url = self.namespace.url
        if through:  # by the name of its container: trials side by side share a network, and the short names
            url = url.replace(f"@{ALIAS}:", f"@{self._nodes.tag}-{through.name}:")
        return {**settings, "broker_url": url}

    def _tell_tuned(self, settings: Settings) -> tuple[Tuned, ...]:
        """Have the report say what was shortened: every value that a node of the trial had."""
        found = tuned(settings)
        self._tuned.update(((change.setting, str(change.value)), change) for change in found)
        return found

    def _tune(self, node: str, overrides: Settings) -> None:
        """Record what the lab changed for a node against the trial's own settings."""
        changes = self._tell_tuned(overrides)
        if len(changes) < len(overrides):
            raise RuntimeError(f"lab.settings does not say what production has for all of {[*overrides]}")
        for change in changes:
            self._record("tuned", node=node, setting=change.setting, value=str(change.value))
