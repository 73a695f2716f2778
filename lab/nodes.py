"""The containers of one trial: how they start, what they can be asked, and how they are made still."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from lab.engine.adapter import Engine
from lab.engine.node import SHARED, UNPRIVILEGED_USER, Node, NodeSpec
from lab.errors import DeadlineExpired, EngineGone, Inconclusive, NodeDead
from lab.history import LAB, Event, Scalar, parse_log
from lab.settings import Settings, nested
from lab.watch import Watch

BOOT_SECONDS = 20.0
PHASE_SECONDS = 10.0
PUBLISHER_COMMAND = ("python3", "-m", "worker.publisher")
PROXY_COMMAND = ("python3", "-m", "worker.proxy")
BEAT_COMMAND = (
    *("python3", "-m", "celery", "--quiet", "-A", "worker.app", "beat", "--loglevel", "WARNING"),
    *("--scheduler", "worker.beat:ProbedScheduler", "--schedule", f"{SHARED}/schedule"),
)


@dataclass(slots=True)
class Recorder:
    """The lab's own lines of the history, numbered like those of any process."""

    events: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, task: str | None = None, /, **detail: Scalar) -> None:
        with self._lock:  # nodes are silenced side by side, and each may report a defect
            self.events.append(Event(LAB, time.time_ns(), os.getpid(), len(self.events), name, task, detail))


@dataclass(slots=True)
class Nodes:
    """Starts the containers of one trial and reads what they leave. ``gone`` are those proved dead."""

    engine: Engine
    image: str
    network: str
    tag: str
    watch: Watch
    record: Recorder
    gone: set[str] = field(default_factory=set)
    _all: list[Node] = field(default_factory=list)
    _folders: list[str] = field(default_factory=list)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "nodes"))

    def start(
        self,
        name: str,
        command: Sequence[str],
        settings: Settings,
        *,
        hold: str | None = None,
        memory: int | None = None,
        folder: str | None = None,
        environment: Mapping[str, str] | None = None,
        takes_orders: bool = False,
        address_of: str = "",
    ) -> Node:
        """Start a node of the worker image, and follow what it writes.

        With ``address_of``, the id of another node, it shares that one's address: a network interface costs
        the engine more than all else of a container.
        """
        given = {"LAB_NODE": name, "LAB_SETTINGS": json.dumps(nested(settings)), **(environment or {})}
        spec = NodeSpec(
            name=f"{self.tag}-{name}",
            image=self.image,
            command=command,
            network=self.network,
            alias=name,
            environment=given | ({"LAB_HOLD": hold} if hold else {}),
            user=UNPRIVILEGED_USER,
            unprivileged=True,
            memory=memory,
            volumes={SHARED: folder} if folder else {},
            takes_orders=takes_orders,
            address_of=address_of,
        )
        self.watch.check()
        return self.adopt(self.engine.start(spec))

    def adopt(self, node: Node) -> Node:
        """Follow a node that was started for this trial, and end it with the others."""
        self._all.append(node)
        self.watch.follow(node)
        return node

    def folder(self, name: str) -> str:
        """Make a folder that outlives the nodes that see it."""
        volume = f"{self.tag}-{name}"
        self.engine.create_volume(volume)
        self._folders.append(volume)
        return volume

    def await_ready(self, name: str) -> None:
        """Wait until a node has said that it is ready."""
        self.watch.until(
            lambda events: any(e.node == name and e.name == "ready" for e in events),
            f"{name} to be ready",
            BOOT_SECONDS,
            name,
        )

    def freeze(self) -> None:
        """Freeze every node that lives. One that died by itself spoils the trial."""
        for node in self._living():
            try:
                node.pause()
            except NodeDead:
                last = node.log(errors=True).decode(errors="replace").strip().rpartition("\n")[2]
                self.record("defect", what=f"{node.name} died by itself: {last or 'it wrote no error'}")
            except Inconclusive as error:
                self.record("defect", what=error.wrong)

    def silence(self) -> None:
        """End every node for good: what is read from one that may go on is no evidence."""
        list(self._threads.map(self._silence, self._living()))

    def _silence(self, node: Node) -> None:
        try:
            with suppress(NodeDead):
                node.kill()
            self.watch.poll(lambda: not node.state().running, f"{node.name} to be dead", PHASE_SECONDS)
        except DeadlineExpired as error:
            self.record("defect", what=error.wrong)

    def _living(self) -> list[Node]:
        return [node for node in self._all if node.name not in self.gone]

    def logs(self) -> list[Event]:
        """Every log in full. What was seen live and is not there is a defect, like any hole."""
        events: list[Event] = []
        for node, log in zip(self._all, self._threads.map(lambda node: node.log(), self._all), strict=True):
            found, defects = parse_log(node.name, log)
            events += found
            for defect in defects:
                self.record("defect", what=defect)
        if missing := self.watch.missing_from(events):
            self.record("defect", what=f"{missing} events were seen live that the logs do not have")
        return events

    def errors(self) -> dict[str, str]:
        """What every node wrote to standard error: for people, never for verdicts."""
        found: dict[str, str] = {}
        with suppress(EngineGone):
            for node in self._all:
                found[node.name] = node.log(errors=True).decode(errors="replace")
        return found

    def remove(self) -> None:
        """Remove every node and folder."""
        self._threads.shutdown(wait=True)
        for node in reversed(self._all):  # the publisher last: the others are at its address
            node.remove()
        for folder in self._folders:
            self.engine.remove_volume(folder)
