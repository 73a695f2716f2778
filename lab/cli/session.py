"""An engine for the time of a command, and what a signal does to it."""

from __future__ import annotations

import functools
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.markup import escape

from lab import errors
from lab.brokers.profile import Profile
from lab.cli.root import err, say
from lab.engine.adapter import Engine
from lab.engine.images import ensure, ensure_worker
from lab.engine.install import find_or_start
from lab.engine.programs import Say
from lab.errors import CleanupFailed, EnvironmentLacks, Interrupted, LabError
from lab.judge import Status
from lab.matrix import Run, Trial
from lab.store import Store, TrialResult

JOBS_PER_CORE = 3  # most of a trial is waiting: for Celery's timers, for the engine


@contextmanager
def engine_for(say: Say, *, run: str, keep: bool = False) -> Iterator[Engine]:
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

    def __init__(self, run: str | None = None) -> None:
        self.run = run or secrets.token_hex(4)
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
        """The first message may be half printed: what is printed inside of that would never come out."""
        try:
            left = Engine(run=self.run, allow_remote=True).leftovers(run=self.run).names()
            told = f"left behind: {', '.join(left) or 'nothing'} -> remove it with: make clean"
        except LabError as error:
            told = f"what is left behind cannot be told: {error}"
        os.write(sys.stderr.fileno(), f"{told}\n".encode())
        os._exit(errors.INTERRUPTED)


@contextmanager
def interruptible(run: str | None = None) -> Iterator[Interrupts]:
    """Handle every signal by which a person or a service ends a program."""
    interrupts = Interrupts(run)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def play(
    trials: Sequence[Trial],
    store: Store,
    celery: str,
    *,
    jobs: int | None,
    keep: bool = False,
    run: str | None = None,
    not_run: dict[str, str] | None = None,
) -> Generator[TrialResult]:
    """Have everything that these trials need, and yield them as they end. ``run`` goes on with a run.

    ``not_run`` takes the cells that this engine or its host cannot do, with the reason.
    """
    tell = functools.partial(say, time.monotonic())
    with interruptible(run) as interrupts, engine_for(tell, run=interrupts.run, keep=keep) as engine:
        servers = {name for trial in trials for name in trial.scenario.servers}
        needed = [*(trial.profile for trial in trials), *map(Profile.of_server, sorted(servers))]
        for image in dict.fromkeys(profile.image for profile in needed):
            ensure(engine, image, tell)
        image = ensure_worker(engine, celery, tell)
        jobs = jobs or JOBS_PER_CORE * (os.cpu_count() or 1)
        cells = len({trial.cell.id for trial in trials})
        tell(
            f"{len(trials)} trials of {cells} cells, {jobs} side by side, "
            f"on engine {engine.version} at {engine.endpoint}"
        )
        lab_run = Run(
            engine=engine,
            store=store,
            image=image,
            image_id=engine.image_id(image) or "",
            jobs=jobs,
            keep=keep,
            stop=interrupts.stop,
        )
        with interrupts.asking_first():
            yield from lab_run.trials(_possible_here(lab_run, trials, {} if not_run is None else not_run))


def _possible_here(run: Run, trials: Sequence[Trial], not_run: dict[str, str]) -> list[Trial]:
    """Leave out what this engine or its host cannot do, and say so; nothing left is an error."""
    reasons = {t.cell.id: reason for t in trials if (reason := run.cannot(t.scenario, t.cell))}
    possible = [trial for trial in trials if trial.cell.id not in reasons]
    not_run.update(reasons)
    if not possible:
        raise EnvironmentLacks(f"not run: {'; '.join(sorted(set(reasons.values())))}", "see: make doctor")
    for reason, cells in Counter(reasons.values()).items():
        err.print(f"not run: {cells} cells: {escape(reason)}")
    return possible


def exit_code(seen: Collection[Status], broken: LabError | None) -> int:
    """A surprise outranks all, but for a run that the user ended; then what broke; then doubt."""
    if isinstance(broken, Interrupted):
        return broken.exit_code
    if Status.SURPRISE in seen:
        return errors.SURPRISE
    if broken is not None:
        return broken.exit_code
    return errors.INCONCLUSIVE if Status.INCONCLUSIVE in seen else errors.OK
