"""Programs of the host that set-up calls, and Debian packages that bring them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence

from lab.errors import EnvironmentLacks, NoSpace

Say = Callable[[str], None]
OPT_OUT = "LAB_NO_INSTALL"
LONGEST_SECONDS = 900


def run(command: Sequence[str], doing: str) -> None:
    """Run a program to its end. Raises with the telling line of its output when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        wrong = f"cannot {doing}: {command[0]} did not end within {LONGEST_SECONDS} s"
        raise EnvironmentLacks(wrong, "look at the network, then run it again") from error
    except OSError as error:
        raise EnvironmentLacks(f"cannot {doing}: {error}", f"install {command[0]}") from error
    if done.returncode == 0:
        return
    output = done.stderr.strip() or done.stdout.strip() or "no output"
    lines = output.splitlines()
    telling = next((line for line in reversed(lines) if "rror" in line or line[:2] == "E:"), lines[-1])
    if "No space left" in output:
        raise NoSpace(f"cannot {doing}: {telling}", "free disk space in the temporary folder")
    raise EnvironmentLacks(f"cannot {doing}: {telling}", f"try by hand: {' '.join(command)}")


def can_install() -> bool:
    """Whether this is Debian or Ubuntu, as root, and the user did not opt out."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and not os.environ.get(OPT_OUT)


def apt_install(packages: Sequence[str], program: str, say: Say) -> None:
    """Install Debian packages unless their program is here already, or the lab may not."""
    if shutil.which(program) or not can_install():
        return
    say(f"installing {' '.join(packages)} with apt-get")
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    run(["apt-get", "update", "-q"], "update the list of packages")
    run(["apt-get", "install", "-qy", "--no-install-recommends", *packages], f"install {packages[0]}")
