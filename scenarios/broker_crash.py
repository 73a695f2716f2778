"""The broker dies by SIGKILL and starts again: what of the tasks, and do the workers come back?

In production: a broker's host that reboots, an out-of-memory kill, a container that is replaced on the
same volume. A power cut is another story: here everything that was written to a file survives.
"""

from lab import Axis, Cell, Expectation, Rig, crash_broker, scenario, stop_broker

WAITING = 3

ACKNOWLEDGEMENT = Axis(
    "acknowledgement", {"early": {"task_acks_late": False}, "late": {"task_acks_late": True}}
)
END = Axis.of("end", "crash", "stop")
PHASE = Axis.of("phase", "queued", "reserved", "running", "finished")


@scenario(
    "broker-crash",
    asks="The broker dies and comes back. Are tasks lost, do they run twice, does the worker consume again?",
    vary=[ACKNOWLEDGEMENT, END, PHASE],
    own_broker=True,
)
def broker_crash(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    [target] = rig.publish("target")
    if phase == "queued":
        moment = rig.queued(target)
    else:
        worker = rig.worker("worker", hold=phase)
        moment = worker.reaches(phase, target)
    rig.publish("waiting", WAITING)
    end = {"crash": crash_broker, "stop": stop_broker}[rig.cell.params["end"]]
    fault = rig.inject(end(rig), moment)
    if phase != "queued":
        worker.says("disconnected")
    rig.heal(fault)
    if phase == "queued":
        worker = rig.worker("worker")
    else:
        worker.says("consuming", times=2, seconds=20)
        worker.release()
    rig.settle()


@broker_crash.expects
def expected(cell: Cell) -> Expectation:
    return Expectation(outcomes={"target": {"once": 1}, "waiting": {"once": WAITING}})
