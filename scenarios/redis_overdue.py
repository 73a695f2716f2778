"""A worker died on Redis, and one of some pool is there, which does or does not look for what is overdue.

In production: every worker of a queue runs greenlets, one is killed, and its tasks wait in ``unacked``. The
visibility timeout passes; who looks for what is overdue is a worker's own loop.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, kill, scenario

AHEAD = 2
STILL_THERE_AFTER = 12  # seconds, in which a loop that looks once a second has looked ten times
OVERDUE = {
    "task_acks_late": True,
    "broker_transport_options.visibility_timeout": 1,
    "broker_transport_options.unacked_restore_interval": 1,
    "broker_transport_options.unacked_restore_throttle": 1,
}
#: The victim itself looks no more once it consumes: killed while it looks, it would leave a lock behind that
#: keeps every other worker from looking for 300 s (kombu 5.7.0 transport/redis.py: unacked_mutex_expire).
LOOKS_ONCE = {"worker_pool": "prefork", "broker_transport_options.unacked_restore_interval": 3600}
POOL = Axis(
    "pool",
    {
        "prefork": {"worker_pool": "prefork", **OVERDUE},
        "threads": {"worker_pool": "threads", **OVERDUE},
        "solo": {"worker_pool": "solo", **OVERDUE},
        "gevent": {"worker_pool": "gevent", **OVERDUE},
        "gevent+polling": {
            "worker_pool": "gevent",
            **OVERDUE,
            "broker_transport_options.polling_interval": 3,
        },
    },
)


@scenario(
    "redis-overdue",
    asks="A worker died, and its tasks are overdue on Redis. Does a worker of each pool take them back?",
    vary=[POOL],
)
def redis_overdue(rig: Rig) -> None:
    victim = rig.worker("victim", hold="running", settings=LOOKS_ONCE)
    [target] = rig.publish("target")
    rig.publish("ahead", AHEAD)
    moment = victim.reaches("running", target)
    victim.prefetches(1 + AHEAD)
    rig.inject(kill(victim), moment)
    rig.worker("rescuer")
    rig.settle(STILL_THERE_AFTER)


@redis_overdue.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "rabbitmq":
        return "RabbitMQ gives back at once what a dead worker's connection held: nothing is ever overdue"
    if cell["worker_pool"] == "gevent" and not cell.celery_is_at_least(5, 3):
        return "the worker image has no gevent for a Celery before 5.3"
    return None


@redis_overdue.expects
def expected(cell: Cell) -> Expectation:
    """Only who looks finds."""
    never = cell.params["pool"] == "gevent"
    fate = "stranded" if never else "redelivered"
    return Expectation(
        outcomes={"target": {fate: 1}, "ahead": {fate: AHEAD}},
        because=(
            "without an event loop a worker looks only when nothing at all came from Redis for 2 s, and the "
            "answer to BRPOP, a null, comes every second"
            if never
            else "a worker looks for what is overdue"
        ),
        source="kombu 5.7.0 transport/redis.py: MultiChannelPoller.get, Channel._brpop_read, brpop_timeout; "
        "celery 5.7.0 worker/loops.py: synloop",
        surprise=NOBODY_LOOKS if never else None,
    )


NOBODY_LOOKS = Surprise(
    documented="Redis: a task that is not acknowledged within the visibility timeout is delivered to another "
    "worker",
    observed="a worker of greenlets never looks for what is overdue while it is idle: where all workers are, "
    "a dead worker's tasks stay in unacked for good",
    source="https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html"
    "#visibility-timeout; https://github.com/celery/celery/issues/4976",
)
