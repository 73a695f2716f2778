"""Results in, the data of a report out: cells, and the matrix of each scenario. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Any

from lab.judge import Status, Surprise, WorkerVerdict
from lab.report.chance import wilson
from lab.report.words import Word, trial_word, worst
from lab.store import TrialResult, counted

#: Axes that are of settings wherever they occur, also where only one token was run.
SETTINGS_AXES = ("acknowledgement", "prefetch", "pool")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the results: questions, the order of axes and tokens, what cannot be and why.

    ``planned`` are the ids of all cells of the grids that were run.
    """

    asks: Mapping[str, str] = field(default_factory=dict)
    order: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix with all its trials, of its newest run. No trials: not run, or unsupported."""

    id: str
    scenario: str
    profile: str
    params: Mapping[str, str]
    variant: str  # settings and the Celery that no axis names: "result_backend=... celery=5.6.3"
    anchor: str
    trials: tuple[TrialResult, ...] = ()
    repeated: int = 0  # inconclusive attempts that were tried again
    reason: str = ""

    @cached_property
    def word(self) -> Word:
        """The worst that the evidence decided."""
        if self.trials:
            return worst(trial_word(t.status, t.judgement) for t in self.trials)
        return Word.UNSUPPORTED if self.reason else Word.NOT_RUN

    @cached_property
    def words(self) -> Counter[Word]:
        """How many trials ended with each word."""
        return Counter(trial_word(t.status, t.judgement) for t in self.trials)

    @cached_property
    def conclusive(self) -> int:
        """Trials that the evidence decided."""
        return sum(n for word, n in self.words.items() if word.decided)

    @property
    def k(self) -> int:
        """Trials that ended with the cell's word."""
        return self.words[self.word]

    @property
    def n(self) -> int:
        """Trials that count: those that were decided, or all where none was."""
        return self.conclusive or len(self.trials)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of k of n."""
        return wilson(self.k, self.n)

    @cached_property
    def status(self) -> Status | None:
        """The worst trial next to what was expected: a surprise, then doubt."""
        seen = {trial.status for trial in self.trials}
        order = (Status.SURPRISE, Status.INCONCLUSIVE, Status.EXPECTED)
        return next((status for status in order if status in seen), None)

    @property
    def surprising(self) -> bool:
        """Whether a trial was not as expected."""
        return self.status is Status.SURPRISE

    @property
    def documented(self) -> Surprise | None:
        """Where what is expected, and observed, differs from what is documented."""
        return self.first.expectation.surprise if self.trials else None

    @property
    def first(self) -> TrialResult:
        """The trial to look at: the first that is not as expected, else the first with the cell's word."""
        own = [t for t in self.trials if trial_word(t.status, t.judgement) is self.word]
        odd = [t for t in self.trials if t.status is Status.SURPRISE]
        return (odd or own or list(self.trials))[0]

    @property
    def outcomes(self) -> str:
        """The tasks of the first trial, counted by label."""
        return counted(self.first.judgement.counts())

    @property
    def expected(self) -> str:
        """What the scenario expects, in the same words."""
        luck = self.first.expectation.luck
        words = counted(self.first.expectation.outcomes)
        by_luck = "; ".join(f"{label}: {' or '.join(kinds)}, by luck" for label, kinds in luck.items())
        return f"{words} ({by_luck})" if by_luck else words

    @property
    def stalled(self) -> tuple[WorkerVerdict, ...]:
        """Workers of the first trial that lived and took no work again."""
        return tuple(worker for worker in self.first.judgement.workers if not worker.resumed)

    @property
    def recoveries(self) -> list[float]:
        """Seconds from the proof of the fault to the last finish, for each trial that has both."""
        return [t.judgement.recovery for t in self.trials if t.judgement.recovery is not None]

    @property
    def recovery(self) -> float | None:
        """Their median."""
        return median(self.recoveries) if self.recoveries else None

    @property
    def command(self) -> str:
        """The one command that runs this cell again, as often."""
        words = [".venv/bin/lab", "run", self.scenario, "--broker", self.profile]
        for axis, token in self.params.items():
            words += ["--only", f"{axis}={token}"]
        for assignment in _assignments(self.variant):
            name, equals, value = assignment.partition("=")
            if equals:
                words += ["--celery", value] if name == "celery" else ["--set", assignment]
        if len(self.trials) > 1:
            words += ["--trials", str(len(self.trials))]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a scenario's matrix: a broker profile with settings."""

    profile: str
    tokens: tuple[str, ...]
    variant: str
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The settings in words."""
        return " · ".join(filter(None, (*self.tokens, self.variant))) or "as the scenario sets them"


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading over columns that share a token."""

    text: str
    span: int


