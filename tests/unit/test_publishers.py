"""A container of publishers serves one trial after another, and each sees its own process only."""

from __future__ import annotations

import pytest

from lab.engine.node import Node
from lab.errors import Inconclusive, NodeDead
from lab.publishers import MOST, Container, Lent, Publishers


def line(pid, name, trial=""):
    return f'{{"pid":{pid},"name":"{name}","detail":{{"trial":"{trial}"}}}}\n'


EARLIER = line(8, "begun", "t-1") + line(8, "asked") + line(1, "ended", "t-1")
LONGER = line(9, "begun", "t-12") + line(9, "asked") + line(1, "ended", "t-12")
RUNNING = line(10, "begun", "t-3") + line(10, "ready")


class FakeApi:
    """The log of one container, what was asked of it, and whether it runs."""

    def __init__(self, log, errors=""):
        self.texts = {True: log, False: errors}
        self.calls = []
        self.running = True

    def logs(self, _, *, stdout, stderr, tail):
        assert stdout != stderr
        lines = self.texts[stdout].splitlines(keepends=True)
        return "".join(lines if tail == "all" else lines[-tail:]).encode()

    def inspect_container(self, _):
        return {"State": {"Running": self.running, "Paused": False, "ExitCode": 0, "OOMKilled": False}}

    def kill(self, _, signal):
        self.calls.append(signal)

    def remove_container(self, *_, **__):
        self.calls.append("removed")


@pytest.fixture
def shelf():
    return Publishers(None, "image", "network", "name")


def lent(shelf, tag, log, **about):
    api = FakeApi(log, **about)
    return Lent(Container(Node(api, "id", "publisher")), tag, shelf), api


@pytest.mark.parametrize("tag", ["t-1", "t-12", "t-3"])
def test_a_trial_sees_the_lines_of_its_own_process_only(shelf, tag):
    node, _ = lent(shelf, tag, EARLIER + LONGER + RUNNING)
    pids = {"t-1": 8, "t-12": 9, "t-3": 10}
    assert {f'"pid":{pids[tag]}'} == {text.partition(",")[0][1:] for text in node.log().decode().splitlines()}
    assert node.log().decode().splitlines()[0] == line(pids[tag], "begun", tag).rstrip()


def test_a_trial_that_has_not_begun_has_no_lines(shelf):
    node, _ = lent(shelf, "t-2", EARLIER + LONGER)
    assert node.log() == b""


def test_of_what_was_written_for_people_a_trial_has_its_part(shelf):
    node, _ = lent(shelf, "t-3", "", errors='begun "t-1"\nold\nbegun "t-3"\nnew\n')
    assert node.log(errors=True) == b'begun "t-3"\nnew\n'


def test_a_process_that_runs_is_ended_alone(shelf):
    node, api = lent(shelf, "t-3", EARLIER + RUNNING)
    assert node.state().running
    node.kill()
    assert api.calls == ["SIGUSR1"]


def test_a_process_is_not_frozen_but_ended_for_good(shelf):
    node, api = lent(shelf, "t-3", RUNNING)
    api.kill = lambda _, signal: api.texts.update({True: RUNNING + line(1, "ended", "t-3")})
    node.pause()
    assert not node.state().running


def test_a_process_that_does_not_end_spoils_the_trial(shelf, monkeypatch):
    monkeypatch.setattr("lab.publishers.END_SECONDS", 0.05)
    node, _ = lent(shelf, "t-3", RUNNING)
    with pytest.raises(Inconclusive, match="did not end"):
        node.pause()


def test_a_process_that_ended_is_dead_and_not_killed_again(shelf):
    node, api = lent(shelf, "t-1", EARLIER)
    assert not node.state().running
    with pytest.raises(NodeDead):
        node.kill()
    with pytest.raises(NodeDead):
        node.pause()
    assert api.calls == []


def test_a_container_whose_process_has_ended_serves_the_next_trial(shelf):
    node, api = lent(shelf, "t-1", EARLIER)
    node.remove()
    assert api.calls == []
    shelf.close()
    assert api.calls == ["removed"]


@pytest.mark.parametrize(
    ("tag", "running", "served"), [("t-3", True, 1), ("t-1", False, 1), ("t-1", True, MOST)]
)
def test_one_whose_process_may_live_or_that_died_or_served_enough_is_removed(shelf, tag, running, served):
    node, api = lent(shelf, tag, RUNNING if tag == "t-3" else EARLIER)
    api.running, node._container.served = running, served
    node.remove()
    assert api.calls == ["removed"]


def test_an_end_that_was_seen_stays_true_whatever_the_next_trial_writes(shelf):
    node, api = lent(shelf, "t-1", EARLIER)
    assert not node.state().running
    api.texts[True] += RUNNING + line(10, "asked") * 30
    assert not node.state().running


def test_a_container_is_given_back_once(shelf):
    node, api = lent(shelf, "t-1", EARLIER)
    node.remove()
    node.remove()
    shelf.close()
    assert api.calls == ["removed"]
