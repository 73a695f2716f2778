"""From what was seen to what became of every task. Pure: no clock, no network, no engine.

``judge(history, backlog)`` is the whole of it; run it again on a stored history and you get the same
answer. It prefers *unknown* to a guess: a fault that did not land, a log with a hole, a broker that
could not be asked are doubts, and a trial with a doubt never passes.
"""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from lab.evidence import (
    Evidence,
    Told,
    dead_nodes,
    gather,
    in_hand,
    is_requeue,
    is_unsent,
    where_held,
)
from lab.facts import facts_of, late_faults, slow_beats
from lab.history import LAB, NANOSECONDS, SENTINEL, Backlog, Event, History, Scalar, holes, in_order
from lab.landing import why_missed

BROKER = "broker"  # the name of the broker's node


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


@dataclass(frozen=True, slots=True)
class TaskVerdict:
    """One task: its outcome and what decides it."""

    task: str
    label: str
    outcome: Outcome
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class WorkerVerdict:
    """One worker that was alive at the end: it did new work at its full concurrency, or it is stalled.

    ``after`` is in seconds from the end of the fault (from the fault, if it was not undone) to the first
    task that it received then. ``concurrency`` is how many of the lab's sentinels it ran at once and
    finished, of ``wanted``. ``state`` is what a stalled one said of itself, or that it said nothing.
    """

    node: str
    asked: bool
    after: float | None
    concurrency: int
    wanted: int
    state: str = ""

    @property
    def resumed(self) -> bool:
        """Whether it takes and finishes new work at its full concurrency."""
        return self.concurrency >= self.wanted


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one trial's evidence. ``recovery`` is in seconds, fault to last finish."""

    tasks: tuple[TaskVerdict, ...]
    workers: tuple[WorkerVerdict, ...]
    doubts: tuple[str, ...]
    recovery: float | None
    facts: Mapping[str, Scalar] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """Outcomes counted for each label: ``{"target": {"lost": 1}, ...}``."""
        return count_outcomes((verdict.label, verdict.outcome.value) for verdict in self.tasks)


