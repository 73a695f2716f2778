"""The broker is away while a publisher publishes, or the publisher dies before it does.

In production: a broker that restarts, fails over or hangs under a web application that goes on calling
``delay()``; a connection that a load balancer resets; a web process that is killed between the commit of
its own database and the publish, which is why people write an outbox.
"""

from lab import (
    CONFIRM,
    Axis,
    Cell,
    Expectation,
    Rig,
    Surprise,
    Worker,
    crash_broker,
    cut_wire,
    freeze_broker,
    freeze_wire,
    kill,
    scenario,
    send_signal,
)

PATIENT = {
    "task_publish_retry_policy": {
        "max_retries": 200,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    }
}
OUTAGE = Axis(
    "outage",
    {
        "down": {},
        "down-patient": PATIENT,
        "restarted": {},
        "frozen": {},
        "message-lost": PATIENT,
        "answer-lost": PATIENT,
        "answer-lost-down": {},
        "committed": {},
    },
    core=("down", "restarted", "frozen", "message-lost", "answer-lost"),
)
BEGUN = 1.0  # seconds, in which the call that the outage must meet has begun: nobody can see it


@scenario(
    "publish-during-outage",
    asks="The broker is away while a task is published. What is the publisher told, and what becomes of it?",
    vary=[CONFIRM, OUTAGE],
    own_broker=True,
)
def publish_during_outage(rig: Rig) -> None:
    outage = rig.cell.params["outage"]
    worker = rig.worker("worker")
    if outage == "committed":
        killed_after_its_commit(rig)
    elif outage == "frozen":
        frozen(rig)
    elif outage in ("message-lost", "answer-lost", "answer-lost-down"):
        lost_on_the_way(rig, worker)
    else:
        down(rig, worker)
    rig.settle()


def down(rig: Rig, worker: Worker) -> None:
    """The broker is killed; it comes back before the publish, while it is retried, or after."""
    outage = rig.cell.params["outage"]
    web = rig.publisher("web")
    rig.publish("before", by=web)  # it has a connection, and has declared its queue
    worker.says("finished")
    rig.inject(send_signal(worker, "SIGTERM"))  # nothing but the publisher is there when the broker dies
    worker.exits()
    rig.write_out()
    broker = rig.inject(crash_broker(rig))
    if outage == "restarted":
        rig.heal(broker)
    target = rig.publish("target", by=web, wait=outage != "down-patient")
    if outage != "restarted":
        web.says("asked", target[0])
        rig.heal(broker)
    web.was_told(target, 30)
    rig.worker("later")


def frozen(rig: Rig) -> None:
    """The broker does not run for a while, and its connections stay open."""
    web = rig.publisher("web")
    rig.publish("before", by=web)
    broker = rig.inject(freeze_broker(rig))
    target = rig.publish("target", by=web, wait=not is_answered(rig.cell))
    web.says("asked", target[0])
    rig.let_pass(BEGUN)
    rig.heal(broker)
    web.was_told(target)


def lost_on_the_way(rig: Rig, worker: Worker) -> None:
    """The connection is reset while the message, or the answer to it, is on its way."""
    outage = rig.cell.params["outage"]
    wire = rig.proxy()
    web = rig.publisher("web", through=wire)
    [before] = rig.publish("before", by=web)
    worker.says("finished", before)
    held = rig.inject(freeze_wire(wire, "up" if outage == "message-lost" else "down"))
    target = rig.publish("target", by=web, wait=outage == "message-lost" and not is_answered(rig.cell))
    if outage == "message-lost":
        wire.says("withheld")
    else:
        worker.says("received", target[0])
    line = rig.inject(cut_wire(wire))
    if outage == "answer-lost-down":
        web.was_told(target)
    rig.heal(held)
    rig.heal(line)
    web.was_told(target)


def killed_after_its_commit(rig: Rig) -> None:
    """The publisher has written its own database, and dies before it publishes."""
    web = rig.publisher("web", hold="committed")
    [target] = rig.publish("target", by=web, wait=False)
    rig.inject(kill(web), web.commits(target))


def is_answered(cell: Cell) -> bool:
    """Whether the broker answers each publish: Redis always does, RabbitMQ if it is asked to confirm."""
    return cell.broker == "redis" or cell.params["confirm"] == "confirmed"


@publish_during_outage.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis" and cell.params["confirm"] == "confirmed":
        return "Redis has no publisher confirms: the answer to LPUSH is all that a publisher is told"
    return None


@publish_during_outage.expects
def expected(cell: Cell) -> Expectation:
    outage, answered = cell.params["outage"], is_answered(cell)
    surprise = None
    if outage == "committed":
        target, because = "lost", "what a publisher has not sent is nowhere but in its own database"
    elif outage == "message-lost" and not answered:
        target, because = "lost", "it was told ok when the bytes had gone to its own kernel; nobody answers"
    elif outage == "answer-lost" and answered:
        target, because = "duplicated", "the answer was lost, so it was published again: two messages, one id"
        surprise = TWICE
    elif outage == "answer-lost-down" and answered:
        target, because = "phantom", "the broker had it, and the publisher could not reach the broker to hear"
    elif outage == "down":
        target, because = "refused", "the default policy gives up after three attempts in less than a second"
    elif outage == "frozen":
        target = "once"
        because = (
            "it hangs for as long as the broker does" if answered else "it is told ok at once by its kernel"
        )
    else:
        target, because = "once", "the publish is repeated on a new connection until the broker has it"
    return Expectation(
        outcomes={"target": {target: 1}} | ({} if outage == "committed" else {"before": {"once": 1}}),
        because=because,
        source="kombu 5.7.0 connection.py: ensure; amqp 5.4.2 channel.py: basic_publish_confirm, "
        "_basic_publish; celery 5.7.0 app/defaults.py: task_publish_retry_policy",
        facts=({"told_during": "nothing" if answered else "ok"} if outage == "frozen" else {})
        | ({"exits": "worker 0"} if outage in ("down", "down-patient", "restarted") else {}),
        surprise=surprise,
    )


TWICE = Surprise(
    documented="task_publish_retry: publishing is retried when the connection is lost "
    "(userguide/calling.rst, Message Sending Retry), which reads as if it could only help",
    observed="one call of delay() whose answer is lost publishes two messages with one id: it runs twice",
    source="kombu 5.7.0 connection.py: ensure calls Producer._publish again after any connection error",
)
