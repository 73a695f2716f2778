"""Memory that runs out: of a process, which the kernel ends, or of a broker: it takes no more, or evicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.errors import EnvironmentLacks
from lab.evidence import OUT_OF_MEMORY
from lab.faults.base import Fault
from lab.faults.kill import KILLED

UNKNOWN = 255

# Exits with the number of processes of this container that the kernel ended for want of memory: cgroup v1
# counts them in one file since Linux 4.13, v2 in the other (Linux, Documentation/admin-guide/cgroup-v2.rst).
_COUNT = """
counted=$(sed -n 's/^oom_kill //p' /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events \
  2>/dev/null)
exit "${counted:-255}"
"""
_GONE = """
stat=$(cat "/proc/$1/stat" 2>/dev/null) || exit 0
case ${stat##*) } in Z*|X*) exit 0 ;; esac
exit 1
"""


@dataclass(frozen=True, slots=True)
class OutOfMemory(Fault):
    """A process of a container with a limit takes memory until the kernel ends it.

    ``eat`` lets it begin. With ``pid`` 0 that process is the first one, and the whole container ends with it.
    Raises :class:`EnvironmentLacks` where the kernel does not count whom it ended.
    """

    target: Node = field(kw_only=True)
    eat: Callable[[], None] = field(kw_only=True)
    _before: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return OUT_OF_MEMORY

    def inject(self) -> None:
        self._before.append(self._ended())
        self.eat()

    def proof(self) -> str | None:
        if not self._before:
            return None
        return self._child_ended() if self.pid else self._node_ended()

    def _child_ended(self) -> str | None:
        before, now = self._before[-1], self._ended()
        gone = self.target.execute(["sh", "-c", _GONE, "sh", str(self.pid)]) == 0
        if now > before and gone:
            return f"the kernel's oom_kill went from {before} to {now}, and process {self.pid} is gone"
        return None

    def _node_ended(self) -> str | None:
        state = self.target.state()
        ended = not state.running and state.oom_killed and state.exit_code == KILLED
        return f"the engine says: out of memory, not running, exit code {KILLED}" if ended else None

    def _ended(self) -> int:
        counted = self.target.execute(["sh", "-c", _COUNT])
        if counted == UNKNOWN:
            raise EnvironmentLacks(
                "the kernel does not count out-of-memory kills", "Linux 4.13 or later does"
            )
        return counted


@dataclass(frozen=True, slots=True)
class MemoryFull(Fault):
    """The broker's memory limit falls below what it holds. The undo gives it back the limit that it had.

    ``full`` asks the broker itself by a write, not by its settings.
    """

    fill: Callable[[], None] = field(kw_only=True)
    free: Callable[[], None] = field(kw_only=True)
    full: Callable[[], bool] = field(kw_only=True)

    @property
    def name(self) -> str:
        return "memory-full"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self.fill()

    def proof(self) -> str | None:
        return "the broker refuses a write: it has no memory left" if self.full() else None

    def revert(self) -> None:
        self.free()

    def reverted(self) -> str | None:
        return None if self.full() else "the broker takes a write again"


@dataclass(frozen=True, slots=True)
class Eviction(Fault):
    """A cache in the same store as the queue grows until memory runs out, and a policy says what goes.

    ``grow`` returns when ``has`` says that the broker's key in question is gone, or when the policy had every
    reason to take it and has not. The proof is what the broker itself counted, or that it refuses a write;
    what became of the key is told in it, and is no part of it. The undo gives the limit and the policy back.
    """

    key: str = field(kw_only=True)
    grow: Callable[[], None] = field(kw_only=True)
    evicted: Callable[[], int] = field(kw_only=True)
    full: Callable[[], bool] = field(kw_only=True)
    has: Callable[[], bool] = field(kw_only=True)
    free: Callable[[], None] = field(kw_only=True)
    limited: Callable[[], bool] = field(kw_only=True)
    _before: list[int] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "eviction"

    @property
    def lasting(self) -> bool:
        return False

    def inject(self) -> None:
        self._before.append(self.evicted())
        self.grow()

    def proof(self) -> str | None:
        if not self._before:
            return None
        left = f"{self.key} is {'there' if self.has() else 'gone'}"
        before, now = self._before[-1], self.evicted()
        if now > before:
            return f"the broker's evicted_keys went from {before} to {now}: {left}"
        return f"the broker refuses a write, and evicted nothing: {left}" if self.full() else None

    def revert(self) -> None:
        self.free()

    def reverted(self) -> str | None:
        return None if self.limited() else "the broker has no limit of its memory any more"
