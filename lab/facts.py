"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.evidence import lab_events
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


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {f.__name__: f for f in (runs, exits)}


def facts_of(history: Sequence[Event]) -> dict[str, Scalar]:
    """Every fact of this history."""
    return {name: fact(history) for name, fact in FACTS.items()}
