"""Whether a fault landed at the phase that it was meant for.

*Killed while running* holds only if the struck process started the task, and neither finished nor
failed it. The lab's own record must show the phase reached before the fault, and the proof of the
fault before any gate was opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.evidence import WHOLE_NODE
from lab.history import LAB, Event


def why_missed(history: Sequence[Event], inject: Event) -> str | None:
    """Why a fault does not count as landed at its phase, or ``None`` when it does."""
    own = sorted((e for e in history if e.node == LAB), key=lambda e: e.seq)
    about = inject.detail
    proof = next((e for e in own if e.name == "landed" and _proves(e, inject)), None)
    if proof is None:
        return f"there is no proof of {about.get('fault')} on {about.get('node')}"
    if about.get("phase") is None:
        return None
    reached = next((e for e in own if e.name == "reached" and _same_phase(e, inject)), None)
    if reached is None or reached.seq > inject.seq:
        return f"{inject.task} was not seen {about.get('phase')} before the fault"
    if any(e.name == "opened" and _same(e, inject, "node") and e.seq < proof.seq for e in own):
        return f"the gate of {about.get('node')} was opened before the fault"
    return _PHASES[str(about["phase"])](Struck.by(inject, reached, history))


def _proves(landed: Event, inject: Event) -> bool:
    same = _same(landed, inject, "fault", "node", "pid") and landed.task == inject.task
    return same and landed.seq > inject.seq


def _same_phase(reached: Event, inject: Event) -> bool:
    return reached.task == inject.task and _same(reached, inject, "node", "phase")


def _same(one: Event, other: Event, *keys: str) -> bool:
    return all(one.detail.get(key) == other.detail.get(key) for key in keys)


@dataclass(frozen=True, slots=True)
class Struck:
    """What the events say of one task on the node that was struck, and in the processes that died.

    ``early`` says that the message had to be acknowledged before the fault, not after the task.
    """

    task: str
    whole: bool
    early: bool
    node: frozenset[str]
    dead: frozenset[str]

    @classmethod
    def by(cls, inject: Event, reached: Event, history: Iterable[Event]) -> Struck:
        pid = inject.detail.get("pid", WHOLE_NODE)
        node = [e for e in history if e.task == inject.task and e.node == inject.detail.get("node")]
        return cls(
            task=str(inject.task),
            whole=pid == WHOLE_NODE,
            early=bool(reached.detail.get("acknowledged")),
            node=frozenset(e.name for e in node),
            dead=frozenset(e.name for e in node if pid in (WHOLE_NODE, e.pid)),
        )

    def acknowledgement(self) -> str | None:
        """What is wrong with the acknowledgement. A dead child's parent may send one afterwards."""
        if self.early and "acknowledged" not in self.node:
            return f"{self.task} was not yet acknowledged"
        if not self.early and self.whole and "acknowledged" in self.node:
            return f"{self.task} had already been acknowledged"
        return None


def _reserved(struck: Struck) -> str | None:
    if "received" not in struck.node:
        return f"{struck.task} never reached the worker"
    if "started" in struck.dead:
        return f"{struck.task} had already started"
    return struck.acknowledgement()


def _running(struck: Struck) -> str | None:
    if "started" not in struck.dead:
        return f"{struck.task} was not running in the process that died"
    if struck.dead & {"finished", "failed", "retried"}:
        return f"{struck.task} had already finished in the process that died"
    return struck.acknowledgement()


def _finished(struck: Struck) -> str | None:
    if "finished" not in struck.dead:
        return f"{struck.task} had not finished in the process that died"
    if "passed" in struck.dead:
        return f"{struck.task} had already gone on to its acknowledgement"
    return struck.acknowledgement()


_PHASES: Mapping[str, Callable[[Struck], str | None]] = {
    "reserved": _reserved,
    "running": _running,
    "finished": _finished,
}
