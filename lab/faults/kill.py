"""SIGKILL: of a whole node, or of one process in it. And nodes that come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.faults.base import LASTING, Fault

KILLED = 128 + 9

# Kills $1 and succeeds once that process is gone or a zombie: it will never run again. The loop needs
# no deadline of its own: SIGKILL cannot be refused, and the engine's answer to this call is bounded.
_KILL_AND_SEE = """
kill -KILL "$1" || exit 1
while stat=$(cat "/proc/$1/stat" 2>/dev/null); do
  case ${stat##*) } in Z*|X*) exit 0 ;; esac
done
"""


@dataclass(frozen=True, slots=True)
class KillNode(Fault):
    """SIGKILL to the first process of a container, which takes every other with it.

    With ``answers``, which says whether its service is there, the undo starts it again.
    """

    target: Node = field(kw_only=True)
    answers: Callable[[], bool] | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        return "kill"

    @property
    def lasting(self) -> bool:
        return self.answers is None

    def inject(self) -> None:
        self.target.kill("SIGKILL")

    def proof(self) -> str | None:
        state = self.target.state()
        dead = not state.running and state.exit_code == KILLED and not state.oom_killed
        return f"the engine says: not running, exit code {KILLED}" if dead else None

    def revert(self) -> None:
        if not self.lasting:
            start_again(self.target)

    def reverted(self) -> str | None:
        if self.answers is None:
            return LASTING
        return "it was started again, and answers" if self.answers() else None


@dataclass(frozen=True, slots=True)
class Stop(Fault):
    """A service that is asked to end in good order, and takes its time."""

    target: Node = field(kw_only=True)
    ask: Callable[[], None] = field(kw_only=True)
    answers: Callable[[], bool] = field(kw_only=True)

    @property
    def name(self) -> str:
        return "stop"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.ask()

    def proof(self) -> str | None:
        state = self.target.state()
        if state.running or state.exit_code == KILLED:
            return None
        return f"the engine says: not running, exit code {state.exit_code}"

    def revert(self) -> None:
        start_again(self.target)

    def reverted(self) -> str | None:
        return "it was started again, and answers" if self.answers() else None


def start_again(node: Node) -> None:
    """Start a node that is dead; one that runs stays as it is."""
    if not node.state().running:
        node.start()


@dataclass(slots=True, frozen=True)
class KillChild(Fault):
    """SIGKILL to one process of a container, from within it. ``pid`` is as the container counts."""

    target: Node = field(kw_only=True)
    _codes: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "kill"

    def inject(self) -> None:
        self._codes.append(self.target.execute(["sh", "-c", _KILL_AND_SEE, "sh", str(self.pid)]))

    def proof(self) -> str | None:
        if self._codes and self._codes[-1] == 0:
            return f"process {self.pid} was killed, and /proc says that it is gone or a zombie"
        return None
