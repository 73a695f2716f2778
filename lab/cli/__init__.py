"""The commands. Thin: each names what it needs, calls it, and turns errors into a line and a code."""

from lab.cli import matrix, report, run, stored, upkeep
from lab.cli.root import main

__all__ = ["main", "matrix", "report", "run", "stored", "upkeep"]
