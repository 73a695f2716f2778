"""The power of the broker's machine fails right after a worker acknowledged its task.

In production: a host that loses its power, a kernel panic, a virtual machine that is reset. The worker
has done its work and said so; what the broker wrote of that and did not fsync is gone.
"""

from lab import (
    CONFIRM,
    FILE_SYSTEM,
    Axis,
    Cell,
    Expectation,
    Rig,
    Surprise,
    end_broker,
    scenario,
)

SOON, ONE_SECOND, TWO_SECONDS = 200, 1000, 2000  # milliseconds

END = Axis.of("end", "power", "crash", "stop")
AFTER = Axis.of("after", "0ms", "50ms", "200ms", "1000ms", "2000ms", core=("0ms",))


@scenario(
    "power-cut-ack",
    asks="The power of the broker fails right after a task was acknowledged. Does the task run again?",
    vary=[END, AFTER, FILE_SYSTEM],
    disk=True,
)
def power_cut_ack(rig: Rig) -> None:
    worker = rig.worker("worker", hold="reserved")
    [target] = rig.publish("target", by=rig.publisher("earlier", settings=CONFIRM.choices["confirmed"]))
    worker.reaches("reserved", target)
    rig.queue.age()
    rig.sync()
    worker.release()
    worker.says("finished", target)
    worker.says("acknowledged", target)
    rig.let_pass(milliseconds(rig.cell) / 1000)
    fault = rig.inject(end_broker(rig, rig.cell.params["end"]))
    worker.says("disconnected")
    rig.heal(fault)
    worker.resumes()
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@power_cut_ack.cannot
def cannot(cell: Cell) -> str | None:
    if cell.params["end"] == "stop" and cell.params["after"] != "0ms":
        return "a broker that ends in good order writes all that it has: time makes no difference"
    if cell.params["end"] != "power" and cell.params["disk"] != "ext4":
        return "what a process has written outlives it on any file system"
    return None


@power_cut_ack.expects
def expected(cell: Cell) -> Expectation:
    again, because, source = {"redis": redis_forgets, "rabbitmq": rabbitmq_forgets}[cell.broker](cell)
    lost_power = cell.params["end"] == "power"
    surprise = FORGOTTEN if again is None and lost_power and cell.profile == "rabbitmq-classic" else None
    return Expectation(
        outcomes={"target": {"once" if again is False else "duplicated": 1}},
        luck={"target": ("duplicated", "once")} if again is None else {},
        because=because,
        source=source,
        surprise=surprise,
    )


def milliseconds(cell: Cell) -> int:
    """How long after the acknowledgement the end comes: the experiment's own variable."""
    return int(cell.params["after"].removesuffix("ms"))


def redis_forgets(cell: Cell) -> tuple[bool | None, str, str]:
    """Whether Redis has the task again after the end, why, and who says so; ``None`` is luck."""
    policy, end = cell.profile.partition("@")[0].removeprefix("redis-"), cell.params["end"]
    source = "kombu 5.7.0 transport/redis.py: QoS.ack; redis 8.0 src/aof.c: flushAppendOnlyFile"
    if policy in ("none", "rdb"):
        return False, "nothing is left of the task either, or the snapshot of the stop has all", source
    if policy == "aof-always" or end == "stop":
        return (
            False,
            "the removal from the hash unacked was on the disk before Redis answered or ended",
            source,
        )
    if policy == "aof-no":
        return end == "power", "the removal from the hash unacked was written, and not yet fsynced", source
    if end == "power" and milliseconds(cell) < TWO_SECONDS:
        return None, "an fsync is due a second after the last one, and another thread does it", source
    if end == "crash" and milliseconds(cell) < ONE_SECOND:
        return None, "while an fsync is under way Redis answers and keeps it in its memory", source
    return False, "the fsync of that second has ended", source


def rabbitmq_forgets(cell: Cell) -> tuple[bool | None, str, str]:
    """The same for RabbitMQ."""
    end = cell.params["end"]
    if cell.profile.startswith("rabbitmq-transient"):
        return False, "nothing is left of the task either", "https://www.rabbitmq.com/docs/queues#durability"
    if end == "stop":
        return False, "a server that ends in good order writes all", INDEX_V2
    if cell.profile.startswith("rabbitmq-quorum"):
        return quorum_forgets(cell)
    return classic_forgets(cell)


def classic_forgets(cell: Cell) -> tuple[bool | None, str, str]:
    if cell.profile.endswith(("@3.8", "@3.10")):
        return None, "the journal of the queue is fsynced when it has been idle for 200 ms", INDEX_V1
    if cell.params["end"] == "power":
        return None, f"{LAST_OF_SEGMENT}: it is back unless the journal was committed meanwhile", INDEX_V2
    if milliseconds(cell) < SOON:
        return None, "nobody waits for the broker to have read an acknowledgement", INDEX_V2
    return False, f"{LAST_OF_SEGMENT}, which a dead process does not undo", INDEX_V2


def quorum_forgets(cell: Cell) -> tuple[bool | None, str, str]:
    source = "ra 2.14.0 src/ra_log_wal.erl: sync_method datasync"
    if milliseconds(cell) >= SOON:
        return False, "the acknowledgement is in the write-ahead log, which is fsynced at once", source
    return None, "nobody waits for the write-ahead log to have an acknowledgement", source


INDEX_V2 = (
    "rabbitmq 4.0.5 deps/rabbit/src/rabbit_classic_queue_index_v2.erl: update_ack_state, delete_segment"
)
INDEX_V1 = "rabbitmq 3.10.8 deps/rabbit/src/rabbit_queue_index.erl: needs_sync, sync"
LAST_OF_SEGMENT = "the acknowledgement of the last message in a segment removes its file, without fsync"
FORGOTTEN = Surprise(
    documented="commonly said: what was acknowledged is gone from the queue for good",
    observed="a power cut two seconds after the acknowledgement may bring the task back, and it runs again",
    source=INDEX_V2,
)
