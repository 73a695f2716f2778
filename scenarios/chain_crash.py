"""A worker dies in the middle of a chain: which step is lost, which one runs twice.

In production: a deployment, an out-of-memory kill or an evicted node meets a pipeline of tasks.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, kill, scenario

PHASE = Axis.of("phase", "running", "returned", "finished", core=("running", "finished"))
GUARD = Axis(
    "guard",
    {
        "none": {"worker_deduplicate_successful_tasks": False},
        "deduplicate": {"worker_deduplicate_successful_tasks": True},
    },
)


@scenario(
    "chain-crash",
    asks="A worker dies in the middle of a chain. Does the chain end, and does any step run twice?",
    vary=[EARLY_OR_LATE, GUARD, PHASE],
    servers=["redis-results"],
)
def chain_crash(rig: Rig) -> None:
    """*Returned* is before the next step was published, *finished* is after it."""
    phase = rig.cell.params["phase"]
    if rig.cell.params["guard"] == "deduplicate":
        rig.result_backend()
    victim = rig.worker("victim", hold=phase, only="target")
    _, target, last = rig.chain("first", "target", "last")
    moment = victim.reaches(phase, target)
    if phase == "finished":
        victim.says("received", last)
    rig.inject(kill(victim), moment)
    rig.worker("rescuer", after_visibility_timeout=True)
    rig.settle()


@chain_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell.params["guard"] != "none" and not cell["task_acks_late"]:
        return "an acknowledged task is never delivered again: there is nothing to deduplicate"
    return None


@chain_crash.expects
def expected(cell: Cell) -> Expectation:
    """A step that was acknowledged and not done takes with it all that come after."""
    late, phase = cell["task_acks_late"], cell.params["phase"]
    skipped = cell.params["guard"] == "deduplicate" and phase == "finished"
    if not late:
        target = "lost" if phase == "running" else "once"
        last = "redelivered" if phase == "finished" else "lost"
        because = "it was acknowledged before it started" + (
            ": its successor had been published"
            if phase == "finished"
            else ", and it alone knew its successor"
        )
    else:
        target = "redelivered" if phase == "running" or skipped else "duplicated"
        last = {"finished": "redelivered" if skipped else "duplicated"}.get(phase, "once")
        because = "it was delivered again, and " + (
            "skipped: its success was stored, and that its successor was published"
            if skipped
            else "ran again, and published its successor" + (" again" if phase == "finished" else "")
        )
    return Expectation(
        outcomes={"first": {"once": 1}, "target": {target: 1}, "last": {last: 1}},
        because=because,
        source="celery 5.7.0 app/trace.py: trace_task publishes the next step after the function returned, "
        "before the result is stored and before a late acknowledgement",
        surprise=CHILDREN_ARE_KEPT if skipped else None,
    )


CHILDREN_ARE_KEPT = Surprise(
    documented="that a skipped task knows its successor was published takes result_extended=True (the "
    "comment in celery 5.7.0 app/trace.py)",
    observed="it knows without: a stored success names its children always, and the successor runs once",
    source="celery 5.7.0 backends/base.py: _get_result_meta, current_task_children",
)
