"""``lab matrix`` and ``lab merge``: the grid, or a part of it; and its parts put together."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from lab import grid, runs
from lab.brokers.profile import Profile
from lab.catalogue import load_scenarios
from lab.cli.root import RESULTS, main, message, out
from lab.cli.run import profiles_of, settings_of, show
from lab.cli.session import exit_code, play
from lab.engine.images import default_celery
from lab.errors import EnvironmentLacks, LabError, UsageError
from lab.judge import Status
from lab.matrix import Trial
from lab.report import terminal
from lab.report.progress import Progress
from lab.store import Store


@main.command()
@click.option("--quick", is_flag=True, help=f"Some {grid.QUICK} cells: the first of every scenario.")
@click.option("--whole", is_flag=True, help="Also the cells that are not in the core grid.")
@click.option("--list", "only_list", is_flag=True, help="Print the ids of the cells, and run nothing.")
@click.option(
    "-k", "words", multiple=True, help="Only cells whose id has this word; may be given several times."
)
@click.option("--broker", "brokers", multiple=True, help="Only this profile; or all of them everywhere.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A Celery setting.")
@click.option("--trials", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--jobs", type=click.IntRange(1, 64), help="Side by side.  [default: three for each core]")
@click.option("--seed", type=int, help="Shuffle the order of the cells by this number.")
@click.option("--shard", default="1/1", help="Only part i of n, like 2/5: parts of one grid merge.")
@click.option("--resume", is_flag=True, help="Go on with the last run in this folder, also a killed one.")
@click.option("--celery", help="Celery version in the workers.  [default: that of the lock file]")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where results go.")
def matrix(
    *,
    only_list: bool,
    trials: int,
    jobs: int | None,
    seed: int | None,
    shard: str,
    resume: bool,
    results: Path,
    celery: str | None,
    **which: object,
) -> None:
    """Run the core grid: every scenario on the brokers and settings that make sense."""
    celery = celery or default_celery()
    places, not_run = _places(celery, **which)  # type: ignore[arg-type]
    cells = grid.Grid(places, trials)
    part = grid.Shard.parse(shard)
    if only_list:
        for place in places:
            if part.has(place.cell.id):
                click.echo(place.cell.id)
        return
    store = Store(results)
    store.prepare()
    asked = runs.GridRun(
        secrets.token_hex(4), cells.id, [p.cell.id for p in places], trials, str(part), seed, not_run
    )
    run = _resumed(results, asked) if resume else asked
    finished = runs.finished(results, run.run)
    left = grid.left(cells, part, finished, run.seed)
    if not resume:
        runs.begin(results, run)
    if not left:
        out.print(f"run {run.run} is finished: all of its {len(finished)} trials are stored")
        sys.exit(exit_code(runs.statuses(results, run.run), None))
    broken = _run(left, run, store, celery, jobs)
    sys.exit(exit_code(runs.statuses(results, run.run), broken))


def _places(
    celery: str,
    *,
    quick: bool,
    whole: bool,
    words: Sequence[str],
    brokers: Sequence[str],
    assignments: Sequence[str],
) -> tuple[list[grid.Place], dict[str, str]]:
    """The cells asked for, and the reasons of those among them that cannot be."""
    profiles = [Profile.load(label).label for label in profiles_of(brokers)]
    everything = grid.everything(load_scenarios(), profiles, settings_of(assignments), celery)
    matching = list(grid.matching(everything, words))
    found = matching if whole else list(grid.core(matching))
    possible = [place for place in found if place.impossible is None]
    if not possible:
        outside = sum(place.impossible is None for place in matching)
        more = f"{outside} are outside the core grid: add --whole" if outside else "see: lab matrix --list"
        raise UsageError("no cell is left", more)
    if quick:
        return grid.quick(possible), {}
    return possible, {place.cell.id: place.impossible for place in found if place.impossible}


def _resumed(results: Path, asked: runs.GridRun) -> runs.GridRun:
    """The last run, if it is a run of the same grid. Raises :class:`UsageError`."""
    last = runs.latest(results)
    if (last.grid, last.shard) != (asked.grid, asked.shard):
        wrong = f"run {last.run} is of another grid: {len(last.cells)} cells, shard {last.shard}"
        raise UsageError(wrong, "resume with the options that it was started with, and the same lab")
    return last


def _run(
    left: Sequence[tuple[int, grid.Place]], run: runs.GridRun, store: Store, celery: str, jobs: int | None
) -> LabError | None:
    """Run what is left; what broke, or that something was left out."""
    started = time.monotonic()
    profiles = {label: Profile.load(label) for label in {place.cell.profile for _, place in left}}
    trials = [Trial(n, place.scenario, place.cell, profiles[place.cell.profile]) for n, place in left]
    totals = terminal.Totals()
    not_run: dict[str, str] = {}
    broken: LabError | None = None
    with Progress(out, len(trials)) as progress:
        try:
            with closing(play(trials, store, celery, jobs=jobs, run=run.run, not_run=not_run)) as ending:
                for result in ending:
                    totals.add(result)
                    progress.advance(result)
                    if not progress.live or result.status is not Status.EXPECTED:
                        show(result)
            if not_run:
                runs.begin(store.folder, replace(run, not_run={**run.not_run, **not_run}))
        except LabError as error:
            broken = error
    totals.show(out, time.monotonic() - started)
    if broken is not None:
        message(broken)
    if left_out := len(trials) - totals.trials:
        out.print(f"{left_out} trials are left: go on with --resume")
        broken = broken or EnvironmentLacks(f"{left_out} trials were not run", "see: make doctor")
    return broken


@main.command()
@click.argument("shards", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--into", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--mixed", is_flag=True, help="Also where versions differ.")
def merge(shards: Sequence[Path], into: Path, *, mixed: bool) -> None:
    """Put the results folders of all shards of one grid together."""
    out.print(f"{runs.merge(shards, into, mixed=mixed)} trials in {into}")
