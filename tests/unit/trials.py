"""Small results: ``trial("lost", acknowledgement="early")``, judged from a literal history and stored."""

from __future__ import annotations

from dataclasses import asdict, replace

from lab.history import Backlog
from lab.judge import Expectation, Surprise, judge, verdict_on
from lab.settings import tuned
from lab.store import Store, TrialResult

from .story import killed, proved, published, ran, story

STRUCK = (*published("t"), "v received t", "v/7 started t", *killed("t", "running"))
HISTORIES = {
    "once": (*published("t"), *ran("t")),
    "redelivered": (*STRUCK, *ran("t", "w", 7, "redelivered=yes")),
    "duplicated": (*published("t"), *ran("t"), *ran("t", "w", 8, "redelivered=yes")),
    "lost": (
        *(*published("t"), "v received t", "v acknowledged t", "v/7 started t"),
        *killed("t", "running", early="yes"),
    ),
}
WORKERS = {"v": {"redelivered", "lost"}, "w": HISTORIES.keys()}  # which workers each history has
ACKS = {
    "early": {"task_acks_late": False},
    "late": {"task_acks_late": True},
    "late+reject": {"task_acks_late": True, "task_reject_on_worker_lost": True},
}
DOCUMENTED = Surprise("it says so", "it does not", "the page")


def history_of(outcome, *more):
    up = [f"lab worker-up node={node}" for node in ("v", "w") if outcome in WORKERS[node]]
    return story(*up, *HISTORIES[outcome], *proved(), *more, "lab settled")


def trial(outcome="once", *more, expect=None, **about):
    """One trial of the cell that ``about`` names; as expected, unless ``expect`` is another outcome.

    Words of ``about`` that are no fields of a result are tokens of its axes.
    """
    fields = {name: about.pop(name) for name in list(about) if name in TrialResult.__dataclass_fields__}
    params = fields.pop("params", about)
    expectation = fields.pop("expectation", None) or Expectation(
        {"target": {expect or outcome: 1}}, "it was acknowledged", "celery 5.7.0 worker/request.py"
    )
    judgement = judge(history_of(outcome, *more), Backlog())
    scenario, profile = fields.pop("scenario", "story"), fields.pop("profile", "redis-none")
    base = TrialResult(
        run="r1", number=0, cell=f"{scenario}[{'-'.join([profile, *params.values()])}]", scenario=scenario,
        profile=profile, params=params, settings=ACKS.get(params.get("acknowledgement"), {}), attempt=1,
        status=verdict_on(judgement, expectation), expectation=expectation, judgement=judgement,
        tuned=tuple(asdict(t) for t in tuned({"broker_heartbeat": 2})), seconds=1.5,
        history="history/none.jsonl",
        provenance={
            "at": "2026-01-01T00:00:00+00:00", "broker": "redis 8.0.2", "engine": "20", "kernel": "6",
            "commit": "c", "worker": {"celery": "5.7.0", "kombu": "5.7.0"},
        },
    )  # fmt: skip
    return replace(base, **fields)


def stored(folder, *trials):
    """The same trials, with their histories, in a results folder."""
    store = Store(folder)
    found = []
    for result in trials:
        path = store.history_path(result.run, result.number, result.cell)
        kept = replace(result, history=path)
        outcome = result.judgement.tasks[0].outcome.value if result.judgement.tasks else "once"
        store.save(kept, history_of(outcome if outcome in HISTORIES else "once"), Backlog(), {})
        found.append(kept)
    return found
