"""Celery's own extension points, turned into events.

Used here: signals, a custom ``Request`` (``Task.Request``), a custom strategy (``Task.Strategy``) and a
bootstep of the consumer. Nothing of Celery is patched. Read in celery 5.7.0: ``worker/strategy.py``
builds the request, books it as reserved and hands it to ``consumer.on_task_request``;
``worker/request.py`` makes a subclass that calls our ``on_accepted``, ``acknowledge`` and ``reject``,
but not our ``on_success``.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from importlib import metadata
from platform import python_version
from typing import Any, ClassVar

from celery import bootsteps, signals
from celery.worker import state
from celery.worker import strategy as celery_strategy
from celery.worker.request import Request

from . import gate
from .events import emit

RECORDED_PACKAGES = ("celery", "kombu", "billiard", "amqp", "redis", "vine")


class ProbedRequest(Request):
    """Reports what the worker's main process does with one delivery.

    Celery makes one of each delivery, and sends ``task_received`` only if it is not revoked already.

    A worker with an event loop only books an acknowledgement, and its loop sends it: at once where the loop
    is free, after the task where the loop itself runs it (celery 5.7.0 ``worker/consumer/consumer.py``:
    call_soon_ack; ``concurrency/solo.py``). It is told when it was sent, or when the connection was lost.
    """

    loop: ClassVar[Any] = None  # while it turns: before and after, whoever books is told at once
    _booked: ClassVar[list[ProbedRequest]] = []

    def __init__(self, *about: Any, **options: Any) -> None:
        super().__init__(*about, **options)
        emit("received", self.id, redelivered=bool(self.delivery_info.get("redelivered")))

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        emit("accepted", self.id, child=pid)
        super().on_accepted(pid, time_accepted)

    def acknowledge(self) -> None:
        first = not self.acknowledged
        try:
            super().acknowledge()
        finally:  # an error of the connection is logged or raised: kombu 5.7.0 message.py, ack_log_error
            if first:
                self._booked.append(self)
                if self.loop is None or self.message.acknowledged:
                    self._tell()
                else:  # a turn of the loop sends what is booked, in any order, and fires timers after that
                    self.loop.call_soon(self.loop.call_later, 0, self._tell)

    def _tell(self) -> None:
        if self in self._booked:
            self._booked.remove(self)
            sent, late = bool(self.message.acknowledged), bool(self.task.acks_late)
            emit("acknowledged", self.id, sent=sent, late=late)

    @classmethod
    def loop_ends(cls) -> None:
        """Tell of everything that is booked and will not be sent on this connection, or not by the loop."""
        cls.loop = None
        for request in list(cls._booked):
            request._tell()  # noqa: SLF001  (its own class)

    def reject(self, requeue: bool = False) -> None:
        first = not self.acknowledged
        try:
            super().reject(requeue=requeue)
        finally:
            if first:
                emit("rejected", self.id, requeue=requeue)


class HoldingConsumer:
    """A consumer that keeps reserved requests from the pool while the gate is closed.

    It does not block the worker's main loop: the request waits where one waits whose task is rate
    limited, so heartbeats go out and the death of a child is noticed. Like Celery, it forgets what
    waits when the connection is lost (celery 5.7.0 ``worker/consumer/consumer.py``: on_close).
    """

    _waiting: ClassVar[deque[Any]] = deque()  # of the only consumer that a worker has at a time

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        if not self._waiting and not gate.closed("reserved"):
            self._consumer.on_task_request(request)
            return
        emit("held", request.id, phase="reserved")
        self._waiting.append(request)
        if len(self._waiting) == 1:
            self._look_again()

    @classmethod
    def forget(cls) -> None:
        """The connection is lost, and with it every delivery that waits."""
        cls._waiting.clear()

    def _look_again(self) -> None:
        if gate.closed("reserved"):
            self._consumer.timer.call_after(gate.POLL_SECONDS, self._look_again)
            return
        while self._waiting:
            request = self._waiting.popleft()
            emit("passed", request.id, phase="reserved")
            self._consumer.on_task_request(request)


def strategy(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's default strategy, with the gate for the phase *reserved* in front of the pool."""
    return celery_strategy.default(task, app, HoldingConsumer(consumer))


