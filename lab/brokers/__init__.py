"""Brokers: one file a family, each with its own readiness, namespaces and backlog reader."""

from __future__ import annotations

from lab.brokers.base import Broker, Depth, Namespace
from lab.brokers.profile import Profile
from lab.brokers.rabbitmq import RabbitMQ
from lab.brokers.redis import Redis

FAMILIES: dict[str, type[Broker]] = {"redis": Redis, "rabbitmq": RabbitMQ}

__all__ = ["FAMILIES", "Broker", "Depth", "Namespace", "Profile", "RabbitMQ", "Redis"]
