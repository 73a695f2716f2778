"""A killed worker comes back under its old node name, while the broker may still hold its old connection.

In production: a pod of a StatefulSet, or a systemd unit with ``-n worker@%h``, that is started again at once;
and a host that vanished, whose connection the broker keeps until a heartbeat is missed.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, cut_wire, freeze_wire, kill, scenario

WAITING = 3
SAME_NAME = ("-n", "same@host")

OLD_CONNECTION = Axis.of("old-connection", "closed", "lingers")


@scenario(
    "same-hostname-restart",
    asks="A killed worker comes back under the same node name. Does it take work, and is anything lost?",
    vary=[EARLY_OR_LATE, OLD_CONNECTION],
)
def same_hostname_restart(rig: Rig) -> None:
    wire = rig.proxy()
    victim = rig.worker("victim", hold="running", through=wire, options=SAME_NAME)
    [target] = rig.publish("target")
    moment = victim.reaches("running", target)
    if rig.cell.params["old-connection"] == "lingers":
        rig.inject(freeze_wire(wire, "up"))  # the broker is not told that the victim is gone
    rig.inject(kill(victim), moment)
    if name_is_locked(rig.cell):
        rig.worker("refused", options=SAME_NAME, wait=False).exits()
    else:
        rig.worker("again", after_visibility_timeout=True, options=SAME_NAME)
    rig.inject(cut_wire(wire))  # at last the broker drops the old connection
    if name_is_locked(rig.cell):
        rig.queue.has_consumers(count=0)
        rig.worker("again", options=SAME_NAME)
    rig.publish("later", WAITING)
    rig.settle()


def name_is_locked(cell: Cell) -> bool:
    """Whether a connection that lingers keeps the queue of remote control that has the node's name."""
    lingers = cell.broker == "rabbitmq" and cell.params["old-connection"] == "lingers"
    return lingers and bool(cell["control_queue_exclusive"]) and cell.celery_is_at_least(5, 7)


@same_hostname_restart.expects
def expected(cell: Cell) -> Expectation:
    """The node name takes no part in delivery: what is out belongs to a connection."""
    late, locked = cell["task_acks_late"], name_is_locked(cell)
    return Expectation(
        outcomes={"target": {"redelivered" if late else "lost": 1}, "later": {"once": WAITING}},
        because=(
            "not yet acknowledged, so the broker delivers it again once it drops the old connection"
            if late
            else "acknowledged before it started, so the broker had forgotten it; a name brings nothing back"
        ),
        source="celery 5.7.0 worker/request.py: on_accepted acknowledges unless acks_late",
        facts={"exits": "refused 1"} if locked else {},
        surprise=NAME_IS_LOCKED if locked else None,
    )


NAME_IS_LOCKED = Surprise(
    documented="commonly said: a worker that is started again under its node name takes up work at once",
    observed=(
        "it ends with RESOURCE_LOCKED while RabbitMQ holds the dead worker's connection, up to the missed "
        "heartbeats; control_queue_exclusive=False is the way round"
    ),
    source="celery 5.7.0 app/defaults.py: control_queue_exclusive=True; kombu 5.7.0 pidbox.py: get_queue",
)
