"""How fast the lab is, beside the floor: what the engine, the brokers and Celery take by themselves.

    make bench                      everything
    make bench ARGS="--runs 3"      with 3 counted runs of each whole process instead of 5
    make bench ARGS="--shard 1/2"   with half of the core grid instead of a twelfth

Every figure is from this one run, so compare them with each other, not with another machine's.
"""

from __future__ import annotations

import gc
import json
import resource
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from lab.brokers import Profile
from lab.cell import Cell
from lab.engine.adapter import Engine
from lab.engine.images import PYTHON_BASE, default_celery, worker_image
from lab.engine.node import NodeSpec
from lab.errors import INCONCLUSIVE, OK
from lab.history import Backlog, Event
from lab.judge import Status, judge
from lab.rig import Rig
from lab.stages import Stages

LAB = [sys.executable, "-c", "from lab.cli import main; main()"]
CELL = (
    *("--victim", "whole", "--phase", "running"),
    *("--set", "task_acks_late=true", "--set", "task_reject_on_worker_lost=false"),
    *("--set", "worker_prefetch_multiplier=1"),
)
BOTH = ("--broker", "redis-none", "--broker", "rabbitmq-classic", "--json")
IMPOSED = ("imposed", "passed-by")
MEBIBYTE = 1024**2
MILLION, TASKS = 1_000_000, 100_000
LONGEST_SECONDS = 900.0
STEPS = (
    ("publisher", 1, "asked", {"label": "target"}),
    ("publisher", 1, "publish-ok", {}),
    ("w", 1, "received", {"redelivered": False}),
    ("w", 7, "started", {}),
    ("w", 7, "finished", {}),
)
POLL_SECONDS = 0.05


def main() -> None:
    """Print a table: what was measured, its median, minimum and maximum, and the limit where there is one."""
    parser = ArgumentParser(description="How fast the lab is, beside the floor.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shard", default="1/12")
    given = parser.parse_args()
    runs = given.runs
    print(f"{'seconds':<52}{'median':>8}{'min':>8}{'max':>8}{'limit':>8}")
    with an_engine() as engine:
        floor(engine, runs)
    print()
    row("one cell on Redis, whole process", whole_process("redis-none", runs), 3)
    row("one cell on RabbitMQ with its boot, whole process", whole_process("rabbitmq-classic", runs), 8)
    with tempfile.TemporaryDirectory() as folder:
        took, peak = whole_run("run", "worker-crash", *BOTH, folder=folder)
        ended = results(folder)
        row(f"{len(ended)} cells of worker-crash on both brokers", [took], 90)
        print(f"    {pace(ended, took)}; {peak:.0f} MiB at most\n")
    with tempfile.TemporaryDirectory() as folder:
        took, peak = whole_run("matrix", "--shard", given.shard, folder=folder)
        ended = results(folder)
        row(f"{len(ended)} cells: shard {given.shard} of the core grid", [took], len(ended) / 40 * 60)
        print(f"    {pace(ended, took)}; {imposed(folder)}; {peak:.0f} MiB at most\n")
    row("1,000,000 events judged", [judged()], 5)
    with an_engine() as engine:
        many_tasks(engine, TASKS)


def floor(engine: Engine, runs: int) -> None:
    network = engine.create_network(f"lab-{engine.run}-bench")
    row("floor: start of Python with the lab's imports", [timed(lambda: lab("--help")) for _ in range(runs)])
    row("floor: a bare container, start to exit", [timed(lambda: bare(engine, network)) for _ in range(runs)])
    for name in ("redis-none", "rabbitmq-classic"):
        row(f"floor: {name}, start to first answer", [boot(engine, name) for _ in range(runs)])
    image = worker_image(default_celery())
    stages = Stages(engine, image, threading.Event())
    profile = Profile.load("redis-none")
    stage = stages.boot(profile).result()
    times = []
    for _ in range(runs):
        rig = Rig(stage, Cell("bench", profile.label), profile, image, threading.Event())
        rig.begin()
        rig.publish("target")  # the publisher is up: only the worker is timed
        times.append(timed(lambda rig=rig: rig.worker("w")))
        rig.close()
    row("floor: a Celery worker, start to ready", times)
    stages.close()


def bare(engine: Engine, network: str) -> None:
    tag = secrets.token_hex(3)
    node = engine.start(NodeSpec(f"lab-{engine.run}-{tag}", PYTHON_BASE, ("true",), network, tag))
    list(node.follow())
    node.remove()


