"""One container, in the lab's words and errors: what a node is started with, and what it can be asked.

Every error of the SDK becomes one of ours here.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from lab.errors import (
    EngineGone,
    EnvironmentLacks,
    ImageMissing,
    Inconclusive,
    LabError,
    NodeDead,
    NoSpace,
    PortTaken,
)

ANSWER_SECONDS = 30
POLL_SECONDS = 0.01
EXECUTE_SECONDS = 10
FREEZE_ATTEMPTS = 3  # a kernel that is busy starting others does not freeze all of a node in time
CONFLICT = 409  # the engine's answer while another caller removes the same container
UNPRIVILEGED_USER = "65534:65534"  # nobody: in every Debian, and Celery looks the group up
#: A path of nodes that everybody may write to, and so the volume there: a new one begins as its copy.
SHARED = "/var/tmp"  # noqa: S108 - the containers' own, not this machine's


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what the SDK raises while ``doing`` something into an error of ours."""
    try:
        yield
    except ImageNotFound as error:
        raise ImageMissing(f"cannot {doing}: {_reason(error)}", "run: make setup") from error
    except APIError as error:
        raise from_api(doing, _reason(error)) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        wrong = f"the engine stopped answering while the lab tried to {doing} ({type(error).__name__})"
        raise EngineGone(wrong, "start it again (make doctor says how), then run: make clean") from error


def from_api(doing: str, reason: str) -> LabError:
    low = reason.lower()
    if "port is already allocated" in low or "address already in use" in low:
        return PortTaken(f"cannot {doing}: {reason}", "another program took the port; run it again")
    if "no space left" in low:
        return NoSpace(f"cannot {doing}: {reason}", "free disk space of the engine, e.g. docker system df")
    if "address pool" in low:
        return EnvironmentLacks(f"cannot {doing}: {reason}", "too many networks; run: make clean")
    if "unable to freeze" in low:
        return Inconclusive(f"cannot {doing}: the kernel is too busy to freeze it", "run it again")
    if "is not running" in low or "non running container" in low:
        return NodeDead(f"cannot {doing}: it died before", "run it again")
    return EngineGone(f"cannot {doing}: {reason}", "see: make doctor")


def _reason(error: Exception) -> str:
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One container to start. ``ports`` maps a container port to a port of 127.0.0.1.

    Without a ``network`` it has none, unless it shares the address of another node. ``device_rules`` are
    those of the device cgroup: ``b 7:* rwm``.
    """

    name: str
    image: str
    command: Sequence[str]
    network: str
    alias: str
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    hostname: str | None = None
    unprivileged: bool = False
    memory: int | None = None  # bytes, without swap
    volumes: Mapping[str, str] = field(default_factory=dict)  # by mount point; "" is one of its own
    volumes_of: str = ""  # the id of another node, whose volumes it has where that one has them
    address_of: str = ""  # the id of another node, whose network, address and host name it shares
    capabilities: Sequence[str] = ()
    device_rules: Sequence[str] = ()
    takes_orders: bool = False  # on its standard input


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the engine says of a container: a killed one has ``exit_code`` 137 (128 + SIGKILL)."""

    running: bool
    paused: bool
    exit_code: int
    oom_killed: bool


