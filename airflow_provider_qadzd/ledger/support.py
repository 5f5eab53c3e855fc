"""A customer's support history: every ticket of theirs, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import account, customer_tickets, ticket
from airflow_provider_qadzd.ledger.store import Ledger

_TOLD = (
    "ticket_id", "status", "priority", "ticket_type", "subject", "created_at", "updated_at", "solved_at",
    "match_reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Support:
    """One customer's tickets in one flow, newest change first, and their row of the view `qadzd_customer_tickets`.

    `tickets` are at most as many as were asked for; `base_url` is the Zendesk account's address.
    """

    flow: str
    customer: str
    base_url: str
    open_tickets: int
    solved_tickets: int
    last_activity_at: str
    tickets: tuple[Row[Any], ...]


def support_of(ledger: Ledger, flow: Flow, customer: str, limit: int) -> Support | None:
    """The support history of a customer, None where they have no ticket."""
    t, v = ticket.c, customer_tickets.c
    asked = (
        select(*(t[name] for name in _TOLD))
        .where(
            t.account_id == flow.account_id, t.flow_id == flow.flow_id, t.customer_key == customer, t.gone.is_(False)
        )
        .order_by(t.updated_at.desc(), t.ticket_id.desc())
        .limit(limit)
    )  # fmt: skip
    counted = select(v.open_tickets, v.solved_tickets, v.last_activity_at).where(
        v.flow_name == flow.name, v.customer_key == customer
    )
    with ledger.reading() as tx:
        counts = tx.execute(counted).one_or_none()
        if counts is None:
            return None
        url = tx.execute(select(account.c.base_url).where(account.c.account_id == flow.account_id)).scalar_one()
        return Support(flow.name, customer, url, *counts, tuple(tx.execute(asked).all()))
