"""What every server and every broker family offers: readiness, a fresh namespace per trial, its backlog."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from lab.brokers.profile import Profile, fill
from lab.engine.adapter import LOOPBACK, Engine, free_port
from lab.engine.disks import Disk
from lab.engine.node import NodeSpec
from lab.errors import BrokerSilent, PortTaken
from lab.history import Backlog
from lab.settings import Settings

ALIAS = "broker"
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Depth:
    """How much a namespace holds now.

    ``consumers`` is ``None`` where nobody counts them, ``unacked`` where it takes a question of its own
    (:meth:`Namespace.has_unacked`).
    """

    ready: int
    unacked: int | None
    consumers: int | None


class Cache(ABC):
    """What a web application keeps in the same store as its queue: values that expire in an hour."""

    @abstractmethod
    def grow(self, policy: str, key: str) -> None:
        """Limit the store's memory under this policy, and write until this key of the queue's is gone.

        Also until a write is refused, or nothing that the policy may take is older than the key.
        """

    @abstractmethod
    def spares(self, key: str) -> bool:
        """Whether that key is still there."""

    @abstractmethod
    def evicted(self) -> int:
        """How many keys the store says that it has evicted."""

    @abstractmethod
    def limited(self) -> bool:
        """Whether its memory has a limit now."""

    @abstractmethod
    def free(self) -> None:
        """Take the limit away, give its own policy back, and empty the cache."""


class Namespace(ABC):
    """A database or virtual host of one trial: nothing in it is shared with another trial."""

    url: str

    @abstractmethod
    def depth(self) -> Depth:
        """Count what is held now. Raises :class:`BrokerSilent`."""

    def has_unacked(self, count: int) -> bool:
        """Whether so many messages are out with consumers, now. Raises :class:`BrokerSilent`."""
        return self.depth().unacked == count

    def has_consumers(self, count: int) -> bool:
        """Whether the broker counts so many consumers. Raises :class:`BrokerSilent`."""
        return self.depth().consumers == count

    @abstractmethod
    def backlog(self, still: Callable[[], None]) -> Backlog:
        """Read the ids held. The workers are frozen; ``still()`` ends them for good."""

    @abstractmethod
    def close_connections(self) -> int:
        """Close every connection that nodes of the trial have; how many. Raises :class:`BrokerSilent`."""

    def limit_deliveries(self, times: int) -> None:
        """Have quorum queues drop what comes back more often than that."""
        raise NotImplementedError(f"no {type(self).__name__} has quorum queues ({times})")

    def remember_queues(self) -> None:
        """Have the broker write down now which queues it has. Most do when a queue is declared."""
        return

    def is_given_up(self) -> bool:
        """Whether the broker runs, and has stopped every queue of the trial's kind for good."""
        raise NotImplementedError(f"a {type(self).__name__} gives up no queue")

    def delete_leaderless_queue(self) -> None:
        """Delete a queue that lost its log. Raises :class:`BrokerSilent` when it has not."""
        raise NotImplementedError(f"the queue of a {type(self).__name__} has no log of its own")

    def is_polled(self) -> bool:
        """Whether a worker waits at the broker for a task. Raises :class:`BrokerSilent`."""
        raise NotImplementedError(f"a {type(self).__name__} sends tasks to workers that do not ask")

    def has_queue(self) -> bool:
        """Whether there is a queue at all. Raises :class:`BrokerSilent`."""
        raise NotImplementedError(f"a queue of a {type(self).__name__} is there when something is in it")

    def has_blocked(self, count: int) -> bool:
        """Whether the broker has stopped to read from so many connections, because they published."""
        raise NotImplementedError(f"no {type(self).__name__} blocks connections ({count})")

    def limit_unacknowledged(self, seconds: float, look_every: float) -> None:
        """Have the broker close channels that leave a delivery unacknowledged for longer than that."""
        raise NotImplementedError(f"no {type(self).__name__} has consumer_timeout ({seconds}, {look_every})")

    def cache(self) -> Cache:
        """A web application's cache beside the queue. Raises :class:`BrokerSilent` in all that it does."""
        raise NotImplementedError(f"nobody keeps a cache in a {type(self).__name__}")

    def keep_dead_letters(self) -> None:
        """Have the broker put what it drops into a queue of its own."""
        raise NotImplementedError(f"no {type(self).__name__} has dead letters")

    def limit_length(self, tasks: int, overflow: str) -> None:
        """Have the broker hold so many waiting tasks and no more; ``overflow`` says which ones go."""
        raise NotImplementedError(f"no {type(self).__name__} limits a queue ({tasks}, {overflow})")

    def expire_tasks(self, milliseconds: int) -> None:
        """Have the broker drop a task that waited for so long."""
        raise NotImplementedError(f"no {type(self).__name__} drops what waits ({milliseconds})")

    def expire_unused(self, milliseconds: int) -> None:
        """Have the broker delete the queue when it had no consumer for so long."""
        raise NotImplementedError(f"no {type(self).__name__} deletes its queues ({milliseconds})")

    def dead_letters(self) -> list[str]:
        """The ids in that queue, where there is one. Raises :class:`BrokerSilent`."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Delete everything in it. A broker that is gone has nothing left to delete."""


