"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.evidence import dead_nodes, lab_events
from lab.history import Event, Scalar

TARGET = "target"
DISK = "disk"  # the node that cuts the power of a broker's disk


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


def cut_after(history: Sequence[Event]) -> Scalar:
    """How many milliseconds after the last word about a target the power was cut, by one clock."""
    targets = _targets(history)
    cut = next((e.at for e in history if e.node == DISK and e.name == "power-cut"), None)
    words = [e.at for e in history if e.name in ("publish-ok", "acknowledged") and e.task in targets]
    before = [at for at in words if cut is not None and at < cut]
    return round((cut - max(before)) / 1_000_000) if cut is not None and before else None


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {
    f.__name__: f for f in (runs, exits, waited, cut_after)
}


def facts_of(history: Sequence[Event]) -> dict[str, Scalar]:
    """Every fact of this history."""
    return {name: fact(history) for name, fact in FACTS.items()}
