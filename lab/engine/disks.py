"""Disks whose power can be cut: each a file system of its own, on a loop device, as a volume.

Everything goes through the engine's interface. Two helper containers (:mod:`lab.worker.disk`) do what
needs the kernel: the keeper with device rules for loop devices, the hand with ``CAP_SYS_ADMIN``. Neither has
a network, and neither is privileged. Their containers and the volume are labelled like everything
else; the loop device clears itself when they are gone.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Timer

from lab.engine.adapter import Engine
from lab.engine.node import Node, NodeSpec
from lab.errors import CannotCutPower, EngineGone, EnvironmentLacks, Inconclusive
from lab.history import Event, parse_event, parse_log

NAME = "disk"  # of the hand, in histories
MOUNT = "/disk"
HEAR_SECONDS = 30.0
LOOP_DEVICES = ("b 7:* rwm", "c 10:237 rwm")
COMMAND = ("python3", "-m", "worker.disk")


@dataclass(slots=True)
class Disk:
    """One disk: the volume for its broker, and the hand that can cut its power."""

    engine: Engine
    image: str
    kind: str
    volume: str
    device: str
    keeper: Node
    hand: Node
    _said: Generator[bytes]

    def sync(self) -> None:
        """Have everything that was written so far reach the disk."""
        self.hand.kill("SIGUSR2")
        self._hear("synced")

    def fill(self) -> None:
        """Take all its room. Raises :class:`Inconclusive` when the hand refuses, or it still takes writes."""
        self.hand.kill("SIGHUP")
        self._hear("full")

    def free(self) -> None:
        """Give the room back."""
        self.hand.kill("SIGALRM")
        self._hear("free")

    def cut(self) -> None:
        """Cut its power. Raises :class:`Inconclusive` when the hand refuses."""
        self.hand.kill("SIGUSR1")
        self._hear("power-cut")
        self._hear("dead")

    def released(self) -> bool:
        """Whether the hand has let go of it after the cut."""
        return not self.hand.state().running

    def hand_over(self) -> None:
        """Give it a hand that knows nothing of the last trial. Raises :class:`CannotCutPower`."""
        self.hand.remove()
        self.hand, self._said = ready_hand(self.engine, self.image, self.kind, self.volume, self.device)

    def is_kept(self) -> bool:
        """Whether its loop device is held by its keeper: without one it could be another disk's by now."""
        return self.keeper.state().running

    def events(self) -> tuple[list[Event], list[str]]:
        """All that the hand said, and what is wrong with its log."""
        return parse_log(NAME, self.hand.log())

    def remove(self) -> None:
        """Remove it, after its broker."""
        self.hand.remove()
        self.engine.remove_volume(self.volume)
        self.keeper.remove()

    def _hear(self, name: str) -> None:
        if (event := _next(self._said, self.hand)).name != name:
            raise Inconclusive(f"the disk did not say {name!r} but {event.name}: {event.detail}", "")


def make_disk(engine: Engine, image: str, name: str, kind: str) -> Disk:
    """Make a disk with this file system. Raises :class:`CannotCutPower` where engine or host forbid it."""
    keeper = engine.start(
        NodeSpec(
            name=f"{name}-keeper",
            image=image,
            command=(*COMMAND, "keep", kind, name),
            network="",
            alias=f"{NAME}-keeper",
            volumes={"/image": ""},
            device_rules=LOOP_DEVICES,
        )
    )
    with closing(keeper.follow()) as said:
        device = str(_next(said, keeper).detail["device"])
    engine.create_volume(name, kind=kind, device=device)
    return Disk(engine, image, kind, name, device, keeper, *ready_hand(engine, image, kind, name, device))


def ready_hand(
    engine: Engine, image: str, kind: str, volume: str, device: str
) -> tuple[Node, Generator[bytes]]:
    """The hand of this disk, and what it says from here. Raises :class:`CannotCutPower` when it refuses."""
    hand = start_hand(engine, image, kind, volume, device, marker=volume)
    said = hand.follow()
    if (first := _next(said, hand)).name != "ready":
        raise CannotCutPower(f"the hand of the disk refused: {first.detail.get('why')}", "")
    return hand, said


def start_hand(
    engine: Engine, image: str, kind: str, volume: str, device: str, *, marker: str, name: str = ""
) -> Node:
    """Start the helper that can shut a file system down. It obeys only on the disk of this marker."""
    return engine.start(
        NodeSpec(
            name=name or f"{volume}-hand",
            image=image,
            command=(*COMMAND, "hand", kind, device, marker),
            network="",
            alias=NAME,
            environment={"LAB_NODE": NAME},
            volumes={MOUNT: volume},
            capabilities=("SYS_ADMIN",),
        )
    )


def why_not(engine: Engine, image: str, kind: str) -> str | None:
    """Try it once: why the power of such a disk cannot be cut here, ``None`` when it can.

    A missing image or a full disk is no answer to that, and is raised.
    """
    try:
        disk = make_disk(engine, image, f"lab-{engine.run}-probe-{kind}", kind)
        try:
            disk.cut()
        finally:
            disk.remove()
    except (CannotCutPower, EngineGone, Inconclusive) as error:
        rootless = "a rootless engine has no loop devices: " if engine.is_rootless() else ""
        return f"{rootless}{error.wrong}"
    return None


def _end(node: Node) -> None:
    with suppress(EnvironmentLacks, Inconclusive):
        node.kill()


def _next(said: Generator[bytes], node: Node) -> Event:
    """The next event of a helper. Raises :class:`CannotCutPower` with its last line when it has ended.

    One that says nothing for so long is ended.
    """
    timer = Timer(HEAR_SECONDS, partial(_end, node))
    timer.start()
    try:
        for line in said:
            return parse_event(line)
    finally:
        timer.cancel()
    last = ""
    with suppress(EnvironmentLacks):
        last = node.log(errors=True).decode(errors="replace").strip().rpartition("\n")[2]
    raise CannotCutPower(f"the {node.name} ended: {last or 'it wrote no error'}", "see: make doctor")
