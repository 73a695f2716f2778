"""One cell of the matrix: its trials, its word, how often it came, and how to run it again. Pure."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from lab.judge import Status, Surprise, WorkerVerdict
from lab.report.chance import wilson
from lab.report.words import Word, trial_word, worst
from lab.store import TrialResult, counted


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the results: questions, the order of axes and tokens.

    ``planned`` are the ids of all cells of the grids that were run; ``reasons`` say of one of these why the
    machine could not run it, of any other why it cannot be at all.
    """

    asks: Mapping[str, str] = field(default_factory=dict)
    order: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    planned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix with all its trials, of its newest run. No trials: not run, or unsupported."""

    id: str
    scenario: str
    profile: str
    params: Mapping[str, str]
    variant: str  # settings and the Celery that no axis names: "result_backend=... celery=5.6.3"
    anchor: str
    trials: tuple[TrialResult, ...] = ()
    repeated: int = 0  # inconclusive attempts that were tried again
    reason: str = ""
    possible: bool = False  # without a trial: it was planned all the same

    @cached_property
    def word(self) -> Word:
        """The worst that the evidence decided."""
        if self.trials:
            return worst(trial_word(t.status, t.judgement) for t in self.trials)
        return Word.UNSUPPORTED if self.reason and not self.possible else Word.NOT_RUN

    @cached_property
    def words(self) -> Counter[Word]:
        """How many trials ended with each word."""
        return Counter(trial_word(t.status, t.judgement) for t in self.trials)

    @cached_property
    def conclusive(self) -> int:
        """Trials that the evidence decided."""
        return sum(n for word, n in self.words.items() if word.decided)

    @property
    def k(self) -> int:
        """Trials that ended with the cell's word."""
        return self.words[self.word]

    @property
    def n(self) -> int:
        """Trials that count: those that were decided, or all where none was."""
        return self.conclusive or len(self.trials)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of k of n."""
        return wilson(self.k, self.n)

    @cached_property
    def status(self) -> Status | None:
        """The worst trial next to what was expected: a surprise, then doubt."""
        seen = {trial.status for trial in self.trials}
        order = (Status.SURPRISE, Status.INCONCLUSIVE, Status.EXPECTED)
        return next((status for status in order if status in seen), None)

    @property
    def surprising(self) -> bool:
        """Whether a trial was not as expected."""
        return self.status is Status.SURPRISE

    @property
    def documented(self) -> Surprise | None:
        """Where what is expected, and observed, differs from what is documented."""
        return self.first.expectation.surprise if self.trials else None

    @property
    def first(self) -> TrialResult:
        """The trial to look at: the first that is not as expected, else the first with the cell's word."""
        own = [t for t in self.trials if trial_word(t.status, t.judgement) is self.word]
        odd = [t for t in self.trials if t.status is Status.SURPRISE]
        return (odd or own or list(self.trials))[0]

    @property
    def outcomes(self) -> str:
        """The tasks of the first trial, counted by label."""
        return counted(self.first.judgement.counts())

    @property
    def expected(self) -> str:
        """What the scenario expects, in the same words."""
        luck = self.first.expectation.luck
        words = counted(self.first.expectation.outcomes)
        by_luck = "; ".join(f"{label}: {' or '.join(kinds)}, by luck" for label, kinds in luck.items())
        return f"{words} ({by_luck})" if by_luck else words

    @property
    def stalled(self) -> tuple[WorkerVerdict, ...]:
        """Workers of the first trial that lived and took no work again."""
        return tuple(worker for worker in self.first.judgement.workers if not worker.resumed)

    @property
    def recoveries(self) -> list[float]:
        """Seconds from the proof of the fault to the last finish, for each trial that has both."""
        return [t.judgement.recovery for t in self.trials if t.judgement.recovery is not None]

    @property
    def recovery(self) -> float | None:
        """Their median."""
        return median(self.recoveries) if self.recoveries else None

    @property
    def command(self) -> str:
        """The one command that runs this cell again, as often."""
        words = [".venv/bin/lab", "run", self.scenario, "--broker", self.profile]
        for axis, token in self.params.items():
            words += ["--only", f"{axis}={token}"]
        for assignment in _assignments(self.variant):
            name, equals, value = assignment.partition("=")
            if equals:
                words += ["--celery", value] if name == "celery" else ["--set", assignment]
        if len(self.trials) > 1:
            words += ["--trials", str(len(self.trials))]
        return shlex.join(words)


def variant_of(result: TrialResult) -> str:
    """What a cell's id says behind its tokens (see ``lab/cell.py``); all of it, where it names them not."""
    known = id_of(result.scenario, result.profile, result.params.values(), "")
    if not result.cell.startswith(known[:-1]):
        return result.cell
    return " ".join(_split(result.cell[len(known) - 1 : -1].removeprefix("-")))


def _split(text: str) -> list[str]:
    return re.split(r"-(?=[a-z_.]+=)", text)


def _assignments(variant: str) -> list[str]:
    return re.split(r" (?=[a-z_.]+=)", variant) if variant else []


def id_of(scenario: str, profile: str, tokens: Iterable[str], variant: str) -> str:
    return f"{scenario}[{'-'.join([profile, *tokens, *_assignments(variant)])}]"


def anchors(names: Iterable[str]) -> dict[str, str]:
    """Ids for links, each once, of letters that need no escape."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        anchor = slug = re.sub(r"[^A-Za-z0-9.+=@_-]+", ".", name).strip(".") or "cell"
        number = 1
        while anchor in taken:
            number += 1
            anchor = f"{slug}.{number}"
        taken.add(anchor)
        found[name] = anchor
    return found
