"""A space-time diagram of one task, as SVG: a column for each node, true time downwards. Pure.

An arrow is drawn at the moment at which its known end was recorded: no time of travel is invented.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lab.evidence import WHOLE_NODE
from lab.history import LAB, NANOSECONDS, Event, in_order
from lab.judge import BROKER

LEFT, TOP, COLUMN, LINE = 56, 34, 200, 13  # pixels: time axis, headings, width of a column, height of a text
SHORTEST, TALLEST, PER_EVENT = 190, 620, 34
NEAR = 7  # pixels: events of one node that are nearer than this share a label
LETTERS = 27  # of a label's line
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)  # seconds between two lines of the time axis
MOST_STEPS = 8

#: Events of a task that a diagram shows, in the words of the reader; what is not here is in the history.
SHOWN: Mapping[str, str] = {
    "asked": "publish",
    "publish-ok": "confirmed",
    "publish-failed": "publish failed",
    "received": "deliver",
    "started": "start",
    "finished": "finish",
    "failed": "fail",
    "acknowledged": "acknowledge",
    "rejected": "reject",
    "retried": "retry",
    "revoked": "revoked",
    "cancelled": "cancelled",
    "returned": "returned",
    "held": "hold",
    "passed": "go on",
    "withheld": "withheld",
}
#: Events of a node that every one of its tasks feels.
OF_NODE: Mapping[str, str] = {
    "disconnected": "connection lost",
    "shutting-down": "shuts down",
    "signalled": "signalled",
    "tripped": "wire cut",
}
TO_BROKER = {"asked", "acknowledged", "rejected"}
FROM_BROKER = {"publish-ok", "received"}
#: Faults that last until they are undone, or to the end; a signal or a closed connection is a moment.
LASTING = {"kill", "stop", "out-of-memory", "cut", "trip", "freeze"}
ENDS = {"finished", "failed", "retried", "cancelled"}


@dataclass(frozen=True, slots=True)
class Band:
    """A fault on a node, from its proof to the proof that it is undone, or to the end."""

    node: str
    since: int
    until: int
    text: str
    undone: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """From nanoseconds to pixels."""

    first: int
    last: int
    height: int

    def y(self, at: int) -> float:
        share = (at - self.first) / max(1, self.last - self.first)
        return round(TOP + 14 + min(1.0, max(0.0, share)) * (self.height - TOP - 28), 1)


def diagram(history: Sequence[Event], task: str) -> Markup:
    """The diagram of one task; empty where nothing is known of it."""
    own = [e for e in in_order(history) if e.task == task and e.node != LAB and e.name in SHOWN]
    if not own:
        return Markup("")
    first = own[0].at
    bands = _bands(history, max(e.at for e in own))
    last = max([own[-1].at, *(band.until for band in bands), *(band.since for band in bands)])
    about = _of_nodes(history, first, last)
    nodes = _nodes(own, bands)
    shown = in_order([*own, *(e for e in about if e.node in nodes)])
    busiest = max(sum(e.node == node for e in shown) for node in nodes)
    scale = Scale(first, last, min(TALLEST, max(SHORTEST, TOP + PER_EVENT * busiest)))
    columns = {node: LEFT + COLUMN * index + 14 for index, node in enumerate(nodes)}
    labels, bottom = _labels(shown, bands, columns, scale)
    width, height = LEFT + COLUMN * len(nodes), max(scale.height, int(bottom) + 8)
    return Markup(
        '<svg class="st" role="img" viewBox="0 0 {w} {h}" style="max-width:{w}px" aria-label="{label}">'
        "{body}</svg>"
    ).format(
        w=width,
        h=height,
        label=f"Space-time diagram of {task}: " + ", ".join(_words(e, shown) for e in own),
        body=Markup("").join(
            [
                *_axis(scale, width),
                *_bars(bands, columns, scale),
                *_lanes(columns, height),
                *_runs(own, bands, columns, scale),
                *_arrows(own, columns, scale),
                *labels,
            ]
        ),
    )


def _bands(history: Iterable[Event], end: int) -> list[Band]:
    """Every fault that landed. A killed child leaves its node alive: that is a moment, not a band."""
    found = []
    own = [event for event in history if event.node == LAB]
    for landed in (event for event in own if event.name == "landed"):
        fault, node = landed.detail.get("fault"), str(landed.detail.get("node"))
        undone = (
            e.at
            for e in own
            if e.name == "healed"
            and (e.detail.get("fault"), str(e.detail.get("node"))) == (fault, node)
            and e.at > landed.at
        )
        until = min(undone, default=None)
        child = landed.detail.get("pid") not in (None, WHOLE_NODE)
        text = f"{fault} child {landed.detail.get('pid')}" if child else str(fault)
        last = max(end, landed.at) if fault in LASTING and not child else landed.at
        found.append(Band(node, landed.at, until or last, text, until is not None))
    return found


def _of_nodes(history: Iterable[Event], first: int, last: int) -> list[Event]:
    """What a node met as a whole while the task was under way, and when it ended."""
    found = []
    for event in history:
        if not first <= event.at <= last:
            continue
        if event.name in OF_NODE:
            found.append(event)
        elif event.node == LAB and event.name == "exited":
            node = str(event.detail.get("node"))
            found.append(Event(node, event.at, event.pid, event.seq, "exited", None, event.detail))
    return found


def _nodes(own: Iterable[Event], bands: Iterable[Band]) -> list[str]:
    """Columns: who published, the broker, then everyone else in order of appearance."""
    seen = dict.fromkeys(event.node for event in own)
    publishers = {event.node for event in own if event.name == "asked"}
    struck = dict.fromkeys(band.node for band in bands)
    others = [n for n in dict.fromkeys([*seen, *struck]) if n not in publishers and n != BROKER]
    return [*(n for n in seen if n in publishers and n != BROKER), BROKER, *others]


def _words(event: Event, history: Iterable[Event]) -> str:
    if event.name == "received":
        earlier = any(e.name == "received" and e.task == event.task and e.at < event.at for e in history)
        return "redeliver" if earlier or event.detail.get("redelivered") else "deliver"
    if event.name == "rejected" and event.detail.get("requeue"):
        return "give back"
    if event.name == "held":
        return f"hold ({event.detail.get('phase')})"
    if event.name == "exited":
        return f"exits, code {event.detail.get('code')}"
    return SHOWN.get(event.name) or OF_NODE[event.name]


# --- drawing ------------------------------------------------------------------------------------


def _axis(scale: Scale, width: int) -> Iterator[Markup]:
    seconds = (scale.last - scale.first) / NANOSECONDS
    step = next((s for s in STEPS if seconds / s <= MOST_STEPS), STEPS[-1])
    for index in range(int(seconds / step) + 1):
        y = scale.y(scale.first + int(index * step * NANOSECONDS))
        yield Markup(
            '<path class="g" d="M{x} {y}H{w}"/><text class="t" x="{tx}" y="{ty}">{text}</text>'
        ).format(x=LEFT - 6, y=y, w=width, tx=LEFT - 10, ty=y + 4, text=f"{index * step:g} s")


def _bars(bands: Iterable[Band], columns: Mapping[str, int], scale: Scale) -> Iterator[Markup]:
    for band in bands:
        top = scale.y(band.since)
        height = max(2.0, round(scale.y(band.until) - top, 1))
        yield Markup('<rect class="f" x="{x}" y="{y}" width="{w}" height="{h}"/>').format(
            x=columns[band.node] - 10, y=top, w=COLUMN - 8, h=height
        )


def _lanes(columns: Mapping[str, int], height: int) -> Iterator[Markup]:
    for node, x in columns.items():
        yield Markup('<text class="n" x="{x}" y="16">{node}</text><path class="l" d="M{x} {y}V{h}"/>').format(
            x=x, node=textwrap.shorten(node, LETTERS, placeholder="…"), y=TOP - 8, h=height - 4
        )


def _runs(
    own: Sequence[Event], bands: Sequence[Band], columns: Mapping[str, int], scale: Scale
) -> Iterator[Markup]:
    """A thick line for each run; it ends where the process finished, or where a fault took it."""
    for start in (event for event in own if event.name == "started"):
        ends = [e.at for e in own if (e.node, e.pid) == (start.node, start.pid) and e.name in ENDS]
        struck = [band.since for band in bands if band.node == start.node]
        until = min((at for at in ends if at >= start.at), default=None)
        cut = until is None
        if until is None:
            until = min((at for at in struck if at >= start.at), default=scale.last)
        yield Markup('<path class="r{cut}" d="M{x} {y}V{h}"/>').format(
            cut=" c" if cut else "", x=columns[start.node], y=scale.y(start.at), h=scale.y(until)
        )


def _arrows(own: Iterable[Event], columns: Mapping[str, int], scale: Scale) -> Iterator[Markup]:
    for event in own:
        if event.name not in TO_BROKER | FROM_BROKER:
            continue
        near, far = columns[event.node], columns[BROKER]
        start, end = (near, far) if event.name in TO_BROKER else (far, near)
        y, head = scale.y(event.at), 5 if start < end else -5
        yield Markup('<path class="a" d="M{x} {y}H{e}m{b} -3l{h} 3l{b} 3"/>').format(
            x=start, y=y, e=end, h=head, b=-head
        )


def _labels(
    shown: Sequence[Event], bands: Sequence[Band], columns: Mapping[str, int], scale: Scale
) -> tuple[list[Markup], float]:
    """Every event as a dot at its true time; its words beside it, pushed down where they would overlap."""
    found: list[Markup] = []
    bottom = 0.0
    for node, x in columns.items():
        words = [(scale.y(e.at), _words(e, shown), "d") for e in shown if e.node == node]
        words += [(scale.y(b.since), f"{b.text} landed", "x") for b in bands if b.node == node]
        words += [(scale.y(b.until), f"{b.text} undone", "x") for b in bands if b.node == node and b.undone]
        free, below = 0.0, LINE - 2 if x < columns[BROKER] else 4  # arrows leave a publisher to the right
        for y, texts, kind in _grouped(sorted(words, key=lambda word: word[0])):
            found.append(Markup('<circle class="{k}" cx="{x}" cy="{y}" r="3"/>').format(k=kind, x=x, y=y))
            lines = textwrap.wrap(", ".join(texts), LETTERS)
            top = max(y + below, free)
            if top > y + below + 2:
                found.append(
                    Markup('<path class="p" d="M{x} {y}L{e} {t}"/>').format(x=x, y=y, e=x + 8, t=top - 4)
                )
            for index, text in enumerate(lines):
                found.append(
                    Markup('<text class="{k}" x="{x}" y="{y}">{text}</text>').format(
                        k="w" if kind == "x" else "e", x=x + 10, y=round(top + index * LINE, 1), text=text
                    )
                )
            free = top + len(lines) * LINE
        bottom = max(bottom, free)
    return found, bottom


def _grouped(words: Iterable[tuple[float, str, str]]) -> Iterator[tuple[float, list[str], str]]:
    group: tuple[float, list[str], str] | None = None
    for y, text, kind in words:
        if group and kind == group[2] and y - group[0] < NEAR:
            group[1].append(text)
            continue
        if group:
            yield group
        group = (y, [text], kind)
    if group:
        yield group
