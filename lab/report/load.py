"""Result files in, results out. A damaged line is counted and named, and hides none of the others."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lab.errors import UsageError
from lab.evidence import Evidence, Told
from lab.judge import Expectation, Judgement, Outcome, Status, Surprise, TaskVerdict, WorkerVerdict
from lab.store import FORMAT, TRIALS, TrialResult

RUNS = "runs.jsonl"  # what grids were begun, beside the results
TUNED = ("setting", "value", "default", "meaning")
REMEDY = "name a results folder or its trials.jsonl; lab run writes one"


class Newer(ValueError):
    """A line that a newer lab wrote."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Results with the paths of their histories, and what could not be read: file, line, why."""

    results: tuple[TrialResult, ...]
    damaged: tuple[UsageError, ...] = ()


@dataclass(slots=True)
class _Lines:
    results: dict[tuple[str, int, str, int], TrialResult] = field(default_factory=dict)
    damaged: list[UsageError] = field(default_factory=list)


def load(paths: Iterable[Path], runs: Collection[str] = ()) -> Loaded:
    """Read results files, or folders that hold one. A trial that stands in two of them counts once.

    Of all runs, or of these. Raises :class:`UsageError` for a file that cannot be read, for one in which
    no line is a result, and for a run that is in none of them.
    """
    lines = _Lines()
    for path in paths:
        _read(path / TRIALS if path.is_dir() else path, lines)
    found = tuple(result for result in lines.results.values() if not runs or result.run in runs)
    for run in runs:
        if all(result.run != run for result in found):
            latest = list(dict.fromkeys(result.run for result in reversed(lines.results.values())))
            raise UsageError(f"there is no run {run!r}", f"the latest runs: {', '.join(latest[:5])}")
    return Loaded(found, tuple(lines.damaged))


def load_run(name: str, results: Path) -> Loaded:
    """A results file, a folder that holds one, or the id of a run within ``results``.

    Raises :class:`UsageError` where there is none, or nothing in it.
    """
    if Path(name).exists():
        return load([Path(name)])
    if not results.exists():
        raise UsageError(f"there is no file, no folder and no run {name!r}", REMEDY)
    return load([results], [name])


def grids(paths: Iterable[Path]) -> tuple[frozenset[str], dict[str, str]]:
    """The cells of the last grid that was begun beside each of these results, and why others cannot be.

    Nothing where no grid was run, or where its record is not one of this lab: the results still count.
    """
    planned: set[str] = set()
    reasons: dict[str, str] = {}
    for path in paths:
        lines = list(_grid_lines((path if path.is_dir() else path.parent) / RUNS))
        for line in (line for line in lines if line["grid"] == lines[-1]["grid"]):
            planned.update(line["cells"])
            reasons.update(line["not_run"])
    return frozenset(planned), reasons


def _grid_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            raw = json.loads(line)
            cells, not_run = [_text(cell) for cell in raw["cells"]], dict(raw["not_run"])
            yield {
                "grid": _text(raw["grid"]),
                "cells": cells,
                "not_run": {_text(k): str(v) for k, v in not_run.items()},
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _read(path: Path, lines: _Lines) -> None:
    try:
        raw = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", REMEDY) from error
    filled = [(number, line) for number, line in enumerate(raw, start=1) if line.strip()]
    if not filled:
        raise UsageError(f"{path} is empty: there is nothing to report", "run some cells first")
    damaged = []
    for number, line in filled:
        try:
            result = parse_result(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            damaged.append(
                UsageError(f"line {number} of {path} is left out: {_why(error)}", _what_to_do(error))
            )
            continue
        key = (result.run, result.number, result.cell, result.attempt)
        lines.results[key] = replace(result, history=str(path.parent / result.history))
    if len(damaged) == len(filled):
        count = f"none of its {len(filled)} lines is a result"
        raise UsageError(f"{path} is no results file: {count} ({_why_of(damaged[0])})", damaged[0].remedy)
    lines.damaged += damaged


def _why(error: Exception) -> str:
    if isinstance(error, Newer):
        return str(error)
    return f"it is damaged ({type(error).__name__})"


def _why_of(error: UsageError) -> str:
    return error.wrong.rpartition(": ")[2]


def _what_to_do(error: Exception) -> str:
    if isinstance(error, Newer):
        return "update this lab"
    return "a run was killed while it wrote it, or it is another file: the other lines stand"


def parse_result(line: str | bytes) -> TrialResult:
    """The reverse of :meth:`lab.store.TrialResult.to_json`.

    Raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` for what no lab wrote, and
    :class:`Newer` for what a newer one did.
    """
    raw = json.loads(line)
    if raw["format"] > FORMAT:
        raise Newer(f"a newer lab wrote it in format {int(raw['format'])}, this one reads {FORMAT}")
    return TrialResult(
        run=_text(raw["run"]),
        number=int(raw["number"]),
        cell=_text(raw["cell"]),
        scenario=_text(raw["scenario"]),
        profile=_text(raw["profile"]),
        params={_text(axis): _text(token) for axis, token in raw["params"].items()},
        settings=dict(raw["settings"]),
        attempt=int(raw["attempt"]),
        status=Status(raw["status"]),
        expectation=_expectation(raw["expectation"]),
        judgement=_judgement(raw["judgement"]),
        tuned=tuple({key: entry[key] for key in TUNED} for entry in raw["tuned"]),
        provenance={_text(k): v for k, v in raw["provenance"].items()},
        seconds=float(raw["seconds"]),
        history=_text(raw["history"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _expectation(raw: Mapping[str, Any]) -> Expectation:
    surprise = raw.get("surprise")
    return Expectation(
        outcomes=_counts(raw["outcomes"]),
        because=_text(raw["because"]),
        source=_text(raw["source"]),
        luck={_text(label): tuple(map(_text, kinds)) for label, kinds in raw.get("luck", {}).items()},
        facts=dict(raw.get("facts", {})),
        stalled=tuple(map(_text, raw.get("stalled", ()))),
        surprise=Surprise(*(_text(surprise[f.name]) for f in fields(Surprise))) if surprise else None,
    )


def _counts(raw: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {_text(label): {_text(o): int(n) for o, n in counts.items()} for label, counts in raw.items()}


def _judgement(raw: Mapping[str, Any]) -> Judgement:
    recovery = raw["recovery"]
    return Judgement(
        tasks=tuple(_task(task) for task in raw["tasks"]),
        workers=tuple(_worker(worker) for worker in raw["workers"]),
        doubts=tuple(map(_text, raw["doubts"])),
        recovery=None if recovery is None else float(recovery),
        facts=dict(raw.get("facts", {})),
    )


def _task(raw: Mapping[str, Any]) -> TaskVerdict:
    known = {f.name for f in fields(Evidence)}
    evidence = {name: value for name, value in raw["evidence"].items() if name in known}
    evidence["told"] = Told(evidence.get("told", Told.NOTHING))
    return TaskVerdict(_text(raw["task"]), _text(raw["label"]), Outcome(raw["outcome"]), Evidence(**evidence))


def _worker(raw: Mapping[str, Any]) -> WorkerVerdict:
    after = raw["after"]
    return WorkerVerdict(
        node=_text(raw["node"]),
        asked=bool(raw["asked"]),
        after=None if after is None else float(after),
        concurrency=int(raw["concurrency"]),
        wanted=int(raw["wanted"]),
        state=str(raw.get("state", "")),
    )
