"""The ledger of charges: what is committed is counted, what is not is not, and both outlive its crash."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lab.judge import judge
from lab.verbs import crash_server

from .test_faults import until


def test_every_committed_charge_is_counted_for_its_task(rigs):
    rig = rigs()
    rig.ledger()
    rig.worker("w")
    rig.publish("target", 2, act="charge", about={"guard": "none"})
    rig.publish("target", act="charge", about={"guard": "key"})
    rig.publish("others", act="charge", about={"guard": "check-then-act"})
    rig.settle()
    evidence = rig.collect()
    judgement = judge(evidence.history, evidence.backlog)
    assert judgement.doubts == ()
    assert judgement.facts["charges"] == 3


def test_a_charge_is_counted_when_it_is_committed_and_outlives_a_crash(rigs):
    rig = rigs()
    ledger = rig.ledger()
    with ledger.client() as client, ThreadPoolExecutor() as threads:
        client.run("INSERT INTO charges (task) VALUES ('t')")
        client.run("BEGIN")
        client.run("INSERT INTO charges (task) VALUES ('t')")
        counted = threads.submit(charges, ledger)
        rig.wait_for_blocked(ledger)
        client.run("ROLLBACK")
        assert counted.result() == {"t": 1}
    fault = crash_server(ledger)
    fault.inject()
    until(lambda: fault.proof() is not None)
    assert not ledger.answers()
    fault.revert()
    until(lambda: fault.reverted() is not None)
    assert charges(ledger) == {"t": 1}


def charges(ledger):
    """How often each task has charged."""
    return {task: detail["times"] for name, task, detail in ledger.findings() if name == "charged"}
