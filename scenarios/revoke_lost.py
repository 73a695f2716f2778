"""A task is revoked while it waits, and then every worker restarts: does it run after all.

In production: a campaign that was revoked before its time, and a deployment, an eviction or an out-of-memory
kill in between. A revocation is kept by the workers, not by the broker.
"""

from lab import SHARED, Axis, Cell, Expectation, Rig, Surprise, kill, scenario, send_signal

STATE = Axis("state", {"none": {}, "file": {"worker_state_db": f"{SHARED}/worker.state"}})
END = Axis.of("end", "warm", "kill")


@scenario(
    "revoke-lost",
    asks="A waiting task is revoked, and every worker restarts. Does it run although it was revoked?",
    vary=[STATE, END],
)
def revoke_lost(rig: Rig) -> None:
    folder = rig.folder("state")
    first = rig.worker("first", hold="reserved", folder=folder)
    [target] = rig.publish("target")
    moment = first.reaches("reserved", target)
    rig.revoke(target)
    if rig.cell.params["end"] == "kill":
        rig.inject(kill(first), moment)
    else:
        rig.inject(send_signal(first, "SIGTERM"), moment)
        first.exits()
    rig.worker("again", folder=folder, after_visibility_timeout=True)
    rig.settle()


@revoke_lost.expects
def expected(cell: Cell) -> Expectation:
    file, warm = cell.params["state"] == "file", cell.params["end"] == "warm"
    if file and warm:
        target, because = "failed", "the worker wrote down what was revoked when it left, and read it again"
    elif file:
        target, because = "redelivered", "the file is written when the worker exits, which SIGKILL spares it"
    else:
        target, because = "redelivered", "what was revoked is in the workers' memory alone"
    return Expectation(
        outcomes={"target": {target: 1}},
        facts={"exits": "first 0"} if warm else {},
        because=because,
        source="celery 5.7.0 worker/components.py: StateDB (atexit), worker/state.py: Persistent",
        surprise=FILE_COMES_TOO_LATE if file and not warm else None,
    )


FILE_COMES_TOO_LATE = Surprise(
    documented="with --statedb the list of revoked ids survives a restart of all workers",
    observed="a worker that is killed has written none of it: the revoked task runs",
    source="docs.celeryq.dev, Workers Guide: Persistent revokes; celery 5.7.0 worker/components.py: StateDB",
)
