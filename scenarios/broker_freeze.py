"""The broker stops for a while and goes on: what it did not hear of, and whether tasks run twice.

In production: a broker's host that swaps, a virtual machine that is migrated or suspended, a disk that
does not answer. Connections stay open, and nobody is told.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, freeze_broker, scenario

WAITING = 2

HEALED = Axis("healed", {"in-time": {}, "after-heartbeat": {"broker_heartbeat": 2}})
PHASE = Axis.of("phase", "running", "reserved")


@scenario(
    "broker-freeze",
    asks="The broker freezes while a worker has tasks, and goes on later. Does a task run twice?",
    vary=[EARLY_OR_LATE, HEALED, PHASE],
    own_broker=True,
)
def broker_freeze(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    worker = rig.worker("worker", hold=phase)
    [target] = rig.publish("target")
    rig.publish("waiting", WAITING)
    moment = worker.reaches(phase, target)
    worker.prefetches(1 + WAITING)
    broker = rig.inject(freeze_broker(rig), moment)
    if rig.cell.params["healed"] == "after-heartbeat":
        worker.says("disconnected", seconds=20)
        rig.heal(broker)
        worker.resumes()
        worker.release()
    elif phase == "running":
        worker.release()
        worker.says("finished", target)
        rig.heal(broker)
    else:  # on Redis the loop that would pass it on may stand still: it sends an event every 2 s
        rig.heal(broker)
        worker.release()
    rig.settle()


@broker_freeze.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["healed"] == "after-heartbeat":
        return "connections to Redis have no heartbeat: kombu closes one that is silent for 51 s"
    if cell.params["healed"] == "after-heartbeat" and confirms(cell):
        return (
            "a worker that publishes with confirms notices no missed heartbeat: its main process waits "
            "without a timeout for the frozen broker to confirm one of its own events"
        )
    return None


def confirms(cell: Cell) -> bool:
    """Whether nodes wait for publisher confirms. A worker sends an event every 2 s, from the same loop.

    Celery 5.7.0 worker/heartbeat.py: Heart; amqp 5.4.2 channel.py: basic_publish_confirm. When the broker
    goes on, the worker finds too many heartbeats missed, and gives up the connection that is well again.
    """
    given = cell["broker_transport_options.confirm_publish"]
    return cell.profile.startswith("rabbitmq-quorum") if given is None else bool(given)


@broker_freeze.expects
def expected(cell: Cell) -> Expectation:
    phase, late = cell.params["phase"], cell["task_acks_late"]
    if cell.params["healed"] == "in-time":
        target, waiting = "once", "once"
        because = "what the worker sent waited in the kernel, and the broker read it when it went on"
        source = "amqp 5.4.2 connection.py: heartbeat_tick; celery 5.7.0 app/defaults.py: broker_heartbeat"
        if cell.broker == "redis":
            because = "the worker stood still until an acknowledgement was answered: none has a timeout"
            source = "kombu 5.7.0 transport/redis.py: QoS.ack, Channel.socket_timeout"
    else:
        waiting = "redelivered"
        target = "redelivered" if phase == "reserved" else "duplicated" if late else "once"
        because = {
            "redelivered": "the worker gave the connection up, and forgot what it had not begun",
            "duplicated": "its run went on, and could not be acknowledged on another connection",
            "once": "it was acknowledged before it started, and its run went on",
        }[target]
        source = (
            "amqp 5.4.2 connection.py: heartbeat_tick; celery 5.7.0 worker/consumer/consumer.py: on_close"
        )
    return Expectation(
        outcomes={"target": {target: 1}, "waiting": {waiting: WAITING}}, because=because, source=source
    )
