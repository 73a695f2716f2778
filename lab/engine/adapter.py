"""Networks, nodes, images and logs of one container engine, in the lab's words and errors.

Every error of the SDK becomes one of ours here, and every object is labelled when it is created.
"""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import islice, repeat
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
import urllib3
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from lab.engine.owner import OWNER, RUN, Owner, is_abandoned
from lab.errors import (
    CleanupFailed,
    EngineGone,
    EnvironmentLacks,
    ImageMissing,
    Inconclusive,
    LabError,
    NodeDead,
    NoEngine,
    NoSpace,
    PortTaken,
    UsageError,
)

ANSWER_SECONDS = 30
POLL_SECONDS = 0.01
EXECUTE_SECONDS = 10
FREEZE_ATTEMPTS = 3  # a kernel that is busy starting others does not freeze all of a node in time
CONFLICT = 409  # the engine's answer while another caller removes the same container
POOL = 64
FIRST_ADDRESS = 9  # of a fixed network: the gateway has the first
REMOVALS_AT_ONCE = 8
LOOPBACK = "127.0.0.1"
#: A node that connects to one that was killed in that moment, whose name still resolves, gives up after 3 s:
#: one repetition. By default the kernel repeats for 127 s (ip-sysctl.rst: tcp_syn_retries).
SYSCTLS = {"net.ipv4.tcp_syn_retries": "1"}
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
        raise _from_api(doing, _reason(error)) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        wrong = f"the engine stopped answering while the lab tried to {doing} ({type(error).__name__})"
        raise EngineGone(wrong, "start it again (make doctor says how), then run: make clean") from error


def _from_api(doing: str, reason: str) -> LabError:
    low = reason.lower()
    if "port is already allocated" in low or "address already in use" in low:
        return PortTaken(f"cannot {doing}: {reason}", "another program took the port; run it again")
    if "no space left" in low:
        return NoSpace(f"cannot {doing}: {reason}", "free disk space of the engine, e.g. docker system df")
    if "address pool" in low:
        return EnvironmentLacks(f"cannot {doing}: {reason}", "too many networks; run: make clean")
    if "unable to freeze" in low:
        return Inconclusive(f"cannot {doing}: the kernel is too busy to freeze it", "run it again")
    if "is not running" in low:
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


