"""Two plots as SVG: how long recovery takes, and how often an outcome comes where luck decides. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from markupsafe import Markup

from lab.report.cells import Cell
from lab.report.chance import wilson
from lab.report.data import Report
from lab.report.words import Word, trial_word

LABELS, LONG_LABELS, WIDTH = 330, 620, 1040  # pixels: room for names, for whole cells, and for everything
ROW, HEAD, FIGURES = 16, 30, 70  # pixels: a line, the axis, room for a figure at the end of a line
SECONDS = (0.01, 0.1, 1, 10, 100, 1000)  # marks of the logarithmic axis


def recovery(report: Report) -> Markup:
    """Seconds from the proof of the fault to the last finish: a dot for each trial, a bar at the median."""
    rows: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in report.cells:
        if cell.recoveries:
            rows[cell.scenario, cell.profile] += cell.recoveries
    if not rows:
        return Markup("")
    seconds = [s for own in rows.values() for s in own if s > 0]
    low = max((s for s in SECONDS if s <= min(seconds, default=1)), default=SECONDS[0])
    high = min((s for s in SECONDS if s >= max(seconds, default=1)), default=SECONDS[-1])
    span = math.log10(max(high, low * 10) / low)

    def x(value: float) -> float:
        share = math.log10(min(max(value, low), high) / low) / span
        return round(LABELS + share * (WIDTH - LABELS - FIGURES), 1)

    parts = [_mark(x(s), f"{s:g} s", len(rows)) for s in SECONDS if low <= s <= high]
    before = ""
    for index, ((scenario, profile), own) in enumerate(sorted(rows.items())):
        y = HEAD + index * ROW
        parts.append(_name(scenario if scenario != before else "", profile, LABELS, y))
        dots = sorted({x(seconds) for seconds in own})
        parts += [Markup('<circle class="d" cx="{}" cy="{}" r="2.5"/>').format(dot, y) for dot in dots]
        middle = median(own)
        parts.append(
            Markup('<path class="m" d="M{x} {a}V{b}"/><text class="v" x="{w}" y="{y}">{text}</text>').format(
                x=x(middle), a=y - 6, b=y + 6, w=WIDTH - 4, y=y + 4, text=f"{middle:.2f} s"
            )
        )
        before = scenario
    return _svg(parts, len(rows), "Seconds from the fault to the last finish, by scenario and profile")


def luck(report: Report) -> Markup:
    """The rate of each outcome with its 95 % interval, in the cells where the scenario declares luck."""
    rows = list(_lucky([cell for cell in report.cells if cell.first.expectation.luck]))
    if not rows:
        return Markup("")

    def x(share: float) -> float:
        return round(LONG_LABELS + share * (WIDTH - LONG_LABELS - FIGURES), 1)

    parts = [_mark(x(s / 4), f"{s * 25} %", len(rows)) for s in range(5)]
    before = ""
    for index, (cell, word, k, n) in enumerate(rows):
        y = HEAD + index * ROW
        low, high = wilson(k, n)
        name = f"{cell.scenario}, {cell.profile}: {' · '.join(cell.params.values())}"
        parts.append(_name(name if cell.id != before else "", word.value, LONG_LABELS, y))
        parts.append(
            Markup(
                '<path class="i" d="M{a} {y}H{b}"/><circle class="d" cx="{x}" cy="{y}" r="3"/>'
                '<text class="v" x="{w}" y="{t}">{k}/{n}</text>'
            ).format(a=x(low), b=x(high), x=x(k / n), y=y, w=WIDTH - 4, t=y + 4, k=k, n=n)
        )
        before = cell.id
    return _svg(parts, len(rows), "Rate of each outcome with its 95 % interval, where luck decides")


def _lucky(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Word, int, int]]:
    for cell in cells:
        words = Counter(trial_word(t.status, t.judgement) for t in cell.trials)
        for word in sorted((w for w in words if w.decided), key=lambda w: -w.severity):
            yield cell, word, words[word], cell.conclusive


def _name(first: str, second: str, room: int, y: int) -> Markup:
    return Markup(
        '<text class="s" x="0" y="{y}">{first}</text><text class="q" x="{x}" y="{y}">{second}</text>'
    ).format(y=y + 4, first=first, x=room - 12, second=second)


def _mark(x: float, text: str, rows: int) -> Markup:
    return Markup('<path class="g" d="M{x} {a}V{b}"/><text class="t" x="{x}" y="12">{text}</text>').format(
        x=x, a=HEAD - 12, b=HEAD + (rows - 1) * ROW + 8, text=text
    )


def _svg(parts: Sequence[Markup], rows: int, label: str) -> Markup:
    return Markup(
        '<svg class="pl" role="img" viewBox="0 0 {w} {h}" aria-label="{label}">{body}</svg>'
    ).format(w=WIDTH, h=HEAD + rows * ROW, label=label, body=Markup("").join(parts))
