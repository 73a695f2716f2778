"""A worker leaves a delivery unacknowledged for longer than RabbitMQ's consumer_timeout.

In production: a task of over half an hour with late acknowledgement, a countdown of over half an hour, or
half an hour's wait behind a long task in a worker that had prefetched it. Nobody died, and nothing was cut.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, scenario

WAITING = 3
TIMEOUT, LOOK_EVERY = 3.0, 0.5
BEYOND_TIMEOUT = 5

TASK = Axis.of("task", "long", "countdown")
ON_ERROR = Axis(
    "channel-error",
    {"exit": {"broker_channel_error_retry": False}, "retry": {"broker_channel_error_retry": True}},
)


@scenario(
    "consumer-timeout",
    asks="A task runs, waits or counts down for longer than RabbitMQ's consumer_timeout. Does it run twice?",
    vary=[EARLY_OR_LATE, TASK, ON_ERROR],
    own_broker=True,
)
def consumer_timeout(rig: Rig) -> None:
    rig.queue.limit_unacknowledged(TIMEOUT, LOOK_EVERY)
    worker = rig.worker("worker", hold="running")
    if rig.cell.params["task"] == "countdown":
        [target] = rig.publish("target", countdown=BEYOND_TIMEOUT)
        worker.says("received", target)
    else:
        [target] = rig.publish("target")
        rig.publish("waiting", WAITING)
        worker.reaches("running", target)
        worker.prefetches(1 + WAITING)
    worker.says("disconnected")
    if rig.cell["broker_channel_error_retry"]:
        worker.resumes()
        worker.release()
    else:
        worker.release()  # it waits for its task before it exits
        worker.exits()
        rig.worker("restarted")
    rig.settle()


@consumer_timeout.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis has no consumer_timeout; its visibility timeout delivers the task to another worker"
    if "@3.8" in cell.profile:
        return "RabbitMQ 3.8.9 sets no consumer_timeout: 3.8.15 was the first that did"
    if cell["worker_pool"] not in ("prefork", "processes"):
        return f"what a {cell['worker_pool']} worker does when its channel is closed is not modelled here"
    return None


@consumer_timeout.expects
def expected(cell: Cell) -> Expectation:
    """One overdue delivery costs the whole channel, and the channel error costs the worker its life."""
    long, late = cell.params["task"] == "long", cell["task_acks_late"]
    if not long:
        target, because = (
            "redelivered",
            "it waited for its time unacknowledged, with early acknowledgement too",
        )
    elif late:
        target, because = "duplicated", "it ran on to its end, and its delivery had gone back to the queue"
    else:
        target, because = "once", "it was acknowledged when it started; those prefetched behind it were not"
    exits = not cell["broker_channel_error_retry"]
    return Expectation(
        outcomes={"target": {target: 1}} | ({"waiting": {"redelivered": WAITING}} if long else {}),
        because=because + ("; the worker ended with PRECONDITION_FAILED" if exits else ""),
        source="RabbitMQ 4.0.5 rabbit_channel.erl: evaluate_consumer_timeout looks at the oldest delivery; "
        "celery 5.7.0 worker/consumer/consumer.py: start, broker_channel_error_retry",
        facts={"exits": "worker 1" if exits else ""},
        surprise=EARLY_TOO if long and not late else None,
    )


EARLY_TOO = Surprise(
    documented="consumer_timeout is a problem of late acknowledgement, and of an ETA or countdown",
    observed="a long task that was acknowledged early has its worker closed down too: what the worker had "
    "prefetched behind it waits unacknowledged; with broker_channel_error_retry it only reconnects",
    source="docs.celeryq.dev, Calling Tasks: ETA and Countdown; celery 5.7.0 app/defaults.py: "
    "broker_channel_error_retry=False, worker/worker.py: start",
)
