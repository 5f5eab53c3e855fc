"""Which customers tickets belong to, by the links: for a page of tickets, and for all that the links have moved.

The decision is `sync/match`, taken ticket by ticket as they are stored. When links appear or move, `moved_matches`
takes it for every ticket of an account in one statement, and a test compares the two over any links.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, literal, or_, select

from airflow_provider_qadzd.ledger.bulk import among
from airflow_provider_qadzd.ledger.schema import link, ticket
from airflow_provider_qadzd.ledger.tickets import lock
from airflow_provider_qadzd.records import Owner

TicketRow = Mapping[str, Any]

MATCH_COLUMNS = ("flow_id", "customer_key", "match_reason", "match_detail")


def linked_owners(tx: Connection, account_id: int, kind: str, ids: set[int | None]) -> dict[int | None, Owner]:
    """Linked key by Zendesk id (for a user the contact's key stands where the customer's would)."""
    asked = select(link.c.zendesk_id, link.c.flow_id, link.c.record_key).where(
        link.c.account_id == account_id, link.c.kind == kind, among(tx, link.c.zendesk_id, ids - {None})
    )
    return {row.zendesk_id: Owner(row.flow_id, row.record_key) for row in tx.execute(asked)}


def customers_of(tx: Connection, requesters: Mapping[int | None, Owner]) -> dict[tuple[int, str], list[Owner]]:
    """The customers that each linked contact belongs to, by flow and contact key.

    Those that they have left count only for who belongs to nobody any more.
    """
    customers: dict[tuple[int, str], list[Owner]] = {}
    left: dict[tuple[int, str], list[Owner]] = {}
    contacts = sorted({owner.customer for owner in requesters.values()})
    flows = sorted({owner.flow_id for owner in requesters.values()})
    asked = select(link.c.flow_id, link.c.record_key, link.c.other_key, link.c.ended_at).where(
        link.c.flow_id.in_(flows), link.c.kind == "membership", among(tx, link.c.record_key, contacts)
    )
    for row in tx.execute(asked.order_by(link.c.flow_id, link.c.record_key, link.c.other_key)):
        found = customers if row.ended_at is None else left
        found.setdefault((row.flow_id, row.record_key), []).append(Owner(row.flow_id, row.other_key))
    return {**left, **customers}


def moved_matches(
    tx: Connection, account_id: int, after: int, limit: int
) -> tuple[dict[int, TicketRow], dict[int, TicketRow]]:
    """The next tickets above id `after` whose match is another one by what is linked now: as they are, and as they
    should be, by their ids in order.

    Closed tickets keep the customer they have; deleted ones are left alone. Nobody else changes any of them until this
    transaction ends.
    """
    lock(tx, account_id)
    home, requester = link.alias("home"), link.alias("requester")
    count, names = _customers(requester)
    one = and_(home.c.record_key.is_(None), count == 1)
    new: dict[str, ColumnElement[Any]] = {
        "flow_id": case((one, requester.c.flow_id), else_=home.c.flow_id),
        "customer_key": case((one, names), else_=home.c.record_key),
        "match_reason": case(
            (home.c.record_key.is_not(None), "organization"),
            (ticket.c.requester_id.is_(None), "no_requester"),
            (count == 1, "requester"),
            (count > 1, "ambiguous"),
            (requester.c.record_key.is_not(None), "requester_without_customer"),
            else_="requester_unknown",
        ),
        "match_detail": case((and_(home.c.record_key.is_(None), count > 1), names), else_=literal("")),
    }
    tied = ticket.outerjoin(home, _is(home, "organization", ticket.c.organization_id)).outerjoin(
        requester, _is(requester, "user", ticket.c.requester_id)
    )
    asked = (
        select(ticket, *(value.label(f"new_{name}") for name, value in new.items()))
        .select_from(tied)
        .where(
            ticket.c.account_id == account_id,
            ticket.c.ticket_id > after,
            ticket.c.gone.is_(False),
            or_(ticket.c.customer_key.is_(None), ticket.c.status != "closed"),
            or_(*(ticket.c[name].is_distinct_from(value) for name, value in new.items())),
        )
        .order_by(ticket.c.ticket_id)
        .limit(limit)
    )
    before, now = dict[int, TicketRow](), dict[int, TicketRow]()
    for found in tx.execute(asked).mappings():
        row = {column.name: found[column.name] for column in ticket.columns if column.name != "account_id"}
        before[row["ticket_id"]] = row
        now[row["ticket_id"]] = {**row, **{name: found[f"new_{name}"] for name in MATCH_COLUMNS}}
    return before, now


def _is(linked: Any, kind: str, zendesk_id: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(
        linked.c.account_id == ticket.c.account_id, linked.c.kind == kind, linked.c.zendesk_id == zendesk_id
    )  # fmt: skip


def _of(pair: Any, requester: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        pair.c.flow_id == requester.c.flow_id, pair.c.kind == "membership", pair.c.record_key == requester.c.record_key
    )  # fmt: skip


def _customers(requester: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """How many customers the linked requester belongs to, and their keys in order: the only one's, if it is one."""
    pair, current = link.alias("pair"), link.alias("current_pair")
    belongs = exists().where(*_of(current, requester), current.c.ended_at.is_(None)).correlate(requester)
    of_requester = (*_of(pair, requester), or_(pair.c.ended_at.is_(None), ~belongs))
    keys = select(pair.c.other_key).where(*of_requester).order_by(pair.c.other_key).correlate(requester).subquery()
    # Both databases join texts in the order in which a subquery gives them.
    names = select(func.aggregate_strings(keys.c.other_key, ", ")).scalar_subquery()
    count = select(func.count()).select_from(pair).where(*of_requester).correlate(requester).scalar_subquery()
    return count, names
