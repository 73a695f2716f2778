"""The witness: one JSON line per event, one ``write(2)`` each, to standard output.

The container engine owns the other end of the pipe, so a line that was written stays readable when
its writer is killed, paused or cut off the network. A line shorter than ``PIPE_BUF`` (4096 bytes on
Linux, pipe(7)) is written whole or not at all.
"""

from __future__ import annotations

import itertools
import json
import os
import time

STDOUT, STDERR = 1, 2
PIPE_BUF = 4096
LONGEST_TEXT = 300

_node = os.environ.get("LAB_NODE")


def _witness_alone() -> int:
    """In a node, what Celery and tasks print goes to standard error: the log has events only.

    Celery says to standard output what it does on a signal (celery 5.7.0 apps/worker.py: safe_say).
    """
    if _node is None:
        return STDOUT
    log = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    return log


_log = _witness_alone()
_sequence = itertools.count()


def _restart_sequence() -> None:
    """Each process numbers its own lines from 0, so that a hole in a log can be seen."""
    global _sequence
    _sequence = itertools.count()


os.register_at_fork(after_in_child=_restart_sequence)


def emit(name: str, task: str | None = None, **detail: str | float | bool | None) -> None:
    """Write one event. Safe in signal handlers and after a fork: it takes no lock."""
    line = json.dumps(
        {
            "node": _node or "unnamed",
            "at": time.time_ns(),
            "pid": os.getpid(),
            "seq": next(_sequence),
            "name": name,
            "task": task,
            "detail": {key: _short(value) for key, value in detail.items()},
        },
        separators=(",", ":"),
    )
    data = line.encode() + b"\n"
    if len(data) > PIPE_BUF:
        raise ValueError(f"event {name!r} has {len(data)} bytes: a pipe may split it")
    os.write(_log, data)


def _short(value: str | float | bool | None) -> str | float | bool | None:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
