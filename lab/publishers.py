"""Containers in which publishers run one after another: starting one costs more than what it does in a trial.

A trial has a publisher's container for itself while it runs, and a process of its own in it
(:mod:`lab.worker.publishers`). What a script strikes is started for it alone: :meth:`lab.rig.Rig.publisher`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count

from lab.engine.adapter import Engine
from lab.engine.node import UNPRIVILEGED_USER, Node, NodeSpec, NodeState
from lab.errors import EnvironmentLacks, Inconclusive, NodeDead
from lab.settings import Settings, nested

NAME = "publisher"
COMMAND = ("python3", "-m", "worker.publishers")
LAST = 20  # lines, of either stream
MOST = 50  # trials in one container: each reads its log from the start
END_SECONDS = 10.0
POLL_SECONDS = 0.01
ENDED = b'"name":"ended"'


@dataclass(slots=True)
class Container:
    """One that is lent to trials in turn."""

    node: Node
    served: int = 0


class Lent(Node):
    """The process of one trial in a container of publishers, as a node: its output, its end."""

    def __init__(self, container: Container, tag: str, shelf: Publishers) -> None:
        vars(self).update(vars(container.node))
        self.network = ""  # it shares its address with the other nodes of its trial
        self._container = container
        self._tag = tag
        self._quoted = f'"{tag}"'.encode()
        self._over = False
        self._given_back = False
        self._shelf = shelf

    def begin_with(self, settings: Settings) -> None:
        """Have it started, with these settings of Celery."""
        self._container.node.tell({"begin": self._tag, "settings": nested(settings)})
        self._container.served += 1

    def tell(self, order: Mapping[str, object]) -> None:
        """Its orders carry its name: the container has one standard input."""
        self._container.node.tell({**order, "trial": self._tag})

    def log(self, *, errors: bool = False, tail: int | None = None) -> bytes:
        lines = super().log(errors=errors, tail=tail).splitlines(keepends=True)
        return b"".join(self._own(iter(lines)))

    def follow(self) -> Generator[bytes]:
        with closing(super().follow()) as lines:
            yield from self._own(lines)

    def _own(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """From the line in which it begins to the one in which its end is told. Nobody else writes then."""
        for line in lines:
            if b"begun" in line and self._quoted in line:
                yield line
                break
        for line in lines:
            if ENDED in line:
                self._over = True
                return
            yield line

    def kill(self, signal: str = "SIGKILL") -> None:
        """End its process, not the container."""
        if self._ended():
            raise NodeDead(f"{self.name} ended", "run it again")
        super().kill("SIGUSR1" if signal == "SIGKILL" else signal)

    def pause(self) -> None:
        """End it for good: frozen, it could publish once more between its thaw and its end.

        It holds nothing that its end would give back. Raises :class:`NodeDead`, :class:`Inconclusive`.
        """
        self.kill()
        deadline = time.monotonic() + END_SECONDS
        while not self._ended():
            if time.monotonic() > deadline:
                self.log()  # in full: errors may have pushed its end out of the last lines
                if self._over:
                    return
                raise Inconclusive(f"{self.name} did not end", "run it again")
            time.sleep(POLL_SECONDS)

    def state(self) -> NodeState:
        found = super().state()
        return NodeState(False, False, 0, False) if self._ended() else found

    def _ended(self) -> bool:
        """Whether its end was told: once true, true for ever, whoever comes after it."""
        if not self._over:
            last = super().log(tail=LAST).splitlines()
            self._over = any(ENDED in line and self._quoted in line for line in last)
        return self._over

    def remove(self) -> None:
        """Give the container back, or remove it if its process is not known to have ended."""
        if self._given_back:
            return
        self._given_back = True
        try:
            whole = self._ended() and super().state().running and self._container.served < MOST
        except EnvironmentLacks:
            whole = False
        if whole:
            self._shelf.put_back(self._container)
        else:
            self._container.node.remove()


@dataclass(slots=True)
class Publishers:
    """The containers of publishers on one network."""

    engine: Engine
    image: str
    network: str
    name: str
    _idle: list[Container] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lend(self, tag: str, settings: Settings) -> Node:
        """A publisher for one trial. Does not wait until it is ready."""
        with self._lock:
            found = self._idle.pop() if self._idle else None
        lent = Lent(found or Container(self._start()), tag, self)
        lent.begin_with(settings)
        return lent

    def put_back(self, container: Container) -> None:
        """Keep it for the next trial."""
        with self._lock:
            self._idle.append(container)

    def close(self) -> None:
        """Remove those that nobody has."""
        while self._idle:
            self._idle.pop().node.remove()

    def _start(self) -> Node:
        name = f"{self.name}-publisher{next(self._numbers)}"
        environment: Mapping[str, str] = {"LAB_NODE": NAME}
        return self.engine.start(
            NodeSpec(
                name, self.image, COMMAND, self.network, NAME,
                environment=environment, user=UNPRIVILEGED_USER, unprivileged=True, takes_orders=True,
            )
        )  # fmt: skip
