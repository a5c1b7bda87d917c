"""Keeps what slow tests with the marker `promise` measured, for docs/promises.md.

With L63FAST_PROOFS=tests/helpers/proofs.json in the environment, a run adds to it the
date, and the property "measured" of each test that has one. Other tests run with every
change, and need no record.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).with_name("proofs.json")


def name_of(nodeid: str) -> tuple[str, str]:
    """Return file and function of a test, and its parameters."""
    name, _, parameters = nodeid.rpartition("/")[2].partition("[")
    return name, parameters.removesuffix("]")


def keep(report: pytest.TestReport, path: Path) -> None:
    """Add a passed test to the record, in place of what it had of these parameters."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    name, parameters = name_of(report.nodeid)
    measured = dict(report.user_properties).get("measured", "passed")
    date = datetime.now(UTC).date().isoformat()
    known.setdefault(name, {})[parameters] = {"date": date, "measured": measured}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


class Recorder:
    """The plugin of a run that is to be recorded."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what passed and proves a promise."""
        proves = {"promise", "slow"} <= set(report.keywords)
        if report.when == "call" and report.passed and proves:
            keep(report, Path(os.environ["L63FAST_PROOFS"]))
