"""A whole worker dies, with each of Celery's pools: what it ran, and what it had fetched ahead.

The rescuer has processes: which pools rescue anything on Redis is the question of redis-overdue.

In production: the out-of-memory killer takes a worker of threads or greenlets whole, for it has no child to
take; a pod is evicted. What a prefork child's death does is told in worker-crash.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, kill, scenario

AT_ONCE = 2
OTHERS = 10

POOL = Axis(
    "pool",
    {
        "prefork": {"worker_pool": "prefork", "worker_concurrency": AT_ONCE},
        "threads": {"worker_pool": "threads", "worker_concurrency": AT_ONCE},
        "gevent": {"worker_pool": "gevent", "worker_concurrency": AT_ONCE},
        "solo": {"worker_pool": "solo", "worker_concurrency": 1},
    },
)
PHASE = Axis.of("phase", "running", "reserved", "finished", core=("running", "finished"))


@scenario(
    "pool-crash",
    asks="A worker dies by SIGKILL. Does what is lost, and what comes back, depend on its pool?",
    vary=[POOL, EARLY_OR_LATE, PHASE],
)
def pool_crash(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    victim = rig.worker("victim", hold=phase)
    targets = rig.publish("target", at_once(rig.cell))
    moments = [victim.reaches(phase, target) for target in targets]
    rig.publish("others", OTHERS)
    rig.queue.holds(ready=OTHERS - ahead(rig.cell), unacked=ahead(rig.cell) + unanswered(rig.cell))
    rig.inject(kill(victim), moments[-1])
    rig.worker("rescuer", after_visibility_timeout=True, settings={"worker_pool": "prefork"})
    rig.settle()


@pool_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] == "gevent" and not cell.celery_is_at_least(5, 3):
        return "the worker image has no gevent for a Celery before 5.3"
    return None


def at_once(cell: Cell) -> int:
    """How many tasks the victim runs side by side."""
    return int(str(cell["worker_concurrency"]))


def is_acknowledged(cell: Cell) -> bool:
    """Whether the broker was told of the targets. A solo worker tells it when its task has ended."""
    early = not cell["task_acks_late"] and cell.params["phase"] != "reserved"
    return early and cell["worker_pool"] != "solo"


def unanswered(cell: Cell) -> int:
    """How many targets the broker waits for an answer about."""
    return 0 if is_acknowledged(cell) else at_once(cell)


def ahead(cell: Cell) -> int:
    """How many of the others the broker has given to the victim beside the targets.

    RabbitMQ pushes as many as the prefetch count allows, read or not. Redis is asked for each: not at all
    while a solo worker runs its task in its loop; once by a gevent worker, which then waits for a place
    in its full pool with that one in its hands.
    """
    multiplier = int(str(cell["worker_prefetch_multiplier"]))
    room = multiplier * at_once(cell) - unanswered(cell) if multiplier else OTHERS
    asks_no_more = {"solo": 0, "gevent": 1}.get(str(cell["worker_pool"]), room)
    if cell.broker == "redis" and cell.params["phase"] != "reserved":
        room = min(room, asks_no_more)
    return min(room, OTHERS)


@pool_crash.expects
def expected(cell: Cell) -> Expectation:
    """Acknowledged is forgotten; unacknowledged comes back."""
    finished = cell.params["phase"] == "finished"
    if is_acknowledged(cell):
        target = "once" if finished else "lost"
        because = "acknowledged before it started, so the broker had forgotten it"
    else:
        target = "duplicated" if finished else "redelivered"
        because = "not yet acknowledged, so the broker delivers it again"
    others = {"redelivered": ahead(cell), "once": OTHERS - ahead(cell)}
    early = not cell["task_acks_late"] and cell.params["phase"] != "reserved"
    return Expectation(
        outcomes={"target": {target: at_once(cell)}, "others": {k: n for k, n in others.items() if n}},
        because=because,
        source="celery 5.7.0 concurrency/base.py: apply_target; worker/request.py: on_accepted; "
        "worker/consumer/consumer.py: call_soon_ack",
        surprise=SOLO_ACKS_LATE if early and not is_acknowledged(cell) else None,
    )


SOLO_ACKS_LATE = Surprise(
    documented="task_acks_late: by default, a task is acknowledged just before it is executed",
    observed="in the solo pool the acknowledgement is booked before the task and sent after it: what a "
    "killed solo worker ran comes back, and runs twice if it had finished, as with task_acks_late",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-acks-late; celery 5.7.0 "
    "concurrency/solo.py, which runs it in the loop; worker/consumer/consumer.py: call_soon_ack",
)
