"""The power of the broker's machine fails right after tasks were published.

In production: a host that loses its power, a kernel panic, a virtual machine that is reset. Whatever the
broker wrote and did not fsync is gone. A killed process is another story: the kernel still writes for it.
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

OTHERS = 9
SOON, ONE_SECOND, TWO_SECONDS = 200, 1000, 2000  # milliseconds

END = Axis.of("end", "power", "crash", "stop")
AFTER = Axis.of("after", "0ms", "50ms", "200ms", "1000ms", "2000ms", core=("0ms",))


@scenario(
    "power-cut",
    asks="The power of the broker fails right after a task was published. Is the task lost?",
    vary=[END, CONFIRM, AFTER, FILE_SYSTEM],
    disk=True,
)
def power_cut(rig: Rig) -> None:
    earlier = rig.publisher("earlier", settings=CONFIRM.choices["confirmed"])
    rig.publish("synced", by=earlier)
    rig.queue.age()
    rig.sync()
    rig.publish("others", OTHERS, wait=False)
    rig.publish("target")
    rig.let_pass(milliseconds(rig.cell) / 1000)
    rig.heal(rig.inject(end_broker(rig, rig.cell.params["end"])))
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@power_cut.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["confirm"] == "confirmed":
        return "Redis has no publisher confirms: the answer to LPUSH is all that a publisher is told"
    if cell.params["end"] == "stop" and cell.params["after"] != "0ms":
        return "a broker that ends in good order writes all that it has: time makes no difference"
    if cell.params["end"] != "power" and cell.params["disk"] != "ext4":
        return "what a process has written outlives it on any file system"
    return None


@power_cut.expects
def expected(cell: Cell) -> Expectation:
    kept, because, source = {"redis": redis_keeps, "rabbitmq": rabbitmq_keeps}[cell.broker](cell)
    early = "lost" if keeps_nothing(cell) else "once"
    fate = "lost" if kept is False else "once"
    lucky = ("once", "lost")
    return Expectation(
        outcomes={"target": {fate: 1}, "others": {fate: OTHERS}, "synced": {early: 1}},
        luck={"target": lucky, "others": lucky} if kept is None else {},
        because=because,
        source=source,
        surprise=NOT_FSYNCED if confirmed_and_lost(cell, kept) else None,
    )


def confirmed_and_lost(cell: Cell, kept: bool | None) -> bool:
    """Whether a broker that confirms a durable message has lost it all the same."""
    return kept is False and cell.params["confirm"] == "confirmed" and not keeps_nothing(cell)


def milliseconds(cell: Cell) -> int:
    """How long after the last publish was answered the end comes: the experiment's own variable."""
    return int(cell.params["after"].removesuffix("ms"))


def keeps_nothing(cell: Cell) -> bool:
    """Whether the disk never gets anything, however long ago it was published."""
    no_snapshot_yet = cell.profile.startswith("redis-rdb") and cell.params["end"] != "stop"
    return no_snapshot_yet or cell.profile.startswith(("redis-none", "rabbitmq-transient"))


def redis_keeps(cell: Cell) -> tuple[bool | None, str, str]:
    """Whether what Redis answered is there again, why, and who says so; ``None`` is luck."""
    policy, end = cell.profile.partition("@")[0].removeprefix("redis-"), cell.params["end"]
    source = "redis 8.0 src/aof.c: flushAppendOnlyFile"
    if keeps_nothing(cell):
        return False, "it was in the memory of the process only", "redis 8.0 src/server.c: serverCron"
    if policy == "aof-always" or end == "stop":
        return True, "it was on the disk before Redis answered, or before it ended", source
    if policy == "aof-no":
        return end != "power", "it was written before the answer, and the kernel decides when next", source
    if end == "power" and milliseconds(cell) < TWO_SECONDS:
        return None, "an fsync is due a second after the last one, and another thread does it", source
    if end == "crash" and milliseconds(cell) < ONE_SECOND:
        return None, "while an fsync is under way Redis answers and keeps it in its memory", source
    return True, "the fsync of that second has ended", source


def rabbitmq_keeps(cell: Cell) -> tuple[bool | None, str, str]:
    """The same for RabbitMQ."""
    if keeps_nothing(cell):
        return False, "a transient queue goes with its server", "rabbitmq.com/docs/queues#durability"
    if cell.params["end"] == "stop":
        return True, "a server that ends in good order writes all", CLASSIC_V2
    queue = quorum_keeps if cell.profile.startswith("rabbitmq-quorum") else classic_keeps
    return queue(cell, confirmed=cell.params["confirm"] == "confirmed")


def quorum_keeps(cell: Cell, *, confirmed: bool) -> tuple[bool | None, str, str]:
    source = "ra 2.14.0 src/ra_log_wal.erl: sync_method datasync"
    if confirmed or milliseconds(cell) >= SOON:
        return True, "a quorum queue confirms after fdatasync of its write-ahead log", source
    return None, "nobody waited for the write-ahead log", source


def classic_keeps(cell: Cell, *, confirmed: bool) -> tuple[bool | None, str, str]:
    if cell.profile.endswith(("@3.8", "@3.10")):
        because = "the journal of the queue is fsynced before a confirm, and when idle for 200 ms"
        return True if confirmed else None, because, CLASSIC_V1
    if cell.params["end"] == "power":
        return False, "RabbitMQ 4.0 calls no fsync before it confirms, nor soon after", CLASSIC_V2
    if confirmed:
        return True, "the kernel had it before the confirm, and a dead process does not undo that", CLASSIC_V2
    return None, UNWRITTEN, CLASSIC_V2


CLASSIC_V1 = "rabbitmq 3.10.8 deps/rabbit/src/rabbit_queue_index.erl: needs_sync, sync"
CLASSIC_V2 = (
    "rabbitmq 4.0.5 deps/rabbit/src/rabbit_classic_queue_store_v2.erl: sync; rabbit_variable_queue.erl: "
    "needs_timeout, handle_pre_hibernate"
)
UNWRITTEN = (
    "a message that nobody waits for is written when its queue has been idle for a second or more, or when "
    "some thousand have come"
)
NOT_FSYNCED = Surprise(
    documented="RabbitMQ: a confirm of a persistent message in a durable queue means persisting to disk",
    observed="a confirmed message in a durable classic queue of RabbitMQ 4.0 does not survive a power cut "
    "two seconds later; in a quorum queue, and in RabbitMQ 3.10, it does",
    source="https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed; what happens is told in "
    "https://www.rabbitmq.com/blog/2025/01/17/how-are-the-messages-stored#what-about-fsync",
)
