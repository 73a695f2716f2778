"""Results in, the data of a report out: cells, and the matrix of each scenario. Pure."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.judge import Status, Surprise
from lab.report.cells import Cell, Known, anchors, variant_of
from lab.report.tables import Table, settings_axes, table_of
from lab.report.words import Word
from lab.store import TrialResult


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
    missing: Mapping[str, str]  # planned in a grid, and without any trial; why, where that is known

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
    ids = anchors(newest)
    cells = [_cell(cell, own, ids[cell]) for cell, own in newest.items()]
    settings = settings_axes(cells)
    tables = [
        table_of(name, anchor, [cell for cell in cells if cell.scenario == name], settings, known)
        for name, anchor in anchors(sorted({cell.scenario for cell in cells})).items()
    ]
    kept = sum(len(own) for own in newest.values())
    missing = {cell: known.reasons.get(cell, "") for cell in sorted(known.planned - newest.keys())}
    return Report(tuple(tables), tuple(damaged), len(results) - kept, missing)


def _newest(own: Sequence[TrialResult]) -> list[TrialResult]:
    """The trials of the run that ended last."""
    last: dict[str, str] = {}
    for result in own:
        last[result.run] = max(last.get(result.run, ""), str(result.provenance.get("at", "")))
    run = max(last, key=lambda name: last[name])
    return [result for result in own if result.run == run]


def _cell(name: str, own: Sequence[TrialResult], anchor: str) -> Cell:
    final: dict[int, TrialResult] = {}
    for result in sorted(own, key=lambda r: (r.number, r.status is not Status.INCONCLUSIVE, r.attempt)):
        final[result.number] = result
    first = own[0]
    return Cell(
        id=name,
        scenario=first.scenario,
        profile=first.profile,
        params=first.params,
        variant=variant_of(first),
        anchor=anchor,
        trials=tuple(final.values()),
        repeated=len(own) - len(final),
    )
