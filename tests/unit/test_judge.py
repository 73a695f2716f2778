"""The checker on tiny literal histories, sane and pathological."""

from __future__ import annotations

import pytest

from lab.evidence import Evidence, Told
from lab.history import Backlog
from lab.judge import Expectation, Outcome, Status, WorkerVerdict, judge, outcome_of, verdict_on

from .story import killed, proved, published, ran, story

EMPTY = Backlog()
SETTLED = "lab settled"
TUNED = "lab tuned setting=broker_transport_options.visibility_timeout value=0.5"


def outcomes(history, backlog=EMPTY):
    return {verdict.task: verdict.outcome for verdict in judge(history, backlog).tasks}


class TestSane:
    def test_a_task_that_ran_once_is_once(self):
        assert outcomes(story(*published("t"), *ran("t"), SETTLED)) == {"t": Outcome.ONCE}

    def test_a_task_delivered_twice_and_finished_once_is_redelivered(self):
        history = story(
            *published("t"),
            "v received t",
            *killed("t", "reserved"),
            *ran("t", "w", 7, "redelivered=yes"),
            SETTLED,
        )
        assert outcomes(history) == {"t": Outcome.REDELIVERED}

    def test_a_first_reception_flagged_as_redelivered_counts_the_delivery_that_nobody_read(self):
        history = story(*published("t"), *ran("t", "w", 7, "redelivered=yes"), SETTLED)
        [verdict] = judge(history, EMPTY).tasks
        assert (verdict.outcome, verdict.evidence.received, verdict.evidence.deliveries) == (
            Outcome.REDELIVERED,
            1,
            2,
        )

    def test_a_task_finished_twice_is_duplicated(self):
        history = story(*published("t"), *ran("t", "v"), *ran("t", "w", 7, "redelivered=yes"), SETTLED)
        assert outcomes(history) == {"t": Outcome.DUPLICATED}

    def test_a_task_that_failed_and_is_held_nowhere_is_failed(self):
        history = story(
            *published("t"), "w received t", "w/7 started t", "w failed t", "w acknowledged t", SETTLED
        )
        assert outcomes(history) == {"t": Outcome.FAILED}

    def test_an_unfinished_task_that_the_broker_holds_is_stranded_not_lost(self):
        history = story(*published("t"), "v received t", *killed("t", "reserved"))
        assert outcomes(history, Backlog(unacked=("t",))) == {"t": Outcome.STRANDED}

    def test_a_task_that_a_living_worker_holds_at_the_deadline_is_unknown(self):
        history = story(*published("t"), "v received t", "v/7 started t")
        assert outcomes(history, Backlog(unacked=("t",))) == {"t": Outcome.UNKNOWN}

    def test_a_failed_task_that_the_broker_still_holds_is_stranded(self):
        history = story(
            *published("t"), "v received t", "v/7 started t", "v failed t", "v rejected t requeue=yes"
        )
        assert outcomes(history, Backlog(ready=("t",))) == {"t": Outcome.STRANDED}

    def test_a_task_refused_to_the_publisher_that_never_ran_is_refused(self):
        history = story("publisher asked t label=target", "publisher publish-failed t", SETTLED)
        assert outcomes(history) == {"t": Outcome.REFUSED}

    def test_a_task_refused_to_the_publisher_that_ran_is_a_phantom(self):
        history = story("publisher asked t label=target", "publisher publish-failed t", *ran("t"), SETTLED)
        assert outcomes(history) == {"t": Outcome.PHANTOM}

    def test_a_task_accepted_unfinished_and_held_nowhere_is_lost(self):
        history = story(*published("t"), "v received t", "v/7 started t", *killed("t", "running"), SETTLED)
        assert judge(history, EMPTY).doubts == ()
        assert outcomes(history) == {"t": Outcome.LOST}

    def test_sentinels_are_not_judged(self):
        history = story(*published("t"), *ran("t"), *proved(), SETTLED)
        assert outcomes(history) == {"t": Outcome.ONCE}


