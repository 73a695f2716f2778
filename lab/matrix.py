"""Which cells run, in what order, how many at once; brokers are shared where no fault touches them."""

from __future__ import annotations

import platform
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lab.brokers import Broker, Profile, broker_class
from lab.catalogue import Scenario
from lab.cell import Cell
from lab.engine import disks
from lab.engine.adapter import Engine
from lab.engine.disks import make_disk
from lab.errors import EnvironmentLacks, Inconclusive, Interrupted, LabError
from lab.judge import Status, judge, verdict_on
from lab.rig import Remains, Rig
from lab.runs import ATTEMPTS
from lab.store import Store, TrialResult
from lab.watch import Stop, Watch

BROKER_BOOT_SECONDS = 60.0
WAKE_SECONDS = 0.2
IDLE = 6  # brokers that wait for another trial
ROOT = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class Stage:
    """A running broker on a network of its own, and a count of the trials that it served."""

    name: str
    broker: Broker
    network: str
    version: str
    image_id: str
    served: int = 0
    whole: bool = True  # whether the last trial left it as it was
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_number(self) -> int:
        """A namespace that no trial has used."""
        with self._lock:
            self.served += 1
            return self.served


class Stages:
    """Boots brokers when they are first needed: one of each definition to share, others to have alone.

    One that a trial had alone goes on to the next trial if it was left whole: every fault undone and
    proved so, nothing tuned. A boot of RabbitMQ costs more than most trials.
    """

    def __init__(self, engine: Engine, stop: Stop) -> None:
        self._engine = engine
        self._stop = stop
        self._lock = threading.Lock()
        self._booting: dict[Any, Future[Stage]] = {}
        self._own = 0
        self._idle: list[tuple[tuple[str, str], Stage]] = []
        self._pool = ThreadPoolExecutor(thread_name_prefix="boot")

    def boot(self, profile: Profile) -> Future[Stage]:
        """The stage of this profile, begun now if it is not there. Profiles of one service share it."""
        key = _key(profile)
        with self._lock:
            if key not in self._booting:
                self._booting[key] = self._pool.submit(self._boot, profile, len(self._booting))
            return self._booting[key]

    @contextmanager
    def shared(self, profile: Profile) -> Iterator[Stage]:
        """The stage that trials share which break neither broker nor network."""
        yield self.boot(profile).result()

    @contextmanager
    def own(self, profile: Profile, disk_image: str = "") -> Iterator[Stage]:
        """A stage that one trial has alone: its broker may be killed, its network cut.

        With ``disk_image``, that of the helpers, its data lies on a disk whose power can be cut.
        """
        stage = self._take(profile) if not disk_image else None
        stage = stage or self._boot(profile, self._next_own(), fixed=True, disk_image=disk_image)
        stage.whole = False
        try:
            yield stage
        finally:
            lasts = stage.whole and not disk_image and not profile.by_the_clock
            for spare in self._put(profile, stage) if lasts else [stage]:
                self._remove(spare)

    def _next_own(self) -> str:
        with self._lock:
            self._own += 1
            return f"own{self._own}"

    def _take(self, profile: Profile) -> Stage | None:
        """An idle stage of this profile."""
        with self._lock:
            found = next((pair for pair in self._idle if pair[0] == _key(profile)), None)
            if found:
                self._idle.remove(found)
        return found[1] if found else None

    def _put(self, profile: Profile, stage: Stage) -> list[Stage]:
        """Keep a stage for the next trial; those that are too many, the longest idle first."""
        with self._lock:
            self._idle.append((_key(profile), stage))
            many, self._idle = self._idle[:-IDLE], self._idle[-IDLE:]
        return [stage for _, stage in many]

    def _remove(self, stage: Stage) -> None:
        with suppress(EnvironmentLacks):  # the end of the run removes what did not go now
            stage.broker.node.remove()
            if stage.broker.disk:
                stage.broker.disk.remove()
            self._engine.remove_network(stage.network)

    def _boot(self, profile: Profile, number: object, *, fixed: bool = False, disk_image: str = "") -> Stage:
        name = f"lab-{self._engine.run}-{profile.family}{number}"
        network = self._engine.create_network(name, fixed=fixed)
        disk = make_disk(self._engine, disk_image, f"{name}-disk") if disk_image else None
        broker = broker_class(profile.family)(self._engine, profile, network, f"{name}-broker", disk=disk)
        Watch(self._stop).poll(broker.answers, f"{profile.label} to answer", BROKER_BOOT_SECONDS)
        return Stage(name, broker, network, broker.version(), broker.node.image_id())

    def close(self) -> None:
        """Wait for boots under way; the run removes what they made."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _key(profile: Profile) -> tuple[str, str]:
    """Profiles whose brokers are the same: they differ in what Celery is told."""
    return profile.image, repr(profile.service)


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
    _power: list[str | None] = field(default_factory=list)

    def trials(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Run these trials side by side, and yield the last attempt of each as it ends.

        Raises what the first broken trial raised, after the others have ended.
        """
        stages = Stages(self.engine, self.stop)
        try:
            for trial in trials:
                if not trial.scenario.own_broker:
                    stages.boot(trial.profile)
            with ThreadPoolExecutor(max_workers=self.jobs, thread_name_prefix="trial") as pool:
                pending = {pool.submit(self._trial, trial, stages) for trial in fast_boots_first(trials)}
                yield from self._as_they_come(pending)
        finally:
            stages.close()

    def cannot(self, scenario: Scenario) -> str | None:
        """Why no cell of this scenario can run on this engine; tried once, by doing it."""
        if not scenario.disk:
            return None
        if not self._power:
            self._power.append(disks.why_not(self.engine, self.image))
        return self._power[0]

    def once(
        self, number: int, scenario: Scenario, cell: Cell, profile: Profile, stages: Stages
    ) -> TrialResult:
        """Run one cell, again if it was inconclusive, on brokers that the caller keeps."""
        return self._trial(Trial(number, scenario, cell, profile), stages)

    def _as_they_come(self, pending: set[Future[TrialResult]]) -> Iterator[TrialResult]:
        """Yield results; on the first trial that breaks, or when nobody reads on, stop all the others."""
        broken: LabError | None = None
        try:
            while pending:
                done, pending = wait(pending, timeout=WAKE_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    if future.cancelled():
                        continue
                    if (error := future.exception()) is None:
                        yield future.result()
                        continue
                    broken = broken or as_ours(error)
                    pending = self._give_up(pending)
            if broken is not None:
                raise broken
            if self.stop.is_set():
                raise Interrupted("interrupted", "")
        finally:
            self._give_up(pending)

    def _give_up(self, pending: set[Future[TrialResult]]) -> set[Future[TrialResult]]:
        """Ask running trials to stop and cancel the others; the running ones are still to come."""
        if pending:
            self.stop.set()
        return {future for future in pending if not future.cancel()}

    def _trial(self, trial: Trial, stages: Stages) -> TrialResult:
        for attempt in range(1, ATTEMPTS + 1):
            if self.stop.is_set():
                raise Interrupted("interrupted", "")
            with (
                stages.own(trial.profile, self.image if trial.scenario.disk else "")
                if trial.scenario.own_broker
                else stages.shared(trial.profile) as stage
            ):
                result = self._attempt(trial, stage, attempt)
            if result.status is not Status.INCONCLUSIVE:
                break
        return result

    def _attempt(self, trial: Trial, stage: Stage, attempt: int) -> TrialResult:
        """Play, judge and store; only then remove: a removal that fails loses no result."""
        number = stage.next_number()
        rig = Rig(
            engine=self.engine,
            broker=stage.broker,
            profile=trial.profile,
            network=stage.network,
            number=number,
            tag=f"{stage.name}-{number}",
            cell=trial.cell,
            image=self.image,
            stop=self.stop,
        )
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
            stage.whole = rig.harm.broker_is_whole()
            return result
        finally:
            if not self.keep:
                with suppress(EnvironmentLacks):  # the end of the run removes what did not go now
                    rig.close()

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


def fast_boots_first(trials: Sequence[Trial]) -> list[Trial]:
    """Redis answers in half a second, RabbitMQ boots behind the cells of Redis."""
    return sorted(trials, key=lambda trial: trial.cell.broker != "redis")


@cache
def git_commit() -> str:
    """The commit of the lab, with ``+`` when the work tree differs; empty outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
