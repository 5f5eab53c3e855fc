"""Two sources and two accounts whose keys, names and ids are all equal: nothing of one is ever seen from the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, accounts, changes, exports, tickets
from airflow_provider_qadzd.ledger.applying import end_applier, take_applier
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.tickets import Stretch
from tests.ledger.rows import (
    a_change,
    a_flow,
    a_record,
    a_wanted,
    an_end,
    found,
    in_step,
    observe,
    one,
    plan_changes,
    settle,
    want,
)
from tests.ledger.test_accounts import a_person, read_contacts
from tests.ledger.test_changes import items
from tests.ledger.test_tickets import a_delivery, a_ticket, add


@pytest.fixture
def flows(ledger: Ledger) -> tuple[Flow, Flow]:
    """Test feeds test, production feeds production."""
    return (
        a_flow(ledger, "test", qad="https://qad-test.example.com", zendesk="https://test.zendesk.com"),
        a_flow(ledger, "production", qad="https://qad.example.com", zendesk="https://acme.zendesk.com"),
    )


@pytest.fixture
def crossed(ledger: Ledger) -> tuple[Flow, Flow]:
    """Two sources feed one account, under external ids of their own."""
    return a_flow(ledger, "us"), a_flow(ledger, "eu", qad="https://eu.example.com", part="eu-")


def test_sources_are_read_and_mapped_apart(ledger: Ledger, flows: tuple[Flow, Flow]) -> None:
    """A contact of the same key in two sources is two records, and contradicts nobody."""
    for flow, name in zip(flows, ("Ada", "Eve"), strict=True):
        read_contacts(ledger, flow.source_id, [("P1", "C1", a_person(name))])
    for flow, name in zip(flows, ("Ada", "Eve"), strict=True):
        (page,) = accounts.records_to_map(ledger, flow, "contact", "user", "rules")
        assert [(row.record_key, row.payload["name"], row.conflict) for row in page] == [("P1", name, False)]
        accounts.save_wanted(ledger, flow, [(a_wanted("P1", "user", name=name), page[0].digest)])
        accounts.note_mapping(ledger, flow, "rules")
    assert [one(ledger, flow, "P1", "user").body["name"] for flow in flows] == ["Ada", "Eve"]


def test_accounts_are_mirrored_linked_and_compared_apart(ledger: Ledger, flows: tuple[Flow, Flow]) -> None:
    """What is in step in one account is still to be made in the other, and nobody there holds its name."""
    test, production = flows
    in_step(ledger, test, 7, a_wanted("C1", name="Acme"))
    want(ledger, production, a_wanted("C1", name="Acme"))
    assert found(ledger, test) == []
    (candidate,) = found(ledger, production)
    assert (candidate.link_id, candidate.by_external, candidate.by_name, candidate.twin) == (None, None, None, None)
    observe(ledger, a_record(7, production.account_id, digest="by hand", observed_epoch=200.0))
    settle(ledger, production, an_end("organization", "C1", 7, fingerprint=candidate.fingerprint))
    assert found(ledger, test) == []
    assert [changes.linked_id(ledger, flow, "organization", "C1") for flow in flows] == [7, 7]


def test_two_flows_into_one_account_share_ids_and_no_keys(ledger: Ledger, crossed: tuple[Flow, Flow]) -> None:
    """The same key of two sources is two records; each sees the other's as somebody else's."""
    us, eu = crossed
    in_step(ledger, us, 7, a_wanted("P1", "user", email="ada@example.com"))
    want(ledger, eu, a_wanted("P1", "user", email="ada@example.com", external_id="eu-P1"))
    (candidate,) = found(ledger, eu, "user")
    assert (candidate.twin, candidate.email_first, candidate.link_id) == (None, "P1", None)
    assert candidate.by_email is not None
    assert candidate.by_email.linked_to == f"flow {us.flow_id} P1"
    settle(ledger, eu, an_end("user", "P1", 7))
    assert changes.linked_id(ledger, eu, "user", "P1") is None
    with ledger.reading() as tx:
        owners = tickets.linked_owners(tx, us.account_id, "user", {7})
        assert [(owner.flow_id, owner.customer) for owner in owners.values()] == [(us.flow_id, "P1")]


def test_memberships_are_missing_apart(ledger: Ledger, crossed: tuple[Flow, Flow]) -> None:
    """The same pair of two sources is two memberships, and a requester's customers are those of its own flow."""
    for n, flow in enumerate(crossed):
        read_contacts(ledger, flow.source_id, [("P1", "C1", a_person())])
        in_step(ledger, flow, 10 + n, a_wanted("P1", "user", external_id=f"{n}-P1"))
        in_step(ledger, flow, 20 + n, a_wanted("C1", external_id=f"{n}-C1"))
    us, eu = crossed
    settle(ledger, us, an_end("membership", "P1", None, other="C1"))
    assert list(accounts.missing_memberships(ledger, us)) == []
    assert list(accounts.missing_memberships(ledger, eu)) == [("P1", "C1")]
    with ledger.reading() as tx:
        requesters = tickets.linked_owners(tx, us.account_id, "user", {10, 11})
        assert list(tickets.customers_of(tx, requesters)) == [(us.flow_id, "P1")]