@dataclass(frozen=True, slots=True)
class Table:
    """The matrix of one scenario: rows are broker profiles and settings, columns faults and phases."""

    scenario: str
    asks: str
    anchor: str
    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    headings: tuple[tuple[Heading, ...], ...]
    rows: tuple[Row, ...]

    @property
    def cells(self) -> list[Cell]:
        """Those that were run, row by row."""
        return [cell for row in self.rows for cell in row.cells if cell.trials]

    @property
    def profiles(self) -> list[tuple[str, list[Row]]]:
        """Its rows by profile."""
        names = dict.fromkeys(row.profile for row in self.rows)
        return [(name, [row for row in self.rows if row.profile == name]) for name in names]


@dataclass(frozen=True, slots=True)
class Versions:
    """One set of versions, and how many cells were run with it."""

    names: Mapping[str, str]
    cells: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report shows. ``older`` counts trials of runs that a newer run replaces."""

    tables: tuple[Table, ...]
    damaged: tuple[str, ...]
    older: int
    missing: tuple[str, ...]  # planned in a grid, and without any trial

    @property
    def cells(self) -> list[Cell]:
        """Every cell that was run."""
        return [cell for table in self.tables for cell in table.cells]

    @property
    def profiles(self) -> list[str]:
        """Every broker profile, in order of name."""
        return sorted({cell.profile for cell in self.cells})

    @property
    def surprises(self) -> list[Cell]:
        """Cells with a trial that was not as expected."""
        return [cell for cell in self.cells if cell.surprising]

    @property
    def inconclusive(self) -> list[Cell]:
        """Cells that no trial decided."""
        return [cell for cell in self.cells if cell.word is Word.INCONCLUSIVE]

    @property
    def documented(self) -> list[tuple[str, Surprise, list[Cell]]]:
        """What differs from the documentation, each with its scenario and cells."""
        found: dict[tuple[str, Surprise], list[Cell]] = defaultdict(list)
        for cell in self.cells:
            if cell.documented:
                found[cell.scenario, cell.documented].append(cell)
        return [(scenario, surprise, cells) for (scenario, surprise), cells in found.items()]

    @property
    def tuned(self) -> list[tuple[Mapping[str, Any], int]]:
        """What the lab shortened, with the number of cells that it was shortened in."""
        cells: dict[str, set[str]] = defaultdict(set)
        entries: dict[str, Mapping[str, Any]] = {}
        for cell in self.cells:
            for entry in (entry for trial in cell.trials for entry in trial.tuned):
                key = json.dumps([entry.get("setting"), entry.get("value")], default=str)
                entries[key] = entry
                cells[key].add(cell.id)
        return [(entries[key], len(cells[key])) for key in sorted(entries)]

    @property
    def versions(self) -> list[Versions]:
        """What was run with what: broker, worker's libraries, engine, kernel, the lab's commit."""
        count: Counter[tuple[tuple[str, str], ...]] = Counter()
        for cell in self.cells:
            count[tuple(versions_of(cell.first).items())] += 1
        return [Versions(dict(names), cells) for names, cells in sorted(count.items())]

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last moment of a trial, as stored; empty where none says."""
        at = sorted(str(t.provenance["at"]) for c in self.cells for t in c.trials if t.provenance.get("at"))
        return (at[0], at[-1]) if at else ("", "")


