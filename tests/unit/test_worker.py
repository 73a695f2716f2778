"""What runs in the container, run here: its lines, its gate, its inbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from lab.history import parse_log
from lab.worker import events, gate
from lab.worker.inbox import orders


def lines_of(code):
    """Run code in a process whose standard output is a pipe, as in a container."""
    environment = {**os.environ, "LAB_NODE": "w"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    return parse_log("w", done.stdout)


def test_an_event_is_one_line_that_the_lab_reads():
    found, defects = lines_of("from lab.worker.events import emit; emit('started', 't', phase='running')")
    assert defects == []
    assert [(e.node, e.seq, e.name, e.task, e.detail) for e in found] == [
        ("w", 0, "started", "t", {"phase": "running"})
    ]


def test_every_process_numbers_its_own_lines_from_0():
    found, defects = lines_of(
        "import os; from lab.worker.events import emit; emit('a')\n"
        "if os.fork() == 0: emit('child'); emit('child'); os._exit(0)\n"
        "os.wait(); emit('b')"
    )
    assert defects == []
    assert sorted((e.name, e.seq) for e in found) == [("a", 0), ("b", 1), ("child", 0), ("child", 1)]


def test_lines_of_many_threads_and_processes_stay_whole():
    found, defects = lines_of(
        "import os, threading; from lab.worker.events import emit\n"
        "children = [pid for _ in range(3) if (pid := os.fork())]\n"
        "def talk(): [emit('x', 't', error='y' * 300) for _ in range(200)]\n"
        "threads = [threading.Thread(target=talk) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "[os.waitpid(pid, 0) for pid in children]"
    )
    assert defects == []
    assert len(found) == 8 * 4 * 200


def test_a_long_text_is_cut_so_that_a_line_fits_a_pipe(monkeypatch):
    written = []
    monkeypatch.setattr(events.os, "write", lambda fd, data: written.append(data))
    events.emit("failed", "t", error="x" * 10_000)
    assert len(written[0]) < events.PIPE_BUF


def test_a_line_that_a_pipe_may_split_is_refused():
    with pytest.raises(ValueError, match="a pipe may split it"):
        events.emit("x", "t" * 5000)


@pytest.fixture
def said(monkeypatch):
    spoken = []
    monkeypatch.setattr(gate, "emit", lambda name, task, **detail: spoken.append(name))
    return spoken


def test_a_gate_of_another_phase_is_open(monkeypatch, said):
    monkeypatch.setattr(gate, "_held_phase", "finished")
    gate.hold("running", "t")
    assert said == []


def test_a_closed_gate_holds_until_it_is_opened(monkeypatch, said, tmp_path):
    monkeypatch.setattr(gate, "_held_phase", "running")
    monkeypatch.setattr(gate, "FOLDER", str(tmp_path))
    holder = threading.Thread(target=gate.hold, args=("running", "t"))
    holder.start()
    holder.join(0.05)
    assert holder.is_alive()
    assert said == ["held"]
    (tmp_path / "running").touch()
    holder.join(5)
    assert not holder.is_alive()
    assert said == ["held", "passed"]


def test_a_gate_that_nobody_opens_does_not_hold_for_ever(monkeypatch, said, tmp_path):
    monkeypatch.setattr(gate, "_held_phase", "running")
    monkeypatch.setattr(gate, "FOLDER", str(tmp_path))
    monkeypatch.setattr(gate, "LONGEST_SECONDS", 0.01)
    gate.hold("running", "t")
    assert said == ["held", "hold-expired"]


def test_orders_of_one_trial_are_told_from_those_of_others():
    lines = [
        json.dumps(order) for order in ({"do": 1}, {"trial": "t-1", "do": 2}, {"trial": "t-12", "do": 3})
    ]
    assert [order["do"] for order in orders(lines=lines)] == [1]
    assert [order["do"] for order in orders("t-1", lines)] == [2]


class Loop:
    """An event loop that does on each turn what was booked before it, the latest first, then its timers."""

    def __init__(self):
        self.ready, self.timers = [], []

    def call_soon(self, call, *args):
        self.ready.append((call, args))

    def turn(self):
        ready, self.ready = self.ready, []
        for call, args in reversed(ready):
            call(*args)
        while self.timers:
            self.timers.pop()()

    def call_later(self, _seconds, call):
        self.timers.append(call)


@pytest.fixture
def booking(monkeypatch):
    """A delivery whose acknowledgement the loop sends, and what the probe tells of it."""
    from lab.worker import probe

    told, loop = [], Loop()
    monkeypatch.setattr(probe, "emit", lambda name, task, **detail: told.append((name, detail["sent"])))
    monkeypatch.setattr(probe.ProbedRequest, "loop", loop)
    request = probe.ProbedRequest.__new__(probe.ProbedRequest)
    message = SimpleNamespace(acknowledged=False)
    request.id, request._message, request._connection_errors = "t", message, ()
    request._task = SimpleNamespace(acks_late=False)
    request._on_ack = lambda *_: loop.call_soon(setattr, message, "acknowledged", True)
    request.acknowledge()
    return told, loop, probe.ProbedRequest


def test_an_acknowledgement_is_told_when_the_loop_has_sent_it(booking):
    told, loop, _ = booking
    assert told == []
    loop.turn()
    assert told == [("acknowledged", True)]


def test_an_acknowledgement_that_is_still_booked_when_the_loop_ends_is_told_as_not_sent(booking):
    told, loop, request_class = booking
    request_class.loop_ends()
    assert told == [("acknowledged", False)]
    loop.turn()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("data", "carries"),
    [
        (b"\x01\x00\x01\x00\x00\x00\x1c\x00\x3c\x00\x28\x00\x00\x00\x06celery\x00\xce", True),
        (b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x01\x00\xce", False),
        (b"*3\r\n$5\r\nLPUSH\r\n$6\r\ncelery\r\n$2\r\n{}\r\n", True),
        (b"*3\r\n$5\r\nBRPOP\r\n$6\r\ncelery\r\n$1\r\n1\r\n", False),
    ],
    ids=["basic.publish", "basic.ack", "LPUSH", "BRPOP"],
)
def test_the_wire_knows_a_publish_when_it_sees_one(data, carries):
    from lab.worker.proxy import PUBLISH

    assert bool(PUBLISH.search(data)) is carries
