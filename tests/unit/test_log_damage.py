"""What is done to an append-only file hits the command of one task, and no other."""

from __future__ import annotations

import pytest

from lab.brokers.redis import MANIFEST, Redis
from lab.errors import Inconclusive
from lab.faults.log import corrupt, garble, truncate


def lpush(message):
    return b"*3\r\n$5\r\nLPUSH\r\n$6\r\ncelery\r\n$%d\r\n%s\r\n" % (len(message), message)


SELECT = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
ONE, TWO, THREE = (lpush(b'{"id": "%s", "body": "%s"}' % (name, b"x" * 80)) for name in (b"t1", b"t2", b"t3"))
LOG = SELECT + ONE + TWO + THREE


def test_a_truncated_file_ends_within_the_command():
    left = truncate(SELECT + ONE + TWO, "t2")
    assert left.startswith(SELECT + ONE + b"*3\r\n")
    assert len(SELECT + ONE) < len(left) < len(SELECT + ONE + TWO)


@pytest.mark.parametrize("task", ["t2", "t3"], ids=["in the middle", "at the end"])
def test_a_corrupted_command_is_zeroes_and_all_others_are_whole(task):
    own = {"t2": TWO, "t3": THREE}[task]
    assert corrupt(LOG, task) == LOG.replace(own, bytes(len(own)))


def test_a_garbled_message_is_as_long_as_it_was_and_its_command_says_so():
    harmed = garble(LOG, "t3")
    assert len(harmed) == len(LOG)
    head = THREE.index(b"{")
    assert harmed.startswith(SELECT + ONE + TWO + THREE[:head])
    assert harmed.endswith(b"\r\n")
    assert harmed.count(0) == 16


def test_a_task_that_the_file_does_not_have_is_no_verdict():
    with pytest.raises(Inconclusive):
        truncate(LOG, "t4")


def test_the_newest_log_is_the_last_that_the_manifest_names():
    lines = (
        "file a.1.base.rdb seq 1 type b",
        "file a.1.incr.aof seq 1 type i",
        "file a.2.incr.aof seq 2 type i",
    )
    assert Redis.newest_log(None, {MANIFEST: "\n".join(lines).encode()}) == "a.2.incr.aof"
