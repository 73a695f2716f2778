"""A task takes more memory than its worker may: the kernel's out-of-memory killer ends a process.

In production: exit code 137, *OOMKilled*, a line in the kernel's log. The killer takes the largest process:
a pool child, and the worker lives on; or all of it, where the main process runs the tasks (pool solo) or the
kernel is told to take whole groups (``memory.oom.group``, which Kubernetes sets with cgroup v2).
"""

from lab import EARLY_LATE_OR_REJECT, Axis, Cell, Expectation, Rig, Surprise, exhaust_memory, scenario

LIMIT = 192 * 1024 * 1024
VICTIM = Axis("victim", {"child": {}, "whole": {"worker_pool": "solo"}})


@scenario(
    "out-of-memory",
    asks="A task eats its worker's memory, and the kernel kills. Is the task lost, and the worker?",
    vary=[VICTIM, EARLY_LATE_OR_REJECT],
)
def out_of_memory(rig: Rig) -> None:
    victim = rig.worker("victim", hold="running", memory=LIMIT)
    [target] = rig.publish("target", act="eat_once", about={"most": 2 * LIMIT})
    moment = victim.reaches("running", target)
    rig.inject(exhaust_memory(victim, target), moment)
    if rig.cell.params["victim"] == "whole":
        rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


@out_of_memory.expects
def expected(cell: Cell) -> Expectation:
    """A child's parent decides for it; of a whole worker only what it acknowledged counts."""
    late, whole = cell["task_acks_late"], cell.params["victim"] == "whole"
    if whole:
        target, source = (
            "redelivered",
            "celery 5.7.0 concurrency/solo.py; worker/consumer/consumer.py: call_soon",
        )
        because = "its acknowledgement waited for the main loop, which ran the task, and was never sent"
        if late:
            because = "not yet acknowledged, so the broker delivers it again"
    else:
        returned = late and cell["task_reject_on_worker_lost"]
        target, source = "failed", "celery 5.7.0 worker/request.py: on_failure"
        because = "the parent lived on, recorded WorkerLostError and did not give the task back"
        if returned:
            target, because = "redelivered", "the parent lived on, and gave the task back to the broker"
    return Expectation(
        outcomes={"target": {target: 1}},
        because=because,
        source=source,
        facts={"runs": 2 if target == "redelivered" else 1},
        surprise=SOLO_IS_LATE if whole and not late else None,
    )


SOLO_IS_LATE = Surprise(
    documented="with early acknowledgement a task is acknowledged just before it starts",
    observed="in the solo pool it is acknowledged when it has ended: a worker that dies under it does not "
    "lose it, and it runs again",
    source="docs.celeryq.dev, Task.acks_late; celery 5.7.0 worker/consumer/consumer.py: call_soon hands the "
    "acknowledgement to the main loop, which is busy with the task (concurrency/solo.py: on_apply)",
)
