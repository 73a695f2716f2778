"""The cells of a matrix: which there are, which of them a machine takes, which trials are left. Pure."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.brokers.profile import DEFAULT_PROFILES, names
from lab.catalogue import NOTHING, Scenario
from lab.cell import INSTALLED, Cell
from lab.errors import UsageError
from lab.settings import Settings

#: What a profile promises to keep matters to scenarios that ask for its durability. Elsewhere one
#: profile stands for all that deliver alike: the lists of Redis, classic queues, quorum queues.
DELIVERING_ALIKE = ("redis-aof-everysec", "rabbitmq-classic", "rabbitmq-quorum")
QUICK = 60  # cells


@dataclass(frozen=True, slots=True)
class Place:
    """A cell and its scenario. ``impossible`` is the reason why it cannot be, if it cannot."""

    scenario: Scenario
    cell: Cell
    impossible: str | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells in a stable order, each to be run so many times.

    Trial ``k`` of the cell at place ``i`` has the number ``k * len(places) + i``, whatever part of the
    grid a machine takes and in what order.
    """

    places: Sequence[Place]
    trials: int = 1

    @property
    def id(self) -> str:
        """Twelve letters that tell this grid from any other: its cells, and how often each is run."""
        text = "\n".join([str(self.trials), *(place.cell.id for place in self.places)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def numbered(self) -> Iterator[tuple[int, Place]]:
        """Every trial: its number, and its place."""
        for trial in range(self.trials):
            for index, place in enumerate(self.places):
                yield trial * len(self.places) + index, place


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``of`` parts of a grid. A cell belongs to the same part whatever else is in the grid."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/5``. Raises :class:`UsageError`."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            raise UsageError(f"--shard {text!r} is not i/n", "write --shard 1/3, 2/3 and 3/3")
        return cls(int(number), int(of))

    def has(self, cell: str) -> bool:
        """Whether the cell of this id is in this part."""
        return int(hashlib.sha256(cell.encode()).hexdigest(), 16) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def everything(
    scenarios: Mapping[str, Scenario],
    profiles: Sequence[str] = (),
    given: Settings = NOTHING,
    celery: str = INSTALLED,
) -> Iterator[Place]:
    """Every cell of every scenario, those that cannot be with the reason.

    Without ``profiles``: each on all of them where the scenario asks what they keep, and on those that
    deliver differently where it does not.
    """
    for scenario in scenarios.values():
        chosen = profiles or (names() if scenario.durability else DELIVERING_ALIKE)
        for cell in scenario.cells(chosen, given, celery=celery):
            yield Place(scenario, cell, scenario.impossible(cell))


def core(places: Iterable[Place]) -> Iterator[Place]:
    """Those of the core grid."""
    return (place for place in places if place.scenario.is_core(place.cell))


def matching(places: Iterable[Place], words: Sequence[str]) -> Iterator[Place]:
    """Those whose id has every one of these words."""
    return (place for place in places if all(word in place.cell.id for word in words))


def quick(places: Sequence[Place], most: int = QUICK) -> list[Place]:
    """The first cell of every scenario on the default profiles, then on the others, then the second ones."""
    rank: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, bool, int, Place]] = []
    for index, place in enumerate(places):
        key = (place.scenario.name, place.cell.profile)
        rank[key] = rank.get(key, -1) + 1
        ranked.append((rank[key], place.cell.profile not in DEFAULT_PROFILES, index, place))
    chosen = sorted(sorted(ranked, key=lambda r: r[:3])[:most], key=lambda r: r[2])
    return [place for *_, place in chosen]


def left(grid: Grid, shard: Shard, finished: Collection[int], seed: int | None) -> list[tuple[int, Place]]:
    """The trials that this machine has still to run, shuffled if there is a seed."""
    found = [
        (number, place)
        for number, place in grid.numbered()
        if shard.has(place.cell.id) and number not in finished
    ]
    if seed is not None:
        random.Random(seed).shuffle(found)  # noqa: S311 - an order, no secret
    return found
