"""The circuit breaker of webhooks."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.zendesk.breaker import Breakers

from .conftest import Client, Receiver
from .test_tickets import hook

CREATED = ["zen:event-type:ticket.created"]


@pytest.mark.parametrize(
    ("good", "bad", "opens"),
    [(0, 99, False), (0, 100, True), (31, 69, False), (30, 70, True), (2000, 1000, False), (2000, 1001, True)],
    ids=["too few", "just enough", "under 70 percent", "70 percent", "1,000 errors", "1,001 errors"],
)
def test_it_opens_at_a_share_or_a_number_of_errors(good: int, bad: int, opens: bool) -> None:
    """70 percent of at least 100 requests, or more than 1,000 errors, within five minutes; then for 5 seconds."""
    breakers = Breakers()
    for failed in [False] * good + [True] * bad:
        breakers.count("hook", failed, 1000.0)
    assert breakers.is_open("hook", 1004.9) is opens
    assert not breakers.is_open("hook", 1005.0)
    assert not breakers.is_open("another", 1000.0)


def test_errors_are_forgotten_after_five_minutes() -> None:
    """Requests older than the window do not count."""
    breakers = Breakers()
    for _ in range(99):
        breakers.count("hook", True, 1000.0)
    breakers.count("hook", True, 1300.0)
    assert not breakers.is_open("hook", 1300.0)


@pytest.mark.parametrize("on", [True, False])
def test_a_broken_circuit_loses_deliveries(sandbox: Sandbox, zendesk: Client, receiver: Receiver, on: bool) -> None:
    """After a hundred failures nothing is sent for 5 seconds, and the log says so, unless the breaker is off."""
    sandbox.post_control("clock", {"frozen": True})
    sandbox.post_control("settings", {"circuit_breaker": on})
    row = hook(zendesk, receiver, CREATED)
    receiver.answers = [(500, {})] * 100
    for _ in range(101):
        sandbox.post_control("tickets", {"subject": "S", "wait": True})
    assert len(receiver.seen) == (100 if on else 101)
    log = zendesk.get(f"/api/v2/webhooks/{row['id']}/invocations").json()["invocations"]
    assert log[0]["status"] == ("circuit broken" if on else "success")
    sandbox.post_control("clock", {"advance": 5})
    (delivery,) = sandbox.post_control("tickets", {"subject": "S", "wait": True})["deliveries"]
    assert delivery["status"] == 200
