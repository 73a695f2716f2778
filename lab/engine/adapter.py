"""One container engine: its images, its networks, and the nodes that it starts (:mod:`lab.engine.node`).

Every object is labelled when it is created.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import islice, repeat
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
from docker.context import ContextAPI
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool

from lab.engine.node import ANSWER_SECONDS, Node, NodeSpec, from_api, translated
from lab.engine.owner import OWNER, RUN, Owner, is_abandoned
from lab.errors import (
    CleanupFailed,
    EnvironmentLacks,
    NoEngine,
    UsageError,
)

POOL = 64
FIRST_ADDRESS = 9  # of a fixed network: the gateway has the first
REMOVALS_AT_ONCE = 8
LOOPBACK = "127.0.0.1"
#: A node that connects to one that was killed in that moment, whose name still resolves, gives up after 3 s:
#: one repetition. By default the kernel repeats for 127 s (ip-sysctl.rst: tcp_syn_retries).
SYSCTLS = {"net.ipv4.tcp_syn_retries": "1"}


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

    def is_rootless(self) -> bool:
        """Whether it runs without root: it has no devices to give to a container."""
        return any("rootless" in str(option) for option in self.info().get("SecurityOptions") or ())

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
                raise from_api(f"import {image}", str(answer))

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
