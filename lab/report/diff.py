"""Two runs side by side: which cells changed, and whether anything got worse. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.judge import Status
from lab.report.cells import Cell
from lab.report.data import Report
from lab.report.words import Word

_STATUS = {Status.EXPECTED: 0, Status.INCONCLUSIVE: 1, Status.SURPRISE: 2}


class Kind(StrEnum):
    """How a cell of the second run differs from the first."""

    WORSE = "worse"
    BETTER = "better"
    CHANCE = "by luck"  # both as expected, where the scenario declares luck
    GONE = "gone"
    NEW = "new"
    SAME = "the same"


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell in both runs, or in one of them."""

    cell: str
    kind: Kind
    before: Cell | None
    after: Cell | None


def diff(before: Report, after: Report) -> list[Difference]:
    """Every cell of either run, the worst first.

    Cells are matched by id; those left over by their id without the versions of Celery and broker, where
    that names one cell on each side.
    """
    old = {cell.id: cell for cell in before.cells}
    new = {cell.id: cell for cell in after.cells}
    pairs = [(old.pop(name), new.pop(name)) for name in list(old) if name in new]
    loose_old, loose_new = _by_loose_id(list(old.values())), _by_loose_id(list(new.values()))
    for name in loose_old.keys() & loose_new.keys():
        one, other = loose_old[name], loose_new[name]
        pairs.append((one, other))
        del old[one.id], new[other.id]
    found = [Difference(other.id, kind_of(one, other), one, other) for one, other in pairs]
    found += [Difference(name, Kind.GONE, cell, None) for name, cell in old.items()]
    found += [Difference(name, Kind.NEW, None, cell) for name, cell in new.items()]
    return sorted(found, key=lambda d: (list(Kind).index(d.kind), d.cell))


def kind_of(one: Cell, other: Cell) -> Kind:
    """A surprise is worse than doubt, doubt than what is expected; else words and rates decide."""
    if one.status is None or other.status is None:
        raise ValueError("a cell without trials cannot be compared")
    judged = _STATUS[other.status] - _STATUS[one.status]
    if judged:
        return Kind.WORSE if judged > 0 else Kind.BETTER
    if one.word is other.word:
        return _rates(one, other)
    if other.first.expectation.luck and other.status is Status.EXPECTED:
        return Kind.CHANCE
    return Kind.WORSE if other.word.severity > one.word.severity else Kind.BETTER


def _rates(one: Cell, other: Cell) -> Kind:
    """The same word, and much more or less often: only where the two intervals do not touch."""
    (low, high), (now_low, now_high) = one.interval, other.interval
    if low <= now_high and now_low <= high:
        return Kind.SAME
    more, bad = now_low > high, one.word is not Word.SAFE
    return Kind.WORSE if more is bad else Kind.BETTER


def _by_loose_id(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Cells by their id without versions; those that share one are left out."""
    names = Counter(loose_id(cell) for cell in cells)
    return {name: cell for cell in cells if names[name := loose_id(cell)] == 1}


def loose_id(cell: Cell) -> str:
    """``worker-crash[redis-none-late]`` for ``worker-crash[redis-none@7.0-late-celery=5.4.0]``."""
    profile = cell.profile.partition("@")[0]
    variant = " ".join(word for word in cell.variant.split(" ") if not word.startswith("celery="))
    return re.sub(r" +", " ", " ".join([cell.scenario, profile, *cell.params.values(), variant])).strip()
