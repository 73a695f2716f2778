"""The file that a dead store reads when it starts is not what it wrote: a torn write, a bad sector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.engine.node import Node
from lab.errors import Inconclusive
from lab.faults.base import LASTING, Fault
from lab.faults.kill import start_again

REFUSED = 1  # the exit code of a store that does not start on such a file
BEGIN = b"\r\n*"  # a command of Redis in its append-only file: an array of bulk strings, as on the wire
FEW_BYTES = 16


def command_of(log: bytes, task: str) -> tuple[int, int]:
    """Where the command that has a task begins and ends. Raises :class:`Inconclusive` if none has."""
    found = log.rfind(task.encode())
    if found < 0:
        raise Inconclusive(f"{task} is not in the log of the broker", "run it again")
    end = log.find(BEGIN, found)
    return log.rindex(BEGIN, 0, found) + 2, len(log) if end < 0 else end + 2


def truncate(log: bytes, task: str) -> bytes:
    """The file ends in the middle of the command that has the task."""
    start, end = command_of(log, task)
    return log[: (start + end) // 2]


def corrupt(log: bytes, task: str) -> bytes:
    """Where that command was are zeroes, as a file system may leave a block that was never written."""
    start, end = command_of(log, task)
    return log[:start] + bytes(end - start) + log[end:]


def garble(log: bytes, task: str) -> bytes:
    """A few bytes in the middle of its message are zeroes; what says how long it is is whole."""
    middle = sum(command_of(log, task)) // 2
    return log[:middle] + bytes(FEW_BYTES) + log[middle + FEW_BYTES :]


DAMAGE: Mapping[str, Callable[[bytes, str], bytes]] = {
    "truncated": truncate,
    "corrupted": corrupt,
    "garbled": garble,
}


@dataclass(frozen=True, slots=True)
class DamagedLog(Fault):
    """The newest log of a store that is dead was damaged, as its next start will find it.

    ``newest`` says which of the files in ``folder`` that is. With ``mend``, the store's own tool of repair,
    the undo is an operator's: start it, see it refuse, and run the tool, whose exit code is returned.
    """

    target: Node = field(kw_only=True)
    folder: str = field(kw_only=True)
    newest: Callable[[Mapping[str, bytes]], str] = field(kw_only=True)
    damage: Callable[[bytes], bytes] = field(kw_only=True)
    answers: Callable[[], bool] = field(kw_only=True)
    mend: Callable[[], int] | None = field(default=None, kw_only=True)
    _was: list[tuple[str, bytes, bytes]] = field(default_factory=list, kw_only=True)

    @property
    def name(self) -> str:
        return "damaged-log"

    @property
    def lasting(self) -> bool:
        return self.mend is None

    def inject(self) -> None:
        files = self.target.files(self.folder)
        name = self.newest(files)
        harmed = self.damage(files[name])
        self.target.put(self.folder, name, harmed)
        self._was.append((name, files[name], harmed))

    def proof(self) -> str | None:
        if not self._was or self.target.state().running:
            return None
        name, whole, harmed = self._was[-1]
        if self.target.files(self.folder)[name] != harmed or harmed == whole:
            return None
        zeroes = sum(a != b for a, b in zip(whole, harmed, strict=False))
        return f"{name} had {len(whole)} bytes and has {len(harmed)}; read back, {zeroes} of them differ"

    def revert(self) -> None:
        if self.mend:
            start_again(self.target)

    def reverted(self) -> str | None:
        if not self.mend:
            return LASTING
        if self.answers():
            return "it was started again, and answers: it had nothing against the file"
        state = self.target.state()
        if state.running or state.exit_code != REFUSED or self.mend():
            return None
        name, _, harmed = self._was[-1]
        now = len(self.target.files(self.folder)[name])
        return f"it refused to start (exit code {REFUSED}); {name} was cut from {len(harmed)} to {now} bytes"
