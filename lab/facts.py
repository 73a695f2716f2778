"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.evidence import dead_nodes, lab_events
from lab.history import Event, Scalar

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


def told_during(history: Sequence[Event]) -> Scalar:
    """What publishers were told about targets before the lab began to undo a fault: ``ok``, ``nothing``."""
    targets = _targets(history)
    healed = min((e.at for e in lab_events(history, "heal")), default=None)
    before = (e for e in history if e.task in targets and (healed is None or e.at < healed))
    told = {e.name.removeprefix("publish-") for e in before if e.name in ("publish-ok", "publish-failed")}
    return ", ".join(sorted(told)) or "nothing"


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {
    f.__name__: f for f in (runs, exits, waited, told_during)
}


def facts_of(history: Sequence[Event]) -> dict[str, Scalar]:
    """Every fact of this history."""
    return {name: fact(history) for name, fact in FACTS.items()}
