"""Images: pulled where a registry answers, else built from Debian's packages, under the same names."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
import uv

from lab.engine.adapter import Engine
from lab.engine.programs import Say, apt_install, run
from lab.errors import EnvironmentLacks, ImageMissing, UsageError

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
WORKER_SOURCE = ROOT / "lab" / "worker"
PYTHON_BASE, PYTHON_VERSION = "python:3.11-slim", "3.11"
REGISTRY = "https://registry-1.docker.io/v2/"
REGISTRY_SECONDS = 3.0
INDEX = "https://pypi.org/simple"
INDEX_SECONDS = 20.0
#: With what a worker's Celery is installed. The gevent pool needs a gevent that has a wheel for this Python:
#: there is none from before November 2022 (pypi.org/project/gevent/22.10.2).
EXTRAS, EXTRAS_BEFORE_GEVENT, GEVENT_SINCE = "redis,gevent", "redis", datetime(2022, 11, 1, tzinfo=UTC)
#: The client of the ledger of charges, pure Python (lab/worker/charges.py).
LEDGER_CLIENT = "pg8000"
#: What a disk with XFS is made with. An image without it does for all else, and a disk says what it lacks.
XFS = (
    "(timeout 60 apt-get update && timeout 60 apt-get install -y --no-install-recommends xfsprogs)"
    " >/dev/null 2>&1;"
    " rm -rf /var/lib/apt/lists/*"
)
WORKER_COMMIT = "ENV PYTHONPATH=/opt/lab/site:/opt/lab"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is made where no registry answers: a Debian suite and its packages."""

    suite: str
    package: str
    hook: str = ""


# RabbitMQ looks for each of its modules in the folder of every plugin that is there, enabled or not: without
# those that the lab never enables it starts in two thirds of the time (4.0.5).
_NEEDED = "rabbitmq_(prelaunch|management|management_agent|web_dispatch)-"
_MANAGEMENT = (
    'echo "[rabbitmq_management]." > "$1/etc/rabbitmq/enabled_plugins";'
    ' (cd "$1"/usr/lib/rabbitmq/lib/*/plugins &&'
    f" ls | grep '^rabbitmq_' | grep -vE '^{_NEEDED}' | xargs rm -r)"
)
# RabbitMQ 3.8 does not read its first user from the environment; later servers, and official images, do.
_FIRST_USER = (
    r"""printf '%s\n' 'SERVER_START_ARGS="-rabbit default_user <<\"$RABBITMQ_DEFAULT_USER\">>"""
    r""" -rabbit default_pass <<\"$RABBITMQ_DEFAULT_PASS\">>"' >> $1/etc/rabbitmq/rabbitmq-env.conf"""
)
_POSTGRES = Path(__file__).with_name("postgres.sh")
_ENTRYPOINT = (
    f'install -D -m 755 {shlex.quote(str(_POSTGRES))} "$1/usr/local/bin/docker-entrypoint.sh";'
    ' rm -r "$1/var/lib/postgresql/17"'  # the cluster that Debian's package makes
)
RECIPES: Mapping[str, Recipe] = {
    PYTHON_BASE: Recipe("bookworm", "python3"),
    "redis:6.0": Recipe("bullseye", "redis-server"),
    "redis:7.0": Recipe("bookworm", "redis-server"),
    "redis:8.0": Recipe("trixie", "redis-server"),
    "rabbitmq:3.8-management": Recipe("bullseye", "rabbitmq-server", f"{_MANAGEMENT} && {_FIRST_USER}"),
    "rabbitmq:3.10-management": Recipe("bookworm", "rabbitmq-server", _MANAGEMENT),
    "rabbitmq:4.0-management": Recipe("trixie", "rabbitmq-server", _MANAGEMENT),
    "postgres:17": Recipe("trixie", "postgresql-17", _ENTRYPOINT),
}


def ensure(engine: Engine, image: str, say: Say) -> None:
    """Have the image here. Raises :class:`ImageMissing` saying what to install or where to pull."""
    if engine.image_id(image):
        return
    started = time.monotonic()
    how = "pulled" if _pull(engine, image, say) else _build(engine, image, say)
    say(f"{how} {image} in {time.monotonic() - started:.0f} s")


def _pull(engine: Engine, image: str, say: Say) -> bool:
    """Whether the image could be pulled. A registry that does not answer, or refuses, is no error."""
    if not _registry_answers():
        return False
    say(f"pulling {image}")
    try:
        engine.pull(image)
    except EnvironmentLacks as refusal:
        say(refusal.wrong)
        return False
    return True


def _registry_answers() -> bool:
    if os.environ.get("LAB_NO_PULL"):
        return False
    try:
        return requests.get(REGISTRY, timeout=REGISTRY_SECONDS).status_code in (200, 401)
    except requests.RequestException:
        return False


