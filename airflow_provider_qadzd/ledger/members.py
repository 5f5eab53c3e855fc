"""Who belongs to which organization, as far as the ledger knows; memberships and second emails are decided on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import link, mirror, qad_contact_of, wanted
from airflow_provider_qadzd.ledger.store import Ledger

UserRow = Any
"""A row of `linked_users`; SQLAlchemy types a row by its columns, of which there are eight."""


def first_organizations(ledger: Ledger, flow: Flow, contacts: Sequence[str]) -> dict[str, int]:
    """The first organization, by customer key, that QAD has each of these in, as far as complete reads have told.

    Only organizations that have their record in Zendesk.
    """
    c = qad_contact_of.c
    asked = (
        select(c.contact_key, link.c.zendesk_id)
        .select_from(qad_contact_of)
        .join(link, and_(_linked(flow, "organization"), link.c.record_key == c.customer_key))
        .join(mirror, and_(_mirrored(flow, "organization"), mirror.c.active))
        .where(c.source_id == flow.source_id, c.contact_key.in_(contacts), c.left_read.is_(None))
        .order_by(c.contact_key, c.customer_key.desc())
    )
    with ledger.reading() as tx:
        return {contact: int(organization) for contact, organization in tx.execute(asked)}


def linked_users(ledger: Ledger, flow: Flow, contacts: Iterable[str]) -> dict[str, UserRow]:
    """By contact: the user's id, activity, role, default organization, last outcome, and count of membership links."""
    pair = link.alias()
    memberships = (
        select(func.count())
        .where(
            pair.c.flow_id == flow.flow_id, pair.c.kind == "membership", pair.c.record_key == link.c.record_key
        )
        .correlate(link)
        .scalar_subquery()
    )  # fmt: skip
    of_record = and_(
        wanted.c.flow_id == link.c.flow_id, wanted.c.kind == link.c.kind, wanted.c.record_key == link.c.record_key
    )
    asked = (
        select(
            link.c.record_key, link.c.zendesk_id, mirror.c.active, mirror.c.user_role, mirror.c.organization_id,
            mirror.c.email_folded,
            wanted.c.last_outcome, memberships.label("memberships"),
        )
        .select_from(link.join(mirror, _mirrored(flow, "user")).join(wanted, of_record))
        .where(_linked(flow, "user"), link.c.record_key.in_(set(contacts)))
    )  # fmt: skip
    with ledger.reading() as tx:
        return {row.record_key: row for row in tx.execute(asked).all()}


def linked_organizations(ledger: Ledger, flow: Flow, customers: Iterable[str]) -> dict[str, int]:
    """The organization ids of these customers, as far as they are linked."""
    asked = select(link.c.record_key, link.c.zendesk_id).where(
        _linked(flow, "organization"), link.c.record_key.in_(set(customers))
    )
    with ledger.reading() as tx:
        return {key: int(zendesk_id) for key, zendesk_id in tx.execute(asked)}


def forget_members(tx: Connection, flow: Flow, kind: str, keys: Iterable[str]) -> None:
    """These organizations or users are gone, and with them every membership, and a user's second emails."""
    gone = (link.c.other_key if kind == "organization" else link.c.record_key).in_(list(keys))
    kinds = ["membership"] if kind == "organization" else ["membership", "identity"]
    tx.execute(delete(link).where(link.c.flow_id == flow.flow_id, link.c.kind.in_(kinds), gone))


def _linked(flow: Flow, kind: str) -> Any:
    return and_(link.c.flow_id == flow.flow_id, link.c.kind == kind, link.c.other_key == "")


def _mirrored(flow: Flow, kind: str) -> Any:
    return and_(mirror.c.account_id == flow.account_id, mirror.c.kind == kind, mirror.c.zendesk_id == link.c.zendesk_id)
