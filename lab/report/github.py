"""GitHub Actions: annotations within its limits, and a step summary.

Limits: of each kind the first 10 annotations of a step are shown; a step's summary holds 1 MiB.
Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.judge import Status
from lab.report.cells import Cell
from lab.report.data import Report
from lab.report.texts import as_markdown

MOST = 10  # annotations of one kind
SUMMARY_BYTES = 1024 * 1024
CUT = "\n\n(The rest is left out: a summary holds 1 MiB. The whole is in the report.)\n"


def notes(report: Report) -> Iterator[str]:
    """One line for each surprise and each inconclusive cell, as many as are shown."""
    doubtful = [cell for cell in report.cells if cell.status is Status.INCONCLUSIVE]
    yield from _lines("error", "not as expected", report.surprises)
    yield from _lines("warning", "inconclusive", doubtful)


def _lines(kind: str, what: str, cells: Sequence[Cell]) -> Iterator[str]:
    shown = cells if len(cells) <= MOST else cells[: MOST - 1]
    for cell in shown:
        told = f"seen {cell.outcomes}; expected {cell.expected}\nagain: {cell.command}"
        yield f"::{kind} title={_property(f'{what}: {cell.id}')}::{_data(told)}"
    if left := len(cells) - len(shown):
        yield f"::{kind} title={left} more::{left} more cells are {what}: see the report"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(report: Report, room: int = SUMMARY_BYTES) -> str:
    """The Markdown report, cut at a line where it would be too long."""
    whole = as_markdown(report)
    if len(whole.encode()) <= room:
        return whole
    kept, size = [], len(CUT.encode())
    for line in whole.splitlines(keepends=True):
        size += len(line.encode())
        if size > room:
            break
        kept.append(line)
    return "".join(kept).rstrip("\n") + CUT