class Connection(bootsteps.StartStopStep):
    """Reports when the worker begins to consume, and when it lost its connection or leaves.

    Celery 5.7.0 ``worker/consumer/consumer.py``: after a connection error it forgets every delivery that
    no process has accepted (``on_close``), then stops and starts its steps. SIGUSR2 asks for a description
    at any time: it needs no broker.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        signal.signal(signal.SIGUSR2, lambda *_: emit("state", **description(consumer)))

    def start(self, consumer: Any) -> None:
        ProbedRequest.loop = consumer.hub
        emit("consuming", prefetch=consumer.initial_prefetch_count)

    def stop(self, consumer: Any) -> None:
        HoldingConsumer.forget()
        ProbedRequest.loop_ends()
        emit("disconnected", **description(consumer))
        if state.should_stop is not None and state.should_stop is not False:  # 0 is an exit code
            # Only the wait for the pool fires timers now (celery 5.7.0 concurrency/prefork.py: on_stop).
            consumer.timer.call_after(0, emit, ("draining",))


def description(consumer: Any) -> dict[str, Any]:
    """What a worker's main process knows of itself."""
    return {
        "connected": bool(consumer.connection and consumer.connection.connected),
        "consuming": consumer.task_consumer is not None,
        "prefetch": consumer.qos.value if consumer.qos else None,
        "processes": consumer.pool.num_processes if consumer.pool and consumer.pool.active else None,
        "reserved": len(state.reserved_requests),
        "active": len(state.active_requests),
        "restarts": consumer.restart_count,
    }


def versions() -> dict[str, str]:
    """The versions that decide how this node behaves."""
    found = {"python": python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    _announce(signal.SIGQUIT)
    emit("ready", **versions())


def _announce(number: signal.Signals) -> None:
    """Say that a signal came before Celery acts on it.

    A soft shutdown sleeps in the handler, and announces itself when that is over (celery 5.7.0
    ``apps/worker.py``: _shutdown_handler calls on_cold_shutdown before it sends the signal).
    """
    celerys, worker = signal.getsignal(number), os.getpid()

    def handle(*frame: Any) -> None:
        if os.getpid() == worker:
            emit("signalled", signal=number.name)
        if callable(celerys):
            celerys(*frame)

    signal.signal(number, handle)


@signals.worker_init.connect
def _begin(**_: Any) -> None:
    signals.after_task_publish.connect(_published)  # by a worker: the publisher tells of its own in its way


def _published(headers: dict[str, Any], **_: Any) -> None:
    emit("published", headers["id"])


@signals.worker_process_init.connect
def _child_started(**_: Any) -> None:
    emit("child")


@signals.task_prerun.connect
def _started(task_id: str, **_: Any) -> None:
    emit("started", task_id)


@signals.task_postrun.connect
def _returned(task_id: str, state: str | None = None, **_: Any) -> None:
    if state == "SUCCESS":
        gate.hold("finished", task_id)
    else:  # the process that ran it knows before its parent, who may be looking for the broker
        emit("returned", task_id, state=state)


@signals.task_failure.connect
def _failed(task_id: str, exception: BaseException, **_: Any) -> None:
    emit("failed", task_id, error=f"{type(exception).__name__}: {exception}")


@signals.task_retry.connect
def _retried(request: Any, reason: Any = None, **_: Any) -> None:
    """Celery 5.7.0 ``worker/request.py`` says *retry* of a task that it cancels, and publishes nothing."""
    if reason is None:
        emit("cancelled", request.id)
    else:
        emit("retried", request.id, reason=str(reason))


@signals.task_revoked.connect
def _revoked(request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    emit("revoked", request.id, terminated=terminated, expired=expired)


@signals.worker_shutting_down.connect
def _shutting_down(sig: str, how: str, **_: Any) -> None:
    emit("shutting-down", signal=sig, how=how)


@signals.worker_shutdown.connect
def _shutdown(**_: Any) -> None:
    emit("shutdown")
