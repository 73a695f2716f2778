"""One word for each cell, its symbol and its colours: never a colour alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lab.judge import Judgement, Outcome, Status


class Word(StrEnum):
    """What became of a cell, best first. The worst task of the worst trial decides."""

    SAFE = "safe"
    REDELIVERED = "redelivered"
    REFUSED = "refused"
    DUPLICATED = "duplicated"
    PHANTOM = "phantom"
    FAILED = "failed"
    STRANDED = "stranded"
    LOST = "lost"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"
    UNSUPPORTED = "unsupported"

    @property
    def severity(self) -> int:
        """The higher the worse; only words that the evidence decided compare."""
        return _ORDER.index(self)

    @property
    def decided(self) -> bool:
        """Whether it says what became of tasks."""
        return self.severity <= Word.LOST.severity

    @property
    def look(self) -> Look:
        """Its symbol, colours and meaning."""
        return LOOKS[self]

    @property
    def slug(self) -> str:
        """For a class of the style sheet."""
        return self.value.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Look:
    """How a word is shown. Colours are ``#rrggbb``; text on background has a contrast of 4.5 or more."""

    symbol: str
    text: str
    background: str
    meaning: str


LOOKS = {
    Word.SAFE: Look("✓", "#14532d", "#e7f5ec", "every task was published, started and finished once"),
    Word.REDELIVERED: Look("↻", "#0c4a6e", "#e3f1fa", "delivered more than once, finished once"),
    Word.REFUSED: Look("⊘", "#3f3f46", "#ececf1", "the publisher was told that it failed, and it never ran"),
    Word.DUPLICATED: Look("②", "#5b21b6", "#f0eafc", "finished more than once"),
    Word.PHANTOM: Look("◌", "#86198f", "#fbe9fb", "the publisher was told that it failed, and it ran"),
    Word.FAILED: Look("!", "#9a3412", "#fdeee2", "ran to an error or a limit, and the result says so"),
    Word.STRANDED: Look("◔", "#7a4408", "#fdf3d0", "held by the broker, and not coming by itself in time"),
    Word.LOST: Look("✕", "#ffffff", "#b42318", "published, never finished, and nothing holds it"),
    Word.INCONCLUSIVE: Look("?", "#44403c", "#f5f5f4", "the evidence does not decide: never a pass"),
    Word.NOT_RUN: Look("·", "#5f6672", "#ffffff", "these results have no trial of it"),
    Word.UNSUPPORTED: Look("—", "#5f6672", "#ffffff", "this combination cannot be"),
}
_ORDER = list(Word)
#: The page itself: text, secondary text, the one accent, what is wrong; what they stand on, thin lines.
INK, MUTED, ACCENT, ALARM = "#1c1f24", "#5a616c", "#1f4f8f", "#a61b12"
PAPER, SHADE, LINE = "#ffffff", "#f6f7f9", "#e1e4e9"

_OUTCOMES = {
    Outcome.ONCE: Word.SAFE,
    Outcome.UNKNOWN: Word.INCONCLUSIVE,
}


def word_of(outcome: str) -> Word:
    """The word for the outcome of one task: *once* is safe, *unknown* is inconclusive."""
    found = Outcome(outcome)
    return _OUTCOMES.get(found) or Word(found.value)


def trial_word(status: Status, judgement: Judgement) -> Word:
    """The worst task of a trial; what is in doubt is inconclusive, whatever its tasks seem."""
    if status is Status.INCONCLUSIVE:
        return Word.INCONCLUSIVE
    return worst(word_of(task.outcome) for task in judgement.tasks)


def worst(words: Iterable[Word]) -> Word:
    """The worst word that the evidence decided; inconclusive where it decided none."""
    decided = [word for word in words if word.decided]
    return max(decided, key=lambda word: word.severity, default=Word.INCONCLUSIVE)
