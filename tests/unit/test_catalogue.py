"""Cells: which there are, how they are narrowed, what they are called."""

from __future__ import annotations

import pytest

from lab import catalogue
from lab.catalogue import Axis, Scenario
from lab.errors import UsageError

ACK = Axis("ack", {"early": {"task_acks_late": False}, "late": {"task_acks_late": True}})
STORY = Scenario("story", "?", [ACK, Axis.of("victim", "whole", "child")], script=lambda rig: None)


def ids(**narrowed):
    return [cell.id for cell in STORY.cells(["redis-none"], **narrowed)]


def test_a_scenario_has_a_cell_for_every_combination_in_a_stable_order():
    assert ids() == [
        "story[redis-none-early-whole]", "story[redis-none-early-child]",
        "story[redis-none-late-whole]", "story[redis-none-late-child]",
    ]  # fmt: skip


def test_a_setting_that_an_axis_varies_narrows_it():
    assert ids(given={"task_acks_late": True}) == [
        "story[redis-none-late-whole]",
        "story[redis-none-late-child]",
    ]


def test_a_setting_that_no_axis_varies_is_added_to_every_cell_and_to_its_name():
    cells = list(STORY.cells(["redis-none"], {"task_time_limit": 5}, {"victim": "child"}))
    assert [cell["task_time_limit"] for cell in cells] == [5, 5]
    assert cells[0].id == "story[redis-none-early-child-task_time_limit=5]"


def test_another_celery_is_in_the_name():
    [cell, *_] = STORY.cells(["redis-none"], celery="5.4.0")
    assert cell.id == "story[redis-none-early-whole-celery=5.4.0]"


def test_a_token_narrows_its_axis():
    assert ids(chosen={"victim": "child"}) == [
        "story[redis-none-early-child]",
        "story[redis-none-late-child]",
    ]


@pytest.mark.parametrize(
    ("chosen", "says"), [({"victim": "cat"}, "whole, child"), ({"phase": "running"}, "ack, victim")]
)
def test_what_does_not_exist_is_told_with_what_does(chosen, says):
    with pytest.raises(UsageError, match=says):
        ids(chosen=chosen)


def test_an_unknown_scenario_is_told_the_nearest_name():
    catalogue.load_scenarios()
    with pytest.raises(UsageError, match="worker-crash"):
        catalogue.find("worker-crsh")


def test_a_cell_knows_celerys_defaults_for_what_it_does_not_set():
    [cell, *_] = STORY.cells(["redis-none"])
    assert cell["worker_pool"] == "prefork"


class TestWorkerCrash:
    """The scenario's own table of expectations, against the words of the design."""

    def cells(self, **narrowed):
        story = catalogue.load_scenarios()["worker-crash"]
        return story, list(story.cells(["redis-none"], **narrowed))

    def test_a_switch_that_is_not_set_is_off(self):
        off = self.cells(given={"task_acks_late": True, "task_reject_on_worker_lost": False})[1]
        assert {cell.params["acknowledgement"] for cell in off} == {"late"}

    def test_it_has_36_cells_for_each_broker(self):
        assert len(self.cells()[1]) == 36

    def test_every_cell_expects_one_target_and_five_others_and_says_why(self):
        story, cells = self.cells()
        for cell in cells:
            expected = story.expected(cell)
            assert sum(expected.outcomes["target"].values()) == 1, cell.id
            assert sum(expected.outcomes["others"].values()) == 5, cell.id
            assert expected.because
            assert expected.source

    def test_early_acknowledgement_loses_what_runs_in_a_killed_worker(self):
        story, [cell] = self.cells(
            given={"task_acks_late": False, "worker_prefetch_multiplier": 4},
            chosen={"victim": "whole", "phase": "running"},
        )
        assert story.expected(cell).outcomes == {
            "target": {"lost": 1},
            "others": {"redelivered": 4, "once": 1},
        }

    @pytest.mark.parametrize(
        ("celery", "backend", "target"),
        [
            ("5.7.0", None, "duplicated"),
            ("5.7.0", "rpc://", "duplicated"),
            ("5.7.0", "file:///tmp/", "once"),
            ("5.10.1", "file:///tmp/", "once"),
            ("5.6.3", "file:///tmp/", "duplicated"),
        ],
    )
    def test_a_stored_success_saves_a_finished_task_from_running_again_since_5_7(
        self, celery, backend, target
    ):
        given = {"task_acks_late": True, "task_reject_on_worker_lost": True, "worker_prefetch_multiplier": 1}
        story, [cell] = self.cells(
            given={**given, "result_backend": backend}, chosen={"victim": "child", "phase": "finished"},
            celery=celery,
        )  # fmt: skip
        assert story.expected(cell).outcomes["target"] == {target: 1}

    @pytest.mark.parametrize(
        ("pool", "victim", "says"),
        [
            ("solo", "child", "the solo pool has no child process"),
            ("threads", "child", "the threads pool has no child process"),
            ("solo", "whole", "not modelled"),
            ("gevent", "whole", "see pool-crash"),
        ],
    )
    def test_what_cannot_be_says_why(self, pool, victim, says):
        story, cells = self.cells(given={"worker_pool": pool}, chosen={"victim": victim})
        assert says in story.impossible(cells[0])
