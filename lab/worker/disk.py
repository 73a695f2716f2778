"""The disk of a broker whose power is cut: a file system in a file, on a loop device.

Two nodes: the *keeper* makes the disk and holds its loop device open; the *hand* has the file system
mounted by the engine, writes it out on SIGUSR2, fills it on SIGHUP, frees it on SIGALRM, and shuts it
down on SIGUSR1. A loop device that is
set to clear itself is gone when nothing holds it: not the keeper, not a mount. So nothing is left
behind whichever way the containers end.

Sources: loop(4) (``LOOP_CTL_GET_FREE``, ``LOOP_SET_FD``, ``LO_FLAGS_AUTOCLEAR``); Linux ``fs/ext4/ext4.h``
(``EXT4_IOC_SHUTDOWN``) and ``fs/ext4/ioctl.c`` (``ext4_force_shutdown``: without the flush, nothing that is
still in memory reaches the disk, the journal neither); ``fs/xfs/libxfs/xfs_fs.h`` (``XFS_IOC_GOINGDOWN``, the
same number, ``XFS_FSOP_GOING_FLAGS_NOLOGFLUSH``); xfstests ``src/godown.c`` does it for both.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

from .events import emit

MOUNT = "/disk"
IMAGE = "/image/disk"
MARKER = ".celery-lab"
MEBIBYTES = 2048  # sparse: the image takes what is written. RabbitMQ 3.8 preallocates its log, for each start
LOOP_MAJOR = 7
LOOP_CONTROL = (10, 237)
LOOP_CTL_GET_FREE, LOOP_SET_FD, LOOP_SET_STATUS64 = 0x4C82, 0x4C00, 0x4C04
LO_FLAGS_AUTOCLEAR = 4
LOOP_INFO64 = "<5Q4I64s64s32s2Q"  # Linux include/uapi/linux/loop.h: struct loop_info64
SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
WITHOUT_LOG_FLUSH = 2
FILLER = f"{MOUNT}/.celery-lab-filler"
MOST_AT_ONCE, BLOCK = 64 << 20, 4096
ATTEMPTS = 5


def keep(kind: str, marker: str) -> None:
    """Make the disk, with the marker of this trial in it, attach it, and hold it until killed."""
    with open(IMAGE, "wb") as image:
        image.truncate(MEBIBYTES << 20)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/{MARKER}", "w", encoding="ascii") as file:
            file.write(marker)
        program, *options = MAKE[kind](folder)
        if shutil.which(program) is None:
            sys.exit(
                f"there is no {program}: where the worker image was built, Debian's packages were not reached"
            )
        subprocess.run([program, *options, IMAGE], check=True, stdout=subprocess.DEVNULL)
    device = attach(marker)
    emit("attached", device=device)
    signal.pause()


def ext4(folder: str) -> list[str]:
    """Make one that holds what is in the folder (mke2fs(8))."""
    return ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_journal_init=1,nodiscard", "-d", folder]


def xfs(folder: str) -> list[str]:
    """The same (mkfs.xfs(8): the form of a prototype file)."""
    prototype = f"{folder}/prototype"
    with open(prototype, "w", encoding="ascii") as file:
        file.write(f"none\n0 0\nd--755 0 0\n{MARKER} ---644 0 0 {folder}/{MARKER}\n$\n")
    return ["mkfs.xfs", "-q", "-f", "-K", "-p", prototype]


MAKE: dict[str, Callable[[str], list[str]]] = {"ext4": ext4, "xfs": xfs}


def attach(marker: str) -> str:
    """Put the image on a free loop device that stays open in this process; its name on the host."""
    control = os.open(node("loop-control", 0o020600, LOOP_CONTROL), os.O_RDWR)
    backing = os.open(IMAGE, os.O_RDWR)
    while True:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        loop = os.open(node(f"loop{number}", 0o060600, (LOOP_MAJOR, number)), os.O_RDWR)
        try:
            fcntl.ioctl(loop, LOOP_SET_FD, backing)
        except OSError as error:
            os.close(loop)
            if error.errno != errno.EBUSY:  # somebody else was faster: take the next one
                raise
        else:
            name = f"celery-lab {marker}"[:63].encode()
            info = struct.pack(LOOP_INFO64, 0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
            fcntl.ioctl(loop, LOOP_SET_STATUS64, info)
            return f"/dev/loop{number}"


def node(name: str, mode: int, number: tuple[int, int]) -> str:
    """A device node in this container's own /dev."""
    path = f"/dev/{name}"
    if not os.path.exists(path):
        os.mknod(path, mode, os.makedev(*number))
    return path


