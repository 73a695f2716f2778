"""What RabbitMQ answers while it starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lab.brokers.rabbitmq import RabbitMQ
from lab.errors import BrokerSilent


def test_a_server_that_does_not_know_its_version_yet_does_not_answer(monkeypatch):
    monkeypatch.setattr(RabbitMQ, "admin", lambda *_: SimpleNamespace(json=dict))
    broker = object.__new__(RabbitMQ)
    with pytest.raises(BrokerSilent, match="version"):
        broker.version()
    assert not broker.answers()
