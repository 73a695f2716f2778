"""Runs of a grid on disk: what was begun, which trials are finished, and parts put together.

    results/runs.jsonl     one line for each run of a grid, written before its first trial

A trial belongs to its run by the run's id, and to its cell by its number in the grid: that is enough to
go on with a run that was killed, and to see what a merge lacks or has twice.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import NoSpace, UsageError
from lab.judge import Status
from lab.store import FORMAT, TRIALS, append_line

RUNS = "runs.jsonl"
ATTEMPTS = 3  # an inconclusive trial is tried again, this often in all
#: What may not differ between machines that share a grid, unless --mixed says so.
SAME_EVERYWHERE = ("worker", "engine", "python", "commit")


@dataclass(frozen=True, slots=True)
class GridRun:
    """One run of a grid, or of a shard of it. ``not_run`` are the cells that cannot be, with the reason."""

    run: str
    grid: str
    cells: Sequence[str]
    trials: int
    shard: str = "1/1"
    seed: int | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> range:
        """Of all trials of the whole grid."""
        return range(len(self.cells) * self.trials)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a results file: the text as it stands, and what it says."""

    text: str
    raw: Mapping[str, Any]

    @property
    def final(self) -> bool:
        """Whether no further attempt follows it."""
        return bool(self.raw["status"] != Status.INCONCLUSIVE or self.raw["attempt"] >= ATTEMPTS)


def begin(folder: Path, run: GridRun) -> None:
    """Record a run before its first trial."""
    try:
        append_line(folder / RUNS, json.dumps({"format": FORMAT, **asdict(run)}, separators=(",", ":")))
    except OSError as error:
        raise NoSpace(f"the run could not be recorded: {error}", "free disk space") from error


def latest(folder: Path) -> GridRun:
    """The last run of a grid in this folder. Raises :class:`UsageError` where there is none."""
    found = [raw for raw, _ in _lines(folder / RUNS)]
    if not found:
        raise UsageError(f"{folder} has no run of a grid", "start one with: lab matrix")
    raw = {key: value for key, value in found[-1].items() if key != "format"}
    try:
        return GridRun(**raw)
    except TypeError as error:
        raise UsageError(f"{folder / RUNS} is of another lab ({error})", "choose other results") from error


def finished(folder: Path, run: str) -> set[int]:
    """The numbers of the trials of this run that need not be run again."""
    return {line.raw["number"] for line in trials_of(folder, [run]) if line.final}


def statuses(folder: Path, run: str) -> set[Status]:
    """How the trials of this run ended that need not be run again."""
    return {Status(line.raw["status"]) for line in trials_of(folder, [run]) if line.final}


def trials_of(folder: Path, runs: Iterable[str]) -> Iterator[Line]:
    """The lines of these runs. A line that a killed run left half written is no trial."""
    wanted = set(runs)
    for raw, text in _lines(folder / TRIALS):
        if raw.get("run") in wanted and {"number", "status", "attempt"} <= raw.keys():
            yield Line(text, raw)


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every line that is a whole JSON object of a format that this lab reads."""
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "choose other results") from error
    for text in lines:
        try:
            raw = json.loads(text)
        except ValueError:
            continue
        if isinstance(raw, dict):
            if raw.get("format", 0) > FORMAT:
                raise UsageError(f"{path} was written by a newer lab", f"this one reads format {FORMAT}")
            yield raw, text


def merge(folders: Sequence[Path], into: Path, *, mixed: bool = False) -> int:
    """Put the shards of one grid together; how many trials there are.

    Raises :class:`UsageError` for parts of different grids, for trials that are missing or there twice,
    and, unless ``mixed``, for different versions. Nothing is written then.
    """
    runs = [latest(folder) for folder in folders]
    if len({(run.grid, run.trials) for run in runs}) > 1:
        raise UsageError("these are shards of different grids", "run them with the same options and lab")
    parts = [list(trials_of(folder, [run.run])) for folder, run in zip(folders, runs, strict=True)]
    everything = [line for part in parts for line in part]
    _complete(runs[0], everything)
    if not mixed:
        _same_versions(everything)
    if into.exists() and any(into.iterdir()):
        raise UsageError(f"{into} is not empty", "merge into a new folder")
    try:
        for folder, part in zip(folders, parts, strict=True):
            _copy(folder, part, into)
    except OSError as error:
        raise NoSpace(
            f"the merge could not be written: {error}", "free disk space; the shards are whole"
        ) from error
    for run in runs:
        begin(into, run)
    return sum(line.final for line in everything)


def _complete(run: GridRun, lines: Iterable[Line]) -> None:
    """Every trial of the grid is there once."""
    count = Counter(line.raw["number"] for line in lines if line.final)
    cells = run.cells
    missing = [cells[number % len(cells)] for number in run.numbers if not count[number]]
    doubled = [cells[number % len(cells)] for number, times in count.items() if times > 1]
    for cell_list, what in ((missing, "missing"), (doubled, "there twice")):
        if cell_list:
            first = ", ".join(cell_list[:3])
            wrong = f"{len(cell_list)} trials are {what}: {first}{' ...' if cell_list[3:] else ''}"
            raise UsageError(wrong, "give every shard once, each of them finished (lab matrix --resume)")


def _same_versions(lines: Iterable[Line]) -> None:
    seen: dict[str, set[str]] = {}
    for line in lines:
        made_by = line.raw.get("provenance", {})
        for name in SAME_EVERYWHERE:
            if made_by.get(name):
                seen.setdefault(name, set()).add(json.dumps(made_by[name], sort_keys=True))
        seen.setdefault(f"broker of {line.raw.get('profile')}", set()).add(str(made_by.get("broker")))
    mixed = sorted(name for name, versions in seen.items() if len(versions) > 1)
    if mixed:
        raise UsageError(
            f"versions differ: {', '.join(mixed)}", "run the shards alike, or merge with --mixed"
        )


def _copy(folder: Path, lines: Iterable[Line], into: Path) -> None:
    """Histories first: a result always has its history."""
    for line in lines:
        source = folder / line.raw["history"]
        target = into / line.raw["history"]
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".jsonl", ".log"):
            if source.with_suffix(suffix).exists():
                shutil.copy2(source.with_suffix(suffix), target.with_suffix(suffix))
        append_line(into / TRIALS, line.text)
