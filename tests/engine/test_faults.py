"""Each fault by itself: that it lands, that its proof says so, and only then."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from lab.brokers import Profile
from lab.brokers.rabbitmq import LIMITS
from lab.engine.images import PYTHON_BASE
from lab.engine.node import NodeSpec
from lab.errors import BrokerSilent, UsageError
from lab.faults import (
    Alarm,
    CloseConnections,
    Cut,
    DamagedLog,
    Eviction,
    Freeze,
    KillChild,
    KillNode,
    MemoryFull,
    OutOfMemory,
    Stop,
)
from lab.faults.base import LASTING
from lab.faults.log import DAMAGE
from lab.verbs import control_shutdown, crash_server, cut, cut_wire, freeze_wire, raise_alarm, send_signal
from lab.watch import Watch

from .conftest import SLEEPER

FAMILY = """
import os, signal, time
child = os.fork()
if child == 0:
    signal.pause()
print(child, flush=True)
{reap}
signal.pause()
"""


def parent_of_one(engine, network, reap):
    code = FAMILY.format(reap=reap)
    node = engine.start(
        NodeSpec(f"lab-{engine.run}-family", PYTHON_BASE, ("python3", "-c", code), network, "family")
    )
    with closing(node.follow()) as lines:
        return node, int(next(lines))


def test_a_kill_of_a_node_is_proved_by_the_engine(node):
    fault = KillNode("node", target=node)
    assert fault.proof() is None
    fault.inject()
    while fault.proof() is None:
        assert not node.state().oom_killed
    assert "137" in str(fault.proof())
    fault.revert()
    assert fault.reverted() == LASTING


def test_a_node_that_ended_by_itself_is_no_proof(engine, network):
    node = engine.start(NodeSpec(f"lab-{engine.run}-brief", PYTHON_BASE, ("true",), network, "brief"))
    list(node.follow())
    assert KillNode("brief", target=node).proof() is None
    node.remove()


@pytest.mark.parametrize("reap", ["os.wait()", ""], ids=["reaped", "left as a zombie"])
def test_a_kill_of_a_child_is_proved_by_proc(engine, network, reap):
    node, child = parent_of_one(engine, network, reap)
    fault = KillChild("family", pid=child, target=node)
    assert fault.proof() is None
    fault.inject()
    assert str(child) in str(fault.proof())
    assert node.state().running
    assert node.execute(["sh", "-c", f"! grep -qs '^State:.[RSD]' /proc/{child}/status"]) == 0
    assert fault.reverted() == LASTING
    node.remove()


def test_a_kill_of_a_process_that_does_not_exist_has_no_proof(node):
    fault = KillChild("node", pid=4_000_000, target=node)
    fault.inject()
    assert fault.proof() is None


LIMIT = 64 << 20
EATER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
child = os.fork() if sys.argv[1] == "child" else 0
if child == 0:
    print(os.getpid(), flush=True)
    signal.sigwait({signal.SIGUSR1})
    hoard = [b"x" * (1 << 20) for _ in range(128)]
    os._exit(0)
signal.sigwait({signal.SIGUSR1})
os.kill(child, signal.SIGUSR1)
os.wait()
signal.pause()
"""


def eater(engine, network, victim, memory):
    command = ("python3", "-c", EATER, victim)
    spec = NodeSpec(
        f"lab-{engine.run}-{victim}-{memory}", PYTHON_BASE, command, network, "eater", memory=memory
    )
    node = engine.start(spec)
    with closing(node.follow()) as lines:
        pid = int(next(lines))
    whole = victim == "whole"
    fault = OutOfMemory("e", pid=0 if whole else pid, target=node, eat=lambda: node.kill("SIGUSR1"))
    return node, fault


@pytest.mark.parametrize("victim", ["child", "whole"])
def test_memory_that_runs_out_is_proved_by_the_kernel_or_the_engine(engine, network, victim):
    node, fault = eater(engine, network, victim, LIMIT)
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    assert ("oom_kill" in fault.proof()) == (victim == "child")
    assert node.state().running == (victim == "child")
    assert fault.reverted() == LASTING
    node.remove()


