"""The catalogue as pytest items, one for each cell: ``pytest -p lab.pytest_plugin scenarios``.

Ids are those of the cells, ``worker-crash[redis-none-late-x1-whole-running]``, so ``-k`` selects by any
token. Markers: ``redis``, ``rabbitmq``, and ``default`` for the first cell of each scenario.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.brokers.profile import Profile
from lab.catalogue import SCENARIOS, Scenario, load_scenarios
from lab.cell import Cell
from lab.engine.images import default_celery, ensure, ensure_worker
from lab.engine.install import find_or_start
from lab.judge import Status
from lab.matrix import Run
from lab.report import terminal
from lab.stages import Stages
from lab.store import Store, TrialResult

RESULTS = SCENARIOS.parent / "results"


class Lab:
    """One engine, its images and its brokers, for all cells that one pytest process runs."""

    def __init__(self) -> None:
        self.engine = find_or_start(secrets.token_hex(4), _say)
        image = ensure_worker(self.engine, default_celery(), _say)
        store = Store(RESULTS)
        store.prepare()
        self.run = Run(self.engine, store, image, self.engine.image_id(image) or "", jobs=1)
        self.stages = Stages(self.engine, self.run.image, self.run.stop)
        self._played = 0

    def play(self, scenario: Scenario, cell: Cell) -> TrialResult:
        """Run one cell once; again if it was inconclusive."""
        profile = Profile.load(cell.profile)
        for needed in (profile, *map(Profile.of_server, scenario.servers)):
            ensure(self.engine, needed.image, _say)
        self._played += 1
        return self.run.once(self._played, scenario, cell, profile, self.stages)

    def close(self) -> None:
        """Leave nothing behind."""
        self.stages.close()
        self.engine.remove(self.engine.leftovers(run=self.engine.run))
        self.engine.close()


LAB = pytest.StashKey[Lab]()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which brokers."""
    parser.addoption("--broker", action="append", help="A broker profile; may be given several times.")


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers."""
    for family in ("redis", "rabbitmq"):
        config.addinivalue_line("markers", f"{family}: cells on {family}")
    config.addinivalue_line("markers", "default: the first cell of each scenario")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the session made."""
    if (lab := config.stash.get(LAB, None)) is not None:
        lab.close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Every file of ``scenarios/``."""
    if file_path.parent == SCENARIOS and file_path.suffix == ".py":
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """The scenario of one file, and its cells."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item for each cell; the first that can be is the default one."""
        name = self.path.stem.replace("_", "-")
        scenario = load_scenarios()[name]
        profiles = self.config.getoption("broker") or scenario.profiles()
        default: list[pytest.MarkDecorator] = [pytest.mark.default]
        for cell in scenario.cells([Profile.load(label).label for label in profiles]):
            item = CellItem.from_parent(self, name=cell.id, scenario=scenario, cell=cell)
            item.add_marker(cell.broker)
            if default and scenario.impossible(cell) is None:
                item.add_marker(default.pop())
            yield item


class CellItem(pytest.Item):
    """One cell: passes when it is as expected."""

    def __init__(self, *, scenario: Scenario, cell: Cell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenario = scenario
        self.cell = cell

    def runtest(self) -> None:
        """Play it. What cannot be is skipped with its reason; what is in doubt fails too."""
        if reason := self.scenario.impossible(self.cell):
            pytest.skip(f"not run: {reason}")
        if LAB not in self.config.stash:
            self.config.stash[LAB] = Lab()
        if reason := self.config.stash[LAB].run.cannot(self.scenario, self.cell):
            pytest.skip(f"not run: {reason}")
        result = self.config.stash[LAB].play(self.scenario, self.cell)
        if result.status is not Status.EXPECTED:
            lines = [terminal.line(result), *terminal.details(result)]
            raise NotAsExpected("\n".join(line.plain for line in lines))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The verdict, what was expected and what is known of each task; a traceback only for a bug."""
        if isinstance(excinfo.value, NotAsExpected):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands."""
        return self.path, None, self.cell.id


class NotAsExpected(Exception):
    """A surprise, or a doubt, in words."""
