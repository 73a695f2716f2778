"""Prefetched tasks come back: in what order they run, and what became of their priority.

In production: tasks that build on each other and were published in order, or urgent ones with a priority,
when the worker that had prefetched them dies or is told to leave.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, kill, scenario, send_signal

PREFETCHED = 3

HOW = Axis.of("how", "killed", "closed")
PRIORITY = Axis("priority", {"none": {}, "mixed": {"task_queue_max_priority": 9}})
PRIORITIES = {"none": (None, None, None), "mixed": (3, 9, 0)}


@scenario(
    "order-and-priority",
    asks="Prefetched tasks come back from a worker that is gone. In what order do they run then?",
    vary=[HOW, PRIORITY],
)
def order_and_priority(rig: Rig) -> None:
    how = rig.cell.params["how"]
    victim = rig.worker("victim", hold="running")
    [first] = rig.publish("first")
    moment = victim.reaches("running", first)
    for priority in PRIORITIES[rig.cell.params["priority"]]:
        rig.publish("target", **({} if priority is None else {"priority": priority}))
    victim.prefetches(1 + PREFETCHED)
    if how == "killed":
        rig.inject(kill(victim), moment)
    else:
        rig.inject(send_signal(victim, "SIGTERM"), moment)
        victim.release()
        victim.exits(20)
    rig.worker("rescuer", after_visibility_timeout=how == "killed")
    rig.settle()


@order_and_priority.cannot
def cannot(cell: Cell) -> str | None:
    if cell.profile.startswith("rabbitmq-quorum") and cell.params["priority"] == "mixed":
        return "a quorum queue has two priorities only, and refuses x-max-priority"
    return None


@order_and_priority.expects
def expected(cell: Cell) -> Expectation:
    closed, mixed, redis = (
        cell.params["how"] == "closed",
        cell.params["priority"] == "mixed",
        cell.broker == "redis",
    )
    source = "kombu 5.7.0 transport/redis.py: restore_unacked, restore_visible, _do_restore_message"
    surprise = None
    if mixed and redis:
        order, because = (
            "4 2 3",
            "they come back into the list of their priority, and on Redis the lowest number runs first",
        )
        source += ", _brpop_start"
    elif mixed:
        order, because = (
            "3 2 4",
            "they come back with their priority, and on RabbitMQ the highest number runs first",
        )
        source = "https://www.rabbitmq.com/docs/priority"
    elif redis and closed:
        order, because, surprise = (
            "4 3 2",
            "each is given back to the end that is read next, the oldest first",
            REVERSED,
        )
    elif redis:
        order, because = "2 3 4", "the sweep gives the newest back first, to the end that is read next"
    else:
        order, because = "2 3 4", "RabbitMQ puts what comes back where it was"
        source = "https://www.rabbitmq.com/docs/semantics#ordering"
    return Expectation(
        outcomes={"first": {"once" if closed else "lost": 1}, "target": {"redelivered": PREFETCHED}},
        facts={"order": order} | ({"exits": "victim 0"} if closed else {}),
        because=because,
        source=source,
        surprise=surprise,
    )


REVERSED = Surprise(
    documented="a warm shutdown gives prefetched tasks back to the broker, as if nothing had happened "
    "(userguide/workers.rst, Stopping the worker)",
    observed="on Redis they come back in reverse order: the one published last runs first",
    source="kombu 5.7.0 transport/redis.py: QoS.restore_unacked",
)