def count_outcomes(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Pairs of label and outcome, counted in a stable order."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for label, outcome in pairs:
        counted[label][outcome] += 1
    return {label: dict(sorted(counter.items())) for label, counter in sorted(counted.items())}


@dataclass(frozen=True, slots=True)
class Surprise:
    """Where what was observed differs from what is documented, or commonly said: the sources of both."""

    documented: str
    observed: str
    source: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a scenario expects of one cell, why, and who says so (page, or upstream file and version).

    ``luck`` are labels whose tasks may each meet one of several outcomes: their number in ``outcomes``
    counts, their kinds do not. ``facts`` are other things that the history tells, by the names of
    :mod:`lab.facts`, or several values where luck decides; that no node ends by itself is expected
    unless ``exits`` says otherwise. ``stalled`` are the workers that will not take work again.
    """

    outcomes: Mapping[str, Mapping[str, int]]
    because: str = ""
    source: str = ""
    luck: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    stalled: tuple[str, ...] = ()
    surprise: Surprise | None = None


def judge(events: Iterable[Event], backlog: Backlog) -> Judgement:
    """Decide every task, every surviving worker, and whether the evidence holds at all."""
    with _collecting_nothing():
        return _judge(History(events), backlog)


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """None of the millions of objects that a long history makes is garbage: looking takes a third longer."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _judge(history: History, backlog: Backlog) -> Judgement:
    dead = dead_nodes(history)
    healed = [e for e in history.lab("healed") if e.detail.get("node") == BROKER]
    restarted = bool(healed) and (BROKER in dead or any(map(_ends_broker, healed)))
    unfinished = {node: in_hand(events) for node, events in history.nodes.items() if node not in dead}
    unrest = list(_unrest(history, {node for node, tasks in unfinished.items() if tasks}))
    rested = not unrest and backlog.readable
    held, in_hands = where_held(backlog), set().union(*unfinished.values())
    labels, verdicts = history.labels, []
    for task in sorted(history.tasks.keys() | held.keys(), key=lambda t: (labels.get(t, ""), t)):
        if (label := labels.get(task, "unasked")) == SENTINEL:
            continue
        events, where, open_ = history.tasks.get(task, ()), held.get(task, ""), task in in_hands
        evidence = gather(events, held=where, in_hand=open_, dead=dead, flags_lie=restarted)
        verdicts.append(TaskVerdict(task, label, outcome_of(evidence, rested=rested), evidence))
    workers = tuple(_workers(history, dead))
    return Judgement(
        tasks=tuple(verdicts),
        workers=workers,
        doubts=tuple(_doubts(history, backlog, verdicts, workers, unrest)),
        recovery=_recovery(history),
        facts=facts_of(history, backlog),
    )


def verdict_on(judgement: Judgement, expectation: Expectation) -> Status:
    """Put observed and expected side by side. Doubt comes before surprise."""
    if judgement.doubts:
        return Status.INCONCLUSIVE
    same = (
        _as_expected(judgement.counts(), expectation)
        and {worker.node for worker in judgement.workers if not worker.resumed} == set(expectation.stalled)
        and _facts_as_expected(judgement.facts, expectation)
    )
    return Status.EXPECTED if same else Status.SURPRISE


def _facts_as_expected(seen: Mapping[str, Scalar], expectation: Expectation) -> bool:
    """Whether the facts are those expected, or among those of luck's choice. No node ends unexpectedly."""
    wanted: Mapping[str, Scalar | Sequence[Scalar]] = {"exits": "", **expectation.facts}
    return all(
        seen.get(name) in value if isinstance(value, (tuple, list)) else seen.get(name) == value
        for name, value in wanted.items()
    )


def _as_expected(counts: Mapping[str, Mapping[str, int]], expectation: Expectation) -> bool:
    """Whether these outcomes are those expected, or of luck's choice where it has one."""
    if counts.keys() != expectation.outcomes.keys():
        return False
    for label, expected in expectation.outcomes.items():
        lucky = expectation.luck.get(label)
        if lucky is None and dict(counts[label]) != dict(expected):
            return False
        if lucky is not None and not (
            counts[label].keys() <= set(lucky) and sum(counts[label].values()) == sum(expected.values())
        ):
            return False
    return True


def outcome_of(evidence: Evidence, *, rested: bool) -> Outcome:
    """The outcome of one task.

    ``rested`` says that the broker was read and every worker is proved to hold no work; without it a
    task that is nowhere is unknown, not lost. What is true whatever comes later is decided first.
    """
    if _why_contradictory(evidence):
        return Outcome.UNKNOWN
    if evidence.told is Told.FAILED and evidence.starts:
        return Outcome.PHANTOM
    if evidence.finishes > 1:
        return Outcome.DUPLICATED
    if evidence.open:
        return Outcome.UNKNOWN
    return _outcome_at_rest(evidence, rested=rested)


def _outcome_at_rest(evidence: Evidence, *, rested: bool) -> Outcome:
    """No worker has it in its hands any more: the broker holds it, or it is over."""
    if evidence.finishes:
        if evidence.coming:
            return Outcome.UNKNOWN  # it is done, and it will be delivered again
        return Outcome.REDELIVERED if evidence.deliveries > 1 else Outcome.ONCE
    ended = evidence.failures and evidence.failures >= evidence.starts - evidence.cut - evidence.retried
    if ended and not evidence.coming:
        return Outcome.FAILED
    if evidence.held and evidence.told is not Told.FAILED:
        return Outcome.STRANDED
    if evidence.coming:
        return Outcome.UNKNOWN  # it is to run, and its publisher was told that it failed
    never_came_back = {Told.OK: Outcome.LOST, Told.FAILED: Outcome.REFUSED, Told.NOTHING: Outcome.UNKNOWN}
    return never_came_back[evidence.told] if rested else Outcome.UNKNOWN


def _why_contradictory(evidence: Evidence) -> str | None:
    """What makes the counts of one task impossible: then none of them decides anything."""
    if evidence.asked != 1:
        return f"it was published {evidence.asked} times under one id"
    if evidence.orphan_finish:
        return "a process finished it that never started it"
    if evidence.starts > max(evidence.deliveries, evidence.received):
        return f"it started {evidence.starts} times on {evidence.deliveries} deliveries"
    return None


# --- doubts: why the evidence may not be believed -----------------------------------------------


def _doubts(
    history: History,
    backlog: Backlog,
    verdicts: Sequence[TaskVerdict],
    workers: Sequence[WorkerVerdict],
    unrest: Sequence[str],
) -> Iterator[str]:
    if not history.named("asked"):
        yield "nothing was published"
    for event in history.lab("defect"):
        yield str(event.detail.get("what"))
    yield from holes(history.events)
    if not backlog.readable:
        yield "the broker could not be asked what it still holds"
    yield from _restless(history, verdicts, workers)
    if history.lab("settled"):
        held = (f"the broker holds {task}" for task in sorted({*backlog.ready, *backlog.unacked}))
        yield from (f"the lab took it for settled, and {why}" for why in (*unrest, *held))
    yield from slow_beats(history)
    yield from late_faults(history)
    missed = (why_missed(history, event) for event in history.lab("inject"))
    yield from (f"the fault did not land: {why}" for why in missed if why)
    if any(str(e.detail.get("setting")).endswith("visibility_timeout") for e in history.lab("tuned")):
        yield from _unprovoked_redeliveries(history)
    for verdict in verdicts:
        if verdict.outcome is Outcome.UNKNOWN:
            yield f"task {verdict.task} ({verdict.label}) is undecided: {_why_unknown(verdict.evidence)}"


def _restless(
    history: History, verdicts: Sequence[TaskVerdict], workers: Sequence[WorkerVerdict]
) -> Iterator[str]:
    """A trial that did not come to rest counts only if what it was left with explains that."""
    if any(not worker.asked for worker in workers):
        yield "no sentinel could be published, so no worker is proved to take work"
    stranded = any(v.outcome is Outcome.STRANDED and v.evidence.coming for v in verdicts)
    stalled = any(worker.asked and not worker.resumed for worker in workers)
    if not history.lab("settled") and not stranded and not stalled:
        waited = next((str(e.detail.get("waited_for")) for e in history.lab("deadline")), "it was cut off")
        yield f"the trial did not come to rest: {waited}"


def _why_unknown(evidence: Evidence) -> str:
    if contradiction := _why_contradictory(evidence):
        return contradiction
    if evidence.open:
        return "a worker that lives has it in its hands still"
    if evidence.coming and evidence.finishes:
        return f"it finished, and the broker holds it ({evidence.held}) to deliver it again"
    if evidence.held:
        return f"the publisher was told that it failed, and the broker holds it ({evidence.held})"
    if evidence.told is Told.NOTHING:
        return "the publisher was told neither success nor failure"
    return "it did not finish, the broker does not hold it, and the trial did not come to rest"


def _unrest(history: History, busy: set[str]) -> Iterator[str]:
    """Why the trial did not come to rest, from the whole logs: the live streams decide nothing."""
    if not history.lab("settled"):
        yield "it did not come to rest"
    for node in _up(history):
        if node in busy:
            yield f"{node} has unfinished work"
    for task in sorted(task for task, label in history.labels.items() if label == SENTINEL):
        if not any(event.name == "finished" for event in history.tasks[task]):
            yield f"{task} did not finish"


def _unprovoked_redeliveries(history: History) -> Iterator[str]:
    """A broker that takes work from a healthy worker answers to the timeout that the lab shortened.

    One worker may receive a task once, and once more for each time that it gave it back or lost it with
    its connection. Workers that no fault struck may receive it once among all of them. A retry is a
    message more, which any worker may receive.
    """
    struck = {str(e.detail.get("node")) for e in history.lab("inject")}
    copies = _copies(history)
    received = Counter((e.task or "", e.node) for e in history.named("received"))
    returned = _returned(history)
    retried = Counter(e.task or "" for e in history.named("retried"))
    healthy: Counter[str] = Counter()
    for (task, node), times in sorted(received.items()):
        if times - 1 > returned[task, node] + retried[task] + copies[task]:
            yield f"{node} received {task} {times} times and gave it back {returned[task, node]} times"
        if node not in struck:
            healthy[task] += times - returned[task, node]
    for task, times in sorted(healthy.items()):
        if times > 1 + retried[task] + copies[task]:
            yield f"{task} was redelivered {times - 1} times among workers that no fault struck"


def _copies(history: History) -> Counter[str]:
    """How many messages more than one each task had: a step runs twice and publishes the next one twice."""
    sent = Counter(e.task or "" for e in history.named("published"))
    sent.subtract(e.task or "" for e in history.named("retried"))
    return Counter({task: times - 1 for task, times in sent.items() if times > 1})


def _returned(history: History) -> Counter[tuple[str, str]]:
    """How often each node gave each task back: rejected, or lost with its connection.

    A broker that dies may forget what it was told: then every acknowledgement may be as good as none.
    """
    returned: Counter[tuple[str, str]] = Counter()
    unanswered: Counter[tuple[str, str]] = Counter()
    answered: Counter[tuple[str, str]] = Counter()
    for event in in_order(history.events):
        key = (event.task or "", event.node)
        if _forgets(event):
            returned.update(answered)
            answered.clear()
        elif event.name == "disconnected":
            for held in [held for held in unanswered if held[1] == event.node]:
                returned[held] += unanswered.pop(held)
        elif event.name == "received":
            unanswered[key] += 1
        elif event.name in ("acknowledged", "rejected") and not is_unsent(event):
            answered[key] += not is_requeue(event)
            returned[key] += is_requeue(event)
            unanswered[key] = max(0, unanswered[key] - 1)
    return returned


def _forgets(event: Event) -> bool:
    """Whether at this moment the broker died, and with it what it had not written."""
    return event.node == LAB and event.name in ("landed", "exited") and _ends_broker(event)


def _ends_broker(event: Event) -> bool:
    """Whether the broker ended by this fault, or here by itself."""
    ended = event.name == "exited" or event.detail.get("fault") in ("kill", "stop", "power-cut")
    return ended and event.detail.get("node") == BROKER


# --- workers and times --------------------------------------------------------------------------


def _up(history: History) -> list[str]:
    """Every worker that came up, once."""
    return list(dict.fromkeys(str(e.detail.get("node")) for e in history.lab("worker-up")))


def _workers(history: History, dead: set[str]) -> Iterator[WorkerVerdict]:
    since = max((e.at for e in history.lab("healed")), default=_fault_time(history))
    asked = any(history.labels.get(e.task or "") == SENTINEL for e in history.named("publish-ok"))
    wanted = {str(e.detail.get("node")): e.detail.get("concurrency", 1) for e in history.lab("worker-up")}
    for node in _up(history):
        if node in dead:
            continue
        mine = history.of(node)
        took = (e.at for e in mine if e.name == "received" and since is not None and e.at > since)
        state = max((e for e in mine if e.name == "state"), key=lambda e: e.at, default=None)
        yield WorkerVerdict(
            node=node,
            asked=asked,
            after=_seconds(since, min(took, default=None)),
            concurrency=_at_once(mine, history.labels),
            wanted=int(wanted[node] or 1),
            state=", ".join(f"{k} {v}" for k, v in state.detail.items()) if state else "",
        )


def _at_once(events: Sequence[Event], labels: Mapping[str, str]) -> int:
    """How many sentinels a node held at one gate before it was opened there, and finished after."""
    finished = {e.task for e in events if e.name == "finished" and e.task and labels.get(e.task) == SENTINEL}
    gates: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.task in finished and event.name in ("held", "passed"):
            gates[str(event.detail.get("phase"))].append(event)
    return max((_held_together(own) for own in gates.values()), default=0)


def _held_together(events: Iterable[Event]) -> int:
    waiting: set[str | None] = set()
    for event in sorted(events, key=lambda e: e.at):
        if event.name == "passed":
            break
        waiting.add(event.task)
    return len(waiting)


def _recovery(history: History) -> float | None:
    since = _fault_time(history)
    finishes = (e.at for e in history.named("finished") if e.task and history.labels.get(e.task) != SENTINEL)
    last = max(finishes, default=None)
    return _seconds(since, last) if since is not None and last is not None and last > since else None


def _fault_time(history: History) -> int | None:
    return min((e.at for e in history.lab("landed")), default=None)


def _seconds(since: int | None, until: int | None) -> float | None:
    if since is None or until is None:
        return None
    return round((until - since) / NANOSECONDS, 3)
