"""Redis has reached its memory limit, and evicts by a policy.

In production: a cache in the same Redis as the queue. A cache wants a policy that evicts, and the policy
holds for the whole server. To Redis a queue is one key: it goes at once, with all the tasks in it.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, evict, kill, scenario

OTHERS = 9
LATE = {"task_acks_late": True, "worker_prefetch_multiplier": 1}
BY_EXCHANGE = {"exchange": "celery", "routing_key": "celery"}

POLICY = Axis.of("policy", "allkeys-lru", "allkeys-random", "volatile-lru", "noeviction")
TASK = Axis("task", {"queued": {}, "running": LATE, "routed": {}})


@scenario(
    "redis-eviction",
    asks="A cache beside the queue fills Redis, and it evicts. Are the tasks lost with it?",
    vary=[POLICY, TASK],
    own_broker=True,
)
def redis_eviction(rig: Rig) -> None:
    {"queued": queued, "running": running, "routed": routed}[rig.cell.params["task"]](rig)
    rig.settle()


def queued(rig: Rig) -> None:
    """Tasks wait, and nobody takes them yet."""
    rig.publish("others", OTHERS)
    [target] = rig.publish("target")
    rig.heal(rig.inject(evict(rig, rig.cell.params["policy"], "celery"), rig.queue.has(target)))
    rig.worker("later")


def running(rig: Rig) -> None:
    """A worker has a task that it acknowledges late; then it dies."""
    victim = rig.worker("victim", hold="running")
    [target] = rig.publish("target")
    moment = victim.reaches("running", target)
    rig.heal(rig.inject(evict(rig, rig.cell.params["policy"], "unacked"), moment))
    rig.inject(kill(victim), moment)
    rig.worker("later", after_visibility_timeout=True)


def routed(rig: Rig) -> None:
    """A task is published to an exchange by name, by one who did so before: it declares no queue again."""
    worker = rig.worker("worker")
    [before] = rig.publish("before", **BY_EXCHANGE)
    worker.says("acknowledged", before)
    rig.heal(rig.inject(evict(rig, rig.cell.params["policy"], "_kombu.binding.celery")))
    rig.publish("target", **BY_EXCHANGE)
    rig.worker("later")
    rig.publish("again", **BY_EXCHANGE)


@redis_eviction.cannot
def cannot(cell: Cell) -> str | None:
    return None if cell.broker == "redis" else "RabbitMQ evicts nothing, and is nobody's cache"


@redis_eviction.expects
def expected(cell: Cell) -> Expectation:
    task, policy = cell.params["task"], cell.params["policy"]
    if policy.startswith("allkeys"):
        return {"queued": queue_gone, "running": unacked_gone, "routed": binding_gone}[task]()
    return Expectation(
        outcomes={
            "queued": {"target": {"once": 1}, "others": {"once": OTHERS}},
            "running": {"target": {"redelivered": 1}},
            "routed": {"target": {"once": 1}, "before": {"once": 1}, "again": {"once": 1}},
        }[task],
        because="only keys with a time to live may go, and none of the broker's has one"
        if policy == "volatile-lru"
        else "nothing is evicted: the cache is refused its writes instead",
        source="redis 8.0 src/evict.c: performEvictions; kombu 5.7.0 transport/redis.py: _put, QoS.append",
    )


def queue_gone() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}, "others": {"lost": OTHERS}},
        because="all that waits is one list, and a list is evicted as a whole",
        source="kombu 5.7.0 transport/redis.py: _put; redis 8.0 src/evict.c: performEvictions",
    )


def unacked_gone() -> Expectation:
    return Expectation(
        outcomes={"target": {"lost": 1}},
        because="what is out with all workers is one hash, and what is not in it any more cannot come back",
        source="kombu 5.7.0 transport/redis.py: QoS.append, restore_by_tag",
    )


def binding_gone() -> Expectation:
    """Who declared the queue once on its connection does not do so again; a worker that starts does."""
    return Expectation(
        outcomes={"target": {"lost": 1}, "before": {"once": 1}, "again": {"once": 1}},
        because="an exchange without a table routes to no queue, until somebody new declares one",
        source="kombu 5.7.0 transport/redis.py: get_table; transport/virtual/exchange.py: deliver",
        surprise=Surprise(
            documented="Celery: when Redis has evicted _kombu.binding.celery, one gets an InconsistencyError",
            observed="nothing is raised: the publisher is told that all is well, and the task is nowhere",
            source="https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html"
            "#key-eviction; kombu 5.7.0 transport/redis.py: get_table",
        ),
    )
