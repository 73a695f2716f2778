"""What a history tells beside the outcomes: how often, in what order, how many charges. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from lab.evidence import dead_nodes
from lab.history import NANOSECONDS, SENTINEL, Backlog, Event, History, Scalar, in_order

FEW = 50
LATE_SECONDS = 0.25  # more than that, and what is said of 200 ms would be of half a second
DISK = "disk"  # the node that cuts the power of a broker's disk


def runs(history: History) -> Scalar:
    """How often the target was started, the most for one task."""
    started = Counter(e.task for e in history.named("started") if e.task in history.targets)
    return max(started.values(), default=0)


def exits(history: History) -> Scalar:
    """With which codes nodes ended, as the engine says: ``victim 0``."""
    told = (f"{e.detail.get('node')} {e.detail.get('code')}" for e in history.lab("exited"))
    return ", ".join(sorted(told))


def waited(history: History) -> Scalar:
    """How many targets each killed node had received and never started: ``victim 10``."""
    waiting: Counter[str] = Counter()
    for node in dead_nodes(history):
        started = {e.task for e in history.of(node) if e.name == "started"}
        taken = {e.task for e in history.of(node) if e.name == "received" and e.task in history.targets}
        waiting[node] = len(taken - started)
    return ", ".join(f"{node} {times}" for node, times in sorted(waiting.items()) if times)


def sent(history: History) -> Scalar:
    """How many ticks each beat sent: ``first 2, second 2``."""
    ticks = Counter(e.node for e in _ticks(history))
    return ", ".join(f"{node} {times}" for node, times in sorted(ticks.items()))


def remembered(history: History) -> Scalar:
    """Of how many ticks before it each beat knew when it started, by its file: ``again 0 of 1``."""
    ticks = _ticks(history)
    memories = in_order(history.named("remembers"))
    told = ((e, sum(tick.at < e.at for tick in ticks)) for e in memories)
    return ", ".join(f"{e.node} {e.detail.get('runs')} of {before}" for e, before in told if before)


def slow_beats(history: History) -> Iterator[str]:
    """Which beats stood still when they started, so that a tick which was not due came without a wait."""
    ordered = in_order(history.named("remembers", "due", "waits"))
    for event in ordered:
        if event.name != "remembers" or event.detail.get("due"):
            continue
        own = (e for e in ordered if e.node == event.node and e.name in ("due", "waits"))
        if (first := next(own, None)) is not None and first.name == "due":
            yield f"{event.node} stood still before its first tick until it was due"


def late_faults(history: History) -> Iterator[str]:
    """Which faults came much later after the last word about a target than the experiment wanted."""
    for passed in history.lab("passed-by"):
        wanted = float(str(passed.detail["seconds"]))
        struck = min((at for at in _strikes(history) if at >= passed.at), default=None)
        told = _last_word(history, passed.at)
        if struck is None or told is None:
            continue
        late = (struck - told) / NANOSECONDS - wanted
        if late > LATE_SECONDS:
            yield f"the fault came {wanted + late:.2f} s after the last word about a target, not {wanted:g} s"


def _strikes(history: History) -> list[int]:
    """When power was cut, by the one that cut it; where none was, when the lab began each fault."""
    cuts = [e.at for e in history.of(DISK) if e.name == "power-cut"]
    return cuts or [e.at for e in history.lab("inject")]


def _last_word(history: History, until: int) -> int | None:
    """When somebody was last told something of a target: that it is published, that it is done."""
    words = (e for e in history.named("publish-ok", "acknowledged") if e.task in history.targets)
    return max((e.at for e in words if e.at <= until), default=None)


def cut_after(history: History) -> Scalar:
    """How many milliseconds after the last word about a target the power was cut, by one clock."""
    cut = next((e.at for e in history.of(DISK) if e.name == "power-cut"), None)
    if cut is None:
        return None
    told = _last_word(history, cut - 1)
    return None if told is None else round((cut - told) / 1_000_000)


def results(history: History) -> Scalar:
    """Which states the result backend had in the end: ``others SUCCESS x2, target none``."""
    if not history.lab("results"):
        return ""
    stored = {e.task: e.detail.get("state") for e in history.lab("result")}
    told = Counter(
        f"{label} {stored.get(task, 'none')}" for task, label in history.labels.items() if label != SENTINEL
    )
    return ", ".join(f"{what} x{times}" if times > 1 else what for what, times in sorted(told.items()))


def charges(history: History) -> Scalar:
    """How many charges the ledger had for the targets in the end; ``None`` without a ledger."""
    if not history.lab("ledger"):
        return None
    return sum(int(str(e.detail["times"])) for e in history.lab("charged") if e.task in history.targets)


def _ticks(history: History) -> list[Event]:
    """What beats published, in order of time."""
    beats = {str(e.detail.get("node")) for e in history.lab("beat-up")}
    return in_order(e for beat in beats for e in history.of(beat) if e.name == "asked")


def _undone(history: History) -> int | None:
    """When the lab began to undo a fault."""
    return min((e.at for e in history.lab("heal")), default=None)


def told_during(history: History) -> Scalar:
    """What publishers were told about targets before the lab began to undo a fault: ``ok``, ``nothing``."""
    undone = _undone(history)
    told = {
        e.name.removeprefix("publish-")
        for e in history.named("publish-ok", "publish-failed")
        if e.task in history.targets and (undone is None or e.at < undone)
    }
    return ", ".join(sorted(told)) or "nothing"


def finished_during(history: History) -> Scalar:
    """How many tasks had finished before the lab began to undo a fault; ``None`` where it undid none."""
    undone = _undone(history)
    if undone is None:
        return None
    before = (e.task for e in history.named("finished") if e.at < undone)
    return sum(history.labels.get(task or "", SENTINEL) != SENTINEL for task in before)


def order(history: History) -> Scalar:
    """In what order the worker that came last started its tasks: ``2 3 1``, numbered as published.

    ``None`` where there are too many for anybody to read.
    """
    own = [e for e in history.named("asked") if e.detail.get("label") != SENTINEL]
    if len(own) > FEW:
        return None
    asked = [event.task for event in in_order(own)]
    number = {task: str(place) for place, task in enumerate(asked, 1)}
    if not (up := history.lab("worker-up")):
        return ""
    started = in_order(e for e in history.of(str(up[-1].detail.get("node"))) if e.name == "started")
    return " ".join(number[e.task] for e in started if e.task in number)


FACTS: Mapping[str, Callable[[History], Scalar]] = {
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


def dead(history: History, backlog: Backlog) -> Scalar:
    """How many targets lie in the dead-letter queue."""
    return len(history.targets & {*backlog.dead})


def dead_letters(history: History, backlog: Backlog) -> Scalar:
    """How many messages of each label lie in the dead-letter queue: ``newest 8``. A task may have several."""
    counted = Counter(history.labels.get(task, "unasked") for task in backlog.dead)
    return ", ".join(f"{label} {times}" for label, times in sorted(counted.items()))


def facts_of(history: History, backlog: Backlog) -> dict[str, Scalar]:
    """Every fact of this history, and of what the broker held when it ended."""
    kept = {"dead": dead(history, backlog), "dead_letters": dead_letters(history, backlog)}
    return kept | {name: fact(history) for name, fact in FACTS.items()}
