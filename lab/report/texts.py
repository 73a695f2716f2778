"""The report as Markdown, JSON and CSV. Whatever a result says stands there as text.

The JSON has ``{"schema": "celery-failure-lab/report", "version": 1}`` at its top. Within a version keys are
only added; a reader ignores what it does not know.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lab.report.advice import Change, advice
from lab.report.cells import Cell
from lab.report.chance import interval
from lab.report.data import Report
from lab.report.survival import survival
from lab.report.tables import Table
from lab.report.words import Word, trial_word

SCHEMA, VERSION = "celery-failure-lab/report", 1
COLUMNS = (
    *("scenario", "profile", "params", "variant", "outcome", "k", "n", "low", "high", "status", "surprise"),
    *("differs_from_documentation", "recovery_seconds", "seconds", "seen", "expected", "cell", "command"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


# --- JSON ---------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """Everything that the report knows, for programs."""
    whole = {
        "schema": SCHEMA,
        "version": VERSION,
        "from": report.days[0],
        "to": report.days[1],
        "cells": [_cell(cell) for cell in report.cells],
        "gaps": [
            _gap(cell)
            for table in report.tables
            for row in table.rows
            for cell in row.cells
            if not cell.trials
        ],
        "missing": list(report.missing),
        "advice": [
            {
                "profile": one.profile,
                "cells": one.cells,
                "outcomes": {word.value: n for word, n in one.words.items()},
                "safest": [
                    {
                        "axis": c.axis,
                        "choice": c.token,
                        "settings": c.settings,
                        "steps": list(map(_change, c.over)),
                    }
                    for c in one.choices
                ],
            }
            for one in advice(report)
        ],
        "tuned": [{**entry, "cells": cells} for entry, cells in report.tuned],
        "versions": [{**v.names, "cells": v.cells} for v in report.versions],
        "damaged": list(report.damaged),
        "older_trials": report.older,
    }
    return json.dumps(whole, indent=1, default=str) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    low, high = cell.interval
    first = cell.first
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "profile": cell.profile,
        "params": dict(cell.params),
        "variant": cell.variant,
        "settings": dict(first.settings),
        "outcome": cell.word.value,
        "k": cell.k,
        "n": cell.n,
        "interval": [round(low, 4), round(high, 4)],
        "status": cell.status.value if cell.status else None,
        "repeated": cell.repeated,
        "recovery_seconds": cell.recovery,
        "seen": first.judgement.counts(),
        "expected": {label: dict(counts) for label, counts in first.expectation.outcomes.items()},
        "because": first.expectation.because,
        "source": first.expectation.source,
        "differs_from_documentation": asdict(cell.documented) if cell.documented else None,
        "command": cell.command,
        "trials": [
            {
                "run": t.run,
                "number": t.number,
                "attempt": t.attempt,
                "outcome": trial_word(t.status, t.judgement).value,
                "status": t.status.value,
                "doubts": list(t.judgement.doubts),
                "stalled": [worker.node for worker in t.judgement.workers if not worker.resumed],
                "recovery_seconds": t.judgement.recovery,
                "seconds": t.seconds,
                "history": t.history,
            }
            for t in cell.trials
        ],
    }


def _gap(cell: Cell) -> dict[str, Any]:
    return {"id": cell.id, "outcome": cell.word.value, "reason": cell.reason}


def _change(change: Change) -> dict[str, Any]:
    def moves(found: Iterable[tuple[Word, Word, int]]) -> list[dict[str, Any]]:
        return [{"from": one.value, "to": other.value, "cells": n} for one, other, n in found]

    return {
        "from": change.before,
        "to": change.after,
        "settings": change.settings,
        "buys": moves(change.better),
        "costs": moves(change.worse),
        "same": change.same,
        "cells": len(change.pairs),
        "safer": change.safer,
    }


# --- CSV ----------------------------------------------------------------------------------------


def as_csv(report: Report) -> str:
    """One line for each cell that was run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in report.cells:
        writer.writerow([_plain(value) for value in _line(cell)])
    return out.getvalue()


def _line(cell: Cell) -> Iterator[object]:
    low, high = cell.interval
    yield from (cell.scenario, cell.profile, " ".join(f"{a}={t}" for a, t in cell.params.items()))
    yield from (cell.variant, cell.word.value, cell.k, cell.n, f"{low:.4f}", f"{high:.4f}")
    yield from (cell.status.value if cell.status else "", _yes(cell.surprising), _yes(bool(cell.documented)))
    yield from ("" if cell.recovery is None else cell.recovery, sum(t.seconds for t in cell.trials))
    yield from (cell.outcomes, cell.expected, cell.id, cell.command)


def _yes(whether: bool) -> str:
    return "yes" if whether else "no"