class TestPathological:
    def test_an_empty_log_is_a_doubt_and_no_task(self):
        judgement = judge([], EMPTY)
        assert judgement.tasks == ()
        assert judgement.doubts == ("nothing was published", "the trial did not come to rest: it was cut off")

    def test_without_rest_an_absent_task_is_unknown_not_lost(self):
        history = story(*published("t"), "v received t", "v/7 started t")
        assert outcomes(history) == {"t": Outcome.UNKNOWN}

    def test_a_broker_that_could_not_be_read_makes_no_task_lost(self):
        history = story(*published("t"), SETTLED)
        judgement = judge(history, Backlog(readable=False))
        assert [v.outcome for v in judgement.tasks] == [Outcome.UNKNOWN]
        assert "the broker could not be asked what it still holds" in judgement.doubts

    def test_an_id_published_twice_is_unknown(self):
        history = story(*published("t"), *published("t"), *ran("t"), SETTLED)
        assert outcomes(history) == {"t": Outcome.UNKNOWN}

    def test_a_finish_without_a_start_by_that_process_is_unknown(self):
        history = story(*published("t"), "w received t", "w/7 finished t", "w acknowledged t", SETTLED)
        assert outcomes(history) == {"t": Outcome.UNKNOWN}

    def test_a_finished_task_that_will_be_delivered_again_is_unknown(self):
        history = story(*published("t"), *ran("t"), SETTLED)
        assert outcomes(history, Backlog(unacked=("t",))) == {"t": Outcome.UNKNOWN}

    def test_a_publish_without_an_answer_is_unknown(self):
        history = story("publisher asked t label=target", SETTLED)
        assert outcomes(history) == {"t": Outcome.UNKNOWN}

    def test_a_task_that_nobody_published_is_unknown_so_a_leak_from_another_trial_shows(self):
        history = story(*published("t"), *ran("t"), *ran("stranger"), SETTLED)
        assert outcomes(history)["stranger"] is Outcome.UNKNOWN
        assert judge(history, EMPTY).doubts

    def test_events_out_of_order_give_the_same_verdict(self):
        history = story(*published("t"), "v received t", "v/7 started t", *killed("t", "running"), SETTLED)
        assert judge(history[::-1], EMPTY) == judge(history, EMPTY)

    def test_a_hole_in_a_log_is_a_doubt(self):
        history = story(*published("t"), *ran("t"), SETTLED)
        without_start = [e for e in history if e.name != "received"]
        assert any("lost or repeats lines" in doubt for doubt in judge(without_start, EMPTY).doubts)

    def test_a_defect_that_the_lab_saw_is_a_doubt(self):
        history = story(*published("t"), *ran("t"), SETTLED, "lab defect what=torn")
        assert judge(history, EMPTY).doubts == ("torn",)

    def test_a_redelivery_to_the_worker_that_still_held_it_is_a_doubt(self):
        history = story(
            TUNED,
            *published("t"),
            "w received t",
            "w received t redelivered=yes",
            "w/7 started t",
            "w/7 finished t",
            SETTLED,
        )
        assert any("gave it back 0 times" in doubt for doubt in judge(history, EMPTY).doubts)

    def test_a_redelivery_among_workers_that_no_fault_struck_is_a_doubt(self):
        twice = (*published("t"), *ran("t", "a"), *ran("t", "b", 8, "redelivered=yes"), SETTLED)
        assert any("no fault struck" in doubt for doubt in judge(story(TUNED, *twice), EMPTY).doubts)
        assert judge(story(*twice), EMPTY).doubts == ()  # untuned, it is the broker's own doing

    def test_a_task_that_the_worker_gave_back_may_come_again(self):
        history = story(
            *published("t"),
            "w received t",
            "w/7 started t",
            "w rejected t requeue=yes",
            *ran("t", "w", 8, "redelivered=yes"),
            SETTLED,
        )
        assert judge(history, EMPTY).doubts == ()


