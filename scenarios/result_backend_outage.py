"""The result backend dies while the broker lives.

In production: the Redis that holds the results is restarted, fails over, or runs out of memory.
"""

from lab import EARLY_OR_LATE, Axis, Beside, Cell, Expectation, Rig, Surprise, crash_server, scenario

AT = Axis.of("at", "storing", "publishing")
OUTAGE = Axis.of("outage", "long", "short")
RETRY = Axis("retry", {"default": {}, "always": {"result_backend_always_retry": True}})
IMPATIENT = {"result_backend_transport_options": {"retry_policy": {"max_retries": 2}}}
PATIENCE = 5.0
BEGUN = 1.0  # seconds, in which the call that the outage must meet has begun: nobody can see it


@scenario(
    "result-backend-outage",
    asks="The result backend dies. Does the task fail or run again, does its worker or publisher stall?",
    vary=[AT, OUTAGE, EARLY_OR_LATE, RETRY],
    servers=["redis-results"],
)
def result_backend_outage(rig: Rig) -> None:
    store = rig.result_backend()
    if rig.cell.params["at"] == "publishing":
        publishing(rig, store)
    else:
        storing(rig, store)


def storing(rig: Rig, store: Beside) -> None:
    worker = rig.worker("worker", hold="running")
    [target] = rig.publish("target")
    fault = rig.inject(crash_server(store), worker.reaches("running", target))
    worker.release()
    worker.says("finished", target)
    if rig.cell.params["retry"] == "default":
        [behind] = rig.publish("behind", ignore_result=True)
        worker.says("finished", behind)  # so the worker is done with the target
    if rig.cell.params["outage"] == "short":
        rig.let_pass(BEGUN)
        rig.heal(fault)
    rig.settle(PATIENCE)


def publishing(rig: Rig, store: Beside) -> None:
    """By a process that has not published before: one that has may send one task more, into a dead socket."""
    short = rig.cell.params["outage"] == "short"
    rig.worker("worker")
    caller = rig.publisher("caller", settings=None if short else IMPATIENT)
    fault = rig.inject(crash_server(store))
    [target] = rig.publish("target", by=caller, wait=False)
    caller.says("asked", target)
    rig.let_pass(BEGUN)
    if not short:
        caller.was_told([target])
    rig.heal(fault)
    caller.was_told([target])
    rig.publish("later", by=caller)
    rig.settle()


@result_backend_outage.cannot
def cannot(cell: Cell) -> str | None:
    late, always = cell["task_acks_late"], cell.params["retry"] == "always"
    if cell.params["at"] == "publishing" and (late or always):
        return "a publisher acknowledges nothing and stores nothing"
    if late and always and cell.params["outage"] == "long":
        return "the worker holds the message for as long as the outage lasts: there is no end to judge"
    return None


@result_backend_outage.expects
def expected(cell: Cell) -> Expectation:
    if cell.params["at"] == "publishing":
        return expected_of_publisher(cell)
    if cell.params["retry"] == "default":
        return Expectation(
            outcomes={"target": {"once": 1}, "behind": {"once": 1}},
            because="its work was done; storing the result failed at once and for good, so did storing the "
            "failure, and the worker acknowledged the task and went on",
            source="celery 5.7.0 app/trace.py: trace_task; worker/request.py: on_failure acknowledges, then "
            "mark_as_failure fails; billiard 4.3.2 pool.py: safe_apply_callback",
            facts={"results": "behind none, target none"},
            surprise=NO_RETRY,
        )
    stays_away = cell.params["outage"] == "long"
    return Expectation(
        outcomes={"target": {"once": 1}},
        because="its work was done; its process tries to store the result for as long as the backend is away"
        + (", and takes no other task" if stays_away else ", and did when it was back"),
        source="celery 5.7.0 backends/base.py: _ensure_retryable, result_backend_max_retries is infinite",
        facts={} if stays_away else {"results": "target SUCCESS"},
        stalled=("worker",) if stays_away else (),
    )


def expected_of_publisher(cell: Cell) -> Expectation:
    refused = cell.params["outage"] == "long"
    return Expectation(
        outcomes={"target": {"refused" if refused else "once": 1}, "later": {"once": 1}},
        because="before a task is sent, its publisher subscribes to its result: "
        + ("it was told RuntimeError when its retries were spent" if refused else "it waited until it could"),
        source="celery 5.7.0 app/base.py: send_task; backends/redis.py: on_task_call, _reconnect",
        facts={"results": "later SUCCESS, target none" if refused else "later SUCCESS, target SUCCESS"},
        surprise=NEEDS_BACKEND,
    )


NO_RETRY = Surprise(
    documented="the retry_policy of result_backend_transport_options, by default 20 retries in 20 s, is for "
    "connections of the Redis result backend (getting-started/backends-and-brokers/redis.rst)",
    observed="no result is tried a second time: the task has done its work, no state is ever stored, "
    "neither SUCCESS nor FAILURE, and whoever waits for it waits for ever",
    source="celery 5.7.0 backends/base.py: _store_result first reads the state, and backends/redis.py: get "
    "is not covered by the retry policy",
)
NEEDS_BACKEND = Surprise(
    documented="task_publish_retry is about a broker that cannot be reached; the error of a lost result "
    "backend says: the Celery application must be restarted (backends/asynchronous.py)",
    observed="with the broker well, publishing blocks for 20 s and raises RuntimeError, unless the task "
    "ignores its result; the same process publishes again as soon as the backend is back",
    source="celery 5.7.0 backends/redis.py: on_task_call subscribes, ResultConsumer.start begins anew",
)
