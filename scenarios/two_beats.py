"""Two beats run the same schedule: every tick of it is sent twice.

In production: a Deployment of beat with two replicas, or a rolling update that starts the new pod before
the old one has ended; a pidfile on a shared disk that is meant to forbid it.
"""

from lab import SHARED, Axis, Cell, Expectation, Rig, Surprise, scenario

EVERY = 2.0
TICKS = 2
PIDFILE = ("--pidfile", f"{SHARED}/beat.pid")

FILES = Axis.of("files", "own", "shared", "shared+pidfile")


@scenario(
    "two-beats",
    asks="Two beats run the same schedule. Is every tick sent twice, and does a shared file prevent it?",
    vary=[FILES],
)
def two_beats(rig: Rig) -> None:
    files = rig.cell.params["files"]
    rig.worker("worker")
    folder = None if files == "own" else rig.folder("schedule")
    options = PIDFILE if files == "shared+pidfile" else ()
    beats = [
        rig.beat(name, every=EVERY, ticks=TICKS, folder=folder, options=options) for name in ("one", "two")
    ]
    for beat in beats:
        beat.says("publish-ok", times=TICKS)
    rig.settle()


@two_beats.expects
def expected(cell: Cell) -> Expectation:
    pidfile = cell.params["files"] == "shared+pidfile"
    return Expectation(
        outcomes={"target": {"once": 2 * TICKS}},
        because="each read its file when it started and counts for itself; each tick is a task of its own"
        + ("; a pidfile that names its own pid is taken for its own" if pidfile else ""),
        source="celery 5.7.0 beat.py: PersistentScheduler.setup_schedule, Scheduler.tick"
        + ("; platforms.py: Pidfile.remove_if_stale" if pidfile else ""),
        facts={"sent": f"one {TICKS}, two {TICKS}"},
        surprise=PID_1 if pidfile else None,
    )


PID_1 = Surprise(
    documented="with a pidfile a second beat does not start while the first one runs",
    observed="in containers both run: each is process 1 of its own, so the second takes the file for a "
    "stale one that it left itself, and removes it",
    source="docs.celeryq.dev, celery beat --pidfile: the program won't start if the file exists and the pid "
    "is still alive; celery 5.7.0 platforms.py: Pidfile.remove_if_stale",
)
