"""What a history tells of the ticks of a beat."""

from __future__ import annotations

from lab.facts import sent

from .story import story

BEATS = ("lab beat-up node=b every=3", "lab beat-up node=c every=3")


def test_ticks_are_counted_for_each_beat():
    assert sent(story(*BEATS, "b asked t", "c asked u", "c asked v")) == "b 1, c 2"


def test_what_a_publisher_sends_is_no_tick():
    assert sent(story(*BEATS, "p asked t")) == ""
