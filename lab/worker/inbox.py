"""Orders of the lab to a node: JSON files that it puts into the container through the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

FOLDER = Path("/opt/lab/inbox")
POLL_SECONDS = 0.005


def orders(prefix: str = "", folder: Path = FOLDER) -> Iterator[Any]:
    """Every order in turn whose name begins like that, for as long as the node lives.

    The last byte of an order is a newline, so a file that is still being written is told from a whole one.
    """
    for number in count():
        path = folder / f"{prefix}{number:06}.json"
        while not (path.exists() and (text := path.read_text()).endswith("\n")):
            time.sleep(POLL_SECONDS)
        yield json.loads(text)
