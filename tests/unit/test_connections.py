"""What a lost connection, a frozen worker and a broker that came back mean for the verdict."""

from __future__ import annotations

import pytest

from lab.evidence import at_rest
from lab.history import Backlog
from lab.judge import Expectation, Status, judge, verdict_on

from .story import proved, published, ran, story

EMPTY = Backlog()
SETTLED = "lab settled"
UP = "lab worker-up node=w"
LOST = "w disconnected"


def fault(name, node="broker"):
    about = f"fault={name} node={node} pid=0"
    return (f"lab inject {about}", f"lab landed {about} proof=seen", f"lab healed fault={name} node={node}")


def reached(task, phase, holder="w"):
    return f"lab reached {task} node={holder} phase={phase} acknowledged=no"


def outcome(*lines, backlog=EMPTY):
    judgement = judge(story(*published("t"), UP, *lines, *proved(), SETTLED), backlog)
    return judgement.counts()["target"], judgement.doubts


class TestRest:
    def test_what_is_received_and_not_begun_is_forgotten_with_the_connection(self):
        assert not at_rest(story("w received t"))
        assert at_rest(story("w received t", LOST))

    def test_what_was_forgotten_and_comes_again_must_be_answered(self):
        again = ("w received t", LOST, "w received t redelivered=yes")
        assert not at_rest(story(*again))
        assert at_rest(story(*again, "w accepted t", "w/7 started t", "w/7 finished t", "w acknowledged t"))

    def test_a_run_goes_on_without_its_connection_and_must_end(self):
        running = ("w received t", "w accepted t", "w/7 started t", LOST)
        assert not at_rest(story(*running))
        assert at_rest(story(*running, "w/7 finished t", "w acknowledged t"))

    def test_the_answer_to_the_first_delivery_does_not_answer_the_second(self):
        twice = ("w received t", "w accepted t", "w/7 started t", LOST, "w received t redelivered=yes")
        assert not at_rest(story(*twice, "w/7 finished t", "w acknowledged t"))

    def test_a_run_that_the_worker_cancels_leaves_no_answer_to_wait_for(self):
        assert at_rest(story("w received t", "w accepted t", "w/7 started t", "w cancelled t", LOST))


class TestOutcomes:
    def test_a_task_that_ran_on_and_was_delivered_again_is_duplicated(self):
        lines = (
            "w received t", "w accepted t", "w/7 started t", reached("t", "running"), *fault("kill"), LOST,
            "w/7 finished t", "w acknowledged t", *ran("t", "w", 7, "redelivered=yes"),
        )  # fmt: skip
        assert outcome(*lines) == ({"duplicated": 1}, ())

    def test_a_first_delivery_flagged_as_redelivered_had_one_before_it(self):
        assert outcome(*ran("t", "w", 7, "redelivered=yes"))[0] == {"redelivered": 1}

    def test_a_broker_that_was_started_again_flags_what_it_never_delivered(self):
        assert outcome(*fault("kill"), *ran("t", "w", 7, "redelivered=yes"))[0] == {"once": 1}

    def test_so_does_one_that_ended_by_itself(self):
        again = ran("t", "w", 7, "redelivered=yes")
        exited = "lab exited node=broker code=1"
        assert outcome(exited, "lab healed fault=disk-full node=broker", *again)[0] == {"once": 1}
        assert outcome(*again, exited)[0] == {"redelivered": 1}

    def test_a_broker_that_was_only_frozen_flags_truly(self):
        assert outcome(*fault("freeze"), *ran("t", "w", 7, "redelivered=yes"))[0] == {"redelivered": 1}

    def test_a_revoked_task_failed_and_says_so(self):
        assert outcome("w received t", "w acknowledged t", "w revoked t") == ({"failed": 1}, ())

    def test_a_cancelled_run_whose_message_was_acknowledged_is_lost(self):
        lines = ("w received t", "w accepted t", "w acknowledged t", "w/7 started t", "w cancelled t")
        assert outcome(*lines) == ({"lost": 1}, ())

    def test_a_publisher_that_died_after_its_commit_has_lost_the_task(self):
        history = story(
            "p asked t label=target", "p held t phase=committed", UP, "lab exited node=p code=137", *proved(),
            SETTLED,
        )  # fmt: skip
        assert judge(history, EMPTY).counts()["target"] == {"lost": 1}

    def test_one_that_lives_has_told_nobody_anything_yet(self):
        history = story("p asked t label=target", "p held t phase=committed", UP, *proved(), SETTLED)
        assert judge(history, EMPTY).counts()["target"] == {"unknown": 1}


