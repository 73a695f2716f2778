"""The report as one HTML file that needs nothing else: no network, and no script to be read."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lab.history import TARGET
from lab.judge import Status, TaskVerdict
from lab.report import plots, words
from lab.report.advice import ENOUGH, advice, changes
from lab.report.cells import Cell
from lab.report.data import Report
from lab.report.histories import Story, story
from lab.report.survival import survival
from lab.report.tables import Table
from lab.report.terminal import evidence
from lab.report.words import LOOKS, Word, trial_word, word_of, worst
from lab.store import TrialResult, counted

FILES = Path(__file__).parent / "html"
DIAGRAMS, TEXTS = 4_500_000, 2_500_000  # bytes of an HTML file that stays below 10 MB
GUARD = "acknowledgement"  # the axis of the overview's columns
OTHER = "other"


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task of a trial that is shown."""

    id: str
    label: str
    word: Word
    evidence: str
    svg: Markup
    open: bool  # the task that was struck, and the first that is the worst


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial. ``shown``: with its tasks, diagrams and history."""

    result: TrialResult
    word: Word
    link: str
    shown: bool
    tasks: tuple[TaskView, ...] = ()
    raw: str = ""
    events: int = 0
    missing: str = ""

    @property
    def tasks_in_words(self) -> str:
        """Outcomes counted by label."""
        return counted(self.result.judgement.counts())


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst word of several cells, and how many of them have it."""

    word: Word
    k: int
    n: int
    surprising: bool

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Worst:
        word = worst(cell.word for cell in cells)
        k = sum(cell.word is word for cell in cells)
        return cls(word, k, len(cells), any(cell.surprising for cell in cells))


