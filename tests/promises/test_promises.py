"""The promises, their tests and the page that lists both agree."""

from __future__ import annotations

import promises


def test_every_promise_has_a_test_or_is_said_to_be_open() -> None:
    proved = {proof.promise for proof in promises.proofs()}
    assert proved <= set(promises.PROMISES), "a marker names an unknown promise"
    open_ones = set(promises.PROMISES) - proved
    assert open_ones == promises.OPEN, "correct OPEN in tests/helpers/promises.py"


def test_every_proof_holds_a_figure() -> None:
    known = promises.proofs()
    assert len(known) > len(promises.PROMISES)
    assert all(proof.figure.strip() and "|" not in proof.figure for proof in known)


def test_the_page_is_that_of_the_markers() -> None:
    found = promises.without_date(promises.PAGE.read_text())
    assert found == promises.without_date(promises.page("")), (
        "run: python tests/helpers/promises.py"
    )


def test_a_proof_is_slow_where_its_marker_or_its_file_says_so() -> None:
    slow = {proof.test: proof.slow for proof in promises.proofs()}
    assert slow["test_storage_crashes.py::test_a_thousand_kills"]
    assert slow["test_sanitizers.py::test_the_kernels_give_no_report"]
    assert not slow["test_storage_strangers.py::test_only_what_we_made_is_ever_deleted"]
