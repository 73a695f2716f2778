"""Redis hands a task to a worker that dies before it could write down that it has it.

In production: a worker killed, a host lost or a connection reset in the moment after ``BRPOP``. Redis has
removed the message from its list by then, and the worker's second command, which files it under ``unacked``,
has not arrived: no visibility timeout watches over it.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, cut_wire, kill, scenario, trip

#: ``popped``: the worker reads the message, and what it then sends does not arrive. ``popping``: it waits
#: in BRPOP, Redis answers, and the answer does not arrive.
GAP = Axis.of("gap", "popped", "popping")
END = Axis.of("end", "kill", "cut")


@scenario(
    "redis-pop-gap",
    asks="A worker is lost after it popped a task and before it registered it. Is the task lost?",
    vary=[EARLY_OR_LATE, GAP, END],
)
def redis_pop_gap(rig: Rig) -> None:
    gap, end = rig.cell.params["gap"], rig.cell.params["end"]
    wire = rig.proxy()
    victim = rig.worker("victim", through=wire)
    wire.arm(gap)
    if gap == "popped":
        rig.publish("target")
        gone = rig.inject(trip(wire))
    else:
        gone = rig.inject(trip(wire))
        rig.publish("target")
    wire.says("withheld")
    if end == "kill":
        rig.inject(kill(victim))
    reset = rig.inject(cut_wire(wire))  # what waits in the wire is gone with it
    if end == "cut":
        rig.heal(gone)
        rig.heal(reset)
        victim.says("disconnected")
        victim.says("consuming", times=2)
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


@redis_pop_gap.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return None
    return "RabbitMQ itself keeps a delivery until it is acknowledged: no second command files it"


@redis_pop_gap.expects
def expected(_: Cell) -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}},
        because="BRPOP removes the message from Redis, and only the worker's next command registers it",
        source="kombu 5.7.0 transport/redis.py: Channel._brpop_read, then QoS.append",
        surprise=Surprise(
            documented=(
                "a task that is not acknowledged within the visibility timeout "
                "is redelivered to another worker and executed"
            ),
            observed="a task lost in this gap is redelivered to nobody, whatever task_acks_late says",
            source=(
                "docs.celeryq.dev, Using Redis: Visibility timeout; kombu 5.7.0 transport/redis.py: "
                "restore_visible reads unacked_index, where QoS.append would have put it"
            ),
        ),
    )