def test_an_eater_that_ends_by_itself_is_no_proof(engine, network):
    node, fault = eater(engine, network, "whole", 8 * LIMIT)
    fault.inject()
    until(lambda: not node.state().running)
    assert fault.proof() is None
    node.remove()


def test_a_killed_child_is_no_proof_that_memory_ran_out(engine, network):
    node, fault = eater(engine, network, "child", LIMIT)
    starved = replace(fault, eat=lambda: KillChild("e", pid=fault.pid, target=node).inject())
    starved.inject()
    assert starved.proof() is None
    node.remove()


TICKER = """
import time
while True:
    print(time.monotonic(), flush=True)
    time.sleep(0.01)
"""


def test_a_freeze_stops_every_process_until_it_is_undone(engine, network):
    node = engine.start(
        NodeSpec(f"lab-{engine.run}-tick", PYTHON_BASE, ("python3", "-c", TICKER), network, "tick")
    )
    with closing(node.follow()) as lines:
        next(lines)
    fault = Freeze("tick", target=node)
    assert fault.proof() is None
    fault.inject()
    assert fault.proof() == "the engine says: paused"
    assert fault.reverted() is None
    still = node.log()
    assert node.log() == still
    fault.revert()
    assert fault.reverted() == "the engine says: not paused"
    while node.log() == still:
        assert node.state().running
    fault.revert()
    assert node.state().running
    node.remove()


SERVER = """
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(line)
server = socketserver.ThreadingTCPServer(("", 7), Echo)
print("up", flush=True)
server.serve_forever()
"""
CLIENT = """
import socket
link = socket.create_connection(("server", 7))
print("up", flush=True)
for number in range(1_000_000):
    link.sendall(b"%d\\n" % number)
    link.recv(100)
    print(number, flush=True)
"""


def test_a_cut_stops_the_bytes_and_healed_the_same_connection_goes_on(engine):
    net = engine.create_network(f"lab-{engine.run}-fixed", fixed=True)
    nodes = []
    for name, code in (("server", SERVER), ("client", CLIENT)):
        command = ("python3", "-c", code)
        nodes.append(engine.start(NodeSpec(f"lab-{engine.run}-{name}", PYTHON_BASE, command, net, name)))
        with closing(nodes[-1].follow()) as lines:
            assert next(lines) == b"up"
    client = nodes[1]
    fault = Cut("client", target=client)
    address = client.address()
    assert fault.proof() is None
    fault.inject()
    assert fault.proof() == "the engine says: on no network"
    assert fault.reverted() is None
    still = client.log()
    assert client.log() == still
    extra = engine.start(NodeSpec(f"lab-{engine.run}-extra", PYTHON_BASE, SLEEPER, net, "extra"))
    assert extra.address() != address
    fault.revert()
    assert address in str(fault.reverted())
    while client.log() == still:
        assert client.state().running
    for node in (*nodes, extra):
        node.remove()
    engine.remove_network(net)


@pytest.fixture
def own(stages, profile):
    with stages.own(profile) as stage:
        yield stage


def answers(broker):
    try:
        return bool(broker.version())
    except BrokerSilent:
        return False


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_a_broker_that_ends_answers_no_more_and_healed_it_answers_on_its_port(own, end):
    broker = own.broker
    ports = dict(broker.public)
    if end == "crash":
        fault = KillNode("broker", target=broker.node, answers=lambda: answers(broker))
    else:
        fault = Stop("broker", target=broker.node, ask=broker.shut_down, answers=lambda: answers(broker))
    assert not fault.lasting
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    assert not answers(broker)
    assert fault.reverted() is None
    fault.revert()
    until(lambda: fault.reverted() is not None)
    assert broker.public == ports


