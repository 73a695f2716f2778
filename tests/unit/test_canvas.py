"""Steps of a chain and parts of a chord: promised by the publisher, published by workers."""

from __future__ import annotations

import pytest

from lab.evidence import at_rest
from lab.history import Backlog
from lab.judge import judge
from lab.worker import publisher

from .story import killed, proved, published, ran, story

EMPTY = Backlog()
UP = "lab worker-up node=w"
SETTLED = "lab settled"
TUNED = "lab tuned setting=broker_transport_options.visibility_timeout"
CHAIN = (*published("t"), *published("n", "next"))


def judged(*lines):
    return judge(story(*CHAIN, UP, *lines, *proved(), SETTLED), EMPTY)


def test_a_step_that_was_promised_and_never_published_is_lost():
    judgement = judged(*ran("t"))
    assert judgement.counts() == {"next": {"lost": 1}, "target": {"once": 1}}
    assert judgement.doubts == ()


def test_a_step_that_was_published_twice_and_ran_twice_is_duplicated_and_no_doubt():
    twice = (*ran("t"), "w published n", *ran("t", "w", 7, "redelivered=yes"), "w published n")
    judgement = judged(TUNED, "w rejected t requeue=yes", *twice, *ran("n"), *ran("n"))
    assert judgement.counts()["next"] == {"duplicated": 1}
    assert not [doubt for doubt in judgement.doubts if " n " in doubt]


def test_a_step_that_was_published_once_and_received_twice_is_a_doubt():
    judgement = judged(TUNED, *ran("t"), "w published n", *ran("n"), *ran("n"))
    assert any("w received n 2 times" in doubt for doubt in judgement.doubts)


def test_a_retry_is_no_copy():
    retry = ("w received t", "w/7 started t", "w/7 retried t", "w published t", "w acknowledged t")
    judgement = judged(TUNED, *retry, *ran("t"), *ran("t"), "w published n", *ran("n"))
    assert any("w received t 3 times" in doubt for doubt in judgement.doubts)


def test_a_late_acknowledgement_ends_a_run_that_celery_skipped():
    skipped = ("w received t redelivered=yes", "w accepted t")
    assert not at_rest(story(*skipped))
    assert not at_rest(story(*skipped, "w acknowledged t"))
    assert at_rest(story(*skipped, "w acknowledged t late=yes"))


def test_the_late_acknowledgement_of_one_run_does_not_end_another():
    first = ("w received t", "w accepted t", "w/7 started t", "w/7 finished t", "w acknowledged t late=yes")
    again = ("w received t redelivered=yes", "w accepted t", "w/7 started t")
    assert at_rest(story(*first))
    assert not at_rest(story(*first, *again))


def test_a_worker_that_dies_when_the_function_has_returned_dies_before_what_comes_next():
    held = ("v received t", "v/7 started t", "v/7 finished t", "v/7 held t phase=returned")
    assert judged(*held, *killed("t", "returned", "v")).doubts == ()
    missed = judged(*held, "v/7 passed t phase=returned", *killed("t", "returned", "v")).doubts
    assert any("had already gone on" in doubt for doubt in missed)


def tasks(*ids):
    return [{"id": task, "label": "x", "act": "nothing", "about": {}, "options": {}} for task in ids]


@pytest.fixture
def sent(monkeypatch):
    """What is sent through a broker in memory: pairs of id and what its message carries."""
    monkeypatch.setattr(publisher.app.conf, "broker_url", "memory://")
    monkeypatch.setattr(publisher.app.conf, "result_backend", "cache+memory://")

    def take():
        found = []
        with publisher.app.connection_for_read() as connection:
            queue = connection.SimpleQueue("celery")
            while queue.qsize():
                message = queue.get()
                message.ack()
                found.append((message.headers["id"], message.payload[2]))
        return found

    return take


def test_a_chain_is_one_message_that_carries_the_other_steps_under_their_ids(sent):
    publisher.CANVASES["chain"](tasks("a", "b", "c"))
    [(first, embedded)] = sent()
    assert first == "a"
    assert [step["options"]["task_id"] for step in embedded["chain"]] == ["c", "b"]


def test_a_chord_is_a_message_for_each_part_that_carries_the_body_under_its_id(sent):
    publisher.CANVASES["chord"](tasks("a", "b", "c"))
    messages = sent()
    assert [task for task, _ in messages] == ["a", "b"]
    assert {embedded["chord"]["options"]["task_id"] for _, embedded in messages} == {"c"}
