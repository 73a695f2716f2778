"""The Celery application of every node: settings from the environment, one task that holds."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

from . import gate, probe

TASK_NAME = "lab.work"

app = Celery("lab")
app.conf.update(json.loads(os.environ.get("LAB_SETTINGS", "{}")))


@app.task(
    bind=True,
    name=TASK_NAME,
    Request=f"{probe.__name__}:ProbedRequest",
    Strategy=f"{probe.__name__}:strategy",
)
def work(self: Any) -> None:
    """Do nothing, and if the lab says so, take as long over it as the lab wants."""
    gate.hold("running", self.request.id)
