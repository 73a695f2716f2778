"""The rules of evidence on real brokers and workers."""

from __future__ import annotations

import threading

import pytest

from lab.brokers import Profile
from lab.brokers.redis import DATABASES
from lab.cell import Cell
from lab.engine.images import default_celery, worker_image
from lab.engine.node import Node
from lab.errors import DeadlineExpired, EnvironmentLacks
from lab.faults.base import LASTING
from lab.handles import Moment
from lab.judge import Expectation, Status, judge, verdict_on
from lab.rig import Rig
from lab.verbs import kill

LATE = {"task_acks_late": True, "worker_prefetch_multiplier": 1}


def judged(rig):
    evidence = rig.collect()
    return judge(evidence.history, evidence.backlog)


def test_without_a_fault_everything_runs_once(rigs):
    rig = rigs()
    rig.worker("w")
    rig.publish("target", 20)
    rig.settle()
    judgement = judged(rig)
    assert judgement.doubts == ()
    assert judgement.counts() == {"target": {"once": 20}}


def test_a_kill_that_comes_too_late_is_inconclusive_never_a_pass(rigs):
    rig = rigs(LATE)
    victim = rig.worker("victim", hold="running")
    [target] = rig.publish("target")
    moment = victim.reaches("running", target)
    victim.release()
    rig.settle()  # the task has finished and was acknowledged long before the kill
    rig.inject(kill(victim), moment)
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()
    judgement = judged(rig)
    assert any("did not land" in doubt for doubt in judgement.doubts)
    assert verdict_on(judgement, Expectation(judgement.counts())) is Status.INCONCLUSIVE


def test_what_the_lab_shortened_is_in_the_history_once_and_for_the_rescuer_alone(rigs, profile):
    rig = rigs(LATE)
    rig.worker("victim")
    rig.worker("rescuer", after_visibility_timeout=True)
    told = [e.detail for e in rig.collect().history if e.name == "tuned"]
    wanted = [{"node": "rescuer", "setting": "broker_transport_options.visibility_timeout", "value": "0.01"}]
    assert told == (wanted if profile.family == "redis" else [])


def test_a_kill_that_comes_too_early_is_inconclusive(rigs):
    rig = rigs(LATE)
    victim = rig.worker("victim", hold="reserved")
    [target] = rig.publish("target")
    victim.reaches("reserved", target)
    rig.inject(kill(victim), Moment(target, "running", "victim"))
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()
    judgement = judged(rig)
    assert any("was not seen running" in doubt for doubt in judgement.doubts)
    assert judgement.counts() == {"target": {"redelivered": 1}}


def test_what_no_worker_takes_is_in_the_backlog_and_stranded(rigs):
    rig = rigs()
    ids = rig.publish("target", 3)
    rig.settle(seconds=0.5)
    evidence = rig.collect()
    assert evidence.backlog.ready == tuple(sorted(ids))
    assert judge(evidence.history, evidence.backlog).counts() == {"target": {"stranded": 3}}


def test_what_the_broker_drops_is_a_dead_letter_and_is_told_from_what_is_lost(rigs, profile):
    if profile.family == "redis":
        pytest.skip("Redis has no dead letters")
    rig = rigs()
    rig.queue.keep_dead_letters()
    [task] = rig.publish("target", expires=0.1)
    rig.queue.has_dead_letter(task)
    rig.worker("w")
    rig.settle()
    evidence = rig.collect()
    assert (evidence.backlog.dead, evidence.backlog.ready) == ((task,), ())
    assert judge(evidence.history, evidence.backlog).counts() == {"target": {"stranded": 1}}


def test_rules_for_one_queue_hold_together(rigs, profile):
    if profile.family == "redis":
        pytest.skip("Redis has no policies")
    rig = rigs()
    rig.queue.limit_length(1, "drop-head")
    rig.queue.keep_dead_letters()
    [oldest] = rig.publish("target")
    rig.publish("target")
    rig.queue.has_dead_letter(oldest)
    assert rig.namespace.depth().ready == 1


def test_a_queue_that_nobody_uses_expires_and_to_ask_for_it_is_not_to_use_it(rigs, profile):
    if profile.family == "redis":
        pytest.skip("Redis has no policies")
    rig = rigs()
    rig.queue.expire_unused(1.0)
    rig.publish("target")
    assert rig.namespace.has_queue()
    rig.queue.expires()


def test_what_a_frozen_worker_holds_is_told_from_what_waits_in_the_queue(rigs):
    rig = rigs({"task_acks_late": True, "worker_prefetch_multiplier": 2})
    holder = rig.worker("holder", hold="running")
    ids = rig.publish("target", 5)
    holder.reaches("running", ids[0])
    holder.prefetches(5)
    backlog = rig.collect().backlog
    assert (backlog.unacked, backlog.ready) == (tuple(sorted(ids[:2])), tuple(sorted(ids[2:])))


