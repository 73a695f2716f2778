"""Orders of the lab to a node: one JSON object a line, through the engine, on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def orders(trial: str | None = None, lines: Iterable[str] = sys.stdin) -> Iterator[Any]:
    """Every order in turn that is about this trial; without one, every order that is about none."""
    for line in lines:
        order = json.loads(line)
        if order.get("trial") == trial:
            yield order
