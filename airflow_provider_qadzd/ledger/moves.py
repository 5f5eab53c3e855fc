"""Memberships that QAD no longer asks for: which they are, where their users belong now, which of them may go.

A membership is ended once a complete read has shown its contact elsewhere, or not at all; whoever else shares the
user's mailbox and is still there keeps it. Ended ones are marked on their link, so that nothing has to be compared
again for all the others.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, exists, func, insert, not_, or_, select, tuple_, update

from airflow_provider_qadzd.ledger.differences import mailbox_owner
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import audit_entry, link, mirror, qad_contact_of, ticket, wanted
from airflow_provider_qadzd.ledger.store import Ledger

Pair = tuple[str, str]
"""A contact's key and a customer's."""

OVER = ("solved", "closed", "deleted")
"""Tickets that lose nothing when their requester leaves the organization."""

_MOST = 500


def note_ended(ledger: Ledger, flow: Flow, run: str) -> int:
    """Mark the memberships that have ended, and take the mark from those that QAD asks for again. How many changed."""
    m = link.alias("m")
    is_membership = and_(m.c.flow_id == flow.flow_id, m.c.kind == "membership")
    left = _left_pairs(flow).subquery()
    is_left = and_(is_membership, m.c.record_key == left.c.owner, m.c.other_key == left.c.customer)
    gone = (
        select(m.c.record_key, m.c.other_key)
        .select_from(left.join(m, is_left))
        .where(m.c.ended_at.is_(None), not_(_asked_for(flow, m)))
        .order_by(m.c.record_key, m.c.other_key)
        .limit(_MOST)
    )
    back = (
        select(m.c.record_key, m.c.other_key)
        .where(is_membership, m.c.ended_at.is_not(None), _asked_for(flow, m))
        .order_by(m.c.record_key, m.c.other_key)
        .limit(_MOST)
    )
    changed = 0
    for asked, event, ended_at in ((gone, "membership_ended", ledger.now()), (back, "membership_wanted_again", None)):
        while True:
            with ledger.writing() as tx:
                pairs = [(key, other) for key, other in tx.execute(asked)]
                if not pairs:
                    break
                these = tuple_(link.c.record_key, link.c.other_key).in_(pairs)
                of_flow = and_(link.c.flow_id == flow.flow_id, link.c.kind == "membership")
                tx.execute(update(link).where(of_flow, these).values(ended_at=ended_at))
                tx.execute(insert(audit_entry), [_news(ledger, flow, pair, event, run) for pair in pairs])
            changed += len(pairs)
    return changed


def to_make_default(ledger: Ledger, flow: Flow, only: Pair | None = None) -> list[Pair]:
    """Whose default organization is one that they have left: with the first customer that they belong to now."""
    ended, now = link.alias("ended"), link.alias("now")
    asked = (
        select(ended.c.record_key, func.min(now.c.other_key))
        .select_from(_ended_with_user(flow, ended).join(now, _current(now, ended)))
        .where(_is_default(flow, ended.c.other_key), _is_there(flow, now.c.other_key))
        .group_by(ended.c.record_key)
        .order_by(ended.c.record_key)
    )
    if only is not None:
        asked = asked.where(ended.c.record_key == only[0], now.c.other_key == only[1])
    with ledger.reading() as tx:
        return [(contact, customer) for contact, customer in tx.execute(asked)]


def to_remove(ledger: Ledger, flow: Flow, before: int, only: Pair | None = None) -> list[Pair]:
    """Memberships of ours that may go: missing since before that read, and their user belongs elsewhere now.

    Not the user's default, and not while an open ticket of theirs sits in the organization, as far as we know.
    """
    ended, now = link.alias("ended"), link.alias("now")
    home = link.alias("home")
    is_home = and_(
        home.c.flow_id == flow.flow_id, home.c.kind == "organization", home.c.record_key == ended.c.other_key
    )
    open_ticket = exists().where(
        ticket.c.account_id == flow.account_id, ticket.c.requester_id == mirror.c.zendesk_id,
        ticket.c.organization_id == home.c.zendesk_id, ticket.c.gone.is_(False), ticket.c.status.not_in(OVER),
    )  # fmt: skip
    asked = (
        select(ended.c.record_key, ended.c.other_key)
        .select_from(_ended_with_user(flow, ended).join(home, is_home))
        .where(
            ended.c.ours, exists().where(_current(now, ended)),
            not_(_seen_since(flow, ended, before)), not_(_asked_for(flow, ended)),
            or_(mirror.c.organization_id.is_(None), mirror.c.organization_id != home.c.zendesk_id), not_(open_ticket),
        )
        .order_by(ended.c.record_key, ended.c.other_key)
    )  # fmt: skip
    if only is not None:
        asked = asked.where(ended.c.record_key == only[0], ended.c.other_key == only[1])
    with ledger.reading() as tx:
        return [(contact, customer) for contact, customer in tx.execute(asked)]


def added_count(ledger: Ledger, flow: Flow) -> int:
    """How many memberships of this flow we have added."""
    c = link.c
    counted = select(func.count()).where(c.flow_id == flow.flow_id, c.kind == "membership", c.ours)
    with ledger.reading() as tx:
        return int(tx.execute(counted).scalar_one())


def _left_pairs(flow: Flow) -> Any:
    """(owner, customer) of every pair that a complete read has missed; the owner has the user in Zendesk."""
    c = qad_contact_of.c
    of_contact = and_(
        wanted.c.flow_id == flow.flow_id, wanted.c.kind == "user", wanted.c.record_key == c.contact_key
    )  # fmt: skip
    return (
        select(mailbox_owner(flow, "user").label("owner"), c.customer_key.label("customer"))
        .select_from(qad_contact_of.join(wanted, of_contact))
        .where(c.source_id == flow.source_id, c.left_read.is_not(None))
        .distinct()
    )


def _asked_for(flow: Flow, member: FromClause) -> ColumnElement[bool]:
    return _pair_exists(flow, member, lambda pair: pair.c.left_read.is_(None))


def _seen_since(flow: Flow, member: FromClause, before: int) -> ColumnElement[bool]:
    return _pair_exists(flow, member, lambda pair: pair.c.last_read >= before)


def _pair_exists(flow: Flow, member: FromClause, how: Any) -> ColumnElement[bool]:
    """That QAD has the member's contact, or one who shares its mailbox and user, with the customer, seen so."""
    own, shared = qad_contact_of.alias(), qad_contact_of.alias()
    first, other, user = wanted.alias(), wanted.alias(), link.alias()
    with_user = exists().where(
        user.c.flow_id == flow.flow_id, user.c.kind == "user", user.c.record_key == other.c.record_key
    )
    return or_(
        exists().where(
            own.c.source_id == flow.source_id, own.c.contact_key == member.c.record_key,
            own.c.customer_key == member.c.other_key, how(own),
        ),
        exists().where(
            first.c.flow_id == flow.flow_id, first.c.kind == "user", first.c.record_key == member.c.record_key,
            first.c.email_folded != "", other.c.flow_id == flow.flow_id, other.c.kind == "user",
            other.c.email_folded == first.c.email_folded, not_(with_user), shared.c.source_id == flow.source_id,
            shared.c.contact_key == other.c.record_key, shared.c.customer_key == member.c.other_key, how(shared),
        ),
    )  # fmt: skip


