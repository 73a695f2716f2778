"""Each fault by itself: that it lands, that its proof says so, and only then."""

from __future__ import annotations

from contextlib import closing

import pytest

from lab.faults import KillChild, KillNode
from lab.faults.kill import FOR_GOOD

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
    from lab.engine.adapter import NodeSpec
    from lab.engine.images import PYTHON_BASE

    code = FAMILY.format(reap=reap)
    node = engine.start(
        NodeSpec(f"lab-{engine.run}-family", PYTHON_BASE, ("python3", "-c", code), network, "family")
    )
    with closing(node.follow()) as lines:
        return node, int(next(lines))


def test_a_kill_of_a_node_is_proved_by_the_engine(node):
    fault = KillNode("node", "running", "t", target=node)
    assert fault.proof() is None
    fault.inject()
    while fault.proof() is None:
        assert not node.state().oom_killed
    assert "137" in str(fault.proof())
    fault.revert()
    assert fault.reverted() == FOR_GOOD


def test_a_node_that_ended_by_itself_is_no_proof(engine, network):
    from lab.engine.adapter import NodeSpec
    from lab.engine.images import PYTHON_BASE

    node = engine.start(NodeSpec(f"lab-{engine.run}-brief", PYTHON_BASE, ("true",), network, "brief"))
    list(node.follow())
    assert KillNode("brief", "running", "t", target=node).proof() is None
    node.remove()


@pytest.mark.parametrize("reap", ["os.wait()", ""], ids=["reaped", "left as a zombie"])
def test_a_kill_of_a_child_is_proved_by_proc(engine, network, reap):
    node, child = parent_of_one(engine, network, reap)
    fault = KillChild("family", "running", "t", pid=child, target=node)
    assert fault.proof() is None
    fault.inject()
    assert str(child) in str(fault.proof())
    assert node.state().running
    assert node.execute(["sh", "-c", f"! grep -qs '^State:.[RSD]' /proc/{child}/status"]) == 0
    assert fault.reverted() == FOR_GOOD
    node.remove()


def test_a_kill_of_a_process_that_does_not_exist_has_no_proof(node):
    fault = KillChild("node", "running", "t", pid=4_000_000, target=node)
    fault.inject()
    assert fault.proof() is None
