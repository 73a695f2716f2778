"""``lab report`` and ``lab diff``: stored results, shown so that people can look; and two runs compared."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click
from rich.markup import escape

from lab import errors
from lab.brokers.profile import Profile
from lab.catalogue import load_scenarios
from lab.cli.root import RESULTS, main, message, out
from lab.errors import NoSpace, UsageError
from lab.report import github
from lab.report.cells import Cell, Known
from lab.report.data import Report, build
from lab.report.diff import Difference, Kind, diff
from lab.report.junit import as_junit
from lab.report.load import Loaded, grids, load, load_run
from lab.report.page import render
from lab.report.texts import as_csv, as_json, as_markdown

PAGE = "index.html"
FORMATS: Mapping[str, Callable[[Report], str]] = {
    "report.md": as_markdown,
    "report.json": as_json,
    "report.csv": as_csv,
    "junit.xml": as_junit,
}
STYLES = {Kind.WORSE: "bold red", Kind.BETTER: "green", Kind.CHANCE: "yellow"}


@main.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--run", "runs", multiple=True, help="Only this run.  [default: of each cell its newest run]")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), default=Path("report"), help="Where the files go."
)
def report(results: Sequence[Path], folder: Path, runs: Sequence[str]) -> None:
    """Show results as HTML, Markdown, JSON, CSV and JUnit.

    RESULTS are results folders or files; by default the lab's own.
    """
    paths = list(results) or [RESULTS]
    loaded = load(paths, runs)
    found = build(loaded.results, _known(loaded, paths), [error.wrong for error in loaded.damaged])
    page = folder / PAGE
    _write({page: render(found, page), **{folder / name: make(found) for name, make in FORMATS.items()}})
    _tell_github(found)
    out.print(f"{len(found.cells)} cells in {escape(str(page))}; beside it {', '.join(FORMATS)}")
    _tell_damage(loaded)
    sys.exit(errors.USAGE if loaded.damaged else errors.OK)


@main.command(name="diff")
@click.argument("run_a")
@click.argument("run_b")
@click.option(
    "--results", type=click.Path(path_type=Path), default=RESULTS, help="Where runs are looked for by id."
)
def diff_command(run_a: str, run_b: str, results: Path) -> None:
    """Which cells changed from RUN_A to RUN_B; exits 1 when something got worse.

    Each is a results folder, a results file, or the id of a run. Cells are matched also across versions
    of Celery and of the broker.
    """
    before, after = (load_run(name, results) for name in (run_a, run_b))
    found = diff(build(before.results), build(after.results))
    for difference in found:
        if difference.kind is not Kind.SAME:
            out.print(_line(difference), soft_wrap=True)
    count = Counter(difference.kind for difference in found)
    out.print(", ".join(f"{count[kind]} {kind.value}" for kind in Kind if count[kind]) or "no cells")
    for loaded in (before, after):
        _tell_damage(loaded)
    sys.exit(errors.SURPRISE if count[Kind.WORSE] else errors.OK)


def _line(difference: Difference) -> str:
    style = STYLES.get(difference.kind, "dim")
    before, after = _in_words(difference.before), _in_words(difference.after)
    return f"[{style}]{difference.kind.value:<8}[/]  {escape(difference.cell)}  {before} -> {after}"


def _in_words(cell: Cell | None) -> str:
    if cell is None or cell.status is None:
        return "not run"
    return escape(f"{cell.word.value} {cell.k}/{cell.n}, {cell.status.value}")


def _known(loaded: Loaded, paths: Iterable[Path]) -> Known:
    """What the catalogue and the record of grids say of these results."""
    planned, reasons = grids(paths)
    profiles: dict[str, list[str]] = {}
    for result in loaded.results:
        profiles.setdefault(result.scenario, [])
        if result.profile not in profiles[result.scenario] and _is_profile(result.profile):
            profiles[result.scenario].append(result.profile)
    scenarios = {name: found for name, found in load_scenarios().items() if name in profiles}
    for name, scenario in scenarios.items():
        for cell in scenario.cells(profiles[name]):
            if reason := scenario.impossible(cell):
                reasons[cell.id] = reason
    return Known(
        asks={name: scenario.asks for name, scenario in scenarios.items()},
        order={name: {a.name: list(a.choices) for a in found.axes} for name, found in scenarios.items()},
        reasons=reasons,
        planned=planned,
    )


def _is_profile(label: str) -> bool:
    """Whether this lab knows the profile; results may come from another."""
    try:
        Profile.load(label)
    except UsageError:
        return False
    return True


def _write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", "choose another --out") from error
        except OSError as error:
            raise NoSpace(f"{path} could not be written: {error.strerror}", "free disk space") from error


def _tell_github(found: Report) -> None:
    """Annotations and a summary, where GitHub Actions runs this."""
    if not os.environ.get("GITHUB_ACTIONS"):
        return
    for line in github.notes(found):
        click.echo(line)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        file = Path(path)
        room = github.SUMMARY_BYTES - (file.stat().st_size if file.exists() else 0)
        with file.open("a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(github.summary(found, room))


def _tell_damage(loaded: Loaded) -> None:
    """The first lines that were left out, and how many there are."""
    for error in loaded.damaged[:3]:
        message(error)
    if left := len(loaded.damaged[3:]):
        message(UsageError(f"{left} more lines are left out", "the report names them all"))
