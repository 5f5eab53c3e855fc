"""Tickets and customers by the links: one statement over all tickets decides as the pure function does over each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from airflow_provider_qadzd.ledger import Ledger, matching, tickets
from airflow_provider_qadzd.ledger.schema import link, ticket
from airflow_provider_qadzd.ledger.store import Transaction
from airflow_provider_qadzd.records import Owner
from airflow_provider_qadzd.sync.match import match
from airflow_provider_qadzd.sync.receive import ticket_row

KEYS, USERS, HOMES, FLOWS = ["C1", "c1", "C10", "Ä,2"], [1, 2, 3], [11, 12], [1, 2]
CONTACTS = st.tuples(st.sampled_from(FLOWS), st.sampled_from(["P", "Q"]))

links = st.fixed_dictionaries(
    {
        "homes": st.dictionaries(st.sampled_from(HOMES), st.tuples(st.sampled_from(FLOWS), st.sampled_from(KEYS))),
        "users": st.dictionaries(
            st.sampled_from(USERS), st.tuples(st.sampled_from(FLOWS), st.sampled_from(["P", "Q"]))
        ),
        "pairs": st.sets(st.tuples(CONTACTS, st.sampled_from(KEYS))),
        "left": st.sets(st.tuples(CONTACTS, st.sampled_from(KEYS))),
    }
)
sent = st.lists(
    st.tuples(
        st.sampled_from([None, *USERS]), st.sampled_from([None, *HOMES]),
        st.sampled_from(["open", "solved", "closed", "deleted"]), st.sampled_from([None, *KEYS]),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


def put_links(tx: Transaction, drawn: dict[str, Any]) -> None:
    """Exactly these links of account 1. One key has one id, as `settle` sees to."""
    row = {
        "account_id": 1,
        "body": {},
        "ours": True,
        "linked_at": "2026-01-01T00:00:00.000Z",
        "other_key": "",
        "ended_at": None,
    }
    rows = {
        (kind, flow, key, ""): {**row, "kind": kind, "flow_id": flow, "record_key": key, "zendesk_id": zendesk_id}
        for kind, name in (("organization", "homes"), ("user", "users"))
        for zendesk_id, (flow, key) in drawn[name].items()
    }
    for (flow, contact), customer in drawn["pairs"]:
        ended = "2026-02-01T00:00:00.000Z" if ((flow, contact), customer) in drawn["left"] else None
        pair = {"kind": "membership", "flow_id": flow, "record_key": contact, "other_key": customer, "ended_at": ended}
        rows["membership", flow, contact, customer] = {**row, **pair, "zendesk_id": None}
    tx.execute(delete(link))
    for one in rows.values():
        tx.execute(insert(link), one)


def decided(tx: Transaction, row: dict[str, Any]) -> tuple[Any, ...]:
    """The match of one ticket by the pure function, from the links as they are read for a page."""
    homes = matching.linked_owners(tx, 1, "organization", {row["organization_id"]})
    requester = matching.linked_owners(tx, 1, "user", {row["requester_id"]}).get(row["requester_id"])
    customers = matching.customers_of(tx, {row["requester_id"]: requester}) if requester else {}
    mine = customers.get((requester.flow_id, requester.customer), []) if requester else []
    found = match(homes.get(row["organization_id"]), row["requester_id"], requester is not None, mine)
    owner = found.owner or Owner(None, None)  # type: ignore[arg-type]
    return owner.flow_id, owner.customer, found.reason, found.detail


def rows_of(drawn: list[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Stored tickets, with a customer from before where one was drawn."""
    for number, (requester, home, status, customer) in enumerate(drawn, 1):
        body = {"id": number, "status": status, "requester_id": requester, "organization_id": home, "updated_at": ""}
        before = {"flow_id": 1 if customer else None, "customer_key": customer, "match_reason": "organization"}
        yield {**ticket_row(body, 1.0, ""), **before, "match_detail": ""}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=links, stored=sent)
def test_one_statement_decides_as_the_function_does(ledger: Ledger, drawn: dict[str, Any], stored: list[Any]) -> None:
    """Whatever is linked: the tickets that move are those whose match differs, and they move to the function's."""
    rows = {row["ticket_id"]: row for row in rows_of(stored)}
    with ledger.writing() as tx:
        tx.execute(delete(ticket))
        put_links(tx, drawn)
        tickets.write_tickets(tx, 1, rows.values())
        before, now = matching.moved_matches(tx, 1, -1, 100)
        expected = {}
        for number, row in rows.items():
            kept = row["gone"] or (row["status"] == "closed" and row["customer_key"] is not None)
            was = tuple(row[name] for name in matching.MATCH_COLUMNS)
            found = decided(tx, row)
            if not kept and found != was:
                expected[number] = found
        assert {n: tuple(row[name] for name in matching.MATCH_COLUMNS) for n, row in now.items()} == expected
        assert before == {number: rows[number] for number in expected}
        tickets.write_tickets(tx, 1, now.values())
        assert matching.moved_matches(tx, 1, -1, 100) == ({}, {})


def test_matches_are_moved_page_by_page(ledger: Ledger) -> None:
    """A page holds the next tickets that move, in the order of their ids, and none of another account."""
    with ledger.writing() as tx:
        drawn = [(1, None, "open", None)] * 7
        tickets.write_tickets(tx, 1, list(rows_of(drawn)))
        tickets.write_tickets(tx, 2, list(rows_of(drawn)))
        put_links(tx, {"homes": {}, "users": {1: (1, "P")}, "pairs": {((1, "P"), "C1")}, "left": set()})
        assert list(matching.moved_matches(tx, 1, -1, 3)[1]) == [1, 2, 3]
        assert list(matching.moved_matches(tx, 1, 3, 100)[1]) == [4, 5, 6, 7]
        assert len(tx.execute(select(ticket)).all()) == 14
