"""A task asks for its retry while its worker cannot reach the broker.

In production: a task that calls ``self.retry()`` because a service is away, in the same outage that took
the broker or the network. A retry is a publish, by the pool process that runs the task.
"""

from lab import EARLY_OR_LATE, Axis, Cell, Expectation, Rig, cut_wire, freeze_broker, scenario

PATIENT = {"max_retries": 200, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
OUTAGE = Axis("outage", {"cut": {}, "cut-patient": {"task_publish_retry_policy": PATIENT}, "frozen": {}})
BEGUN = 1.0  # seconds, in which the call that the outage must meet has begun: nobody can see it


@scenario(
    "retry-during-outage",
    asks="A task calls self.retry() while its worker cannot reach the broker. Is it lost, does it run again?",
    vary=[EARLY_OR_LATE, OUTAGE],
    own_broker=True,
)
def retry_during_outage(rig: Rig) -> None:
    outage = rig.cell.params["outage"]
    wire = rig.proxy()
    worker = rig.worker("worker", hold="running", through=wire)
    [target] = rig.publish("target", act="retry_once")
    moment = worker.reaches("running", target)
    rig.queue.holds(ready=0, unacked=int(bool(rig.cell["task_acks_late"])))  # it has heard of it
    fault = rig.inject(freeze_broker(rig) if outage == "frozen" else cut_wire(wire), moment)
    worker.release()
    worker.says("returned" if outage == "cut" else "passed", target)  # cut: it has given up
    rig.let_pass(BEGUN)
    rig.heal(fault)
    if outage == "frozen":
        worker.says("retried", target)
    else:
        worker.resumes()
    rig.worker("later", after_visibility_timeout=True)
    rig.settle()


@retry_during_outage.expects
def expected(cell: Cell) -> Expectation:
    late, outage = cell["task_acks_late"], cell.params["outage"]
    luck: dict[str, tuple[str, ...]] = {}
    source = "celery 5.7.0 app/task.py: retry; kombu 5.7.0 connection.py: ensure"
    if outage == "frozen":
        target, because = "once", "the publish waits for as long as the broker does, and goes through"
    elif outage == "cut":
        target, because = "failed", "the retry could not be published: Celery rejects the task, as failed"
        source += "; celery 5.7.0 worker/request.py: on_failure"
    else:
        target, because = "once", "the publish of the retry was repeated until the broker was back"
    if late and outage != "frozen":
        came_back = {"cut": "redelivered", "cut-patient": "duplicated"}[outage]
        if cell.broker == "redis":
            luck, because = {"target": (target, came_back)}, f"{because}; {WORKER_DIES}"
            source += "; kombu 5.7.0 transport/redis.py: Channel.close, connection.py: collect"
        target = came_back
        if cell.broker == "rabbitmq":
            because += "; but it was not acknowledged, so the lost connection brought it back as well"
    exits = {"exits": ("", "worker 1")} if luck else {}  # it dies, or it does not
    return Expectation({"target": {target: 1}}, because, source, luck, facts=exits)


#: The first close fails in the answer to a BRPOP that is pending, and leaves the channel open without its
#: transport; the second close then wants to restore what is unacknowledged.
WORKER_DIES = (
    "a worker that notices the loss on another connection than that of its BRPOP dies of an AttributeError "
    "before it has answered, and the broker delivers it again"
)
