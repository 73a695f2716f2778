"""RabbitMQ is short of memory or disk, and blocks every connection that publishes.

In production: a backlog that outgrew the memory watermark, a log that filled the broker's disk, one queue
of somebody else. The broker reads nothing more from who publishes; it says so by ``connection.blocked``,
which py-amqp reads and Celery does not ask for. What its workers do meanwhile is the story of alarm-worker.
"""

from lab import CONFIRM, Axis, Cell, Expectation, Rig, Surprise, crash_broker, kill, raise_alarm, scenario

ALARM = Axis.of("alarm", "memory", "disk")
THEN = Axis.of("then", "over", "broker-crash", "killed-after-one", "killed-after-two")
PATIENT = {"max_retries": 200, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
QUIET = ("--without-heartbeat",)  # a worker's heartbeats are events: its connection would be blocked too


@scenario(
    "rabbitmq-alarm",
    asks="RabbitMQ raises its memory or disk alarm. What is a publisher told, and what becomes of its tasks?",
    vary=[CONFIRM, ALARM, THEN],
    own_broker=True,
)
def rabbitmq_alarm(rig: Rig) -> None:
    then = rig.cell.params["then"]
    worker = rig.worker("worker", options=QUIET)
    web = rig.publisher("web", settings={"task_publish_retry_policy": PATIENT})
    [before] = rig.publish("before", by=web)  # it has a connection, and has declared its queue
    worker.says("finished", before)
    alarm = rig.inject(raise_alarm(rig, rig.cell.params["alarm"]))
    [target] = rig.publish("target", by=web, wait=rig.cell.params["confirm"] == "unconfirmed")
    rig.queue.has_blocked(1)
    if then == "killed-after-two":
        rig.publish("second", by=web)
    if then.startswith("killed"):
        rig.inject(kill(web))
    if then == "broker-crash":
        rig.heal(rig.inject(crash_broker(rig)))
        worker.resumes()
    rig.heal(alarm)
    if not then.startswith("killed"):
        web.was_told([target])
    rig.settle()


@rabbitmq_alarm.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis blocks no publisher: it refuses him when its memory is full, see redis-memory-full"
    if "@3.8" in cell.profile:
        return "RabbitMQ 3.8.9 has no health check that lists its alarms: 3.8.10 was the first that did"
    if cell.params["then"] == "killed-after-two" and cell.params["confirm"] == "confirmed":
        return "a publisher that waits for confirms does not come to its second task while it is blocked"
    if cell.params["alarm"] == "disk" and cell.params["then"] != "over":
        return "the disk alarm blocks by the same means: what follows is shown with the memory alarm"
    return None


@rabbitmq_alarm.expects
def expected(cell: Cell) -> Expectation:
    then, confirmed = cell.params["then"], cell.params["confirm"] == "confirmed"
    outcomes = {"target": "once", "before": "once"}
    source = "rabbitmq 4.0.5 rabbit_reader.erl: recvloop, maybe_block; amqp 5.4.2 channel.py: _basic_publish"
    surprise = None if confirmed else TOLD_OK
    if then == "over":
        because = "its bytes wait in the broker's memory, or its kernel's, until the alarm is over"
    elif then == "broker-crash" and confirmed:
        because = "it was told nothing, so it published again, for as long as its retry policy lets it"
        source = "kombu 5.7.0 connection.py: ensure"
    elif then == "broker-crash":
        outcomes["target"] = "lost"
        because = "it was told ok when its bytes were in a kernel; the broker that was to read them died"
    elif then == "killed-after-one" and not confirmed:
        outcomes["target"], source = "lost", f"{source}; {UNREAD}"
        because = RESET
    else:
        because = "it died with connection.blocked read, so its connection ended in good order"
    luck = {}
    if then == "killed-after-two":
        outcomes["second"], luck = "once", {"target": ("once", "lost"), "second": ("once", "lost")}
        because += (
            "; whether the broker comes to handle all of it before it hears that nobody is there is luck"
        )
    return Expectation(
        outcomes={label: {outcome: 1} for label, outcome in outcomes.items()},
        because=because,
        source=source,
        luck=luck,
        facts={"told_during": "nothing" if confirmed else "ok"},
        surprise=surprise,
    )


RESET = (
    "it died with connection.blocked unread: its kernel reset the connection, so the broker failed to say "
    "that it is unblocked, which it does before it handles the task that it had read"
)
UNREAD = "_basic_publish reads what came before it sends; rabbit_reader.erl: maybe_unblock, send_unblocked"
TOLD_OK = Surprise(
    documented="RabbitMQ: connections that only publish are blocked while an alarm is in effect, and clients "
    "can be told so, to stop publishing",
    observed="delay() is told ok at once for a task that the broker has not read, until the buffers of two "
    "kernels are full; a crash of the broker in that time loses them, that of the publisher may",
    source="https://www.rabbitmq.com/docs/connection-blocked; amqp 5.4.2 connection.py: _on_blocked calls "
    "on_blocked, which kombu 5.7.0 transport/pyamqp.py does not set",
)
