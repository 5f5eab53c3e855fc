"""What a look at the mirror asks: which linked records moved, whom to ask Zendesk about, what is there twice.

Every question walks in key order, a page at a time, or has a bound, so that memory stays flat. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, exists, false, func, or_, select

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import link, mirror, wanted
from airflow_provider_qadzd.ledger.store import Ledger, chunks
from airflow_provider_qadzd.records import Kind

pair_link = link.alias("pair_link")
"""A membership that we know of."""

PAGE = 500
MOST_TOLD = 10_000
"""Of one sort in one look, where a question is not asked page by page."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A linked record that is not as it was when we last agreed. `written` are the fields as we last wrote them.

    `active` is False for what is gone.
    """

    key: str
    zendesk_id: int
    active: bool
    written: Mapping[str, Any]
    email_folded: str


def moved(ledger: Ledger, flow: Flow, kind: Kind) -> Iterator[list[Moved]]:
    """Pages of linked records, in key order, that are gone, changed by hand, or without the external id we want."""
    ledger.take_stock(wanted, link, mirror)
    linked = and_(
        link.c.flow_id == wanted.c.flow_id, link.c.kind == wanted.c.kind, link.c.record_key == wanted.c.record_key,
        link.c.other_key == "",
    )  # fmt: skip
    differs = or_(
        mirror.c.zendesk_id.is_(None), mirror.c.active.is_(False), mirror.c.digest != link.c.current_digest,
        mirror.c.external_folded != wanted.c.external_folded,
    )  # fmt: skip
    asked = (
        select(
            wanted.c.record_key, link.c.zendesk_id, func.coalesce(mirror.c.active, false()), link.c.body,
            wanted.c.email_folded,
        )
        .select_from(wanted.join(link, linked).outerjoin(mirror, _mirrored(flow)))
        .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind, differs)
        .order_by(wanted.c.record_key)
        .limit(PAGE)
    )  # fmt: skip
    after = ""
    while True:
        with ledger.reading() as tx:
            rows = tx.execute(asked.where(wanted.c.record_key > after)).all()
        if not rows:
            return
        yield [Moved(*row) for row in rows]
        after = rows[-1].record_key


def may_have_won(ledger: Ledger, flow: Flow, gone: Moved, limit: int) -> list[int]:
    """Organizations that a customer's organization may have been merged into, the likeliest first.

    Where its people are now; and what Zendesk changed last.
    """
    pair, user, there = link.alias("pair"), link.alias("user"), mirror.alias("there")
    homes = (
        select(there.c.organization_id, func.count().label("members"))
        .select_from(
            pair.join(user, and_(user.c.flow_id == pair.c.flow_id, user.c.kind == "user", user.c.other_key == "",
                                 user.c.record_key == pair.c.record_key))
            .join(there, and_(there.c.account_id == flow.account_id, there.c.kind == "user",
                              there.c.zendesk_id == user.c.zendesk_id))
        )
        .where(
            pair.c.flow_id == flow.flow_id, pair.c.kind == "membership", pair.c.other_key == gone.key,
            there.c.organization_id.is_not(None), there.c.organization_id != gone.zendesk_id,
        )
        .group_by(there.c.organization_id)
        .order_by(func.count().desc(), there.c.organization_id)
        .limit(limit)
    )  # fmt: skip
    touched = (
        select(mirror.c.zendesk_id)
        .where(
            mirror.c.account_id == flow.account_id, mirror.c.kind == "organization", mirror.c.active,
            mirror.c.zendesk_id != gone.zendesk_id,
        )
        .order_by(mirror.c.updated_at.desc(), mirror.c.zendesk_id)
        .limit(limit)
    )  # fmt: skip
    with ledger.reading() as tx:
        found = [int(row[0]) for row in tx.execute(homes)] + [int(row) for row in tx.execute(touched).scalars()]
    return list(dict.fromkeys(found))[:limit]


# -- who belongs where -------------------------------------------------------------------------------------------------


def foreign_defaults(ledger: Ledger, flow: Flow) -> Iterator[list[Any]]:
    """Pages of linked end users whose default organization is none that they are members of by QAD, or is none.

    Each with contact, user id and that organization's id. Only those that have a membership of ours.
    """
    user, org = link.alias("usr"), link.alias("org")
    pair = _pair_said(flow)
    own = exists().where(
        pair, pair_link.c.record_key == user.c.record_key, *_is(org, flow, "organization"),
        org.c.record_key == pair_link.c.other_key, org.c.zendesk_id == mirror.c.organization_id,
    )  # fmt: skip
    any_pair = exists().where(pair, pair_link.c.record_key == user.c.record_key)
    asked = (
        select(user.c.record_key, user.c.zendesk_id, mirror.c.organization_id)
        .select_from(user.join(mirror, _mirrored(flow, user)))
        .where(*_is(user, flow, "user"), mirror.c.active, mirror.c.user_role == "end-user", any_pair, ~own)
        .order_by(user.c.record_key)
        .limit(PAGE)
    )
    after = ""
    while True:
        with ledger.reading() as tx:
            rows = tx.execute(asked.where(user.c.record_key > after)).all()
        if not rows:
            return
        yield list(rows)
        after = rows[-1].record_key


def to_ask_about(ledger: Ledger, flow: Flow, after: str, limit: int) -> list[str]:
    """The next contacts above `after` whose default organization does not tell that all their memberships are there.

    Nothing tells of memberships in bulk. Most contacts have one, and it is their default: those need no question.
    """
    user, org = link.alias("usr"), link.alias("org")
    at_default = func.sum(case((org.c.zendesk_id == mirror.c.organization_id, 1), else_=0))
    asked = (
        select(pair_link.c.record_key)
        .select_from(
            pair_link.join(user, and_(*_is(user, flow, "user"), user.c.record_key == pair_link.c.record_key))
            .join(mirror, _mirrored(flow, user))
            .join(org, and_(*_is(org, flow, "organization"), org.c.record_key == pair_link.c.other_key))
        )
        .where(
            _pair_said(flow), pair_link.c.record_key > after, mirror.c.active, mirror.c.user_role == "end-user"
        )
        .group_by(pair_link.c.record_key)
        .having(or_(func.count() > 1, at_default == 0))
        .order_by(pair_link.c.record_key)
        .limit(limit)
    )  # fmt: skip
    with ledger.reading() as tx:
        return list(tx.execute(asked).scalars())


def memberships_of(ledger: Ledger, flow: Flow, contacts: Sequence[str]) -> dict[str, tuple[int, dict[str, int]]]:
    """By contact: the user's id, and by customer the organization's id, of memberships that QAD still asks for."""
    user, org = link.alias("usr"), link.alias("org")
    asked = (
        select(pair_link.c.record_key, pair_link.c.other_key, user.c.zendesk_id, org.c.zendesk_id)
        .select_from(
            pair_link.join(user, and_(*_is(user, flow, "user"), user.c.record_key == pair_link.c.record_key))
            .join(mirror, _mirrored(flow, user))
            .join(org, and_(*_is(org, flow, "organization"), org.c.record_key == pair_link.c.other_key))
        )
        .where(
            _pair_said(flow), pair_link.c.record_key.in_(contacts), mirror.c.active,
            mirror.c.user_role == "end-user",
        )
    )  # fmt: skip
    found: dict[str, tuple[int, dict[str, int]]] = {}
    with ledger.reading() as tx:
        for contact, customer, user_id, organization_id in tx.execute(asked):
            found.setdefault(contact, (int(user_id), {}))[1][customer] = int(organization_id)
    return found


def _pair_said(flow: Flow) -> ColumnElement[bool]:
    """A membership link that QAD still asks for, as far as complete reads have told."""
    c = pair_link.c
    return and_(c.flow_id == flow.flow_id, c.kind == "membership", c.ended_at.is_(None))


# -- one record twice --------------------------------------------------------------------------------------------------


def duplicates(ledger: Ledger, flow: Flow, kind: Kind, own_field: str) -> list[tuple[str, int, int, str]]:
    """Records that look like a linked one: its key, its Zendesk id, the other's, and what they share.

    The other has its external id; or it is nobody's and has its QAD key in `own_field`; or it is nobody's, without an
    external id, and has its email or name (a user's name counts within one organization only).
    """
    other, current = mirror.alias("other"), mirror.alias("current")
    # An expression, for which there is no index: SQLite would take that of all who have none, once for each key.
    without_external_id = func.coalesce(other.c.external_folded, "") == ""
    stranger = and_(_nobodys(other), without_external_id, other.c.user_role.in_(["", "end-user"]))
    here = and_(other.c.name_folded == wanted.c.name_folded, other.c.organization_id == current.c.organization_id)
    alike: list[tuple[str, ColumnElement[bool]]] = [
        ("external id", and_(other.c.external_folded == wanted.c.external_folded, wanted.c.external_folded != "")),
    ]
    if kind == "user":
        alike.append(("email", and_(stranger, other.c.email_folded == func.nullif(wanted.c.email_folded, ""))))
        alike.append(("name and organization", and_(stranger, here)))
    else:
        alike.append(("name", and_(stranger, other.c.name_folded == wanted.c.name_folded)))
    found = [(key, own, other_id, own_field) for key, own, other_id in _with_our_key(ledger, flow, kind, own_field)]
    for by, condition in alike:
        asked = _beside(flow, kind, other, current).where(condition).limit(MOST_TOLD)
        with ledger.reading() as tx:
            found += [(key, int(own), int(other_id), by) for key, own, other_id in tx.execute(asked)]
    # What is told first of a pair is what they share above all.
    return sorted({(key, other_id): (key, own, other_id, by) for key, own, other_id, by in reversed(found)}.values())


def _nobodys(other: FromClause) -> ColumnElement[bool]:
    owner = link.alias("owner")
    return ~exists().where(
        owner.c.account_id == other.c.account_id, owner.c.kind == other.c.kind, owner.c.zendesk_id == other.c.zendesk_id
    )


def _with_our_key(ledger: Ledger, flow: Flow, kind: Kind, own_field: str) -> list[tuple[str, int, int]]:
    """Linked keys that stand in the own field of a record that is nobody's: key, its Zendesk id, the other's.

    The strangers are few and come first: no index leads from a key into their fields.
    """
    stands = mirror.c.fields[own_field].as_string()
    strangers = (
        select(stands, mirror.c.zendesk_id)
        .where(
            mirror.c.account_id == flow.account_id, mirror.c.kind == kind, mirror.c.active, _nobodys(mirror),
            stands != "",
        )
        .order_by(mirror.c.zendesk_id)
        .limit(MOST_TOLD)
    )  # fmt: skip
    found = []
    with ledger.reading() as tx:
        others = [(str(key), int(other)) for key, other in tx.execute(strangers)]
        for some in chunks(others, PAGE):
            linked = select(link.c.record_key, link.c.zendesk_id).where(
                *_is(link, flow, kind), link.c.record_key.in_({key for key, _ in some})
            )
            own = {key: int(zendesk_id) for key, zendesk_id in tx.execute(linked)}
            found += [(key, own[key], other) for key, other in some if key in own]
    return found


def _beside(flow: Flow, kind: Kind, other: FromClause, current: FromClause) -> Select[Any]:
    """Linked records with every other one of their account; whoever asks says which."""
    linked = and_(*_is(link, flow, kind), link.c.record_key == wanted.c.record_key)
    own = and_(
        current.c.account_id == flow.account_id, current.c.kind == kind, current.c.zendesk_id == link.c.zendesk_id
    )
    in_account = and_(
        other.c.account_id == flow.account_id, other.c.kind == kind, other.c.active,
        other.c.zendesk_id != link.c.zendesk_id,
    )  # fmt: skip
    joined = wanted.join(link, linked).join(current, own).join(other, in_account)
    return (
        select(wanted.c.record_key, link.c.zendesk_id, other.c.zendesk_id)
        .select_from(joined)
        .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind)
        # Not by the other's id as well: for that order SQLite walks all of the mirror once for each key (seen on 3.40).
        .order_by(wanted.c.record_key)
    )


def _is(linked: FromClause, flow: Flow, kind: Kind) -> tuple[ColumnElement[bool], ...]:
    return linked.c.flow_id == flow.flow_id, linked.c.kind == kind, linked.c.other_key == ""


def _mirrored(flow: Flow, linked: FromClause = link) -> ColumnElement[bool]:
    return and_(
        mirror.c.account_id == flow.account_id, mirror.c.kind == linked.c.kind,
        mirror.c.zendesk_id == linked.c.zendesk_id,
    )  # fmt: skip


# -- what a rebuilt ledger leaves --------------------------------------------------------------------------------------


def links_by_kind(ledger: Ledger, flow: Flow) -> dict[str, int]:
    """How many links the flow has."""
    asked = select(link.c.kind, func.count()).where(link.c.flow_id == flow.flow_id).group_by(link.c.kind)
    with ledger.reading() as tx:
        return {kind: int(count) for kind, count in tx.execute(asked.order_by(link.c.kind))}


def unmatched(ledger: Ledger, flow: Flow, kind: Kind) -> tuple[int, int]:
    """How many wanted records have no link, and how many Zendesk records have an external id that none of ours has."""
    linked, peer = link.alias(), wanted.alias()
    alone = select(func.count()).where(
        wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind,
        ~exists().where(*_is(linked, flow, kind), linked.c.record_key == wanted.c.record_key),
    )  # fmt: skip
    strange = select(func.count()).where(
        mirror.c.account_id == flow.account_id, mirror.c.kind == kind, mirror.c.active, mirror.c.external_folded != "",
        ~exists().where(
            peer.c.flow_id == flow.flow_id, peer.c.kind == kind, peer.c.external_folded == mirror.c.external_folded
        ),
    )  # fmt: skip
    with ledger.reading() as tx:
        return int(tx.execute(alone).scalar_one()), int(tx.execute(strange).scalar_one())
