"""A worker takes longer over a task than Redis' visibility timeout: the task is delivered again.

In production: a task of over an hour, a countdown of over an hour, or an hour's wait behind a long task in
a worker that had prefetched it. Nobody died, and nothing was cut.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, scenario

WAITING = 4
TIMEOUT = {
    "broker_transport_options.visibility_timeout": 2,
    "broker_transport_options.unacked_restore_interval": 1,
    "broker_transport_options.unacked_restore_throttle": 1,
}
BEYOND_TIMEOUT = 6

ACKNOWLEDGEMENT = Axis(
    "acknowledgement",
    {"early": {"task_acks_late": False, **TIMEOUT}, "late": {"task_acks_late": True, **TIMEOUT}},
)
TASK = Axis.of("task", "long", "countdown")


@scenario(
    "visibility-timeout",
    asks="A task runs, waits or counts down for longer than the visibility timeout. Does it run twice?",
    vary=[ACKNOWLEDGEMENT, TASK],
)
def visibility_timeout(rig: Rig) -> None:
    first = rig.worker("first", hold="running")
    if rig.cell.params["task"] == "countdown":
        first.release()
        [target] = rig.publish("target", countdown=BEYOND_TIMEOUT)
        first.says("received", target)
        rig.worker("second")
    else:
        [target] = rig.publish("target")
        first.reaches("running", target)
        waiting = rig.publish("waiting", WAITING)
        first.prefetches(1 + WAITING)
        second = rig.worker("second")
        for task in waiting:
            second.says("finished", task)
        if rig.cell["task_acks_late"]:
            second.says("finished", target)
        first.release()
    rig.settle()


@visibility_timeout.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "rabbitmq":
        return "RabbitMQ has no visibility timeout; its consumer_timeout closes the channel of a live worker"
    return None


@visibility_timeout.expects
def expected(cell: Cell) -> Expectation:
    """What is not acknowledged in time is delivered again, and the first worker keeps what it has."""
    source = "kombu 5.7.0 transport/redis.py: QoS.restore_visible"
    if cell.params["task"] == "countdown":
        return Expectation(
            outcomes={"target": {"duplicated": 1}},
            because="it is acknowledged when its time has come at the earliest; every copy of it then runs",
            source=source,
        )
    if cell["task_acks_late"]:
        return Expectation(
            outcomes={"target": {"duplicated": 1}, "waiting": {"duplicated": WAITING - 1, "once": 1}},
            because="it and those prefetched behind it were unacknowledged for longer than the timeout",
            source=source,
        )
    return Expectation(
        outcomes={"target": {"once": 1}, "waiting": {"duplicated": WAITING}},
        because="it was acknowledged when it started; those prefetched behind it were not",
        source=source,
        surprise=Surprise(
            documented="the visibility timeout is a problem of ETA, countdown and retry tasks",
            observed="tasks that wait in a worker behind a long one run twice, though it acknowledges early",
            source="docs.celeryq.dev, Using Redis; celery 5.7.0 worker/request.py: on_accepted",
        ),
    )
