"""Whether a fault landed at the phase that it was meant for.

*Killed while running* holds only if the struck process started the task, and neither finished nor
failed it. The lab's own record must show the phase reached before the fault, and the proof of the
fault before any gate was opened. A fault that kills nobody leaves the task behind its closed gate, so
for it that record is the whole proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.evidence import KILLS, OUT_OF_MEMORY, WHOLE_NODE, is_unsent
from lab.history import Event, History


def why_missed(history: History, inject: Event) -> str | None:
    """Why a fault does not count as landed at its phase, or ``None`` when it does."""
    own = sorted(history.own, key=lambda e: e.seq)
    about = inject.detail
    proof = next((e for e in own if e.name == "landed" and _proves(e, inject)), None)
    if proof is None:
        return f"there is no proof of {about.get('fault')} on {about.get('node')}"
    if about.get("phase") is None:
        return None
    reached = next((e for e in own if e.name == "reached" and _same_moment(e, inject)), None)
    if reached is None or reached.seq > inject.seq:
        return f"{inject.task} was not seen {about.get('phase')} before the fault"
    holder = reached.detail.get("node")
    gates = (None, about["phase"])  # those of the sentinels are of no account
    opened = (e for e in own if e.name == "opened" and e.detail.get("gate") in gates)
    # whoever is to eat the memory begins when the fault opens its gate; what it did then is told below
    shut = inject if about.get("fault") == OUT_OF_MEMORY else proof
    if any(e.detail.get("node") == holder and e.seq < shut.seq for e in opened):
        return f"the gate of {holder} was opened before the fault"
    if any(e.node == holder and e.task == inject.task for e in history.named("hold-expired")):
        return f"the gate of {holder} opened by itself"
    killed = about.get("fault") in KILLS and about.get("node") == holder
    struck = Struck.by(inject, reached, history.tasks.get(str(inject.task), ()))
    return _PHASES[str(about["phase"])](struck) if killed else None


def _proves(landed: Event, inject: Event) -> bool:
    same = _same(landed, inject, "fault", "node", "pid") and landed.task == inject.task
    return same and landed.seq > inject.seq


def _same_moment(reached: Event, inject: Event) -> bool:
    holder = inject.detail.get("holder", inject.detail.get("node"))
    return (
        reached.task == inject.task
        and reached.detail.get("node") == holder
        and _same(reached, inject, "phase")
    )


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
    others: frozenset[str]  # what other nodes had done with the task before the fault

    @classmethod
    def by(cls, inject: Event, reached: Event, about: Sequence[Event]) -> Struck:
        """``about``: what nodes say of the task."""
        pid = inject.detail.get("pid", WHOLE_NODE)
        node = [e for e in about if e.node == inject.detail.get("node")]
        return cls(
            task=str(inject.task),
            whole=pid == WHOLE_NODE,
            early=bool(reached.detail.get("acknowledged")),
            node=frozenset(e.name for e in node if not is_unsent(e)),
            dead=frozenset(e.name for e in node if pid in (WHOLE_NODE, e.pid)),
            others=frozenset(e.name for e in about if e.at < inject.at),
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


def _charging(struck: Struck) -> str | None:
    return f"{struck.task} had already gone on to charge" if "passed" in struck.dead else _running(struck)


def _finished(struck: Struck) -> str | None:
    if "finished" not in struck.dead:
        return f"{struck.task} had not finished in the process that died"
    if "passed" in struck.dead:
        return f"{struck.task} had already gone on to its acknowledgement"
    return struck.acknowledgement()


def _queued(struck: Struck) -> str | None:
    return f"{struck.task} had already left the queue" if "received" in struck.others else None


def _committed(struck: Struck) -> str | None:
    return f"{struck.task} had already been published" if "passed" in struck.dead else None


_PHASES: Mapping[str, Callable[[Struck], str | None]] = {
    "committed": _committed,
    "queued": _queued,
    "reserved": _reserved,
    "running": _running,
    "charging": _charging,
    "returned": _finished,
    "finished": _finished,
}
