"""How fast the lab is, beside the floor: what the engine, the brokers and Celery take by themselves.

    make bench            everything
    make bench ARGS=3     with 3 counted runs of each whole process instead of 5

Every figure is from this one run, so compare them with each other, not with another machine's.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from lab.brokers import Profile
from lab.cell import Cell
from lab.engine.adapter import Engine, NodeSpec
from lab.engine.images import PYTHON_BASE, default_celery, worker_image
from lab.rig import Rig
from lab.stages import Stages

LAB = [sys.executable, "-c", "from lab.cli import main; main()"]
CELL = (
    *("--victim", "whole", "--phase", "running"),
    *("--set", "task_acks_late=true", "--set", "task_reject_on_worker_lost=false"),
    *("--set", "worker_prefetch_multiplier=1"),
)
BOTH = ("run", "worker-crash", "--broker", "redis-none", "--broker", "rabbitmq-classic", "--json")
MEBIBYTE = 1024**2
POLL_SECONDS = 0.05


def main() -> None:
    """Print a table: what was measured, its median, minimum and maximum, and the limit where there is one."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'seconds':<52}{'median':>8}{'min':>8}{'max':>8}{'limit':>8}")
    with an_engine() as engine:
        floor(engine, runs)
    print()
    row("one cell on Redis, whole process", whole_process("redis-none", runs), 3)
    row("one cell on RabbitMQ with its boot, whole process", whole_process("rabbitmq-classic", runs), 8)
    took, peak, trials = everything()
    row(f"{trials} cells of worker-crash on both brokers", [took], 90)
    print(
        f"\n{trials / took * 60:.0f} cells a minute; the lab's process took {peak / MEBIBYTE:.0f} MiB at most"
    )


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


def everything() -> tuple[float, int, int]:
    """Seconds, the peak of the resident memory in bytes, and the number of trials of a whole run."""
    peak = 0
    with tempfile.TemporaryDirectory() as folder, Path(folder, "out").open("w+") as out:
        began = time.monotonic()
        process = subprocess.Popen([*LAB, *BOTH, "--results", folder], stdout=out)
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, seen.memory_info().rss)
            time.sleep(POLL_SECONDS)
        took = time.monotonic() - began
        out.seek(0)
        trials = len(out.readlines())
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}")
    return took, peak, trials


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
