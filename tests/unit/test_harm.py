"""A broker goes on to the next trial only if it is as it was."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from lab.faults import Fault
from lab.harm import Harm
from lab.nodes import Recorder
from lab.watch import Watch


@dataclass(frozen=True)
class Scratch(Fault):
    """Always proved; undone, or not to be undone."""

    stays: bool = False

    @property
    def name(self):
        return "scratch"

    @property
    def lasting(self):
        return self.stays

    def inject(self):
        pass

    def proof(self):
        return "seen"

    def reverted(self):
        return "seen"


@pytest.mark.parametrize(
    ("node", "stays", "whole"), [("broker", False, True), ("broker", True, False), ("worker", True, True)]
)
def test_what_cannot_be_undone_in_a_broker_stays_with_it(node, stays, whole):
    harm = Harm(Watch(threading.Event()), Recorder(), set())
    harm.inject(Scratch(node, stays=stays), None)
    harm.revert()
    assert harm.broker_is_whole() is whole


def test_a_broker_whose_fault_is_not_undone_yet_is_not_whole():
    harm = Harm(Watch(threading.Event()), Recorder(), set())
    fault = Scratch("broker")
    harm.inject(fault, None)
    assert not harm.broker_is_whole()
    harm.heal(fault)
    assert harm.broker_is_whole()