def test_nothing_leaks_from_one_trial_to_another_on_the_same_broker(rigs):
    left, taker = rigs(), rigs()
    ids = left.publish("target", 5)
    taker.worker("w")
    mine = taker.publish("target", 3)
    taker.settle()
    evidence = taker.collect()
    assert {e.task for e in evidence.history if e.name == "received"} >= set(mine)
    assert not {e.task for e in evidence.history} & set(ids)
    assert judge(evidence.history, evidence.backlog).doubts == ()
    left.settle(seconds=0.3)
    assert left.collect().backlog.ready == tuple(sorted(ids))


def test_a_closed_trial_leaves_nothing_for_the_next_one_in_its_namespace(rigs, stage):
    rig = rigs()
    rig.publish("target", 3)
    namespace = rig.namespace
    rig.collect()
    rig.close()
    again = stage.broker.open(rig._number)
    assert again.depth().ready == 0
    again.close()
    assert namespace.url == again.url


def test_a_namespace_that_is_not_empty_is_never_given_to_a_trial(stage):
    if stage.broker.profile.family != "redis":
        pytest.skip("virtual hosts are made anew and have names of their own")
    with stage.broker.client(200) as client:
        client.set("left", "over")
        with pytest.raises(EnvironmentLacks, match="not empty"):
            stage.broker.open(200 + DATABASES)
        client.flushdb()
    stage.broker.open(200 + DATABASES).close()


def test_profiles_are_what_they_promise(stages, engine):
    kinds = {}
    for name in ("rabbitmq-classic", "rabbitmq-transient", "rabbitmq-quorum"):
        stage = stages.boot(Profile.load(name)).result()
        image = worker_image(default_celery())
        rig = Rig(stage, Cell("test", name), Profile.load(name), image, threading.Event())
        rig.begin()
        rig.worker("w")
        queues = stage.broker.admin("GET", f"queues/trial-{stage.served}").json()
        queue = next(q for q in queues if q["name"] == "celery")
        kinds[name] = (queue["type"], queue["durable"])
        rig.close()
    assert kinds == {
        "rabbitmq-classic": ("classic", True),
        "rabbitmq-transient": ("classic", False),
        "rabbitmq-quorum": ("quorum", True),
    }


def test_a_worker_that_dies_by_itself_spoils_the_trial(rigs):
    rig = rigs()
    worker = rig.worker("w")
    rig.publish("target")
    rig.settle()
    worker.node.kill()
    judgement = judged(rig)
    assert any(doubt.startswith("w died by itself") for doubt in judgement.doubts)


def test_a_log_that_lost_its_end_spoils_the_trial(rigs, monkeypatch):
    rig = rigs()
    rig.worker("w")
    rig.publish("target")
    rig.settle()
    whole = Node.log

    def without_its_end(node, *, tail=None, **about):
        lines = whole(node, tail=tail, **about).splitlines(True)
        return b"".join(lines if tail else lines[:-2])

    monkeypatch.setattr(Node, "log", without_its_end)
    assert any("seen live that the logs do not have" in doubt for doubt in judged(rig).doubts)


def test_a_wait_that_expires_names_what_it_waited_for(rigs):
    rig = rigs()
    rig.worker("w")
    with pytest.raises(DeadlineExpired, match=r"waited 0\.2 s for w to do the impossible"):
        rig.watch.until(lambda events: False, "w to do the impossible", 0.2)


def test_waiting_for_a_dead_node_ends_at_once(rigs):
    rig = rigs()
    worker = rig.worker("w")
    worker.node.kill()
    with pytest.raises(DeadlineExpired, match="w ended before"):
        worker.reaches("running", "target-0")


@pytest.mark.parametrize("phase", ["reserved", "running", "finished"])
def test_the_history_shows_the_phase_at_which_a_worker_was_killed(rigs, phase):
    rig = rigs(LATE)
    victim = rig.worker("victim", hold=phase)
    [target] = rig.publish("target")
    rig.inject(kill(victim), victim.reaches(phase, target))
    history = rig.collect().history
    names = {e.name for e in history if e.node == "victim" and e.task == target}
    own = [e.name for e in history if e.node == "lab" and e.task == target]
    assert own == ["reached", "inject", "landed"]
    assert [e.detail["proof"] for e in history if e.name == "reverted"] == [LASTING]
    wanted = {
        "reserved": {"received", "held"},
        "running": {"received", "held", "accepted", "started"},
        "finished": {"received", "held", "accepted", "started", "finished"},
    }
    assert names == wanted[phase]
