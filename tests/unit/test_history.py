"""Reading logs: nothing is dropped in silence."""

from __future__ import annotations

import pytest

from lab.history import Event, NotAnEvent, in_order, parse_event, parse_log

GOOD = Event("w", 1, 7, 0, "started", "t", {"phase": "running"})


def test_an_event_survives_the_way_to_json_and_back():
    assert parse_event(GOOD.to_json()) == GOOD


def test_a_whole_log_has_no_defect():
    second = Event("w", 2, 7, 1, "finished", "t", {})
    log = f"{GOOD.to_json()}\n{second.to_json()}\n".encode()
    assert parse_log("w", log) == ([GOOD, second], [])


def test_an_empty_log_is_whole():
    assert parse_log("w", b"") == ([], [])


def test_a_truncated_last_line_is_a_defect_and_hides_nothing_before_it():
    events, defects = parse_log("w", GOOD.to_json().encode() + b'\n{"node":"w","at"')
    assert events == [GOOD]
    assert defects == ["the log of w ends in the middle of a line"]


def test_a_lost_line_is_a_defect():
    third = Event("w", 3, 7, 2, "finished", "t", {})
    _, defects = parse_log("w", f"{GOOD.to_json()}\n{third.to_json()}\n".encode())
    assert defects == ["the log of w (pid 7) lost or repeats lines: has 2, last 2"]


def test_a_repeated_line_is_a_defect():
    _, defects = parse_log("w", f"{GOOD.to_json()}\n{GOOD.to_json()}\n".encode())
    assert len(defects) == 1


def test_lines_that_no_probe_wrote_are_one_defect():
    events, defects = parse_log("w", b"hello\nworld\n" + GOOD.to_json().encode() + b"\n")
    assert events == [GOOD]
    assert len(defects) == 1
    assert "2 lines that are no events" in defects[0]


@pytest.mark.parametrize(
    "line",
    [
        "", "{}", "[]", "null", "7",
        '{"node":"w","at":"1","pid":7,"seq":0,"name":"x","task":null,"detail":{}}',
        '{"node":"w","at":true,"pid":7,"seq":0,"name":"x","task":null,"detail":{}}',
        '{"node":"w","at":1,"pid":7,"seq":0,"name":"x","task":5,"detail":{}}',
        '{"node":"w","at":1,"pid":7,"seq":0,"name":"x","task":null,"detail":[]}',
        '{"node":null,"at":1,"pid":7,"seq":0,"name":"x","task":null,"detail":{}}',
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(line):
    with pytest.raises(NotAnEvent):
        parse_event(line)


def test_people_read_by_time():
    late, early = Event("a", 9, 1, 0, "x"), Event("b", 3, 1, 0, "y")
    assert in_order([late, early]) == [early, late]
