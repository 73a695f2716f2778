"""What survives what: broker profiles down; stop, crash and power cut across, by time.

Made of every scenario that varies how a broker ends (``end``) and how long after the last word about a task
(``after``). Its cells are those of the matrix: the worst that became of any task, and in how many trials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.judge import Surprise
from lab.report.cells import Cell
from lab.report.data import Report

END, AFTER = "end", "after"
ENDS = ("stop", "crash", "power")  # from the gentlest to the hardest


@dataclass(frozen=True, slots=True)
class Survival:
    """One scenario: a row for each profile and its other settings, a column for each end and time."""

    scenario: str
    asks: str
    anchor: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, tuple[Cell | None, ...]], ...]
    documented: tuple[Surprise, ...]

    @property
    def ends(self) -> list[str]:
        """The ways in which it ends, in the order of the columns."""
        return list(dict.fromkeys(end for end, _ in self.columns))


def survival(report: Report) -> list[Survival]:
    """Every scenario of the report that ends brokers in these ways."""
    found = []
    for table in report.tables:
        cells = [cell for row in table.rows for cell in row.cells if {END, AFTER} <= cell.params.keys()]
        if cells:
            documented = tuple(s for name, s, _ in report.documented if name == table.scenario)
            columns = tuple(sorted({_column(cell) for cell in cells if cell.trials}, key=_order))
            rows = tuple(_rows(cells, columns))
            found.append(Survival(table.scenario, table.asks, table.anchor, columns, rows, documented))
    return found


def _rows(
    cells: Iterable[Cell], columns: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str, tuple[Cell | None, ...]]]:
    places: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for cell in cells:
        others = [token for axis, token in cell.params.items() if axis not in (END, AFTER)]
        settings = " ".join([*others, cell.variant]).strip()
        places.setdefault((cell.profile, settings), {})[_column(cell)] = cell
    for (profile, settings), own in sorted(places.items()):
        if any(cell.trials for cell in own.values()):
            yield profile, settings, tuple(own.get(column) for column in columns)


def _column(cell: Cell) -> tuple[str, str]:
    return cell.params[END], cell.params[AFTER]


def _order(column: tuple[str, str]) -> tuple[int, int, str]:
    end, after = column
    number = re.match(r"\d+", after)
    return (ENDS.index(end) if end in ENDS else len(ENDS), int(number.group()) if number else 0, after)
