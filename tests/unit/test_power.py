"""A broker that dies may forget what it was told, and how long before it died is told by one clock."""

from __future__ import annotations

import pytest

from lab.facts import cut_after
from lab.history import Backlog, History
from lab.judge import Outcome, judge

from .story import proved, published, ran, story

POWER_CUT = (
    "lab inject fault=power-cut node=broker pid=0",
    "disk power-cut",
    "lab landed fault=power-cut node=broker pid=0 proof=seen",
    "w disconnected",
    "lab healed fault=power-cut node=broker proof=seen",
)
CLOSED = (
    "lab inject fault=close-connections node=broker pid=0",
    "lab landed fault=close-connections node=broker pid=0 proof=seen",
    "w disconnected",
)
TUNED = "lab tuned node=later setting=broker_transport_options.visibility_timeout value=0.01"


def done_twice(*between):
    up = ("lab worker-up node=w concurrency=1", "lab worker-up node=later concurrency=1")
    proofs = (*proved("w", "s1"), *proved("later", "s2", 8))
    return story(
        *up, *published("t"), *ran("t"), *between, TUNED, *ran("t", "later", 8), *proofs, "lab settled"
    )


def test_an_acknowledgement_that_a_dead_broker_forgot_is_a_duplicate_without_doubt():
    judgement = judge(done_twice(*POWER_CUT), Backlog())
    assert [(v.outcome, judgement.doubts) for v in judgement.tasks] == [(Outcome.DUPLICATED, ())]


def test_one_that_a_living_broker_forgot_is_the_doing_of_the_timeout_that_the_lab_shortened():
    judgement = judge(done_twice(*CLOSED), Backlog())
    assert any("no fault struck" in doubt for doubt in judgement.doubts)


@pytest.mark.parametrize(
    ("lines", "milliseconds"),
    [
        ((*published("t"), *published("o", "others"), "disk power-cut", *ran("t")), 3000),
        ((*published("t"), *ran("t"), "disk power-cut"), 1000),
        ((*published("t"), "lab landed fault=kill node=broker"), None),
        (("publisher asked t label=target", "disk power-cut"), None),
    ],
    ids=["published", "acknowledged", "no power cut", "told nothing"],
)
def test_how_long_after_the_last_word_about_a_target_the_power_was_cut(lines, milliseconds):
    assert cut_after(History(story(*lines))) == milliseconds
