"""Where images come from, and the day of a Celery's release, in both forms of a package index."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import requests

from lab.brokers.profile import SERVERS, VERSIONS, Profile, names
from lab.engine import images
from lab.errors import EnvironmentLacks, ImageMissing, UsageError

JSON_FORM = json.dumps(
    {
        "files": [
            {"filename": "celery-5.4.0-py3-none-any.whl", "upload-time": "2024-04-17T20:29:41.5Z"},
            {"filename": "celery-5.4.0.tar.gz", "upload-time": "2024-04-17T20:29:43Z"},
            {"filename": "celery-5.4.0rc1-py3-none-any.whl", "upload-time": "2024-01-17T08:00:00Z"},
        ]
    }
)
HTML_FORM = """
<a href="x" data-upload-time="2024-04-17T20:29:41Z">celery-5.4.0-py3-none-any.whl</a><br/>
<a href="y" data-upload-time="2024-04-17T20:29:43Z">celery-5.4.0.tar.gz</a><br/>
<a href="z">celery-0.1.tar.gz</a>
"""


@pytest.fixture
def index(monkeypatch):
    def serve(text, kind):
        answer = requests.Response()
        answer.status_code = 200
        answer._content = text.encode()
        answer.headers["Content-Type"] = kind
        monkeypatch.setattr(images.requests, "get", lambda *a, **k: answer)

    return serve


@pytest.mark.parametrize(
    ("text", "kind"),
    [(JSON_FORM, "application/vnd.pypi.simple.v1+json"), (HTML_FORM, "text/html")],
    ids=["PEP 700", "HTML"],
)
def test_the_day_of_a_release_is_that_of_its_first_file(index, text, kind):
    index(text, kind)
    assert images.release_date("5.4.0").replace(microsecond=0) == datetime(
        2024, 4, 17, 20, 29, 41, tzinfo=UTC
    )


@pytest.mark.parametrize("version", ["5.4.99", "5.4", "0.1"])
def test_a_release_that_is_not_there_or_has_no_day_is_told(index, version):
    index(HTML_FORM, "text/html")
    with pytest.raises(UsageError, match="no Celery"):
        images.release_date(version)


def test_an_index_that_does_not_answer_is_told(monkeypatch):
    def silent(*args, **kwargs):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(images.requests, "get", silent)
    with pytest.raises(EnvironmentLacks, match="does not answer"):
        images.release_date("5.4.0")


def test_every_image_of_every_profile_can_be_built_where_no_registry_answers():
    needed = {Profile.load(f"{n}@{v}").image for n in names() for v in VERSIONS[n.partition("-")[0]]}
    needed |= {Profile.of_server(name).image for name in names(SERVERS)}
    assert needed <= set(images.RECIPES)


def test_the_worker_image_is_named_by_celery_and_by_what_goes_into_it(monkeypatch):
    newest, older = images.worker_image(images.default_celery()), images.worker_image("5.4.0")
    assert newest.startswith(f"celery-lab-worker:{images.default_celery()}-")
    assert older.startswith("celery-lab-worker:5.4.0-")
    monkeypatch.setattr(images, "WORKER_COMMIT", "ENV OTHER=1")
    assert images.worker_image("5.4.0") != older


class Engine:
    """An engine with no images, whose registry refuses."""

    def __init__(self):
        self.asked = []

    def image_id(self, image):
        return None

    def pull(self, image):
        self.asked.append(image)
        raise ImageMissing("toomanyrequests", "")


def test_an_image_that_is_not_here_and_not_to_be_had_is_told(monkeypatch):
    monkeypatch.setenv("LAB_NO_PULL", "1")
    monkeypatch.setenv("LAB_NO_INSTALL", "1")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageMissing, match=r"redis:6\.0 is not here") as caught:
        images.ensure(Engine(), "redis:6.0", lambda text: None)
    assert "make setup" in caught.value.remedy
    with pytest.raises(ImageMissing, match="cannot build kafka:1"):
        images.ensure(Engine(), "kafka:1", lambda text: None)


def test_a_registry_that_refuses_is_no_dead_end(monkeypatch):
    engine, said = Engine(), []
    monkeypatch.setattr(images, "_registry_answers", lambda: True)
    monkeypatch.setattr(images, "_build", lambda engine, image, say: "built")
    images.ensure(engine, "redis:8.0", said.append)
    assert engine.asked == ["redis:8.0"]
    assert "toomanyrequests" in said
    assert said[-1].startswith("built redis:8.0 in ")
