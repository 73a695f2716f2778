"""The dead-letter queue: does it get a task that failed, was rejected, or expired.

In production: a dead-letter exchange, set by a policy of RabbitMQ or in the queue's arguments, from which
people expect to find every task that did not succeed.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, scenario

OTHERS = 2
EXPIRES = 0.1  # seconds: over before a worker is there

ACKNOWLEDGEMENT = Axis(
    "acknowledgement",
    {
        "early": {"task_acks_late": False},
        "late": {"task_acks_late": True},
        "late+nack": {"task_acks_late": True, "task_acks_on_failure_or_timeout": False},
    },
)
DROPPED = Axis.of("dropped", "gone", "kept")
END = Axis.of("end", "failed", "rejected", "expired")


@scenario(
    "dead-letter",
    asks="A task fails, is rejected, or expires. Is it in the dead-letter queue afterwards?",
    vary=[ACKNOWLEDGEMENT, DROPPED, END],
)
def dead_letter(rig: Rig) -> None:
    kept = rig.cell.params["dropped"] == "kept"
    if kept:
        rig.queue.keep_dead_letters()
    if rig.cell.params["end"] == "expired":
        [target] = rig.publish("target", expires=EXPIRES)
        if kept:
            rig.queue.has_dead_letter(target)
        rig.worker("worker")
    else:
        rig.worker("worker")
        rig.publish("target", act={"failed": "fail", "rejected": "reject"}[rig.cell.params["end"]])
    rig.publish("others", OTHERS)
    rig.settle()


@dead_letter.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["dropped"] == "kept":
        return "Redis has no dead-letter queue: what is rejected there is deleted"
    return None


@dead_letter.expects
def expected(cell: Cell) -> Expectation:
    how, end = cell.params["acknowledgement"], cell.params["end"]
    kept, surprise, target = cell.params["dropped"] == "kept", None, "failed"
    source = "celery 5.7.0 worker/request.py: on_failure"
    if end == "expired" and cell.broker == "rabbitmq":
        nacked, target, surprise = True, "stranded" if kept else "lost", NEVER_REVOKED
        because = "Celery gives the message a time to live, and RabbitMQ drops it before any worker sees it"
        source = "celery 5.7.0 app/base.py: send_task sets options['expiration']; kombu 5.7.0 messaging.py"
    elif end == "expired":
        nacked, because = False, "Redis keeps it, and the worker that receives it revokes it"
        source = "celery 5.7.0 worker/request.py: revoked"
    elif how == "early":
        nacked, because = False, "it was acknowledged before it started: nothing is left to reject"
    elif how == "late" and end == "failed":
        nacked, because = False, "a failure is acknowledged like a success, unless told otherwise"
    else:
        nacked, because = True, "the worker rejected it without requeue, and the broker dropped it"
    return Expectation(
        outcomes={"target": {target: 1}, "others": {"once": OTHERS}},
        because=because,
        source=source,
        facts={"dead": int(kept and nacked)},
        surprise=surprise,
    )


NEVER_REVOKED = Surprise(
    documented="when a worker receives an expired task it will mark the task as REVOKED "
    "(userguide/calling.rst, Expiration)",
    observed="on RabbitMQ no worker receives it: the broker drops it when its time is over, its state stays "
    "PENDING, and without a dead-letter queue nothing is left of it",
    source="celery 5.7.0 app/base.py: send_task; https://www.rabbitmq.com/docs/ttl#per-message-ttl-in-publishers",
)
