"""A worker is cut off the network, works on, and comes back.

In production: a switch that fails, a firewall that forgets its table, a virtual machine that migrates.
Packets vanish both ways, and neither end is told.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, cut, scenario

HEALED = Axis("healed", {"after-timeout": {"broker_heartbeat": 2}, "before-timeout": {}})
PHASE = Axis.of("phase", "running", "finished")


@scenario(
    "network-partition",
    asks="A worker is cut off while it has a task, and comes back. Does another one run the task too?",
    vary=[EARLY_OR_LATE, HEALED, PHASE],
    own_broker=True,
)
def network_partition(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    worker = rig.worker("worker", hold=phase, cable=True)
    [target] = rig.publish("target")
    moment = worker.reaches(phase, target)
    rig.queue.holds(ready=0, unacked=int(bool(rig.cell["task_acks_late"])))  # it has heard of it
    partition = rig.inject(cut(worker), moment)
    if rig.cell.params["healed"] == "after-timeout":
        rig.queue.has_consumers(count=0)
        other = rig.worker("other", after_visibility_timeout=True)
        if rig.cell["task_acks_late"]:
            other.says("finished", target)
    worker.release()
    worker.says("finished", target)
    rig.heal(partition)
    rig.settle()


@network_partition.expects
def expected(cell: Cell) -> Expectation:
    if cell.params["healed"] == "before-timeout":
        target, because = "once", "the acknowledgement arrives when the network is back"
    elif cell["task_acks_late"]:
        target, because = "duplicated", "the broker gave it to another worker, and the first one worked on"
    else:
        target, because = "once", "it was acknowledged before it started: the broker had forgotten it"
    return Expectation(
        outcomes={"target": {target: 1}},
        because=because,
        source="https://www.rabbitmq.com/docs/heartbeats; kombu 5.7.0 transport/redis.py: restore_visible",
    )
