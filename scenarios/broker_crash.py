"""The broker dies and starts again.

In production: a broker's host that reboots, an out-of-memory kill, an upgrade of the broker. A power cut
is another story: here everything that the broker has written to a file survives. Redis may keep in its
memory what it answered while an fsync is under way: that is waited for here, and counted in power-cut.
"""

from lab import (
    CONFIRM,
    EARLY_OR_LATE,
    Axis,
    Cell,
    Expectation,
    Rig,
    Surprise,
    end_broker,
    scenario,
)

WAITING = 3
UNREACHABLE = 25  # seconds: four attempts to connect to the address of a host that is gone take twelve

END = Axis.of("end", "crash", "stop")
PHASE = Axis.of("phase", "running", "queued", "reserved", "finished", core=("running",))


@scenario(
    "broker-crash",
    asks="The broker dies and comes back. Are tasks lost, do they run twice, does the worker consume again?",
    vary=[EARLY_OR_LATE, CONFIRM, END, PHASE],
    own_broker=True,
    durability=True,
)
def broker_crash(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    end = rig.cell.params["end"]
    [target] = rig.publish("target")
    rig.queue.age()
    if phase == "queued":
        moment = rig.queue.has(target)
        rig.publish("waiting", WAITING)
        rig.write_out()
        rig.heal(rig.inject(end_broker(rig, end), moment))
    else:
        worker = rig.worker("worker", hold=phase)
        moment = worker.reaches(phase, target)
        rig.publish("waiting", WAITING)
        worker.prefetches(1 + WAITING)
        rig.queue.holds(ready=0, unacked=WAITING + int(not acknowledged(rig.cell)))
        rig.write_out()
        if worker_ends(rig.cell):
            rig.queue.is_polled()
        fault = rig.inject(end_broker(rig, end), moment)
        worker.says("disconnected", seconds=UNREACHABLE)
        rig.heal(fault)
        worker.release()
        if worker.resumes() and outlives_connection(rig.cell):
            worker.says("acknowledged", target)
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@broker_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["confirm"] == "confirmed":
        return "Redis has no publisher confirms: the answer to LPUSH is all that a publisher is told"
    return None


@broker_crash.expects
def expected(cell: Cell) -> Expectation:
    kept = broker_keeps(cell)
    phase, late = cell.params["phase"], cell["task_acks_late"]
    waiting = "once" if phase == "queued" else "redelivered"
    lucky = {"waiting": (waiting, "lost")}
    if phase in ("queued", "reserved"):
        target, because = (
            waiting,
            "the worker forgets what it has not begun, and the broker delivers it again",
        )
        lucky["target"] = (target, "lost")
    elif late and cell.broker == "rabbitmq":
        target, because = (
            "duplicated",
            "it cannot be acknowledged on another connection, so it is delivered again",
        )
        lucky["target"] = (target, "once")
    else:
        target, because = "once", "its run goes on without the broker"
        if late:
            because = "on Redis an acknowledgement names the delivery, and any connection may bring it"
        if forgets_acknowledgement(cell):
            lucky["target"] = (target, "duplicated")
            because += "; what the broker heard last, an acknowledgement too, may not be in a file yet"
    if kept is False:
        target, waiting = lucky.get("target", (target, target))[1], "lost"
        because = "the broker kept nothing; only what a process had begun went on"
    return Expectation(
        outcomes={"target": {target: 1}, "waiting": {waiting: WAITING}},
        luck=lucky if kept is None else {"target": lucky["target"]} if forgets_acknowledgement(cell) else {},
        because=because,
        source="celery 5.7.0 worker/consumer/consumer.py: on_close; kombu 5.7.0 transport/redis.py: QoS.ack",
        facts={"exits": "worker 1" if worker_ends(cell) else ""},
        surprise=WORKER_ENDS if worker_ends(cell) else UNCONFIRMED if kept is None else None,
    )


def acknowledged(cell: Cell) -> bool:
    """Whether the target is acknowledged when the broker ends."""
    return cell.params["phase"] in ("running", "finished") and not cell["task_acks_late"]


def forgets_acknowledgement(cell: Cell) -> bool:
    """Whether it is luck that the broker still knows of one (rabbit_classic_queue_index_v2.erl)."""
    classic = cell.profile.startswith("rabbitmq-classic")
    return classic and cell.params["end"] == "crash" and acknowledged(cell)


def worker_ends(cell: Cell) -> bool:
    """Whether the worker ends: it waits for more work from Redis, with work that it has not acknowledged.

    An early acknowledgement of the target leaves its prefetch window one task short of full.
    """
    return cell.broker == "redis" and acknowledged(cell)


def outlives_connection(cell: Cell) -> bool:
    """Whether the target is acknowledged on another connection than that which brought it."""
    begun = cell.params["phase"] in ("running", "finished")
    return cell.broker == "redis" and begun and bool(cell["task_acks_late"])


def broker_keeps(cell: Cell) -> bool | None:
    """Whether the messages outlive the broker's process; ``None`` where that is a matter of milliseconds."""
    if cell.profile.startswith(("redis-none", "rabbitmq-transient")):
        return False
    if cell.profile.startswith("redis-rdb"):  # a snapshot is written by a stop; no other is due yet
        return cell.params["end"] == "stop"
    asked = cell.params["end"] == "stop" or cell.broker == "redis"
    return True if asked or cell.params["confirm"] == "confirmed" else None


UNCONFIRMED = Surprise(
    documented="RabbitMQ: a persistent message in a durable queue survives a restart of the broker",
    observed="one published less than a second or two before a crash may be lost, unless its "
    "publisher waits for confirms; Celery's default is not to wait",
    source="https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed; kombu 5.7.0 "
    "transport/pyamqp.py: confirm_publish",
)
WORKER_ENDS = Surprise(
    documented="broker_connection_retry: the worker tries to connect to the broker again if it is lost",
    observed="a worker whose Redis dies while it could take more work ends with an AttributeError and exit "
    "code 1; one that has all it may prefetch connects again",
    source="docs.celeryq.dev, configuration; celery 5.7.0 worker/consumer/consumer.py: "
    "on_connection_error_after_connected; kombu 5.7.0 transport/redis.py: Channel.close, _connparams",
)
