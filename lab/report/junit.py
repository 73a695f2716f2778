"""The report as JUnit XML: a surprise is a failure, inconclusive an error, what was not run is skipped."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from lab.judge import Status
from lab.report.cells import Cell
from lab.report.data import Report
from lab.report.tables import Table

#: What XML 1.0 cannot hold, not even escaped (https://www.w3.org/TR/xml/#charsets).
UNFIT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(report: Report) -> str:
    """One suite for each scenario, one case for each cell."""
    root = ET.Element("testsuites", name="celery-failure-lab")
    for table in report.tables:
        _suite(root, table)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: ET.Element, table: Table) -> None:
    cells = [cell for row in table.rows for cell in row.cells]
    suite = ET.SubElement(root, "testsuite", name=fit(table.scenario))
    for cell in cells:
        _case(suite, cell)
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(cells)))
    suite.set("time", f"{sum(t.seconds for cell in cells for t in cell.trials):.3f}")


def _case(suite: ET.Element, cell: Cell) -> None:
    seconds = sum(trial.seconds for trial in cell.trials)
    case = ET.SubElement(
        suite, "testcase", classname=fit(cell.scenario), name=fit(cell.id), time=f"{seconds:.3f}"
    )
    if not cell.trials:
        ET.SubElement(case, "skipped", message=fit(f"{cell.word.value}: {cell.reason}".rstrip(": ")))
        return
    told = f"{cell.word.value} {cell.k}/{cell.n}; seen: {cell.outcomes}; expected: {cell.expected}"
    if cell.status is not Status.EXPECTED:
        tag = "failure" if cell.status is Status.SURPRISE else "error"
        found = ET.SubElement(case, tag, message=fit(told), type=str(cell.status))
        found.text = fit(why(cell))
    ET.SubElement(case, "system-out").text = fit(told)


def why(cell: Cell) -> str:
    """What a reader needs beside the counts: the lesson, the doubts, the history, and how to run it again."""
    first = cell.first
    lines = [f"expected because {first.expectation.because} ({first.expectation.source})"]
    lines += [f"doubt: {doubt}" for trial in cell.trials for doubt in trial.judgement.doubts]
    lines += [f"stalled: {worker.node}" for worker in cell.stalled]
    return "\n".join([*lines, f"history: {first.history}", f"again: {cell.command}"])


def fit(text: str) -> str:
    """Text that XML can hold."""
    return UNFIT.sub("\ufffd", text)
