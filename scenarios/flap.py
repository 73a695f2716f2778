"""The worker's connection goes down and comes back, again and again, while it has a task.

In production: a load balancer that restarts its backends one after another, a loose cable, a broker under
memory pressure that drops its clients.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, close_connections, cut, cut_wire, scenario

TIMES = 3
AT_ONCE = 2 + TIMES  # a place for each run of the target, if it is delivered anew each time, and one free
SETTINGS = {"worker_concurrency": AT_ONCE, "worker_prefetch_multiplier": 1}
PASSES = {"gate_name": "open"}

HOW = Axis("how", {"closed": SETTINGS, "refused": SETTINGS, "cut": SETTINGS})


@scenario(
    "flap",
    asks="A worker's connection fails three times in a row. Does it take work again, as much as before?",
    vary=[HOW, EARLY_OR_LATE],
    own_broker=True,
)
def flap(rig: Rig) -> None:
    wire = rig.proxy()
    worker = rig.worker("worker", hold="running", through=wire, cable=True)
    worker.open("open")
    [target] = rig.publish("target")
    worker.reaches("running", target)
    for time in range(1, TIMES + 1):
        if rig.cell.params["how"] == "closed":
            rig.inject(close_connections(rig))
            if rig.cell.broker == "rabbitmq":  # Redis itself counts those that it closed
                worker.says("disconnected", times=time)
        elif rig.cell.params["how"] == "refused":
            fault = rig.inject(cut_wire(wire))
            worker.says("disconnected", times=time)
            rig.heal(fault)
        else:
            rig.heal(rig.inject(cut(worker)))  # for less than any timeout
        [between] = rig.publish("between", act="sentinel", about=PASSES)
        worker.says("acknowledged", between, seconds=20)
        rig.queue.holds(ready=0, unacked=int(bool(rig.cell["task_acks_late"])))  # it has heard of it
    worker.release()
    rig.settle()


@flap.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["how"] == "refused" and cell["task_acks_late"]:
        return "a worker on Redis with an unacknowledged task may end at the first reset: see redis-reset"
    return None


@flap.expects
def expected(cell: Cell) -> Expectation:
    """What is judged above all: the worker takes a task after each loss, and as many as before at the end."""
    if cell.params["how"] == "cut":
        target, because = "once", "the connection outlives a short cut: the packets are sent again"
    elif cell["task_acks_late"]:
        target, because = "duplicated", "its first run goes on, and it is delivered again after each loss"
    else:
        target, because = "once", "it was acknowledged before it started, and its run goes on"
    return Expectation(
        outcomes={"target": {target: 1}, "between": {"once": TIMES}},
        because=because,
        source="celery 5.7.0 worker/consumer/consumer.py: on_connection_error_after_connected, "
        "_restore_prefetch_count_after_connection_restart",
    )
