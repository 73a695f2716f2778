"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.evidence import dead_nodes, lab_events
from lab.history import Event, Scalar

TARGET = "target"
LABS_OWN = "sentinel"  # the label of what the lab publishes to prove that a worker takes work


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


def results(history: Sequence[Event]) -> Scalar:
    """Which states the result backend had in the end: ``others SUCCESS x2, target none``."""
    if not any(lab_events(history, "results")):
        return ""
    stored = {e.task: e.detail.get("state") for e in lab_events(history, "result")}
    labels = {e.task: e.detail.get("label") for e in history if e.name == "asked"}
    told = Counter(
        f"{label} {stored.get(task, 'none')}" for task, label in labels.items() if label != LABS_OWN
    )
    return ", ".join(f"{what} x{times}" if times > 1 else what for what, times in sorted(told.items()))


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {
    f.__name__: f for f in (runs, exits, waited, results)
}


def facts_of(history: Sequence[Event]) -> dict[str, Scalar]:
    """Every fact of this history."""
    return {name: fact(history) for name, fact in FACTS.items()}
