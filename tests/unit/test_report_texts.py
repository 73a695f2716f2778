"""Markdown, JSON, CSV, JUnit and GitHub: each says the same, and shows hostile text as text."""

from __future__ import annotations

import csv
import io
import json
import re
from xml.etree import ElementTree as ET

import pytest

from lab.judge import Expectation
from lab.report import github
from lab.report.cells import Known
from lab.report.data import build
from lab.report.junit import as_junit
from lab.report.texts import COLUMNS, as_csv, as_json, as_markdown, text

from .trials import DOCUMENTED, trial

HOSTILE = "<script>alert(1)</script>|`*_[x](javascript:1)\n# @all \x07\x1b[31m"


def mixed():
    told = Expectation({"target": {"once": 1}}, surprise=DOCUMENTED)
    return build(
        [
            trial("lost", acknowledgement="early", phase="a"),
            trial("lost", expect="once", acknowledgement="early", phase="b"),
            trial("lost", "lab defect what=torn", acknowledgement="late", phase="a"),
            trial(acknowledgement="late+reject", phase="b", expectation=told),
        ],
        Known(reasons={"story[redis-none-late+reject-a]": "it cannot"}),
    )


def hostile():
    expectation = Expectation({"target": {"once": 1}}, HOSTILE, HOSTILE, surprise=DOCUMENTED)
    name = f"story{HOSTILE}"
    return build(
        [trial("lost", scenario=name, expectation=expectation, params={"axis": HOSTILE}, profile=HOSTILE)],
        Known(asks={name: HOSTILE}),
        [HOSTILE],
    )


# --- JUnit --------------------------------------------------------------------------------------


def cases(report):
    root = ET.fromstring(as_junit(report))
    return root, {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}


def test_a_surprise_fails_doubt_is_an_error_and_what_was_not_run_is_skipped():
    root, found = cases(mixed())
    assert found == {
        "story[redis-none-early-a]": ["system-out"],
        "story[redis-none-early-b]": ["failure", "system-out"],
        "story[redis-none-late-a]": ["error", "system-out"],
        "story[redis-none-late-b]": ["skipped"],
        "story[redis-none-late+reject-a]": ["skipped"],
        "story[redis-none-late+reject-b]": ["system-out"],
    }
    assert {k: v for k, v in root[0].attrib.items() if k != "time"} == {
        "name": "story", "tests": "6", "failures": "1", "errors": "1", "skipped": "2",
    }  # fmt: skip
    skipped = [case[0].get("message") for case in root.iter("testcase") if case[0].tag == "skipped"]
    assert skipped == ["not run", "unsupported: it cannot"]


def test_a_failure_says_what_was_seen_expected_why_and_how_to_run_it_again():
    root, _ = cases(mixed())
    failure = next(root.iter("failure"))
    assert failure.get("message") == "lost 1/1; seen: target: lost; expected: target: once"
    assert "it was acknowledged (celery 5.7.0 worker/request.py)" in failure.text
    assert "again: .venv/bin/lab run story --broker redis-none --only acknowledgement=early" in failure.text
    assert "doubt: torn" in next(root.iter("error")).text


def test_hostile_text_is_text_in_xml():
    root, found = cases(hostile())
    assert "<script>alert(1)</script>" in next(iter(found))
    assert root.find(".//script") is None


# --- JSON and CSV -------------------------------------------------------------------------------


def test_the_json_names_its_schema_and_has_every_cell():
    found = json.loads(as_json(mixed()))
    assert (found["schema"], found["version"]) == ("celery-failure-lab/report", 1)
    assert [(c["id"], c["outcome"], c["status"]) for c in found["cells"]] == [
        ("story[redis-none-early-a]", "lost", "as expected"),
        ("story[redis-none-early-b]", "lost", "surprise"),
        ("story[redis-none-late-a]", "inconclusive", "inconclusive"),
        ("story[redis-none-late+reject-b]", "safe", "as expected"),
    ]
    assert {gap["outcome"] for gap in found["gaps"]} == {"not run", "unsupported"}
    assert found["cells"][0]["trials"][0]["outcome"] == "lost"
    assert found["cells"][0]["interval"] == [0.2065, 1.0]


def test_the_csv_has_a_line_for_each_cell():
    rows = list(csv.DictReader(io.StringIO(as_csv(mixed()))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["outcome"], row["surprise"]) for row in rows] == [
        ("lost", "no"), ("lost", "yes"), ("inconclusive", "no"), ("safe", "no"),
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_spreadsheet_runs_no_formula_of_a_result(start):
    report = build([trial(scenario=f"{start}1+1")])
    (row,) = csv.DictReader(io.StringIO(as_csv(report)))
    assert row["scenario"] == f"'{start}1+1"


def test_hostile_text_survives_json_and_csv():
    assert json.loads(as_json(hostile()))["cells"][0]["profile"] == HOSTILE
    assert next(csv.DictReader(io.StringIO(as_csv(hostile()))))["profile"] == HOSTILE


# --- Markdown -----------------------------------------------------------------------------------


def test_the_markdown_has_the_answers_the_surprises_and_the_matrix():
    found = as_markdown(mixed())
    assert "4 cells of 1 scenarios on 1 broker profiles: 1 not as expected, 1 inconclusive" in found
    assert "| redis-none | early | ✕ lost 1/1 | ✕ lost 1/1 ▲ |" in found
    assert "| redis-none | late+reject | unsupported | ✓ safe 1/1 ◆ |" in found
    assert "documented: it says so Observed: it does not (the page)" in found
    assert "tuned in 4 cells: <code>broker\\_heartbeat=2</code>; in production 120 s" in found


def test_hostile_text_is_text_in_markdown():
    found = as_markdown(hostile())
    assert "<script>" not in found
    assert not re.search(r"(?<!\\)\]\(", found)
    assert "@all" not in found
    assert not [line for line in found.splitlines() if line.startswith("# @")]


def test_a_table_stays_a_table():
    assert text("a|b\nc") == "a\\|b c"


# --- GitHub -------------------------------------------------------------------------------------


def many(count, **about):
    return build([trial("lost", phase=str(n), **about) for n in range(count)])


def test_a_surprise_is_an_error_and_doubt_a_warning():
    error, warning = github.notes(mixed())
    assert error == (
        "::error title=not as expected%3A story[redis-none-early-b]::seen target: lost; "
        "expected target: once%0Aagain: .venv/bin/lab run story --broker redis-none "
        "--only acknowledgement=early --only phase=b"
    )
    assert warning.startswith("::warning title=inconclusive%3A story[redis-none-late-a]::")


@pytest.mark.parametrize(("cells", "lines"), [(10, 10), (11, 10), (300, 10)])
def test_no_more_annotations_than_are_shown(cells, lines):
    found = list(github.notes(many(cells, expect="once")))
    assert len(found) == lines
    if cells > 10:
        assert f"{cells - 9} more cells are not as expected" in found[-1]


def test_no_text_of_a_result_starts_another_command():
    for line in github.notes(hostile()):
        assert line.count("\n") == 0


def test_a_summary_stays_within_its_limit():
    report = many(40)
    whole = github.summary(report)
    assert whole == as_markdown(report)
    cut = github.summary(report, room=1000)
    assert len(cut.encode()) <= 1000
    assert cut.endswith("The whole is in the report.)\n")
