"""What a report shows of a stored history: a diagram for each task, and the events as compact text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from lab.errors import UsageError
from lab.history import NANOSECONDS, Event, in_order
from lab.report.spacetime import diagram
from lab.store import TrialResult, read_history


@dataclass(frozen=True, slots=True)
class Story:
    """One trial's history, or why there is none."""

    diagrams: dict[str, Markup] = field(default_factory=dict)
    text: str = ""
    events: int = 0
    missing: str = ""


def story(result: TrialResult) -> Story:
    """Read and draw the history of a trial; one that is not there is told, and hides nothing else."""
    try:
        history = read_history(Path(result.history))
    except UsageError as error:
        return Story(missing=error.wrong)
    drawn = {task.task: diagram(history.events, task.task) for task in result.judgement.tasks}
    return Story(drawn, compact(history.events), len(history.events))


def compact(events: Sequence[Event]) -> str:
    """One event a line: seconds since the first, node and process, what, which task, details."""
    tail = common_tail([event.task for event in events if event.task])
    lines = [f"tasks end in {tail}"] if tail else []
    ordered = in_order(events)
    for event in ordered:
        seconds = (event.at - ordered[0].at) / NANOSECONDS
        task = (event.task or "").removesuffix(tail)
        detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
        line = f"{seconds:8.3f} {event.node}/{event.pid:<6} {event.name:<13} {task:<12} {detail}"
        lines.append(re.sub(r"[\x00-\x1f\x7f]", "?", line).rstrip())
    return "\n".join(lines)


def common_tail(names: Sequence[str]) -> str:
    """What all names end in, from a dash on; empty for one name."""
    if len(set(names)) < 2:  # noqa: PLR2004 - nothing in common with itself
        return ""
    shortest = min(names, key=len)
    tails = (shortest[at:] for at in range(1, len(shortest)) if shortest[at] == "-")
    return next((tail for tail in tails if all(name.endswith(tail) for name in names)), "")
