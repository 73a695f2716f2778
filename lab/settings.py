"""Celery settings under Celery's own names: parsed, checked, merged, and told apart when tuned.

The names and types come from the installed Celery (``celery/app/defaults.py``), so a setting that
this Celery does not know is refused with the nearest one that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from celery.app.defaults import NAMESPACES, Option, flatten

from lab.errors import UsageError

Value = str | int | float | bool | None | Mapping[str, Any]
Settings = Mapping[str, Value]

TRANSPORT = "broker_transport_options."
#: What the lab itself decides, or where it looks for tasks: changed, its backlog would be blind.
LAB_OWNS = {
    *("broker_url", "broker_read_url", "broker_write_url", "worker_concurrency", "task_always_eager"),
    *("task_default_queue", "task_default_exchange", "task_default_exchange_type"),
    *("task_default_routing_key", "worker_direct"),
    *(f"{TRANSPORT}{key}" for key in ("global_keyprefix", "unacked_key", "unacked_index_key", "sep")),
}


@dataclass(frozen=True, slots=True)
class Tuned:
    """A setting that the lab changed so that a trial fits in seconds, and what production has."""

    setting: str
    value: Value
    default: str
    meaning: str


#: Read in celery 5.7.0 (``celery/app/defaults.py``) and kombu 5.7.0 (``kombu/transport/redis.py``).
PRODUCTION: Mapping[str, tuple[str, str]] = {
    "broker_heartbeat": (
        "120 s",
        (
            "RabbitMQ notices a worker that is cut off, or frozen, after up to four minutes, and only then "
            "delivers its tasks again"
        ),
    ),
    "broker_transport_options.visibility_timeout": (
        "3600 s",
        (
            "on Redis a killed worker's tasks come back one hour after their delivery, and up to 100 s later "
            "where no worker starts: a running one looks for them every 10 s x 10"
        ),
    ),
    "broker_transport_options.unacked_restore_interval": (
        "10 s",
        "a running worker looks on Redis for what is overdue once in this time x unacked_restore_throttle",
    ),
    "broker_transport_options.unacked_restore_throttle": (
        "10",
        "a running worker looks on Redis for what is overdue every 100 s, not every 10 s",
    ),
    "channel_tick_interval": (
        "60 s",
        "RabbitMQ looks for overdue acknowledgements once a minute, so a channel is closed up to that late",
    ),
    "consumer_timeout": (
        "1800 s",
        "RabbitMQ closes the channel of a consumer that leaves a delivery unacknowledged for 30 minutes",
    ),
    "delivery-limit": (
        "20 since RabbitMQ 4.0, none before",
        "a quorum queue drops a message that came back 20 times, or keeps it for ever",
    ),
    "disk_free_limit": (
        "50 MB",
        "RabbitMQ blocks publishers when there is less room, which it sees up to 10 s later",
    ),
    "expires": (
        "none",
        "a queue without a consumer stays for ever; where one has an expiry, it is of minutes or hours",
    ),
    "max-length": (
        "no limit",
        "a queue grows until the broker raises an alarm; where it has a limit, it is of thousands",
    ),
    "message-ttl": (
        "none",
        "a task waits for ever; where a queue lets its messages expire, it is after minutes or days",
    ),
    "result_backend_transport_options": (
        "20 retries, one each second (retry_policy)",
        "a publisher that finds its result backend away tries again for 20 s before it is told",
    ),
    "save": (
        "3600 1 300 100 60 10000",
        "Redis takes a snapshot, and meets a full disk, after a minute to an hour, not each second",
    ),
    "worker_soft_shutdown_timeout": (
        "0 s: no soft shutdown",
        "a cold shutdown ends running tasks at once; with it, it gives them this long before it does",
    ),
}


@cache
def known() -> dict[str, Option]:
    """Every setting of the installed Celery, by name."""
    return dict(flatten(NAMESPACES))


def parse(assignment: str) -> tuple[str, Value]:
    """Read ``name=value``. Raises :class:`UsageError` naming what would be right."""
    name, equals, text = assignment.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {assignment!r} is not name=value", "write --set task_acks_late=true")
    if name in LAB_OWNS:
        raise UsageError(
            f"{name} belongs to the lab", "it must know the broker, the queue and the concurrency"
        )
    if name.startswith(TRANSPORT):
        return name, _guess(text)
    option = known().get(name)
    if option is None:
        near = get_close_matches(name, known(), n=1)
        hint = f"did you mean {near[0]}?" if near else "see Celery's page on configuration"
        raise UsageError(f"Celery has no setting {name!r}", hint)
    if option.type in ("dict", "tuple", "list", "any"):
        raise UsageError(f"{name} takes a structure", "put it into the profile's x-lab settings")
    return name, _convert(name, option, text)


def _convert(name: str, option: Option, text: str) -> Value:
    if text.lower() in ("none", "null"):
        return None
    if option.type == "bool":
        words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        if text.lower() not in words:
            raise UsageError(f"{name}={text!r} is not a yes or no", f"write {name}=true or {name}=false")
        return words[text.lower()]
    try:
        value: Value = option.to_python(text)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={text!r} is no {option.type}", "give a number") from error
    return value


def _guess(text: str) -> Value:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def merged(*layers: Settings) -> dict[str, Value]:
    """Later layers win; ``broker_transport_options.x`` wins over the same key of a mapping."""
    flat: dict[str, Value] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping) and f"{name}." == TRANSPORT:
                flat.update({f"{TRANSPORT}{key}": inner for key, inner in value.items()})
            else:
                flat[name] = value
    return flat


def nested(flat: Settings) -> dict[str, Any]:
    """The form that Celery takes: transport options as one mapping."""
    plain = {name: value for name, value in flat.items() if not name.startswith(TRANSPORT)}
    options = {
        name.removeprefix(TRANSPORT): value for name, value in flat.items() if name.startswith(TRANSPORT)
    }
    return {**plain, TRANSPORT.removesuffix("."): options} if options else plain


def effective(settings: Settings, name: str) -> Value:
    """The value of a setting in a cell: given, or Celery's default."""
    if name in settings:
        return settings[name]
    option = known().get(name)
    return option.default if option else None


def agrees(settings: Settings, name: str, value: Value) -> bool:
    """Whether a setting has this value; a switch that is not set is off."""
    found = effective(settings, name)
    return found == value or (known()[name].type == "bool" and bool(found) == bool(value))


def tuned(overrides: Settings) -> tuple[Tuned, ...]:
    """Describe what the lab shortened, beside the production default."""
    return tuple(
        Tuned(name, value, *PRODUCTION[name]) for name, value in overrides.items() if name in PRODUCTION
    )
