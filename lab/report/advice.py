"""What each setting buys, and the safest ones: counted from the results, nothing said from memory.

Two choices are compared only where both were run and everything else is the same: the same scenario,
broker profile, phase and other settings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.report.cells import Cell
from lab.report.data import Report
from lab.report.words import Word

ENOUGH = 2  # scenarios that a choice must have been run in, to be called safer than another
WORST_FIRST = [word for word in reversed(Word) if word.decided and word is not Word.SAFE]

Where = tuple[str, tuple[tuple[str, str], ...], str]


@dataclass(frozen=True, slots=True)
class Change:
    """One choice instead of another on one profile, over the cells that have both."""

    axis: str
    profile: str
    before: str
    after: str
    settings: str  # that the choice stands for, under Celery's names
    pairs: tuple[tuple[Cell, Cell], ...]

    @property
    def better(self) -> list[tuple[Word, Word, int]]:
        """What it buys: from, to, in how many cells; the worst that it prevents first."""
        return self._moves(up=False)

    @property
    def worse(self) -> list[tuple[Word, Word, int]]:
        """What it costs, the same way."""
        return self._moves(up=True)

    @property
    def same(self) -> int:
        """Cells in which it changes nothing."""
        return sum(one.word is other.word for one, other in self.pairs)

    @property
    def differs(self) -> bool:
        """Whether it changes anything."""
        return self.same < len(self.pairs)

    @property
    def scenarios(self) -> int:
        """In how many scenarios it was tried."""
        return len({one.scenario for one, _ in self.pairs})

    @property
    def safer(self) -> bool:
        """Whether it has fewer cells of the worst word that tells the two apart."""
        before = Counter(one.word for one, _ in self.pairs)
        after = Counter(other.word for _, other in self.pairs)
        return [after[word] for word in WORST_FIRST] < [before[word] for word in WORST_FIRST]

    def _moves(self, *, up: bool) -> list[tuple[Word, Word, int]]:
        moves = Counter(
            (one.word, other.word)
            for one, other in self.pairs
            if one.word is not other.word and (other.word.severity > one.word.severity) is up
        )
        return sorted(
            ((one, other, n) for (one, other), n in moves.items()),
            key=lambda move: (-max(move[0].severity, move[1].severity), -move[2]),
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The safest token of one axis on one profile, and what it was compared with."""

    axis: str
    token: str
    settings: str
    over: tuple[Change, ...]  # the steps that lead to it

    @property
    def differs(self) -> bool:
        """Whether any choice changed what became of a task."""
        return any(change.differs for change in self.over)

    @property
    def cells(self) -> int:
        """How many cells were compared."""
        return sum(len(change.pairs) for change in self.over)

    @property
    def scenarios(self) -> int:
        """Of how many scenarios."""
        return len({one.scenario for change in self.over for one, _ in change.pairs})


@dataclass(frozen=True, slots=True)
class Advice:
    """One broker profile: its cells by word, and its safest settings."""

    profile: str
    words: Mapping[Word, int]
    cells: int
    choices: tuple[Choice, ...]


def advice(report: Report) -> list[Advice]:
    """For each profile the safest settings, over the axes that several scenarios share."""
    axes = _axes(report)
    enough = min(ENOUGH, len(report.tables))
    shared = [axis for axis in axes if len({c.scenario for c in report.cells if axis in c.params}) >= enough]
    found = []
    for profile in report.profiles:
        own = [cell for cell in report.cells if cell.profile == profile]
        choices = (_safest(axis, axes[axis], own, enough) for axis in shared)
        words = Counter(cell.word for cell in own)
        found.append(Advice(profile, words, len(own), tuple(choice for choice in choices if choice)))
    return found


def changes(report: Report) -> list[Change]:
    """What each setting buys: every choice after the most common one of its axis, on each profile."""
    found = []
    for axis, tokens in _axes(report).items():
        for profile in report.profiles:
            own = [cell for cell in report.cells if cell.profile == profile]
            found += [change for one, other in pairwise(tokens) if (change := _change(axis, one, other, own))]
    return found


def _safest(axis: str, tokens: Sequence[str], own: Sequence[Cell], enough: int) -> Choice | None:
    """Start with the most common choice; go over to another where that was seen to be safer."""
    run = [token for token in tokens if any(cell.params.get(axis) == token for cell in own)]
    if len(run) < 2:  # noqa: PLR2004 - nothing to choose from
        return None
    best, steps = run[0], []
    for other in run[1:]:
        change = _change(axis, best, other, own)
        if change and change.scenarios >= enough:
            steps.append(change)
            best = other if change.safer else best
    return Choice(axis, best, settings_of(axis, best, own), tuple(steps)) if steps else None


def _change(axis: str, before: str, after: str, own: Sequence[Cell]) -> Change | None:
    places: dict[str, dict[Where, Cell]] = defaultdict(dict)
    for cell in own:
        if cell.params.get(axis) in (before, after) and cell.word.decided:
            places[cell.params[axis]][where(cell, axis)] = cell
    both = [place for place in places[before] if place in places[after]]
    if not both:
        return None
    pairs = tuple((places[before][place], places[after][place]) for place in both)
    settings = settings_of(axis, after, [cell for pair in pairs for cell in pair])
    return Change(axis, own[0].profile, before, after, settings, pairs)


def where(cell: Cell, axis: str) -> Where:
    """Everything about a cell but its profile and its token of this axis."""
    rest = tuple((name, token) for name, token in cell.params.items() if name != axis)
    return cell.scenario, rest, cell.variant


def settings_of(axis: str, token: str, cells: Iterable[Cell]) -> str:
    """What a token stands for: the settings that all its cells share and no other token has."""
    own: list[set[tuple[str, str]]] = []
    others: list[set[tuple[str, str]]] = []
    for cell in cells:
        if axis in cell.params:
            settings = {(name, str(value)) for name, value in cell.first.settings.items()}
            (own if cell.params[axis] == token else others).append(settings)
    if not own:
        return ""
    always_elsewhere = set.intersection(*others) if others else set()
    return ", ".join(f"{name}={value}" for name, value in sorted(set.intersection(*own) - always_elsewhere))


def _axes(report: Report) -> dict[str, list[str]]:
    """Every axis of settings, with its tokens in the order of the catalogue."""
    found: dict[str, list[str]] = {}
    for table in report.tables:
        for column, axis in enumerate(table.row_axes):
            tokens = found.setdefault(axis, [])
            tokens += [t for t in dict.fromkeys(row.tokens[column] for row in table.rows) if t not in tokens]
    return {axis: [token for token in tokens if token] for axis, tokens in found.items()}
