"""What a person sees: a table that fits, a surprise that explains itself."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lab.history import Backlog
from lab.judge import Expectation, Status, judge, verdict_on
from lab.report import terminal
from lab.store import TrialResult

from .story import killed, proved, published, ran, story

STORY = (
    *published("t"), *published("u", "others"), "lab worker-up node=v", "v received t", "v acknowledged t",
    "v/7 started t", *killed("t", "running", early="yes"), "lab worker-up node=w", *ran("u"),
    *proved(), "lab settled",
)  # fmt: skip
AS_SEEN = {"target": {"lost": 1}, "others": {"once": 1}}


def trial(outcomes=None, *more):
    judgement = judge(story(*STORY, *more), Backlog())
    expectation = Expectation(outcomes or AS_SEEN, "it was acknowledged", "request.py")
    return TrialResult(
        run="r", number=0, cell="story[redis-none-late+reject-x4-whole-reserved]", scenario="story",
        profile="redis-none", attempt=1, status=verdict_on(judgement, expectation), expectation=expectation,
        params={"acknowledgement": "late+reject", "prefetch": "x4", "victim": "whole", "phase": "reserved"},
        settings={}, judgement=judgement, tuned=(), seconds=1.0, history="history/r/0.jsonl",
        provenance={"broker": "redis 8", "worker": {"celery": "5.7.0"}, "engine": "20", "kernel": "6"},
    )  # fmt: skip


def shown(width, *results):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal.summary(console, results, 2.0)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_its_screen_and_cuts_no_word(width):
    text = shown(width, trial())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in ("late+reject", "reserved", "lost", "1 once", "1/1/0/1/-", "1 as expected"):
        assert word in text


def test_a_wide_screen_shows_what_was_expected_beside_what_was_seen():
    surprise = trial({"target": {"once": 1}, "others": {"once": 1}})
    assert "target: once; others: once" in " ".join(shown(140, surprise).split())


def test_a_surprise_names_the_task_its_outcome_the_expectation_and_why():
    text = "\n".join(line.plain for line in terminal.details(trial({"target": {"once": 1}})))
    assert "t: lost  (1 deliveries, 1 starts, 1 acks, nothing held)" in text
    assert "expected  target: once" in text
    assert "it was acknowledged (request.py)" in text
    assert "history/r/0.jsonl" in text


def test_facts_that_were_expected_are_shown_beside_those_that_were_seen():
    expectation = Expectation(AS_SEEN, facts={"runs": 2})
    surprise = replace(trial(), expectation=expectation, status=Status.SURPRISE)
    assert "    fact      runs: 1 (expected: 2)" in [line.plain for line in terminal.details(surprise)]
    assert "runs: 2" in shown(140, surprise)


def test_an_inconclusive_trial_names_its_doubts():
    doubtful = trial(None, "lab defect what=torn")
    assert doubtful.status is Status.INCONCLUSIVE
    assert "    doubt     torn" in [line.plain for line in terminal.details(doubtful)]


def test_what_is_as_expected_needs_no_details():
    assert list(terminal.details(trial())) == []


def test_attempts_that_were_repeated_are_told():
    text = shown(120, replace(trial(), attempt=3))
    assert "2 inconclusive attempts were repeated" in text
    assert "after 2 inconclusive" in terminal.line(replace(trial(), attempt=3)).plain


def test_trials_of_one_cell_are_one_row_with_k_of_n():
    surprise = replace(trial({"target": {"once": 1}}), number=1)
    assert "1/2" in shown(120, trial(), surprise)


def test_hostile_names_are_shown_as_text():
    hostile = replace(trial(), profile="[red]x[/red]")
    assert "[red]x[/red]" in shown(120, hostile)


def test_nothing_is_shown_of_no_result():
    assert shown(80) == ""
