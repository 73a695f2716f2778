"""Order, stages and broken trials, without an engine."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from lab import errors
from lab.brokers import Profile
from lab.brokers.base import Server
from lab.catalogue import FILE_SYSTEM, Scenario
from lab.cell import Cell
from lab.cli import session
from lab.errors import BrokerSilent, DeadlineExpired, EnvironmentLacks, Inconclusive, Interrupted, NoEngine
from lab.matrix import Run, Trial, as_ours, well_mixed
from lab.stages import Stages


class FakeNode:
    def image_id(self):
        return "sha256:0"

    def remove(self):
        pass


class FakeBroker:
    """Answers at the third question, as a broker that boots does."""

    def __init__(self, *_, **__):
        self.node = FakeNode()
        self.disk = None
        self.questions = 0

    def version(self):
        self.questions += 1
        if self.questions < 3:
            raise BrokerSilent("not yet")
        return "1.0"

    answers = Server.answers


class FakeEngine:
    run = "r"

    def create_network(self, name, *, fixed=False):
        return name

    def remove_network(self, name):
        pass


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.setattr("lab.stages.broker_class", lambda family: FakeBroker)
    found = Stages(FakeEngine(), "image", threading.Event())
    yield found
    found.close()


LABELS = [
    f"redis-{kind}@{v}" for kind in ("none", "aof-always", "aof-everysec") for v in ("6.0", "7.0", "8.0")
]


def test_more_brokers_than_threads_boot_all_the_same(stages):
    booting = [stages.boot(Profile.load(label)) for label in LABELS]
    assert {stage.result(timeout=20).version for stage in booting} == {"1.0"}


def test_profiles_of_one_service_share_a_broker_and_others_do_not(stages):
    classic, quorum, none = (
        stages.boot(Profile.load(label)) for label in ("rabbitmq-classic", "rabbitmq-quorum", "redis-none")
    )
    assert classic is quorum
    assert classic is not none


def test_every_trial_has_a_namespace_of_its_own(stages):
    stage = stages.boot(Profile.load("redis-none")).result(timeout=20)
    assert len({stage.next_number() for _ in range(100)}) == 100


def test_a_broker_that_never_answers_is_told_with_its_name(monkeypatch, stages):
    monkeypatch.setattr("lab.stages.BROKER_BOOT_SECONDS", 0.1)
    monkeypatch.setattr(FakeBroker, "version", lambda self: (_ for _ in ()).throw(BrokerSilent("never")))
    with pytest.raises(DeadlineExpired, match="redis-none to answer"):
        stages.boot(Profile.load("redis-none")).result(timeout=20)


def a_trial(profile, *, own_broker=False):
    return Trial(0, Scenario("s", "?", [], None, own_broker=own_broker), Cell("s", profile), None)


def test_trials_that_break_their_rabbitmq_are_spread_over_the_run():
    shared = [a_trial("rabbitmq-classic") for _ in range(12)]
    breaking = [a_trial("rabbitmq-classic", own_broker=True) for _ in range(4)]
    mixed = well_mixed([*breaking, *shared])
    assert [place for place, trial in enumerate(mixed) if trial.scenario.own_broker] == [0, 4, 8, 12]
    assert sorted(map(id, mixed)) == sorted(map(id, [*breaking, *shared]))


def test_cells_of_redis_go_first_while_rabbitmq_boots():
    profiles = ("rabbitmq-classic", "redis-none", "rabbitmq-quorum", "redis-aof")
    trials = [a_trial(profile) for profile in profiles]
    assert [trial.cell.profile for trial in well_mixed(trials)] == [
        "redis-none", "redis-aof", "rabbitmq-classic", "rabbitmq-quorum",
    ]  # fmt: skip


def run():
    return Run(engine=None, store=None, image="", image_id="", jobs=1)


def settled(value):
    future = Future()
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def test_results_before_a_broken_trial_are_yielded_and_what_waits_is_cancelled():
    waiting, plan = Future(), run()
    found = []
    with pytest.raises(NoEngine):
        found.extend(plan._as_they_come({settled("one"), settled(NoEngine("gone")), waiting}))
    assert waiting.cancelled()
    assert plan.stop.is_set()


def test_when_nobody_reads_on_what_waits_is_cancelled():
    waiting, plan = Future(), run()
    results = plan._as_they_come({settled("one"), waiting})
    next(results)
    results.close()
    assert waiting.cancelled()
    assert plan.stop.is_set()


def test_a_stopped_run_ends_as_interrupted():
    plan = run()
    plan.stop.set()
    with pytest.raises(Interrupted):
        list(plan._as_they_come(set()))


def test_a_bug_in_a_script_is_inconclusive_and_says_where():
    def script():
        return {}["no such worker"]

    try:
        script()
    except KeyError as error:
        ours = as_ours(error)
    assert isinstance(ours, Inconclusive)
    assert "KeyError: 'no such worker' (test_matrix.py:" in ours.wrong


class TestBrokersOfOnesOwn:
    def test_one_that_was_left_whole_goes_on_to_the_next_trial(self, stages):
        profile = Profile.load("redis-none")
        with stages.own(profile) as first:
            first.whole = True
        with stages.own(profile) as second:
            assert second is first

    def test_one_that_was_not_is_removed(self, stages):
        profile = Profile.load("redis-none")
        with stages.own(profile) as first:
            pass
        with stages.own(profile) as second:
            assert second is not first
            assert second.ground is first.ground

    def test_no_two_trials_have_one_at_the_same_time(self, stages):
        profile = Profile.load("redis-none")
        with stages.own(profile) as first, stages.own(profile) as second:
            assert second is not first
            assert second.ground is not first.ground

    def test_one_that_keeps_by_the_clock_serves_once(self, stages):
        profile = Profile.load("redis-rdb")
        with stages.own(profile) as first:
            first.whole = True
        with stages.own(profile) as second:
            assert second is not first

    def test_only_so_many_wait(self, stages, monkeypatch):
        monkeypatch.setattr("lab.stages.IDLE", 1)
        for name in ("redis-none", "redis-aof-always"):
            with stages.own(Profile.load(name)) as stage:
                stage.whole = True
        assert [stage.name.rpartition("own")[2] for _, stage in stages._idle] == ["2"]


class TestInterrupts:
    @pytest.fixture
    def left(self, monkeypatch):
        codes = []
        monkeypatch.setattr(session.os, "_exit", codes.append)
        return codes

    def test_during_set_up_the_first_one_breaks_off(self, left):
        interrupts = session.Interrupts()
        with pytest.raises(KeyboardInterrupt):
            interrupts.handle(2, None)
        assert interrupts.stop.is_set()

    def test_during_trials_the_first_one_asks_and_the_second_one_leaves(self, left):
        interrupts = session.Interrupts()
        with interrupts.asking_first():
            interrupts.handle(2, None)
        assert (interrupts.stop.is_set(), left) == (True, [])
        interrupts.handle(2, None)
        assert left == [errors.INTERRUPTED]

    def test_the_second_one_leaves_also_when_the_engine_is_gone(self, left, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        interrupts = session.Interrupts()
        interrupts.stop.set()
        interrupts.handle(2, None)
        assert errors.INTERRUPTED in left


class TestWhatThisHostCannotDo:
    @pytest.fixture
    def trials(self):
        scenarios = [Scenario(name, "?", [], lambda rig: None) for name in ("possible", "power-cut")]
        return [Trial(0, scenario, Cell(scenario.name, "redis-none"), None) for scenario in scenarios]

    @pytest.fixture
    def run(self, monkeypatch):
        monkeypatch.setattr(
            Run, "cannot", lambda self, _, cell: "no loop devices" if cell.scenario == "power-cut" else None
        )
        return Run(None, None, "image", "id", 1)

    def test_is_left_out_and_told_with_its_reason(self, run, trials):
        not_run = {}
        assert session._possible_here(run, trials, not_run) == trials[:1]
        assert not_run == {"power-cut[redis-none]": "no loop devices"}

    def test_is_tried_once_for_each_kind_of_disk(self, monkeypatch):
        tried = []
        monkeypatch.setattr(
            "lab.matrix.disks.why_not", lambda engine, image, kind: tried.append(kind) or f"no {kind}"
        )
        cutting = Scenario("power-cut", "?", [FILE_SYSTEM], None, disk=True)
        run = Run(None, None, "image", "id", 1)
        cells = list(cutting.cells(["redis-none", "redis-rdb"]))
        assert [run.cannot(cutting, cell) for cell in cells] == ["no ext4", "no xfs"] * 2
        assert tried == ["ext4", "xfs"]

    def test_is_an_error_where_nothing_else_is_left(self, run, trials):
        with pytest.raises(EnvironmentLacks, match="not run: no loop devices"):
            session._possible_here(run, trials[1:], {})
