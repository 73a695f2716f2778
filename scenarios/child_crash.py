"""A task ends the process that runs it; the worker's main process lives on.

In production: a segmentation fault in a C library, ``sys.exit`` in a task, ``os._exit`` in a client library.
A child that is killed from outside is told in worker-crash; a task that ends every process that it
meets is told in poison-message: here it does so in its first delivery only.
"""

from lab import EARLY_LATE_OR_REJECT, Axis, Cell, Expectation, Rig, Surprise, scenario

OTHERS = 2

END = Axis.of("end", "die", "leave")


ACKS_LATE_SAVES_ALL = Surprise(
    documented="commonly said: task_acks_late is enough to keep the task of a process that crashes",
    observed="the worker acknowledges it with WorkerLostError, and it does not run again",
    source="celery 5.7.0 app/task.py: reject_on_worker_lost, which says so; worker/request.py: on_failure",
)


@scenario(
    "child-crash",
    asks="A task ends its own process, by a crash or by sys.exit. Is it lost, and those behind it?",
    vary=[END, EARLY_LATE_OR_REJECT],
)
def child_crash(rig: Rig) -> None:
    worker = rig.worker("worker", hold="running")
    [target] = rig.publish("target", act=f"{rig.cell.params['end']}_once")
    rig.publish("others", OTHERS)
    worker.reaches("running", target)
    worker.prefetches(1 + OTHERS)
    worker.release()
    rig.settle()


@child_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] in ("prefork", "processes"):
        return None
    return f"the {cell['worker_pool']} pool has no process of its own for a task to end"


@child_crash.expects
def expected(cell: Cell) -> Expectation:
    """The parent lives on, and decides for its dead child."""
    late = cell["task_acks_late"]
    returned = late and cell["task_reject_on_worker_lost"]
    return Expectation(
        outcomes={"target": {"redelivered" if returned else "failed": 1}, "others": {"once": OTHERS}},
        because=(
            "the parent gave it back to the broker, and it ran again"
            if returned
            else "the parent recorded WorkerLostError and did not give it back"
        )
        + "; what was prefetched had waited in the parent",
        source="celery 5.7.0 worker/request.py: on_failure, which takes SystemExit for a lost process too",
        facts={"runs": 2 if returned else 1},
        surprise=ACKS_LATE_SAVES_ALL if late and not returned else None,
    )
