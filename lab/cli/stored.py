"""``lab judge``: what is stored, looked at again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape

from lab import errors
from lab.cli.root import main, message, out
from lab.errors import UsageError
from lab.store import rejudge, stored_in


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def judge(files: Sequence[Path]) -> None:
    """Judge stored histories again (or all of a trials.jsonl), and say whether a verdict differs."""
    same = differ = 0
    damaged: list[UsageError] = []
    for path in files:
        found, broken = stored_in(path)
        damaged += broken
        for stored in found:
            try:
                again = rejudge(stored)
            except UsageError as error:
                damaged.append(error)
                continue
            same, differ = same + again.same, differ + (not again.same)
            word = "[green]the same[/]" if again.same else "[bold red]differs[/]"
            out.print(f"{word}  {escape(again.cell)}  {escape(again.now.words())}", soft_wrap=True)
            if not again.same:
                out.print(f"    stored  {escape(again.then.words())}", soft_wrap=True)
    out.print(f"{same} the same, {differ} differ, {len(damaged)} could not be judged")
    for defect in damaged:
        message(defect)
    sys.exit(errors.SURPRISE if differ else errors.USAGE if damaged else errors.OK)