def hand(kind: str, device: str, marker: str) -> None:
    """Prove that this is the disk, open it to every user, then obey signals until its power is cut."""
    orders = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM)
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)
    obey_only_on(kind, device, marker)
    os.chmod(MOUNT, 0o777)  # noqa: S103 - each broker runs as a user of its own
    emit("ready")
    while (order := signal.sigwait(orders)) != signal.SIGUSR1:
        obey_only_on(kind, device, marker)
        ORDERS[order]()
    cut(kind, device, marker)


def obey_only_on(kind: str, device: str, marker: str) -> int:
    """The disk, open. End if it is not that of this kind, device and marker."""
    disk = os.open(MOUNT, os.O_RDONLY)
    if why := refusal(disk, kind, device, marker):
        emit("refused", why=why)
        sys.exit(1)
    return disk


def sync() -> None:
    """Have everything that was written so far reach the disk."""
    subprocess.run(["sync", "-f", MOUNT], check=True)
    emit("synced")


def fill() -> None:
    """Take every block that is free, and prove it by a write that fails.

    XFS gives back what was freed a moment ago when its log is written, so that is done first, and again.
    """
    for _ in range(ATTEMPTS):
        subprocess.run(["sync", "-f", MOUNT], check=True)
        take_all()
        if why := write_fails():
            emit("full", why=why)
            return
    emit("refused", why="the file system still takes writes")


def take_all() -> None:
    """Have the filler take all the room that there is. Nothing is written for that."""
    with open(FILLER, "ab") as filler:
        size, step = filler.tell(), MOST_AT_ONCE
        while step >= BLOCK:
            try:
                os.posix_fallocate(filler.fileno(), size, step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 4
            else:
                size += step


def free() -> None:
    """Give all of that back, and prove it by a write."""
    os.unlink(FILLER)
    if why := write_fails():
        emit("refused", why=why)
    else:
        emit("free")


def write_fails() -> str | None:
    """Why a block could not be written, ``None`` when it could."""
    probe = f"{FILLER}-probe"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(BLOCK))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return os.strerror(error.errno or 0)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(probe)
    return None


ORDERS: dict[int, Callable[[], None]] = {
    signal.SIGUSR2: sync,
    signal.SIGHUP: fill,
    signal.SIGALRM: free,
}


def cut(kind: str, device: str, marker: str) -> None:
    """Shut the file system down as a power cut does, and prove it by a write that fails."""
    disk = obey_only_on(kind, device, marker)
    fcntl.ioctl(disk, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
    emit("power-cut")
    try:
        os.close(os.open(f"{MOUNT}/after", os.O_WRONLY | os.O_CREAT))
    except OSError as error:
        emit("dead", why=os.strerror(error.errno or 0))
    else:
        emit("refused", why="the file system still takes writes")


def refusal(disk: int, kind: str, device: str, marker: str) -> str | None:
    """Why the open folder is not the lab's own disk, ``None`` when it is."""
    number = os.fstat(disk).st_dev
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        if why := why_not(kind, device, number, os.stat("/").st_dev, mounts.read()):
            return why
    try:
        with open(f"{MOUNT}/{MARKER}", encoding="ascii") as file:
            found = file.read()
    except OSError:
        return "the marker of this trial is not on it"
    return None if found == marker else f"it has the marker {found!r}, not {marker!r}"


def why_not(kind: str, device: str, number: int, root: int, mountinfo: str) -> str | None:
    """What the device numbers and the mount table (proc(5)) say against this disk. Pure."""
    if number == root:
        return "it is the file system of /"
    if os.major(number) != LOOP_MAJOR or f"/dev/loop{os.minor(number)}" != device:
        return f"its device is {os.major(number)}:{os.minor(number)}, not {device}"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        where, what = before.split(), after.split()
        if where[4] == MOUNT and where[2] == f"{os.major(number)}:{os.minor(number)}":
            return None if what[:2] == [kind, device] else f"the mount table says {what[1]} ({what[0]})"
    return "the mount table does not have it"


ROLES: dict[str, Callable[..., None]] = {"keep": keep, "hand": hand}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
