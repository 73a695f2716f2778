"""The append-only file of Redis is damaged when its server crashes.

In production: a disk that was full, a power cut in the middle of a write, a bad sector. The file may be
truncated in the middle of a command, or corrupted: there are zeroes where a command was, or in its message.
The file has no checksums, so what Redis finds wrong depends on where the damage lies.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, crash_broker, damage_log, scenario

OTHERS = 9

TAIL = Axis.of("tail", "truncated", "corrupted", "middle", "garbled")


@scenario(
    "aof-damaged",
    asks="Redis crashes, and its append-only file is damaged. Which tasks are lost, and does it start?",
    vary=[TAIL],
    own_broker=True,
    durability=True,
)
def aof_damaged(rig: Rig) -> None:
    tail = rig.cell.params["tail"]
    rig.publish("others", OTHERS)
    [target] = rig.publish("target")
    if tail == "middle":
        rig.publish("behind", OTHERS)
    rig.write_out()
    crash = rig.inject(crash_broker(rig))
    if tail in ("corrupted", "middle"):
        rig.heal(rig.inject(damage_log(rig, "corrupted", target, mend=True)))
    else:
        rig.inject(damage_log(rig, tail, target))
    rig.heal(crash)
    if tail == "garbled":
        rig.worker("first").exits()
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@aof_damaged.cannot
def cannot(cell: Cell) -> str | None:
    if not cell.profile.startswith("redis-aof"):
        return "only Redis with appendonly yes has an append-only file"
    return None


@aof_damaged.expects
def expected(cell: Cell) -> Expectation:
    return {"truncated": truncated, "corrupted": corrupted, "middle": middle, "garbled": garbled}[
        cell.params["tail"]
    ]()


def truncated() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}, "others": {"once": OTHERS}},
        because="Redis starts by itself and drops the command that is not whole (aof-load-truncated yes)",
        source="redis 8.0 src/aof.c: loadSingleAppendOnlyFile, uxeof",
    )


def corrupted() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}, "others": {"once": OTHERS}},
        because="Redis refuses to start until redis-check-aof --fix has cut the file before the damage",
        source="redis 8.0 src/aof.c: loadSingleAppendOnlyFile, fmterr; src/redis-check-aof.c: checkSingleAof",
    )


def middle() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}, "others": {"once": OTHERS}, "behind": {"lost": OTHERS}},
        because="redis-check-aof --fix cuts the file where the damage begins: all that is behind it goes too",
        source="redis 8.0 src/redis-check-aof.c: checkSingleAof",
    )


def garbled() -> Expectation:
    """What the worker has fetched when it ends comes back; how much that is, is a race."""
    return Expectation(
        outcomes={"target": {"lost": 1}, "others": {"once": OTHERS}},
        luck={"others": ("once", "redelivered")},
        facts={"exits": "first 1"},
        because="Redis starts without a word; the worker that pops what is no JSON ends, and it is gone",
        source="redis 8.0 src/aof.c: loadSingleAppendOnlyFile; kombu 5.7.0 transport/redis.py: _brpop_read",
        surprise=Surprise(
            documented="Redis: a corrupted append-only file makes the server abort when it loads it",
            observed="only where the damage hits what says how long things are: in a message, zeroes are "
            "loaded as if they had been written, and end the worker that takes them",
            source="https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/"
            "#what-should-i-do-if-my-aof-gets-corrupted; redis 8.0 src/aof.c: loadSingleAppendOnlyFile",
        ),
    )
