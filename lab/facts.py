"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.evidence import dead_nodes, lab_events
from lab.history import Event, Scalar, in_order

TARGET = "target"


def _targets(history: Iterable[Event]) -> set[str | None]:
    return {e.task for e in history if e.name == "asked" and e.detail.get("label") == TARGET}


def runs(history: Sequence[Event]) -> Scalar:
    """How often the target was started, the most for one task."""
    targets = _targets(history)
    started = Counter(e.task for e in history if e.name == "started" and e.task in targets)
    return max(started.values(), default=0)


def exits(history: Sequence[Event]) -> Scalar:
    """With which codes nodes ended, as the engine says: ``victim 0``."""
    told = (f"{e.detail.get('node')} {e.detail.get('code')}" for e in lab_events(history, "exited"))
    return ", ".join(sorted(told))


def waited(history: Sequence[Event]) -> Scalar:
    """How many targets each killed node had received and never started: ``victim 10``."""
    targets, dead = _targets(history), dead_nodes(history)
    started = {(e.node, e.task) for e in history if e.name == "started"}
    taken = {(e.node, e.task) for e in history if e.name == "received" and e.task in targets}
    waiting = Counter(node for node, _ in taken - started if node in dead)
    return ", ".join(f"{node} {times}" for node, times in sorted(waiting.items()))


def sent(history: Sequence[Event]) -> Scalar:
    """How many ticks each beat sent: ``first 2, second 2``."""
    ticks = Counter(e.node for e in _ticks(history))
    return ", ".join(f"{node} {times}" for node, times in sorted(ticks.items()))


def _ticks(history: Iterable[Event]) -> list[Event]:
    """What beats published, in order of time."""
    events = list(history)
    beats = {e.detail.get("node") for e in lab_events(events, "beat-up")}
    return [e for e in in_order(events) if e.name == "asked" and e.node in beats]


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {
    f.__name__: f for f in (runs, exits, waited, sent)
}


def facts_of(history: Sequence[Event]) -> dict[str, Scalar]:
    """Every fact of this history."""
    return {name: fact(history) for name, fact in FACTS.items()}