class Server(ABC):
    """One running server of a profile, published on fixed ports of 127.0.0.1.

    A broker has its network for itself, and its ``alias`` is its ``host`` name there. Trials side by side
    share a network, so a server of one trial is known by the name of its container. With a ``disk`` it
    keeps its data there, else in a volume that goes with its container.
    """

    ports: tuple[str, ...]
    inner_port: int

    def __init__(
        self,
        engine: Engine,
        profile: Profile,
        network: str,
        name: str,
        *,
        alias: str = ALIAS,
        disk: Disk | None = None,
    ) -> None:
        self.engine = engine
        self.profile = profile
        self.alias = alias
        self.host = alias if alias == ALIAS else name
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
            alias=self.alias,
            hostname=service.hostname,
            environment={key: fill(value, variables) for key, value in service.environment.items()},
            volumes={service.data: self.disk.volume if self.disk else ""} if service.data else {},
            ports={int(inner): int(public) for public, inner in pairs},
        )

    @abstractmethod
    def version(self) -> str:
        """Ask the broker itself. A real round trip; raises :class:`BrokerSilent` while it boots."""

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            self.version()
        except BrokerSilent:
            return False
        return True

    def shut_down(self) -> None:
        """Ask it to end in good order. Does not wait."""
        self.node.kill("SIGTERM")


class Broker(Server):
    """A server that tasks are published to."""

    def has_written(self) -> bool:
        """Whether all that it confirmed so far was given to the kernel. Raises :class:`BrokerSilent`."""
        return True

    def limit_memory(self, size: int) -> None:
        """Let it have so many bytes and no more; 0 gives back the limit that it was started with."""
        raise NotImplementedError(f"the memory of {type(self).__name__} is not limited by the lab ({size})")

    def meet_full_disk(self) -> Settings:
        """Have it come upon a full disk at once, by a write of its own; what was changed for that."""
        return {}

    ends_on_full_disk = False  # at once, when it is asked to write

    def disk_is_full(self) -> bool:
        """Whether it refuses a write for want of room on its disk. Raises :class:`BrokerSilent`."""
        raise NotImplementedError(f"the lab asks no {type(self).__name__} for its disk")

    log_folder = ""  # under its data, with the files that it reads in turn when it starts

    def newest_log(self, files: Mapping[str, bytes]) -> str:
        """The name of the log among these files that it writes to."""
        raise NotImplementedError(f"the lab knows no log of {type(self).__name__} ({len(files)} files)")

    def mend_log(self) -> int:
        """Run its own tool of repair on its files while it is dead; the exit code."""
        raise NotImplementedError(f"the lab knows no tool that mends a {type(self).__name__}")

    def memory_is_full(self) -> bool:
        """Whether it refuses a write for want of memory. Raises :class:`BrokerSilent`."""
        raise NotImplementedError(f"the memory of {type(self).__name__} is not limited by the lab")

    def raise_alarm(self, resource: str) -> None:
        """Set its limit of ``memory`` or ``disk`` to what it cannot keep, so that it raises the alarm."""
        raise NotImplementedError(f"no {type(self).__name__} has a {resource} alarm")

    def clear_alarm(self, resource: str) -> None:
        """Give it back the limit that it had before."""
        raise NotImplementedError(f"no {type(self).__name__} has a {resource} alarm")

    def alarms(self) -> list[str]:
        """The resources that it says it is short of. Raises :class:`BrokerSilent`."""
        return []

    @abstractmethod
    def open(self, number: int) -> Namespace:
        """A fresh namespace. ``number`` is different for every trial on this broker."""
