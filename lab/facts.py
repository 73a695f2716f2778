"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from lab.evidence import dead_nodes, lab_events
from lab.history import NANOSECONDS, Backlog, Event, Scalar, in_order

TARGET = "target"
FEW = 50
LATE_SECONDS = 0.25  # more than that, and what is said of 200 ms would be of half a second
SENTINEL = "sentinel"  # the label of tasks that the lab publishes to prove that a worker takes work
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
    if not (dead := dead_nodes(history)):
        return ""
    targets = _targets(history)
    started = {(e.node, e.task) for e in history if e.name == "started"}
    taken = {(e.node, e.task) for e in history if e.name == "received" and e.task in targets}
    waiting = Counter(node for node, _ in taken - started if node in dead)
    return ", ".join(f"{node} {times}" for node, times in sorted(waiting.items()))


def sent(history: Sequence[Event]) -> Scalar:
    """How many ticks each beat sent: ``first 2, second 2``."""
    ticks = Counter(e.node for e in _ticks(history))
    return ", ".join(f"{node} {times}" for node, times in sorted(ticks.items()))


def remembered(history: Sequence[Event]) -> Scalar:
    """Of how many ticks before it each beat knew when it started, by its file: ``again 0 of 1``."""
    ticks = _ticks(history)
    memories = in_order(e for e in history if e.name == "remembers")
    told = ((e, sum(tick.at < e.at for tick in ticks)) for e in memories)
    return ", ".join(f"{e.node} {e.detail.get('runs')} of {before}" for e, before in told if before)


def slow_beats(history: Sequence[Event]) -> Iterator[str]:
    """Which beats stood still when they started, so that a tick which was not due came without a wait."""
    ordered = in_order(event for event in history if event.name in ("remembers", "due", "waits"))
    for event in ordered:
        if event.name != "remembers" or event.detail.get("due"):
            continue
        own = (e for e in ordered if e.node == event.node and e.name in ("due", "waits"))
        if (first := next(own, None)) is not None and first.name == "due":
            yield f"{event.node} stood still before its first tick until it was due"


def late_faults(history: Sequence[Event]) -> Iterator[str]:
    """Which faults came much later after the last word about a target than the experiment wanted."""
    targets = _targets(history)
    words = [e.at for e in history if e.name in ("publish-ok", "acknowledged") and e.task in targets]
    for passed in lab_events(history, "passed-by"):
        wanted = float(str(passed.detail["seconds"]))
        struck = min((at for at in _strikes(history) if at >= passed.at), default=None)
        before = max((at for at in words if at <= passed.at), default=None)
        if struck is None or before is None:
            continue
        late = (struck - before) / NANOSECONDS - wanted
        if late > LATE_SECONDS:
            yield f"the fault came {wanted + late:.2f} s after the last word about a target, not {wanted:g} s"


def _strikes(history: Sequence[Event]) -> list[int]:
    """When power was cut, by the one that cut it; where none was, when the lab began each fault."""
    cuts = [e.at for e in history if e.node == DISK and e.name == "power-cut"]
    return cuts or [e.at for e in lab_events(history, "inject")]


def cut_after(history: Sequence[Event]) -> Scalar:
    """How many milliseconds after the last word about a target the power was cut, by one clock."""
    cut = next((e.at for e in history if e.node == DISK and e.name == "power-cut"), None)
    if cut is None:
        return None
    targets = _targets(history)
    words = [e.at for e in history if e.name in ("publish-ok", "acknowledged") and e.task in targets]
    before = [at for at in words if at < cut]
    return round((cut - max(before)) / 1_000_000) if before else None


def results(history: Sequence[Event]) -> Scalar:
    """Which states the result backend had in the end: ``others SUCCESS x2, target none``."""
    if not any(lab_events(history, "results")):
        return ""
    stored = {e.task: e.detail.get("state") for e in lab_events(history, "result")}
    labels = {e.task: e.detail.get("label") for e in history if e.name == "asked"}
    told = Counter(
        f"{label} {stored.get(task, 'none')}" for task, label in labels.items() if label != SENTINEL
    )
    return ", ".join(f"{what} x{times}" if times > 1 else what for what, times in sorted(told.items()))


def charges(history: Sequence[Event]) -> Scalar:
    """How many charges the ledger had for the targets in the end; ``None`` without a ledger."""
    if not any(lab_events(history, "ledger")):
        return None
    targets = _targets(history)
    return sum(int(str(e.detail["times"])) for e in lab_events(history, "charged") if e.task in targets)


def _ticks(history: Iterable[Event]) -> list[Event]:
    """What beats published, in order of time."""
    events = list(history)
    if not (beats := {e.detail.get("node") for e in lab_events(events, "beat-up")}):
        return []
    return in_order(e for e in events if e.name == "asked" and e.node in beats)


def told_during(history: Sequence[Event]) -> Scalar:
    """What publishers were told about targets before the lab began to undo a fault: ``ok``, ``nothing``."""
    targets = _targets(history)
    healed = min((e.at for e in lab_events(history, "heal")), default=None)
    before = (e for e in history if e.task in targets and (healed is None or e.at < healed))
    told = {e.name.removeprefix("publish-") for e in before if e.name in ("publish-ok", "publish-failed")}
    return ", ".join(sorted(told)) or "nothing"


def finished_during(history: Sequence[Event]) -> Scalar:
    """How many tasks had finished before the lab began to undo a fault; ``None`` where it undid none."""
    healed = min((e.at for e in lab_events(history, "heal")), default=None)
    if healed is None:
        return None
    own = {e.task for e in history if e.name == "asked" and e.detail.get("label") != SENTINEL}
    return sum(e.at < healed for e in history if e.name == "finished" and e.task in own)


def order(history: Sequence[Event]) -> Scalar:
    """In what order the worker that came last started its tasks: ``2 3 1``, numbered as published.

    ``None`` where there are too many for anybody to read.
    """
    own = [e for e in history if e.name == "asked" and e.detail.get("label") != SENTINEL]
    if len(own) > FEW:
        return None
    asked = [event.task for event in in_order(own)]
    number = {task: str(place) for place, task in enumerate(asked, 1)}
    last = next((e.detail.get("node") for e in reversed([*lab_events(history, "worker-up")])), None)
    started = in_order(e for e in history if e.name == "started" and e.node == last)
    return " ".join(number[e.task] for e in started if e.task in number)


FACTS: Mapping[str, Callable[[Sequence[Event]], Scalar]] = {
    f.__name__: f
    for f in (
        runs,
        exits,
        waited,
        sent,
        remembered,
        results,
        charges,
        told_during,
        finished_during,
        order,
        cut_after,
    )
}


def dead(history: Sequence[Event], backlog: Backlog) -> Scalar:
    """How many targets lie in the dead-letter queue."""
    return len(_targets(history) & {*backlog.dead}) if backlog.dead else 0


def dead_letters(history: Sequence[Event], backlog: Backlog) -> Scalar:
    """How many messages of each label lie in the dead-letter queue: ``newest 8``. A task may have several."""
    labels = {e.task: e.detail.get("label") for e in history if e.name == "asked"}
    counted = Counter(str(labels.get(task)) for task in backlog.dead)
    return ", ".join(f"{label} {times}" for label, times in sorted(counted.items()))


def facts_of(history: Sequence[Event], backlog: Backlog) -> dict[str, Scalar]:
    """Every fact of this history, and of what the broker held when it ended."""
    kept = {"dead": dead(history, backlog), "dead_letters": dead_letters(history, backlog)}
    return kept | {name: fact(history) for name, fact in FACTS.items()}
