"""From what was seen to what became of every task. Pure: no clock, no network, no engine.

``judge(history, backlog)`` is the whole of it; run it again on a stored history and you get the same
answer. It prefers *unknown* to a guess: a fault that did not land, a log with a hole, a broker that
could not be asked are doubts, and a trial with a doubt never passes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lab.history import LAB, NANOSECONDS, Backlog, Event, holes

SENTINEL = "sentinel"  # the label of tasks that the lab publishes to prove that a worker takes work
WHOLE_NODE = 0  # an inject event with this pid struck every process of the node


class Outcome(StrEnum):
    """What became of one task."""

    ONCE = "once"
    REDELIVERED = "redelivered"
    DUPLICATED = "duplicated"
    FAILED = "failed"
    STRANDED = "stranded"
    REFUSED = "refused"
    PHANTOM = "phantom"
    LOST = "lost"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """A trial next to what its scenario expects."""

    EXPECTED = "as expected"
    SURPRISE = "surprise"
    INCONCLUSIVE = "inconclusive"


class Told(StrEnum):
    """What the publisher was told about one task."""

    OK = "ok"
    FAILED = "failed"
    NOTHING = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was counted for one task.

    ``deliveries`` counts what the broker sent, also what nobody read: a first reception that is
    already flagged as redelivered had a delivery before it.
    """

    asked: int = 0
    told: Told = Told.NOTHING
    received: int = 0
    deliveries: int = 0
    starts: int = 0
    finishes: int = 0
    failures: int = 0
    acknowledged: int = 0
    rejected: int = 0
    held: str = ""  # "ready", "unacked", or "" when the broker holds nothing
    orphan_finish: bool = False  # a process finished it that never started it


