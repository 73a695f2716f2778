"""The floors of the house hold, and the code keeps its own rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "lab").rglob("*.py"))


def test_arrows_only_go_down():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_scenarios_import_only_the_lab():
    for path in (ROOT / "scenarios").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Import), path
            if isinstance(node, ast.ImportFrom):
                assert node.module == "lab", path


def test_waits_are_for_conditions():
    """``sleep`` stands in poll loops only, with the length of one poll: never a bare number."""
    for path in SOURCES:
        for argument in re.findall(r"\bsleep\(([^)]*)\)", path.read_text()):
            assert argument == "POLL_SECONDS", f"{path}: sleep({argument})"


def test_no_broad_except():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert ast.unparse(node.type) != "Exception", path
