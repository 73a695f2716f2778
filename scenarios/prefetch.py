"""A worker with a long task dies: tasks that it had fetched ahead had waited behind it, run by nobody.

In production: a queue of short and long tasks, a worker that fetched what it could not run, and a scale-up
that changes nothing because the new workers find the queue empty.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, kill, scenario

WAITING = 6

PREFETCH = Axis(
    "prefetch",
    {
        "x4": {"worker_prefetch_multiplier": 4},
        "x1": {"worker_prefetch_multiplier": 1},
        "unlimited": {"worker_prefetch_multiplier": 0},
        "disabled": {"worker_disable_prefetch": True},
    },
)


@scenario(
    "prefetch",
    asks="A busy worker dies. How many tasks waited behind it that another worker could have run?",
    vary=[PREFETCH, EARLY_OR_LATE],
)
def prefetch(rig: Rig) -> None:
    late = bool(rig.cell["task_acks_late"])
    busy = rig.worker("busy", hold="running")
    [target] = rig.publish("target")
    moment = busy.reaches("running", target)
    rig.publish("waiting", WAITING)
    rig.queue.holds(ready=WAITING - behind(rig.cell), unacked=behind(rig.cell) + late)
    rig.worker("other")
    rig.queue.holds(ready=0, unacked=behind(rig.cell) + late)
    rig.inject(kill(busy), moment)
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


@prefetch.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_disable_prefetch"] and cell.broker != "redis":
        return "worker_disable_prefetch is for Redis alone (celery 5.7.0 worker/consumer/tasks.py)"
    if cell["worker_disable_prefetch"] and not cell.celery_is_at_least(5, 6):
        return "worker_disable_prefetch is new in Celery 5.6"
    return None


def behind(cell: Cell) -> int:
    """How many tasks wait in the busy worker. One that is acknowledged late takes a place in the window."""
    if cell["worker_disable_prefetch"]:
        return 0
    window = int(str(cell["worker_prefetch_multiplier"])) or 1 + WAITING
    return min(window - bool(cell["task_acks_late"]), WAITING)


@prefetch.expects
def expected(cell: Cell) -> Expectation:
    waiting = {"redelivered": behind(cell), "once": WAITING - behind(cell)}
    late = cell["task_acks_late"]
    return Expectation(
        outcomes={
            "target": {"redelivered" if late else "lost": 1},
            "waiting": {kind: count for kind, count in waiting.items() if count},
        },
        because="the broker gives a worker as many as its prefetch count beside what it has acknowledged; no "
        "other worker sees them before it dies",
        source="celery 5.7.0 worker/components.py: Consumer; worker/consumer/tasks.py: can_consume; "
        "kombu 5.7.0 transport/virtual/base.py: QoS.can_consume",
    )
