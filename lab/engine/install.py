"""Finds an engine, and where none answers on Debian or Ubuntu as root, installs and starts one."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from lab.engine.adapter import Engine, endpoint
from lab.engine.programs import OPT_OUT, Say, apt_install, can_install, run
from lab.errors import NoEngine

SYSTEMD = Path("/run/systemd/system")
DAEMON_LOG = Path("/var/log/celery-lab-dockerd.log")
START_SECONDS = 60.0
POLL_SECONDS = 0.1


def find_or_start(run: str, say: Say) -> Engine:
    """The engine, started and before that installed where this is allowed and needed.

    Raises :class:`NoEngine` with what to do where the lab cannot or may not do it.
    """
    allow_remote = bool(os.environ.get("LAB_ALLOW_REMOTE"))
    try:
        return Engine(run=run, allow_remote=allow_remote)
    except NoEngine as error:
        _may_install(error)
    started = time.monotonic()
    say(f"no engine answers at {endpoint()}")
    apt_install(["docker.io", "iptables"], "dockerd", say)
    say("starting dockerd")
    _start()
    while True:
        try:
            engine = Engine(run=run, allow_remote=allow_remote)
        except NoEngine:
            if time.monotonic() - started > START_SECONDS:
                raise NoEngine("dockerd was started and does not answer", f"read {DAEMON_LOG}") from None
            time.sleep(POLL_SECONDS)
        else:
            say(f"dockerd {engine.version} answers after {time.monotonic() - started:.0f} s")
            return engine


def _may_install(error: NoEngine) -> None:
    if "DOCKER_HOST" in os.environ:
        raise NoEngine(error.wrong, "DOCKER_HOST names it: start it, or unset DOCKER_HOST") from error
    if os.environ.get(OPT_OUT):
        raise NoEngine(error.wrong, f"start Docker, or unset {OPT_OUT} to let the lab do it") from error
    if not can_install():
        raise NoEngine(error.wrong, "start Docker (on Debian or Ubuntu as root the lab does it)") from error


def _start() -> None:
    if SYSTEMD.exists():
        run(["systemctl", "start", "docker"], "start docker")
        return
    with DAEMON_LOG.open("ab") as log:
        subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the lab, and holds none of its output open
        )
