"""A broker failure-mode simulation lab for Celery. This is what a scenario imports."""

from __future__ import annotations

from lab.catalogue import Axis, Scenario, scenario
from lab.cell import Cell
from lab.judge import Expectation, Outcome
from lab.rig import Rig, Worker, kill_child, kill_worker

__all__ = [
    "Axis",
    "Cell",
    "Expectation",
    "Outcome",
    "Rig",
    "Scenario",
    "Worker",
    "kill_child",
    "kill_worker",
    "scenario",
]
