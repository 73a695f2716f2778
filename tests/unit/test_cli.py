"""Bad input gets one clear line and its exit code, before anything is started."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests
from docker.errors import APIError, DockerException

from lab import errors
from lab.cli import session
from lab.engine import programs
from lab.engine.node import translated
from lab.errors import CleanupFailed, Interrupted, NoEngine
from lab.judge import Status

NOWHERE = "unix:///nowhere/docker.sock"


def lab(*words, **environment):
    command = [sys.executable, "-c", "from lab.cli import main; main()", *words]
    path = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DOCKER_HOST": NOWHERE, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=path, timeout=60)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "worker-crsh"], "worker-crash"),
        (["run", "worker-crash", "--set", "task_ack_late=true"], "did you mean task_acks_late?"),
        (["run", "worker-crash", "--broker", "redis-nome"], "redis-none"),
        (["run", "worker-crash", "--broker", "redis-none@1.0"], "8.0"),
        (["run", "worker-crash", "--phase", "asleep"], "reserved, running, finished"),
        (["run", "worker-crash", "--victim", "cat"], "whole, child"),
        (["run", "worker-crash", "--victim", "child", "--set", "worker_pool=solo"], "no child process"),
        (["run", "worker-crash", "--set", "worker_prefetch_multiplier=9"], "prefetch: x1, x4"),
        (["run", "worker-crash", *["--set", "task_acks_late=true"] * 2], "twice"),
        (["run", "worker-crash", "--results", "/proc/nothing"], "cannot be written"),
        (["judge", "/nowhere.jsonl"], "cannot be read"),
        (["judge", sys.executable], "cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(words, says, tmp_path):
    if words[0] == "run" and "--results" not in words:
        words = [*words, "--results", str(tmp_path)]
    done = lab(*words)
    assert done.returncode == errors.USAGE, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [["run", "worker-crash"], ["setup"], ["clean"]])
def test_no_engine_is_one_line_and_exit_code_4(words, tmp_path):
    done = lab(*words, *(["--results", str(tmp_path)] if words[0] == "run" else []))
    assert done.returncode == errors.ENVIRONMENT, done.stderr
    assert NOWHERE in done.stderr
    assert "Traceback" not in done.stderr


def test_a_remote_engine_is_refused_unless_asked_for():
    done = lab("clean", DOCKER_HOST="tcp://192.0.2.1:2375")
    assert done.returncode == errors.USAGE
    assert "LAB_ALLOW_REMOTE=1" in done.stderr


def test_doctor_names_what_is_missing_and_how_to_mend_it():
    done = lab("doctor", LAB_NO_INSTALL="1")
    assert done.returncode == errors.ENVIRONMENT
    assert "lacks no engine answers" in done.stdout
    assert "start Docker" in done.stdout


def test_an_address_that_is_none_is_told():
    done = lab("clean", DOCKER_HOST="bogus")
    assert done.returncode == errors.USAGE
    assert "no address of an engine" in done.stderr


def test_list_names_scenarios_axes_and_profiles():
    done = lab("list")
    assert done.returncode == 0
    for word in ("worker-crash", "reserved, running, finished", "redis-none", "rabbitmq-quorum"):
        assert word in done.stdout


class Result:
    def __init__(self, status):
        self.status = status


@pytest.mark.parametrize(
    ("statuses", "broken", "code"),
    [
        ([Status.EXPECTED], None, 0),
        ([], None, 0),
        ([Status.EXPECTED, Status.INCONCLUSIVE], None, 3),
        ([Status.INCONCLUSIVE, Status.SURPRISE], None, 1),
        ([Status.SURPRISE], CleanupFailed("x"), 1),
        ([Status.EXPECTED], CleanupFailed("x"), 5),
        ([Status.INCONCLUSIVE], NoEngine("x"), 4),
        ([Status.SURPRISE], Interrupted("x"), 130),
    ],
)
def test_a_surprise_outranks_what_is_broken_and_what_is_inconclusive(statuses, broken, code):
    assert session.exit_code(statuses, broken) == code


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("driver failed: Bind for 127.0.0.1:6379 failed: port is already allocated", errors.PortTaken),
        ("listen tcp4 127.0.0.1:1: bind: address already in use", errors.PortTaken),
        ("write /var/lib/docker/x: no space left on device", errors.NoSpace),
        ("could not find an available, non-overlapping IPv4 address pool", errors.EnvironmentLacks),
        ("something else", errors.EngineGone),
    ],
)
def test_what_the_engine_refuses_is_told_with_what_to_do(reason, kind):
    response = requests.Response()
    response.status_code = 500
    with pytest.raises(kind) as caught, translated("start a node"):
        raise APIError("500 Server Error", response=response, explanation=reason)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "raised", [requests.ConnectionError("x"), DockerException("x"), ConnectionResetError("x")]
)
def test_an_engine_that_is_gone_is_told_whatever_the_sdk_raises(raised):
    with pytest.raises(errors.EngineGone, match="stopped answering"), translated("start a node"):
        raise raised


def test_a_program_that_fails_is_told_with_its_telling_line():
    with pytest.raises(errors.EnvironmentLacks, match="E: no such package"):
        programs.run(["sh", "-c", "echo start; echo 'E: no such package' >&2; exit 1"], "install it")
    with pytest.raises(errors.NoSpace):
        programs.run(["sh", "-c", "echo 'x: No space left on device' >&2; exit 1"], "install it")
    with pytest.raises(errors.EnvironmentLacks, match="cannot install it"):
        programs.run(["/no/such/program"], "install it")


def test_a_program_that_does_not_end_is_told(monkeypatch):
    monkeypatch.setattr(programs, "LONGEST_SECONDS", 0.05)
    with pytest.raises(errors.EnvironmentLacks, match="did not end"):
        programs.run(["sleep", "5"], "wait")
