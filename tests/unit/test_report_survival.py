"""What survives what: counted from trials that decided, in the order from gentle to hard."""

from __future__ import annotations

import pytest

from lab.judge import Expectation
from lab.report.data import build
from lab.report.survival import survival
from lab.report.texts import as_markdown

from .trials import DOCUMENTED, trial


def ended(end, after, number=0, outcome="once", more=(), **about):
    params = {"end": end, "confirm": "confirmed", "after": after}
    cell = f"power-cut[redis-none-{end}-confirmed-{after}]"
    return trial(outcome, *more, cell=cell, scenario="power-cut", params=params, number=number, **about)


def of(*results):
    (found,) = survival(build(results))
    return found


def test_ends_stand_from_the_gentlest_to_the_hardest_and_times_as_numbers():
    found = of(ended("power", "1000ms"), ended("power", "50ms"), ended("stop", "0ms"), ended("crash", "0ms"))
    assert found.columns == (("stop", "0ms"), ("crash", "0ms"), ("power", "50ms"), ("power", "1000ms"))
    assert found.ends == ["stop", "crash", "power"]


@pytest.mark.parametrize(
    ("outcomes", "k", "kind"),
    [(("once", "once"), 2, "all"), (("once", "lost"), 1, "some"), (("lost", "redelivered"), 0, "none")],
)
def test_a_share_is_of_the_trials_in_which_the_target_was_once(outcomes, k, kind):
    results = [ended("power", "0ms", number, outcome) for number, outcome in enumerate(outcomes)]
    ((profile, settings, (share,)),) = of(*results).rows
    assert (profile, settings) == ("redis-none", "confirmed")
    assert (share.k, share.n, share.kind) == (k, 2, kind)


def test_what_no_trial_decided_is_no_share():
    doubtful = ended("power", "0ms", more=("lab defect what=hole",))
    ((_, _, shares),) = of(doubtful, ended("stop", "0ms")).rows
    assert shares[1] is None
    assert shares[0].n == 1


def test_a_scenario_that_ends_no_broker_has_no_place_here():
    assert survival(build([trial()])) == []


def test_the_documentation_that_says_otherwise_stands_with_its_scenario():
    assert of(
        ended("power", "0ms", expectation=Expectation({"target": {"once": 1}}, surprise=DOCUMENTED))
    ).documented == (DOCUMENTED,)


def test_the_table_stands_in_the_markdown_with_its_intervals():
    text = as_markdown(build([ended("power", "0ms", n, o) for n, o in enumerate(("once", "lost"))]))
    assert "| redis-none | confirmed | 1/2 (9 to 91 %) |" in text