class TestTheFaultLanded:
    """Killed while running counts only if the history shows it."""

    def doubts(self, *lines):
        found = judge(story(*published("t"), *lines, SETTLED), EMPTY).doubts
        return tuple(doubt for doubt in found if doubt.startswith("the fault"))

    def test_without_proof_it_did_not(self):
        doubts = self.doubts(
            "v received t",
            "v/7 started t",
            "lab reached t node=v phase=running",
            "lab inject t fault=kill node=v pid=0 phase=running",
        )
        assert doubts == ("the fault did not land: there is no proof of kill on v",)

    def test_the_proof_of_another_fault_is_none(self):
        doubts = self.doubts(
            "v received t",
            "v/7 started t",
            "lab reached t node=v phase=running",
            "lab inject t fault=kill node=v pid=7 phase=running",
            "lab landed t fault=kill node=v pid=9 proof=seen",
        )
        assert doubts == ("the fault did not land: there is no proof of kill on v",)

    def test_too_late_for_running_when_the_process_had_finished(self):
        doubts = self.doubts(*ran("t", "v"), *killed("t", "running"))
        assert doubts == ("the fault did not land: t had already finished in the process that died",)

    def test_too_early_for_running_when_the_process_never_started_it(self):
        doubts = self.doubts("v received t", *killed("t", "running"), *ran("t", "w", 7, "redelivered=yes"))
        assert doubts == ("the fault did not land: t was not running in the process that died",)

    def test_too_late_before_the_charge_when_it_had_gone_on(self):
        held = ("v received t", "v/7 started t", "v/7 held t phase=charging")
        doubts = self.doubts(*held, "v/7 passed t phase=charging", *killed("t", "charging"))
        assert doubts == ("the fault did not land: t had already gone on to charge",)
        assert self.doubts(*held, *killed("t", "charging")) == ()

    def test_the_wrong_child_died(self):
        doubts = self.doubts("v received t", "v/7 started t", *killed("t", "running", pid=8), "v failed t")
        assert doubts == ("the fault did not land: t was not running in the process that died",)

    def test_too_late_for_reserved_when_it_had_started(self):
        doubts = self.doubts("v received t", "v/7 started t", *killed("t", "reserved"))
        assert doubts == ("the fault did not land: t had already started",)

    def test_a_child_killed_beside_a_reserved_task_may_leave_it_to_a_sibling(self):
        doubts = self.doubts(
            "v received t",
            *killed("t", "reserved", pid=7),
            "lab opened node=v",
            "v/8 started t",
            "v/8 finished t",
            "v acknowledged t",
        )
        assert doubts == ()

    def test_too_late_for_finished_when_it_was_acknowledged(self):
        doubts = self.doubts(*ran("t", "v"), *killed("t", "finished"))
        assert doubts == ("the fault did not land: t had already been acknowledged",)

    def test_an_early_acknowledgement_before_the_fault_is_in_order_whenever_it_was_written(self):
        for lines in (
            ("v received t", "v acknowledged t", "v/7 started t", "v/7 finished t"),
            ("v received t", "v/7 started t", "v/7 finished t", "v acknowledged t"),
        ):
            assert self.doubts(*lines, *killed("t", "finished", early="yes")) == ()

    def test_an_early_acknowledgement_that_was_not_sent_yet_spoils_it(self):
        doubts = self.doubts("v received t", "v/7 started t", *killed("t", "running", early="yes"))
        assert doubts == ("the fault did not land: t was not yet acknowledged",)

    def test_a_proof_from_before_the_fault_is_none(self):
        _, inject, landed = killed("t", "running")
        reached = killed("t", "running")[0]
        doubts = self.doubts("v received t", "v/7 started t", reached, landed, inject)
        assert doubts == ("the fault did not land: there is no proof of kill on v",)

    def test_too_late_for_finished_when_the_process_went_on(self):
        doubts = self.doubts(
            "v received t",
            "v/7 started t",
            "v/7 finished t",
            "v/7 passed t phase=finished",
            *killed("t", "finished"),
        )
        assert doubts == ("the fault did not land: t had already gone on to its acknowledgement",)

    def test_a_gate_opened_before_the_fault_spoils_it(self):
        doubts = self.doubts("v received t", "v/7 started t", "lab opened node=v", *killed("t", "running"))
        assert doubts == ("the fault did not land: the gate of v was opened before the fault",)

    def test_a_phase_that_the_lab_never_saw_spoils_it(self):
        doubts = self.doubts("v received t", "v/7 started t", *killed("t", "running")[1:])
        assert doubts == ("the fault did not land: t was not seen running before the fault",)


