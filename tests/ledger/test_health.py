"""What the doctor asks the ledger, on both databases."""

from __future__ import annotations

from airflow_provider_qadzd.ledger import Ledger, health, tickets
from airflow_provider_qadzd.ledger.health import KnownFlow
from airflow_provider_qadzd.ledger.store import iso
from tests.conftest import START, SetClock
from tests.ledger.rows import QAD, ZENDESK, a_flow, a_wanted, in_step, want
from tests.ledger.test_tickets import a_delivery, a_ticket


def test_a_flow_is_known_only_once_it_was_used(ledger: Ledger) -> None:
    """Asking for a flow makes none; a used one tells both ends and its templates."""
    assert health.known_flow(ledger, "default") is None
    assert health.known_flow(ledger, "default") is None
    flow = a_flow(ledger)
    assert health.known_flow(ledger, "default") == KnownFlow(flow, QAD, "10USA", ZENDESK, "{code}", "{contact}")


def test_linked_organizations_prove_an_account(ledger: Ledger) -> None:
    """Linked organizations of this account alone are told, by key order, with the external id they have in Zendesk."""
    flow = a_flow(ledger)
    other = a_flow(ledger, "other", zendesk="https://other.zendesk.com")
    in_step(ledger, flow, 12, a_wanted("B", external_id="Key-B"))
    in_step(ledger, flow, 11, a_wanted("A"))
    in_step(ledger, flow, 13, a_wanted("U", "user"))
    in_step(ledger, flow, 14, a_wanted("C"), external_folded="")
    in_step(ledger, other, 21, a_wanted("A"))
    want(ledger, flow, a_wanted("new"))
    assert health.linked_organizations(ledger, flow.account_id) == {11: "a", 12: "key-b"}
    assert health.linked_organizations(ledger, flow.account_id, limit=1) == {11: "a"}
    assert health.linked_organizations(ledger, 99) == {}


def test_the_newest_delivery_is_told(ledger: Ledger, clock: SetClock) -> None:
    """When the newest one arrived, drained or not, and of this account alone."""
    assert health.newest_delivery(ledger, 1) is None
    tickets.store_delivery(ledger, a_delivery("s1"))
    clock.now += 60
    tickets.store_delivery(ledger, a_delivery("s2"))
    clock.now += 60
    tickets.store_delivery(ledger, a_delivery("s3", account_id=2))
    assert health.newest_delivery(ledger, 1) == START + 60


def test_changes_found_by_the_export_are_counted(ledger: Ledger) -> None:
    """Only what the export found, and only what happened after that moment, whenever it was found."""
    account_id = a_flow(ledger).account_id
    told = [("export", 10.0), ("export", 30.0), ("webhook", 40.0), ("export", 50.0)]
    events = [tickets.event_of(a_ticket(n), "updated", by, iso(START + at)) for n, (by, at) in enumerate(told)]
    with ledger.writing() as tx:
        tickets.add_events(tx, ledger, account_id, events)
    assert health.found_by_export_since(ledger, account_id, START) == 3
    assert health.found_by_export_since(ledger, account_id, START + 20) == 2
    assert health.found_by_export_since(ledger, account_id, START + 50) == 0
    assert health.found_by_export_since(ledger, 99, START) == 0