class TestLanding:
    RUNNING = ("w received t", "w accepted t", "w/7 started t", "w/7 held t phase=running")
    FROZEN = (
        "lab inject t fault=freeze node=w pid=0 phase=running holder=w",
        "lab landed t fault=freeze node=w pid=0 proof=paused",
    )
    END = ("lab opened node=w", "w/7 finished t", "w acknowledged t")

    def test_a_fault_that_kills_nobody_lands_behind_a_closed_gate(self):
        assert outcome(*self.RUNNING, reached("t", "running"), *self.FROZEN, *self.END)[1] == ()

    def test_a_gate_opened_too_early_is_a_doubt(self):
        early = (*self.RUNNING, reached("t", "running"), "lab opened node=w", *self.FROZEN, *self.END[1:])
        assert "gate of w was opened before the fault" in outcome(*early)[1][0]

    def test_a_gate_that_opened_by_itself_is_a_doubt(self):
        late = (*self.RUNNING, reached("t", "running"), *self.FROZEN, "w/7 hold-expired t", *self.END)
        assert "opened by itself" in outcome(*late)[1][0]

    def test_a_task_that_somebody_had_received_was_not_queued(self):
        struck = ("lab inject t fault=kill node=broker pid=0 phase=queued holder=broker",)
        proof = ("lab landed t fault=kill node=broker pid=0 proof=dead",)
        lines = (reached("t", "queued", "broker"), "w received t", *struck, *proof, *ran("t")[1:])
        assert "had already left the queue" in outcome(*lines)[1][0]

    def test_a_task_that_eats_goes_on_through_the_gate_that_the_fault_opens(self):
        about = "fault=out-of-memory node=w pid=7"
        died = (
            *self.RUNNING, reached("t", "running"), f"lab inject t {about} phase=running holder=w",
            "lab opened node=w", "w/7 passed t", f"lab landed t {about} proof=counted", "w acknowledged t",
        )  # fmt: skip
        assert outcome(*died, "w failed t") == ({"failed": 1}, ())
        lived = "had already finished in the process that died"
        assert lived in outcome(*died, "w/7 finished t")[1][0]
        early = [line for line in died if line != "lab opened node=w"]
        assert "before the fault" in outcome("lab opened node=w", *early, "w failed t")[1][0]


class TestHealthyWorkersAreNotRobbed:
    TUNED = "lab tuned node=later setting=broker_transport_options.visibility_timeout value=0.01"

    def test_what_was_lost_with_a_connection_may_come_again(self):
        lines = (self.TUNED, *fault("close-connections"), "w received t", LOST, *ran("t", "w", 7))
        assert outcome(*lines)[1] == ()

    def test_a_second_delivery_without_a_loss_is_a_doubt(self):
        lines = (self.TUNED, *fault("close-connections"), "w received t", *ran("t", "w", 7))
        assert any("received t 2 times" in doubt for doubt in outcome(*lines)[1])

    def test_a_retry_of_a_worker_that_was_struck_may_come_to_another(self):
        retry = ("w received t", "w accepted t", "w/7 started t", "w/7 retried t", "w acknowledged t")
        lines = (self.TUNED, *fault("cut", "wire"), *retry, *ran("t", "later", 8))
        assert outcome(*lines)[1] == ()

    def test_one_retry_explains_one_delivery_more_and_not_two(self):
        retry = ("w received t", "w accepted t", "w/7 started t", "w/7 retried t", "w acknowledged t")
        lines = (self.TUNED, *retry, *ran("t", "later", 8), *ran("t", "later", 8))
        assert any("redelivered 2 times" in doubt for doubt in outcome(*lines)[1])


class TestExpectation:
    STORY = (*published("t"), UP, *ran("t"), *proved(), SETTLED)

    @pytest.mark.parametrize(
        ("expectation", "status"),
        [
            (Expectation({"target": {"lost": 1}}, luck={"target": ("once", "lost")}), Status.EXPECTED),
            (Expectation({"target": {"lost": 1}}, luck={"target": ("lost", "failed")}), Status.SURPRISE),
            (Expectation({"target": {"lost": 2}}, luck={"target": ("once", "lost")}), Status.SURPRISE),
            (Expectation({"target": {"once": 1}}, facts={"runs": 1}), Status.EXPECTED),
            (Expectation({"target": {"once": 1}}, facts={"runs": 2}), Status.SURPRISE),
            (Expectation({"target": {"once": 1}}, stalled=("w",)), Status.SURPRISE),
            (Expectation({"target": {"once": 1}, "others": {"once": 1}}), Status.SURPRISE),
        ],
    )
    def test_luck_facts_and_stalls_are_compared(self, expectation, status):
        assert verdict_on(judge(story(*self.STORY), EMPTY), expectation) is status

    def test_a_worker_that_runs_fewer_at_once_than_it_should_is_stalled(self):
        history = story(
            *published("t"), "lab worker-up node=w concurrency=2", *ran("t"), *proved("w", "s"), SETTLED
        )
        judgement = judge(history, EMPTY)
        assert [(w.concurrency, w.wanted, w.resumed) for w in judgement.workers] == [(1, 2, False)]
        assert verdict_on(judgement, Expectation({"target": {"once": 1}}, stalled=("w",))) is Status.EXPECTED

    def test_sentinels_that_run_one_after_the_other_prove_one_at_a_time(self):
        history = story(
            *published("t"), "lab worker-up node=w concurrency=2", *ran("t"), *proved("w", "s"),
            *proved("w", "u", 8), SETTLED,
        )  # fmt: skip
        assert judge(history, EMPTY).workers[0].concurrency == 1
