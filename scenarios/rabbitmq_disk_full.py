"""The disk of RabbitMQ has no room left, and its alarm has not seen that yet.

In production: something else on the same disk takes the last of it between two looks of the alarm, which are
up to ten seconds apart. After the alarm nothing is published any more: that is told by rabbitmq-alarm.
"""

from lab import CONFIRM, Cell, Expectation, Rig, Surprise, crash_broker, fill_disk, scenario

WAITING = 3
#: More than the last block of the file has room for, and less than what a classic queue keeps in another file
#: (4096 bytes: ``queue_index_embed_msgs_below``). It is a header of the task.
SOME, MUCH = "x" * 2_500, "x" * 65_536


@scenario(
    "rabbitmq-disk-full",
    asks="The disk of RabbitMQ is full before its alarm looks. What is a publisher told, and what is lost?",
    vary=[CONFIRM],
    disk=True,
)
def rabbitmq_disk_full(rig: Rig) -> None:
    rig.publish("waiting", WAITING, by=rig.publisher("earlier", settings=CONFIRM.choices["confirmed"]))
    rig.queue.age()
    rig.sync()
    web, other = rig.publisher("web"), rig.publisher("other", settings=CONFIRM.choices["unconfirmed"])
    full = rig.inject(fill_disk(rig))
    if is_quorum(rig.cell):
        [target] = rig.publish("target", by=web, wait=False, argsrepr=MUCH)
        rig.queue.is_given_up()
        rig.heal(full)
        rig.publish("afterwards", by=other)  # there is room again, and that alone does not help
        rig.queue.is_given_up()
        crash = rig.inject(crash_broker(rig))
        web.was_told([target])
        rig.heal(crash)
    else:
        [target] = rig.publish("target", by=web, wait=False, argsrepr=SOME)
        rig.broker_exits()
        web.was_told([target])
        rig.heal(full)
    rig.worker("later")
    rig.settle()


def is_quorum(cell: Cell) -> bool:
    """Whether the queue keeps a log of its own, which is Ra's."""
    return cell.profile.startswith("rabbitmq-quorum")


@rabbitmq_disk_full.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis has no alarm: see disk-full"
    if cell.profile == "rabbitmq-quorum@3.8":
        return "RabbitMQ 3.8 has another Ra, which the lab does not ask"
    if cell.profile.startswith("rabbitmq-transient"):
        return "a transient queue keeps its tasks in memory until it has many"
    return None


@rabbitmq_disk_full.expects
def expected(cell: Cell) -> Expectation:
    confirmed, quorum = cell.params["confirm"] == "confirmed", is_quorum(cell)
    told = "ok" if not confirmed else "nothing" if quorum else "failed"
    outcomes = {"target": {"refused" if confirmed else "lost": 1}, "waiting": {"once": WAITING}}
    return Expectation(
        outcomes=outcomes | ({"afterwards": {"lost": 1}} if quorum else {}),
        facts={"told_during": told, "exits": "" if quorum else "broker 1"},
        because=f"{QUORUM if quorum else CLASSIC}; {TOLD if confirmed else UNTOLD}; what waited is kept",
        source="https://github.com/rabbitmq/ra/issues/585" if quorum else CLASSIC_SOURCE,
        surprise=GIVEN_UP if quorum else None,
    )


CLASSIC = "the process that writes the queue ends on the error, and takes the server with it"
CLASSIC_SOURCE = "https://www.rabbitmq.com/docs/disk-alarms#overview (it can lead to RabbitMQ termination)"
QUORUM = "Ra ends on the error again and again, and is then given up, while the server runs on"
TOLD = "a publisher that waits for its confirm gets an error when the server has ended"
UNTOLD = "the publisher was told ok when the task was in a socket"
GIVEN_UP = Surprise(
    documented="RabbitMQ: a full disk fails all writes and can lead to termination; the alarm is over when "
    "there is room again",
    observed="a quorum queue ends where the server does not: no quorum queue of that server takes or gives a "
    "message any more, publishers without confirms are told ok, and room on the disk does not bring it back, "
    "only a restart does",
    source="https://www.rabbitmq.com/docs/disk-alarms; https://github.com/rabbitmq/ra/issues/585",
)
