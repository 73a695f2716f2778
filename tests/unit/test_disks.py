"""The power of the lab's own disk can be cut, and of nothing else; every profile says where its data lies."""

from __future__ import annotations

import os

import pytest

from lab.brokers.profile import Profile, names
from lab.worker.disk import LOOP_INFO64, struct, why_not

LOOP3 = os.makedev(7, 3)
ROOT = os.makedev(254, 0)
MOUNTS = """\
24 1 254:0 / / rw,relatime - ext4 /dev/root rw
90 24 7:3 / /disk rw,relatime shared:5 - ext4 /dev/loop3 rw
91 24 7:4 / /other rw,relatime - ext4 /dev/loop4 rw
92 24 254:0 /volumes/v/_data /disk rw,relatime - ext4 /dev/root rw
"""


def test_the_loop_device_of_the_keeper_under_its_mount_point_is_the_disk():
    assert why_not("ext4", "/dev/loop3", LOOP3, ROOT, MOUNTS) is None


@pytest.mark.parametrize(
    ("device", "number", "mounts", "says"),
    [
        ("/dev/loop3", ROOT, MOUNTS, "file system of /"),
        ("/dev/root", os.makedev(254, 1), MOUNTS, "its device is 254:1"),
        ("/dev/loop3", os.makedev(8, 3), MOUNTS, "its device is 8:3"),
        ("/dev/loop4", LOOP3, MOUNTS, "its device is 7:3, not /dev/loop4"),
        ("/dev/loop4", os.makedev(7, 4), MOUNTS, "the mount table does not have it"),
        ("/dev/loop3", LOOP3, "", "the mount table does not have it"),
        ("/dev/loop3", LOOP3, MOUNTS.replace("/dev/loop3", "/dev/sda1"), "the mount table says /dev/sda1"),
        ("/dev/loop3", LOOP3, MOUNTS.replace("ext4 /dev/loop3", "btrfs /dev/loop3"), "btrfs"),
    ],
    ids=["root", "a partition", "another major", "another loop", "another folder", "nowhere", "fake", "kind"],
)
def test_anything_else_is_refused_and_told(device, number, mounts, says):
    assert says in str(why_not("ext4", device, number, ROOT, mounts))


def test_what_the_kernel_is_told_of_a_loop_device_has_its_size():
    assert struct.calcsize(LOOP_INFO64) == 232


@pytest.mark.parametrize("name", names())
def test_every_profile_says_where_its_data_lies(name):
    service = Profile.load(name).service
    assert service.data in ("/data", "/var/lib/rabbitmq")
    assert service.data == "/var/lib/rabbitmq" or list(service.command).count(service.data) == 1
