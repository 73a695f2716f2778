"""From results to the report's data: one word for each cell, and no number that was not counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge import Expectation, Status
from lab.report.advice import advice, changes
from lab.report.cells import Known
from lab.report.chance import interval, wilson
from lab.report.data import build
from lab.report.diff import Kind, diff
from lab.report.words import LOOKS, Word, trial_word, worst

from .trials import DOCUMENTED, trial


def one(*results, **known):
    (cell,) = build(results, Known(**known)).cells
    return cell


# --- chance -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 3, 0.0, 0.5615), (1, 20, 0.0089, 0.2361), (10, 20, 0.2993, 0.7007), (1, 1, 0.2065, 1.0)],
)
def test_wilson_gives_the_published_figures(k, n, low, high):
    assert wilson(k, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_rate_and_is_one(pair):
    k, n = pair
    low, high = wilson(k, n)
    assert 0 <= low <= (k / n if n else 0) <= high <= 1


def test_of_nothing_nothing_is_known():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_more_than_all_is_no_rate(k, n):
    with pytest.raises(ValueError, match=f"{k} of {n}"):
        wilson(k, n)


def test_one_of_twenty_is_not_none_of_three():
    assert (interval(1, 20), interval(0, 3)) == ("1/20 (1 to 24 %)", "0/3 (0 to 56 %)")


# --- the word of a cell -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        ("once", Word.SAFE),
        ("redelivered", Word.REDELIVERED),
        ("duplicated", Word.DUPLICATED),
        ("lost", Word.LOST),
    ],
)
def test_a_cell_has_one_word(outcome, word):
    cell = one(trial(outcome))
    assert (cell.word, cell.k, cell.n, cell.status) == (word, 1, 1, Status.EXPECTED)


def test_the_worst_trial_decides_and_is_counted():
    cell = one(*(trial("lost" if n < 3 else "once", expect="lost", number=n) for n in range(20)))
    assert (cell.word, cell.k, cell.n) == (Word.LOST, 3, 20)
    assert cell.surprising


def test_a_trial_in_doubt_counts_in_no_rate():
    doubtful = trial("lost", "lab defect what=torn", number=1)
    cell = one(trial("once"), doubtful)
    assert (cell.word, cell.k, cell.n, cell.status) == (Word.SAFE, 1, 1, Status.INCONCLUSIVE)


def test_nothing_but_doubt_is_inconclusive():
    doubtful = trial("lost", "lab defect what=torn")
    assert trial_word(doubtful.status, doubtful.judgement) is Word.INCONCLUSIVE
    assert (one(doubtful).word, one(doubtful).n) == (Word.INCONCLUSIVE, 1)


def test_every_word_has_a_look_and_lost_is_the_worst():
    assert list(LOOKS) == list(Word)
    assert worst(word for word in Word if word.decided) is Word.LOST
    assert len({look.symbol for look in LOOKS.values()}) == len(LOOKS)


# --- which trials count -------------------------------------------------------------------------


def test_of_a_cell_its_newest_run_counts():
    new = trial("once", run="r2", provenance={"at": "2026-02-01"})
    report = build([new, trial("lost"), trial("lost", number=1)])
    assert (report.cells[0].word, report.older) == (Word.SAFE, 2)


def test_of_a_trial_its_last_attempt_counts():
    doubtful = trial("lost", "lab defect what=torn")
    cell = one(replace(trial("once"), attempt=2), doubtful)
    assert (cell.word, cell.n, cell.repeated) == (Word.SAFE, 1, 1)


# --- the matrix ---------------------------------------------------------------------------------


def shape(table):
    return [(row.profile, row.label, [cell.word.value for cell in row.cells]) for row in table.rows]


def test_rows_are_profiles_and_settings_and_columns_the_rest():
    results = [
        trial("lost", acknowledgement="early", phase="running"),
        trial("once", acknowledgement="early", phase="queued"),
        trial("redelivered", acknowledgement="late", phase="running"),
        trial("lost", acknowledgement="early", phase="running", profile="rabbitmq-classic"),
    ]
    order = {"story": {"acknowledgement": ["early", "late"], "phase": ["queued", "running"]}}
    cannot = {"story[redis-none-late-queued]": "for a reason"}
    (table,) = build(results, Known({"story": "Lost?"}, order, cannot)).tables
    assert (table.row_axes, table.column_axes, table.asks) == (("acknowledgement",), ("phase",), "Lost?")
    assert [[(h.text, h.span) for h in level] for level in table.headings] == [
        [("queued", 1), ("running", 1)]
    ]
    assert shape(table) == [
        ("rabbitmq-classic", "early", ["not run", "lost"]),
        ("redis-none", "early", ["safe", "lost"]),
        ("redis-none", "late", ["unsupported", "redelivered"]),
    ]
    assert table.rows[2].cells[0].reason == "for a reason"


def test_an_axis_that_changes_every_setting_is_one_of_settings():
    slow = {"worker_soft_shutdown_timeout": 3}
    results = [trial(confirm="yes", how="warm", settings=slow), trial(confirm="no", how="warm")]
    (table,) = build(results).tables
    assert (table.row_axes, table.column_axes) == (("confirm",), ("how",))


def test_what_the_lab_shortened_makes_no_axis_of_settings():
    beat = [trial(length="brief", settings={"broker_heartbeat": 2}), trial(length="long")]
    (table,) = build(beat).tables
    assert table.column_axes == ("length",)


def test_headings_span_what_they_share():
    results = [trial(victim=v, phase=p) for v in ("whole", "child") for p in ("reserved", "running")]
    (table,) = build(results).tables
    assert [[(h.text, h.span) for h in level] for level in table.headings] == [
        [("whole", 2), ("child", 2)],
        [("reserved", 1), ("running", 1), ("reserved", 1), ("running", 1)],
    ]


def test_what_an_id_says_behind_its_tokens_is_a_row_of_its_own_and_in_the_command():
    cell = one(
        trial(phase="running", cell="story[redis-none-running-result_backend=file:///a b-celery=5.6.3]")
    )
    assert cell.variant == "result_backend=file:///a b celery=5.6.3"
    assert cell.command == (
        ".venv/bin/lab run story --broker redis-none --only phase=running "
        "--set 'result_backend=file:///a b' --celery 5.6.3"
    )


def test_the_command_runs_as_many_trials():
    assert one(trial(), trial(number=1)).command.endswith("--trials 2")


def test_anchors_are_plain_and_differ():
    found = build([trial(cell="story[a/b]"), trial(cell="story[a b]")]).cells
    assert {cell.anchor for cell in found} == {"story.a.b", "story.a.b.2"}


def test_planned_cells_without_a_result_are_told():
    known = Known(
        planned=frozenset({"story[redis-none]", "story[gone]", "story[no]"}), reasons={"story[no]": "x"}
    )
    assert build([trial()], known).missing == {"story[gone]": "", "story[no]": "x"}


def test_tuned_settings_versions_and_surprises_are_gathered():
    told = trial(expectation=Expectation({"target": {"once": 1}}, surprise=DOCUMENTED), phase="a")
    report = build([told, trial(phase="b"), trial("lost", expect="once", phase="c")])
    assert [(entry["setting"], cells) for entry, cells in report.tuned] == [("broker_heartbeat", 3)]
    assert [(v.names["broker"], v.cells) for v in report.versions] == [("redis 8.0.2", 3)]
    assert [cell.params["phase"] for cell in report.surprises] == ["c"]
    assert [(surprise, len(cells)) for _, surprise, cells in report.documented] == [(DOCUMENTED, 1)]


# --- what a setting buys ------------------------------------------------------------------------

PHASES = {
    "running": ("lost", "redelivered"), "finished": ("once", "duplicated"), "queued": ("once", "once"),
}  # fmt: skip


def both(scenario):
    return [
        trial(outcome, scenario=scenario, acknowledgement=token, phase=phase)
        for phase, pair in PHASES.items()
        for token, outcome in zip(("early", "late"), pair, strict=True)
    ]


def test_what_a_setting_buys_and_costs_is_counted_from_cells_that_have_both():
    alone = trial("lost", scenario="one", acknowledgement="early", phase="alone")
    (change,) = changes(build([*both("one"), *both("two"), alone]))
    assert (change.before, change.after, change.settings) == ("early", "late", "task_acks_late=True")
    assert change.better == [(Word.LOST, Word.REDELIVERED, 2)]
    assert change.worse == [(Word.SAFE, Word.DUPLICATED, 2)]
    assert (change.same, len(change.pairs), change.scenarios, change.safer) == (2, 6, 2, True)


def test_the_safest_settings_lose_fewest():
    (told,) = advice(build([*both("one"), *both("two")]))
    assert [(c.axis, c.token, c.settings) for c in told.choices] == [
        ("acknowledgement", "late", "task_acks_late=True")
    ]


def test_a_choice_that_one_scenario_tried_among_many_is_not_called_safest():
    results = [*both("one"), trial(scenario="two", acknowledgement="early")]
    (told,) = advice(build(results))
    assert told.choices == ()


def test_a_choice_that_changes_nothing_is_not_called_safer():
    same = [trial(scenario=s, acknowledgement=a) for s in ("one", "two") for a in ("early", "late")]
    (told,) = advice(build(same))
    (choice,) = told.choices
    assert (choice.token, choice.differs) == ("early", False)


def test_doubt_is_compared_with_nothing():
    doubtful = trial("lost", "lab defect what=torn", acknowledgement="late")
    assert changes(build([trial("lost", acknowledgement="early"), doubtful])) == []


# --- two runs -----------------------------------------------------------------------------------


def kinds(before, after):
    return [(d.cell, d.kind) for d in diff(build(before), build(after))]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (trial("once"), trial("once"), Kind.SAME),
        (trial("once"), trial("lost"), Kind.WORSE),
        (trial("lost"), trial("redelivered"), Kind.BETTER),
        (trial("once"), trial("once", expect="lost"), Kind.WORSE),
        (trial("once"), trial("once", "lab defect what=torn"), Kind.WORSE),
        (trial("once", "lab defect what=torn"), trial("once"), Kind.BETTER),
    ],
)
def test_a_cell_got_worse_better_or_stayed(before, after, kind):
    assert kinds([before], [after]) == [("story[redis-none]", kind)]


def often(lost, of):
    lucky = Expectation({"target": {"once": 1}}, luck={"target": ("once", "lost")})
    return [trial("lost" if n < lost else "once", expectation=lucky, number=n) for n in range(of)]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [((1, 20), (3, 20), Kind.SAME), ((1, 20), (15, 20), Kind.WORSE), ((15, 20), (1, 20), Kind.BETTER)],
)
def test_the_same_word_much_more_often_is_worse(before, after, kind):
    assert kinds(often(*before), often(*after)) == [("story[redis-none]", kind)]


def test_luck_is_not_worse():
    lucky = Expectation({"target": {"once": 1}}, luck={"target": ("once", "lost")})
    before, after = (trial(outcome, expectation=lucky) for outcome in ("once", "lost"))
    assert kinds([before], [after]) == [("story[redis-none]", Kind.CHANCE)]


def test_cells_that_came_and_went_are_told():
    assert kinds([trial(phase="a")], [trial(phase="b")]) == [
        ("story[redis-none-a]", Kind.GONE),
        ("story[redis-none-b]", Kind.NEW),
    ]


def test_another_celery_or_broker_is_compared_with_the_same_cell():
    before = trial("lost", profile="redis-none@7.0", cell="story[redis-none@7.0-celery=5.4.0]")
    assert kinds([before], [trial("once")]) == [("story[redis-none]", Kind.BETTER)]


def test_versions_side_by_side_in_one_run_are_not_mixed_up():
    old, new = (trial(cell=f"story[redis-none-celery=5.{n}.0]") for n in (4, 5))
    assert {kind for _, kind in kinds([old, new], [trial()])} == {Kind.GONE, Kind.NEW}
