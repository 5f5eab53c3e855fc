"""A customer's support history, and the view of everybody's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from airflow_provider_qadzd.ledger import Ledger, tickets
from airflow_provider_qadzd.ledger.support import support_of
from tests.ledger.rows import a_flow
from tests.ledger.test_tickets import a_ticket


def store(ledger: Ledger, account_id: int, flow_id: int | None, *drawn: tuple[int, str, str | None]) -> None:
    """Tickets by id, status and customer, each changed at the day of its id."""
    rows: list[dict[str, Any]] = [
        a_ticket(
            number, status=status, customer_key=customer, flow_id=flow_id if customer else None,
            gone=status == "deleted", updated_at=f"2026-01-{number:02d}T00:00:00Z",
        )
        for number, status, customer in drawn
    ]  # fmt: skip
    with ledger.writing() as tx:
        tickets.write_tickets(tx, account_id, rows)


def test_the_view_counts_by_customer(ledger: Ledger) -> None:
    """Open, solved and the last change of each customer, in each flow; deleted and unmatched ones count for nothing."""
    one, two = a_flow(ledger), a_flow(ledger, "two", part="two-")
    drawn = [(1, "new", "A"), (2, "pending", "A"), (3, "solved", "A"), (4, "closed", "A"), (5, "deleted", "A")]
    store(ledger, one.account_id, one.flow_id, *drawn, (6, "hold", "B"), (7, "open", None))
    store(ledger, two.account_id, two.flow_id, (21, "open", "A"))
    with ledger.reading() as tx:
        rows = tx.execute(text("SELECT * FROM qadzd_customer_tickets ORDER BY 1, 2")).all()
    assert [tuple(row) for row in rows] == [
        (one.name, "A", 2, 2, "2026-01-04T00:00:00Z"),
        (one.name, "B", 1, 0, "2026-01-06T00:00:00Z"),
        (two.name, "A", 1, 0, "2026-01-21T00:00:00Z"),
    ]


def test_a_customers_history_is_the_newest_first(ledger: Ledger) -> None:
    """All tickets of the customer in that flow, newest change first, at most as many as asked for, with the counts."""
    flow = a_flow(ledger)
    store(
        ledger, flow.account_id, flow.flow_id, (1, "open", "A"), (3, "solved", "A"), (2, "open", "A"), (4, "open", "B")
    )
    found = support_of(ledger, flow, "A", 2)
    assert found is not None
    assert [row.ticket_id for row in found.tickets] == [3, 2]
    assert (found.open_tickets, found.solved_tickets, found.last_activity_at) == (2, 1, "2026-01-03T00:00:00Z")
    assert support_of(ledger, flow, "C", 2) is None
