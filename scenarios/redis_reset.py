"""A worker's connections to Redis are reset while it runs a task, and for a moment no new one is let through.

In production: a proxy or a firewall in front of Redis that restarts, a managed Redis that fails over. A
worker that may connect again at once is told in connection-closed and flap.
"""

from lab import EARLY_OR_LATE, Cell, Expectation, Rig, Surprise, cut_wire, scenario


@scenario(
    "redis-reset",
    asks="A worker's connections to Redis are reset, and refused for a moment. Does it come back?",
    vary=[EARLY_OR_LATE],
)
def redis_reset(rig: Rig) -> None:
    wire = rig.proxy()
    worker = rig.worker("worker", hold="running", through=wire)
    [target] = rig.publish("target")
    moment = worker.reaches("running", target)
    fault = rig.inject(cut_wire(wire), moment)
    worker.says("disconnected")
    rig.heal(fault)
    worker.release()
    if worker.resumes():
        worker.says("acknowledged", target)
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@redis_reset.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "rabbitmq":
        return "a worker on RabbitMQ has nothing to put back by itself when it loses its connection: see flap"
    return None


@redis_reset.expects
def expected(cell: Cell) -> Expectation:
    late = cell["task_acks_late"]
    return Expectation(
        outcomes={"target": {"once": 1}},
        luck={"target": ("once", "duplicated")} if late else {},
        facts={"exits": ("", "worker 1")} if late else {},
        because=(
            "once if the worker comes back, for any connection may bring its acknowledgement; twice if the "
            "worker ends, as it does if it reads the error of its pub/sub connection before that of BRPOP"
            if late
            else "acknowledged before it started: the worker has nothing to put back, and comes back"
        ),
        source="kombu 5.7.0 connection.py: collect; transport/redis.py: Channel.close reads BRPOP first; "
        "celery 5.7.0 worker/consumer/consumer.py: on_connection_error_after_connected",
        surprise=THE_WORKER_ENDS if late else None,
    )


THE_WORKER_ENDS = Surprise(
    documented="broker_connection_retry: a worker that lost its connection tries to connect again",
    observed="a worker on Redis with an unacknowledged task may end instead, with exit code 1 (4 of 10), "
    "and the task runs twice: to put it back, it closes the channel again when the connection is taken apart "
    "already (AttributeError: 'NoneType' object has no attribute 'hostname')",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#broker-connection-retry; "
    "kombu 5.7.0 transport/redis.py: _connparams; celery 5.7.0 worker/worker.py: start",
)
