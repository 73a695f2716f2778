"""A pool process is replaced after every task.

In production: ``worker_max_tasks_per_child`` or ``worker_max_memory_per_child`` against tasks that leak.
Nothing is killed here: a process ends by itself between two tasks, while others wait in the worker.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, scenario

TASKS = 3
NOTICED = 5  # seconds, after which a worker has noticed for sure that a process has left

LIMIT = Axis(
    "limit",
    {
        "tasks": {"worker_max_tasks_per_child": 1},
        "memory": {"worker_max_memory_per_child": 1},  # KiB, of which every process has more
    },
)


@scenario(
    "child-recycled",
    asks="A worker replaces its processes after every task. Is one of the waiting tasks lost, or run twice?",
    vary=[LIMIT, EARLY_OR_LATE],
)
def child_recycled(rig: Rig) -> None:
    worker = rig.worker("worker", hold="running")
    [target] = rig.publish("target")
    rig.publish("others", TASKS - 1)
    worker.reaches("running", target)
    worker.prefetches(TASKS)
    worker.release()
    worker.says("child", times=1 + TASKS, seconds=(1 + TASKS) * NOTICED)  # a new one for each that left
    rig.settle()


@child_recycled.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] in ("prefork", "processes"):
        return None
    return f"the {cell['worker_pool']} pool has no process of its own to replace"


@child_recycled.expects
def expected(_: Cell) -> Expectation:
    return Expectation(
        outcomes={"target": {"once": 1}, "others": {"once": TASKS - 1}},
        because="a process leaves after it has sent its result, and the parent keeps what waits for the next",
        source="billiard 4.3.2 pool.py: Worker.workloop, maxtasks and max_memory_per_child; celery 5.7.0 "
        "concurrency/asynpool.py: on_process_down",
        surprise=SLOW,
    )


SLOW = Surprise(
    documented="with worker_max_tasks_per_child a process is replaced by a new one after so many tasks",
    observed="it is noticed by chance at once, or after up to five seconds in which no waiting task runs",
    source="docs.celeryq.dev, configuration; celery 5.7.0 concurrency/asynpool.py: _event_process_exit",
)