def versions_of(result: TrialResult) -> dict[str, str]:
    """What a trial was run with, in words."""
    p = result.provenance
    worker = p.get("worker")
    names = ("celery", "kombu", "redis", "amqp", "python")
    libraries = worker if isinstance(worker, dict) else {}
    clients = ", ".join(f"{name} {libraries[name]}" for name in names if name in libraries)
    found = {"broker": p.get("broker"), "worker": clients, "engine": p.get("engine")}
    found |= {"kernel": p.get("kernel"), "lab": p.get("commit")}
    return {name: str(value) for name, value in found.items() if value}


def build(results: Sequence[TrialResult], known: Known | None = None, damaged: Sequence[str] = ()) -> Report:
    """The report's data. Of each cell its newest run counts, of each trial its last attempt."""
    known = known or Known()
    by_cell: dict[str, list[TrialResult]] = defaultdict(list)
    for result in results:
        by_cell[result.cell].append(result)
    newest = {cell: _newest(own) for cell, own in by_cell.items()}
    anchors = _anchors(newest)
    cells = [_cell(cell, own, anchors[cell]) for cell, own in newest.items()]
    settings = settings_axes(cells)
    tables = [
        _table(name, [cell for cell in cells if cell.scenario == name], settings, known)
        for name in sorted({cell.scenario for cell in cells})
    ]
    kept = sum(len(own) for own in newest.values())
    missing = sorted(known.planned - newest.keys() - known.unsupported.keys())
    return Report(tuple(tables), tuple(damaged), len(results) - kept, tuple(missing))


def _newest(own: Sequence[TrialResult]) -> list[TrialResult]:
    """The trials of the run that ended last."""
    last: dict[str, str] = {}
    for result in own:
        last[result.run] = max(last.get(result.run, ""), str(result.provenance.get("at", "")))
    run = max(last, key=lambda name: last[name])
    return [result for result in own if result.run == run]


def _cell(name: str, own: Sequence[TrialResult], anchor: str) -> Cell:
    final: dict[int, TrialResult] = {}
    for result in sorted(own, key=lambda r: (r.number, r.attempt)):
        final[result.number] = result
    first = own[0]
    return Cell(
        id=name,
        scenario=first.scenario,
        profile=first.profile,
        params=first.params,
        variant=_variant(first),
        anchor=anchor,
        trials=tuple(final.values()),
        repeated=len(own) - len(final),
    )


def _variant(result: TrialResult) -> str:
    """What a cell's id says behind its tokens (see ``lab/cell.py``); all of it, where it names them not."""
    known = _id_of(result.scenario, result.profile, result.params.values(), "")
    if not result.cell.startswith(known[:-1]):
        return result.cell
    return " ".join(_split(result.cell[len(known) - 1 : -1].removeprefix("-")))


def _split(text: str) -> list[str]:
    return re.split(r"-(?=[a-z_.]+=)", text)


def _assignments(variant: str) -> list[str]:
    return re.split(r" (?=[a-z_.]+=)", variant) if variant else []


def _id_of(scenario: str, profile: str, tokens: Iterable[str], variant: str) -> str:
    return f"{scenario}[{'-'.join([profile, *tokens, *_assignments(variant)])}]"