def _plain(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


# --- Markdown -----------------------------------------------------------------------------------


def as_markdown(report: Report) -> str:
    """The first page and the matrix, readable as it is."""
    return "\n".join([*summary(report), *_survival(report), *_matrices(report), *_about(report)]) + "\n"


def summary(report: Report) -> Iterator[str]:
    """What a person reads who reads one page."""
    cells, odd, open_ = len(report.cells), len(report.surprises), len(report.inconclusive)
    yield "# With these settings, do I lose tasks when X dies?"
    yield ""
    yield (
        f"{cells} cells of {len(report.tables)} scenarios on {len(report.profiles)} broker profiles: "
        f"{odd} not as expected, {open_} inconclusive."
    )
    yield ""
    if report.damaged:
        yield f"**{len(report.damaged)} lines of the results could not be read** and are left out."
        yield ""
    yield from _settings(report)
    yield from _surprises(report)


def _settings(report: Report) -> Iterator[str]:
    yield "## The safest settings, and what each one buys"
    yield ""
    yield "| profile | change | settings | buys | costs | same in | of cells |"
    yield "|---|---|---|---|---|--:|--:|"
    for one in advice(report):
        for choice in one.choices:
            for change in choice.over:
                name = (
                    f"{change.axis}: {change.before} → {change.after}{' **safer**' if change.safer else ''}"
                )
                row = [text(one.profile), _bold(name), _code(change.settings), _moves(change.better)]
                row += [_moves(change.worse), str(change.same), str(len(change.pairs))]
                yield _row(row)
    yield ""


def _bold(name: str) -> str:
    plain, mark, _ = name.partition(" **safer**")
    return text(plain) + mark


def _moves(moves: Iterable[tuple[Word, Word, int]]) -> str:
    return ", ".join(f"{n} x {one.value} → {other.value}" for one, other, n in moves) or "nothing"


def _survival(report: Report) -> Iterator[str]:
    for one in survival(report):
        yield f"## What survives what: {text(one.scenario)}"
        yield ""
        yield f"{text(one.asks)} The worst of any task, by how the broker ended and when."
        yield ""
        yield _row(["profile", "settings", *(text(f"{end} {after}") for end, after in one.columns)])
        yield "|---|---|" + "--:|" * len(one.columns)
        for profile, settings, cells in one.rows:
            yield _row([text(profile), text(settings), *(_ended(cell) for cell in cells)])
        yield ""


def _ended(cell: Cell | None) -> str:
    if cell is None or not cell.trials:
        return "-"
    return f"{cell.word.value} {interval(cell.k, cell.n) if 0 < cell.k < cell.n else f'{cell.k}/{cell.n}'}"


def _surprises(report: Report) -> Iterator[str]:
    yield "## Surprises"
    yield ""
    for cell in report.surprises:
        yield f"- ▲ {_code(cell.id)}: seen {text(cell.outcomes)}; expected {text(cell.expected)}"
    if not report.surprises:
        yield "- Every decided cell did what its scenario expects."
    for scenario, surprise, cells in report.documented:
        yield (
            f"- ◆ {text(scenario)} ({len(cells)} cells): documented: {text(surprise.documented)} "
            f"Observed: {text(surprise.observed)} ({text(surprise.source)})"
        )
    yield ""


def _matrices(report: Report) -> Iterator[str]:
    yield "## The matrix"
    yield ""
    yield (
        "The worst that became of any task, and in how many trials. "
        "▲ not as expected, ◆ not as documented, ■ a worker lived and took no work again."
    )
    yield ""
    for table in report.tables:
        yield f"### {text(table.scenario)}"
        yield ""
        if table.asks:
            yield text(table.asks)
            yield ""
        yield from _matrix(table)
        yield ""


def _matrix(table: Table) -> Iterator[str]:
    columns = [
        " · ".join(cell.params.get(axis, "") for axis in table.column_axes) or "outcome"
        for cell in table.rows[0].cells
    ]
    yield _row(["profile", text(" · ".join(table.row_axes)) or "settings", *map(text, columns)])
    yield "|" + "---|" * (len(columns) + 2)
    for row in table.rows:
        yield _row([text(row.profile), text(row.label), *map(_entry, row.cells)])


def _entry(cell: Cell) -> str:
    if not cell.trials:
        return cell.word.value
    marks = " ▲" * cell.surprising + " ◆" * bool(cell.documented) + " ■" * bool(cell.stalled)
    how_often = interval(cell.k, cell.n) if cell.n > 1 else f"{cell.k}/{cell.n}"
    return f"{cell.word.look.symbol} {cell.word.value} {how_often}{marks}"


def _about(report: Report) -> Iterator[str]:
    yield "## How it was run"
    yield ""
    for entry, cells in report.tuned:
        yield _tuned(entry, cells)
    for versions in report.versions:
        names = ", ".join(f"{name}: {value}" for name, value in versions.names.items())
        yield f"- {versions.cells} cells with {text(names)}"


def _tuned(entry: Mapping[str, Any], cells: int) -> str:
    setting = _code(f"{entry.get('setting')}={entry.get('value')}")
    there = text(f"{entry.get('default')}: {entry.get('meaning')}")
    return f"- tuned in {cells} cells: {setting}; in production {there}"


def _row(entries: Iterable[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def text(value: str) -> str:
    """Any text as Markdown that shows it as it is, on one line, also within a table."""
    flat = " ".join(value.split())
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(flat, quote=False)).replace("@", "&#64;")


def _code(value: str) -> str:
    """Code: in HTML, where no mark of the text can end it."""
    return f"<code>{text(value)}</code>" if value else ""
