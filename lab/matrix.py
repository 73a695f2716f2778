"""Which cells run, in what order, how many at once; brokers are shared where no fault touches them."""

from __future__ import annotations

import platform
import subprocess
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from lab.brokers import Profile
from lab.catalogue import Scenario
from lab.cell import Cell
from lab.engine import disks
from lab.engine.adapter import SYSCTLS, Engine
from lab.errors import EnvironmentLacks, Inconclusive, Interrupted, LabError
from lab.judge import Status, judge, verdict_on
from lab.rig import Remains, Rig
from lab.runs import ATTEMPTS
from lab.stages import Stage, Stages
from lab.store import Store, TrialResult
from lab.watch import Stop

WHILE_BOOTING = 12  # trials
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Trial:
    """One cell to run once. ``number`` is its place in the run."""

    number: int
    scenario: Scenario
    cell: Cell
    profile: Profile


@dataclass(slots=True)
class Run:
    """One call of the lab: cells in, results out, as they come."""

    engine: Engine
    store: Store
    image: str
    image_id: str
    jobs: int
    keep: bool = False
    stop: Stop = field(default_factory=threading.Event)
    _power: dict[str, str | None] = field(default_factory=dict)

    def trials(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Run these trials side by side, and yield the last attempt of each as it ends.

        Raises what the first broken trial raised, after the others have ended.
        """
        stages = Stages(self.engine, self.image, self.stop)
        try:
            for trial in trials:
                if not trial.scenario.own_broker:
                    stages.boot(trial.profile)
            with ThreadPoolExecutor(max_workers=self.jobs, thread_name_prefix="trial") as pool:
                yield from self._as_they_come(  # who alone has the futures, and so lets go of results
                    {pool.submit(self._trial, trial, stages) for trial in well_mixed(trials)}
                )
        finally:
            stages.close()

    def cannot(self, scenario: Scenario, cell: Cell) -> str | None:
        """Why this cell cannot run on this engine; tried once for each kind of disk, by doing it."""
        if not (kind := scenario.disk_of(cell)):
            return None
        if kind not in self._power:
            self._power[kind] = disks.why_not(self.engine, self.image, kind)
        return self._power[kind]

    def once(
        self, number: int, scenario: Scenario, cell: Cell, profile: Profile, stages: Stages
    ) -> TrialResult:
        """Run one cell, again if it was inconclusive, on brokers that the caller keeps."""
        return self._trial(Trial(number, scenario, cell, profile), stages)

    def _as_they_come(self, pending: set[Future[TrialResult]]) -> Iterator[TrialResult]:
        """Yield results; on the first trial that breaks, or when nobody reads on, stop all the others."""
        broken: LabError | None = None
        ended: SimpleQueue[Future[TrialResult]] = SimpleQueue()
        for future in pending:
            future.add_done_callback(ended.put)
        try:
            while pending:
                future = ended.get()
                pending.discard(future)
                if future.cancelled():
                    continue
                if (error := future.exception()) is None:
                    yield future.result()
                    continue
                broken = broken or as_ours(error)
                self._give_up(pending)
            if broken is not None:
                raise broken
            if self.stop.is_set():
                raise Interrupted("interrupted", "")
        finally:
            self._give_up(pending)

    def _give_up(self, pending: set[Future[TrialResult]]) -> None:
        """Ask running trials to stop, and cancel the others."""
        if pending:
            self.stop.set()
        for future in pending:
            future.cancel()

    def _trial(self, trial: Trial, stages: Stages) -> TrialResult:
        for attempt in range(1, ATTEMPTS + 1):
            if self.stop.is_set():
                raise Interrupted("interrupted", "")
            with (
                stages.own(trial.profile, disk=trial.scenario.disk_of(trial.cell))
                if trial.scenario.own_broker
                else stages.shared(trial.profile) as stage
            ):
                result = self._attempt(trial, stage, attempt)
            if result.status is not Status.INCONCLUSIVE:
                break
        return result

    def _attempt(self, trial: Trial, stage: Stage, attempt: int) -> TrialResult:
        """Play, judge and store; only then remove: a removal that fails loses no result."""
        rig = Rig(stage, trial.cell, trial.profile, self.image, self.stop)
        whole = False
        try:
            started = time.monotonic()
            try:
                rig.begin()
                trial.scenario.script(rig)
            except Inconclusive as doubt:
                rig.note("defect", what=doubt.wrong)
            remains = rig.collect()
            result = self._judge(trial, stage, attempt, remains, time.monotonic() - started)
            log = {} if result.status is Status.EXPECTED else rig.errors()
            self.store.save(result, remains.history, remains.backlog, log)
            whole = result.status is Status.EXPECTED and rig.harm.broker_is_whole()
            return result
        finally:
            if not self.keep:
                with suppress(EnvironmentLacks):  # the end of the run removes what did not go now
                    rig.close()
                    stage.whole = whole

    def _judge(
        self, trial: Trial, stage: Stage, attempt: int, remains: Remains, seconds: float
    ) -> TrialResult:
        cell = trial.cell
        judgement = judge(remains.history, remains.backlog)
        expectation = trial.scenario.expected(cell)
        name = cell.id if attempt == 1 else f"{cell.id}-attempt{attempt}"
        return TrialResult(
            run=self.engine.run,
            number=trial.number,
            cell=cell.id,
            scenario=cell.scenario,
            profile=cell.profile,
            params=dict(cell.params),
            settings=dict(cell.settings),
            attempt=attempt,
            status=verdict_on(judgement, expectation),
            expectation=expectation,
            judgement=judgement,
            tuned=tuple(asdict(t) for t in remains.tuned),
            provenance=self._provenance(trial.profile, stage, remains),
            seconds=round(seconds, 3),
            history=self.store.history_path(self.engine.run, trial.number, name),
        )

    def _provenance(self, profile: Profile, stage: Stage, remains: Remains) -> dict[str, Any]:
        ready = next((e for e in remains.history if e.name == "ready" and e.detail), None)
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "worker": dict(ready.detail) if ready else {},
            "broker": f"{profile.family} {stage.version}",
            "images": {"broker": stage.image_id, "worker": self.image_id},
            "engine": self.engine.version,
            "kernel": self.engine.kernel,
            "sysctls": SYSCTLS,
            "python": platform.python_version(),
            "commit": git_commit(),
            "seed": None,  # no trial draws; the seed of the order is in runs.jsonl
        }


def as_ours(error: BaseException) -> LabError:
    """A trial that broke in a way that no error of ours describes decides nothing, and is a bug."""
    if isinstance(error, LabError):
        return error
    where = traceback.extract_tb(error.__traceback__)[-1]
    wrong = f"a trial broke: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return Inconclusive(wrong, "this is a bug of the lab or of the scenario")


def planned(scenario: Scenario, cells: Sequence[Cell], times: int) -> list[Trial]:
    """Every cell once, then every cell again, ``times`` times."""
    profiles = {label: Profile.load(label) for label in {cell.profile for cell in cells}}
    everything = [cell for _ in range(times) for cell in cells]
    return [Trial(number, scenario, cell, profiles[cell.profile]) for number, cell in enumerate(everything)]


def well_mixed(trials: Sequence[Trial]) -> list[Trial]:
    """Every kind of trial spread evenly over the run, for each RabbitMQ that starts wants a core for itself.

    First some of Redis, which answers in half a second: the RabbitMQ that is shared boots meanwhile.
    """
    kinds: dict[tuple[str, bool], list[Trial]] = defaultdict(list)
    for trial in trials:
        kinds[trial.cell.broker, trial.scenario.own_broker].append(trial)
    places = [(place / len(kind), trial) for kind in kinds.values() for place, trial in enumerate(kind)]
    mixed = [trial for _, trial in sorted(places, key=itemgetter(0))]
    first = list(islice((trial for trial in mixed if trial.cell.broker == "redis"), WHILE_BOOTING))
    taken = {id(trial) for trial in first}
    return first + [trial for trial in mixed if id(trial) not in taken]


@cache
def git_commit() -> str:
    """The commit of the lab, with ``+`` when the work tree differs; empty outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
