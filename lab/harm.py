"""Faults in one trial: each recorded before it is injected, proved, bounded in time, and undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Timer

from lab.errors import EngineGone, Inconclusive
from lab.evidence import KILLS
from lab.faults import Fault
from lab.handles import Moment
from lab.history import Scalar
from lab.judge import BROKER
from lab.nodes import Recorder
from lab.watch import Watch

PROOF_SECONDS = 20.0


@dataclass(slots=True)
class Harm:
    """What is broken now. ``gone`` takes the names of nodes that were proved dead."""

    watch: Watch
    record: Recorder
    gone: set[str]
    _injected: dict[int, tuple[Fault, Timer]] = field(default_factory=dict)
    _scarred: bool = False  # whether something was done to the broker that cannot be undone

    def inject(self, fault: Fault, moment: Moment | None) -> None:
        """Break something: recorded before, proved after."""
        about: dict[str, Scalar] = {"fault": fault.name, "node": fault.node, "pid": fault.pid}
        task = moment.task if moment else None
        when: dict[str, Scalar] = {"phase": moment.phase, "holder": moment.holder} if moment else {}
        self.record("inject", task, **about, **when)
        timer = Timer(fault.longest, self._expire, [fault])
        timer.daemon = True
        self._injected[id(fault)] = (fault, timer)  # before: a fault that fails half-way is undone too
        if not fault.lasting:
            timer.start()
        self._scarred |= fault.lasting and fault.node == BROKER
        fault.inject()
        self.record("landed", task, **about, proof=self._await(fault.proof, fault))
        if fault.name in KILLS and not fault.pid and fault.node != BROKER:
            self.gone.add(fault.node)

    def heal(self, fault: Fault) -> None:
        """Undo a fault, and prove it."""
        self._injected[id(fault)][1].cancel()
        self.record("heal", fault=fault.name, node=fault.node)
        fault.revert()
        self.record("healed", fault=fault.name, node=fault.node, proof=self._await(fault.reverted, fault))
        del self._injected[id(fault)]

    def revert(self) -> None:
        """Undo every fault, the last one first, and record the proof; what stays broken is a defect."""
        for fault, timer in reversed(self._injected.values()):
            timer.cancel()
            try:
                fault.revert()
                proof = fault.reverted() or self._await(fault.reverted, fault)
            except Inconclusive as error:
                self._could_not(fault, error)
            else:
                self.record("reverted", fault=fault.name, node=fault.node, proof=proof)
        self._injected.clear()

    def forget(self) -> None:
        """Undo nothing more: the nodes are about to be removed."""
        for _, timer in self._injected.values():
            timer.cancel()

    def broker_is_whole(self) -> bool:
        """Whether the broker is as it was: every fault undone, with proof, and nothing of it tuned."""
        return (
            not self._scarred
            and not self._injected
            and not any(
                event.name == "defect" or (event.name == "tuned" and event.detail.get("node") == BROKER)
                for event in self.record.events
            )
        )

    def _await(self, tells: Callable[[], str | None], fault: Fault) -> str:
        proofs: list[str] = []

        def told() -> bool:
            proofs.extend(filter(None, [tells()]))
            return bool(proofs)

        what = f"the proof of {fault.name} on {fault.node}"
        self.watch.poll(told, what, min(fault.longest, PROOF_SECONDS))
        return proofs[0]

    def _expire(self, fault: Fault) -> None:
        """Runs in the timer's thread."""
        lasted = f"{fault.name} on {fault.node} lasted over {fault.longest:g} s, and was undone"
        self.record("defect", what=lasted)
        try:
            fault.revert()
        except (Inconclusive, EngineGone) as error:
            self._could_not(fault, error)

    def _could_not(self, fault: Fault, error: Inconclusive | EngineGone) -> None:
        self.record("defect", what=f"{fault.name} on {fault.node} could not be undone: {error.wrong}")
