"""The mirror of Zendesk: what keeping it costs."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.sync import mirror
from airflow_provider_qadzd.sync.mirror import CONFIRM_EVERY
from tests.sync.world import World


def test_many_changes_of_the_last_minutes_are_read_once(small: World) -> None:
    """More than a page of organizations changed between one and two minutes ago is no reason to read them for ever.

    Zendesk withholds the last minute, so a run starts its export two minutes back, again and again; what comes after
    that moment is left to the next run.
    """
    small.mirror()
    for start in range(0, 1100, 100):
        bodies = [{"name": f"Twenty-first {n}"} for n in range(start, start + 100)]
        small.zendesk.organizations.create_many(bodies)
        small.sandbox.post_control("/_sandbox/clock", {"advance": 1})
        small.there()
    small.sandbox.post_control("/_sandbox/clock", {"advance": 90})
    small.sandbox.post_control("/_sandbox/limits", {"incremental_per_minute": 30})
    small.count_anew()
    small.mirror()
    small.sandbox.post_control("/_sandbox/clock", {"advance": 120})
    small.mirror()
    assert small.calls()["GET /api/v2/incremental/organizations"] <= 6
    seen = small.rows("mirror", kind="organization")
    assert len(seen) == len(small.there()["organizations"])


def test_a_second_with_just_a_page_of_changes_is_read_past(small: World) -> None:
    """A page that is just full of one second is asked for again a row smaller, which shows that nothing is left out."""
    small.mirror()
    small.sandbox.post_control("/_sandbox/clock", {"frozen": True})
    for start in range(0, 1000, 100):
        small.zendesk.organizations.create_many([{"name": f"At once {n}"} for n in range(start, start + 100)])
        small.there()
    for wait in (300, 300):
        small.sandbox.post_control("/_sandbox/clock", {"advance": wait})
        small.mirror()
    small.sandbox.post_control("/_sandbox/clock", {"frozen": False})
    assert len(small.rows("mirror", kind="organization")) == len(small.there()["organizations"])


def test_asking_for_every_organization_goes_on_where_it_was_stopped(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that are used up in between do not make the next run ask for those organizations again."""
    small.sync()
    small.clock.sleep(CONFIRM_EVERY)
    monkeypatch.setattr(mirror, "PAGE", 5)
    small.fault("GET /api/v2/organizations/show_many", action="status", status=503, skip=2, times=20)
    with pytest.raises(TryLater):
        small.mirror()
    small.sandbox.delete_control("faults")
    small.count_anew()
    small.mirror()
    small.mirror()
    pages = -(-len(small.there()["organizations"]) // 5)
    assert small.calls()["GET /api/v2/organizations/show_many"] == pages - 2
