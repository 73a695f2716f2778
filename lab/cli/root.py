"""What every command shares: where it writes, and how an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lab import errors
from lab.errors import Interrupted, LabError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
WIDE = 120  # columns, where no terminal says how many it has


class Output(Console):
    """Standard output whose reader may leave: that ends the run like Ctrl-C, not like a surprise."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Interrupted("nobody reads the output any more", "")


out = Output(highlight=False, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Commands(click.Group):
    """Turns every error of the lab into one line and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            message(error)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            message(Interrupted("interrupted", ""))
            sys.exit(errors.INTERRUPTED)


def message(error: LabError) -> None:
    """One line: what was wrong, and what to do."""
    remedy = f" -> {escape(error.remedy)}" if error.remedy else ""
    err.print(f"[bold red]lab:[/] {escape(error.wrong)}{remedy}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """With these Celery settings, is a task lost when X dies? The lab answers by doing it."""


def say(started: float, text: str) -> None:
    """Tell how far set-up is, on standard error."""
    err.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {escape(text)}")
