"""Orders of the lab to a node: one JSON object a line, through the engine, on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def orders(trial: str | None = None, lines: Iterable[str] = sys.stdin) -> Iterator[Any]:
    """Every order in turn that is about this trial; without one, every order that is about none.

    A publisher that was killed may have read a part of a line: what is left of it is no order.
    """
    for line in lines:
        try:
            order = json.loads(line)
        except ValueError:
            continue
        if order.get("trial") == trial:
            yield order