def _build(engine: Engine, image: str, say: Say) -> str:
    recipe = RECIPES.get(image)
    if recipe is None:
        raise ImageMissing(f"no registry answers, and the lab cannot build {image}", "connect, or pull it")
    say(f"building {image} from Debian packages (no registry answers)")
    apt_install(["mmdebstrap", "debian-archive-keyring"], "mmdebstrap", say)
    if shutil.which("mmdebstrap") is None:
        raise ImageMissing(
            f"{image} is not here, no registry answers, and mmdebstrap is not installed",
            "connect to a registry, or on Debian or Ubuntu as root: make setup",
        )
    with tempfile.TemporaryDirectory(prefix="celery-lab-") as folder:
        archive = f"{folder}/image.tar"
        command = ["mmdebstrap", "--variant=minbase", f"--include={recipe.package}"]
        command += [f"--customize-hook={recipe.hook}"] if recipe.hook else []
        run([*command, recipe.suite, archive], f"build {image}")
        engine.import_image(image, archive)
    return "built"


# --- the worker image ---------------------------------------------------------------------------


def default_celery() -> str:
    """The Celery version of the lock file."""
    match = re.search(r"^celery==(\S+)", LOCK.read_text(), re.MULTILINE)
    if match is None:
        raise EnvironmentLacks(f"{LOCK} names no Celery version", "check out the lock file again")
    return match[1]


def worker_image(celery: str) -> str:
    """The name of the image for a Celery version: a hash tells what else went into it."""
    digest = hashlib.sha256()
    for path in _worker_files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(f"{PYTHON_BASE} {WORKER_COMMIT} {EXTRAS} {LEDGER_CLIENT} {XFS}".encode())
    if celery == default_celery():
        digest.update(LOCK.read_bytes())
    return f"celery-lab-worker:{celery}-{digest.hexdigest()[:12]}"


def ensure_worker(engine: Engine, celery: str, say: Say) -> str:
    """Have the worker image for this Celery version; return its name."""
    image = worker_image(celery)
    if engine.image_id(image):
        return image
    ensure(engine, PYTHON_BASE, say)
    started = time.monotonic()
    say(f"building the worker image for Celery {celery}")
    with tempfile.TemporaryDirectory(prefix="celery-lab-") as folder:
        _install(engine, celery, Path(folder))
        archive = _pack(Path(folder))
    command = ["sh", "-c", f"python3 -m compileall -q /opt/lab || exit 1; {XFS}"]
    engine.build_on(PYTHON_BASE, image, archive, command, WORKER_COMMIT)
    say(f"built {image} in {time.monotonic() - started:.0f} s")
    return image


def _worker_files() -> list[Path]:
    return sorted(WORKER_SOURCE.glob("*.py"))


def _install(engine: Engine, celery: str, folder: Path) -> None:
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(arch := str(engine.info()["Architecture"]), arch)
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(folder)]
    command += ["--python-version", PYTHON_VERSION, "--python-platform", f"{machine}-manylinux_2_28"]
    extras = EXTRAS
    if celery == default_celery():
        command += ["--constraint", str(LOCK)]
    else:
        day_after = release_date(celery) + timedelta(days=1)
        command += ["--exclude-newer", day_after.strftime("%Y-%m-%dT%H:%M:%SZ")]
        extras = EXTRAS if day_after > GEVENT_SINCE else EXTRAS_BEFORE_GEVENT
    run([*command, f"celery[{extras}]=={celery}", LEDGER_CLIENT], f"install Celery {celery}")


def _pack(site: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(site, "opt/lab/site", filter=_readable)
        for path in _worker_files():
            archive.add(path, f"opt/lab/worker/{path.name}", filter=_readable)
        gate = tarfile.TarInfo("opt/lab/gate")
        gate.type, gate.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(gate)
    return buffer.getvalue()


def _readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The worker runs as an ordinary user, and the temporary folder was private."""
    entry.uid = entry.gid = 0
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def release_date(celery: str) -> datetime:
    """When this version was uploaded. Raises :class:`UsageError` for one that does not exist.

    Source: PEP 700 (``upload-time`` in the JSON form of the index). Some mirrors answer in HTML only
    and carry the same time as ``data-upload-time``.
    """
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or INDEX
    try:
        answer = requests.get(
            f"{index.rstrip('/')}/celery/",
            headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"},
            timeout=INDEX_SECONDS,
        )
        answer.raise_for_status()
    except requests.RequestException as error:
        wrong = f"the package index does not answer ({type(error).__name__})"
        raise EnvironmentLacks(wrong, "connect, or use the default Celery version") from error
    times = [
        time
        for name, time in _uploads(answer)
        if name.startswith((f"celery-{celery}-", f"celery-{celery}.tar"))
    ]
    if not times:
        raise UsageError(f"there is no Celery {celery} on the index", "see pypi.org/project/celery")
    return datetime.fromisoformat(min(times))


def _uploads(answer: requests.Response) -> Iterator[tuple[str, str]]:
    if "json" in answer.headers.get("Content-Type", ""):
        for file in answer.json()["files"]:
            yield file["filename"], file.get("upload-time", "")
        return
    for tag, name in re.findall(r"<a ([^>]*)>([^<]*)</a>", answer.text):
        if found := re.search(r'data-upload-time="([^"]+)"', tag):
            yield name.strip(), found[1]