def _anchors(names: Iterable[str]) -> dict[str, str]:
    """Ids for links, each once, of letters that need no escape."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        anchor = slug = re.sub(r"[^A-Za-z0-9.+=@_-]+", ".", name).strip(".") or "cell"
        number = 1
        while anchor in taken:
            number += 1
            anchor = f"{slug}.{number}"
        taken.add(anchor)
        found[name] = anchor
    return found


# --- the matrix of one scenario -------------------------------------------------------------------


def _table(name: str, cells: Sequence[Cell], settings: frozenset[str], known: Known) -> Table:
    order = _order(cells, known.order.get(name, {}))
    axes = list(order)
    rows_of = tuple(axis for axis in axes if axis in settings)
    columns_of = tuple(axis for axis in axes if axis not in rows_of)
    place = {(c.profile, _tokens(c, rows_of), c.variant, _tokens(c, columns_of)): c for c in cells}
    columns = sorted({_tokens(c, columns_of) for c in cells}, key=lambda t: _rank(t, columns_of, order))
    heads = sorted(
        {(c.profile, _tokens(c, rows_of), c.variant) for c in cells},
        key=lambda h: (h[0], h[2], _rank(h[1], rows_of, order)),
    )

    def gap(head: tuple[str, tuple[str, ...], str], column: tuple[str, ...]) -> Cell:
        chosen = {**dict(zip(rows_of, head[1], strict=True)), **dict(zip(columns_of, column, strict=True))}
        params = {axis: chosen[axis] for axis in axes if chosen[axis]}
        cell = _id_of(name, head[0], params.values(), head[2])
        return Cell(cell, name, head[0], params, head[2], "", reason=known.unsupported.get(cell, ""))

    rows = [Row(*head, tuple(place.get((*head, c)) or gap(head, c) for c in columns)) for head in heads]
    return Table(
        scenario=name,
        asks=known.asks.get(name, ""),
        anchor=f"scenario.{next(iter(_anchors([name]).values()))}",
        row_axes=rows_of,
        column_axes=columns_of,
        headings=tuple(_headings(columns, level) for level in range(len(columns_of))),
        rows=tuple(rows),
    )


def _order(cells: Iterable[Cell], known: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Axes and their tokens, in the catalogue's order; what it does not know follows."""
    order = {axis: list(tokens) for axis, tokens in known.items()}
    seen: set[str] = set()
    for cell in cells:
        for axis, token in cell.params.items():
            seen.add(axis)
            tokens = order.setdefault(axis, [])
            if token not in tokens:
                tokens.append(token)
    return {axis: tokens for axis, tokens in order.items() if axis in seen}


def settings_axes(cells: Sequence[Cell]) -> frozenset[str]:
    """The axes of settings, by name: in every scenario any two of their tokens differ in Celery's settings.

    What the lab itself shortened for a token does not count.
    """
    verdicts: dict[str, set[bool]] = {axis: {True} for axis in SETTINGS_AXES}
    for scenario in {cell.scenario for cell in cells}:
        own = [cell for cell in cells if cell.scenario == scenario]
        for axis in {axis for cell in own for axis in cell.params}:
            verdicts.setdefault(axis, set()).update(_tells_apart(axis, own))
    return frozenset(axis for axis, seen in verdicts.items() if seen == {True})


def _tells_apart(axis: str, cells: Iterable[Cell]) -> set[bool]:
    """Whether the tokens of an axis differ in settings; nothing, where there is only one."""
    own: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        if axis in cell.params:
            own[cell.params[axis]].add(_untuned(cell.first))
    pairs = list(combinations(own, 2))
    return {all(own[one].isdisjoint(own[other]) for one, other in pairs)} if pairs else set()


def _untuned(result: TrialResult) -> str:
    tuned = {entry.get("setting") for entry in result.tuned}
    return json.dumps({k: v for k, v in sorted(result.settings.items()) if k not in tuned}, default=str)


def _tokens(cell: Cell, axes: Iterable[str]) -> tuple[str, ...]:
    return tuple(cell.params.get(axis, "") for axis in axes)


def _rank(tokens: Sequence[str], axes: Sequence[str], order: Mapping[str, list[str]]) -> list[int]:
    return [
        order[axis].index(token) if token in order[axis] else -1
        for axis, token in zip(axes, tokens, strict=True)
    ]


def _headings(columns: Sequence[tuple[str, ...]], level: int) -> tuple[Heading, ...]:
    """One heading for each run of columns that agree down to this level."""
    found: list[Heading] = []
    before: tuple[str, ...] | None = None
    for column in columns:
        if column[: level + 1] == before:
            found[-1] = Heading(found[-1].text, found[-1].span + 1)
        else:
            found.append(Heading(column[level] or "-", 1))
        before = column[: level + 1]
    return tuple(found)
