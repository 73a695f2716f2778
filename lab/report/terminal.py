"""What a person sees in a terminal: a line per trial as it ends, then a table, then what to know."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.judge import Outcome, Status, Surprise, TaskVerdict
from lab.store import TrialResult, counted

STYLES = {Status.EXPECTED: "green", Status.SURPRISE: "bold red", Status.INCONCLUSIVE: "yellow"}
WIDE = 100  # columns from which there is room for what was expected
LEGEND = (
    "evidence for the target: deliveries/starts/finishes/acknowledgements/held by the broker at the end; "
    "back in: from the proof of the fault to the last finish; ok: trials as expected"
)
AXES = {"acknowledgement": "ack", "prefetch": "pre"}  # short headings for a narrow screen
OUTCOME_STYLES = {
    Outcome.LOST: "red",
    Outcome.FAILED: "red",
    Outcome.DUPLICATED: "magenta",
    Outcome.STRANDED: "yellow",
    Outcome.UNKNOWN: "yellow",
    Outcome.REDELIVERED: "cyan",
}


def line(result: TrialResult) -> Text:
    """One trial in one line."""
    text = Text()
    text.append(f"{result.status.value:<12} ", STYLES[result.status])
    text.append(f"{result.cell}  ")
    text.append(counted(result.judgement.counts()))
    text.append(f"  {result.seconds:.1f} s", "dim")
    if result.attempt > 1:
        text.append(f"  after {result.attempt - 1} inconclusive", "yellow")
    return text


def details(result: TrialResult) -> Iterable[Text]:
    """Why a trial is not as expected: what was expected, the doubts, the task with what is known of it."""
    if result.status is Status.EXPECTED:
        return
    if result.status is Status.SURPRISE:
        yield Text(f"    expected  {counted(result.expectation.outcomes)}")
        yield Text(f"    because   {result.expectation.because} ({result.expectation.source})")
        for task in result.judgement.tasks:
            yield Text(f"    {task.label:<9} {task.task}: {task.outcome.value}  ({evidence(task)})")
        for worker in result.judgement.workers:
            if not worker.resumed:
                yield Text(f"    worker    {worker.node} is stalled: alive, and finished no new task")
        for fact, value in result.expectation.facts.items():
            yield Text(f"    fact      {fact}: {result.judgement.facts.get(fact)} (expected: {value})")
    for doubt in result.judgement.doubts:
        yield Text(f"    doubt     {doubt}")
    yield Text(f"    history   {result.history}")


def evidence(task: TaskVerdict) -> str:
    """What was counted for one task, in words."""
    e = task.evidence
    counts = {
        "deliveries": e.deliveries,
        "starts": e.starts,
        "finishes": e.finishes,
        "failures": e.failures,
        "acks": e.acknowledged,
        "rejects": e.rejected,
    }
    words = [f"{n} {name}" for name, n in counts.items() if n]
    return ", ".join([*words, f"held: {e.held}" if e.held else "nothing held"])


def tables(results: Sequence[TrialResult], *, wide: bool) -> Iterator[Table]:
    """One table per broker, one row per cell: settings, what happened, and what the verdict rests on."""
    for profile in dict.fromkeys(r.profile for r in sorted(results, key=lambda r: r.number)):
        own = [result for result in results if result.profile == profile]
        yield _table(f"{profile} ({own[0].provenance['broker']})", own, wide=wide)


def _table(title: str, results: Sequence[TrialResult], *, wide: bool) -> Table:
    grid = Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    grid.padding = (0, 1, 0, 0)
    for axis in results[0].params:
        grid.add_column(AXES.get(axis, axis), no_wrap=True)
    grid.add_column("target", no_wrap=True)
    grid.add_column("others", min_width=len("1 redelivered"))
    if wide:
        grid.add_column("expected")
    grid.add_column("evidence", no_wrap=True)
    grid.add_column("back in", no_wrap=True, justify="right")
    grid.add_column("ok", no_wrap=True, justify="right")
    for group in by_cell(results):
        grid.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in _row(group, wide=wide)))
    return grid


def by_cell(results: Iterable[TrialResult]) -> list[list[TrialResult]]:
    """The trials of each cell, cells in order of their number."""
    groups: dict[str, list[TrialResult]] = {}
    for result in sorted(results, key=lambda r: r.number):
        groups.setdefault(result.cell, []).append(result)
    return list(groups.values())


def _row(group: Sequence[TrialResult], *, wide: bool) -> list[Text | str]:
    worst = max(group, key=lambda r: (r.status is Status.SURPRISE, r.status is Status.INCONCLUSIVE))
    target = next((t for t in worst.judgement.tasks if t.label == "target"), None)
    others = {label: kinds for label, kinds in worst.judgement.counts().items() if label != "target"}
    agreed = Counter(r.status for r in group)[Status.EXPECTED]
    return [
        *worst.params.values(),
        Text(target.outcome.value, OUTCOME_STYLES.get(target.outcome, "green")) if target else "?",
        _others_column(others),
        *([Text(_expected(worst), STYLES[worst.status])] if wide else []),
        _evidence_column(target),
        _median_recovery(group),
        Text(f"{agreed}/{len(group)}", STYLES[worst.status]),
    ]


def _others_column(others: Mapping[str, Mapping[str, int]]) -> str:
    """``1 once, 4 redelivered``; with their labels where there are several."""
    if len(others) > 1:
        return counted(others)
    return ", ".join(f"{n} {name}" for kinds in others.values() for name, n in kinds.items())


def _expected(result: TrialResult) -> str:
    same = result.status is Status.EXPECTED
    facts = (f"{fact}: {value}" for fact, value in result.expectation.facts.items())
    return "; ".join(["the same" if same else counted(result.expectation.outcomes), *facts])


def _evidence_column(target: TaskVerdict | None) -> str:
    if target is None:
        return "?"
    e = target.evidence
    return f"{e.deliveries}/{e.starts}/{e.finishes}/{e.acknowledged}/{e.held or '-'}"


def _median_recovery(group: Iterable[TrialResult]) -> str:
    seconds = [r.judgement.recovery for r in group if r.judgement.recovery is not None]
    return f"{median(seconds):.2f}s" if seconds else "-"


def summary(console: Console, results: Sequence[TrialResult], seconds: float) -> None:
    """The table, what was tuned, who was asked, and the count."""
    if not results:
        return
    for grid in tables(results, wide=console.width >= WIDE):
        console.print()
        console.print(grid)
    console.print(Text(LEGEND, "dim"))
    shortened = {(t["setting"], str(t["value"])): t for result in results for t in result.tuned}
    for (name, value), t in sorted(shortened.items()):
        console.print(
            Text(f"tuned: {name} = {value} (production: {t['default']}; there, {t['meaning']})", "dim")
        )
    totals = Totals()
    for result in results:
        totals.add(result)
    totals.show(console, seconds)


@dataclass(slots=True)
class Totals:
    """Who was asked, and the count. It keeps no result: a grid may have thousands."""

    trials: int = 0
    again: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)

    def add(self, result: TrialResult) -> None:
        """Count one trial, and the attempts before it."""
        self.trials += 1
        self.again += result.attempt - 1
        self.statuses[result.status.value] += 1
        self.versions.add(_versions(result))

    def show(self, console: Console, seconds: float) -> None:
        """Print it under the table or the lines of the trials."""
        for versions in sorted(self.versions):
            console.print(Text(versions, "dim"))
        words = ", ".join(f"{n} {name}" for name, n in sorted(self.statuses.items()))
        if self.again:
            words += f"; {self.again} inconclusive attempts were repeated"
        console.print(Text(f"{self.trials} trials in {seconds:.1f} s: {words}", "bold"))


def _versions(result: TrialResult) -> str:
    p = result.provenance
    worker = p["worker"]
    names = ("celery", "kombu", "redis", "amqp", "python")
    clients = ", ".join(f"{name} {worker[name]}" for name in names if name in worker)
    return f"{p['broker']}; worker: {clients}; engine {p['engine']}, kernel {p['kernel']}"


def surprises(console: Console, counted: Mapping[tuple[str, Surprise], int]) -> None:
    """What is documented or said, what was observed, and where to read both."""
    for (scenario, surprise), cells in counted.items():
        console.print(Text(f"{scenario}  ({cells} cells)", "bold"))
        console.print(Text(f"    documented  {surprise.documented}"))
        console.print(Text(f"    observed    {surprise.observed}"))
        console.print(Text(f"    source      {surprise.source}", "dim"))


def as_json(results: Iterable[TrialResult]) -> str:
    """One JSON line per trial, as they are stored."""
    return "\n".join(json.dumps(json.loads(result.to_json())) for result in results)
