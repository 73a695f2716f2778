"""Scenarios: one failure story each, the axes it varies, and what it expects of each cell."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from lab.brokers.profile import DEFAULT_PROFILES, names
from lab.cell import INSTALLED, Cell
from lab.errors import UsageError
from lab.judge import Expectation
from lab.rig import Rig
from lab.settings import Settings, agrees, merged

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
NOTHING: Settings = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of a scenario: readable tokens, each with the settings it stands for.

    Those in its ``core`` are in the core grid; all are, if none is named. The others tell more of the same
    story: further points of a curve, phases between two.
    """

    name: str
    choices: Mapping[str, Settings]
    core: Collection[str] = ()

    @classmethod
    def of(cls, name: str, *tokens: str, core: Collection[str] = ()) -> Axis:
        """An axis that changes no Celery setting, like the victim or the phase."""
        return cls(name, dict.fromkeys(tokens, NOTHING), core)


#: When a task is acknowledged: before it starts, as Celery does by default, or when it has ended.
EARLY_OR_LATE = Axis(
    "acknowledgement", {"early": {"task_acks_late": False}, "late": {"task_acks_late": True}}
)
#: Whether RabbitMQ tells a publisher that it has a message; Celery's default is not to ask.
CONFIRM = Axis(
    "confirm",
    {
        "unconfirmed": {"broker_transport_options.confirm_publish": False},
        "confirmed": {"broker_transport_options.confirm_publish": True},
    },
)
#: The file system on the disk of a broker that has one of its own; ext4 where a scenario does not vary it.
DEFAULT_FILE_SYSTEM = "ext4"
FILE_SYSTEM = Axis.of("disk", DEFAULT_FILE_SYSTEM, "xfs", core=(DEFAULT_FILE_SYSTEM,))
EARLY_LATE_OR_REJECT = Axis(
    "acknowledgement",
    {
        **EARLY_OR_LATE.choices,
        "late+reject": {"task_acks_late": True, "task_reject_on_worker_lost": True},
    },
)


@dataclass(slots=True)
class Scenario:
    """A registered script with its question, axes, expectation and what cannot be.

    One that breaks the broker or the network has a broker of its own (``own_broker``); one that
    cuts its power has that broker's data on a ``disk`` of its own. Where the answer lies in what the broker
    keeps, by its ``durability``, a grid has every profile. ``servers`` are the servers that it has
    beside the broker, by the names of their files in ``compose/servers/``.
    """

    name: str
    asks: str
    axes: Sequence[Axis]
    script: Callable[[Rig], None]
    own_broker: bool = False
    servers: Sequence[str] = ()
    disk: bool = False
    durability: bool = False
    expectation: Callable[[Cell], Expectation] | None = None
    exclusion: Callable[[Cell], str | None] | None = None

    def disk_of(self, cell: Cell) -> str:
        """The file system of the broker's own disk in this cell, "" where it has none."""
        return cell.params.get(FILE_SYSTEM.name, DEFAULT_FILE_SYSTEM) if self.disk else ""

    def expects(self, function: Callable[[Cell], Expectation]) -> Callable[[Cell], Expectation]:
        """Register what is expected of a cell."""
        self.expectation = function
        return function

    def cannot(self, function: Callable[[Cell], str | None]) -> Callable[[Cell], str | None]:
        """Register the reason why a cell cannot be, ``None`` where it can."""
        self.exclusion = function
        return function

    def impossible(self, cell: Cell) -> str | None:
        """Why this cell cannot be, ``None`` where it can."""
        return self.exclusion(cell) if self.exclusion else None

    def expected(self, cell: Cell) -> Expectation:
        """What the scenario expects of this cell."""
        if self.expectation is None:
            raise UsageError(f"scenario {self.name} expects nothing", "add @scenario.expects")
        return self.expectation(cell)

    def is_core(self, cell: Cell) -> bool:
        """Whether this cell is in the core grid."""
        return all(cell.params[axis.name] in (axis.core or axis.choices) for axis in self.axes)

    def cells(
        self,
        profiles: Sequence[str],
        given: Settings = NOTHING,
        chosen: Mapping[str, str] = MappingProxyType({}),
        celery: str = INSTALLED,
    ) -> Iterator[Cell]:
        """Every cell, narrowed to the ``chosen`` tokens and to what agrees with the ``given`` settings.

        A given setting that an axis varies narrows that axis; any other is added to every cell.
        Raises :class:`UsageError` for an axis or token that this scenario does not have.
        """
        self._check(chosen)
        varied = {name for axis in self.axes for s in axis.choices.values() for name in s}
        extra = {name: value for name, value in given.items() if name not in varied}
        for profile, *tokens in itertools.product(profiles, *(axis.choices for axis in self.axes)):
            params = {axis.name: token for axis, token in zip(self.axes, tokens, strict=True)}
            if any(params[name] != token for name, token in chosen.items()):
                continue
            own = merged(*(axis.choices[params[axis.name]] for axis in self.axes))
            if not all(agrees(own, name, v) for name, v in given.items() if name in varied):
                continue
            yield Cell(self.name, profile, celery, merged(own, extra), params, extra)

    def profiles(self) -> list[str]:
        """The default profiles; those that it is about where none of the default ones can be."""

        def can_be(profile: str) -> bool:
            return any(self.impossible(cell) is None for cell in self.cells([profile]))

        return list(filter(can_be, DEFAULT_PROFILES)) or list(filter(can_be, names()))

    def _check(self, chosen: Mapping[str, str]) -> None:
        axes = {axis.name: axis for axis in self.axes}
        for name, token in chosen.items():
            if name not in axes:
                raise UsageError(f"{self.name} does not vary {name!r}", f"it varies {', '.join(axes)}")
            if token not in axes[name].choices:
                known = ", ".join(axes[name].choices)
                raise UsageError(f"{self.name} has no {name} {token!r}", f"choose from: {known}")


_registry: dict[str, Scenario] = {}


def scenario(
    name: str,
    *,
    asks: str,
    vary: Sequence[Axis] = (),
    own_broker: bool = False,
    servers: Sequence[str] = (),
    disk: bool = False,
    durability: bool = False,
) -> Callable[[Callable[[Rig], None]], Scenario]:
    """Register a script under its name. The script gets a :class:`lab.rig.Rig` in its hands."""

    def register(script: Callable[[Rig], None]) -> Scenario:
        found = Scenario(
            name,
            asks,
            vary,
            script,
            own_broker=own_broker or disk,
            servers=servers,
            disk=disk,
            durability=durability or disk,
        )
        return _registry.setdefault(name, found)

    return register


def load_scenarios() -> dict[str, Scenario]:
    """Import every file of ``scenarios/``, and return what they registered."""
    for path in sorted(SCENARIOS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"scenarios.{path.stem}", path)
        if spec and spec.loader:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return registered()


def registered() -> dict[str, Scenario]:
    """All scenarios that were imported, by name."""
    return dict(sorted(_registry.items()))


def find(name: str) -> Scenario:
    """The scenario of that name. Raises :class:`UsageError` with the nearest names."""
    if name in _registry:
        return _registry[name]
    near = get_close_matches(name, _registry, n=3) or sorted(_registry)
    raise UsageError(f"there is no scenario {name!r}", f"choose from: {', '.join(near)}")
