"""What a schedule file holds when the beat that synced it is killed."""

from __future__ import annotations

import os
import shelve
import subprocess
import sys

import pytest

#: A process that ends without closing anything, as a killed one does.
BEAT = """
import os, sys
from lab.worker.beat import Shelves
shelf = Shelves.open(sys.argv[1], writeback=True)
shelf["runs"] = 1
shelf.sync()
os._exit(0)
"""


@pytest.mark.parametrize(("kind", "kept"), [("dumb", 1), ("ndbm", None)])
def test_a_file_keeps_what_was_synced_where_its_database_can_sync(tmp_path, kind, kept):
    database = pytest.importorskip(f"dbm.{kind}")
    if getattr(database, "library", "Berkeley DB") != "Berkeley DB":
        pytest.skip("this Python's dbm.ndbm is of another family")
    path = str(tmp_path / "schedule")
    subprocess.run([sys.executable, "-c", BEAT, path], env={**os.environ, "LAB_SHELF": kind}, check=True)
    with shelve.Shelf(database.open(path, "c")) as shelf:
        assert shelf.get("runs") == kept
