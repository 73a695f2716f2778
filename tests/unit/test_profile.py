"""The compose files are the single definition; a key on which the lab does not act is an error."""

from __future__ import annotations

import pytest
import yaml

from lab.brokers import profile
from lab.brokers.profile import Profile
from lab.errors import UsageError

GOOD = {
    "services": {
        "broker": {
            "image": "redis:${LAB_VERSION:-8.0}",
            "command": ["redis-server"],
            "ports": ["127.0.0.1:${LAB_PORT}:6379"],
        }
    }
}


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_of_the_lab_is_read_and_promises_something(name):
    loaded = Profile.load(name)
    assert loaded.promise
    assert loaded.image.endswith(profile.DEFAULT_VERSIONS[loaded.family]) or "management" in loaded.image
    assert loaded.label == name


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_listens_on_loopback_only(name):
    assert all(port.startswith("127.0.0.1:") for port in Profile.load(name).service.ports)


def test_a_version_is_part_of_the_label_when_it_is_not_the_default():
    loaded = Profile.load("rabbitmq-quorum@3.10")
    assert (loaded.image, loaded.label) == ("rabbitmq:3.10-management", "rabbitmq-quorum@3.10")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("redis-nome", "redis-none"),
        ("kafka", "rabbitmq-classic"),
        ("redis-none@9.9", "6.0, 7.0, 8.0"),
    ],
)
def test_an_unknown_profile_is_told_what_there_is(label, says):
    with pytest.raises(UsageError, match=says):
        Profile.load(label)


def broken(tmp_path, change):
    raw = yaml.safe_load(yaml.safe_dump(GOOD))
    change(raw)
    (tmp_path / "redis-x.yml").write_text(yaml.safe_dump(raw))
    return Profile.load("redis-x", tmp_path)


def test_the_good_file_is_read(tmp_path):
    assert broken(tmp_path, lambda raw: None).image == "redis:8.0"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw.update(networks={}), "'networks'"),
        (lambda raw: raw["services"]["broker"].update(privileged=True), "'privileged'"),
        (lambda raw: raw["services"].update(other={}), "'other'"),
        (lambda raw: raw.update({"x-lab": {"promises": "x"}}), "'promises'"),
        (lambda raw: raw["services"]["broker"].update(ports=["0.0.0.0:1:2"]), "127.0.0.1 only"),
        (lambda raw: raw["services"]["broker"].update(ports=["6379:6379"]), "127.0.0.1 only"),
        (lambda raw: raw["services"]["broker"].pop("image"), "not complete"),
        (lambda raw: raw["services"]["broker"].update(command="redis-server"), "not complete"),
        (lambda raw: raw.pop("services"), "not a mapping"),
    ],
)
def test_a_file_with_something_else_is_refused(tmp_path, change, says):
    with pytest.raises(UsageError, match=says):
        broken(tmp_path, change)


def test_a_file_that_is_no_yaml_is_refused_in_one_line(tmp_path):
    (tmp_path / "redis-x.yml").write_text("services: [\n")
    with pytest.raises(UsageError) as caught:
        Profile.load("redis-x", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "variables", "filled"),
    [
        ("redis:${V:-8.0}", {}, "redis:8.0"),
        ("redis:${V:-8.0}", {"V": "7.0"}, "redis:7.0"),
        ("${P:?set it}", {"P": "x"}, "x"),
        ("no variable", {}, "no variable"),
    ],
)
def test_variables_are_interpolated_as_compose_does(text, variables, filled):
    assert profile.fill(text, variables) == filled


def test_a_missing_variable_is_told_in_the_files_own_words():
    with pytest.raises(UsageError, match="set it"):
        profile.fill("${P:?set it}", {})
