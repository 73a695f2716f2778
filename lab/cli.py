"""The commands. Thin: each names what it needs, calls it, and turns errors into a line and a code."""

from __future__ import annotations

import functools
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from lab import errors
from lab.brokers.profile import DEFAULT_PROFILES, Profile, names
from lab.catalogue import Scenario, find, load_scenarios
from lab.cell import Cell
from lab.engine import doctor as checks
from lab.engine.adapter import Engine
from lab.engine.images import default_celery, ensure, ensure_worker
from lab.engine.install import find_or_start
from lab.engine.programs import Say
from lab.errors import CleanupFailed, EnvironmentLacks, Interrupted, LabError, UsageError
from lab.judge import Status, Surprise
from lab.matrix import Run
from lab.report import terminal
from lab.settings import parse
from lab.store import Store, TrialResult, rejudge, stored_in

ROOT = Path(__file__).resolve().parents[1]
JOBS_PER_CORE = 3  # most of a trial is waiting: for Celery's timers, for the engine

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
@click.option(
    "--results", type=click.Path(path_type=Path), default=ROOT / "results", help="Where results go."
)
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
    **how: Any,
) -> None:
    """Run a scenario."""
    started = time.monotonic()
    celery = celery or default_celery()
    short = {axis: token for axis, token in (("victim", victim), ("phase", phase)) if token}
    chosen = {**dict(_token(text) for text in only), **short}
    given = dict(parse(assignment) for assignment in assignments)
    if len(given) < len(assignments):
        raise UsageError("--set names one setting twice", "give each setting once")
    profiles = [Profile.load(label).label for label in _profiles(brokers)]
    scenario = _scenario(name)
    cells = _possible(scenario, list(scenario.cells(profiles, given, chosen, celery)))
    store = Store(results)
    store.prepare()
    done: list[TrialResult] = []
    broken: LabError | None = None
    try:
        with closing(_play(scenario, cells, store, celery, **how)) as ending:
            for result in ending:
                done.append(result)
                if not as_json:
                    _show(result)
    except LabError as error:
        broken = error
    if as_json:
        click.echo(terminal.as_json(done))
    else:
        terminal.summary(out, done, time.monotonic() - started)
    if broken is not None:
        message(broken)
    sys.exit(exit_code(done, broken))


def _token(text: str) -> tuple[str, str]:
    axis, equals, token = text.partition("=")
    if not equals:
        raise UsageError(f"--only {text!r} is not axis=token", "write --only phase=running")
    return axis, token


def _play(
    scenario: Scenario,
    cells: Sequence[Cell],
    store: Store,
    celery: str,
    *,
    trials: int,
    jobs: int | None,
    keep: bool,
) -> Generator[TrialResult]:
    """Have everything that the cells need, and yield their trials as they end."""
    say = functools.partial(_say, time.monotonic())
    with _interruptible() as interrupts, _engine(say, run=interrupts.run, keep=keep) as engine:
        for label in dict.fromkeys(cell.profile for cell in cells):
            ensure(engine, Profile.load(label).image, say)
        image = ensure_worker(engine, celery, say)
        jobs = jobs or JOBS_PER_CORE * (os.cpu_count() or 1)
        say(
            f"{len(cells) * trials} trials of {len(cells)} cells, {jobs} side by side, "
            f"on engine {engine.version} at {engine.endpoint}"
        )
        plan = Run(
            engine=engine,
            store=store,
            image=image,
            image_id=engine.image_id(image) or "",
            jobs=jobs,
            keep=keep,
            stop=interrupts.stop,
        )
        if reason := plan.cannot(scenario):
            raise EnvironmentLacks(f"not run: {len(cells)} cells: {reason}", "see: make doctor")
        with interrupts.asking_first():
            yield from plan.trials(scenario, cells, trials)


def exit_code(results: Sequence[TrialResult], broken: LabError | None) -> int:
    """A surprise outranks all, but for a run that the user ended; then what broke; then doubt."""
    seen = {result.status for result in results}
    if isinstance(broken, Interrupted):
        return broken.exit_code
    if Status.SURPRISE in seen:
        return errors.SURPRISE
    if broken is not None:
        return broken.exit_code
    return errors.INCONCLUSIVE if Status.INCONCLUSIVE in seen else errors.OK


def _profiles(brokers: Sequence[str]) -> Sequence[str]:
    if "all" in brokers:
        return names()
    return tuple(dict.fromkeys(brokers)) or DEFAULT_PROFILES


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


def _show(result: TrialResult) -> None:
    out.print(terminal.line(result), soft_wrap=True)
    for text in terminal.details(result):
        out.print(text, soft_wrap=True)


def _say(started: float, text: str) -> None:
    err.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {escape(text)}")


@contextmanager
def _engine(say: Say, *, run: str, keep: bool = False) -> Iterator[Engine]:
    """An engine with nothing on it of labs that died; at the end, nothing of this one either."""
    engine = find_or_start(run, say)
    _sweep(engine, say)
    try:
        yield engine
    finally:
        if keep:
            err.print(f"kept until the next run: {escape(', '.join(engine.leftovers(run=run).names()))}")
        else:
            engine.remove(engine.leftovers(run=run))
        engine.close()


def _sweep(engine: Engine, say: Say) -> None:
    left = engine.leftovers()
    if left.names():
        say(f"removing {len(left.names())} things that a dead run left behind")
        try:
            engine.remove(left)
        except CleanupFailed as error:
            say(f"{error.wrong}: it stays until the engine is started again, and is in nobody's way")


class Interrupts:
    """First Ctrl-C: stop, revert, remove. Second: say what is left, and go at once."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self.stop = threading.Event()
        self._ask = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """While trials run they are asked to stop; set-up is simply broken off."""
        if self.stop.is_set():
            self._leave()
            return
        self.stop.set()
        err.print("interrupted: removing what this run made; once more to leave at once")
        if not self._ask:
            raise KeyboardInterrupt

    @contextmanager
    def asking_first(self) -> Iterator[None]:
        """For the time of the trials, and of the removal after them."""
        self._ask = True
        yield

    def _leave(self) -> None:
        try:
            left = Engine(run=self.run, allow_remote=True).leftovers(run=self.run).names()
            err.print(f"left behind: {escape(', '.join(left) or 'nothing')} -> remove it with: make clean")
        except LabError as error:
            err.print(f"what is left behind cannot be told: {escape(str(error))}")
        finally:
            os._exit(errors.INTERRUPTED)


@contextmanager
def _interruptible() -> Iterator[Interrupts]:
    """Handle every signal by which a person or a service ends a program."""
    interrupts = Interrupts()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    found = checks.examine(default_celery(), [Profile.load(label).image for label in DEFAULT_PROFILES])
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
    say = functools.partial(_say, time.monotonic())
    with _interruptible() as interrupts, _engine(say, run=interrupts.run) as engine:
        for image in dict.fromkeys(Profile.load(label).image for label in _profiles(brokers)):
            ensure(engine, image, say)
        image = ensure_worker(engine, celery or default_celery(), say)
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


def _scenario(name: str) -> Scenario:
    load_scenarios()
    return find(name)