@dataclass(frozen=True, slots=True)
class TaskVerdict:
    """One task: its outcome and what decides it."""

    task: str
    label: str
    outcome: Outcome
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class WorkerVerdict:
    """One worker that was alive at the end: it took and finished new work, or it is stalled.

    ``after`` is in seconds from the proof of the fault to its first finish; ``concurrency`` is the
    number of processes in which it finished the lab's sentinels.
    """

    node: str
    resumed: bool
    after: float | None
    concurrency: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one trial's evidence. ``recovery`` is in seconds, fault to last finish."""

    tasks: tuple[TaskVerdict, ...]
    workers: tuple[WorkerVerdict, ...]
    doubts: tuple[str, ...]
    recovery: float | None

    def counts(self) -> dict[str, dict[str, int]]:
        """Outcomes counted for each label: ``{"target": {"lost": 1}, ...}``."""
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for verdict in self.tasks:
            counted[verdict.label][verdict.outcome.value] += 1
        return {label: dict(sorted(counter.items())) for label, counter in sorted(counted.items())}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a scenario expects of one cell, why, and who says so (page, or upstream file and version)."""

    outcomes: Mapping[str, Mapping[str, int]]
    because: str = ""
    source: str = ""


def judge(history: Sequence[Event], backlog: Backlog) -> Judgement:
    """Decide every task, every surviving worker, and whether the evidence holds at all."""
    settled = any(e.node == LAB and e.name == "settled" for e in history)
    labels = {e.task: str(e.detail.get("label", "")) for e in history if e.name == "asked" and e.task}
    seen = {e.task for e in history if e.node != LAB and e.task} | {*backlog.ready, *backlog.unacked}
    by_task: dict[str, list[Event]] = defaultdict(list)
    for event in history:
        if event.task and event.node != LAB:
            by_task[event.task].append(event)
    verdicts = []
    for task in sorted(seen, key=lambda t: (labels.get(t, ""), t)):
        if labels.get(task) == SENTINEL:
            continue
        evidence = gather(by_task[task], task, backlog)
        found = outcome_of(evidence, settled=settled and backlog.readable)
        verdicts.append(TaskVerdict(task, labels.get(task, "unasked"), found, evidence))
    doubts = tuple(_doubts(history, backlog, verdicts))
    return Judgement(
        tasks=tuple(verdicts),
        workers=tuple(_workers(history, labels)),
        doubts=doubts,
        recovery=_recovery(history, labels),
    )


def verdict_on(judgement: Judgement, expectation: Expectation) -> Status:
    """Put observed and expected side by side. Doubt comes before surprise."""
    if judgement.doubts:
        return Status.INCONCLUSIVE
    expected = {label: dict(counts) for label, counts in expectation.outcomes.items()}
    observed = judgement.counts()
    stalled = any(not worker.resumed for worker in judgement.workers)
    return Status.EXPECTED if observed == expected and not stalled else Status.SURPRISE


def gather(events: Iterable[Event], task: str, backlog: Backlog) -> Evidence:
    """Count what happened to one task. ``events`` are those of that task, in any order."""
    count: Counter[str] = Counter()
    started_by: set[tuple[str, int]] = set()
    finished_by: set[tuple[str, int]] = set()
    fresh = 0
    for event in events:
        count[event.name] += 1
        if event.name == "started":
            started_by.add((event.node, event.pid))
        elif event.name == "finished":
            finished_by.add((event.node, event.pid))
        elif event.name == "received" and not event.detail.get("redelivered"):
            fresh += 1
    unread = 1 if count["received"] and not fresh else 0
    return Evidence(
        asked=count["asked"],
        told=_told(count),
        received=count["received"],
        deliveries=count["received"] + unread,
        starts=count["started"],
        finishes=count["finished"],
        failures=count["failed"],
        acknowledged=count["acknowledged"],
        rejected=count["rejected"],
        held="ready" if task in backlog.ready else "unacked" if task in backlog.unacked else "",
        orphan_finish=not finished_by <= started_by,
    )


def outcome_of(evidence: Evidence, *, settled: bool) -> Outcome:  # noqa: PLR0911  (a table of cases)
    """The outcome of one task.

    ``settled`` says that the broker was read and the lab proved that no worker still holds work;
    without it an absent task is unknown, not lost.
    """
    if evidence.asked != 1 or evidence.orphan_finish:
        return Outcome.UNKNOWN
    if evidence.finishes and evidence.held:
        return Outcome.UNKNOWN  # it is done, and it will be delivered again
    if evidence.told is Told.FAILED and evidence.starts:
        return Outcome.PHANTOM
    if evidence.finishes:
        return _finished(evidence)
    if evidence.held:
        return Outcome.STRANDED
    if evidence.told is Told.FAILED:
        return Outcome.REFUSED if settled else Outcome.UNKNOWN
    if evidence.failures:
        return Outcome.FAILED
    return Outcome.LOST if settled and evidence.told is Told.OK else Outcome.UNKNOWN


def _finished(evidence: Evidence) -> Outcome:
    if evidence.finishes > 1:
        return Outcome.DUPLICATED
    return Outcome.REDELIVERED if evidence.deliveries > 1 else Outcome.ONCE


def _told(count: Counter[str]) -> Told:
    if count["publish-ok"]:
        return Told.OK
    return Told.FAILED if count["publish-failed"] else Told.NOTHING


# --- doubts: why the evidence may not be believed -----------------------------------------------


def _doubts(history: Sequence[Event], backlog: Backlog, verdicts: Sequence[TaskVerdict]) -> Iterator[str]:
    if not any(event.name == "asked" for event in history):
        yield "nothing was published"
    for event in history:
        if event.node == LAB and event.name == "defect":
            yield str(event.detail.get("what"))
    yield from holes(history)
    if not backlog.readable:
        yield "the broker could not be asked what it still holds"
    for event in history:
        if event.node == LAB and event.name == "inject" and (why := why_missed(history, event)):
            yield f"the fault did not land: {why}"
    yield from _unprovoked_redeliveries(history)
    for verdict in verdicts:
        if verdict.outcome is Outcome.UNKNOWN:
            yield f"task {verdict.task} ({verdict.label}) is undecided: {_why_unknown(verdict.evidence)}"


def _why_unknown(evidence: Evidence) -> str:
    if evidence.asked != 1:
        return f"it was published {evidence.asked} times under one id"
    if evidence.orphan_finish:
        return "a process finished it that never started it"
    if evidence.finishes and evidence.held:
        return f"it finished, and the broker holds it ({evidence.held}) to deliver it again"
    if evidence.told is Told.NOTHING:
        return "the publisher was told neither success nor failure"
    return "it did not finish, the broker does not hold it, and the trial did not come to rest"


def why_missed(history: Sequence[Event], inject: Event) -> str | None:
    """Why a fault does not count as landed at its phase, or ``None`` when it does.

    *Killed while running* holds only if the struck process started the task, and neither finished
    nor failed it. The lab's own record must show the phase reached before the fault, and the proof
    of the fault before any gate was opened.
    """
    own = sorted((e for e in history if e.node == LAB), key=lambda e: e.seq)
    proof = next((e for e in own if e.name == "landed" and _same_fault(e, inject)), None)
    if proof is None:
        return f"there is no proof of {inject.detail.get('fault')} on {inject.detail.get('node')}"
    phase, task, node = inject.detail.get("phase"), inject.task, inject.detail.get("node")
    if phase is None:
        return None
    if not any(e.name == "reached" and e.task == task and e.seq < inject.seq for e in own):
        return f"{task} was not seen {phase} before the fault"
    if any(e.name == "opened" and e.detail.get("node") == node and e.seq < proof.seq for e in own):
        return f"the gate of {node} was opened before the fault"
    return _PHASES[str(phase)](Struck.by(inject, history))


@dataclass(frozen=True, slots=True)
class Struck:
    """The events of one task on the node that was struck, and on the processes that died."""

    task: str
    node: tuple[Event, ...] = field(default_factory=tuple)
    dead: tuple[Event, ...] = field(default_factory=tuple)

    @classmethod
    def by(cls, inject: Event, history: Iterable[Event]) -> Struck:
        pid = inject.detail.get("pid", WHOLE_NODE)
        node = tuple(e for e in history if e.task == inject.task and e.node == inject.detail.get("node"))
        dead = tuple(e for e in node if pid in (WHOLE_NODE, e.pid))
        return cls(task=str(inject.task), node=node, dead=dead)

    def names(self) -> set[str]:
        return {event.name for event in self.dead}


def _missed_reserved(struck: Struck) -> str | None:
    if not any(event.name == "received" for event in struck.node):
        return f"{struck.task} never reached the worker"
    if "started" in struck.names():
        return f"{struck.task} had already started"
    return None


def _missed_running(struck: Struck) -> str | None:
    if "started" not in struck.names():
        return f"{struck.task} was not running in the process that died"
    if struck.names() & {"finished", "failed"}:
        return f"{struck.task} had already finished in the process that died"
    return None


def _missed_finished(struck: Struck) -> str | None:
    finish = next((e for e in struck.dead if e.name == "finished"), None)
    if finish is None:
        return f"{struck.task} had not finished in the process that died"
    if "passed" in struck.names():
        return f"{struck.task} had already gone on to its acknowledgement"
    # A dead child's siblings go on: its parent acknowledges after the kill, and may. A dead worker's
    # acknowledgement can only be from before; both events are by one clock, that of the node.
    if any(e.name == "acknowledged" and e.at > finish.at for e in struck.dead):
        return f"{struck.task} had already been acknowledged"
    return None


_PHASES = {
    "reserved": _missed_reserved,
    "running": _missed_running,
    "finished": _missed_finished,
}


def _same_fault(proof: Event, inject: Event) -> bool:
    return all(proof.detail.get(key) == inject.detail.get(key) for key in ("fault", "node", "pid"))


def _unprovoked_redeliveries(history: Iterable[Event]) -> Iterator[str]:
    """A broker that takes work from a healthy worker answers to a shortened timeout, not to the fault.

    One worker may receive a task once, and once more for each time that it gave it back. Workers that
    no fault struck may receive it once among all of them.
    """
    struck = {str(e.detail.get("node")) for e in _lab(history, "inject")}
    received: Counter[tuple[str, str]] = Counter()
    returned: Counter[tuple[str, str]] = Counter()
    for event in history:
        if event.task and event.name == "received":
            received[event.task, event.node] += 1
        elif event.task and (event.name == "retried" or _requeued(event)):
            returned[event.task, event.node] += 1
    healthy: Counter[str] = Counter()
    for (task, node), times in sorted(received.items()):
        spare = times - 1 - returned[task, node]
        if spare > 0:
            yield f"{node} received {task} {times} times and gave it back {returned[task, node]} times"
        if node not in struck:
            healthy[task] += times - returned[task, node]
    for task, times in sorted(healthy.items()):
        if times > 1:
            yield f"{task} was redelivered {times - 1} times among workers that no fault struck"


def _requeued(event: Event) -> bool:
    return event.name == "rejected" and bool(event.detail.get("requeue"))


# --- workers and times --------------------------------------------------------------------------


def _workers(history: Sequence[Event], labels: Mapping[str, str]) -> Iterator[WorkerVerdict]:
    dead = {
        str(e.detail.get("node"))
        for e in _lab(history, "landed")
        if e.detail.get("pid") == WHOLE_NODE and e.detail.get("fault") == "kill"
    }
    workers = [str(e.detail.get("node")) for e in _lab(history, "worker-up")]
    since = _fault_time(history)
    for node in workers:
        if node in dead:
            continue
        done = [e for e in history if e.node == node and e.name == "finished"]
        sentinels = [e for e in done if e.task and labels.get(e.task) == SENTINEL]
        after = min((e.at for e in done if since is not None and e.at > since), default=None)
        yield WorkerVerdict(
            node=node,
            resumed=bool(sentinels),
            after=_seconds(since, after),
            concurrency=len({e.pid for e in sentinels}),
        )


def _recovery(history: Sequence[Event], labels: Mapping[str, str]) -> float | None:
    since = _fault_time(history)
    last = max(
        (e.at for e in history if e.name == "finished" and e.task and labels.get(e.task) != SENTINEL),
        default=None,
    )
    return _seconds(since, last) if since is not None and last is not None and last > since else None


def _fault_time(history: Iterable[Event]) -> int | None:
    return min((e.at for e in _lab(history, "landed")), default=None)


def _seconds(since: int | None, until: int | None) -> float | None:
    if since is None or until is None:
        return None
    return round((until - since) / NANOSECONDS, 3)


def _lab(history: Iterable[Event], name: str) -> Iterator[Event]:
    return (e for e in history if e.node == LAB and e.name == name)