class TestRest:
    """The live streams decide nothing: rest is proved again from the whole logs."""

    STORY = (
        *published("t"), "lab worker-up node=v", "v received t", "v acknowledged t", "v/7 started t",
        *killed("t", "running", early="yes"), "lab worker-up node=w",
        *published("u", "others"), *ran("u"), *proved(),
    )  # fmt: skip

    def test_the_whole_story_has_no_doubt(self):
        judgement = judge(story(*self.STORY, SETTLED), EMPTY)
        assert judgement.doubts == ()
        assert judgement.counts() == {"others": {"once": 1}, "target": {"lost": 1}}

    @pytest.mark.parametrize("node", ["w", "w/7"])
    @pytest.mark.parametrize("lines", [1, 2, 3])
    def test_a_log_that_lost_its_last_lines_is_never_believed(self, node, lines):
        mine = [line for line in self.STORY if line.split()[0] == node]
        cut = [line for line in self.STORY if line not in mine[-lines:]]
        judgement = judge(story(*cut, SETTLED), EMPTY)
        assert verdict_on(judgement, Expectation(judgement.counts())) is Status.INCONCLUSIVE

    def test_what_is_closed_and_yet_never_came_to_rest_is_no_pass(self):
        unrest = ("lab deadline waited_for=the-broker", *proved())
        judgement = judge(story(*published("t"), "lab worker-up node=w", *ran("t"), *unrest), EMPTY)
        assert judgement.counts() == {"target": {"once": 1}}
        assert judgement.doubts == ("the trial did not come to rest: the-broker",)

    def test_a_worker_that_nobody_could_ask_is_not_called_stalled(self):
        history = story(*published("t"), "lab worker-up node=w", *ran("t"), "lab deadline")
        judgement = judge(history, EMPTY)
        assert "no sentinel could be published, so no worker is proved to take work" in judgement.doubts

    def test_without_rest_a_loss_is_unknown_and_what_is_closed_stands(self):
        judgement = judge(story(*self.STORY, "lab deadline"), EMPTY)
        assert judgement.counts() == {"others": {"once": 1}, "target": {"unknown": 1}}

    def test_without_rest_a_second_run_under_way_is_unknown_not_redelivered(self):
        history = story(
            *published("t"), "v received t", "v/7 started t", "v/7 finished t", *killed("t", "finished"),
            "lab worker-up node=w", "w received t redelivered=yes", "w accepted t", "w/8 started t",
            "lab deadline",
        )  # fmt: skip
        assert outcomes(history) == {"t": Outcome.UNKNOWN}

    def test_a_backlog_contradicts_rest(self):
        judgement = judge(story(*self.STORY, SETTLED), Backlog(ready=("t",)))
        assert judgement.doubts == ("the lab took it for settled, and the broker holds t",)

    def test_an_expected_stranding_without_rest_can_pass(self):
        history = story(
            *published("t"), "v received t", "v/7 started t", *killed("t", "running"), "lab worker-up node=w",
            "lab deadline", *proved(),
        )  # fmt: skip
        judgement = judge(history, Backlog(unacked=("t",)))
        assert verdict_on(judgement, Expectation({"target": {"stranded": 1}})) is Status.EXPECTED


