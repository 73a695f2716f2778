"""A worker dies: what becomes of the task that it held, and of those that it had fetched ahead.

In production: the kernel's out-of-memory killer, a node that is evicted, ``kill -9`` by hand.
"""

from lab import EARLY_LATE_OR_REJECT, Axis, Cell, Expectation, Rig, kill, kill_child, scenario

TASKS = 6

PREFETCH = Axis(
    "prefetch", {"x1": {"worker_prefetch_multiplier": 1}, "x4": {"worker_prefetch_multiplier": 4}}
)
VICTIM = Axis.of("victim", "whole", "child")
PHASE = Axis.of("phase", "reserved", "running", "finished")


@scenario(
    "worker-crash",
    asks="A worker dies by SIGKILL. Is its task lost, and the tasks that it had prefetched?",
    vary=[EARLY_LATE_OR_REJECT, PREFETCH, VICTIM, PHASE],
)
def worker_crash(rig: Rig) -> None:
    phase = rig.cell.params["phase"]
    victim = rig.worker("victim", hold=phase)
    [target] = rig.publish("target")
    rig.publish("others", TASKS - 1)
    moment = victim.reaches(phase, target)
    victim.prefetches(TASKS)
    if rig.cell.params["victim"] == "whole":
        rig.inject(kill(victim), moment)
        rig.worker("rescuer", after_visibility_timeout=True)
    else:
        rig.inject(kill_child(victim, target), moment)
        victim.release()
    rig.settle()


@worker_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] in ("prefork", "processes"):
        return None
    if cell["worker_pool"] in ("solo", "threads", "gevent"):
        if cell.params["victim"] == "child":
            return f"the {cell['worker_pool']} pool has no child process to kill"
        return (
            f"what a {cell['worker_pool']} worker prefetches is not modelled by this scenario: see pool-crash"
        )
    return f"the worker image has no {cell['worker_pool']} pool"


@worker_crash.expects
def expected(cell: Cell) -> Expectation:
    if cell.params["victim"] == "whole":
        return whole_worker(cell)
    return pool_child(cell)


def whole_worker(cell: Cell) -> Expectation:
    """Acknowledged is forgotten; unacknowledged comes back."""
    multiplier = int(str(cell["worker_prefetch_multiplier"]))
    phase = cell.params["phase"]
    acknowledged = not cell["task_acks_late"] and phase != "reserved"
    target = {True: "once" if phase == "finished" else "lost", False: "redelivered"}[acknowledged]
    if not acknowledged and phase == "finished":
        target = "duplicated"
    prefetched = multiplier if acknowledged else multiplier - 1
    others = {"redelivered": prefetched, "once": TASKS - 1 - prefetched}
    return Expectation(
        outcomes={"target": {target: 1}, "others": {k: n for k, n in others.items() if n}},
        because=(
            "acknowledged before it started, so the broker had forgotten it"
            if acknowledged
            else "not yet acknowledged, so the broker delivers it again"
        ),
        source="celery 5.7.0 worker/request.py: on_accepted acknowledges unless acks_late",
    )


def pool_child(cell: Cell) -> Expectation:
    """The parent lives on, and decides for its dead child."""
    phase, late = cell.params["phase"], cell["task_acks_late"]
    if phase == "reserved":
        target, because = "once", "it waited in the parent, and ran in a new child"
    elif late and cell["task_reject_on_worker_lost"] and not (phase == "finished" and success_is_known(cell)):
        target = "redelivered" if phase == "running" else "duplicated"
        because = "the parent gave it back to the broker, and it ran again"
    elif phase == "finished" and success_is_known(cell):
        target, because = "once", "its success was stored before its child died, and its parent looked"
    elif phase == "finished":
        target, because = "once", "it had done its work; its result says WorkerLostError all the same"
    else:
        target, because = "failed", "the parent recorded WorkerLostError and did not give it back"
    return Expectation(
        outcomes={"target": {target: 1}, "others": {"once": TASKS - 1}},
        because=because,
        source="celery 5.7.0 worker/request.py: on_failure",
    )


def success_is_known(cell: Cell) -> bool:
    """Since 5.7 the parent of a dead child asks the result backend whether the task had succeeded.

    Celery 5.7.0 worker/request.py: _success_was_stored. It cannot ask rpc://, or no backend.
    """
    stored = cell["result_backend"] not in (None, "rpc://") and not cell["task_ignore_result"]
    return stored and cell.celery_is_at_least(5, 7)
