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

STDOUT = 1
PIPE_BUF = 4096
LONGEST_TEXT = 300

_node = os.environ.get("LAB_NODE", "unnamed")
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
            "node": _node,
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
    os.write(STDOUT, data)


def _short(value: str | float | bool | None) -> str | float | bool | None:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