class Engine:
    """One engine, as one run sees it. Raises :class:`NoEngine` when none answers."""

    def __init__(self, *, run: str, allow_remote: bool = False) -> None:
        self.run = run
        self.endpoint = endpoint()
        self._labels = Owner.me().labels(run)
        self._addresses: dict[str, Iterator[IPv4Address | IPv6Address]] = {}
        self._addressing = Lock()  # nodes of one network are started by several threads
        if "://" not in self.endpoint:
            raise UsageError(
                f"{self.endpoint!r} is no address of an engine", "e.g. unix:///var/run/docker.sock"
            )
        if not allow_remote and not _is_local(self.endpoint):
            raise UsageError(
                f"the engine {self.endpoint} is not on this machine",
                "to use it all the same, set LAB_ALLOW_REMOTE=1",
            )
        try:
            self._api = docker.from_env(timeout=ANSWER_SECONDS, max_pool_size=POOL).api
            version = self._api.version()
            self.version, self.kernel = str(version["Version"]), str(version["KernelVersion"])
        except (DockerException, requests.RequestException, OSError) as error:
            raise NoEngine(f"no engine answers at {self.endpoint}", "run: make setup") from error

    def close(self) -> None:
        """Close the connections to the engine."""
        self._api.close()

    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself and its host."""
        with translated("ask the engine about itself"):
            return dict(self._api.info())

    def image_id(self, image: str) -> str | None:
        """The id of a local image, ``None`` when it is not here."""
        with translated(f"look for the image {image}"):
            try:
                return str(self._api.inspect_image(image)["Id"])
            except ImageNotFound:
                return None

    def pull(self, image: str) -> None:
        """Pull an image from its registry."""
        with translated(f"pull {image}"):
            self._api.pull(image)

    def import_image(self, image: str, archive: str) -> None:
        """Make an image of a file-system archive."""
        repository, _, tag = image.partition(":")
        with translated(f"import {image}"):
            answer = self._api.import_image_from_file(archive, repository=repository, tag=tag)
            if "error" in str(answer):
                raise _from_api(f"import {image}", str(answer))

    def build_on(self, base: str, image: str, archive: bytes, command: Sequence[str], config: str) -> None:
        """Make ``image`` from ``base`` with an archive unpacked at ``/`` and a command run on top."""
        with translated(f"build {image}"):
            container = self._api.create_container(base, list(command), labels=self._labels)["Id"]
            try:
                self._api.put_archive(container, "/", archive)
                self._api.start(container)
                code = self._api.wait(container)["StatusCode"]
                if code:
                    raise EnvironmentLacks(f"building {image} ended with {code}", "run: lab doctor")
                repository, _, tag = image.partition(":")
                self._api.commit(container, repository, tag, changes=config)
            finally:
                self._api.remove_container(container, force=True, v=True)

    def create_network(self, name: str, *, fixed: bool = False) -> str:
        """A bridge of its own; nodes on it find each other by alias.

        On a ``fixed`` one every node has an address that no other gets, so that one which was cut off can
        come back under it. The engine allows that only where the subnet was given, so its own choice of
        a free subnet is given back to it.
        """
        with translated(f"create the network {name}"):
            network = str(self._api.create_network(name, driver="bridge", labels=self._labels)["Id"])
            if not fixed:
                return network
            subnet = self._api.inspect_network(network)["IPAM"]["Config"][0]["Subnet"]
            self._api.remove_network(network)
            ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
            made = self._api.create_network(name, driver="bridge", labels=self._labels, ipam=ipam)
        self._addresses[str(made["Id"])] = islice(ip_network(subnet).hosts(), FIRST_ADDRESS, None)
        return str(made["Id"])

    def remove_network(self, network: str) -> None:
        """Remove it; one that is gone already is fine."""
        with translated("remove a network"):
            try:
                self._api.remove_network(network)
            except NotFound:
                return

    def start(self, spec: NodeSpec) -> Node:
        """Create and start a node. Raises :class:`PortTaken`, :class:`ImageMissing`, ..."""
        if spec.memory and not self.info().get("MemoryLimit"):
            raise EnvironmentLacks("this engine cannot limit the memory of a node", "see: docker info")
        bindings = {port: (LOOPBACK, public) for port, public in spec.ports.items()}
        with translated(f"start {spec.name}"):
            host = self._api.create_host_config(
                port_bindings=bindings,
                cap_drop=["ALL"] if spec.unprivileged else None,
                security_opt=["no-new-privileges"] if spec.unprivileged else None,
                mem_limit=spec.memory,
                memswap_limit=spec.memory,
                binds={name: {"bind": at, "mode": "rw"} for at, name in spec.volumes.items() if name},
                volumes_from=[spec.volumes_of] if spec.volumes_of else None,
                cap_add=list(spec.capabilities) or None,
                device_cgroup_rules=list(spec.device_rules) or None,
                network_mode=_network_mode(spec),
                sysctls=None if _network_mode(spec) else SYSCTLS,
            )
            container = self._api.create_container(
                spec.image,
                list(spec.command),
                name=spec.name,
                hostname=None if spec.address_of else spec.hostname or spec.alias,
                environment=dict(spec.environment),
                user=spec.user,
                ports=list(spec.ports),
                volumes=[at for at, name in spec.volumes.items() if not name] or None,
                labels=self._labels,
                stdin_open=spec.takes_orders,
                host_config=host,
                networking_config=None if _network_mode(spec) else self._networking(spec),
            )["Id"]
            node = Node(self._api, container, spec.alias, "" if spec.address_of else spec.network)
            try:
                self._api.start(container)
            except BaseException:
                node.remove()
                raise
        return node

    def _networking(self, spec: NodeSpec) -> Any:
        with self._addressing:
            address = next(map(str, self._addresses.get(spec.network, iter(()))), None)
        endpoint = self._api.create_endpoint_config(aliases=[spec.alias], ipv4_address=address)
        return self._api.create_networking_config({spec.network: endpoint})

    def create_volume(self, name: str, *, kind: str = "", device: str = "") -> None:
        """A volume that outlives the nodes that see it.

        With ``kind`` it is a file system of its own, on a block device of the engine's host.
        """
        with translated(f"create the volume {name}"):
            options = {"type": kind, "device": device} if kind else None
            self._api.create_volume(name, driver="local", driver_opts=options, labels=self._labels)

    def remove_volume(self, name: str) -> None:
        """Remove it; one that is gone already is fine."""
        with translated(f"remove the volume {name}"), suppress(NotFound):
            self._api.remove_volume(name, force=True)

    def leftovers(self, *, run: str | None = None) -> Leftovers:
        """What this run made, or, without ``run``, what owners that are dead left behind."""

        def ours(item: Mapping[str, Any]) -> bool:
            labels = item.get("Labels") or {}
            return labels.get(RUN) == run if run else is_abandoned(labels)

        with translated("list what the lab made"):
            only = {"label": OWNER}
            containers = [c for c in self._api.containers(all=True, filters=only) if ours(c)]
            networks = [n for n in self._api.networks(filters=only) if ours(n)]
            volumes = [v for v in self._api.volumes(filters=only)["Volumes"] or () if ours(v)]
        return Leftovers(
            containers={c["Id"]: c["Names"][0].lstrip("/") for c in containers},
            networks={n["Id"]: n["Name"] for n in networks},
            volumes=tuple(v["Name"] for v in volumes),
        )

    def remove(self, leftovers: Leftovers) -> None:
        """Remove all of it. Raises :class:`CleanupFailed` naming what would not go."""
        with ThreadPoolExecutor(max_workers=REMOVALS_AT_ONCE) as pool:
            failed = [
                *pool.map(
                    self._gone,
                    leftovers.containers.values(),
                    leftovers.containers,
                    repeat(self._remove_container),
                ),
                *pool.map(
                    self._gone, leftovers.networks.values(), leftovers.networks, repeat(self.remove_network)
                ),
                *pool.map(self._gone, leftovers.volumes, leftovers.volumes, repeat(self.remove_volume)),
            ]
        if names := ", ".join(filter(None, failed)):
            raise CleanupFailed(f"could not remove {names}", "run: make clean")

    @staticmethod
    def _gone(name: str, key: str, remove: Callable[[str], None]) -> str:
        """Remove one object; its name if it would not go."""
        try:
            remove(key)
        except EnvironmentLacks:
            return name
        return ""

    def _remove_container(self, container: str) -> None:
        Node(self._api, container, container).remove()


def _network_mode(spec: NodeSpec) -> str | None:
    """``None`` for an address of its own on the network of the specification."""
    if spec.address_of:
        return f"container:{spec.address_of}"
    return None if spec.network else "none"


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Objects of the engine by id (volumes: by name)."""

    containers: Mapping[str, str]
    networks: Mapping[str, str]
    volumes: Sequence[str]

    def names(self) -> list[str]:
        """Each with its kind, for people."""
        return [
            *(f"container {name}" for name in sorted(self.containers.values())),
            *(f"network {name}" for name in sorted(self.networks.values())),
            *(f"volume {name}" for name in sorted(self.volumes)),
        ]


def endpoint() -> str:
    """Where the SDK will look: DOCKER_HOST, else the current context, else the default socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    try:
        context = ContextAPI.get_current_context()
    except DockerException as error:
        raise NoEngine(f"the docker context cannot be read: {error}", "see: docker context ls") from error
    return str(context.Host) if context else "unix:///var/run/docker.sock"


def _is_local(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("unix", "npipe", "http+unix") or parts.hostname in (LOOPBACK, "localhost", "::1")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now. It stays fixed when its node restarts."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
