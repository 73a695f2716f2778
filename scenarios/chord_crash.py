"""A worker dies while it runs a task of a chord's header, or one of these tasks fails.

In production: one part of a fan-out meets an out-of-memory kill, and the report that waits for all parts
never comes.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, kill, kill_child, scenario

END = Axis.of("end", "killed", "child-killed", "fails")
PHASE = Axis.of("phase", "running", "returned", "finished", core=("running", "finished"))


@scenario(
    "chord-crash",
    asks="A header task of a chord dies or fails. Does the body ever run, and does it run twice?",
    vary=[END, EARLY_OR_LATE, PHASE],
    servers=["redis-results"],
)
def chord_crash(rig: Rig) -> None:
    """*Returned* is before the header task was counted, *finished* is after it."""
    end, phase = rig.cell.params["end"], rig.cell.params["phase"]
    rig.result_backend()
    victim = rig.worker("victim", hold=phase, only="target")
    acts = {"target": "fail"} if end == "fails" else None
    part, target, body = rig.chord("part", "target", "body", acts=acts)
    moment = victim.reaches(phase, target)
    victim.says("finished", part)
    if phase == "finished":
        victim.says("received", body)
    if end == "killed":
        rig.inject(kill(victim), moment)
        rig.worker("rescuer", after_visibility_timeout=True)
    else:
        if end == "child-killed":
            rig.inject(kill_child(victim, target), moment)
        victim.release()
    rig.settle()


@chord_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell.params["end"] == "fails" and cell.params["phase"] != "running":
        return "a task that fails does not return"
    if cell.params["end"] == "child-killed" and cell["worker_pool"] not in ("prefork", "processes"):
        return f"the {cell['worker_pool']} pool has no child process to kill"
    return None


@chord_crash.expects
def expected(cell: Cell) -> Expectation:
    """The body runs when every part was counted, and no part counts twice."""
    if cell.params["end"] == "killed":
        return whole_worker(cell)
    phase = cell.params["phase"]
    counted = phase == "finished"
    ran = "failed" if phase == "running" else "once"
    return Expectation(
        outcomes={"part": {"once": 1}, "target": {ran: 1}, "body": {"once" if counted else "lost": 1}},
        because="its success was stored and counted before its process died"
        if counted
        else "its failure counts as its part, and instead of being published the body is recorded as failed",
        source="celery 5.7.0 worker/request.py: on_failure, _success_was_stored; backends/base.py: "
        "mark_as_failure; backends/redis.py: on_chord_part_return, chord_error_from_stack",
        facts={"results": states("SUCCESS" if counted else "FAILURE")},
    )


def whole_worker(cell: Cell) -> Expectation:
    """Nobody is left to say what became of the part."""
    late, phase = cell["task_acks_late"], cell.params["phase"]
    counted = phase == "finished"
    if late:
        target = "redelivered" if phase == "running" else "duplicated"
        because = "the part was delivered again" + (", and was not counted again" if counted else "")
    else:
        target = "lost" if phase == "running" else "once"
        because = (
            "the part was counted before its worker died"
            if counted
            else "the part was acknowledged and is never counted: nobody records a failure of the body"
        )
    published = late or counted
    body = {True: "redelivered", False: "once" if late else "lost"}[counted]
    return Expectation(
        outcomes={"part": {"once": 1}, "target": {target: 1}, "body": {body: 1}},
        because=because,
        source="celery 5.7.0 backends/redis.py: on_chord_part_return, CHORD_PART_RETURN_LUA",
        facts={"results": states("SUCCESS" if published else "none")},
    )


def states(of_the_rest: str) -> str:
    """The stored states: the part that nothing struck succeeded."""
    return f"body {of_the_rest}, part SUCCESS, target {of_the_rest}"
