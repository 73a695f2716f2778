"""Time runs out: for a task that waits, for one that a worker has, or for a queue that nobody consumes.

In production: a policy with ``message-ttl`` or ``expires``, or Celery's ``expires=``, and workers that are
down, busy or killed for longer than somebody had thought.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, Worker, kill, scenario

TIME = 2.0  # seconds

LIMIT = Axis.of("limit", "message-ttl", "celery-expires", "queue-expires")
WHERE = Axis(
    "where",
    {
        "queued": {},
        "prefetched": {"worker_prefetch_multiplier": 1},
        "given-back": {"worker_prefetch_multiplier": 1, "task_acks_late": True},
    },
)
DROPPED = Axis.of("dropped", "gone", "kept")


@scenario(
    "expiry",
    asks="The time of a task, or of its queue, runs out. Is the task lost, and does a worker keep it?",
    vary=[LIMIT, WHERE, DROPPED],
)
def expiry(rig: Rig) -> None:
    limit, where = rig.cell.params["limit"], rig.cell.params["where"]
    if limit == "message-ttl":
        rig.queue.expire_tasks(TIME)
    elif limit == "queue-expires":
        rig.queue.expire_unused(TIME)
    if rig.cell.params["dropped"] == "kept":
        rig.queue.keep_dead_letters()
    if where == "queued":
        publish(rig, "target")
    else:
        worker = rig.worker("worker", hold="running")
        {"prefetched": prefetched, "given-back": given_back}[where](rig, worker)
    if limit == "queue-expires":
        rig.queue.expires()
        rig.publish("after")
    elif where != "prefetched":
        rig.queue.holds(0, 0)
    if where != "prefetched":
        rig.worker("later")
    rig.settle()


def prefetched(rig: Rig, worker: Worker) -> None:
    """It waits in a worker until its time is over, and then has its turn."""
    [first] = rig.publish("first")
    worker.reaches("running", first)
    [target] = publish(rig, "target")
    worker.says("received", target)
    time_runs_out(rig)
    worker.release()


def given_back(rig: Rig, worker: Worker) -> None:
    """It runs until its time is over, and then its worker is killed."""
    [target] = publish(rig, "target")
    moment = worker.reaches("running", target)
    if rig.cell.params["limit"] != "queue-expires":
        time_runs_out(rig)
    rig.inject(kill(worker), moment)


def time_runs_out(rig: Rig) -> None:
    """A task that was published later has gone from the queue: so the time of the target is over."""
    publish(rig, "clock")
    rig.queue.holds(0, 1)


def publish(rig: Rig, label: str) -> list[str]:
    if rig.cell.params["limit"] == "celery-expires":
        return rig.publish(label, expires=TIME)
    return rig.publish(label)


@expiry.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis lets no task expire: a worker revokes one that is too old, see dead-letter"
    if cell.profile == "rabbitmq-quorum@3.8":
        return "a quorum queue lets messages expire since RabbitMQ 3.10"
    if cell.params["limit"] == "queue-expires" and cell.params["where"] == "prefetched":
        return "a queue that has a consumer does not expire"
    return None


@expiry.expects
def expected(cell: Cell) -> Expectation:
    limit, where = cell.params["limit"], cell.params["where"]
    if limit == "queue-expires":
        return queue_expired()
    surprise, target = None, "once"
    because = "the broker drops it when its time is over, whoever was told ok"
    source = "https://www.rabbitmq.com/docs/ttl; celery 5.7.0 app/base.py: send_task sets expiration"
    if where == "given-back":
        surprise = NOT_AGAIN
        because = "a message that is given back keeps the time that it had when it was published"
    elif where == "prefetched" and limit == "celery-expires":
        target, because = "failed", "the worker looks again when a process is free for it, and revokes it"
        source = "celery 5.7.0 worker/worker.py: _process_task_sem; worker/request.py: execute_using_pool"
    elif where == "prefetched":
        because = "what a worker has is no longer in the queue, whose policy the worker does not know"
    dropped = {"queued": ["target"], "prefetched": ["clock"], "given-back": ["clock", "target"]}[where]
    kept = cell.params["dropped"] == "kept"
    outcomes = {label: {"stranded" if kept else "lost": 1} for label in dropped}
    ran = {"first": {"once": 1}, "target": {target: 1}} if where == "prefetched" else {}
    return Expectation(
        outcomes=outcomes | ran,
        because=because,
        source=source,
        facts={"dead_letters": ", ".join(f"{label} 1" for label in dropped) if kept else ""},
        surprise=surprise,
    )


def queue_expired() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}, "after": {"lost": 1}},
        because="the queue is deleted with all it holds, and nothing of that becomes a dead letter",
        source="https://www.rabbitmq.com/docs/ttl#queue-ttl",
        facts={"dead_letters": ""},
        surprise=PUBLISHED_TO_NOBODY,
    )


NOT_AGAIN = Surprise(
    documented="task_acks_late: a task whose worker is killed is delivered again",
    observed="one that had begun in time and outlived its time is dropped when its worker is killed",
    source="https://www.rabbitmq.com/docs/ttl: a message that is requeued keeps its original expiry time",
)
PUBLISHED_TO_NOBODY = Surprise(
    documented="Celery declares the queue of a task when it publishes; a confirm says that the broker has it",
    observed="a publisher declares a queue once: when a policy has let that expire, its tasks are told ok, "
    "confirmed or not, and goes nowhere, until somebody else declares the queue",
    source="kombu 5.7.0 common.py: _maybe_declare, entity.py: can_cache_declaration; "
    "https://www.rabbitmq.com/docs/confirms: an unroutable message is confirmed",
)
