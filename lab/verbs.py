"""What a script can do to the nodes in its hands: each verb makes the fault that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.errors import UsageError
from lab.faults import (
    Alarm,
    CloseConnections,
    ControlShutdown,
    Cut,
    DamagedLog,
    DiskFull,
    Eviction,
    Fault,
    Freeze,
    KillChild,
    KillNode,
    MemoryFull,
    OutOfMemory,
    PowerCut,
    Signal,
    Stop,
    Wire,
)
from lab.faults.log import DAMAGE
from lab.handles import Handle, Proxy, Worker
from lab.judge import BROKER
from lab.rig import Rig
from lab.servers.base import Beside

LONG_ALARM = 60.0  # seconds: a broker may be killed and started again in it
FIRST_PROCESS = 1  # of a container; its end is the end of the container


def kill(node: Handle) -> Fault:
    """SIGKILL to a whole node: main process and pool."""
    return KillNode(node.name, target=node.node)


def kill_child(worker: Worker, task: str) -> Fault:
    """SIGKILL to the pool process that holds the task; the worker's main process lives on."""
    return KillChild(worker.name, pid=worker.child(task), target=worker.node)


def exhaust_memory(worker: Worker, task: str) -> Fault:
    """Let the process that holds the task go on, and eat, until the kernel's out-of-memory killer ends it.

    The worker needs a limit of its memory, and the task an act that eats. Where the main process runs the
    task, it is the victim, and the whole node ends.
    """
    pid = worker.child(task)
    whole = pid == FIRST_PROCESS
    return OutOfMemory(worker.name, pid=0 if whole else pid, target=worker.node, eat=worker.release)


def send_signal(worker: Handle, number: str, *, heard: str = "shutting-down") -> Fault:
    """A signal by which an operator or an orchestrator ends a worker, or a beat: SIGTERM, SIGQUIT, SIGINT.

    ``heard`` is what the worker says when it has come. One that shuts down softly announces that only
    after it has waited; on SIGQUIT it says ``signalled`` before.
    """
    return Signal(worker.name, target=worker.node, number=number, heard=lambda: worker.count(heard))


def control_shutdown(worker: Worker) -> Fault:
    """``celery control shutdown``: every worker of the trial is told to leave, through the broker.

    It announces nothing (celery 5.7.0 ``worker/control.py``: shutdown raises WorkerShutdown), so the proof
    is that it stops to consume.
    """
    return ControlShutdown(worker.name, target=worker.node, heard=lambda: worker.count("disconnected"))


def freeze(node: Handle) -> Fault:
    """Stop every process of a node between two instructions, until it is healed."""
    return Freeze(node.name, target=node.node)


def cut(node: Handle) -> Fault:
    """Pull the node's cable: packets vanish both ways, until it is healed.

    Raises :class:`UsageError` for a node that has none of its own.
    """
    if not node.node.network:
        raise UsageError(f"{node.name} shares its address with others", "start it with cable=True")
    return Cut(node.name, target=node.node)


def crash_broker(rig: Rig) -> Fault:
    """SIGKILL to the broker. Healed, it starts again with what its disk has."""
    return KillNode(BROKER, target=rig.broker.node, answers=rig.broker.answers)


def stop_broker(rig: Rig) -> Fault:
    """The broker is asked to end in good order. Healed, it starts again."""
    return Stop(BROKER, target=rig.broker.node, ask=rig.broker.shut_down, answers=rig.broker.answers)


def cut_power(rig: Rig) -> Fault:
    """The power of the broker's machine fails. Healed, it starts again with what had reached its disk."""
    broker = rig.broker
    return PowerCut(
        BROKER,
        target=broker.node,
        disk=rig.disk,
        folder=str(broker.profile.service.data),
        answers=broker.answers,
    )


def end_broker(rig: Rig, how: str) -> Fault:
    """The broker ends by a ``stop``, by a ``crash``, or with its ``power``."""
    return {"stop": stop_broker, "crash": crash_broker, "power": cut_power}[how](rig)


