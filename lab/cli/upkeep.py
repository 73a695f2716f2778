"""``lab list``, ``doctor``, ``setup``, ``clean``: what there is, and what a machine needs."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

import click
from rich.markup import escape

from lab import errors
from lab.brokers.profile import DEFAULT_PROFILES, SERVERS, Profile, names
from lab.catalogue import load_scenarios
from lab.cli.root import main, out, say
from lab.cli.run import profiles_of
from lab.cli.session import engine_for, interruptible
from lab.engine import doctor as checks
from lab.engine.adapter import Engine
from lab.engine.images import default_celery, ensure, ensure_worker
from lab.judge import Surprise
from lab.report import terminal


@main.command(name="list")
@click.option(
    "--surprises", is_flag=True, help="Where what was observed differs from what is documented or said."
)
def list_command(*, surprises: bool) -> None:
    """Scenarios with their questions, and broker profiles with their promises."""
    if surprises:
        terminal.surprises(out, _surprises())
        return
    for scenario in load_scenarios().values():
        out.print(f"[bold]{scenario.name}[/]  {escape(scenario.asks)}")
        for axis in scenario.axes:
            out.print(f"    {axis.name}: {', '.join(axis.choices)}")
    out.print()
    for label in names():
        profile = Profile.load(label)
        out.print(f"[bold]{label}[/]  {escape(profile.promise)} ({profile.image})")


def _surprises() -> dict[tuple[str, Surprise], int]:
    """Every surprise that a scenario expects, with the number of cells that it is expected of."""
    counted: Counter[tuple[str, Surprise]] = Counter()
    for scenario in load_scenarios().values():
        for cell in scenario.cells(names()):
            if scenario.impossible(cell) is None and (found := scenario.expected(cell).surprise):
                counted[scenario.name, found] += 1
    return dict(counted)


@main.command()
def doctor() -> None:
    """What this machine has and lacks, with the command that mends it."""
    needed = (*map(Profile.load, DEFAULT_PROFILES), *map(Profile.of_server, names(SERVERS)))
    found = checks.examine(default_celery(), [profile.image for profile in needed])
    for check in found:
        mark = "[green]has  [/]" if check.ok else "[red]lacks[/]"
        out.print(
            f"{mark} {escape(check.what)}" + (f" -> {escape(check.remedy)}" if check.remedy else ""),
            soft_wrap=True,
        )
    sys.exit(errors.OK if all(check.ok for check in found) else errors.ENVIRONMENT)


@main.command()
@click.option("--broker", "brokers", multiple=True, help="Profiles to have images for; or all.")
@click.option("--celery", help="Celery version to have a worker image for.")
def setup(brokers: Sequence[str], celery: str | None) -> None:
    """Have an engine and every image. Does nothing when all is there."""
    tell = functools.partial(say, time.monotonic())
    with interruptible() as interrupts, engine_for(tell, run=interrupts.run) as engine:
        wanted = map(Profile.load, profiles_of(brokers) or DEFAULT_PROFILES)
        servers = map(Profile.of_server, names(SERVERS))
        for image in dict.fromkeys(profile.image for profile in (*wanted, *servers)):
            ensure(engine, image, tell)
        image = ensure_worker(engine, celery or default_celery(), tell)
        out.print(
            f"ready: engine {engine.version} at {escape(engine.endpoint)}, worker image {escape(image)}"
        )


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(dry_run: bool) -> None:
    """Remove what dead runs left behind, and nothing else."""
    engine = Engine(run="clean", allow_remote=bool(os.environ.get("LAB_ALLOW_REMOTE")))
    left = engine.leftovers()
    for name in left.names():
        out.print(f"{'would remove' if dry_run else 'removing'} {escape(name)}")
    if not left.names():
        out.print("nothing is left behind")
    if not dry_run:
        engine.remove(left)
