"""How far a run is: a line that stays where there is a terminal, nothing where there is none."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console

from lab.judge import Status
from lab.store import TrialResult


class Progress:
    """Counts what is done and what surprised. Without a terminal the lines of the trials must do."""

    def __init__(self, console: Console, total: int) -> None:
        self.live = console.is_terminal
        self._surprises = 0
        self._bar = progress.Progress(
            progress.BarColumn(20),
            progress.MofNCompleteColumn(),
            progress.TextColumn("[red]{task.fields[surprises]} surprises"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self._task = self._bar.add_task("", total=total, surprises=0)

    def advance(self, result: TrialResult) -> None:
        """One more trial has ended."""
        self._surprises += result.status is Status.SURPRISE
        self._bar.update(self._task, advance=1, surprises=self._surprises)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
