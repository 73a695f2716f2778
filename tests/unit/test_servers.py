"""What servers beside the broker keep, and what is made of it."""

from __future__ import annotations

import pytest

from lab.brokers.profile import SERVERS, Profile, names
from lab.facts import facts_of
from lab.history import Backlog, History

from .story import published, story


def results(*lines):
    return facts_of(History(story(*lines)), Backlog())["results"]


@pytest.mark.parametrize("name", names(SERVERS))
def test_every_server_beside_the_broker_listens_on_loopback_only(name):
    profile = Profile.of_server(name)
    assert profile.promise
    assert all(port.startswith("127.0.0.1:") for port in profile.service.ports)


def test_a_server_beside_the_broker_is_no_broker_profile():
    assert not set(names(SERVERS)) & set(names())


def test_without_a_result_backend_there_are_no_results():
    assert results(*published("t")) == ""


def test_a_task_without_a_stored_state_has_none():
    assert results(*published("t"), "lab results stored=0") == "target none"


def test_states_are_counted_by_label_and_those_of_sentinels_are_not():
    lines = (
        *published("t"),
        *published("a", "others"),
        *published("b", "others"),
        *published("s", "sentinel"),
    )
    stored = ("lab results stored=3", *(f"lab result {task} state=SUCCESS" for task in "tab"))
    assert results(*lines, *stored) == "others SUCCESS x2, target SUCCESS"


def charges(*lines):
    history = History(story(*published("t"), *published("a", "others"), *lines))
    return facts_of(history, Backlog())["charges"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((), None),
        (("lab ledger tasks=0",), 0),
        (("lab ledger tasks=1", "lab charged t times=2"), 2),
        (("lab ledger tasks=2", "lab charged t times=1", "lab charged a times=3"), 1),
    ],
    ids=["without a ledger", "an empty ledger", "charged twice", "what others charged"],
)
def test_charges_are_those_of_the_target_in_the_ledger(lines, found):
    assert charges(*lines) == found