def test_what_is_gone_in_one_account_is_gone(ledger: Ledger, flows: tuple[Flow, Flow]) -> None:
    """A user who was deleted gets no membership because one of the same id lives in another account."""
    for flow in flows:
        read_contacts(ledger, flow.source_id, [("P1", "C1", a_person())])
        in_step(ledger, flow, 7, a_wanted("P1", "user"), active=flow.name == "test")
        in_step(ledger, flow, 8, a_wanted("C1"))
    assert [list(accounts.missing_memberships(ledger, flow)) for flow in flows] == [[("P1", "C1")], []]


def test_changes_and_appliers_are_apart(ledger: Ledger, flows: tuple[Flow, Flow]) -> None:
    """Equal targets in two accounts are both open, sent and superseded apart, each under its account's lease."""
    test, production = flows
    assert [plan_changes(ledger, flow, a_change("C1")) for flow in flows] == [1, 1]
    leases = [take_applier(ledger, flow.account_id, flow.name, 300) for flow in flows]
    first, second = items(ledger)
    changes.mark_sent(ledger, leases[0], [first.change_id])
    changes.supersede_planned(ledger, production)
    assert [item.change_state for item in items(ledger)] == ["sent", "done"]
    assert [len(changes.in_flight(ledger, flow)) for flow in flows] == [1, 0]
    with pytest.raises(TryLater, match="production"):
        take_applier(ledger, production.account_id, "test", 300)
    end_applier(ledger, leases[0])
    assert second.flow_id == production.flow_id
    assert [changes.outcomes_of(ledger, flow, n) for n, flow in enumerate(flows, 1)] == [
        {"organization": {"postponed": 1}}, {"organization": {"superseded": 1}}
    ]  # fmt: skip
    assert test.account_id != production.account_id


@pytest.mark.parametrize(
    "do",
    [
        pytest.param(lambda ledger, n: tickets.store_delivery(ledger, a_delivery("s1", "p1", n)), id="a delivery"),
        pytest.param(lambda ledger, n: LedgerBudget(ledger, n).take("exports", 10) == 0.0, id="a budget"),
    ],
)
def test_the_same_in_each_account_is_not_a_repeat(ledger: Ledger, do: Callable[[Ledger, int], Any]) -> None:
    """What one account has taken, the other has still to give."""
    assert do(ledger, 1)
    assert do(ledger, 2)


def test_cursors_are_apart(ledger: Ledger) -> None:
    """Each account's leg goes on where it stopped itself."""
    for account_id in (1, 2):
        exports.start_once(ledger, account_id, "tickets", exports.start_position(account_id))
    assert [exports.position_of(ledger, account_id, "tickets") for account_id in (1, 2)] == ["start:1", "start:2"]


def test_tickets_and_events_are_apart(ledger: Ledger, flows: tuple[Flow, Flow]) -> None:
    """Equal ticket ids in two accounts are two tickets; each account numbers its own events from one."""
    test, production = (flow.account_id for flow in flows)
    with ledger.writing() as tx:
        tickets.write_tickets(tx, test, [a_ticket(5, status="open")])
        tickets.write_tickets(tx, production, [a_ticket(5, status="solved")])
        assert tickets.known_tickets(tx, test, [5])[5]["status"] == "open"
        assert list(tickets.tickets_to_match(tx, test, 0)) == [5]
    add(ledger, test, a_ticket(5), a_ticket(5))
    add(ledger, production, a_ticket(5))
    assert [len(tickets.events_after(ledger, one, 0)) for one in (test, production)] == [2, 1]
    tickets.save_stretch(ledger, test, "dag", "wait", "run", Stretch(0, 2))
    assert tickets.last_seen(ledger, production, "dag", "wait") == 1
    assert tickets.stretch_of(ledger, production, "dag", "wait", "run") is None
