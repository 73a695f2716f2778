"""A worker stops for longer than the timeouts, and goes on as if nothing had been.

In production: a virtual machine that is suspended or migrates, a host that swaps, a debugger.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, freeze, scenario

LENGTH = Axis("length", {"beyond-timeout": {"broker_heartbeat": 2}, "brief": {}})
PHASE = Axis.of("phase", "running", "finished")


@scenario(
    "worker-freeze",
    asks="A worker freezes while it runs a task, and goes on later. Does the task run twice?",
    vary=[EARLY_OR_LATE, LENGTH, PHASE],
)
def worker_freeze(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    worker = rig.worker("worker", hold=phase)
    [target] = rig.publish("target")
    frozen = rig.inject(freeze(worker), worker.reaches(phase, target))
    if rig.cell.params["length"] == "beyond-timeout":
        rig.queue.has_consumers(count=0)
        other = rig.worker("other", after_visibility_timeout=True)
        if rig.cell["task_acks_late"]:
            other.says("finished", target)
    rig.heal(frozen)
    worker.release()
    rig.settle()


@worker_freeze.expects
def expected(cell: Cell) -> Expectation:
    if cell.params["length"] == "beyond-timeout" and cell["task_acks_late"]:
        target, because = "duplicated", "the broker gave it to another worker, and the first one went on"
    else:
        target, because = "once", "the broker did not take it back"
    return Expectation(
        outcomes={"target": {target: 1}},
        because=because,
        source="https://www.rabbitmq.com/docs/heartbeats; kombu 5.7.0 transport/redis.py: restore_visible",
    )