class Node:
    """One container. The engine keeps its output whatever happens to it."""

    def __init__(self, api: Any, container: str, name: str, network: str = "") -> None:
        self._api = api
        self.id = container
        self.name = name
        self.network = network  # "" without an address of its own
        self._stream: Any = None
        self._input: Any = None

    def kill(self, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process."""
        with translated(f"kill {self.name}"):
            self._api.kill(self.id, signal=signal)

    def pause(self) -> None:
        """Freeze every process of the node. Raises :class:`NodeDead`, :class:`Inconclusive`."""
        for attempt in Retrying(
            stop=stop_after_attempt(FREEZE_ATTEMPTS),
            retry=retry_if_exception(lambda error: type(error) is Inconclusive),
            reraise=True,
        ):
            with attempt, translated(f"pause {self.name}"):
                self._api.pause(self.id)

    def unpause(self) -> None:
        """Let the frozen processes go on."""
        with translated(f"unpause {self.name}"):
            self._api.unpause(self.id)

    def state(self) -> NodeState:
        """Ask the engine."""
        with translated(f"inspect {self.name}"):
            state = self._api.inspect_container(self.id)["State"]
        return NodeState(state["Running"], state["Paused"], state["ExitCode"], state["OOMKilled"])

    def start(self) -> None:
        """Start a dead node again, on the ports that it had."""
        with translated(f"start {self.name} again"):
            self._api.start(self.id)

    def address(self) -> str:
        """Its address on its network, empty while it is disconnected."""
        with translated(f"inspect {self.name}"):
            networks = self._api.inspect_container(self.id)["NetworkSettings"]["Networks"]
        return next((n["IPAddress"] for n in networks.values() if n["NetworkID"] == self.network), "")

    def disconnect(self) -> None:
        """Pull its cable: packets vanish both ways, and nobody is told."""
        with translated(f"disconnect {self.name}"):
            self._api.disconnect_container_from_network(self.id, self.network, force=True)

    def connect(self, address: str) -> None:
        """Plug its cable in again, under the address that it had, so that connections can go on."""
        with translated(f"connect {self.name}"):
            self._api.connect_container_to_network(
                self.id, self.network, aliases=[self.name], ipv4_address=address
            )

    def image_id(self) -> str:
        """The digest of the image that it runs."""
        with translated(f"inspect {self.name}"):
            return str(self._api.inspect_container(self.id)["Image"])

    def execute(self, argv: Sequence[str]) -> int:
        """Run a command in the node to its end and return its exit code.

        Raises :class:`Inconclusive` when the command does not end in time, or the engine cannot tell its
        exit code (the node died under it). It is started detached: an attached call of the SDK waits
        for output without regard for its own timeout.
        """
        deadline = time.monotonic() + EXECUTE_SECONDS
        handle = self.begin(argv)
        with translated(f"execute {argv[0]} in {self.name}"):
            while (told := self._api.exec_inspect(handle))["Running"]:
                if time.monotonic() > deadline:
                    raise Inconclusive(f"{argv[0]} in {self.name} did not end in time", "run it again")
                time.sleep(POLL_SECONDS)
        if told["ExitCode"] is None:
            raise Inconclusive(f"{argv[0]} in {self.name} was cut off", "run it again")
        return int(told["ExitCode"])

    def begin(self, argv: Sequence[str]) -> str:
        """Start a command in the node, and do not wait for its end."""
        with translated(f"execute {argv[0]} in {self.name}"):
            handle = str(self._api.exec_create(self.id, list(argv), stdout=False, stderr=False)["Id"])
            self._api.exec_start(handle, detach=True)
        return handle

    def put(self, folder: str, name: str, data: bytes) -> None:
        """Write a file into the node through the engine: no network that a fault could cut."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
        with translated(f"write {name} into {self.name}"):
            self._api.put_archive(self.id, folder, buffer.getvalue())

    def files(self, folder: str) -> dict[str, bytes]:
        """Every file under a folder of the node, by its path from there. The node may be dead."""
        with translated(f"read {folder} of {self.name}"):
            chunks, _ = self._api.get_archive(self.id, folder)
            buffer = io.BytesIO(b"".join(chunks))
        with tarfile.open(fileobj=buffer) as archive:
            read = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
            return {name.partition("/")[2]: file.read() for name, file in read.items() if file}

    def tell(self, order: Mapping[str, object]) -> None:
        """Write an order to its standard input, through the engine: no network that a fault could cut.

        Raises :class:`NodeDead`, and :class:`Inconclusive` when it does not read its orders.
        """
        with translated(f"tell {self.name} what to do"):
            if self._input is None:
                self._stream = self._api.attach_socket(self.id, params={"stdin": 1, "stream": 1})
                self._input = getattr(self._stream, "_sock", self._stream)  # wrapped to be read from only
            try:  # on a line of its own, even if a reader who was killed has left a part of one
                self._input.sendall(f"\n{json.dumps(order)}\n".encode())
            except ConnectionError as error:
                raise NodeDead(f"{self.name} died before it was told what to do", "run it again") from error
            except TimeoutError as error:
                raise Inconclusive(f"{self.name} does not read its orders", "run it again") from error

    def log(self, *, errors: bool = False, tail: int | None = None) -> bytes:
        """The whole standard output so far, or the whole standard error; or of the last lines of both."""
        with translated(f"read the log of {self.name}"):
            last = "all" if tail is None else tail
            return bytes(self._api.logs(self.id, stdout=not errors, stderr=errors, tail=last))

    def follow(self) -> Generator[bytes]:
        """Lines as they come, from the first. Ends silently when the node or the connection ends."""
        with translated(f"follow the log of {self.name}"):
            stream = self._api.logs(self.id, stdout=True, stderr=False, stream=True, follow=True)
            rest = b""
            with closing(stream):
                for chunk in stream:
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from lines

    def remove(self) -> None:
        """Kill it and remove it with its volumes; one that is gone already is fine.

        One that somebody else is removing at this moment is waited for, so that its network is free.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        for opened in filter(None, (self._stream, self._input)):
            opened.close()
        with translated(f"remove {self.name}"):
            while True:
                try:
                    self._api.remove_container(self.id, force=True, v=True)
                except NotFound:
                    return
                except APIError as error:
                    if error.status_code != CONFLICT or time.monotonic() > deadline:
                        raise
                    time.sleep(POLL_SECONDS)
                else:
                    return
