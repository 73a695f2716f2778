"""The broker closes the connections, and stays up.

In production: a fail-over or a rolling upgrade of the broker, a load balancer that drops idle
connections, an operator's ``CLIENT KILL`` or ``close_all_connections``.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, close_connections, scenario

WAITING = 3

ACKNOWLEDGEMENT = Axis(
    "acknowledgement",
    {
        "early": {"task_acks_late": False},
        "late": {"task_acks_late": True},
        "late+cancel": {
            "task_acks_late": True,
            "worker_cancel_long_running_tasks_on_connection_loss": True,
        },
    },
)
PHASE = Axis.of("phase", "running", "reserved", "finished", core=("running", "finished"))


@scenario(
    "connection-closed",
    asks="The broker closes the worker's connection while a task runs. Does the task run twice?",
    vary=[ACKNOWLEDGEMENT, PHASE],
)
def connection_closed(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    worker = rig.worker("worker", hold=phase)
    [target] = rig.publish("target")
    rig.publish("waiting", WAITING)
    moment = worker.reaches(phase, target)
    worker.prefetches(1 + WAITING)
    heard = phase != "reserved" and not rig.cell["task_acks_late"]
    rig.queue.holds(ready=0, unacked=WAITING + int(not heard))
    rig.inject(close_connections(rig), moment)
    worker.resumes()
    worker.release()
    rig.settle()


@connection_closed.expects
def expected(cell: Cell) -> Expectation:
    phase, how = cell.params["phase"], cell.params["acknowledgement"]
    if phase == "reserved":
        target, because = "redelivered", "the worker forgets what it has not begun"
    elif how == "early":
        target, because = "once", "it was acknowledged before it started, and its run goes on"
    elif how == "late+cancel" and phase == "running":
        target, because = "redelivered", "the worker ends the first run when it has lost the connection"
    else:
        target, because = "duplicated", "its first run goes on, and it is delivered again all the same"
    return Expectation(
        outcomes={"target": {target: 1}, "waiting": {"redelivered": WAITING}},
        because=because,
        source="celery 5.7.0 worker/consumer/consumer.py: on_connection_error_after_connected, on_close",
        surprise=AT_ONCE if cell.broker == "redis" and target != "once" else None,
    )


AT_ONCE = Surprise(
    documented="Redis: a task that is not acknowledged is delivered again after the visibility timeout",
    observed="a worker that loses its connection puts its own unacknowledged tasks back at once, the one "
    "that it still runs among them",
    source="https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html"
    "#visibility-timeout; kombu 5.7.0 transport/virtual/base.py: Channel.close, restore_unacked_once",
)
