"""Celery's names, Celery's types; a wrong one is told with the right one."""

from __future__ import annotations

import pytest

from lab import settings
from lab.errors import UsageError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("task_acks_late=true", ("task_acks_late", True)),
        ("task_acks_late=No", ("task_acks_late", False)),
        ("worker_prefetch_multiplier=4", ("worker_prefetch_multiplier", 4)),
        ("worker_lost_wait=0.5", ("worker_lost_wait", 0.5)),
        ("worker_pool=solo", ("worker_pool", "solo")),
        ("task_time_limit=none", ("task_time_limit", None)),
        ("broker_transport_options.visibility_timeout=3", ("broker_transport_options.visibility_timeout", 3)),
        ("broker_transport_options.confirm_publish=true", ("broker_transport_options.confirm_publish", True)),
    ],
)
def test_a_setting_has_the_type_that_celery_gives_it(text, parsed):
    assert settings.parse(text) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task_ack_late=true", "did you mean task_acks_late?"),
        ("task_acks_late=maybe", "task_acks_late=true or task_acks_late=false"),
        ("task_acks_late", "is not name=value"),
        ("=true", "is not name=value"),
        ("worker_prefetch_multiplier=many", "is no int"),
        ("broker_url=redis://elsewhere", "belongs to the lab"),
        ("worker_concurrency=8", "belongs to the lab"),
        ("task_queues=x", "takes a structure"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(text, says):
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        settings.parse(text)


def test_later_layers_win_also_inside_the_transport_options():
    profile = {"broker_transport_options": {"confirm_publish": True, "visibility_timeout": 9}}
    cell = {"broker_transport_options.visibility_timeout": 1, "task_acks_late": True}
    assert settings.nested(settings.merged(profile, cell)) == {
        "broker_transport_options": {"confirm_publish": True, "visibility_timeout": 1},
        "task_acks_late": True,
    }


def test_an_ungiven_setting_has_celerys_default():
    assert settings.effective({}, "worker_prefetch_multiplier") == 4
    assert settings.effective({"worker_prefetch_multiplier": 1}, "worker_prefetch_multiplier") == 1


def test_whatever_the_lab_shortens_it_describes_beside_the_production_default():
    from lab.rig import HOUR_HAS_PASSED

    told = settings.tuned(HOUR_HAS_PASSED)
    assert {t.setting for t in told} == set(HOUR_HAS_PASSED)
    assert all(t.default and t.meaning for t in told)


def test_the_production_defaults_that_are_told_are_those_of_the_installed_celery_and_kombu():
    from celery.backends.base import Backend
    from kombu.transport.redis import Channel

    of_the_broker = {"delivery-limit", "consumer_timeout", "channel_tick_interval"}
    of_the_broker |= {"expires", "max-length", "message-ttl", "save", "disk_free_limit"}
    for name in settings.PRODUCTION.keys() - of_the_broker:
        if name.startswith(settings.TRANSPORT):
            default = getattr(Channel, name.removeprefix(settings.TRANSPORT))
        elif name == "result_backend_transport_options":
            default = Backend.retry_policy["max_retries"]
        else:
            default = settings.known()[name].default
        told = settings.PRODUCTION[name][0].split()[0]
        assert float(told) == float(default), name
