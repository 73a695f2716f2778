"""The disk of the broker has no room left.

In production: a log that nobody rotates, a volume that was sized for a quiet month. A Redis that keeps its
data on a disk then refuses every write, and to take a task, or to acknowledge one, is a write too.
"""

from lab import Axis, Cell, Expectation, Rig, fill_disk, scenario

LATE = {"task_acks_late": True, "worker_prefetch_multiplier": 1}

PHASE = Axis("phase", {"published": {}, "running": LATE})
REFUSED = Axis(
    "refused",
    {"ends": {"broker_channel_error_retry": False}, "retries": {"broker_channel_error_retry": True}},
)


@scenario(
    "disk-full",
    asks="The disk of the broker is full. Is a task refused, can one be acknowledged, do workers live on?",
    vary=[PHASE, REFUSED],
    disk=True,
)
def disk_full(rig: Rig) -> None:
    worker = rig.worker("worker", hold="running", only="target")
    [before] = rig.publish("before")
    worker.says("acknowledged", before)
    if rig.cell.params["phase"] == "published":
        full = rig.inject(fill_disk(rig))
        rig.publish("target")
    else:
        [target] = rig.publish("target")
        full = rig.inject(fill_disk(rig), worker.reaches("running", target))
        worker.release()
        worker.says("finished", target)
    if ends_redis(rig.cell):
        rig.broker_exits()
    if ends_worker(rig.cell):
        worker.exits()
    else:
        worker.says("disconnected")
    rig.heal(full)
    if not ends_worker(rig.cell):
        worker.resumes()
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


def ends_redis(cell: Cell) -> bool:
    """Whether Redis itself does not outlive a full disk."""
    return cell.profile.startswith("redis-aof-always")


def ends_worker(cell: Cell) -> bool:
    """Whether the worker is told of an error that it takes for the end."""
    return cell.params["refused"] == "ends" and not ends_redis(cell)


@disk_full.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker != "redis":
        return "RabbitMQ refuses nothing: it blocks, ends or falls silent, see rabbitmq-disk-full"
    if cell.profile.startswith("redis-none"):
        return "a Redis that writes nothing does not mind a full disk"
    if ends_redis(cell) and cell.params["phase"] == "running":
        return "Redis ends there: what becomes of a running task then is told by broker-crash"
    if ends_redis(cell) and cell.params["refused"] == "retries":
        return "Redis ends there, and refuses nothing: a connection that is lost is looked for in any case"
    return None


@disk_full.expects
def expected(cell: Cell) -> Expectation:
    return {"published": published, "running": running}[cell.params["phase"]](cell)


def published(cell: Cell) -> Expectation:
    if ends_redis(cell):
        return Expectation(
            outcomes={"target": {"refused": 1}, "before": {"once": 1}},
            facts={"exits": "broker 1"},
            because="with appendfsync always Redis ends rather than answer for what it could not write",
            source="redis 8.0 src/aof.c: flushAppendOnlyFile",
        )
    return Expectation(
        outcomes={"target": {"refused": 1}, "before": {"once": 1}},
        facts={"exits": "worker 1"} if ends_worker(cell) else {},
        because=f"LPUSH is refused with MISCONF, and so is the next BRPOP: {what_the_worker_does(cell)}",
        source=f"{MISCONF}; celery 5.7.0 worker/consumer/consumer.py: start",
    )


def running(cell: Cell) -> Expectation:
    return Expectation(
        outcomes={"target": {"duplicated": 1}, "before": {"once": 1}},
        facts={"exits": "worker 1"} if ends_worker(cell) else {},
        because="the task is done, its acknowledgement is refused with MISCONF, and so it comes back: "
        f"{what_the_worker_does(cell)}",
        source=f"{MISCONF}; kombu 5.7.0 transport/redis.py: QoS.ack; message.py: ack_log_error",
    )


def what_the_worker_does(cell: Cell) -> str:
    """Redis takes writes again by itself when there is room; not every worker is there to see it."""
    if ends_worker(cell):
        return (
            "to the worker that is an error of the channel, and it ends (broker_channel_error_retry is off)"
        )
    return "the worker connects again until there is room (broker_channel_error_retry)"


MISCONF = "redis 8.0 src/server.c: writeCommandsDeniedByDiskError"
