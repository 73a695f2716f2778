"""One live view over the output of every node of a trial. It triggers; it never decides a verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.engine.node import Node
from lab.errors import DeadlineExpired, EngineGone, Interrupted
from lab.history import Event, NotAnEvent, parse_event

WAKE_SECONDS = 0.2  # how late a stop request or a deadline may be noticed
POLL_SECONDS = 0.02  # between two questions to a broker
LATE = 0.05
FAST_SECONDS = 0.004
REST = 3

Stop = threading.Event


@dataclass(slots=True)
class Pace:
    """Asks a question that takes longer the more there is to look at, for a quarter of the time at most."""

    rest: float = 0.0  # seconds to leave before the next time; none while answers are fast

    def ask(self, question: Callable[[], bool]) -> bool:
        """The answer."""
        began = time.monotonic()
        answer = question()
        took = time.monotonic() - began
        self.rest = REST * took if took > FAST_SECONDS else 0.0
        return answer


class Watch:
    """Collects events from followed nodes, and waits for conditions on them with a deadline."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._seen: set[tuple[str, int, int]] = set()
        self._ended: set[str] = set()

    def follow(self, node: Node) -> None:
        """Read the node's output in a thread of its own until the node is dead."""
        threading.Thread(target=self._read, args=(node,), daemon=True, name=f"watch {node.name}").start()

    def until(
        self, condition: Callable[[Sequence[Event]], bool], what: str, seconds: float, node: str = ""
    ) -> None:
        """Wait until the condition holds. ``node`` is the one whose death makes waiting pointless.

        Raises :class:`DeadlineExpired` naming ``what`` was waited for, :class:`Interrupted`.
        """
        deadline = time.monotonic() + seconds
        pace = Pace()
        with self._changed:
            while not pace.ask(lambda: condition(self._events)):
                self.check()
                if node in self._ended:
                    raise DeadlineExpired(
                        f"{node} ended before {what}", "its standard error is kept beside the history"
                    )
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DeadlineExpired(f"waited {seconds:g} s for {what}", "run it again")
                self._changed.wait(min(left, WAKE_SECONDS))
                if pace.rest:
                    self._changed.wait_for(lambda: False, min(pace.rest, left))

    def poll(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for a condition outside the histories, like a broker that answers.

        What has not come for a while is asked for less often: it is seen late by a twentieth at most.
        """
        began = time.monotonic()
        pace = Pace()
        while not pace.ask(condition):
            self.check()
            waited = time.monotonic() - began
            if waited > seconds:
                raise DeadlineExpired(f"waited {seconds:g} s for {what}", "run it again")
            self._stop.wait(max(POLL_SECONDS, min(max(pace.rest, LATE * waited), WAKE_SECONDS)))

    def let_pass(self, seconds: float) -> None:
        """Let time pass, unless the user asks to stop."""
        self._stop.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise :class:`Interrupted` when the user asked to stop."""
        if self._stop.is_set():
            raise Interrupted("interrupted", "")

    def events(self) -> list[Event]:
        """What was seen so far."""
        with self._changed:
            return list(self._events)

    def missing_from(self, log: Iterable[Event]) -> int:
        """How many events were seen live that a full log does not have: a log that lost its end."""
        keys = {event.key for event in log}
        with self._changed:
            return len(self._seen - keys)

    def _read(self, node: Node) -> None:
        """A stream that ends is no evidence: follow again from the start while the node runs."""
        try:
            while True:
                with suppress(EngineGone):
                    for line in node.follow():
                        self._add(line)
                if not node.state().running:
                    return
                time.sleep(POLL_SECONDS)
        except EngineGone:
            return  # the node was removed, or the engine is gone: whoever works with it says so
        finally:
            with self._changed:
                self._ended.add(node.name)
                self._changed.notify_all()

    def _add(self, line: bytes) -> None:
        try:
            event = parse_event(line)
        except NotAnEvent:
            return  # the full read of the log names it as a defect
        with self._changed:
            if event.key not in self._seen:
                self._seen.add(event.key)
                self._events.append(event)
                self._changed.notify_all()
