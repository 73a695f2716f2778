"""Files of any kind in: a clear line for what is wrong, and every result that is whole."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.errors import UsageError
from lab.judge import Expectation
from lab.report.data import build
from lab.report.junit import as_junit
from lab.report.load import grids, load, load_run, parse_result
from lab.report.page import render
from lab.report.texts import as_csv, as_json, as_markdown
from lab.store import TrialResult

from .trials import DOCUMENTED, stored, trial


@pytest.fixture
def results(tmp_path):
    stored(tmp_path, trial("lost"), trial("once", number=1))
    return tmp_path


def lines(folder):
    return (folder / "trials.jsonl").read_text().splitlines()


def rewrite(folder, *texts):
    (folder / "trials.jsonl").write_text("".join(f"{text}\n" for text in texts))


def test_what_was_stored_is_read_back_as_it_was():
    full = Expectation(
        {"target": {"lost": 1}},
        "because",
        "source",
        {"target": ("lost", "once")},
        {"runs": 1},
        ("w",),
        DOCUMENTED,
    )
    result = trial("lost", expectation=full, acknowledgement="early")
    assert parse_result(result.to_json()) == result


def test_a_folder_or_its_file_is_read_and_histories_are_found(results):
    for path in (results, results / "trials.jsonl"):
        loaded = load([path])
        assert [result.number for result in loaded.results] == [0, 1]
        assert loaded.damaged == ()
        assert all(result.history.startswith(str(results)) for result in loaded.results)


def test_a_trial_that_stands_twice_counts_once(results):
    rewrite(results, *lines(results), *lines(results))
    assert len(load([results, results]).results) == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ('{"format":1,"run":"r', "is damaged"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        ('{"format":1}', "is damaged"),
        ('{"format":"x"}', "is damaged"),
        ("\x00\x01", "is damaged"),
        ('{"format":9}', "a newer lab wrote it in format 9"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_a_damaged_line_is_named_and_hides_no_other(results, damage, says):
    first, second = lines(results)
    rewrite(results, first, damage, second)
    loaded = load([results])
    assert len(loaded.results) == 2
    (error,) = loaded.damaged
    assert f"line 2 of {results / 'trials.jsonl'}" in error.wrong
    assert says in error.wrong
    assert error.remedy
    assert "\n" not in str(error)


FIELDS = sorted(set(TrialResult.__dataclass_fields__) - {"history"})


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, -1.5, "x", {"a": 1}, [{"a": 1}]])
def test_a_field_of_another_kind_is_a_damaged_line_or_can_be_shown(results, field, value):
    first, second = lines(results)
    rewrite(results, json.dumps({**json.loads(first), field: value}), second)
    loaded = load([results])
    assert len(loaded.results) + len(loaded.damaged) == 2
    report = build(loaded.results)
    for show in (as_json, as_csv, as_markdown, as_junit):
        assert show(report)
    assert render(report, results / "index.html")


def test_bytes_that_are_no_text_are_a_damaged_line(results):
    with (results / "trials.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert len(load([results]).damaged) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("name,outcome\na,b\n", "is no results file: none of its 2 lines is a result"),
        ('{"format":9}\n', "a newer lab wrote it"),
    ],
)
def test_a_file_with_no_result_is_one_clear_line(tmp_path, text, says):
    (tmp_path / "trials.jsonl").write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load([tmp_path])
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_no_file_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load([tmp_path / "nothing"])


def test_a_run_is_found_by_its_id(results):
    stored(results, replace(trial(), run="r2"))
    assert [result.run for result in load_run("r2", results).results] == ["r2"]
    with pytest.raises(UsageError, match="no run 'r3'") as caught:
        load_run("r3", results)
    assert "r2, r1" in caught.value.remedy


def test_a_run_may_be_a_folder(results):
    assert len(load_run(str(results), results / "nowhere").results) == 2
    with pytest.raises(UsageError, match="no run 'r1'"):
        load_run("r1", results / "nowhere")


def test_the_last_grid_says_what_was_planned_and_what_cannot_be(results):
    def grid(name, *cells):
        return json.dumps({"grid": name, "cells": cells, "not_run": {f"no-{name}": "a reason"}})

    text = "\n".join(
        [grid("old", "a"), "{torn", '{"grid":1,"cells":[],"not_run":{}}', grid("new", "b"), grid("new", "c")]
    )
    (results / "runs.jsonl").write_text(text)
    assert grids([results]) == (frozenset("bc"), {"no-new": "a reason"})


def test_without_a_grid_nothing_was_planned(results):
    assert grids([results / "trials.jsonl"]) == (frozenset(), {})
