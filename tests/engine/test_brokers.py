"""What the lab asks of a real broker: that the answer is of now, and that a failure is told."""

from __future__ import annotations

from itertools import islice

import pytest

from lab.brokers import Profile, rabbitmq
from lab.errors import BrokerSilent

from .test_faults import until


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_out_with_consumers_is_counted_now_and_not_as_of_five_seconds_ago(stages, kind):
    broker = stages.boot(Profile.load("rabbitmq-classic")).result().broker
    namespace = broker.open(7000 + len(kind))
    assert namespace.depth().ready == 0
    with broker.channel(namespace.url.rpartition("/")[2]) as channel:
        channel.queue_declare("celery", durable=True, arguments={"x-queue-type": kind})
        channel.confirm_delivery()
        for _ in range(2):
            channel.basic_publish("", "celery", b"")
        given = [method.delivery_tag for method, *_ in islice(channel.consume("celery"), 2)]
        assert [namespace.has_unacked(count) for count in (1, 2, 3)] == [False, True, False]
        channel.basic_ack(given[0])
        channel.queue_declare("celery", passive=True)  # answered after the acknowledgement was heard
        assert [namespace.has_unacked(count) for count in (0, 1, 2)] == [False, True, False]
    until(lambda: namespace.depth().ready == 1)
    assert namespace.has_unacked(0)
    namespace.close()


@pytest.mark.parametrize("asked_by", ["command -v erl_call", "false"], ids=["erl_call", "a node"])
def test_the_server_evaluates_expressions_and_tells_when_one_fails(stages, monkeypatch, asked_by):
    monkeypatch.setattr(rabbitmq, "ASK", rabbitmq.ASK.replace("command -v erl_call", asked_by))
    broker = stages.boot(Profile.load("rabbitmq-classic")).result().broker
    told = [
        broker.agrees(match) for match in ("X = \"a 'b'\", [\"a 'b'\"] = [X].", "1 = 2.", "a:b().", "1 =")
    ]
    assert told == [True, False, False, False]
    with pytest.raises(BrokerSilent, match="a:b"):
        broker.evaluate("a:b().")
