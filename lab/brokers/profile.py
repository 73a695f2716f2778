"""A broker profile, read from its compose file: the single definition of image, command and settings.

Strict: a key that the lab does not act on is an error, never ignored. ``healthcheck`` is for people who
start the file by hand; the lab itself asks the broker over the wire. ``x-lab`` holds the promise in
words and the Celery settings that make it true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.errors import UsageError

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
SERVERS = COMPOSE / "servers"  # servers beside the broker: no broker profiles
DEFAULT_PROFILES = ("redis-aof-everysec", "rabbitmq-classic")
DEFAULT_VERSIONS = {"redis": "8.0", "rabbitmq": "4.0", "postgres": "17"}
VERSIONS = {"redis": ("6.0", "7.0", "8.0"), "rabbitmq": ("3.8", "3.10", "4.0"), "postgres": ("17",)}

TOP_KEYS = {"x-lab", "services", "volumes"}
LAB_KEYS = {"promise", "celery", "by_the_clock"}
SERVICE_KEYS = {"image", "command", "environment", "ports", "hostname", "healthcheck", "volumes"}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Service:
    """What one service of a compose file asks for, with variables still in it."""

    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ports: Sequence[str]
    hostname: str | None
    data: str | None  # where it keeps what must outlive it: the mount point of its one volume


@dataclass(frozen=True, slots=True)
class Profile:
    """A broker with its durability and version, like ``redis-none`` or ``rabbitmq-quorum@3.10``.

    What one keeps ``by_the_clock`` depends on how long it has run, so no two trials may share it in turn.
    """

    name: str
    version: str
    promise: str
    celery: Mapping[str, Any]
    service: Service
    by_the_clock: bool = False

    @property
    def family(self) -> str:
        """``redis`` or ``rabbitmq``."""
        return self.name.partition("-")[0]

    @property
    def label(self) -> str:
        """The name, with the version where it is not the lab's default."""
        default = self.version == DEFAULT_VERSIONS[self.family]
        return self.name if default else f"{self.name}@{self.version}"

    @property
    def image(self) -> str:
        """The image of this version."""
        return fill(self.service.image, {"LAB_VERSION": self.version})

    @classmethod
    def load(cls, label: str, folder: Path = COMPOSE, role: str = "broker") -> Profile:
        """Read ``name`` or ``name@version``, with ``role`` as its only service.

        Raises :class:`UsageError` with what would be right.
        """
        name, _, version = label.partition("@")
        if name not in names(folder):
            raise UsageError(
                f"there is no broker profile {name!r}", f"choose from: {', '.join(names(folder))}"
            )
        family = name.partition("-")[0]
        version = version or DEFAULT_VERSIONS[family]
        if version not in VERSIONS[family]:
            known = ", ".join(VERSIONS[family])
            raise UsageError(f"the lab has no {family} {version!r}", f"choose from: {known}")
        path = folder / f"{name}.yml"
        raw = _mapping(_yaml(path), path.name, TOP_KEYS)
        lab = _mapping(raw.get("x-lab", {}), f"{path.name}: x-lab", LAB_KEYS)
        services = _mapping(raw.get("services"), f"{path.name}: services", {role})
        service = _service(services[role], f"{path.name}: services.{role}")
        promise, clock = str(lab.get("promise", "")), bool(lab.get("by_the_clock"))
        return cls(name, version, promise, lab.get("celery", {}), service, clock)

    @classmethod
    def of_server(cls, name: str) -> Profile:
        """Read a server that stands beside the broker, like ``redis-results``: the last word is its role."""
        return cls.load(name, SERVERS, name.rpartition("-")[2])


def names(folder: Path = COMPOSE) -> list[str]:
    """Every profile that has a file."""
    return sorted(path.stem for path in folder.glob("*.yml"))


def fill(text: str, variables: Mapping[str, str]) -> str:
    """Interpolate ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` as compose does."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if variables.get(name):
            return variables[name]
        if kind == "-":
            return rest
        raise UsageError(f"the compose file needs {name}", rest or f"set {name}")

    return VARIABLE.sub(value, text)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}", "mend the file") from error


def _mapping(raw: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise UsageError(f"{where} is not a mapping", f"it has the keys {', '.join(sorted(known))}")
    for key in raw:
        if key not in known:
            near = ", ".join(sorted(known))
            raise UsageError(f"{where} has the key {key!r}, on which the lab does not act", f"known: {near}")
    return raw


def _service(raw: Any, where: str) -> Service:
    service = _mapping(raw, where, SERVICE_KEYS)
    command, ports = service.get("command"), service.get("ports", [])
    if not isinstance(command, list) or not isinstance(ports, list) or "image" not in service:
        raise UsageError(f"{where} is not complete", "image, and command and ports as lists, are needed")
    for port in ports:
        if not str(port).startswith("127.0.0.1:"):
            raise UsageError(f"{where} listens on {port}", "the lab listens on 127.0.0.1 only")
    return Service(
        image=str(service["image"]),
        command=[str(word) for word in command],
        environment={key: str(value) for key, value in service.get("environment", {}).items()},
        ports=[str(port) for port in ports],
        hostname=service.get("hostname"),
        data=_data(service.get("volumes", []), where),
    )


def _data(volumes: Any, where: str) -> str | None:
    if not volumes:
        return None
    name, _, at = str(volumes[0]).partition(":")
    if len(volumes) > 1 or name != "data" or not at.startswith("/"):
        raise UsageError(f"{where} has the volumes {volumes}", "the lab knows one: data:/mount/point")
    return at