class TestEdges:
    """Counts that look like one thing and are another."""

    @pytest.mark.parametrize(
        ("evidence", "rested", "outcome"),
        [
            (Evidence(1, Told.OK, 2, 2, 2, 2, held="unacked"), True, Outcome.DUPLICATED),
            (Evidence(1, Told.OK, 2, 2, 2, 0, failures=1), True, Outcome.LOST),
            (Evidence(1, Told.OK, 2, 2, 2, 0, failures=1), False, Outcome.UNKNOWN),
            (Evidence(1, Told.OK, 2, 2, 2, 0, failures=1, cut=1), True, Outcome.FAILED),
            (Evidence(1, Told.OK, 2, 1, 2, 0, failures=1, retried=1), True, Outcome.FAILED),
            (Evidence(1, Told.OK, 1, 1, 1, 0, cut=1), True, Outcome.LOST),
            (Evidence(1, Told.OK, 1, 1, 2, 1), True, Outcome.UNKNOWN),
            (Evidence(1, Told.OK, 1, 1, 1, 1, failures=1), True, Outcome.ONCE),
            (Evidence(1, Told.OK, 0, 0, 0, 0, failures=1), True, Outcome.FAILED),
            (Evidence(1, Told.FAILED, held="ready"), True, Outcome.UNKNOWN),
            (Evidence(1, Told.FAILED, held="dead"), True, Outcome.REFUSED),
            (Evidence(1, Told.FAILED), False, Outcome.UNKNOWN),
            (Evidence(1, Told.OK, 1, 1, 1, 0, open=True), True, Outcome.UNKNOWN),
            (Evidence(2, Told.OK, 1, 1, 1, 1), True, Outcome.UNKNOWN),
        ],
    )
    def test_the_outcome_is(self, evidence, rested, outcome):
        assert outcome_of(evidence, rested=rested) is outcome

    def test_a_retry_is_published_by_the_worker_and_is_no_redelivery(self):
        history = story(
            *published("t"),
            "w received t",
            "w/7 started t",
            "w/7 retried t",
            "w acknowledged t",
            *ran("t"),
            SETTLED,
        )
        assert outcomes(history) == {"t": Outcome.ONCE}


class TestVerdict:
    LOSS = Expectation({"target": {"lost": 1}})

    def lost(self, *more):
        return story(
            *published("t"), "v received t", "v/7 started t", *killed("t", "running"), SETTLED, *more
        )

    def test_expected_loss_is_a_pass(self):
        assert verdict_on(judge(self.lost(), EMPTY), self.LOSS) is Status.EXPECTED

    def test_anything_else_than_expected_is_a_surprise(self):
        once = Expectation({"target": {"once": 1}})
        assert verdict_on(judge(self.lost(), EMPTY), once) is Status.SURPRISE

    def test_a_task_too_many_is_a_surprise(self):
        history = self.lost(*published("u", "others"), *ran("u"))
        assert verdict_on(judge(history, EMPTY), self.LOSS) is Status.SURPRISE

    def test_a_doubt_is_never_a_pass(self):
        history = self.lost("lab defect what=torn")
        assert verdict_on(judge(history, EMPTY), self.LOSS) is Status.INCONCLUSIVE

    def test_a_worker_that_lives_and_takes_nothing_is_a_surprise(self):
        history = self.lost("lab worker-up node=idle", "lab worker-up node=w", *proved())
        judgement = judge(history, EMPTY)
        assert judgement.workers[0] == WorkerVerdict("idle", asked=True, after=None, concurrency=0, wanted=1)
        assert verdict_on(judgement, self.LOSS) is Status.SURPRISE


