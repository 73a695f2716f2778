"""A task runs longer than its time limit: is it done, is it lost, does it run again for ever.

In production: a call to another service that hangs, a query that became slow, a deadlock.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, scenario

OTHERS = 2
RUNS = 3

LIMIT = Axis.of("limit", "hard", "soft")
SECONDS = 1  # of this task alone: the lab's own tasks, which prove that the worker works, have no limit
OVERLONG = {"gate_name": "overlong"}
ON_TIMEOUT = Axis(
    "on_timeout",
    {
        "acked": {"task_acks_on_failure_or_timeout": True},
        "unacked": {"task_acks_on_failure_or_timeout": False},
    },
)

FAILED_AND_RUNS_AGAIN = Surprise(
    documented="task_acks_on_timeout: when disabled, timed-out messages will be rejected and requeued",
    observed="each time the result says FAILURE too, and task_failure is sent, for a task that runs again",
    source="celery 5.7.0 worker/request.py: on_failure only requeues, then on_timeout stores it",
)
SOFT_IS_NO_TIMEOUT = Surprise(
    documented="task_acks_on_timeout, like task_acks_on_failure_or_timeout: requeued if it is disabled",
    observed="the soft limit is no timeout but a failure: the message is rejected and does not come back",
    source="celery 5.7.0 worker/request.py: on_failure asks for TimeLimitExceeded, not SoftTimeLimitExceeded",
)
FAILS_TWICE = Surprise(
    documented="task_failure: dispatched when a task fails",
    observed="the hard limit dispatches it twice for one run, and stores the failure twice",
    source="billiard 4.3.2 pool.py: on_hard_timeout; celery 5.7.0 worker/request.py: on_failure, on_timeout",
)


@scenario(
    "time-limit",
    asks="A task runs into its time limit. Does it fail for good, or does the broker deliver it again?",
    vary=[LIMIT, EARLY_OR_LATE, ON_TIMEOUT],
)
def time_limit(rig: Rig) -> None:
    worker = rig.worker("worker")
    if rig.cell.params["limit"] == "hard":
        [target] = rig.publish("target", act="sentinel", about=OVERLONG, time_limit=SECONDS)
    else:
        [target] = rig.publish("target", act="sentinel", about=OVERLONG, soft_time_limit=SECONDS)
    rig.publish("others", OTHERS)
    if comes_back(rig.cell):
        worker.says("held", target, times=RUNS)
        worker.open("overlong")  # from now on it ends in time: nothing else would end this
    rig.settle()


@time_limit.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] in ("prefork", "processes"):
        return None
    return f"the {cell['worker_pool']} pool has no process of its own for a limit to end"


def comes_back(cell: Cell) -> bool:
    """Whether the worker gives back what ran into its limit."""
    late, acked = cell["task_acks_late"], cell["task_acks_on_failure_or_timeout"]
    return bool(cell.params["limit"] == "hard" and late and not acked)


@time_limit.expects
def expected(cell: Cell) -> Expectation:
    """The soft limit is a failure like any other; the hard one kills the process."""
    hard, late = cell.params["limit"] == "hard", cell["task_acks_late"]
    dropped = late and not cell["task_acks_on_failure_or_timeout"]
    surprise: Surprise | None
    if comes_back(cell):
        because = "the worker gave it back as often as it struck the limit, and nothing counts how often"
        surprise = FAILED_AND_RUNS_AGAIN
    else:
        because = "it was " + (
            "rejected without coming back, which drops it where there is no dead-letter exchange"
            if dropped
            else "acknowledged after it had failed"
            if late
            else "acknowledged before it started"
        )
        surprise = SOFT_IS_NO_TIMEOUT if dropped else FAILS_TWICE if hard else None
    return Expectation(
        outcomes={
            "target": {"redelivered" if comes_back(cell) else "failed": 1},
            "others": {"once": OTHERS},
        },
        because=because,
        source="celery 5.7.0 worker/request.py: " + ("on_timeout, on_failure" if hard else "on_failure"),
        surprise=surprise,
    )
