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
from importlib import import_module
from typing import Any


class Current:
    """The process of the trial that has this container, and whether it is to be ended."""

    pid = 0
    unwanted = False

    @classmethod
    def end(cls, *_: object) -> None:
        """Kill it, or see to it that it is killed as soon as it is there."""
        cls.unwanted = True
        if cls.pid:
            with suppress(ProcessLookupError):  # it may end by itself in this very moment
                os.kill(cls.pid, signal.SIGKILL)


signal.signal(signal.SIGUSR1, Current.end)  # before the imports, which take their time

for needed in ("celery.backends.redis", "kombu.transport.pyamqp", "kombu.transport.redis"):
    import_module(needed)

from . import acts, probe  # noqa: E402, F401 - with most of Celery
from .events import emit  # noqa: E402
from .inbox import orders  # noqa: E402


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
    for order in orders():
        child = os.fork()
        if child == 0:
            begin(order)
            os._exit(0)
        Current.pid = child
        if Current.unwanted:
            Current.end()
        os.waitpid(child, 0)
        Current.pid, Current.unwanted = 0, False
        emit("ended", trial=order["begin"])


if __name__ == "__main__":
    main()
