"""The adapter against a real engine: its words, its errors, its labels."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest

from lab.engine.adapter import LOOPBACK, Engine, free_port
from lab.engine.images import PYTHON_BASE
from lab.engine.node import SHARED, NodeSpec
from lab.errors import CleanupFailed, EngineGone, ImageMissing, Inconclusive, PortTaken
from lab.history import parse_log


def test_a_started_node_runs_without_privileges(engine, node):
    details = engine._api.inspect_container(node.id)
    assert node.state().running
    assert details["HostConfig"]["CapDrop"] == ["ALL"]
    assert details["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]


def test_a_written_file_is_there_whole(node):
    node.put("/tmp", "order.json", b"x" * 100_000)
    assert node.execute(["sh", "-c", "test $(stat -c %s /tmp/order.json) = 100000"]) == 0


def test_an_exit_code_is_that_of_the_command_after_its_end(node):
    began = time.monotonic()
    assert node.execute(["sh", "-c", "sleep 0.3; exit 7"]) == 7
    assert time.monotonic() - began >= 0.3


def test_a_command_that_is_cut_off_is_inconclusive_or_the_engines_refusal(node):
    node.kill()
    with pytest.raises((Inconclusive, EngineGone)):
        node.execute(["true"])


def test_a_killed_node_says_so_and_keeps_its_log(node):
    node.kill()
    deadline = time.monotonic() + 5
    while node.state().running and time.monotonic() < deadline:
        pass
    assert (node.state().running, node.state().exit_code) == (False, 137)
    assert node.log() == b"up\n"


def test_following_a_node_that_dies_ends_after_its_last_line(engine, network):
    code = "[print(i, flush=True) for i in range(500)]"
    spec = NodeSpec(f"lab-{engine.run}-talker", PYTHON_BASE, ("python3", "-c", code), network, "talker")
    talker = engine.start(spec)
    assert [int(line) for line in talker.follow()] == list(range(500))
    talker.remove()


def test_a_line_cut_by_the_death_of_its_writer_is_a_defect(engine, network):
    code = "import os; os.write(1, b'{\"node\"'); os.kill(os.getpid(), 9)"
    spec = NodeSpec(f"lab-{engine.run}-cut", PYTHON_BASE, ("python3", "-c", code), network, "cut")
    cut = engine.start(spec)
    list(cut.follow())
    assert parse_log("cut", cut.log()) == ([], ["the log of cut ends in the middle of a line"])
    cut.remove()


def test_a_paused_node_is_frozen_and_an_unpaused_one_is_not(node):
    node.pause()
    assert node.state().paused
    node.unpause()
    assert not node.state().paused


def test_removing_twice_is_fine(node):
    node.remove()
    node.remove()
    with pytest.raises(EngineGone):
        node.state()


def test_a_port_that_is_taken_is_told(engine, network):
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec = NodeSpec(f"lab-{engine.run}-port", PYTHON_BASE, ("true",), network, "port", ports={80: port})
        with pytest.raises(PortTaken):
            engine.start(spec)
    assert f"lab-{engine.run}-port" not in engine.leftovers(run=engine.run).containers.values()


def test_published_ports_listen_on_loopback_only(engine, network):
    port = free_port()
    code = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=80)"
    spec = NodeSpec(
        f"lab-{engine.run}-web", PYTHON_BASE, ("python3", "-c", code), network, "web", ports={80: port}
    )
    web = engine.start(spec)
    [binding] = engine._api.inspect_container(web.id)["NetworkSettings"]["Ports"]["80/tcp"]
    assert (binding["HostIp"], binding["HostPort"]) == (LOOPBACK, str(port))
    web.remove()


def test_a_missing_image_is_told(engine, network):
    spec = NodeSpec(f"lab-{engine.run}-none", "no-such-image:0", ("true",), network, "none")
    with pytest.raises(ImageMissing):
        engine.start(spec)


def test_every_object_carries_its_run_and_is_found_by_it(engine, node):
    mine = engine.leftovers(run=engine.run)
    assert node.id in mine.containers
    assert all(engine.run in name for name in mine.names())


def test_another_lab_neither_sees_nor_touches_what_a_living_one_made(engine, node):
    other = Engine(run="another")
    assert node.id not in other.leftovers().containers
    with suppress(CleanupFailed):  # what dead labs left may be stuck in the engine: another story
        other.remove(other.leftovers())
    other.close()
    assert node.state().running


def test_a_folder_outlives_the_nodes_that_see_it(engine, network):
    folder = f"lab-{engine.run}-folder"
    engine.create_volume(folder)
    for command in (f"echo kept > {SHARED}/file", f"grep kept {SHARED}/file"):
        spec = NodeSpec(
            f"lab-{engine.run}-writer", PYTHON_BASE, ("sh", "-c", command), network, "writer",
            user="65534:65534", volumes={SHARED: folder},
        )  # fmt: skip
        node = engine.start(spec)
        list(node.follow())
        assert node.state().exit_code == 0
        node.remove()
    engine.remove_volume(folder)
