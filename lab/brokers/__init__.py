"""Brokers: one file a family, each with its own readiness, namespaces and backlog reader."""

from __future__ import annotations

from lab.brokers.base import Broker, Depth, Namespace, Server
from lab.brokers.profile import Profile


def broker_class(family: str) -> type[Broker]:
    """The class for ``redis`` or ``rabbitmq``.

    Imported on demand: redis-py takes 0.2 s to import, and a run on RabbitMQ does not need it.
    """
    if family == "redis":
        from lab.brokers.redis import Redis

        return Redis
    from lab.brokers.rabbitmq import RabbitMQ

    return RabbitMQ


__all__ = ["Broker", "Depth", "Namespace", "Profile", "Server", "broker_class"]
