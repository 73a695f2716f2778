"""The power cut by itself: what was not fsynced is gone, what was is there, and never the wrong disk."""

from __future__ import annotations

import secrets
from contextlib import closing

import pytest

from lab.brokers import Profile
from lab.engine import disks
from lab.engine.images import PYTHON_BASE, default_celery, worker_image
from lab.engine.node import NodeSpec
from lab.errors import CannotCutPower, Inconclusive
from lab.faults import DiskFull, PowerCut
from lab.faults.kill import start_again
from lab.history import parse_log

from .conftest import SLEEPER
from .test_faults import until


@pytest.fixture(scope="module")
def image():
    return worker_image(default_celery())


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def kind(engine, image, request):
    if reason := disks.why_not(engine, image, request.param):
        pytest.skip(f"not run: {reason}")
    return request.param


@pytest.fixture
def disk(engine, image, kind):
    made = disks.make_disk(engine, image, f"lab-{engine.run}-{secrets.token_hex(3)}", kind)
    yield made
    made.remove()


@pytest.fixture
def writer(engine, network, disk):
    tag = f"writer-{secrets.token_hex(3)}"
    node = engine.start(
        NodeSpec(
            f"lab-{engine.run}-{tag}", PYTHON_BASE, SLEEPER, network, tag, volumes={"/data": disk.volume}
        )
    )
    with closing(node.follow()) as lines:
        assert next(lines) == b"up"
    yield node
    node.remove()


def write(node, name, *, sync):
    after = f"sync /data/{name}" if sync else "true"
    assert node.execute(["sh", "-c", f"echo {name} > /data/{name} && {after}"]) == 0


def has(node, name):
    return node.execute(["grep", "-q", name, f"/data/{name}"]) == 0


def test_what_was_fsynced_is_there_and_what_was_not_is_gone(writer, disk):
    write(writer, "before", sync=False)
    disk.sync()
    write(writer, "kept", sync=True)
    write(writer, "lost", sync=False)
    assert has(writer, "lost")
    fault = PowerCut("broker", target=writer, disk=disk, folder="/data", answers=lambda: True)
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    fault.revert()
    until(lambda: fault.reverted() is not None)
    assert (has(writer, "before"), has(writer, "kept"), has(writer, "lost")) == (True, True, False)


def test_a_kill_alone_loses_nothing_that_was_written(writer, disk):
    write(writer, "written", sync=False)
    writer.kill()
    until(lambda: not writer.state().running)
    start_again(writer)
    assert has(writer, "written")


def test_a_disk_that_is_not_mounted_afresh_is_not_taken_for_undone(writer, disk):
    fault = PowerCut("broker", target=writer, disk=disk, folder="/data", answers=lambda: True)
    disk.cut()
    assert fault.reverted() is None


def test_the_hand_refuses_a_disk_without_the_marker_of_its_trial(engine, image, disk, writer):
    place, name = (disk.kind, disk.volume, disk.device), f"{disk.volume}-other"
    other = disks.start_hand(engine, image, *place, marker="another trial", name=name)
    assert refused_because(other).startswith("it has the marker")
    write(writer, "unharmed", sync=True)
    other.remove()


def test_the_hand_refuses_a_folder_of_the_host(engine, image):
    volume = f"lab-{engine.run}-plain"
    hand = disks.start_hand(engine, image, "ext4", volume, "/dev/loop0", marker=volume, name=f"{volume}-hand")
    assert "its device is" in refused_because(hand) or "file system of /" in refused_because(hand)
    hand.remove()
    engine.remove_volume(volume)


def refused_because(hand):
    until(lambda: not hand.state().running)
    [event] = parse_log("disk", hand.log())[0]
    assert event.name == "refused"
    return str(event.detail["why"])


def test_a_disk_that_was_cut_once_takes_no_second_order(disk):
    disk.cut()
    with pytest.raises((CannotCutPower, Inconclusive)):
        disk.sync()


def test_a_full_disk_takes_no_write_and_freed_it_has_what_it_had(writer, disk):
    write(writer, "before", sync=True)
    disk.fill()
    assert writer.execute(["sh", "-c", "echo more > /data/more && sync /data/more"]) != 0
    disk.free()
    assert has(writer, "before")
    write(writer, "after", sync=True)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ("redis-aof-everysec", "the broker refuses one"),
        ("redis-aof-always", "the broker ended: exit code 1"),
        ("rabbitmq-classic", "the broker refuses one"),
    ],
)
def test_a_broker_on_a_full_disk_refuses_a_write_or_ends_and_with_room_it_takes_one(
    stages, kind, profile, told
):
    with stages.own(Profile.load(profile), disk=kind) as stage:
        broker = stage.broker
        fault = DiskFull(
            "broker",
            target=broker.node,
            disk=broker.disk,
            refuses=broker.disk_is_full,
            may_end=broker.ends_on_full_disk,
            answers=broker.answers,
        )
        assert fault.proof() is None
        fault.inject()
        until(lambda: fault.proof() is not None)
        assert told in str(fault.proof())
        assert fault.reverted() is None
        fault.revert()
        until(lambda: fault.reverted() is not None)


def test_a_dead_run_leaves_no_loop_device(engine, node, writer, disk):
    left = engine.leftovers(run=engine.run)
    assert disk.volume in left.volumes
    assert {f"{disk.volume}-keeper", f"{disk.volume}-hand"} <= set(left.containers.values())
    assert node.execute(("test", "-e", backing_file(disk))) == 0
    for helper in (writer, disk.hand, disk.keeper):
        helper.remove()
    engine.remove_volume(disk.volume)
    assert node.execute(("test", "-e", backing_file(disk))) == 1


def backing_file(disk):
    return f"/sys/block/{disk.device.removeprefix('/dev/')}/loop/backing_file"


def test_a_broker_on_a_disk_keeps_what_was_synced_through_a_power_cut(stages, kind):
    with stages.own(Profile.load("redis-aof-no"), disk=kind) as stage:
        assert kept_through_a_power_cut(stage.broker) == {b"synced-1"}


def test_a_disk_whose_power_came_back_serves_the_next_trial_with_a_hand_of_its_own(stages, kind):
    for trial in (1, 2, 3):
        with stages.own(Profile.load("redis-aof-no"), disk=kind) as stage:
            assert stage.next_number() == trial
            assert [event.name for event in stage.broker.disk.events()[0]] == ["ready"]
            assert kept_through_a_power_cut(stage.broker, trial) == {
                b"synced-%d" % number for number in range(1, trial + 1)
            }
            stage.whole = trial < 3
    with stages.own(Profile.load("redis-aof-no"), disk=kind) as another:
        assert another.broker is not stage.broker


def kept_through_a_power_cut(broker, trial=1):
    with broker.client() as client:
        client.set(f"synced-{trial}", 1)
        broker.disk.sync()
        client.set(f"lost-{trial}", 1)
    fault = PowerCut("broker", target=broker.node, disk=broker.disk, folder="/data", answers=broker.answers)
    fault.inject()
    until(lambda: fault.proof() is not None)
    fault.revert()
    until(lambda: fault.reverted() is not None)
    with broker.client() as client:
        return set(client.keys())
