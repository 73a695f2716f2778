"""What must hold for any history, however strange."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.history import LAB, Backlog, Event
from lab.judge import Outcome, judge

TASKS = ("a", "b", "c")
NODES = ("publisher", "v", "w", LAB)
NAMES = (
    *("asked", "publish-ok", "publish-failed", "received", "accepted", "started", "finished", "failed"),
    *("acknowledged", "rejected", "retried", "settled", "held", "passed", "reached", "inject", "landed"),
)

details = st.fixed_dictionaries(
    {},
    optional={
        "label": st.sampled_from(["target", "others", "sentinel"]),
        "redelivered": st.booleans(),
        "requeue": st.booleans(),
        "fault": st.just("kill"),
        "node": st.sampled_from(NODES),
        "pid": st.integers(0, 3),
        "phase": st.sampled_from(["reserved", "running", "finished"]),
    },
)
events = st.builds(
    Event,
    node=st.sampled_from(NODES),
    at=st.integers(0, 10**12),
    pid=st.integers(1, 3),
    seq=st.integers(0, 30),
    name=st.sampled_from(NAMES),
    task=st.sampled_from(TASKS),
    detail=details,
)
histories = st.lists(events, max_size=40)
ids = st.lists(st.sampled_from(TASKS), max_size=3, unique=True).map(tuple)
backlogs = st.builds(Backlog, ready=ids, unacked=ids, readable=st.booleans())


def labels(history):
    asked = (e for e in history if e.name == "asked" and e.node != LAB)
    return {e.task: e.detail.get("label", "") for e in asked}


settings.register_profile("lab", deadline=None)  # a busy machine makes no verdict wrong
settings.load_profile("lab")


@given(histories, backlogs)
def test_every_published_task_gets_exactly_one_outcome(history, backlog):
    judged = [verdict.task for verdict in judge(history, backlog).tasks]
    wanted = {task for task, label in labels(history).items() if label != "sentinel"}
    assert len(judged) == len(set(judged))
    assert wanted <= set(judged)


@given(histories, backlogs, st.sampled_from(TASKS), st.sampled_from(["v", "w"]))
def test_adding_a_finish_never_turns_a_task_into_lost(history, backlog, task, node):
    more = [*history, Event(node, 5, 1, 99, "started", task), Event(node, 6, 1, 100, "finished", task)]
    bare = [*history, Event(node, 6, 1, 100, "finished", task)]
    for longer in (more, bare):
        found = {v.task: v.outcome for v in judge(longer, backlog).tasks}
        assert found.get(task) is not Outcome.LOST


@given(histories, backlogs, st.randoms())
def test_the_order_of_lines_does_not_matter(history, backlog, random):
    unique = list({e.key: e for e in history}.values())  # a process writes each number once
    labelled = [replace(e, detail={**e.detail, "label": "target"}) for e in unique]
    shuffled = labelled[:]
    random.shuffle(shuffled)
    one, other = judge(labelled, backlog), judge(shuffled, backlog)
    assert (one.tasks, one.workers, one.recovery) == (other.tasks, other.workers, other.recovery)
    assert set(one.doubts) == set(other.doubts)


@given(histories, backlogs)
def test_nothing_is_lost_that_the_broker_holds_or_while_it_cannot_be_read(history, backlog):
    for verdict in judge(history, backlog).tasks:
        if verdict.outcome is Outcome.LOST:
            assert backlog.readable
            assert verdict.task not in backlog


@given(histories, backlogs)
def test_an_unknown_task_is_always_a_doubt(history, backlog):
    judgement = judge(history, backlog)
    unknown = [v for v in judgement.tasks if v.outcome is Outcome.UNKNOWN]
    assert all(any(v.task in doubt for doubt in judgement.doubts) for v in unknown)
