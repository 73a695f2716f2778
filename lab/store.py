"""Results on disk: one JSON line per trial in ``trials.jsonl``, and the history that it came from.

    results/trials.jsonl                       appended, never rewritten: runs merge by concatenation
    results/history/<run>/<number>-<cell>.jsonl
        first line   the cell, what was expected, and the verdict of the day
        then         one event a line, in order of time
        last line    the backlog

A history is written before its result line, so a result always has its history.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.errors import NoSpace, UsageError
from lab.history import Backlog, Event, in_order, parse_event
from lab.judge import Expectation, Judgement, Status, count_outcomes, judge, verdict_on

FORMAT = 2  # since 2 a backlog has its dead letters; 1 is read as having none
TRIALS = "trials.jsonl"
LONGEST_NAME = 200  # file systems stop at 255


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial, judged. Everything a report needs; nothing of the engine."""

    run: str
    number: int
    cell: str
    scenario: str
    profile: str
    params: Mapping[str, str]
    settings: Mapping[str, Any]
    attempt: int
    status: Status
    expectation: Expectation
    judgement: Judgement
    tuned: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    seconds: float
    history: str

    def to_json(self) -> str:
        """The result as one line, without the newline."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))


class Store:
    """The results folder. Threads and other labs may write to it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def history_path(self, run: str, number: int, cell: str) -> str:
        """Where the history of a trial lies, relative to the folder."""
        name = re.sub(r"[^A-Za-z0-9.+=-]+", "_", cell).strip("_")
        return f"history/{run}/{number:04}-{name[:LONGEST_NAME]}.jsonl"

    def prepare(self) -> None:
        """Make sure that results can be written, before anything is started."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / TRIALS).open("ab"):
                pass
        except OSError as error:
            raise UsageError(f"results cannot be written: {error}", "choose another --results") from error

    def save(
        self, result: TrialResult, history: Iterable[Event], backlog: Backlog, errors: Mapping[str, str]
    ) -> None:
        """Write the history, then append the result line. Raises :class:`NoSpace`, losing nothing.

        ``errors``, what each node wrote to standard error, is kept beside the history of a trial that
        was not as expected.
        """
        events = in_order(history)
        header = {
            "format": FORMAT,
            "events": len(events),
            "cell": result.cell,
            "expectation": asdict(result.expectation),
            "status": result.status,
            "counts": result.judgement.counts(),
        }
        lines = [json.dumps(header), *(event.to_json() for event in events)]
        lines.append(json.dumps({"backlog": asdict(backlog)}))
        path = self.folder / result.history
        try:
            _write(path, "\n".join(lines) + "\n")
            append_line(self.folder / TRIALS, result.to_json())
            if result.status is not Status.EXPECTED:
                _write(path.with_suffix(".log"), "\n".join(f"==== {n}\n{t}" for n, t in errors.items() if t))
        except OSError as error:
            raise NoSpace(
                f"the result could not be stored: {error}", "free disk space; nothing stored is lost"
            ) from error


def append_line(path: Path, line: str) -> None:
    """One line, whole or not at all; a line that a killed run left unfinished is closed first.

    The lock keeps the lines of two threads, or of two labs, apart.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = os.lseek(file, 0, os.SEEK_END)
        torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"
        data = (b"\n" if torn else b"") + line.encode() + b"\n"
        try:
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise
    finally:
        os.close(file)


def _write(path: Path, text: str) -> None:
    """A file that is whole and on disk under its name, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status and the outcomes counted, as they stand in a history's first line."""

    status: str
    counts: Mapping[str, Mapping[str, int]]

    def words(self) -> str:
        """For people."""
        return f"{self.status}  {counted(self.counts)}"


@dataclass(frozen=True, slots=True)
class Rejudged:
    """A stored history judged again, next to the verdict of its day."""

    cell: str
    then: Verdict
    now: Verdict

    @property
    def same(self) -> bool:
        """Whether the verdict of the day stands."""
        return self.then == self.now


@dataclass(frozen=True, slots=True)
class Stored:
    """A history on disk, and the verdict of a results file that names it."""

    path: Path
    verdict: Verdict | None = None


def rejudge(stored: Stored) -> Rejudged:
    """Judge a stored history again. Raises :class:`UsageError` for a file that is not whole.

    The verdict of the day is that of the results file where one names the history, else that of the
    history's own first line.
    """
    whole = read_history(stored.path)
    again = judge(whole.events, whole.backlog)
    now = Verdict(verdict_on(again, whole.expectation).value, again.counts())
    return Rejudged(whole.cell, stored.verdict or whole.verdict, now)


def stored_in(path: Path) -> tuple[list[Stored], list[UsageError]]:
    """What a file names: itself, when it is a history; every line, when it is a file of results.

    A damaged line is an error of its own, and hides none of the others.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "name a trials.jsonl, or a history") from error
    if not any('"history":' in line for line in lines):
        return [Stored(path)], []
    found: list[Stored] = []
    damaged: list[UsageError] = []
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            tasks = raw["judgement"]["tasks"]
            counts = count_outcomes((task["label"], task["outcome"]) for task in tasks)
            found.append(Stored(path.parent / raw["history"], Verdict(raw["status"], counts)))
        except (ValueError, KeyError, TypeError) as error:
            wrong = f"line {number} of {path} is damaged ({type(error).__name__})"
            damaged.append(
                UsageError(wrong, "a run was killed while it wrote it, or it was edited: delete it")
            )
    return found, damaged


def counted(counts: Mapping[str, Mapping[str, int]]) -> str:
    """``target: lost; others: 4 redelivered, 1 once``."""
    parts = []
    for label, outcomes in sorted(counts.items(), key=lambda item: item[0] != "target"):
        several = len(outcomes) > 1 or max(outcomes.values(), default=0) > 1
        words = ", ".join(f"{n} {name}" if several else name for name, n in outcomes.items())
        parts.append(f"{label}: {words}")
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class HistoryFile:
    """What a history file holds."""

    cell: str
    expectation: Expectation
    verdict: Verdict
    events: list[Event]
    backlog: Backlog


def read_history(path: Path) -> HistoryFile:
    """Read a history. Raises :class:`UsageError` for one that is cut off, edited, foreign or newer."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "name a trials.jsonl, or a history") from error
    try:
        header, last = json.loads(lines[0]), json.loads(lines[-1])
        newer = header["format"] > FORMAT
        expected = header["expectation"]
        held = last["backlog"]
        whole = HistoryFile(
            cell=header["cell"],
            expectation=Expectation(
                expected["outcomes"],
                expected["because"],
                expected["source"],
                {label: tuple(kinds) for label, kinds in expected.get("luck", {}).items()},
                expected.get("facts", {}),
                tuple(expected.get("stalled", ())),
            ),
            verdict=Verdict(header["status"], header["counts"]),
            events=[parse_event(line) for line in lines[1:-1]],
            backlog=Backlog(
                ready=tuple(held["ready"]),
                unacked=tuple(held["unacked"]),
                readable=bool(held["readable"]),
                dead=tuple(held.get("dead", ())),
            ),
        )
        missing = header["events"] - len(whole.events)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        wrong = f"{path} is not a whole history ({type(error).__name__})"
        raise UsageError(wrong, "it was cut off or is another file: run the cell again") from error
    if newer:
        raise UsageError(f"{path} was written by a newer lab", f"this one reads format {FORMAT}")
    if missing:
        raise UsageError(f"{path} lacks {missing} of its events", "it was edited: run the cell again")
    return whole