@dataclass(frozen=True, slots=True)
class Overview:
    """Scenarios down, broker profiles and ways of acknowledging across."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Table, tuple[Worst | None, ...]], ...]


@dataclass(slots=True)
class Allowance:
    """How many bytes may still be embedded."""

    left: int

    def admit(self, text: Markup | str) -> bool:
        """Whether this still fits; what does not fit is left out, and what is smaller may fit later."""
        size = len(text.encode())
        if size > self.left:
            return False
        self.left -= size
        return True


def render(report: Report, out: Path) -> str:
    """The whole file. ``out`` is where it will lie: histories are linked relative to it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FILES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (FILES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        report=report,
        advice=advice(report),
        changes=changes(report),
        overview=overview(report),
        survival=survival(report),
        views=views(report, out),
        words=list(LOOKS),
        counts=_counts(report),
        tally=Counter(cell.word for cell in report.cells),
        days=[day[:16].replace("T", " ") for day in report.days],
        recovery=plots.recovery(report),
        luck=plots.luck(report),
        inline=[_inline(table, cell) for table in report.tables for cell in table.cells],
        style=Markup(palette() + (FILES / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=f"sha256-{digest}",
    )


def palette() -> str:
    """The colours of :mod:`lab.report.words`, as a style sheet."""
    names = {"ink": words.INK, "muted": words.MUTED, "accent": words.ACCENT, "paper": words.PAPER}
    names |= {"shade": words.SHADE, "alarm": words.ALARM, "line": words.LINE}
    page = "".join(f"--{name}:{colour};" for name, colour in names.items())
    badges = "".join(
        f".badge.{word.slug},.matrix td.{word.slug}{{color:{look.text};background:{look.background}}}"
        for word, look in LOOKS.items()
    )
    return f":root{{{page}}}{badges}\n"


def _counts(report: Report) -> dict[str, int]:
    count = Counter(cell.status for cell in report.cells)
    return {
        "expected": count[Status.EXPECTED],
        "surprise": count[Status.SURPRISE],
        "inconclusive": count[Status.INCONCLUSIVE],
    }


def _inline(table: Table, cell: Cell) -> dict[str, Any]:
    """What the script knows of a cell."""
    return {
        "anchor": cell.anchor,
        "scenario": cell.scenario,
        "profile": cell.profile,
        "params": dict(cell.params),
        "settings": [axis for axis in table.row_axes if axis in cell.params],
        "variant": cell.variant,
        "word": cell.word.value,
        "slug": cell.word.slug,
        "symbol": cell.word.look.symbol,
        "k": cell.k,
        "n": cell.n,
        "surprise": cell.surprising,
        "text": f"{cell.id} {cell.word.value} {table.asks}".lower(),
    }


def overview(report: Report) -> Overview:
    """The worst of each scenario, by profile and way of acknowledging.

    What only one scenario varies, or does not vary at all, shares a column.
    """
    used: dict[str, set[str]] = defaultdict(set)
    for table in report.tables:
        for row in table.rows:
            for token in (cell.params.get(GUARD) for cell in row.cells):
                used[token or OTHER].add(table.scenario)
    common = [t for t, own in used.items() if t != OTHER and len(own) >= min(ENOUGH, len(report.tables))]
    groups: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in report.cells:
        token = cell.params.get(GUARD, OTHER)
        groups[cell.scenario, cell.profile, token if token in common else OTHER].append(cell)
    order = [*common, OTHER]
    columns = sorted({key[1:] for key in groups}, key=lambda column: (column[0], order.index(column[1])))
    rows = tuple(
        (table, tuple(_worst(groups.get((table.scenario, *column))) for column in columns))
        for table in report.tables
    )
    return Overview(tuple(columns), rows)


def _worst(cells: Sequence[Cell] | None) -> Worst | None:
    return Worst.of(cells) if cells else None


# --- what is embedded ---------------------------------------------------------------------------

Key = tuple[str, int, str]  # a cell, the number of a trial, a task; no task: the history's text


def views(report: Report, out: Path) -> dict[str, list[TrialView]]:
    """Every trial of every cell; the first of a cell and every surprise with diagrams and history.

    What is not as expected comes first, then the tasks that faults struck, until the file is full.
    """
    stories = {(cell.id, trial.number): story(trial) for cell, trial in _to_show(report)}
    fits = _fitting(report, stories)
    return {
        cell.id: [
            _view(cell, trial, stories.get((cell.id, trial.number)), fits, out) for trial in cell.trials
        ]
        for cell in report.cells
    }


def _to_show(report: Report) -> Iterator[tuple[Cell, TrialResult]]:
    for cell in sorted(report.cells, key=lambda cell: cell.status is Status.EXPECTED):
        for trial in cell.trials:
            if trial is cell.first or trial.status is Status.SURPRISE:
                yield cell, trial


def _fitting(report: Report, stories: Mapping[tuple[str, int], Story]) -> set[Key]:
    """The diagrams and texts that fit."""
    texts, diagrams = Allowance(TEXTS), Allowance(DIAGRAMS)
    shown = list(_to_show(report))
    fits = {(c.id, t.number, "") for c, t in shown if texts.admit(stories[c.id, t.number].text)}
    for struck in (True, False):
        for cell, trial in shown:
            drawn = stories[cell.id, trial.number].diagrams
            tasks = [task.task for task in trial.judgement.tasks if (task.label == TARGET) is struck]
            fits |= {
                (cell.id, trial.number, name)
                for name in tasks
                if name in drawn and diagrams.admit(drawn[name])
            }
    return fits


def _view(cell: Cell, trial: TrialResult, own: Story | None, fits: set[Key], out: Path) -> TrialView:
    word = trial_word(trial.status, trial.judgement)
    link = Path(os.path.relpath(trial.history, out.parent)).as_posix()
    if own is None:
        return TrialView(trial, word, link, shown=False)
    ordered = sorted(trial.judgement.tasks, key=lambda task: task.label != TARGET)
    bad = next((task for task in ordered if word_of(task.outcome.value) is word), None)
    return TrialView(
        trial,
        word,
        link,
        shown=True,
        tasks=tuple(
            _task(t, own, (cell.id, trial.number, t.task) in fits, t in (*ordered[:1], bad)) for t in ordered
        ),
        raw=own.text if (cell.id, trial.number, "") in fits else "",
        events=own.events,
        missing=own.missing,
    )


def _task(task: TaskVerdict, own: Story, fits: bool, opened: bool) -> TaskView:
    drawn = own.diagrams.get(task.task, Markup("")) if fits else Markup("")
    return TaskView(task.task, task.label, word_of(task.outcome.value), evidence(task), drawn, opened)
