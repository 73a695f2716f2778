"""What survives what: counted from trials that decided, in the order from gentle to hard."""

from __future__ import annotations

from dataclasses import replace

from lab.judge import Expectation
from lab.report.data import build
from lab.report.survival import survival
from lab.report.texts import as_markdown
from lab.report.words import Word

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


def test_a_cell_names_the_worst_of_its_trials_and_how_many_had_it():
    results = [ended("power", "0ms", number, outcome) for number, outcome in enumerate(("once", "lost"))]
    ((profile, settings, (cell,)),) = of(*results).rows
    assert (profile, settings) == ("redis-none", "confirmed")
    assert (cell.word, cell.k, cell.n) == (Word.LOST, 1, 2)


def test_a_place_without_a_trial_is_told_from_one_that_nothing_decided():
    doubtful = ended("power", "0ms", more=("lab defect what=hole",))
    other = replace(
        ended("power", "50ms"), profile="redis-rdb", cell="power-cut[redis-rdb-power-confirmed-50ms]"
    )
    first, second = of(doubtful, ended("stop", "0ms"), other).rows
    assert [cell.word for cell in first[2]] == [Word.SAFE, Word.INCONCLUSIVE, Word.NOT_RUN]
    assert [cell.word for cell in second[2]] == [Word.NOT_RUN, Word.NOT_RUN, Word.SAFE]


def test_a_scenario_that_ends_no_broker_has_no_place_here():
    assert survival(build([trial()])) == []


def test_the_documentation_that_says_otherwise_stands_with_its_scenario():
    assert of(
        ended("power", "0ms", expectation=Expectation({"target": {"once": 1}}, surprise=DOCUMENTED))
    ).documented == (DOCUMENTED,)


def test_the_table_stands_in_the_markdown_with_its_intervals():
    text = as_markdown(build([ended("power", "0ms", n, o) for n, o in enumerate(("once", "lost"))]))
    assert "| redis-none | confirmed | lost 1/2 (9 to 91 %) |" in text
