"""A worker is told to leave: warm, cold, soft, twice, by a remapped signal, or by remote control.

In production: a deployment, a scale-down, a node that is drained, Ctrl+C. Kubernetes sends SIGTERM, and
SIGKILL after ``terminationGracePeriodSeconds``: that end is the story of worker-crash.
"""

from lab import (
    EARLY_LATE_OR_REJECT,
    Axis,
    Cell,
    Expectation,
    Rig,
    Surprise,
    control_shutdown,
    scenario,
    send_signal,
)

PREFETCHED = 3

HOW = Axis(
    "how",
    {
        "warm": {},
        "cold": {},
        "soft": {"worker_soft_shutdown_timeout": 3.0},
        "soft-overrun": {"worker_soft_shutdown_timeout": 1.0},
        "twice": {},
        "int-twice": {},
        "remapped": {},
        "control": {},
    },
    core=("warm", "cold", "soft", "twice", "remapped", "control"),
)
SIGNALS = {
    "warm": ["SIGTERM"],
    "cold": ["SIGQUIT"],
    "soft": ["SIGQUIT"],
    "soft-overrun": ["SIGQUIT"],
    "twice": ["SIGTERM", "SIGQUIT"],
    "int-twice": ["SIGINT", "SIGINT"],
    "remapped": ["SIGTERM"],
    "control": [],
}
COLD_EXITS_0 = Surprise(
    documented="worker_shutting_down: exitcode is the code that will be used when the main process exits, "
    "and a cold shutdown announces 1 (userguide/signals.rst; apps/worker.py: _shutdown_handler)",
    observed="the worker exits with 0, as if all its tasks were done",
    source="celery 5.7.0 worker/worker.py: start answers WorkerTerminate with terminate, which sets no exit "
    "code; a warm shutdown that had begun keeps its own",
)
LETS_FINISH = ("warm", "soft", "control")
WARM_FIRST = ("warm", "twice", "int-twice")


@scenario(
    "shutdown",
    asks="A worker is told to leave. Is its running task lost, and those that it had prefetched?",
    vary=[HOW, EARLY_LATE_OR_REJECT],
)
def shutdown(rig: Rig) -> None:
    how = rig.cell.params["how"]
    remap = {"REMAP_SIGTERM": "SIGQUIT"} if how == "remapped" else None
    victim = rig.worker("victim", hold="running", environment=remap)
    [target] = rig.publish("target")
    moment = victim.reaches("running", target)
    rig.publish("prefetched", PREFETCHED)
    victim.prefetches(1 + PREFETCHED)
    heard = "signalled" if how == "soft" else "shutting-down"
    if how == "control":
        rig.inject(control_shutdown(victim), moment)
    for number in SIGNALS[how][:1]:
        rig.inject(send_signal(victim, number, heard=heard), moment)
    if how in WARM_FIRST:
        victim.says("draining")  # it waits for its task; a signal that meets it before may hang it
    for number in SIGNALS[how][1:]:
        rig.inject(send_signal(victim, number), moment)
    if how in LETS_FINISH:
        victim.release()
    victim.exits(30)
    rig.worker("rescuer")
    rig.settle()


@shutdown.cannot
def cannot(cell: Cell) -> str | None:
    if cell["worker_pool"] not in ("prefork", "processes"):
        return f"how a {cell['worker_pool']} worker ends its tasks is not modelled by this scenario"
    if cell.params["how"].startswith("soft") and not cell.celery_is_at_least(5, 5):
        return "the soft shutdown is new in Celery 5.5"
    return None


@shutdown.expects
def expected(cell: Cell) -> Expectation:
    """Whoever leaves gives back what it had not begun; what becomes of the running task depends."""
    how, late = cell.params["how"], cell["task_acks_late"]
    if how in LETS_FINISH:
        target, because = "once", "the worker waited for its running task before it left"
        source = "celery 5.7.0 concurrency/prefork.py: on_stop; worker/worker.py: wait_for_soft_shutdown"
    else:
        target = "redelivered" if late else "lost"
        because = "the worker killed its running task, which it had " + (
            "not acknowledged: it came back when the connection was closed"
            if late
            else "acknowledged before: the state that it stores, RETRY, promises a retry that nobody sent"
        )
        source = "celery 5.7.0 worker/consumer/consumer.py: cancel_active_requests; worker/request.py: cancel"
    return Expectation(
        outcomes={"target": {target: 1}, "prefetched": {"redelivered": PREFETCHED}},
        because=because,
        source=f"{source}; kombu 5.7.0 transport/virtual/base.py: Channel.close gives back on Redis too",
        facts={"exits": "victim 1" if how == "int-twice" else "victim 0"},
        surprise=None if how in ("warm", "int-twice", "control") else COLD_EXITS_0,
    )
