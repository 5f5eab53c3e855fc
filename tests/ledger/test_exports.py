"""Where exports go on: cursors, the stretch of each run, and history windows."""

from __future__ import annotations

import contextlib

from airflow_provider_qadzd.ledger import Ledger, exports
from airflow_provider_qadzd.ledger.exports import Window


def test_a_leg_goes_on_where_its_last_page_ended(ledger: Ledger) -> None:
    """A cursor moves with the page's transaction, and not at all if that fails."""
    assert exports.position_of(ledger, 1, "tickets") is None
    with ledger.writing() as tx:
        exports.move(tx, ledger, 1, "tickets", "cursor 1")
    with contextlib.suppress(ZeroDivisionError), ledger.writing() as tx:
        exports.move(tx, ledger, 1, "tickets", "cursor 2")
        raise ZeroDivisionError
    assert exports.position_of(ledger, 1, "tickets") == "cursor 1"
    assert exports.position_of(ledger, 1, "events") is None
    assert exports.position_of(ledger, 2, "tickets") is None


def test_a_leg_starts_once(ledger: Ledger) -> None:
    """A second onboarding does not set back what has moved on."""
    exports.start_once(ledger, 1, "tickets", exports.start_position(1800000000.9))
    with ledger.writing() as tx:
        exports.move(tx, ledger, 1, "tickets", "cursor 1")
    exports.start_once(ledger, 1, "tickets", exports.start_position(1900000000))
    assert exports.position_of(ledger, 1, "tickets") == "cursor 1"


def test_a_position_is_a_start_time_or_a_cursor() -> None:
    """A start time comes back in whole seconds, a cursor is none."""
    assert exports.start_of(exports.start_position(1800000000.9)) == 1800000000
    assert exports.start_of("MTU3NjYxMzUzOS4wfHw0Njd8") is None


def test_a_runs_stretch_grows_at_its_end(ledger: Ledger) -> None:
    """Where a run began stays, whatever it reads later; another run has a stretch of its own."""
    for first, last in (("a", "b"), ("b", "c")):
        with ledger.writing() as tx:
            exports.extend_stretch(tx, 1, "tickets", "dag", "run 1", first, last)
    assert exports.stretch_of(ledger, 1, "tickets", "dag", "run 1") == ("a", "c")
    assert exports.stretch_of(ledger, 1, "tickets", "dag", "run 2") is None
    assert exports.stretch_of(ledger, 2, "tickets", "dag", "run 1") is None


def test_a_window_is_open_until_it_is_complete(ledger: Ledger) -> None:
    """A window is found by its exact bounds, as it stood after its last page."""
    opened = Window("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "cursor 1", False, 5)
    for window in (opened, Window(opened.starts_at, opened.ends_at, "cursor 2", True, 9)):
        with ledger.writing() as tx:
            exports.save_window(tx, ledger, 1, "tickets", window)
        assert exports.window_of(ledger, 1, "tickets", window.starts_at, window.ends_at) == window
    assert exports.window_of(ledger, 1, "tickets", opened.starts_at, "2026-01-03T00:00:00Z") is None
