"""The command as a whole process: its verdicts, its exit codes, and what it leaves behind: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from lab.engine.adapter import Engine
from lab.store import Stored, rejudge, stored_in

LAB = [sys.executable, "-c", "from lab.cli import main; main()"]
ONE_CELL = [
    *("run", "worker-crash", "--broker", "redis-none", "--victim", "whole", "--phase", "running"),
    *("--set", "task_acks_late=false", "--set", "worker_prefetch_multiplier=4"),
]
MEMORY_LIMIT = 150 * 1024**2


def start(tmp_path, *words, **environment):
    return subprocess.Popen(
        [*LAB, *words, *(["--results", str(tmp_path)] if words[0] in ("run", "matrix") else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process, seconds=200):
    out, err = process.communicate(timeout=seconds)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def lab(tmp_path, *words, **environment):
    return finish(start(tmp_path, *words, **environment))


def made_by(pid):
    """What the engine holds of one lab, by its label of owner."""
    with_labels = Engine(run="look")
    try:
        kinds = (with_labels._api.containers(all=True), with_labels._api.networks())
        labels = [item.get("Labels") or {} for items in kinds for item in items]
        return [label for label in labels if f"|{pid}|" in label.get("celery-lab.owner", "")]
    finally:
        with_labels.close()


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_one_cell_prints_its_verdict_stores_it_and_leaves_nothing(tmp_path):
    process = start(tmp_path, *ONE_CELL)
    code, out, _ = finish(process)
    assert code == 0
    assert "lost" in out
    assert "1 as expected" in out
    assert made_by(process.pid) == []
    [line] = (tmp_path / "trials.jsonl").read_text().splitlines()
    stored = json.loads(line)
    assert stored["provenance"]["worker"]["celery"]
    assert stored["provenance"]["images"]["broker"].startswith("sha256:")
    assert rejudge(Stored(tmp_path / stored["history"])).same


def test_when_nobody_reads_the_output_the_run_ends_and_leaves_nothing(tmp_path):
    process = start(tmp_path, *ONE_CELL, "--trials", "30")
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert process.wait(60) == 130
    assert made_by(process.pid) == []
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) < 30


def test_json_is_one_line_per_trial_and_nothing_else(tmp_path):
    code, out, _ = lab(tmp_path, *ONE_CELL, "--json", "--trials", "2")
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [r["cell"] for r in results] == ["worker-crash[redis-none-early-x4-whole-running]"] * 2
    assert all(r["status"] == "as expected" for r in results)


def test_every_cell_of_worker_crash_is_as_expected_within_the_memory_limit(tmp_path):
    process = start(tmp_path, "run", "worker-crash", "--json")
    peak = 0
    lab_process = psutil.Process(process.pid)

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, lab_process.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, out, err = finish(process)
    watcher.join()
    results = [json.loads(line) for line in out.splitlines()]
    strange = [
        (r["cell"], r["status"], r["judgement"]["doubts"]) for r in results if r["status"] != "as expected"
    ]
    assert (code, strange) == (0, []), err
    assert len(results) == 72
    assert 0 < peak < MEMORY_LIMIT
    assert made_by(process.pid) == []


@pytest.mark.parametrize("profile", ["redis-aof-always", "rabbitmq-transient", "rabbitmq-quorum"])
def test_the_other_profiles_run_too(tmp_path, profile):
    words = ["--set", "task_acks_late=true", "--set", "worker_prefetch_multiplier=4", "--phase", "running"]
    code, out, err = lab(tmp_path, "run", "worker-crash", "--broker", profile, "--victim", "whole", *words)
    assert code == 0, out + err
    assert "2 as expected" in out


def test_an_older_celery_runs_with_the_dependencies_of_its_day(tmp_path):
    code, out, err = lab(tmp_path, *ONE_CELL, "--celery", "5.4.0", "--json")
    assert code == 0, err
    worker = json.loads(out)["provenance"]["worker"]
    assert (worker["celery"], worker["kombu"], worker["redis"]) == ("5.4.0", "5.3.7", "5.0.3")


def test_a_celery_that_does_not_exist_is_told(tmp_path):
    code, _, err = lab(tmp_path, *ONE_CELL, "--celery", "5.4.99")
    assert code == 2
    assert "no Celery 5.4.99" in err


MOMENTS = {
    "at the start": lambda pid: bool(made_by(pid)),
    "with a broker": lambda pid: len(made_by(pid)) >= 2,
    "with workers": lambda pid: len(made_by(pid)) >= 4,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_removes_everything_and_exits_130(tmp_path, moment, number):
    process = start(tmp_path, *ONE_CELL, "--trials", "5")
    until(lambda: MOMENTS[moment](process.pid))
    process.send_signal(number)
    code, _, err = finish(process, 30)
    assert code == 130
    assert "interrupted" in err
    assert made_by(process.pid) == []


def test_a_second_interrupt_says_what_is_left_and_how_to_remove_it(tmp_path):
    process = start(tmp_path, *ONE_CELL, "--trials", "20", "--jobs", "6")
    until(lambda: len(made_by(process.pid)) >= 8)
    process.send_signal(signal.SIGINT)
    while "once more" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, 30)
    assert code == 130
    assert "make clean" in err
    assert lab(tmp_path, "clean")[0] == 0
    assert made_by(process.pid) == []


def test_after_sigkill_clean_removes_all_of_it_and_nothing_of_a_living_lab(tmp_path):
    dead = start(tmp_path / "dead", *ONE_CELL, "--trials", "20")
    until(lambda: len(made_by(dead.pid)) >= 4)
    dead.kill()
    dead.communicate()
    left = len(made_by(dead.pid))
    code, out, _ = lab(tmp_path, "clean", "--dry-run")
    assert code == 0
    assert out.count("would remove") >= left >= 4
    assert len(made_by(dead.pid)) >= left
    living = start(tmp_path / "living", *ONE_CELL, "--keep")  # sweeps at its start, beside the clean
    code, _, _ = lab(tmp_path, "clean")
    assert code == 0
    assert made_by(dead.pid) == []
    assert finish(living)[0] == 0
    lab(tmp_path, "clean")
    assert made_by(living.pid) == []


def test_two_labs_side_by_side_do_not_touch_each_other(tmp_path):
    both = [start(tmp_path, *ONE_CELL, "--trials", "3") for _ in range(2)]
    assert [finish(process)[0] for process in both] == [0, 0]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 6


class Wire:
    """A socket in front of the engine's, to be cut in the middle."""

    def __init__(self, path: Path, engine: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.engine = engine
        self.pairs: list[socket.socket] = []
        self.url = f"unix://{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(self.engine)
            self.pairs += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self):
        self.listener.close()
        for end in self.pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def test_an_engine_that_goes_in_the_middle_is_one_clear_line(tmp_path):
    real = re.sub("^unix://", "", Engine(run="look").endpoint)
    wire = Wire(tmp_path / "engine.sock", real)
    process = start(tmp_path, *ONE_CELL, "--trials", "20", DOCKER_HOST=wire.url)
    until(lambda: len(made_by(process.pid)) >= 4)
    stored = tmp_path / "trials.jsonl"
    until(lambda: stored.exists() and stored.read_text().count("\n") >= 1)
    wire.cut()
    code, _, err = finish(process, 60)
    assert code == 4, err
    assert "engine" in err.splitlines()[-1]
    kept, damaged = stored_in(stored)
    assert kept
    assert damaged == []
    assert all(rejudge(named).same for named in kept)
    assert lab(tmp_path, "clean")[0] == 0
    assert made_by(process.pid) == []


def test_a_matrix_that_was_killed_goes_on_where_it_was(tmp_path):
    part = ("matrix", "--broker", "redis-none", "-k", "worker-crash", "-k", "x1-whole", "--jobs", "3")
    trials = tmp_path / "trials.jsonl"
    process = start(tmp_path, *part)
    until(lambda: trials.exists() and len(trials.read_text().splitlines()) >= 2, 60)
    process.kill()
    finish(process)
    before = [json.loads(line)["number"] for line in trials.read_text().splitlines()]
    assert 2 <= len(before) < 9
    code, out, err = lab(tmp_path, *part, "--resume")
    assert code == 0, err
    numbers = [json.loads(line)["number"] for line in trials.read_text().splitlines()]
    assert sorted(numbers) == list(range(9))
    assert numbers[: len(before)] == before
    code, out, _ = lab(tmp_path, *part, "--resume")
    assert (code, "all of its 9 trials are stored" in out) == (0, True)
