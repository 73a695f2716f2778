"""What every broker family offers: readiness, a fresh namespace per trial, and its backlog."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from lab.brokers.profile import Profile, fill
from lab.engine.adapter import LOOPBACK, Engine, NodeSpec, free_port
from lab.engine.disks import Disk
from lab.errors import PortTaken
from lab.history import Backlog

ALIAS = "broker"
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Depth:
    """How much a namespace holds. ``unacked`` and ``consumers`` are ``None`` where not told apart."""

    ready: int
    unacked: int | None
    consumers: int | None


class Namespace(ABC):
    """A database or virtual host of one trial: nothing in it is shared with another trial."""

    url: str

    @abstractmethod
    def depth(self) -> Depth:
        """Count what is held now. Raises :class:`BrokerSilent`."""

    @abstractmethod
    def backlog(self, still: Callable[[], None]) -> Backlog:
        """Read the ids held. The workers are frozen; ``still()`` ends them for good."""

    @abstractmethod
    def close_connections(self) -> int:
        """Close every connection that nodes of the trial have; how many. Raises :class:`BrokerSilent`."""

    def limit_deliveries(self, times: int) -> None:
        """Have quorum queues drop what comes back more often than that."""
        raise NotImplementedError(f"no {type(self).__name__} has quorum queues ({times})")

    @abstractmethod
    def close(self) -> None:
        """Delete everything in it. A broker that is gone has nothing left to delete."""


class Broker(ABC):
    """One running broker of a profile, published on fixed ports of 127.0.0.1.

    With a ``disk`` it keeps its data there, else in a volume that goes with its container.
    """

    ports: tuple[str, ...]
    inner_port: int

    def __init__(
        self, engine: Engine, profile: Profile, network: str, name: str, disk: Disk | None = None
    ) -> None:
        self.profile = profile
        self.disk = disk
        self.password = secrets.token_hex(16)
        for attempt in Retrying(
            stop=stop_after_attempt(START_ATTEMPTS),
            retry=retry_if_exception_type(PortTaken),
            reraise=True,
        ):
            with attempt:
                self.public = {variable: free_port() for variable in self.ports}
                self.node = engine.start(self._spec(network, name))

    def _spec(self, network: str, name: str) -> NodeSpec:
        service = self.profile.service
        variables = {
            "LAB_VERSION": self.profile.version,
            "LAB_PASSWORD": self.password,
            **{variable: str(port) for variable, port in self.public.items()},
        }
        pairs = [fill(port, variables).removeprefix(f"{LOOPBACK}:").split(":") for port in service.ports]
        return NodeSpec(
            name=name,
            image=self.profile.image,
            command=[fill(word, variables) for word in service.command],
            network=network,
            alias=ALIAS,
            hostname=service.hostname,
            environment={key: fill(value, variables) for key, value in service.environment.items()},
            volumes={service.data: self.disk.volume if self.disk else ""} if service.data else {},
            ports={int(inner): int(public) for public, inner in pairs},
        )

    @abstractmethod
    def version(self) -> str:
        """Ask the broker itself. A real round trip; raises :class:`BrokerSilent` while it boots."""

    def has_written(self) -> bool:
        """Whether all that it confirmed so far was given to the kernel. Raises :class:`BrokerSilent`."""
        return True

    def limit_memory(self, size: int) -> None:
        """Let it have so many bytes and no more; 0 gives back the limit that it was started with."""
        raise NotImplementedError(f"the memory of {type(self).__name__} is not limited by the lab ({size})")

    def memory_is_full(self) -> bool:
        """Whether it refuses a write for want of memory. Raises :class:`BrokerSilent`."""
        raise NotImplementedError(f"the memory of {type(self).__name__} is not limited by the lab")

    def shut_down(self) -> None:
        """Ask it to end in good order. Does not wait."""
        self.node.kill("SIGTERM")

    @abstractmethod
    def open(self, number: int) -> Namespace:
        """A fresh namespace. ``number`` is different for every trial on this broker."""
