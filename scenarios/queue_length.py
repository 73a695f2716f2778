"""A queue has a greatest length, and more tasks are published than fit.

In production: a policy with ``max-length``, by an operator who fears for the broker's memory; then a burst,
or workers that are down for longer than they should be. RabbitMQ has three ways to overflow.
"""

from lab import CONFIRM, Axis, Cell, Expectation, Rig, Surprise, scenario

FIT, MORE = 2, 2
ATTEMPTS = 4  # by task_publish_retry_policy: one, and three more

OVERFLOW = Axis.of("overflow", "drop-head", "reject-publish", "reject-publish-dlx")
DROPPED = Axis.of("dropped", "gone", "kept")


@scenario(
    "queue-length",
    asks="More tasks are published than the queue may hold. Which are lost, and is the publisher told?",
    vary=[CONFIRM, OVERFLOW, DROPPED],
)
def queue_length(rig: Rig) -> None:
    rig.queue.limit_length(FIT, rig.cell.params["overflow"])
    if rig.cell.params["dropped"] == "kept":
        rig.queue.keep_dead_letters()
    rig.publish("target", FIT)
    rig.publish("newest", MORE)
    rig.worker("worker")
    rig.settle()


@queue_length.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis limits no list: it takes tasks until its memory is full, see redis-memory-full"
    return None


@queue_length.expects
def expected(cell: Cell) -> Expectation:
    overflow, kept = cell.params["overflow"], cell.params["dropped"] == "kept"
    quorum = cell.profile.startswith("rabbitmq-quorum")
    if overflow == "drop-head" or (quorum and overflow == "reject-publish-dlx"):
        return drop_head(kept=kept, ignored=overflow != "drop-head")
    confirmed, letters = cell.params["confirm"] == "confirmed", ""
    newest, because = "lost", "the broker refused it, and a publisher that does not ask is not told"
    if overflow == "reject-publish-dlx" and kept:
        newest, letters = "stranded", f"newest {MORE}"
        because = "it was refused, and became a dead letter"
    if confirmed:
        newest, because = "refused", "the broker refused it by basic.nack, each time that it was published"
        letters = letters and f"newest {MORE * ATTEMPTS}"
    if quorum:
        return soft_limit(confirmed=confirmed)
    return Expectation(
        outcomes={"target": {"once": FIT}, "newest": {newest: MORE}},
        because=because,
        source="https://www.rabbitmq.com/docs/maxlength#overflow-behaviour; amqp 5.4.2 connection.py: "
        "recoverable_connection_errors has MessageNacked; kombu 5.7.0 connection.py: ensure",
        facts={"dead_letters": letters},
        surprise=COPIES if confirmed and letters else None,
    )


def soft_limit(*, confirmed: bool) -> Expectation:
    return Expectation(
        outcomes={
            "target": {"once": FIT},
            "newest": {"once": 1, "refused" if confirmed else "lost": MORE - 1},
        },
        luck={} if confirmed else {"newest": ("once", "lost")},
        because="a quorum queue says that it is full when it is over its limit, and takes what comes until "
        "the publisher's channel has heard that",
        source="rabbitmq 4.0.5 rabbit_fifo.erl: evaluate_limit; rabbit_fifo_client.erl: "
        "enqueue; https://www.rabbitmq.com/docs/maxlength",
        facts={"dead_letters": ""},
    )


def drop_head(*, kept: bool, ignored: bool) -> Expectation:
    return Expectation(
        outcomes={"target": {"stranded" if kept else "lost": FIT}, "newest": {"once": MORE}},
        because="each task that does not fit pushes out the oldest one, of which nobody is told",
        source="https://www.rabbitmq.com/docs/maxlength#overflow-behaviour",
        facts={"dead_letters": f"target {FIT}" if kept else ""},
        surprise=IGNORED if ignored else None if kept else CONFIRMED_AND_GONE,
    )


CONFIRMED_AND_GONE = Surprise(
    documented="Celery: confirm_publish tells a publisher of the tasks that the broker did not take",
    observed="with drop-head, the default of RabbitMQ, the tasks that have waited the longest vanish: their "
    "publishers were told ok, confirms or not, no worker and no result backend ever hears of them",
    source="kombu 5.7.0 transport/pyamqp.py: confirm_publish; https://www.rabbitmq.com/docs/maxlength",
)
IGNORED = Surprise(
    documented="reject-publish-dlx refuses the newest tasks, and makes dead letters of them",
    observed="a quorum queue takes that policy for drop-head: the oldest tasks are dropped, and "
    "only the broker's log says that the strategy is invalid",
    source="https://www.rabbitmq.com/docs/quorum-queues#feature-matrix; rabbitmq 4.0.5 "
    "rabbit_quorum_queue.erl: overflow",
)
COPIES = Surprise(
    documented="task_publish_retry: publishing is retried when the connection is lost "
    "(userguide/calling.rst, Message Sending Retry)",
    observed="a refusal counts as a lost connection: Celery publishes again on a new one, three times; "
    "with reject-publish-dlx each attempt becomes a dead letter: four of one task that was never taken",
    source="amqp 5.4.2 connection.py: recoverable_connection_errors; kombu 5.7.0 connection.py: ensure",
)
