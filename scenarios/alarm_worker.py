"""RabbitMQ has raised an alarm and blocks who publishes; the workers, who are to empty it, publish too.

In production: the memory or disk alarm of rabbitmq-alarm, seen from the workers.
"""

from lab import CONFIRM, EARLY_OR_LATE, Axis, Cell, Expectation, Rig, Surprise, kill, raise_alarm, scenario

WAITING = 3
HUNG = 1.0  # seconds, in which a worker that is not hung would go on
TASK = Axis.of("task", "plain", "retries", "retries-killed")


@scenario(
    "alarm-worker",
    asks="RabbitMQ raises its memory alarm. Do workers go on with what waits, and what becomes of a retry?",
    vary=[CONFIRM, TASK, EARLY_OR_LATE],
    own_broker=True,
)
def alarm_worker(rig: Rig) -> None:
    task = rig.cell.params["task"]
    worker = rig.worker("worker", hold="running")
    [target] = rig.publish("target", act="nothing" if task == "plain" else "retry_once")
    rig.publish("waiting", WAITING)
    moment = worker.reaches("running", target)
    worker.prefetches(1 + WAITING)
    alarm = rig.inject(raise_alarm(rig, "memory"), moment)
    rig.queue.has_blocked(1)  # the connection for the worker's events: its heartbeat is one, every 2 s
    worker.release()
    if task != "plain":
        rig.queue.has_blocked(2)  # that of the process which publishes the retry
    if rig.cell.params["confirm"] == "unconfirmed":
        worker.says("acknowledged", times=1 + WAITING)
    if task == "retries-killed":
        rig.inject(kill(worker))
    else:
        rig.let_pass(HUNG)
    rig.heal(alarm)
    if task == "retries-killed":
        rig.worker("rescuer")
    rig.settle()


@alarm_worker.cannot
def cannot(cell: Cell) -> str | None:
    if cell.broker == "redis":
        return "Redis blocks no publisher: it refuses him when its memory is full, see redis-memory-full"
    if "@3.8" in cell.profile:
        return "RabbitMQ 3.8.9 has no health check that lists its alarms: 3.8.10 was the first that did"
    if cell["task_acks_late"] and cell.params["task"] != "retries-killed":
        return "when a task is acknowledged makes no difference where no worker dies"
    if cell["worker_pool"] not in ("prefork", "processes"):
        return f"on which connection a {cell['worker_pool']} worker publishes is not modelled here"
    return None


@alarm_worker.expects
def expected(cell: Cell) -> Expectation:
    """A worker consumes on one connection, sends events on another, and its processes retry on a third."""
    task, confirmed = cell.params["task"], cell.params["confirm"] == "confirmed"
    target, waiting, during = "once", "once", WAITING + (task == "plain")
    because = "it consumes and acknowledges on a connection of its own, which publishes nothing"
    source = "celery 5.7.0 worker/consumer/events.py: Events.start opens a connection for events"
    if confirmed:
        during = int(task == "plain")
        because = "its main process waits for the confirm of its own heartbeat for as long as the alarm lasts"
        source = "celery 5.7.0 worker/heartbeat.py: Heart.start; amqp 5.4.2 channel.py: basic_publish_confirm"
    luck: dict[str, tuple[str, ...]] = {}
    if task == "retries-killed" and confirmed:
        waiting, lucky = "redelivered", ("redelivered", "lost")
        if cell["task_acks_late"]:
            lucky = ("duplicated", "redelivered")
        target, luck = lucky[0], {"target": lucky}
        because += "; its retry is read after the alarm, unless the broker hears before that nobody is there"
    elif task == "retries-killed":
        target, because = "lost", "its retry was told ok, its message acknowledged, and its connection reset"
        source = "celery 5.7.0 app/task.py: retry; rabbitmq 4.0.5 rabbit_reader.erl: send_unblocked"
    return Expectation(
        outcomes={"target": {target: 1}, "waiting": {waiting: WAITING}},
        because=because,
        source=source,
        luck=luck,
        facts={"finished_during": during},
        surprise=HANGS if confirmed else RETRY_LOST if target == "lost" else None,
    )


HANGS = Surprise(
    documented="RabbitMQ: an alarm blocks who publishes; consumers go on, and so the queues become shorter",
    observed="a worker whose broker_transport_options ask for confirm_publish hangs within two seconds: it "
    "waits for the confirm of its own heartbeat event, and runs nothing until the alarm is over",
    source="https://www.rabbitmq.com/docs/alarms; celery 5.7.0 worker/heartbeat.py: Heart._send; "
    "--without-heartbeat, --without-gossip and no -E would leave it without events",
)
RETRY_LOST = Surprise(
    documented="Celery: with task_acks_late a task whose worker is killed is delivered again",
    observed="a task that retries in an alarm is acknowledged when its retry is in a socket that nobody "
    "reads: its worker's death in that time loses it, acknowledged late or early",
    source="celery 5.7.0 app/task.py: retry; amqp 5.4.2 channel.py: _basic_publish; rabbitmq 4.0.5 "
    "rabbit_reader.erl: send_unblocked",
)
