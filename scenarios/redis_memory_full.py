"""Redis has reached its memory limit, and evicts nothing.

In production: results that nobody reads, a backlog, a cache on the same server. ``noeviction`` is the
policy that Redis is shipped with: it refuses what may need memory, and goes on with everything else.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, fill_memory, scenario

PHASE = Axis.of("phase", "published", "running", "queued")
ONE_AT_A_TIME = {"worker_prefetch_multiplier": 1}


@scenario(
    "redis-memory-full",
    asks="Redis has no memory left. Is a task refused, can it be acknowledged, is one that waits lost?",
    vary=[PHASE, EARLY_OR_LATE],
    own_broker=True,
)
def redis_memory_full(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    if phase == "published":
        full = rig.inject(fill_memory(rig))
        rig.publish("target")
    else:
        worker = rig.worker("worker", hold="running", settings=ONE_AT_A_TIME)
        [first] = rig.publish("target" if phase == "running" else "first")
        moment = worker.reaches("running", first)
        if phase == "queued":
            [target] = rig.publish("target")
            rig.queue.has(target)
        full = rig.inject(fill_memory(rig), moment)
        worker.release()
        worker.says("acknowledged", first)
        if phase == "queued":
            worker.exits()
    rig.heal(full)
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@redis_memory_full.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker != "redis":
        return "RabbitMQ blocks its publishers instead, which is another story"
    if cell.params["phase"] == "queued" and not cell["task_acks_late"]:
        return "a worker that acknowledges early has fetched the next task before the memory is full"
    return None


@redis_memory_full.expects
def expected(cell: Cell) -> Expectation:
    return {"published": published, "running": running, "queued": queued}[cell.params["phase"]]()


def published() -> Expectation:
    return Expectation(
        outcomes={"target": {"refused": 1}},
        because="LPUSH may need memory, so it is refused, and the publisher gets the error",
        source="redis 8.0 src/commands/lpush.json: DENYOOM",
    )


def running() -> Expectation:
    return Expectation(
        outcomes={"target": {"once": 1}},
        because="an acknowledgement only removes, which Redis never refuses",
        source="kombu 5.7.0 transport/redis.py: QoS.ack; redis 8.0 src/commands/hdel.json: no DENYOOM",
    )


def queued() -> Expectation:
    """BRPOP frees memory and is not refused; what must follow needs memory, and is."""
    return Expectation(
        outcomes={"target": {"lost": 1}, "first": {"once": 1}},
        facts={"exits": "worker 1"},
        because="the worker pops the task, may not write it to the hash unacked, and ends with that error",
        source="kombu 5.7.0 transport/redis.py: _brpop_read, QoS.append; celery 5.7.0 "
        "worker/consumer/consumer.py: start (broker_channel_error_retry is off)",
        surprise=Surprise(
            documented="Redis: under noeviction the data that it has is safe, only new data is refused; "
            "Celery: with task_acks_late a task is lost only when it was acknowledged",
            observed="every worker that takes a task from a full Redis loses that task, and ends",
            source="https://redis.io/docs/latest/develop/reference/eviction/; "
            "kombu 5.7.0 transport/redis.py: QoS.append",
        ),
    )
