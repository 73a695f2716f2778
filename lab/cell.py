"""A cell: scenario x broker profile x settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import celery

from lab.settings import Settings, Value, effective

INSTALLED: str = celery.__version__


@dataclass(frozen=True, slots=True)
class Cell:
    """Scenario x broker profile x settings.

    ``params`` holds the token of each axis, ``extra`` the settings that no axis varies; ``celery`` is
    the version in the workers, by default the one that is installed beside the lab.
    """

    scenario: str
    profile: str
    celery: str = INSTALLED
    settings: Settings = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    extra: Settings = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stable and readable: ``worker-crash[redis-none-late-x4-whole-running]``."""
        extra = [f"{name}={value}" for name, value in sorted(self.extra.items())]
        celery = [f"celery={self.celery}"] if self.celery != INSTALLED else []
        return f"{self.scenario}[{'-'.join([self.profile, *self.params.values(), *extra, *celery])}]"

    @property
    def broker(self) -> str:
        """The family: ``redis`` or ``rabbitmq``."""
        return self.profile.partition("-")[0]

    def celery_is_at_least(self, major: int, minor: int) -> bool:
        """Whether the workers run this Celery or a newer one."""
        numbers = re.findall(r"\d+", self.celery)
        return (int(numbers[0]), int(numbers[1])) >= (major, minor)

    def __getitem__(self, name: str) -> Value:
        """A Celery setting as it is in this cell: given, or Celery's default."""
        return effective(self.settings, name)
