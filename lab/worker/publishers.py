"""Publishers one after another: each trial has a process of its own, forked where all is imported already.

An order names a trial to ``begin``, and its ``settings``. The process that it gets serves the orders that
are about that ``trial`` (:mod:`worker.publisher`). On SIGUSR1 it is killed; whichever way it ended, that is
announced, and the next trial may come.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import kombu.transport.pyamqp
import kombu.transport.redis  # noqa: F401 - what every publisher needs, imported once

from .events import emit
from .inbox import orders


def begin(order: dict[str, Any]) -> None:
    """Be the publisher of one trial, from a state as fresh as that of a new interpreter."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    print(f'begun "{order["begin"]}"', file=sys.stderr, flush=True)
    emit("begun", trial=order["begin"])
    os.environ["LAB_SETTINGS"] = json.dumps(order["settings"])
    from . import publisher  # here: the application reads its settings when it is imported

    publisher.main(order["begin"])


def main() -> None:
    """Serve one trial after another until killed."""
    children: list[int] = []

    def end(*_: object) -> None:
        with suppress(ProcessLookupError):  # it may end by itself in this very moment
            os.kill(children[-1], signal.SIGKILL)

    signal.signal(signal.SIGUSR1, end)
    for order in orders():
        child = os.fork()
        if child == 0:
            begin(order)
            os._exit(0)
        children.append(child)
        os.waitpid(child, 0)
        emit("ended", trial=order["begin"])


if __name__ == "__main__":
    main()
