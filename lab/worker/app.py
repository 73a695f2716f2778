"""The Celery application of every node: settings from the environment, one task that does as told."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

from . import gate, probe
from .acts import ACTS
from .events import emit

TASK_NAME = "lab.work"

app = Celery("lab")
app.conf.update(json.loads(os.environ.get("LAB_SETTINGS", "{}")))
app.steps["consumer"].add(probe.Connection)


@app.task(
    bind=True,
    name=TASK_NAME,
    Request=f"{probe.__name__}:ProbedRequest",
    Strategy=f"{probe.__name__}:strategy",
)
def work(self: Any, act: str = "nothing", **about: Any) -> Any:
    """Take as long as the lab wants, then do what the lab published it for."""
    if act != "sentinel":
        gate.hold("running", self.request.id)
    result = ACTS[act](self, **about)
    emit("finished", self.request.id)  # its work is done, whatever becomes of its result and its successors
    gate.hold("returned", self.request.id)
    return result
