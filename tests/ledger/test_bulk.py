"""Whole pages at once: the same rows as one by one, and the same errors."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.bulk import among, insert_rows, upsert
from airflow_provider_qadzd.ledger.schema import audit_entry, ticket
from tests.ledger.test_tickets import a_ticket

HARD = "tab\\t new\nline back\\slash \\N {é} 'quoted' \u2028"


def rows_of(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    """Tickets' rows of account 1."""
    return [{"account_id": 1, **a_ticket(number, **more)} for number in numbers]


def test_rows_are_replaced_and_the_rest_stays(ledger: Ledger) -> None:
    """A row of the same key is replaced in the columns that are given; others stay; nothing is changed on the way."""
    values = {"subject": HARD, "tags": [HARD, ""], "custom_fields": [{"id": 1, "value": None}, {"id": 2, "value": 1.5}]}
    with ledger.writing() as tx:
        upsert(tx, ticket, rows_of(3, 1, 2, **values, group_id=7))
        upsert(tx, ticket, rows_of(2, customer_key=None))
        upsert(tx, ticket, [])
        stored = {row.ticket_id: row for row in tx.execute(select(ticket).order_by(ticket.c.ticket_id))}
    assert list(stored) == [1, 2, 3]
    assert (stored[3].subject, stored[3].tags, stored[3].custom_fields) == tuple(values.values())
    assert (stored[2].customer_key, stored[2].tags, stored[2].group_id, stored[2].subject) == (None, ["a"], 7, HARD)


def test_a_page_is_part_of_its_transaction(ledger: Ledger) -> None:
    """What fails later takes the page back with it, also when two pages of one table were written."""

    def two_pages_and_a_failure() -> None:
        with ledger.writing() as tx:
            upsert(tx, ticket, rows_of(1, 2))
            upsert(tx, ticket, rows_of(2, 3))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        two_pages_and_a_failure()
    with ledger.writing() as tx:
        assert tx.execute(select(ticket)).all() == []
        upsert(tx, ticket, rows_of(4))
        assert [row.ticket_id for row in tx.execute(select(ticket))] == [4]


def test_inserted_rows_are_numbered(ledger: Ledger) -> None:
    """A table that numbers its rows does so for a page, and columns that are not given have their default."""
    entry = {"kind": "ticket", "record_key": "5", "event": "matched", "detail": {"b": 1, "a": 2}, "happened_at": "now"}
    with ledger.writing() as tx:
        insert_rows(tx, audit_entry, [entry, entry])
        found = tx.execute(select(audit_entry).order_by(audit_entry.c.audit_id)).all()
    assert [(row.run, row.detail) for row in found] == [("", {"a": 2, "b": 1})] * 2
    assert found[1].audit_id == found[0].audit_id + 1


@pytest.mark.parametrize("count", [0, 1, 40_000])
def test_any_number_of_values_is_one_parameter(ledger: Ledger, count: int) -> None:
    """A list may be empty, or longer than either database takes parameters; texts are found as well as numbers."""
    with ledger.writing() as tx:
        upsert(tx, ticket, rows_of(0, 7, 50_000, customer_key="é'1"))
        found = tx.execute(select(ticket.c.ticket_id).where(among(tx, ticket.c.ticket_id, range(count)))).scalars()
        assert set(found) == {one for one in (0, 7) if one < count}
        named = among(tx, ticket.c.customer_key, ["é'1", "other"])
        assert len(tx.execute(select(ticket.c.ticket_id).where(named)).all()) == 3


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_server_that_ends_the_connection_is_an_outage(ledger: Ledger) -> None:
    """Where the database goes away in the middle of a page the caller is told to try later, as with any statement."""

    def cut_off() -> None:
        with ledger.writing() as tx:
            pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with ledger.writing() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            insert_rows(tx, ticket, rows_of(1))

    with pytest.raises(TryLater, match="locked or away"):
        cut_off()
