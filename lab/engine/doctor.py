"""What this machine has and lacks, each lack with the command that mends it. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.engine.adapter import Engine, endpoint
from lab.engine.disks import why_not
from lab.engine.images import PYTHON_BASE, worker_image
from lab.engine.programs import OPT_OUT, can_install
from lab.errors import LabError

NEEDED_GIB = 3
GIB = 1024**3
FILE_SYSTEM = "ext4"  # of the disk that is tried


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the lab needs. ``remedy`` is a command, empty where all is well."""

    ok: bool
    what: str
    remedy: str = ""


def examine(celery: str, images: Sequence[str]) -> list[Check]:
    """Check everything that a run needs."""
    free = shutil.disk_usage("/").free / GIB
    return [
        Check(True, f"Python {platform.python_version()}, {os.cpu_count()} cores"),
        Check(
            free >= NEEDED_GIB,
            f"{free:.0f} GiB free on /, {NEEDED_GIB} GiB needed",
            "" if free >= NEEDED_GIB else "free disk space, e.g. docker system df",
        ),
        *_engine(celery, images),
    ]


def _engine(celery: str, images: Sequence[str]) -> Iterator[Check]:
    try:
        engine = Engine(run="doctor", allow_remote=bool(os.environ.get("LAB_ALLOW_REMOTE")))
    except LabError as error:
        may = "the lab may install and start one" if can_install() else "the lab may not install one"
        opted = f" ({OPT_OUT} is set)" if os.environ.get(OPT_OUT) else ""
        remedy = error.remedy if can_install() else "start Docker"
        yield Check(False, f"{error.wrong}; {may}{opted}", remedy)
        return
    yield Check(True, f"engine {engine.version} at {endpoint()}, kernel {engine.kernel}")
    limits = bool(engine.info().get("MemoryLimit"))
    yield Check(
        limits,
        "the engine can limit the memory of a node (for out-of-memory)",
        "" if limits else "have the kernel's memory controller enabled: docker info says what is missing",
    )
    yield from _disks(engine, worker_image(celery))
    for image in dict.fromkeys((PYTHON_BASE, *images, worker_image(celery))):
        here = engine.image_id(image) is not None
        yield Check(here, f"image {image}", "" if here else "make setup")
    left = engine.leftovers().names()
    yield Check(not left, f"{len(left)} things of dead runs in the engine", "make clean" if left else "")


def _disks(engine: Engine, image: str) -> Iterator[Check]:
    """Whether the power of a disk can be cut: tried, where the image that does it is here."""
    if engine.image_id(image) is not None:
        why = why_not(engine, image, FILE_SYSTEM)
        what = "the engine can cut the power of a disk (for power-cut, disk-full)"
        yield Check(why is None, what, f"not here: {why}" if why else "")