def fill_memory(rig: Rig) -> Fault:
    """The broker's memory limit falls below what it holds, until it is healed."""
    broker = rig.broker
    return MemoryFull(
        BROKER,
        fill=lambda: broker.limit_memory(1),
        free=lambda: broker.limit_memory(0),
        full=broker.memory_is_full,
    )


def raise_alarm(rig: Rig, resource: str) -> Fault:
    """The broker is short of ``memory`` or ``disk``, and blocks every connection that publishes."""
    broker = rig.broker
    return Alarm(
        BROKER,
        resource=resource,
        sound=broker.raise_alarm,
        clear=broker.clear_alarm,
        alarms=broker.alarms,
        longest=LONG_ALARM,
    )


def damage_log(rig: Rig, how: str, task: str, *, mend: bool = False) -> Fault:
    """The append-only file of a Redis that is dead is damaged where it has that task (:mod:`lab.faults.log`).

    To ``mend`` it, healed, Redis is started, and when it refuses its own tool cuts the file.
    """
    broker = rig.broker
    return DamagedLog(
        BROKER,
        target=broker.node,
        folder=f"{broker.profile.service.data}/{broker.log_folder}",
        newest=broker.newest_log,
        damage=lambda log: DAMAGE[how](log, task),
        answers=broker.answers,
        mend=broker.mend_log if mend else None,
    )


def fill_disk(rig: Rig) -> Fault:
    """The disk of the broker has no room left, until it is healed."""
    broker = rig.broker
    rig.queue.tune(BROKER, broker.meet_full_disk())
    return DiskFull(
        BROKER,
        target=broker.node,
        disk=rig.disk,
        refuses=broker.disk_is_full,
        may_end=broker.ends_on_full_disk,
        answers=broker.answers,
    )


def evict(rig: Rig, policy: str, key: str) -> Fault:
    """A cache beside the queue grows until Redis has evicted that key, or its policy spares it for good."""
    cache, broker = rig.namespace.cache(), rig.broker
    return Eviction(
        BROKER,
        key=key,
        grow=lambda: cache.grow(policy, key),
        evicted=cache.evicted,
        full=broker.memory_is_full,
        has=lambda: cache.spares(key),
        free=cache.free,
        limited=cache.limited,
    )


def freeze_broker(rig: Rig) -> Fault:
    """Stop every process of the broker between two instructions, until it is healed."""
    return Freeze(BROKER, target=rig.broker.node)


def crash_server(server: Beside) -> Fault:
    """SIGKILL to a server beside the broker. Healed, it starts again with what its disk has."""
    return KillNode(server.alias, target=server.node, answers=server.answers)


def close_connections(rig: Rig) -> Fault:
    """The broker closes every connection of the trial."""
    return CloseConnections(BROKER, close=rig.namespace.close_connections)


def freeze_wire(proxy: Proxy, way: str) -> Fault:
    """Bytes of one way wait in the proxy: ``up`` to the broker, ``down`` from it."""
    return _wire(proxy, "freeze", {"do": "freeze", "way": way}, {"do": "thaw"})


def cut_wire(proxy: Proxy) -> Fault:
    """Every connection through the proxy is reset, and so are new ones."""
    return _wire(proxy, "cut", {"do": "cut"}, {"do": "mend"})


def trip(proxy: Proxy) -> Fault:
    """The freeze for which the proxy was armed: it lands by itself, at its moment of the protocol."""
    return Wire(
        proxy.name,
        verb="trip",
        do={},
        undo={"do": "thaw"},
        order=_order(proxy),
        happened=lambda: proxy.count("tripped") > 0,
    )


def _wire(proxy: Proxy, verb: str, do: Mapping[str, str], undo: Mapping[str, str]) -> Fault:
    return Wire(proxy.name, verb=verb, do=do, undo=undo, order=_order(proxy))


def _order(proxy: Proxy) -> Callable[[Mapping[str, str]], Callable[[], bool]]:
    def order(about: Mapping[str, str]) -> Callable[[], bool]:
        if not about:
            return lambda: True
        number = proxy.order(about)
        return lambda: proxy.obeyed(number)

    return order
