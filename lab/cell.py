"""A cell: scenario x broker profile x settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.settings import Settings, Value, effective


@dataclass(frozen=True, slots=True)
class Cell:
    """Scenario x broker profile x settings.

    ``params`` holds the token of each axis, ``extra`` the settings that no axis varies; ``celery`` is
    the version in the workers, empty for the lab's default.
    """

    scenario: str
    profile: str
    celery: str = ""
    settings: Settings = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    extra: Settings = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Stable and readable: ``worker-crash[redis-none-late-x4-whole-running]``."""
        extra = [f"{name}={value}" for name, value in sorted(self.extra.items())]
        celery = [f"celery={self.celery}"] if self.celery else []
        return f"{self.scenario}[{'-'.join([self.profile, *self.params.values(), *extra, *celery])}]"

    @property
    def broker(self) -> str:
        """The family: ``redis`` or ``rabbitmq``."""
        return self.profile.partition("-")[0]

    def __getitem__(self, name: str) -> Value:
        """A Celery setting as it is in this cell: given, or Celery's default."""
        return effective(self.settings, name)
