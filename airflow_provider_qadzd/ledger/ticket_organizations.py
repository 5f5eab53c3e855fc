"""Tickets whose organization is missing in Zendesk: which they are, and what became of each.

A ticket has one row here from the intent to set its organization on. Once that is done it stays: somebody who takes the
organization away again by hand is not contradicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, or_, select, update

from airflow_provider_qadzd.ledger.bulk import among, insert_rows, upsert
from airflow_provider_qadzd.ledger.schema import audit_entry, link, ticket
from airflow_provider_qadzd.ledger.schema import ticket_organization as intent
from airflow_provider_qadzd.ledger.store import Ledger

Missing = Any
"""A row: a ticket without an organization, by ticket_id, requester_id, flow_id, customer_key and attempts, with the
organization_id of its customer."""

Intent = Any
"""A row of the table, with its ticket's customer."""

OPEN = ("new", "open", "pending", "hold")
"""The states of tickets on which an organization is set: the rest is over, and closed ones cannot be changed."""

MOST_ATTEMPTS = 3


def missing(ledger: Ledger, account_id: int, after: int, limit: int) -> Sequence[Missing]:
    """The next open tickets above id `after` that belong to a customer by their requester and to no organization.

    Only of requesters who are members of that organization still: Zendesk takes no other. Without those that have an
    open intent, or one that is over about the same organization.
    """
    t, home = ticket.c, link.alias("home")
    customers = and_(
        home.c.flow_id == t.flow_id, home.c.kind == "organization", home.c.record_key == t.customer_key,
        home.c.other_key == "",
    )  # fmt: skip
    person, pair = link.alias("person"), link.alias("pair")
    requester = and_(
        person.c.account_id == t.account_id, person.c.kind == "user", person.c.zendesk_id == t.requester_id
    )  # fmt: skip
    member = and_(
        pair.c.flow_id == t.flow_id, pair.c.kind == "membership", pair.c.record_key == person.c.record_key,
        pair.c.other_key == t.customer_key, pair.c.ended_at.is_(None),
    )  # fmt: skip
    tried = and_(intent.c.account_id == t.account_id, intent.c.ticket_id == t.ticket_id)
    may = or_(
        intent.c.ticket_id.is_(None),
        and_(intent.c.intent_state == "done", intent.c.organization_id != home.c.zendesk_id),
        intent.c.intent_state == "planned",
    )
    asked = (
        select(
            t.ticket_id, t.requester_id, t.flow_id, t.customer_key, intent.c.attempts,
            home.c.zendesk_id.label("organization_id"),
        )
        .select_from(ticket.join(home, customers).join(person, requester).join(pair, member).outerjoin(intent, tried))
        .where(
            t.account_id == account_id, t.ticket_id > after, t.gone.is_(False), t.organization_id.is_(None),
            t.match_reason == "requester", t.status.in_(OPEN), may,
        )
        .order_by(t.ticket_id)
        .limit(limit)
    )  # fmt: skip
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def intend(ledger: Ledger, account_id: int, chosen: Iterable[Missing], run: str) -> None:
    """The intent, committed before the call."""
    now = ledger.clock.time()
    rows = [
        {
            "account_id": account_id, "ticket_id": one.ticket_id, "flow_id": one.flow_id,
            "organization_id": one.organization_id, "intent_state": "sent", "job_id": "", "outcome": "",
            "attempts": (one.attempts or 0) + 1, "sent_epoch": now, "run": run,
        }
        for one in chosen
    ]  # fmt: skip
    with ledger.writing() as tx:
        upsert(tx, intent, rows)


def note_job(ledger: Ledger, account_id: int, ticket_ids: Iterable[int], job_id: str) -> None:
    """The job that carries these intents."""
    _set(ledger, account_id, ticket_ids, job_id=job_id)


def plan_again(ledger: Ledger, account_id: int, ticket_ids: Iterable[int]) -> None:
    """Nothing came of sending these: they are looked at again."""
    _set(ledger, account_id, ticket_ids, intent_state="planned", job_id="")


def in_flight(ledger: Ledger, account_id: int) -> Sequence[Intent]:
    """The intents that were sent and whose outcome is not known yet, by ticket."""
    same = and_(ticket.c.account_id == intent.c.account_id, ticket.c.ticket_id == intent.c.ticket_id)
    asked = (
        select(intent, ticket.c.customer_key)
        .select_from(intent.join(ticket, same))
        .where(intent.c.account_id == account_id, intent.c.intent_state == "sent")
        .order_by(intent.c.ticket_id)
    )
    with ledger.reading() as tx:
        return list(tx.execute(asked).all())


def end(ledger: Ledger, account_id: int, outcomes: Mapping[int, str], intents: Iterable[Intent], run: str) -> None:
    """What became of these tickets, by their ids, and the audit of it."""
    told = [one for one in intents if one.ticket_id in outcomes]
    entries = [
        {
            "flow_id": one.flow_id, "account_id": account_id, "kind": "ticket", "record_key": str(one.ticket_id),
            "event": f"organization_{outcomes[one.ticket_id].split(' ')[0]}",
            "detail": {"organization_id": one.organization_id, "customer": one.customer_key,
                       "outcome": outcomes[one.ticket_id]},
            "happened_at": ledger.now(), "run": run,
        }
        for one in told
    ]  # fmt: skip
    with ledger.writing() as tx:
        for outcome in sorted({outcomes[one.ticket_id] for one in told}):
            ids = [one.ticket_id for one in told if outcomes[one.ticket_id] == outcome]
            these = (intent.c.account_id == account_id, among(tx, intent.c.ticket_id, ids))
            tx.execute(update(intent).where(*these).values(intent_state="done", outcome=outcome))
        insert_rows(tx, audit_entry, entries)


def _set(ledger: Ledger, account_id: int, ticket_ids: Iterable[int], **values: Any) -> None:
    with ledger.writing() as tx:
        these = (intent.c.account_id == account_id, among(tx, intent.c.ticket_id, ticket_ids))
        tx.execute(update(intent).where(*these).values(**values))
