"""The matrix of one scenario: rows are broker profiles and settings, columns faults and phases. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from lab.report.cells import Cell, Known, id_of
from lab.store import TrialResult

#: Axes that are of settings wherever they occur, also where only one token was run.
SETTINGS_AXES = ("acknowledgement", "prefetch", "pool")


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


def table_of(name: str, anchor: str, cells: Sequence[Cell], settings: frozenset[str], known: Known) -> Table:
    """The matrix of the scenario of that name. ``settings`` are the axes that make rows."""
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
        cell = id_of(name, head[0], params.values(), head[2])
        why, possible = known.reasons.get(cell, ""), cell in known.planned
        return Cell(cell, name, head[0], params, head[2], "", reason=why, possible=possible)

    rows = [Row(*head, tuple(place.get((*head, c)) or gap(head, c) for c in columns)) for head in heads]
    return Table(
        scenario=name,
        asks=known.asks.get(name, ""),
        anchor=f"scenario.{anchor}",
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
