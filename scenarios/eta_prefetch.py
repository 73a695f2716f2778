"""Tasks that wait for their time wait in a worker's memory, beyond its prefetch count. The worker dies.

In production: thousands of countdown tasks that one worker fetched beyond its prefetch count, and an
out-of-memory kill that this brought about.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, kill, scenario

TASKS = 10
COUNTDOWN = 8
LIMIT = 6

ETA_LIMIT = Axis(
    "eta-limit", {"none": {"worker_eta_task_limit": None}, "6": {"worker_eta_task_limit": LIMIT}}
)


@scenario(
    "eta-prefetch",
    asks="A worker that has fetched tasks ahead of their time is killed. Do they all come back?",
    vary=[EARLY_OR_LATE, ETA_LIMIT],
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
    if static_prefetch(cell):
        return int(str(cell["worker_prefetch_multiplier"]))
    return min(TASKS, int(str(cell["worker_eta_task_limit"] or TASKS)))


def static_prefetch(cell: Cell) -> bool:
    """Whether a worker's prefetch count cannot grow by the tasks that wait for their time.

    Celery 5.7.0 worker/consumer/tasks.py: qos_global is off for quorum queues, and where Kombu says that the
    broker has no global count. Kombu 5.7.0 transport/pyamqp.py: qos_semantics_matches_spec says that of
    RabbitMQ 4. A topic exchange would have RabbitMQ delay such tasks; Celery's default is a direct one.
    """
    return cell.broker == "rabbitmq" and ("quorum" in cell.profile or on_rabbitmq_4(cell))


def on_rabbitmq_4(cell: Cell) -> bool:
    """Whether Kombu takes this broker for one without a global prefetch count: since its 5.7."""
    return "@3." not in cell.profile and cell.celery_is_at_least(5, 7)


@eta_prefetch.expects
def expected(cell: Cell) -> Expectation:
    outcomes = {"redelivered": taken(cell), "once": TASKS - taken(cell)}
    return Expectation(
        outcomes={"target": {outcome: n for outcome, n in outcomes.items() if n}},
        because="a task that waits for its time is unacknowledged, with early acknowledgement too",
        source="celery 5.7.0 worker/strategy.py: increment_eventually, worker/consumer/tasks.py: qos_global",
        facts={"waited": f"victim {taken(cell)}"},
        surprise=BLOCKED if static_prefetch(cell) and "quorum" not in cell.profile else None,
    )


BLOCKED = Surprise(
    documented="without worker_eta_task_limit a worker holds any number of ETA tasks, and takes other work",
    observed="on RabbitMQ 4 it holds as many as its prefetch count, and takes nothing until the first is due",
    source=(
        "docs.celeryq.dev, Configuration: worker_eta_task_limit; kombu 5.7.0 transport/pyamqp.py: "
        "qos_semantics_matches_spec; github.com/celery/kombu/pull/2665"
    ),
)
