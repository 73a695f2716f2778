"""Beat ends and starts again: what of the ticks that were due meanwhile, and of the one before.

In production: an eviction or an out-of-memory kill of the only beat, or a deployment; its schedule file is
on a disk that comes back with it, or in a container that does not.
"""

from lab import Axis, Cell, Expectation, Rig, Surprise, kill, scenario, send_signal

HOUR, SHORT = 3600.0, 2.0  # seconds, of a period: no outage outlasts the one, and some the other
DUE_MEANWHILE = 2
FIRST = 1.0  # seconds until the first tick, as if beat had run for the rest of its period already

SYNC = {"beat_sync_every": 1}
FILE = Axis(
    "file",
    {"kept": {}, "kept+sync": SYNC, "berkeley+sync": SYNC, "lost": SYNC},
    core=("kept", "berkeley+sync", "lost"),
)
END = Axis.of("end", "killed", "killed+long", "stopped")


@scenario(
    "beat-crash",
    asks="Beat ends and starts again. Are ticks of its schedule missed, or sent twice?",
    vary=[FILE, END],
)
def beat_crash(rig: Rig) -> None:
    file, end = rig.cell.params["file"], rig.cell.params["end"]
    every = SHORT if end == "killed+long" else HOUR
    shelf = "ndbm" if file == "berkeley+sync" else "dumb"
    worker = rig.worker("worker")
    folder = rig.folder("schedule")
    beat = rig.beat("beat", every=every, first=FIRST, ticks=1, folder=folder, shelf=shelf)
    beat.says("publish-ok")
    beat.says("synced", times=2 if file == "kept" else 3)
    if end == "stopped":
        rig.inject(send_signal(beat, "SIGTERM"))
        beat.exits()
    else:
        rig.inject(kill(beat))
    if end == "killed+long":
        [clock] = rig.publish("clock", countdown=(DUE_MEANWHILE + 0.2) * every)
        worker.says("finished", clock)
    again = rig.beat("again", every=every, folder=None if file == "lost" else folder, shelf=shelf)
    again.says("waits")
    rig.settle()


@beat_crash.cannot
def cannot(cell: Cell) -> str | None:
    if cell.params["end"] == "stopped" and cell.params["file"] == "kept+sync":
        return "a beat that is stopped writes its file anyway, synced before or not"
    if cell.params["end"] == "stopped" and cell.params["file"] == "lost":
        return "a file that is lost is lost however its beat ended"
    return None


@beat_crash.expects
def expected(cell: Cell) -> Expectation:
    """Beat counts a period from the last run that its file knows of; what it missed, it sends once."""
    file, end = cell.params["file"], cell.params["end"]
    known = end == "stopped" or file == "kept+sync"
    at_once = file == "kept" if end == "killed" else file in ("kept", "kept+sync") and end == "killed+long"
    long = end == "killed+long"
    outcomes = {"target": {"once": 1 + at_once}} | ({"clock": {"once": 1}} if long else {})
    facts = {
        "sent": "again 1, beat 1" if at_once else "beat 1",
        "remembered": f"again {int(known)} of 1",
    }
    return Expectation(
        outcomes=outcomes,
        because=why(file, end, known=known),
        source="celery 5.7.0 beat.py: Scheduler.should_sync, sync_every, ScheduleEntry.__init__, "
        "Service.start; apps/beat.py: install_sync_handler; cpython 3.11 shelve.py: Shelf.sync",
        facts=facts | ({"exits": "beat 0"} if end == "stopped" else {}),
        surprise=surprise_of(file, end),
    )


def why(file: str, end: str, *, known: bool) -> str:
    """What the file held, and what followed from it."""
    if file == "lost":
        return "without its file beat counts a period from its start, and makes up for nothing"
    if file == "berkeley+sync" and not known:
        return "its sync wrote nothing: beat counts a period from its start, and makes up for nothing"
    if known and end == "killed+long":
        return f"{DUE_MEANWHILE} ticks were due meanwhile: beat sends one at once, and no more of them"
    if known:
        return "the last tick was in the file, so beat waits for the rest of the period"
    if end == "killed":
        return "the file was older than the last tick, so that tick was due still: it is sent twice"
    return "the file was older than the last tick; one is sent at once for all that were due"


def surprise_of(file: str, end: str) -> Surprise | None:
    """Where the file does not hold what it is said to hold."""
    if end == "stopped":
        return None
    if file == "berkeley+sync":
        return NEVER_WRITTEN
    return WRITTEN_LATE if (file, end) == ("kept", "killed") else None


WRITTEN_LATE = Surprise(
    documented="beat stores the last run times of the tasks in its schedule file",
    observed="by default every three minutes: a beat that is killed has forgotten the runs since, and sends "
    "at once what it had just sent; beat_sync_every=1 writes after each",
    source="docs.celeryq.dev, Periodic Tasks: Starting the Scheduler; celery 5.7.0 beat.py: sync_every",
)
NEVER_WRITTEN = Surprise(
    documented="with beat_sync_every=1 beat syncs its schedule file after every task that it sent",
    observed="where shelve opens Berkeley DB, as with Debian's python3 without python3-gdbm, sync writes "
    "nothing: the file stays empty until beat ends in good order, and a killed beat has forgotten everything",
    source="docs.celeryq.dev, Configuration: beat_sync_every; cpython 3.11 shelve.py: Shelf.sync calls "
    "the sync of the database where it has one, and dbm.ndbm has none",
)
