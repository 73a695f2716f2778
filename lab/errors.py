"""Every error of the lab. Each says what was wrong and what to do, and knows its exit code.

LabError
├── UsageError            2   a name, a value or a file that cannot be
├── Inconclusive          3   the evidence does not decide
│   └── DeadlineExpired   3   a condition did not come true in time
├── EnvironmentLacks      4   engine, image, disk or port
│   ├── NoEngine
│   ├── EngineGone
│   ├── ImageMissing
│   ├── NoSpace
│   ├── CannotCutPower
│   └── PortTaken
├── CleanupFailed         5
└── Interrupted         130
"""

from __future__ import annotations

OK = 0
SURPRISE = 1
USAGE = 2
INCONCLUSIVE = 3
ENVIRONMENT = 4
CLEANUP = 5
INTERRUPTED = 130


class LabError(Exception):
    """Base of all: ``wrong`` is one line for the user, ``remedy`` is what to do about it."""

    exit_code = ENVIRONMENT

    def __init__(self, wrong: str, remedy: str = "") -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.wrong}: {self.remedy}" if self.remedy else self.wrong


class UsageError(LabError):
    """The user asked for something that does not exist or cannot be."""

    exit_code = USAGE


class Inconclusive(LabError):
    """The trial ended without evidence that decides."""

    exit_code = INCONCLUSIVE


class DeadlineExpired(Inconclusive):
    """A condition that the lab waited for did not come true; the message names it."""


class BrokerSilent(Inconclusive):
    """The broker did not answer just now; whoever can wait asks again."""


class NodeDead(Inconclusive):
    """Something was asked of a node that does not run any more."""


class EnvironmentLacks(LabError):
    """This machine lacks something that the lab needs."""


class NoEngine(EnvironmentLacks):
    """No container engine answers."""


class EngineGone(EnvironmentLacks):
    """The engine stopped answering, or refused, in the middle of the work."""


class ImageMissing(EnvironmentLacks):
    """An image is neither here nor to be had."""


class NoSpace(EnvironmentLacks):
    """A disk is full."""


class CannotCutPower(EnvironmentLacks):
    """Engine or host do not let the lab make a disk and cut its power."""


class PortTaken(EnvironmentLacks):
    """Somebody else listens on the port that was chosen."""


class CleanupFailed(LabError):
    """Something that the lab made could not be removed."""

    exit_code = CLEANUP


class Interrupted(LabError):
    """The user asked to stop."""

    exit_code = INTERRUPTED