class TestWorkersAndTimes:
    def test_a_worker_resumes_with_the_first_task_that_it_takes_after_the_fault(self):
        history = story(
            *published("t"),
            "lab worker-up node=v",
            "v received t",
            "v/7 started t",
            *killed("t", "running"),
            "lab worker-up node=w",
            *published("u", "others"),
            *ran("u"),
            *proved(),
            SETTLED,
        )
        judgement = judge(history, EMPTY)
        landed = next(i for i, e in enumerate(history) if e.name == "landed")
        first = next(i for i, e in enumerate(history) if e.name == "finished")
        taken = next(i for i, e in enumerate(history) if e.name == "received" and e.node == "w")
        assert judgement.workers == (
            WorkerVerdict("w", asked=True, after=float(taken - landed), concurrency=1, wanted=1),
        )
        assert judgement.recovery == float(first - landed)

    def test_a_killed_worker_is_not_judged_but_the_parent_of_a_killed_child_is(self):
        whole = story("lab worker-up node=v", *killed("t", "running"))
        child = story("lab worker-up node=v", *killed("t", "running", pid=7))
        assert judge(whole, EMPTY).workers == ()
        assert [w.node for w in judge(child, EMPTY).workers] == ["v"]

    def test_without_a_fault_there_is_nothing_to_recover_from(self):
        assert judge(story(*published("t"), *ran("t"), SETTLED), EMPTY).recovery is None


@pytest.mark.parametrize("phase", ["reserved", "running", "finished"])
def test_every_phase_has_its_rule(phase):
    history = story(*published("t"), *killed("t", phase), SETTLED)
    assert len(judge(history, EMPTY).doubts) >= 1


class TestDeadLetters:
    UP = "lab worker-up node=w"

    def verdict(self, *lines, dead=("t",)):
        history = story(*lines, self.UP, *proved(), "lab settled")
        judgement = judge(history, Backlog(dead=dead))
        return judgement.counts()["target"], judgement.doubts

    def test_a_task_that_never_finished_and_is_a_dead_letter_is_stranded(self):
        assert self.verdict(*published("t")) == ({"stranded": 1}, ())

    def test_the_same_without_a_dead_letter_queue_is_lost(self):
        assert self.verdict(*published("t"), dead=()) == ({"lost": 1}, ())

    def test_a_task_that_failed_stays_failed_and_is_not_coming_again(self):
        ran = ("w received t", "w accepted t", "w/7 started t", "w/7 failed t", "w rejected t")
        assert self.verdict(*published("t"), *ran) == ({"failed": 1}, ())

    def test_a_task_that_finished_once_is_not_undone_by_a_dead_copy(self):
        assert self.verdict(*published("t"), *ran("t")) == ({"once": 1}, ())

    def test_a_dead_letter_whose_publisher_was_told_that_it_failed_never_runs_by_itself(self):
        told = ("publisher asked t label=target", "publisher publish-failed t")
        assert self.verdict(*told)[0] == {"refused": 1}


class TestFactsAndEnds:
    ENDED = (
        *published("t"),
        *ran("t"),
        "lab worker-up node=v",
        "lab exited node=v code=1",
        *proved(),
        SETTLED,
    )

    def status(self, **facts):
        return verdict_on(judge(story(*self.ENDED), EMPTY), Expectation({"target": {"once": 1}}, facts=facts))

    def test_a_worker_that_ends_by_itself_is_a_surprise_where_nobody_expects_it(self):
        assert self.status() is Status.SURPRISE
        assert self.status(exits="v 1") is Status.EXPECTED

    def test_a_fact_may_be_a_matter_of_luck(self):
        assert self.status(exits=("", "v 1")) is Status.EXPECTED
        assert self.status(exits=("", "v 0")) is Status.SURPRISE

    def test_a_dead_letter_does_not_explain_why_a_trial_did_not_rest(self):
        history = story(*published("t"), "lab deadline waited_for=rest")
        assert judge(history, Backlog(dead=("t",))).doubts == ("the trial did not come to rest: rest",)
        assert judge(history, Backlog(ready=("t",))).doubts == ()

    @pytest.mark.parametrize(("sent", "landed"), [("yes", True), ("no", False)])
    def test_an_acknowledgement_that_was_never_sent_is_none(self, sent, landed):
        before = (*published("t"), "v received t", f"v acknowledged t sent={sent}", "v/7 started t")
        doubts = judge(story(*before, *killed("t", "running", early="yes"), SETTLED), EMPTY).doubts
        assert landed is not any("not yet acknowledged" in doubt for doubt in doubts)