def _ended_with_user(flow: Flow, ended: FromClause) -> FromClause:
    """Ended memberships with the mirror's record of their user, who is there and an end user."""
    user = link.alias("its_user")
    is_user = and_(user.c.flow_id == flow.flow_id, user.c.kind == "user", user.c.record_key == ended.c.record_key)
    is_ended = and_(ended.c.flow_id == flow.flow_id, ended.c.kind == "membership", ended.c.ended_at.is_not(None))
    there = and_(
        _in_mirror(flow, mirror, "user"), mirror.c.zendesk_id == user.c.zendesk_id, mirror.c.active,
        mirror.c.user_role == "end-user",
    )  # fmt: skip
    return ended.join(user, and_(is_ended, is_user)).join(mirror, there)


def _current(now: FromClause, ended: FromClause) -> ColumnElement[bool]:
    return and_(
        now.c.flow_id == ended.c.flow_id, now.c.kind == "membership", now.c.record_key == ended.c.record_key,
        now.c.ended_at.is_(None),
    )  # fmt: skip


def _is_default(flow: Flow, customer: ColumnElement[Any]) -> ColumnElement[bool]:
    home = link.alias("left_home")
    return exists().where(
        home.c.flow_id == flow.flow_id, home.c.kind == "organization", home.c.record_key == customer,
        home.c.zendesk_id == mirror.c.organization_id,
    )  # fmt: skip


def _is_there(flow: Flow, customer: ColumnElement[Any]) -> ColumnElement[bool]:
    home, there = link.alias("new_home"), mirror.alias("there")
    return exists().where(
        home.c.flow_id == flow.flow_id, home.c.kind == "organization", home.c.record_key == customer,
        _in_mirror(flow, there, "organization"), there.c.zendesk_id == home.c.zendesk_id, there.c.active,
    )  # fmt: skip


def _in_mirror(flow: Flow, held: FromClause | Table, kind: str) -> ColumnElement[bool]:
    return and_(held.c.account_id == flow.account_id, held.c.kind == kind)


def _news(ledger: Ledger, flow: Flow, pair: Pair, event: str, run: str) -> dict[str, Any]:
    return {
        "flow_id": flow.flow_id, "account_id": flow.account_id, "kind": "membership", "record_key": pair[0],
        "event": event, "detail": {"other": pair[1]}, "happened_at": ledger.now(), "run": run,
    }  # fmt: skip
