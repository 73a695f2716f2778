"""What every scenario owes its reader: a question, a reason and a source for each cell, a story that fits."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from lab.brokers.profile import names
from lab.catalogue import SCENARIOS, load_scenarios
from lab.judge import Outcome

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = load_scenarios()


@pytest.fixture(params=CATALOGUE.values(), ids=CATALOGUE)
def scenario(request):
    return request.param


def possible(scenario):
    return [cell for cell in scenario.cells(names()) if scenario.impossible(cell) is None]


def test_every_file_is_one_scenario_of_its_name():
    files = {path.stem.replace("_", "-") for path in SCENARIOS.glob("*.py")}
    assert files == set(CATALOGUE)


def test_a_scenario_asks_a_question_and_says_what_it_is_in_production(scenario):
    assert scenario.asks.endswith("?")
    module = inspect.getmodule(scenario.script)
    text = module.__doc__ if module else Path(inspect.getfile(scenario.script)).read_text()
    assert "In production:" in text


def test_a_scenario_runs_somewhere_and_says_why_not_elsewhere(scenario):
    assert possible(scenario)
    for cell in scenario.cells(names()):
        assert scenario.impossible(cell) is None or len(scenario.impossible(cell)) > 20


def test_every_cell_expects_known_outcomes_for_a_target_with_reason_and_source(scenario):
    for cell in possible(scenario):
        expectation = scenario.expected(cell)
        assert "target" in expectation.outcomes, cell.id
        told = {kind for counts in expectation.outcomes.values() for kind in counts}
        told |= {kind for kinds in expectation.luck.values() for kind in kinds}
        assert told <= {outcome.value for outcome in Outcome} - {"unknown"}, cell.id
        assert len(expectation.because) > 20, cell.id
        assert expectation.source, cell.id


def test_cells_of_one_scenario_have_ids_of_their_own(scenario):
    ids = [cell.id for cell in scenario.cells(names())]
    assert len(ids) == len(set(ids))


def test_the_catalogue_is_a_pytest_suite_whose_ids_are_those_of_the_cells():
    command = (sys.executable, "-m", "pytest", "-p", "lab.pytest_plugin", "scenarios", "--collect-only", "-q")
    chosen = ("-m", "redis", "-k", "worker-crash and late-x1-whole-running", "--broker", "redis-none")
    done = subprocess.run((*command, *chosen), cwd=ROOT, capture_output=True, text=True, check=False)
    assert "worker-crash[redis-none-late-x1-whole-running]" in done.stdout
    assert "1/" in done.stdout


def test_every_scenario_has_one_default_cell():
    command = (sys.executable, "-m", "pytest", "-p", "lab.pytest_plugin", "scenarios", "--collect-only", "-q")
    done = subprocess.run((*command, "-m", "default"), cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line.split("::")[1].split("[")[0] for line in done.stdout.splitlines() if "::" in line]
    assert sorted(found) == sorted(CATALOGUE)
