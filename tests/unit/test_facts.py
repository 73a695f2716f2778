"""What a history tells beside the outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.facts import facts_of, late_faults, remembered, sent, slow_beats
from lab.history import NANOSECONDS, Backlog, History

from .story import story

ASKED = "web asked t label=target"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((ASKED, "web publish-ok t", "lab heal", "lab healed"), "ok"),
        ((ASKED, "web publish-failed t", "lab heal", "lab healed"), "failed"),
        ((ASKED, "lab heal", "web publish-ok t", "lab healed"), "nothing"),
        ((ASKED, "web asked o label=others", "web publish-ok o", "lab heal"), "nothing"),
    ],
    ids=["told while it lasted", "told that it failed", "told by the undo itself", "of another task"],
)
def test_told_during_counts_what_publishers_heard_before_the_undo_began(lines, told):
    assert facts_of(History(story(*lines)), Backlog())["told_during"] == told


@pytest.mark.parametrize(
    ("lines", "finished"),
    [
        (("w/7 finished t", "lab heal fault=freeze", "w/7 finished o"), 1),
        (("w/7 finished s", "lab heal fault=freeze"), 0),
        (("w/7 finished t",), None),
    ],
    ids=["what came after the undo had begun", "sentinels do not count", "nothing was undone"],
)
def test_finished_during_counts_the_tasks_that_a_fault_did_not_keep_from_ending(lines, finished):
    asked = (ASKED, "web asked o label=others", "web asked s label=sentinel")
    assert facts_of(History(story(*asked, *lines)), Backlog())["finished_during"] == finished


def test_dead_counts_the_targets_in_the_dead_letter_queue():
    history = History(story(ASKED, "web asked o label=others"))
    assert facts_of(history, Backlog(dead=("t", "o")))["dead"] == 1


def test_dead_letters_are_messages_of_which_a_task_may_have_several():
    history = History(story(ASKED, "web asked o label=others", "web asked p label=others"))
    assert facts_of(history, Backlog(dead=("o", "o", "p", "t")))["dead_letters"] == "others 3, target 1"


def test_order_numbers_what_the_last_worker_started_as_it_was_published():
    history = story(
        "p asked a label=first", "p asked b label=target", "p asked c label=target", "lab worker-up node=v",
        "v/7 started a", "lab worker-up node=r", "p asked s label=sentinel", "r/7 started c", "r/7 started b",
        "r/7 started s",
    )  # fmt: skip
    assert facts_of(History(history), Backlog())["order"] == "3 2"


BEATS = ("lab beat-up node=b every=3", "lab beat-up node=c every=3")


def test_ticks_are_counted_for_each_beat():
    assert sent(History(story(*BEATS, "b asked t", "c asked u", "c asked v"))) == "b 1, c 2"


def test_what_a_publisher_sends_is_no_tick():
    assert sent(History(story(*BEATS, "p asked t"))) == ""


def test_remembered_counts_the_ticks_before_a_beat_and_those_that_its_file_had():
    history = story(*BEATS, "b remembers runs=0", "b asked t", "b asked u", "c remembers runs=1", "c asked v")
    assert remembered(History(history)) == "c 1 of 2"


@pytest.mark.parametrize(
    ("lines", "doubts"),
    [
        (("b remembers due=no", "b waits", "b due"), []),
        (("b remembers due=yes", "b due"), []),
        (("b remembers due=no", "b due"), ["b stood still before its first tick until it was due"]),
        (("b remembers due=no",), []),
    ],
    ids=["it waited", "it was due when it started", "it was due before it waited", "it was killed first"],
)
def test_a_beat_that_stood_still_before_its_first_tick_is_a_doubt(lines, doubts):
    assert list(slow_beats(History(story(*BEATS, *lines)))) == doubts


def late(lines, seconds):
    """Which faults came late, where a line was written every so many ``seconds``."""
    events = (replace(e, at=int(i * seconds * NANOSECONDS)) for i, e in enumerate(story(*lines)))
    return list(late_faults(History(events)))


@pytest.mark.parametrize(("cut", "doubts"), [(2, 0), (3, 1)])
def test_a_fault_that_came_much_too_late_is_a_doubt(cut, doubts):
    lines = (ASKED, "web publish-ok t", "lab passed-by seconds=1", *["lab other"] * cut, "disk power-cut")
    assert len(late(lines, 0.3)) == doubts


def test_a_crash_is_timed_by_the_moment_in_which_the_lab_began_it():
    lines = (ASKED, "web publish-ok t", "lab passed-by seconds=0", "lab inject fault=kill", "lab landed")
    assert not late(lines, 0.1)
    assert late(lines, 0.2)
