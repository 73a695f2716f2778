"""The HTML: whole without a network, every name as text, every colour readable."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lab.judge import Expectation
from lab.report import words
from lab.report.cells import Known
from lab.report.data import build
from lab.report.histories import common_tail, compact
from lab.report.load import load
from lab.report.page import DIAGRAMS, TEXTS, Allowance, overview, render
from lab.report.spacetime import diagram
from lab.report.words import LOOKS

from .story import published, ran, story
from .test_report_texts import HOSTILE
from .trials import history_of, stored, trial

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.sources, self.text = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found[name] for name in ("src", "srcset", "action", "data") if name in found]
        assert not [name for name in found if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def results(tmp_path):
    stored(
        tmp_path / "results",
        trial("lost", acknowledgement="early", phase="running"),
        trial("redelivered", acknowledgement="late", phase="running", number=1),
        trial("lost", expect="once", acknowledgement="late", phase="queued", number=2),
    )
    return tmp_path / "results"


def page_of(results, known=None):
    report = build(load([results]).results, known)
    return render(report, results.parent / "report" / "index.html")


def test_the_page_is_well_formed_and_every_link_within_it_leads_somewhere(results):
    page = Page(page_of(results))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    within = {link[1:] for link in page.links if link.startswith("#")}
    assert within <= set(page.ids)
    assert {"story.redis-none-early-running", "scenario.story", "settings"} <= within


def test_names_that_differ_in_signs_alone_have_each_its_own_place(tmp_path):
    ids = Page(render(build([trial(scenario="a b"), trial(scenario="a/b")]), tmp_path / "index.html")).ids
    assert len(ids) == len(set(ids))


def test_the_page_asks_for_nothing(results):
    text = page_of(results)
    page = Page(text)
    assert page.sources == []
    assert "link" not in page.tags
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_histories_are_linked_from_where_the_page_lies(results):
    raw = [link for link in Page(page_of(results)).links if not link.startswith("#")]
    assert raw
    for link in raw:
        assert (results.parent / "report" / link).resolve().is_file()


def test_the_page_has_the_cell_its_lesson_its_command_and_a_diagram_of_its_task(results):
    text = page_of(results, Known(asks={"story": "Is it lost?"}))
    for part in (
        "Is it lost?",
        "it was acknowledged <span",
        ".venv/bin/lab run story --broker redis-none --only acknowledgement=early --only phase=running",
        'aria-label="Space-time diagram of t: publish, confirmed, deliver, acknowledge, start"',
        "95 % interval 21 to 100 %",
        "broker_heartbeat",
        "celery 5.7.0, kombu 5.7.0",
        "v/7      started",
    ):
        assert part in text, part


def test_a_worker_that_takes_no_work_again_is_marked(tmp_path):
    idle = trial(
        "once", "lab worker-up node=idle", expectation=Expectation({"target": {"once": 1}}, stalled=("idle",))
    )
    (cell,) = build([idle]).cells
    assert ([worker.node for worker in cell.stalled], cell.surprising) == (["idle"], False)
    text = render(build([idle]), tmp_path / "index.html")
    assert "worker idle lives and finished no new task" in text
    assert text.count("a worker is stalled</span>") == 3


def test_hostile_names_are_shown_as_text(tmp_path):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
    expectation = Expectation({"target": {"once": 1}}, bad, bad)
    found = trial("lost", scenario=bad, profile=bad, params={bad: bad}, expectation=expectation)
    found = replace(found, tuned=({"setting": bad, "value": bad, "default": bad, "meaning": bad},))
    found = replace(
        found, settings={bad: bad}, history=f"history/{bad}", provenance={"broker": bad, "worker": bad}
    )
    tasks = tuple(replace(task, task=bad, label=bad) for task in found.judgement.tasks)
    found = replace(found, judgement=replace(found.judgement, tasks=tasks, doubts=(bad,)))
    text = render(build([found], Known(asks={bad: bad}), [bad]), tmp_path / "index.html")
    page = Page(text)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert page.open == []
    (inline,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert json.loads(inline)[0]["profile"] == bad


def test_a_hostile_task_is_text_in_a_diagram():
    told = story("<b>p asked t label=target", "<b>p publish-ok t", "<i>w received t", "<i>w/7 started t")
    svg = str(diagram(told, "t"))
    assert "<b>" not in svg
    assert "&lt;b&gt;p" in svg


def test_a_history_that_is_gone_hides_nothing_else(tmp_path):
    text = render(build([trial("lost")]), tmp_path / "index.html")
    assert "No diagram here" in text
    assert Page(text).open == []


def test_an_unreadable_line_is_told_on_the_page(results):
    text = render(build([trial()], damaged=["line 7 is damaged"]), results / "index.html")
    assert "1 lines of the results could not be read" in text
    assert "line 7 is damaged" in text


def test_three_hundred_cells_stay_below_ten_megabytes_however_long_their_histories(tmp_path):
    def size(cells):
        found = [trial("lost", acknowledgement="early", phase=f"phase-{n}", number=n) for n in range(cells)]
        return len(render(build(found), tmp_path / "index.html").encode())

    each = (size(30) - size(10)) / 20
    assert size(10) + 300 * each + DIAGRAMS + TEXTS < 10_000_000


def test_what_does_not_fit_is_left_out_and_smaller_things_still_fit():
    room = Allowance(10)
    assert [room.admit(text) for text in ("12345678", "12345", "12")] == [True, False, True]


def test_the_overview_shows_the_worst_of_each_scenario_by_profile_and_acknowledgement():
    results = [
        trial("lost", acknowledgement="early", phase="a"),
        trial("once", acknowledgement="early", phase="b"),
        trial("once", acknowledgement="late", phase="a"),
        trial("once", scenario="two", acknowledgement="early"),
        trial("once", scenario="two", acknowledgement="late"),
        trial("once", scenario="two", acknowledgement="late+reject"),
    ]
    found = overview(build(results))
    assert found.columns == (("redis-none", "early"), ("redis-none", "late"), ("redis-none", "other"))
    (_, first), (_, second) = found.rows
    assert [(w.word.value, w.k, w.n) if w else None for w in first] == [("lost", 1, 2), ("safe", 1, 1), None]
    assert [w.word.value for w in second] == ["safe", "safe", "safe"]


# --- diagrams and histories ---------------------------------------------------------------------


def words_of(svg):
    return re.findall(r"<text class=\"[ewn]\"[^>]*>([^<]*)</text>", str(svg))


def test_a_diagram_shows_who_did_what_the_fault_and_the_redelivery():
    svg = diagram(history_of("redelivered"), "t")
    shown = words_of(svg)
    assert [shown[0], *[name for name in shown if name in ("broker", "v", "w")]] == [
        "publisher",
        "broker",
        "v",
        "w",
    ]
    for word in (
        "publish",
        "confirmed",
        "deliver",
        "start",
        "kill landed",
        "redeliver",
        "finish",
        "acknowledge",
    ):
        assert any(word in text for text in shown), word
    assert str(svg).count('class="f"') == 1
    assert str(svg).count('class="r c"') == 1
    assert str(svg).count('class="r"') == 1


def test_a_fault_that_was_undone_ends_where_it_was_healed():
    cut = ("lab landed fault=cut node=w", "lab healed fault=cut node=w", *ran("t"))
    assert "cut undone" in words_of(diagram(story(*published("t"), *cut), "t"))


def test_a_killed_child_is_a_moment_and_not_the_end_of_its_node():
    told = story(
        *published("t"), "v received t", "v/7 started t", "lab landed fault=kill node=v pid=7", "v failed t"
    )
    assert "kill child 7 landed" in words_of(diagram(told, "t"))
    assert 'height="2.0"' in str(diagram(told, "t"))


def test_a_signal_is_a_moment():
    told = story(*published("t"), "w received t", "lab landed fault=SIGTERM node=w", "w/7 started t")
    assert 'height="2.0"' in str(diagram(told, "t"))


def test_true_time_runs_downwards():
    svg = str(diagram(history_of("redelivered"), "t"))
    for column in {x for x, _ in re.findall(r'<circle class="d" cx="(\d+)" cy="([\d.]+)"', svg)}:
        ys = [
            float(y) for x, y in re.findall(r'<circle class="d" cx="(\d+)" cy="([\d.]+)"', svg) if x == column
        ]
        assert ys == sorted(ys)


def test_lost_connections_and_ends_of_nodes_are_shown():
    told = story(
        *published("t"), "w received t", "w disconnected", "lab exited node=w code=1", "w/7 started t"
    )
    shown = " ".join(words_of(diagram(told, "t")))
    assert "connection lost" in shown
    assert "exits, code 1" in shown


def test_of_a_task_that_nobody_knows_nothing_is_drawn():
    assert diagram(history_of("once"), "nobody") == ""


def test_a_history_is_one_line_for_each_event_and_says_everything():
    text = compact(story("publisher asked t-1-x label=target", "lab landed s-2-x fault=kill\x1b"))
    assert text.splitlines() == [
        "tasks end in -x",
        "   0.000 publisher/1      asked         t-1          label=target",
        "   1.000 lab/1      landed        s-2          fault=kill?",
    ]


@pytest.mark.parametrize(
    ("names", "tail"),
    [([], ""), (["a-1"], ""), (["a-1-x", "b-2-x"], "-x"), (["a", "b"], ""), (["a-x", "a-x"], "")],
)
def test_what_all_tasks_end_in_is_said_once(names, tail):
    assert common_tail(names) == tail


# --- colours ------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance of #rrggbb (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_black_on_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("word", LOOKS)
def test_every_word_can_be_read_on_its_colour(word):
    look = LOOKS[word]
    assert contrast(look.text, look.background) >= 4.5


@pytest.mark.parametrize("ink", ["INK", "MUTED", "ACCENT", "ALARM"])
@pytest.mark.parametrize("ground", ["PAPER", "SHADE"])
def test_text_can_be_read_on_the_page(ink, ground):
    assert contrast(getattr(words, ink), getattr(words, ground)) >= 4.5


@pytest.mark.parametrize("mark", ["ACCENT", "ALARM"])
@pytest.mark.parametrize("word", [word for word in LOOKS if word.value != "lost"])
def test_marks_can_be_read_in_every_cell(mark, word):
    assert contrast(getattr(words, mark), LOOKS[word].background) >= 4.5


def test_hostile_text_of_the_other_formats_is_text_here_too(tmp_path):
    found = trial("lost", scenario=HOSTILE, profile=HOSTILE, params={"axis": HOSTILE})
    assert Page(render(build([found]), tmp_path / "index.html")).tags.count("script") == 2
