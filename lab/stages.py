"""Brokers and networks that trials run on: booted when first needed, shared or had alone, used again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from lab.brokers import Broker, Profile, broker_class
from lab.engine.adapter import Engine
from lab.engine.disks import make_disk
from lab.errors import EnvironmentLacks
from lab.publishers import Publishers
from lab.watch import Stop, Watch

BROKER_BOOT_SECONDS = 60.0
MOST_ON_A_DISK = 10  # trials: RabbitMQ rewrites its log each three minutes, and that fsync is not theirs
IDLE = 6  # brokers that wait for another trial
Key = tuple[str, str, str]  # image, service, and the file system of its disk, if it has one of its own
MOST = 40  # trials on one ground: its addresses are given out once, and a small network has some 250


@dataclass(slots=True)
class Ground:
    """A network, and the publishers on it. It outlives the brokers that stand on it, for so many trials."""

    name: str
    network: str
    publishers: Publishers
    served: int = 0


@dataclass(slots=True)
class Stage:
    """A running broker on a network that it has for itself, and a count of the trials that it served."""

    name: str
    engine: Engine
    broker: Broker
    ground: Ground
    version: str
    image_id: str
    served: int = 0
    whole: bool = True  # whether the last trial left it as it was
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_number(self) -> int:
        """A namespace that no trial has used."""
        with self._lock:
            self.served += 1
            return self.served


class Stages:
    """Boots brokers when they are first needed: one of each definition to share, others to have alone.

    One that a trial had alone goes on to the next trial if it was left whole: every fault undone and
    proved so, nothing tuned. A boot of RabbitMQ costs more than most trials. That holds after a power cut
    too: the broker has started again on what its disk kept, and each trial writes out its own set-up
    before anything is at stake. The ground goes on in any case.
    """

    def __init__(self, engine: Engine, image: str, stop: Stop) -> None:
        self._engine = engine
        self._image = image
        self._stop = stop
        self._lock = threading.Lock()
        self._booting: dict[Any, Future[Stage]] = {}
        self._own = 0
        self._idle: list[tuple[Key, Stage]] = []
        self._grounds: list[Ground] = []
        self._pool = ThreadPoolExecutor(thread_name_prefix="boot")

    def boot(self, profile: Profile) -> Future[Stage]:
        """The stage of this profile, begun now if it is not there. Profiles of one service share it."""
        key = _key(profile)
        with self._lock:
            if key not in self._booting:
                self._booting[key] = self._pool.submit(self._boot, profile, len(self._booting))
            return self._booting[key]

    @contextmanager
    def shared(self, profile: Profile) -> Iterator[Stage]:
        """The stage that trials share which break neither broker nor network."""
        yield self.boot(profile).result()

    @contextmanager
    def own(self, profile: Profile, *, disk: str = "") -> Iterator[Stage]:
        """A stage that one trial has alone: its broker may be killed, its network cut.

        With a ``disk``, the name of a file system, its data lies on one whose power can be cut.
        """
        stage = self._take((*_key(profile), disk)) or self._boot(
            profile, self._next_own(), alone=True, disk=disk
        )
        stage.whole = False
        try:
            yield stage
        finally:
            most = MOST_ON_A_DISK if disk else MOST
            lasts = stage.whole and not profile.by_the_clock and stage.served < most
            for spare in self._put((*_key(profile), disk), stage) if lasts else [stage]:
                self._remove(spare)

    def _next_own(self) -> str:
        with self._lock:
            self._own += 1
            return f"own{self._own}"

    def _take(self, key: Key) -> Stage | None:
        """An idle stage of this kind."""
        with self._lock:
            found = next((pair for pair in self._idle if pair[0] == key), None)
            if found:
                self._idle.remove(found)
        return self._handed_over(found[1]) if found else None

    def _handed_over(self, stage: Stage) -> Stage | None:
        """It, with a new hand on its disk if it has one; nothing if the disk is worn."""
        try:
            if stage.broker.disk:
                stage.broker.disk.hand_over()
        except EnvironmentLacks:
            self._remove(stage)
            return None
        return stage

    def _put(self, key: Key, stage: Stage) -> list[Stage]:
        """Keep a stage for the next trial; those that are too many, the longest idle first."""
        with self._lock:
            self._idle.append((key, stage))
            many, self._idle = self._idle[:-IDLE], self._idle[-IDLE:]
        return [stage for _, stage in many]

    def _remove(self, stage: Stage) -> None:
        with suppress(EnvironmentLacks):  # the end of the run removes what did not go now
            stage.broker.node.remove()
            if stage.broker.disk:
                stage.broker.disk.remove()
            stage.ground.served += stage.served
            if stage.ground.served < MOST:
                with self._lock:
                    self._grounds.append(stage.ground)
            else:
                stage.ground.publishers.close()
                self._engine.remove_network(stage.ground.network)

    def _ground(self, name: str, *, alone: bool) -> Ground:
        """One that is free, or a new one. Who has it alone can be cut off, and come back."""
        with self._lock:
            if alone and self._grounds:
                return self._grounds.pop()
        network = self._engine.create_network(name, fixed=alone)
        return Ground(name, network, Publishers(self._engine, self._image, network, name))

    def _boot(self, profile: Profile, number: object, *, alone: bool = False, disk: str = "") -> Stage:
        name = f"lab-{self._engine.run}-{profile.family}{number}"
        ground = self._ground(name, alone=alone)
        own = make_disk(self._engine, self._image, f"{name}-disk", disk) if disk else None
        make = broker_class(profile.family)
        broker = make(self._engine, profile, ground.network, f"{name}-broker", disk=own)
        Watch(self._stop).poll(broker.answers, f"{profile.label} to answer", BROKER_BOOT_SECONDS)
        return Stage(name, self._engine, broker, ground, broker.version(), broker.node.image_id())

    def close(self) -> None:
        """Wait for boots under way; the run removes what they made."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _key(profile: Profile) -> tuple[str, str]:
    """Profiles whose brokers are the same: they differ in what Celery is told."""
    return profile.image, repr(profile.service)
