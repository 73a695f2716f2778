"""``lab report`` and ``lab diff``: files out, one clear line for bad input, exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lab.cli import main

from .trials import stored, trial


@pytest.fixture
def results(tmp_path):
    stored(tmp_path / "a", trial("once"), trial("lost", phase="x", number=1))
    return tmp_path / "a"


def lab(*words, **environment):
    variables = {"GITHUB_ACTIONS": None, "GITHUB_STEP_SUMMARY": None, **environment}
    return CliRunner().invoke(main, [str(word) for word in words], env=variables)


def test_every_file_is_written(results, tmp_path):
    done = lab("report", results, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    names = {"index.html", "report.md", "report.json", "report.csv", "junit.xml"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert "2 cells in" in done.output
    assert "::" not in done.output


def test_only_one_run_is_reported_where_it_is_named(results, tmp_path):
    stored(results, trial("lost", run="r2"))
    assert "1 cells in" in lab("report", results, "--out", tmp_path / "out", "--run", "r2").output
    done = lab("report", results, "--out", tmp_path / "out", "--run", "r9")
    assert (done.exit_code, "the latest runs: r2, r1" in done.stderr) == (2, True)


def test_a_damaged_line_is_told_and_the_rest_reported(results, tmp_path):
    with (results / "trials.jsonl").open("a") as file:
        file.write("{torn\n" * 5)
    done = lab("report", results, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.count("lab:") == 4
    assert "2 more lines are left out" in done.stderr
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (len(found["cells"]), len(found["damaged"])) == (2, 5)


@pytest.mark.parametrize("text", [None, "", "foreign\n", '{"format":9}\n'])
def test_nothing_to_report_is_one_line_and_writes_nothing(tmp_path, text):
    path = tmp_path / "trials.jsonl"
    if text is not None:
        path.write_text(text)
    done = lab("report", path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(results, tmp_path):
    (tmp_path / "file").write_text("")
    done = lab("report", results, "--out", tmp_path / "file")
    assert done.exit_code == 2
    assert "choose another --out" in done.stderr


def test_a_full_disk_is_told(results, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    done = lab("report", results, "--out", tmp_path / "out")
    assert done.exit_code == 4
    assert "free disk space" in done.stderr


def test_in_github_actions_there_are_annotations_and_a_summary(tmp_path):
    stored(tmp_path / "a", trial("lost", expect="once"))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    done = lab(
        "report", tmp_path / "a", "--out", tmp_path / "out",
        GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary),
    )  # fmt: skip
    assert "::error title=not as expected" in done.output
    assert summary.read_text().startswith("before\n# With these settings")


def test_a_scenario_and_a_profile_that_this_lab_does_not_know_are_reported(tmp_path):
    stored(
        tmp_path / "a", trial(profile="kafka-9"), trial(scenario="worker-crash", profile="kafka-9", number=1)
    )
    assert lab("report", tmp_path / "a", "--out", tmp_path / "out").exit_code == 0


def test_what_cannot_be_is_told_from_what_was_not_run(tmp_path):
    about = {"acknowledgement": "early", "prefetch": "x1", "victim": "child", "phase": "running"}
    stored(tmp_path / "a", trial(scenario="worker-crash", **about))
    assert lab("report", tmp_path / "a", "--out", tmp_path / "out").exit_code == 0
    assert "A worker dies by SIGKILL" in (tmp_path / "out" / "index.html").read_text()


# --- diff ---------------------------------------------------------------------------------------


def test_nothing_changed(results):
    done = lab("diff", results, results)
    assert (done.exit_code, done.output) == (0, "2 the same\n")


def test_something_got_worse(results, tmp_path):
    stored(tmp_path / "b", trial("lost"), trial("once", phase="x", number=1))
    done = lab("diff", results, tmp_path / "b")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "worse     story[redis-none]  safe 1/1, as expected -> lost 1/1, as expected",
        "better    story[redis-none-x]  lost 1/1, as expected -> safe 1/1, as expected",
        "1 worse, 1 better",
    ]


def test_runs_of_one_folder_are_compared_by_id(results):
    stored(results, trial("lost", run="r2"))
    done = lab("diff", "r1", "r2", "--results", results)
    assert done.exit_code == 1
    assert "1 worse, 1 gone" in done.output


def test_a_run_that_is_not_there_is_one_line(results):
    done = lab("diff", "r1", "r9", "--results", results)
    assert done.exit_code == 2
    assert "the latest runs: r1" in done.stderr
