"""What a history tells beside the outcomes."""

from __future__ import annotations

import pytest

from lab.facts import facts_of

from .story import story

ASKED = "web asked t label=target"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((ASKED, "web publish-ok t", "lab heal", "lab healed"), "ok"),
        ((ASKED, "web publish-failed t", "lab heal", "lab healed"), "failed"),
        ((ASKED, "lab heal", "web publish-ok t", "lab healed"), "nothing"),
        ((ASKED, "web asked o label=others", "web publish-ok o", "lab heal"), "nothing"),
    ],
    ids=["told while it lasted", "told that it failed", "told by the undo itself", "of another task"],
)
def test_told_during_counts_what_publishers_heard_before_the_undo_began(lines, told):
    assert facts_of(story(*lines))["told_during"] == told
