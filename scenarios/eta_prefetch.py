"""Tasks that wait for their time wait in a worker's memory, however many. The worker dies: what comes back?

In production: thousands of countdown tasks that one worker fetched beyond its prefetch count, and an
out-of-memory kill that this brought about.
"""

from lab import Axis, Cell, Expectation, Rig, kill, scenario

TASKS = 10
COUNTDOWN = 8
LIMIT = 6

ACKNOWLEDGEMENT = Axis(
    "acknowledgement", {"early": {"task_acks_late": False}, "late": {"task_acks_late": True}}
)
ETA_LIMIT = Axis("eta-limit", {"none": {"worker_eta_task_limit": None}, "6": {"worker_eta_task_limit": LIMIT}})


@scenario(
    "eta-prefetch",
    asks="A worker that has fetched tasks ahead of their time is killed. Do they all come back?",
    vary=[ACKNOWLEDGEMENT, ETA_LIMIT],
)
def eta_prefetch(rig: Rig) -> None:
    victim = rig.worker("victim")
    tasks = rig.publish("target", TASKS, countdown=COUNTDOWN)
    for task in tasks[: taken(rig.cell)]:
        victim.says("received", task)
    rig.inject(kill(victim))
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


def taken(cell: Cell) -> int:
    """How many tasks one worker takes before their time."""
    return min(TASKS, int(str(cell["worker_eta_task_limit"] or TASKS)))


@eta_prefetch.cannot
def cannot(cell: Cell) -> str | None:
    if cell.profile.startswith("rabbitmq-quorum"):
        return "with quorum queues Celery has RabbitMQ itself delay tasks: none waits in a worker"
    return None


@eta_prefetch.expects
def expected(cell: Cell) -> Expectation:
    outcomes = {"redelivered": taken(cell), "once": TASKS - taken(cell)}
    return Expectation(
        outcomes={"target": {outcome: n for outcome, n in outcomes.items() if n}},
        because="a task that waits for its time is unacknowledged, with early acknowledgement too",
        source="celery 5.7.0 worker/strategy.py: increment_eventually; kombu 5.7.0 common.py: QoS.max_prefetch",
        facts={"waited": f"victim {taken(cell)}"},
    )
