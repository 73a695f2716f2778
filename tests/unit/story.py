"""Tiny literal histories: ``story("publisher asked t", "w/7 started t")``."""

from __future__ import annotations

from collections import Counter

from lab.history import LAB, Event

FLAGS = {"redelivered", "requeue", "acknowledged", "due", "sent"}


def story(*lines: str) -> list[Event]:
    """Each line is ``node[/pid] event [task] [key=value ...]``; times and numbers follow from the order."""
    numbers: Counter[tuple[str, int]] = Counter()
    events = []
    for at, line in enumerate(lines):
        who, name, *rest = line.split()
        node, _, pid = who.partition("/")
        detail = dict(word.split("=", 1) for word in rest if "=" in word)
        task = next((word for word in rest if "=" not in word), None)
        typed = {key: _typed(key, value) for key, value in detail.items()}
        who_key = (node, int(pid or 1))
        events.append(Event(node, at * 1_000_000_000, who_key[1], numbers[who_key], name, task, typed))
        numbers[who_key] += 1
    return events


def published(task: str, label: str = "target") -> tuple[str, str]:
    return f"publisher asked {task} label={label}", f"publisher publish-ok {task}"


def ran(task: str, worker: str = "w", pid: int = 7, *flags: str) -> tuple[str, ...]:
    words = " ".join(flags)
    return (
        f"{worker} received {task} {words}",
        f"{worker}/{pid} started {task}",
        f"{worker}/{pid} finished {task}",
        f"{worker} acknowledged {task}",
    )


def proved(worker: str = "w", task: str = "s", pid: int = 7, gate: str = "sentinel-1") -> tuple[str, ...]:
    """A worker takes a sentinel, holds it at its gate with all others, and finishes it."""
    return (
        *published(task, "sentinel"),
        f"{worker} received {task}",
        f"{worker}/{pid} started {task}",
        f"{worker}/{pid} held {task} phase={gate}",
        f"{worker}/{pid} passed {task} phase={gate}",
        f"{worker}/{pid} finished {task}",
        f"{worker} acknowledged {task}",
    )


def killed(task: str, phase: str, node: str = "v", pid: int = 0, early: str = "no") -> tuple[str, str, str]:
    about = f"fault=kill node={node} pid={pid}"
    return (
        f"{LAB} reached {task} node={node} phase={phase} acknowledged={early}",
        f"{LAB} inject {task} {about} phase={phase}",
        f"{LAB} landed {task} {about} proof=seen",
    )


def _typed(key: str, value: str) -> str | int | bool:
    if key in FLAGS:
        return value == "yes"
    return int(value) if key in ("pid", "concurrency", "code") else value
