"""What was stored stays stored, and can be judged again."""

from __future__ import annotations

import json
import os

import pytest

from lab.errors import NoSpace, UsageError
from lab.history import Backlog
from lab.judge import Expectation, judge, verdict_on
from lab.store import Store, Stored, TrialResult, read_history, rejudge, stored_in

from .story import killed, published, story

HISTORY = story(*published("t"), "v received t", "v/7 started t", *killed("t", "running"), "lab settled")
LOSS = Expectation({"target": {"lost": 1}}, "because", "source")


def result(store, expectation=LOSS, number=0):
    judgement = judge(HISTORY, Backlog())
    return TrialResult(
        run="r", number=number, cell="story[redis-none-early]", scenario="story", profile="redis-none",
        params={}, settings={}, attempt=1, status=verdict_on(judgement, expectation), expectation=expectation,
        judgement=judgement, tuned=(), provenance={}, seconds=1.0,
        history=store.history_path("r", number, "story[redis-none-early]"),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "results")
    found.prepare()
    return found


def stored(store, **kwargs):
    kept = result(store, **kwargs)
    store.save(kept, HISTORY, Backlog(), {"v": "last words \u2014 caf\u00e9"})
    return store.folder / kept.history


def trials(store):
    return (store.folder / "trials.jsonl").read_text().splitlines()


def test_a_history_is_the_same_after_the_way_through_a_file(store):
    whole = read_history(stored(store))
    history, backlog = whole.events, whole.backlog
    assert (sorted(history, key=lambda e: e.key), backlog) == (
        sorted(HISTORY, key=lambda e: e.key),
        Backlog(),
    )


def test_a_stored_history_judged_again_gives_the_verdict_of_its_day(store):
    again = rejudge(Stored(stored(store)))
    assert again.same
    assert again.now.words() == "as expected  target: lost"


def test_a_changed_history_gives_another_verdict_and_says_so(store):
    path = stored(store)
    path.write_text(path.read_text().replace('"name":"started"', '"name":"slept"'))
    again = rejudge(Stored(path))
    assert not again.same
    assert (again.then.status, again.now.status) == ("as expected", "inconclusive")


def test_a_history_that_lacks_a_line_is_not_judged(store):
    path = stored(store)
    lines = path.read_text().splitlines(keepends=True)
    for number in range(1, len(lines) - 1):
        path.write_text("".join(lines[:number] + lines[number + 1 :]))
        with pytest.raises(UsageError, match="lacks 1 of its events"):
            rejudge(Stored(path))


def test_a_changed_result_differs_from_its_history(store):
    stored(store)
    results = store.folder / "trials.jsonl"
    results.write_text(results.read_text().replace('"outcome":"lost"', '"outcome":"once"'))
    [named], damaged = stored_in(results)
    again = rejudge(named)
    assert damaged == []
    assert not again.same
    assert (again.then.words(), again.now.words()) == (
        "as expected  target: once",
        "as expected  target: lost",
    )


def test_results_are_appended_one_line_each(store):
    stored(store)
    stored(store, number=1)
    assert [json.loads(line)["number"] for line in trials(store)] == [0, 1]


def test_a_line_that_a_killed_run_left_torn_does_not_spoil_the_next(store):
    (store.folder / "trials.jsonl").write_text('{"format":1,"hist')
    stored(store)
    torn, whole = trials(store)
    assert torn == '{"format":1,"hist'
    assert json.loads(whole)["cell"] == "story[redis-none-early]"


def test_a_damaged_line_is_named_with_its_number_and_hides_no_other(store):
    path = stored(store)
    with (store.folder / "trials.jsonl").open("a") as file:
        file.write("{oops\n")
    [named], [damaged] = stored_in(store.folder / "trials.jsonl")
    assert named.path == path
    assert "line 2 of" in damaged.wrong


def test_results_merge_by_concatenation_under_any_name(store):
    paths = [stored(store), stored(store, number=1)]
    lines = trials(store)
    (store.folder / "merged.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    found, _ = stored_in(store.folder / "merged.jsonl")
    assert [named.path for named in found] == paths[::-1]
    assert all(rejudge(named).same for named in found)


def test_the_last_words_of_the_nodes_are_kept_only_for_what_was_not_expected(store):
    assert not stored(store).with_suffix(".log").exists()
    surprise = stored(store, expectation=Expectation({"target": {"once": 1}}), number=1)
    assert "last words" in surprise.with_suffix(".log").read_text()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "\n".join(text.splitlines()[:-1]),
        lambda text: "\n".join(text.splitlines()[1:]),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"format": 2', '"format": 3'),
        lambda text: text.replace('"expectation"', '"hopes"'),
        lambda text: text.replace('"because"', '"why"'),
        lambda text: "\0" + text,
        lambda text: '{"format": 2}\n{"backlog": 3}',
        lambda text: "[]\n[]",
    ],
)
def test_a_damaged_history_is_refused_in_one_line(store, spoil):
    path = stored(store)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UsageError) as caught:
        rejudge(Stored(path))
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        Store(tmp_path / "file" / "results").prepare()


@pytest.mark.parametrize("kept", [0, 1, 700])
def test_a_full_disk_loses_no_result_and_leaves_no_torn_line(store, monkeypatch, kept):
    stored(store)
    before = trials(store)
    write = os.write

    def full(file, data):
        if kept and len(data) > kept:
            return write(file, data[:kept])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.store.os.write", full)
    with pytest.raises(NoSpace, match="No space left"):
        stored(store, number=1)
    assert trials(store) == before


def test_a_full_disk_leaves_no_half_a_history(store, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.store.os.fsync", full)
    with pytest.raises(NoSpace, match="No space left"):
        stored(store)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == [store.folder / "trials.jsonl"]
    assert trials(store) == []


def test_a_cell_with_a_very_long_name_is_stored(store):
    assert len(store.history_path("r", 0, "x" * 500).split("/")[-1]) < 255


def test_a_history_of_format_1_has_no_dead_letters(store):
    path = stored(store)
    path.write_text(path.read_text().replace('"format": 2', '"format": 1').replace(', "dead": []', ""))
    assert "dead" not in path.read_text()
    assert read_history(path).backlog == Backlog()
