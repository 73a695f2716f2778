"""Which cells a matrix has, how parts of it are told apart, and what is left of a run."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lab import grid, runs
from lab.catalogue import Axis, Scenario, load_scenarios
from lab.cli import main
from lab.engine.images import default_celery
from lab.errors import UsageError
from lab.grid import Grid, Shard

TWO = Axis.of("phase", "queued", "running")
PLAIN = Scenario("plain", "?", [TWO], lambda rig: None)
BREAKER = Scenario("breaker", "?", [TWO], lambda rig: None, own_broker=True, durability=True)
BREAKER.cannot(lambda cell: "no" if cell.params["phase"] == "queued" else None)


def places(*scenarios, profiles=("redis-none",)):
    return list(grid.everything({s.name: s for s in scenarios}, profiles))


def ids(found):
    return [place.cell.id for place in found]


class TestCells:
    def test_what_a_broker_keeps_matters_only_where_a_scenario_says_so(self):
        profiles = {place.cell.profile for place in places(PLAIN, profiles=())}
        assert profiles == set(grid.DELIVERING_ALIKE)
        assert len({place.cell.profile for place in places(BREAKER, profiles=())}) > len(profiles)

    def test_what_cannot_be_keeps_its_reason(self):
        assert [place.impossible for place in places(BREAKER)] == ["no", None]

    def test_the_core_grid_has_the_core_of_every_axis(self):
        curve = Scenario("curve", "?", [Axis.of("after", "0ms", "50ms", "1s", core=("0ms", "1s")), TWO], None)
        assert {tuple(p.cell.params.values()) for p in grid.core(places(curve))} == {
            (after, phase) for after in ("0ms", "1s") for phase in ("queued", "running")
        }
        assert len(places(curve)) == 6

    @pytest.mark.parametrize("scenario", load_scenarios().values(), ids=lambda s: s.name)
    def test_every_scenario_is_in_the_core_grid_by_tokens_that_it_has(self, scenario):
        assert all(set(axis.core) <= set(axis.choices) for axis in scenario.axes)
        assert any(p.impossible is None for p in grid.core(places(scenario, profiles=())))

    def test_words_narrow(self):
        assert ids(grid.matching(iter(places(PLAIN)), ["plain", "running"])) == ["plain[redis-none-running]"]

    def test_quick_takes_the_first_of_everything_before_the_second_of_anything(self):
        both = places(PLAIN, BREAKER, profiles=("redis-none", "rabbitmq-classic"))
        assert {(p.scenario.name, p.cell.profile, p.cell.params["phase"]) for p in grid.quick(both, 4)} == {
            (name, profile, "queued")
            for name in ("plain", "breaker")
            for profile in ("redis-none", "rabbitmq-classic")
        }


class TestParts:
    def test_every_cell_is_in_one_shard_whatever_else_is_in_the_grid(self):
        cells = ids(places(PLAIN, BREAKER))
        parts = [{cell for cell in cells if Shard(n, 3).has(cell)} for n in (1, 2, 3)]
        assert sorted(cell for part in parts for cell in part) == sorted(cells)
        assert {cell for cell in ids(places(PLAIN)) if Shard(1, 3).has(cell)} <= parts[0]

    @pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
    def test_a_shard_that_is_none_is_refused(self, text):
        with pytest.raises(UsageError, match="is not i/n"):
            Shard.parse(text)

    def test_a_grid_is_known_by_its_cells_and_its_trials(self):
        one, other = places(PLAIN), places(BREAKER)
        assert Grid(one).id == Grid(list(one)).id
        assert len({Grid(one).id, Grid(other).id, Grid(one, 2).id}) == 3

    def test_what_is_finished_is_not_left(self):
        two = Grid(places(PLAIN), trials=2)
        assert [number for number, _ in grid.left(two, Shard(), {0, 3}, None)] == [1, 2]

    def test_a_seed_shuffles_and_loses_nothing(self):
        many = Grid(places(PLAIN), trials=50)
        one, again = ([n for n, _ in grid.left(many, Shard(), (), 7)] for _ in range(2))
        assert one == again
        assert one != sorted(one)
        assert sorted(one) == list(range(100))


def write(folder, run, numbers, *, shard="1/1", cells=("a", "b"), trials=1, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    runs.begin(folder, runs.GridRun(run, "grid", cells, trials, shard))
    for number in numbers:
        history = f"history/{run}/{number}.jsonl"
        (folder / history).parent.mkdir(parents=True, exist_ok=True)
        (folder / history).write_text("h")
        line = {
            "format": 1, "run": run, "number": number, "cell": cells[number % len(cells)], "attempt": 1,
            "status": "as expected", "profile": "redis-none", "history": history,
            "provenance": {"broker": "redis 8", "worker": {"celery": "5.7"}}, **changes,
        }  # fmt: skip
        with (folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    return folder


class TestResume:
    def test_a_final_line_is_a_finished_trial(self, tmp_path):
        write(tmp_path, "r", [0, 1])
        assert runs.finished(tmp_path, "r") == {0, 1}

    def test_a_half_written_line_is_no_trial(self, tmp_path):
        write(tmp_path, "r", [0, 1])
        text = (tmp_path / "trials.jsonl").read_text()
        (tmp_path / "trials.jsonl").write_text(text[:-20])
        assert runs.finished(tmp_path, "r") == {0}

    def test_an_inconclusive_attempt_is_finished_only_when_it_was_the_last(self, tmp_path):
        write(tmp_path, "r", [0], status="inconclusive")
        write(tmp_path, "r", [1], status="inconclusive", attempt=3)
        assert runs.finished(tmp_path, "r") == {1}

    def test_other_runs_are_of_no_account(self, tmp_path):
        write(tmp_path, "other", [0])
        write(tmp_path, "r", [1])
        assert (runs.latest(tmp_path).run, runs.finished(tmp_path, "r")) == ("r", {1})

    def test_a_folder_without_a_run_says_how_to_start_one(self, tmp_path):
        with pytest.raises(UsageError, match="no run of a grid"):
            runs.latest(tmp_path)

    def test_a_newer_file_is_refused(self, tmp_path):
        write(tmp_path, "r", [0], format=99)
        with pytest.raises(UsageError, match="newer lab"):
            runs.finished(tmp_path, "r")


class TestMerge:
    def test_two_halves_make_a_whole_with_their_histories(self, tmp_path):
        one = write(tmp_path / "1", "r1", [0], shard="1/2")
        two = write(tmp_path / "2", "r2", [1], shard="2/2")
        assert runs.merge([one, two], tmp_path / "all") == 2
        assert (tmp_path / "all/history/r2/1.jsonl").read_text() == "h"
        assert len((tmp_path / "all/trials.jsonl").read_text().splitlines()) == 2

    @pytest.mark.parametrize(
        ("second", "why"),
        [
            ({"numbers": []}, "1 trials are missing: b"),
            ({"numbers": [0, 1]}, "1 trials are there twice: a"),
            ({"numbers": [1], "trials": 2}, "different grids"),
            ({"numbers": [1], "provenance": {"broker": "redis 7"}}, "versions differ: broker of redis-none"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_nothing_is_written(self, tmp_path, second, why):
        one = write(tmp_path / "1", "r1", [0])
        two = write(tmp_path / "2", "r2", **second)
        with pytest.raises(UsageError, match=why):
            runs.merge([one, two], tmp_path / "all")
        assert not (tmp_path / "all").exists()

    def test_mixed_versions_merge_when_told_to(self, tmp_path):
        one = write(tmp_path / "1", "r1", [0])
        two = write(tmp_path / "2", "r2", [1], provenance={"broker": "redis 7"})
        assert runs.merge([one, two], tmp_path / "all", mixed=True) == 2

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path):
        one = write(tmp_path / "1", "r1", [0, 1])
        with pytest.raises(UsageError, match="is not empty"):
            runs.merge([one], one)


@pytest.mark.parametrize(("status", "code"), [("as expected", 0), ("surprise", 1), ("inconclusive", 3)])
def test_a_run_that_is_resumed_answers_for_all_of_its_trials(tmp_path, status, code):
    part = ["--broker", "redis-none", "-k", "redis-pop-gap"]
    listed = CliRunner().invoke(main, ["matrix", *part, "--list"]).output.split()
    whole = [
        place
        for place in grid.everything(load_scenarios(), ["redis-none"], celery=default_celery())
        if place.cell.id in listed
    ]
    write(tmp_path, "r", range(len(listed)), cells=listed, status=status, attempt=3)
    lines = (tmp_path / "runs.jsonl").read_text().replace('"grid":"grid"', f'"grid":"{Grid(whole).id}"')
    (tmp_path / "runs.jsonl").write_text(lines)
    resumed = CliRunner().invoke(main, ["matrix", *part, "--resume", "--results", str(tmp_path)])
    assert (resumed.exit_code, "is finished" in resumed.output) == (code, True)
