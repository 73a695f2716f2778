"""``lab run``: one scenario."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from lab.brokers.profile import Profile, names
from lab.catalogue import Scenario, find, load_scenarios
from lab.cell import Cell
from lab.cli.root import RESULTS, err, main, message, out
from lab.cli.session import exit_code, play
from lab.engine.images import default_celery
from lab.errors import LabError, UsageError
from lab.matrix import planned
from lab.report import terminal
from lab.settings import Settings, parse
from lab.store import Store, TrialResult


@main.command()
@click.argument("name")
@click.option(
    "--broker", "brokers", multiple=True, help="A profile, like redis-none or rabbitmq-quorum@3.10; or all."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A Celery setting: narrows or extends."
)
@click.option(
    "--only", multiple=True, metavar="AXIS=TOKEN", help="Only this token of an axis, like phase=running."
)
@click.option("--victim", help="Short for --only victim=...")
@click.option("--phase", help="Short for --only phase=...")
@click.option(
    "--trials", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Trials of each cell."
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="Trials side by side.  [default: three for each core]"
)
@click.option("--celery", help="Celery version in the workers.  [default: that of the lock file]")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where results go.")
@click.option(
    "--keep", is_flag=True, help="Leave the containers for a look; the next run, or make clean, removes them."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON line per trial on standard output, nothing else."
)
def run(
    name: str,
    *,
    brokers: Sequence[str],
    assignments: Sequence[str],
    only: Sequence[str],
    victim: str | None,
    phase: str | None,
    celery: str | None,
    results: Path,
    as_json: bool,
    trials: int,
    **how: Any,
) -> None:
    """Run a scenario."""
    started = time.monotonic()
    celery = celery or default_celery()
    short = {axis: token for axis, token in (("victim", victim), ("phase", phase)) if token}
    chosen = {**dict(_token(text) for text in only), **short}
    given = settings_of(assignments)
    scenario = _scenario(name)
    profiles = [Profile.load(label).label for label in profiles_of(brokers) or scenario.profiles()]
    cells = _possible(scenario, list(scenario.cells(profiles, given, chosen, celery)))
    store = Store(results)
    store.prepare()
    done: list[TrialResult] = []
    broken: LabError | None = None
    try:
        with closing(play(planned(scenario, cells, trials), store, celery, **how)) as ending:
            for result in ending:
                done.append(result)
                if not as_json:
                    show(result)
    except LabError as error:
        broken = error
    if as_json:
        click.echo(terminal.as_json(done))
    else:
        terminal.summary(out, done, time.monotonic() - started)
    if broken is not None:
        message(broken)
    sys.exit(exit_code({result.status for result in done}, broken))


def _token(text: str) -> tuple[str, str]:
    axis, equals, token = text.partition("=")
    if not equals:
        raise UsageError(f"--only {text!r} is not axis=token", "write --only phase=running")
    return axis, token


def _possible(scenario: Scenario, cells: list[Cell]) -> list[Cell]:
    """Leave out what cannot be, and say so; nothing left is an error."""
    if not cells:
        varied = "; ".join(f"{axis.name}: {', '.join(axis.choices)}" for axis in scenario.axes)
        raise UsageError(f"{scenario.name} has no cell with these settings", f"it varies {varied}")
    reasons = {cell.id: scenario.impossible(cell) for cell in cells}
    possible = [cell for cell in cells if reasons[cell.id] is None]
    told = sorted({reason for reason in reasons.values() if reason})
    if not possible:
        raise UsageError(f"this cannot be: {'; '.join(told)}", "choose other settings")
    for reason in told:
        left_out = sum(found == reason for found in reasons.values())
        err.print(f"not run: {left_out} cells: {escape(reason)}")
    return possible


def show(result: TrialResult) -> None:
    """One trial in a line, and why it is not as expected."""
    out.print(terminal.line(result), soft_wrap=True)
    for text in terminal.details(result):
        out.print(text, soft_wrap=True)


def settings_of(assignments: Sequence[str]) -> Settings:
    """The settings of every ``--set``. Raises :class:`UsageError` for one that is named twice."""
    given = dict(parse(assignment) for assignment in assignments)
    if len(given) < len(assignments):
        raise UsageError("--set names one setting twice", "give each setting once")
    return given


def profiles_of(brokers: Sequence[str]) -> Sequence[str]:
    """The profiles asked for, each once; every one for ``all``."""
    if "all" in brokers:
        return names()
    return tuple(dict.fromkeys(brokers))


def _scenario(name: str) -> Scenario:
    load_scenarios()
    return find(name)