def boot(engine: Engine, profile: str) -> float:
    """Seconds from nothing to a broker that answers a client, with its network."""
    stages = Stages(engine, worker_image(default_celery()), threading.Event())
    began = time.monotonic()
    stage = stages.boot(Profile.load(profile)).result()
    took = time.monotonic() - began
    stages.close()
    stage.broker.node.remove()
    engine.remove_network(stage.ground.network)
    return took


def whole_process(profile: str, runs: int) -> list[float]:
    """A warm-up, then the counted runs."""
    times = [timed(lambda: lab("run", "worker-crash", "--broker", profile, *CELL)) for _ in range(runs + 1)]
    return times[1:]


def whole_run(*words: str, folder: str) -> tuple[float, float]:
    """Seconds of a whole run, and the peak of its resident memory in MiB."""
    peak = 0
    began = time.monotonic()
    process = subprocess.Popen([*LAB, *words, "--results", folder], stdout=subprocess.DEVNULL)
    seen = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, seen.memory_info().rss)
        time.sleep(POLL_SECONDS)
    if process.returncode not in (OK, INCONCLUSIVE):
        raise SystemExit(f"lab {' '.join(words)} ended with {process.returncode}")
    return time.monotonic() - began, peak / MEBIBYTE


def results(folder: str) -> list[dict[str, Any]]:
    """The last attempt of every trial."""
    stored = map(json.loads, Path(folder, "trials.jsonl").read_text().splitlines())
    return list({result["number"]: result for result in stored}.values())


def pace(ended: list[dict[str, Any]], took: float) -> str:
    expected = sum(result["status"] == Status.EXPECTED for result in ended)
    return f"{len(ended) / took * 60:.0f} cells a minute, {expected} as expected"


def imposed(folder: str) -> str:
    """The share of the trials' time that brokers, and the experiments themselves, made them wait."""
    whole = sum(json.loads(line)["seconds"] for line in Path(folder, "trials.jsonl").read_text().splitlines())
    waited = sum(
        event["detail"]["seconds"]
        for path in Path(folder, "history").rglob("*.jsonl")
        for event in map(json.loads, path.read_text().splitlines())
        if event.get("name") in IMPOSED
    )
    return f"{waited / whole:.0%} of the trials' time in imposed waits"


def judged() -> float:
    """Seconds to judge a history of a million events, in memory."""
    history = list(a_million())
    gc.collect()
    return timed(lambda: judge(history, Backlog()))


def a_million() -> Iterator[Event]:
    """Tasks that were published, and ran once each: five events of a task."""
    sequences: dict[tuple[str, int], Iterator[int]] = defaultdict(count)
    for number in range(MILLION // 5):
        task = f"target-{number}"
        for node, pid, name, detail in STEPS:
            at = number * 1000 + len(name)
            yield Event(node, at, pid, next(sequences[node, pid]), name, task, detail)


def many_tasks(engine: Engine, tasks: int) -> None:
    """One trial with so many tasks: published, run, judged."""
    profile = Profile.load("redis-none")
    image = worker_image(default_celery())
    stages = Stages(engine, image, threading.Event())
    rig = Rig(stages.boot(profile).result(), Cell("bench", profile.label), profile, image, threading.Event())
    rig.begin()
    worker = rig.worker("w")
    began = time.monotonic()
    rig.publish("target", tasks, wait=False)
    worker.says("acknowledged", times=tasks, seconds=LONGEST_SECONDS)
    ran = time.monotonic() - began
    rig.settle(LONGEST_SECONDS)
    remains = rig.collect()
    took = timed(lambda: print(f"    {judge(remains.history, remains.backlog).counts()}"))
    row(f"{tasks} tasks in one cell: published and run", [ran])
    row(f"    judged, {len(remains.history)} events", [took])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"    {tasks / ran:.0f} tasks a second; {peak:.0f} MiB at most")
    rig.close()
    stages.close()


def lab(*words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = ["--results", folder] if words[0] == "run" else []
        subprocess.run([*LAB, *words, *more], check=True, capture_output=True)


def timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def row(what: str, times: list[float], limit: float | None = None) -> None:
    bound = f"{limit:>8.0f}" if limit else ""
    print(f"{what:<52}{median(times):>8.2f}{min(times):>8.2f}{max(times):>8.2f}{bound}", flush=True)


@contextmanager
def an_engine() -> Iterator[Engine]:
    engine = Engine(run=f"bench-{secrets.token_hex(3)}")
    try:
        yield engine
    finally:
        engine.remove(engine.leftovers(run=engine.run))
        engine.close()


if __name__ == "__main__":
    main()
