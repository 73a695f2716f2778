"""A server of one trial beside its broker: it writes no events, so what it keeps is read at the end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from lab.brokers.base import Server
from lab.brokers.profile import Profile
from lab.engine.adapter import Engine
from lab.history import Scalar
from lab.settings import Settings

Finding = tuple[str, str | None, Mapping[str, Scalar]]  # the name of an event, its task, its detail


class Beside(Server):
    """A server that nodes of the trial are told of, by settings or by their environment.

    ``file`` is the name of its file in ``compose/servers/``, ``called`` its own in the history.
    """

    file: str
    called: str

    def __init__(self, engine: Engine, network: str, tag: str) -> None:
        profile = Profile.of_server(self.file)
        super().__init__(engine, profile, network, f"{tag}-{self.called}", alias=self.called)

    @property
    def settings(self) -> Settings:
        """What tells Celery of it."""
        return {}

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the tasks of it."""
        return {}

    @abstractmethod
    def findings(self) -> Iterator[Finding]:
        """What is found in it when every node is dead. Raises :class:`BrokerSilent`."""
