"""Whatever the order in which versions of tickets come, and however often, the newest one stands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_qadzd.ledger import Ledger, identity, schema
from airflow_provider_qadzd.ledger.store import iso
from airflow_provider_qadzd.sync.receive import store_tickets, ticket_row

VERSIONS = [
    {"id": ticket_id, "status": status, "subject": f"{ticket_id} at {at}", "updated_at": iso(at), "requester_id": 9}
    for ticket_id in (1, 2, 3)
    for at, status in ((1_000, "new"), (2_000, "open"), (2_000.5, "pending"), (3_000, "solved"), (4_000, "closed"))
]


@pytest.fixture(scope="module")
def ledger() -> Iterator[tuple[Ledger, int]]:
    """A ledger that all examples share; each begins with an empty ticket table."""
    with tempfile.TemporaryDirectory() as folder:
        found = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}").opened()
        yield found, identity.account_at(found, "https://acme.zendesk.com").account_id


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, len(VERSIONS) - 1), max_size=6), max_size=8))
def test_the_newest_version_stands(ledger: tuple[Ledger, int], batches: list[list[int]]) -> None:
    """Any order, any repetition, any portions: each ticket ends as its newest version says, and never goes back."""
    found, account_id = ledger
    newest: dict[int, tuple[str, str]] = {}
    with found.writing() as tx:
        tx.execute(schema.ticket.delete())
    for fetched, batch in enumerate(batches):
        rows = [ticket_row(VERSIONS[one], fetched) for one in batch]
        with found.writing() as tx:
            store_tickets(tx, found, account_id, rows)
        for one in batch:
            version = VERSIONS[one]
            seen = (str(version["updated_at"]), str(version["subject"]))
            newest[int(str(version["id"]))] = max(seen, newest.get(int(str(version["id"])), ("", "")))
        with found.reading() as tx:
            stored = {row.ticket_id: (row.updated_at, row.subject) for row in tx.execute(schema.ticket.select())}
        assert stored == newest


@pytest.mark.parametrize(("first", "second", "stands"), [(5, 6, "second"), (6, 5, "first"), (5, 5, "second")])
def test_of_one_version_the_later_fetch_stands(
    ledger: tuple[Ledger, int], first: float, second: float, stands: str
) -> None:
    """Two fetches of one version: the one that was asked for later stands."""
    found, account_id = ledger
    with found.writing() as tx:
        tx.execute(schema.ticket.delete())
    for fetched, subject in ((first, "first"), (second, "second")):
        row = ticket_row({**VERSIONS[0], "subject": subject}, fetched)
        with found.writing() as tx:
            store_tickets(tx, found, account_id, [row])
    with found.reading() as tx:
        assert tx.execute(schema.ticket.select()).one().subject == stands
