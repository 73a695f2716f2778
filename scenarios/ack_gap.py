"""The acknowledgement of a task leaves its worker, and never reaches the broker.

In production: a worker's host lost, or its connection reset, in the moment in which a task was acknowledged.
To the worker the task is done and answered; to the broker it is out with a worker that is gone.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, cut_wire, kill, scenario, trip

LOST_WHILE = Axis.of("lost-while", "running", "finished")


@scenario(
    "ack-gap",
    asks="The acknowledgement of a task is lost together with its worker. Does the task run again?",
    vary=[EARLY_OR_LATE, LOST_WHILE],
)
def ack_gap(rig: Rig) -> None:
    phase = rig.cell.params["lost-while"]
    wire = rig.proxy()
    victim = rig.worker("victim", hold=phase, through=wire)
    if rig.cell["task_acks_late"]:
        [target] = rig.publish("target")
        victim.reaches(phase, target)
        wire.arm("acking")
        victim.release()
    else:
        wire.arm("acking")
        [target] = rig.publish("target")
        victim.says("held", target)
    rig.inject(trip(wire))
    wire.says("withheld")
    rig.inject(kill(victim))
    rig.inject(cut_wire(wire))  # what waits in the wire is gone with it
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


@ack_gap.cannot
def cannot(cell: Cell) -> str | None:
    if cell["task_acks_late"] and cell.params["lost-while"] == "running":
        return "a late acknowledgement is not sent while the task runs"
    return None


@ack_gap.expects
def expected(cell: Cell) -> Expectation:
    """The broker forgets a task when the acknowledgement arrives, not when it is sent."""
    outcome = {"running": "redelivered", "finished": "duplicated"}[cell.params["lost-while"]]
    return Expectation(
        outcomes={"target": {outcome: 1}},
        because="nobody confirms an acknowledgement; the broker never got it, and delivers the task again",
        source="celery 5.7.0 worker/request.py: on_accepted; kombu 5.7.0 message.py: ack",
        facts={"runs": 2},
        surprise=None if cell["task_acks_late"] else TWICE_THOUGH_EARLY,
    )


TWICE_THOUGH_EARLY = Surprise(
    documented=(
        "the worker acknowledges the message in advance, just before it's executed, "
        "so that a task invocation that already started is never executed again"
    ),
    observed="it is executed again when that acknowledgement does not arrive",
    source=(
        "docs.celeryq.dev, Tasks; celery 5.7.0 worker/request.py: on_accepted acknowledges "
        "when the pool has begun the task, and waits for nothing"
    ),
)
