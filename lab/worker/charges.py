"""A task that charges a card, with and without a guard against doing so twice.

A guard looks first, and charges only what is new. Between the two, at the gate *charging*, the lab may
hold the task. What is charged is known by the id of the task, which stays the same when the broker
delivers it again (celery 5.7.0 ``worker/request.py``: Request.id is that of the message).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from . import gate


def charge(task: Any, guard: str) -> None:
    """Charge a card once, or as often as the guard lets it."""
    from pg8000.native import Connection  # other tasks need not wait for it

    with Connection(**json.loads(os.environ["LAB_LEDGER"])) as ledger:
        GUARDS[guard](ledger, task.request.id)


def _none(ledger: Any, order: str) -> None:
    _pay(ledger, order)


def _check_then_act(ledger: Any, order: str) -> None:
    if not ledger.run("SELECT id FROM charges WHERE task = :task", task=order):
        _pay(ledger, order)


def _key(ledger: Any, order: str) -> None:
    """The key and the charge are committed together, or neither is."""
    ledger.run("BEGIN")
    if _is_new(ledger, order):
        _pay(ledger, order)
    ledger.run("COMMIT")


def _key_first(ledger: Any, order: str) -> None:
    """The key is committed by itself: outside of a transaction each statement is one of its own."""
    if _is_new(ledger, order):
        _pay(ledger, order)


def _is_new(ledger: Any, order: str) -> bool:
    insert = "INSERT INTO keys (task) VALUES (:task) ON CONFLICT DO NOTHING RETURNING task"
    return bool(ledger.run(insert, task=order))


def _pay(ledger: Any, order: str) -> None:
    gate.hold("charging", order)
    ledger.run("INSERT INTO charges (task) VALUES (:task)", task=order)


GUARDS: Mapping[str, Callable[[Any, str], None]] = {
    "none": _none,
    "check-then-act": _check_then_act,
    "key": _key,
    "key-first": _key_first,
}
