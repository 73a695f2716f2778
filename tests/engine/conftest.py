"""A real engine, a running broker of each family, and a rig that cleans up after itself."""

from __future__ import annotations

import secrets
import threading
from contextlib import closing

import pytest

from lab.brokers import Profile
from lab.catalogue import load_scenarios
from lab.cell import Cell
from lab.engine.adapter import Engine
from lab.engine.images import PYTHON_BASE, default_celery, worker_image
from lab.engine.node import NodeSpec
from lab.rig import Rig
from lab.stages import Stages

SLEEPER = ("python3", "-c", "import signal; print('up', flush=True); signal.pause()")


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/engine" in item.nodeid:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def engine():
    found = Engine(run=f"test-{secrets.token_hex(3)}")
    yield found
    found.remove(found.leftovers(run=found.run))
    found.close()


@pytest.fixture(scope="session")
def network(engine):
    return engine.create_network(f"lab-{engine.run}-net")


@pytest.fixture
def node(engine, network):
    """A node that does nothing until it is told to."""
    tag = secrets.token_hex(3)
    spec = NodeSpec(
        f"lab-{engine.run}-{tag}", PYTHON_BASE, SLEEPER, network, f"node-{tag}", unprivileged=True
    )
    started = engine.start(spec)
    with closing(started.follow()) as lines:
        assert next(lines) == b"up"
    yield started
    started.remove()


@pytest.fixture(scope="session")
def stages(engine):
    found = Stages(engine, worker_image(default_celery()), threading.Event())
    yield found
    found.close()


@pytest.fixture(scope="session", params=["redis-aof-everysec", "rabbitmq-classic"])
def profile(request):
    return Profile.load(request.param)


@pytest.fixture(scope="session")
def stage(stages, profile):
    return stages.boot(profile).result()


@pytest.fixture
def rigs(engine, stage, profile):
    """Make rigs on the shared broker: each on a namespace of its own."""
    made = []

    def make(settings=None, params=None):
        cell = Cell("test", profile.label, settings=settings or {}, params=params or {})
        rig = Rig(stage, cell, profile, worker_image(default_celery()), threading.Event())
        made.append(rig)
        rig.begin()
        return rig

    yield make
    for rig in made:
        rig.close()


@pytest.fixture(scope="session")
def worker_crash():
    return load_scenarios()["worker-crash"]