def test_a_full_memory_is_proved_by_a_write_that_is_refused(stages):
    with stages.own(Profile.load("redis-none")) as stage:
        broker = stage.broker
        fault = MemoryFull(
            "broker",
            fill=lambda: broker.limit_memory(1),
            free=lambda: broker.limit_memory(0),
            full=broker.memory_is_full,
        )
        assert fault.proof() is None
        fault.inject()
        assert "refuses" in str(fault.proof())
        assert fault.reverted() is None
        fault.revert()
        assert fault.reverted() == "the broker takes a write again"
        with broker.client(255) as client:
            assert client.dbsize() == 0


def test_an_alarm_is_listed_by_the_broker_and_the_undo_gives_it_back_its_limit(stages):
    with stages.own(Profile.load("rabbitmq-classic")) as stage:
        broker = stage.broker
        for resource, (module, limit, _) in LIMITS.items():
            sound, clear, alarms = broker.raise_alarm, broker.clear_alarm, broker.alarms
            fault = Alarm("broker", resource=resource, sound=sound, clear=clear, alarms=alarms)
            assert fault.proof() is None
            assert broker.agrees(f"ok = application:set_env(rabbit, lab_test, {module}:get_{limit}()).")
            fault.inject()
            until(lambda fault=fault: fault.proof() is not None)
            assert broker.agrees(
                f"false = {module}:get_{limit}() =:= element(2, application:get_env(rabbit, lab_test))."
            )
            assert fault.reverted() is None
            fault.revert()
            until(lambda fault=fault: fault.reverted() is not None)
            fault.revert()
            assert broker.agrees(
                f"true = {module}:get_{limit}() =:= element(2, application:get_env(rabbit, lab_test))."
            )


def test_a_broker_with_an_alarm_blocks_whoever_publishes_and_nobody_else(rigs, profile):
    if profile.family == "redis":
        pytest.skip("Redis has no alarms")
    rig = rigs()
    worker = rig.worker("w", options=("--without-heartbeat",))
    alarm = rig.inject(raise_alarm(rig, "memory"))
    assert rig.namespace.has_blocked(0)
    [task] = rig.publish("target")
    until(lambda: rig.namespace.has_blocked(1))
    assert rig.namespace.depth().consumers == 1
    assert worker.count("received", task) == 0
    rig.heal(alarm)
    worker.says("finished", task)
    assert rig.namespace.has_blocked(0)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("allkeys-random", "celery is gone"),
        ("volatile-lru", "celery is there"),
        ("noeviction", "refuses a write, and evicted nothing: celery is there"),
    ],
)
def test_an_eviction_is_proved_by_the_brokers_own_count_and_undone_it_evicts_no_more(stages, policy, told):
    with stages.own(Profile.load("redis-none")) as stage:
        broker = stage.broker
        cache = broker.open(1).cache()
        fault = eviction(broker, cache, policy)
        with broker.client(1) as client:
            client.lpush("celery", "a task")
            assert fault.proof() is None
            fault.inject()
            assert told in str(fault.proof())
            assert ("evicted_keys went from 0" in fault.proof()) == (policy != "noeviction")
            assert fault.reverted() is None
            fault.revert()
            assert fault.reverted() == "the broker has no limit of its memory any more"
            assert client.exists("celery") == client.dbsize()
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def eviction(broker, cache, policy):
    return Eviction(
        "broker",
        key="celery",
        grow=lambda: cache.grow(policy, "celery"),
        evicted=cache.evicted,
        full=broker.memory_is_full,
        has=lambda: cache.spares("celery"),
        free=cache.free,
        limited=cache.limited,
    )


