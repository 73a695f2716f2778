"""A queue is declared, its first tasks are confirmed, and the broker dies in the same second.

In production: the first deployment of an application, a queue for each tenant or host, a broker that is
killed while a new version with new queues is rolled out.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, crash_broker, scenario

TASKS = 3

AGE = Axis.of("age", "newborn", "known")


@scenario(
    "newborn-queue",
    asks="The broker is killed right after a queue was declared and its tasks were confirmed. Are they kept?",
    vary=[AGE],
    own_broker=True,
)
def newborn_queue(rig: Rig) -> None:
    [target, *_] = rig.publish("target", TASKS)
    moment = rig.queue.has(target)
    if rig.cell.params["age"] == "known":
        rig.queue.age()
    rig.heal(rig.inject(crash_broker(rig), moment))
    if rig.cell.params["age"] == "newborn":
        rig.queue.delete_leaderless()  # it answers nobody, also after another restart
    rig.worker("worker")
    rig.settle()


@newborn_queue.cannot
def cannot(cell: Cell) -> str | None:
    if not cell.profile.startswith("rabbitmq-quorum"):
        return "only a quorum queue is written down later than it is declared"
    return None


@newborn_queue.expects
def expected(cell: Cell) -> Expectation:
    newborn = cell.params["age"] == "newborn"
    return Expectation(
        outcomes={"target": {"lost" if newborn else "once": TASKS}},
        because="Ra writes the name of a new queue to its directory up to half a second late; a queue that "
        "it does not find there is started anew and empty, and never elects a leader"
        if newborn
        else "Ra had written down the name of the queue, and its log has what was confirmed",
        source="ra ra_directory.erl: a DETS table with auto_save; rabbitmq-server issue 15725: "
        "name_not_registered, starting member as a new one",
        surprise=LOST_THOUGH_CONFIRMED if newborn else None,
    )


LOST_THOUGH_CONFIRMED = Surprise(
    documented="quorum queues: a confirmed message is on disk on a majority of the members, and survives",
    observed="a queue that was declared in the second before a crash comes back without its confirmed "
    "messages, refuses every publish and answers no consumer, until somebody deletes it",
    source="https://www.rabbitmq.com/docs/quorum-queues#data-safety; RabbitMQ 4.0.5, single node; "
    "rabbitmq-server issue 15725",
)
