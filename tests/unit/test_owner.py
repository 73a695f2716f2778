"""Nobody's objects are removed but those of the dead."""

from __future__ import annotations

import os
import subprocess
import sys

from lab.engine import owner
from lab.engine.owner import EXPIRES, OWNER, Owner, is_abandoned


def test_my_own_objects_are_not_abandoned():
    assert not is_abandoned(Owner.me().labels("run"))


def test_the_objects_of_a_dead_process_are():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = owner._started(child.pid)
    labels = Owner(Owner.me().host, child.pid, started).labels("run")
    assert not is_abandoned(labels)
    child.kill()
    child.communicate()
    assert is_abandoned(labels)


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    labels = Owner(Owner.me().host, child.pid, owner._started(child.pid)).labels("run")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody has reaped it
    assert is_abandoned(labels)
    child.communicate()


def test_a_reused_pid_is_another_process():
    mine = Owner.me()
    assert is_abandoned(Owner(mine.host, mine.pid, "1.00").labels("run"))


def test_what_another_host_made_is_left_alone_until_it_expires():
    labels = Owner("elsewhere", 1, "1.00").labels("run")
    assert not is_abandoned(labels)
    assert is_abandoned({**labels, EXPIRES: "1"})


def test_what_carries_no_label_of_ours_is_never_abandoned():
    assert not is_abandoned({})
    assert not is_abandoned({OWNER: "nonsense"})
    assert not is_abandoned({"com.docker.compose.project": "x"})


def test_an_owner_is_read_back_from_its_labels():
    assert Owner.read(Owner.me().labels("run")) == Owner.me()
    assert owner.RUN in Owner.me().labels("run")
