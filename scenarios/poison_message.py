"""A task that ends every process that runs it: does that ever end.

In production: an input that makes a C library crash, a task that needs more memory than there is; with
``task_reject_on_worker_lost``, which is meant to save the tasks of a process that died by chance.
"""

from lab import Axis, Cell, Expectation, Rig, kill, scenario

OTHERS = 2
DEATHS = 3  # then the lab has seen enough of an endless loop
LIMIT = 2  # of RabbitMQ's quorum queues: how often a message may come back
RETRIES = 3  # celery 5.7.0 app/task.py: max_retries

REJECT = {"task_acks_late": True, "task_reject_on_worker_lost": True}
ANSWER = Axis(
    "answer",
    {
        "reject": REJECT,
        "delivery-limit": REJECT,
        "retry": {
            **REJECT,
            "task_retry_on_worker_lost": True,
            "task_annotations": {"*": {"default_retry_delay": 0}},
        },
    },
)


@scenario(
    "poison-message",
    asks="A task kills every process that runs it. Does it ever end, and do the tasks behind it run?",
    vary=[ANSWER],
)
def poison_message(rig: Rig) -> None:
    answer = rig.cell.params["answer"]
    victim = rig.worker("victim")
    if answer == "delivery-limit":
        rig.queue.limit_deliveries(LIMIT)
    [target] = rig.publish("target", act="die_when_told")
    rig.publish("others", OTHERS)
    for death in range({"reject": DEATHS, "delivery-limit": 1 + LIMIT, "retry": 1 + RETRIES}[answer]):
        victim.says("held", target, times=1 + death)
        victim.open(f"die-{victim.child(target)}")
    if answer == "reject":
        victim.says("held", target, times=1 + DEATHS)
        rig.inject(kill(victim))
    rig.settle()


@poison_message.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] not in ("prefork", "processes"):
        return f"the {cell['worker_pool']} pool has no process of its own for a task to end"
    if cell.params["answer"] == "delivery-limit" and not cell.profile.startswith("rabbitmq-quorum"):
        return "only quorum queues count how often a message came back"
    if cell.params["answer"] == "retry" and not cell.celery_is_at_least(5, 7):
        return "task_retry_on_worker_lost is new in Celery 5.7"
    return None


@poison_message.expects
def expected(cell: Cell) -> Expectation:
    """Others waited in the parent, and run in the processes between its deaths."""
    outcome, runs, because, source = {
        "reject": (
            "stranded",
            DEATHS + 1,
            "it came back each time, and Celery counts no deaths; the lab killed the worker to stop this",
            "celery 5.7.0 worker/request.py: on_failure rejects and requeues; app/task.py warns of loops",
        ),
        "delivery-limit": (
            "lost",
            LIMIT + 1,
            "the queue dropped what came back more often than its limit, and told nobody",
            "RabbitMQ 4.0.5 rabbit_quorum_queue, rabbit_fifo: delivery_limit; no dead-letter exchange",
        ),
        "retry": (
            "failed",
            RETRIES + 1,
            "it was published again as a retry, max_retries times, and then recorded as WorkerLostError",
            "celery 5.7.0 worker/request.py: on_failure, _retry_worker_lost",
        ),
    }[cell.params["answer"]]
    return Expectation(
        outcomes={"target": {outcome: 1}, "others": {"once": OTHERS}},
        because=because,
        source=source,
        facts={"runs": runs},
    )