@pytest.mark.parametrize("how", ["truncated", "corrupted"])
def test_a_damaged_log_is_proved_by_what_is_read_back_and_mended_the_store_answers(stages, how):
    with stages.own(Profile.load("redis-aof-always")) as stage:
        broker = stage.broker
        crash = KillNode("broker", target=broker.node, answers=broker.answers)
        fault = damaged(broker, how)
        with broker.client(1) as client:
            client.lpush("celery", "kept")
            client.lpush("celery", "struck")
        crash.inject()
        until(lambda: crash.proof() is not None)
        assert fault.proof() is None
        fault.inject()
        assert "read back" in fault.proof()
        assert fault.lasting == (how == "truncated")
        fault.revert()
        until(lambda: fault.reverted() is not None)
        assert ("refused to start" in fault.reverted()) == (how == "corrupted")
        crash.revert()
        until(lambda: crash.reverted() is not None)
        with broker.client(1) as client:
            assert client.lrange("celery", 0, -1) == [b"kept"]


def damaged(broker, how):
    return DamagedLog(
        "broker",
        target=broker.node,
        folder=f"/data/{broker.log_folder}",
        newest=broker.newest_log,
        damage=lambda log: DAMAGE[how](log, "struck"),
        answers=broker.answers,
        mend=broker.mend_log if how == "corrupted" else None,
    )


def test_closed_connections_are_counted_and_the_worker_says_that_it_lost_its_own(rigs):
    rig = rigs()
    worker = rig.worker("w")
    fault = CloseConnections("broker", close=rig.namespace.close_connections)
    assert fault.proof() is None
    fault.inject()
    assert fault.proof() is not None
    worker.says("disconnected")
    assert worker.resumes()


def test_a_signal_is_proved_by_the_workers_own_word(rigs):
    rig = rigs()
    worker = rig.worker("w")
    fault = send_signal(worker, "SIGTERM")
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    worker.exits()
    assert not worker.alive


def test_a_shutdown_by_remote_control_is_proved_when_the_worker_stops_to_consume(rigs):
    rig = rigs()
    worker = rig.worker("w")
    fault = control_shutdown(worker)
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    worker.exits()
    assert fault.reverted() == LASTING


@pytest.mark.parametrize(
    ("verb", "undone"), [("freeze up", "thaw"), ("freeze down", "thaw"), ("cut", "mend")]
)
def test_a_wire_that_is_frozen_or_cut_carries_nothing_and_healed_it_does(rigs, verb, undone):
    rig = rigs({"broker_transport_options.confirm_publish": True})
    wire = rig.proxy()
    publisher = rig.publisher("behind", through=wire)
    rig.publish("before", by=publisher)
    _, _, way = verb.partition(" ")
    fault = freeze_wire(wire, way) if way else cut_wire(wire)
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    [task] = rig.publish("during", by=publisher, wait=False)
    publisher.says("asked", task)
    assert rig.namespace.depth().ready == 1 or way == "down"
    assert publisher.count("publish-ok", task) == 0
    fault.revert()
    until(lambda: fault.reverted() is not None)
    assert wire.count(undone) == 1
    publisher.was_told([task], seconds=30)


def test_a_result_backend_that_died_answers_no_more_and_healed_it_has_what_it_was_told(rigs):
    rig = rigs()
    store = rig.result_backend()
    worker = rig.worker("w")
    [task] = rig.publish("before")
    until(lambda: stored(store, task))
    fault = crash_server(store)
    assert fault.proof() is None
    fault.inject()
    until(lambda: fault.proof() is not None)
    assert not store.answers()
    assert rig.broker.answers()
    fault.revert()
    until(lambda: fault.reverted() is not None)
    assert stored(store, task)
    assert worker.alive


def stored(store, task):
    """Whether this task, and no other, has a result, and that it is a success."""
    return list(store.findings()) == [
        ("results", None, {"stored": 1}),
        ("result", task, {"state": "SUCCESS"}),
    ]


def until(condition):
    Watch(threading.Event()).poll(condition, "the condition of this test", 30)


def test_a_worker_without_a_cable_of_its_own_is_not_cut_off(rigs):
    rig = rigs()
    with pytest.raises(UsageError, match="shares its address"):
        cut(rig.worker("w"))
    assert cut(rig.worker("other", cable=True)).node == "other"
