"""Where what is wanted, what was written and what Zendesk has differ: the questions that a plan starts from.

`candidates` yields only the records that differ, in key order and a page at a time, so that memory stays flat and an
unchanged record costs one indexed comparison. The keys of a page come first, by a plain walk along the primary key;
what a decision needs is then asked for those keys alone, each part by its own index.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)

from airflow_provider_qadzd.ledger.bulk import among
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import change_item, is_open, link, mirror, qad_contact_of, qad_read, wanted
from airflow_provider_qadzd.ledger.store import Ledger, chunks
from airflow_provider_qadzd.records import FAILED, Candidate, Held, Kind

PAGE = 1000
_KEYS = 20_000
"""Keys that differ, read at a time: each such page costs a walk of its own."""


def linked_count(ledger: Ledger, flow: Flow) -> int:
    """How many organizations and users the flow has linked."""
    with ledger.reading() as tx:
        counted = (
            select(func.count())
            .select_from(link)
            .where(link.c.flow_id == flow.flow_id, link.c.kind.in_(["organization", "user"]))
        )
        return int(tx.execute(counted).scalar_one())


def wanted_count(ledger: Ledger, flow: Flow) -> dict[str, int]:
    """How many organizations and users the flow wants."""
    counted = select(wanted.c.kind, func.count()).where(wanted.c.flow_id == flow.flow_id).group_by(wanted.c.kind)
    with ledger.reading() as tx:
        return {kind: int(count) for kind, count in tx.execute(counted)}


# -- candidates --------------------------------------------------------------------------------------------------------


def candidates(ledger: Ledger, flow: Flow, kind: Kind, keys: Sequence[str] | None = None) -> Iterator[Candidate]:
    """The records of `kind` that need a decision, in key order; with `keys`, just those, whether or not they do."""
    for page in [sorted(keys)] if keys is not None else _keys_that_differ(ledger, flow, kind):
        for some in chunks(page, PAGE):
            with ledger.reading() as tx:
                rows = tx.execute(_candidate_query(flow, kind).where(among(tx, wanted.c.record_key, some))).all()
            yield from _unique(rows, kind)


def _keys_that_differ(ledger: Ledger, flow: Flow, kind: Kind) -> Iterator[Sequence[str]]:
    """Pages of keys: not linked, not in the mirror or gone, wanted otherwise than written, or changed by hand.

    Also what came to nothing the last time: what kept it out may be over although nothing differs. And
    organizations whose plain name has become free.
    """
    linked, current = link.alias("linked"), mirror.alias("current")
    differs = or_(
        linked.c.record_key.is_(None), current.c.zendesk_id.is_(None), current.c.active.is_(False),
        wanted.c.fingerprint != linked.c.fingerprint, current.c.digest != linked.c.current_digest,
        wanted.c.last_outcome.in_(FAILED),
    )  # fmt: skip
    if kind == "organization":
        differs = or_(differs, and_(current.c.name_folded != wanted.c.name_folded, ~_name_is_held(flow)))
    asked = (
        select(wanted.c.record_key)
        .select_from(_with_current(flow, kind, linked, current))
        .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind, differs)
        .order_by(wanted.c.record_key)
        .limit(_KEYS)
    )
    after = ""
    while True:
        with ledger.reading() as tx:
            keys = tx.execute(asked.where(wanted.c.record_key > after)).scalars().all()
        if not keys:
            return
        yield keys
        after = keys[-1]


def _with_current(flow: Flow, kind: Kind, linked: FromClause, current: FromClause) -> FromClause:
    """What is wanted with its link, and with the linked record as it is now."""
    its_link = _is_link(linked, flow, kind, wanted.c.record_key)
    its_record = and_(_in_mirror(current, flow, kind), current.c.zendesk_id == linked.c.zendesk_id)
    return wanted.outerjoin(linked, its_link).outerjoin(current, its_record)


def _name_is_held(flow: Flow) -> ColumnElement[bool]:
    holder = mirror.alias("name_holder")
    return exists().where(
        _in_mirror(holder, flow, "organization"), holder.c.active, holder.c.name_folded == wanted.c.name_folded
    )


def _is_link(linked: FromClause, flow: Flow, kind: Kind, key: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(
        linked.c.flow_id == flow.flow_id, linked.c.kind == kind, linked.c.record_key == key, linked.c.other_key == ""
    )  # fmt: skip


@cache  # of a flow and kind it is always the same, and making it takes longer than asking it
def _candidate_query(flow: Flow, kind: Kind) -> Select[Any]:
    """Wanted records of `kind` with everything a decision needs, and who else holds what they want."""
    linked, current = link.alias("linked"), mirror.alias("current")
    by_external, by_other = mirror.alias("by_external"), mirror.alias("by_other")
    unlinked = linked.c.record_key.is_(None)
    if kind == "user":
        # No email is nobody's: null equals nothing, and costs no look at all the users without one.
        holds = and_(by_other.c.email_folded == func.nullif(wanted.c.email_folded, ""), unlinked)
        name_first: ColumnElement[Any] = wanted.c.record_key
    else:
        holds = by_other.c.name_folded == wanted.c.name_folded
        name_first = func.coalesce(_first_peer(flow, kind, "name_folded"), wanted.c.record_key)
    has_external = and_(unlinked, by_external.c.external_folded == wanted.c.external_folded)
    joined = (
        _with_current(flow, kind, linked, current)
        .outerjoin(by_external, and_(_in_mirror(by_external, flow, kind), by_external.c.active, has_external))
        .outerjoin(by_other, and_(_in_mirror(by_other, flow, kind), by_other.c.active, holds))
    )
    return (
        select(
            wanted.c.record_key, wanted.c.external_id, wanted.c.body, wanted.c.fingerprint, wanted.c.aside,
            wanted.c.ended, wanted.c.email_folded, wanted.c.owners, linked.c.body.label("remembered"),
            name_first.label("name_first"),
            mailbox_owner(flow, kind).label("email_first"), _twin(flow, kind).label("twin"),
            linked.c.zendesk_id.label("link_id"),
            *_held_columns(current, flow, "current"), *_held_columns(by_external, flow, "external"),
            *_held_columns(by_other, flow, "other"),
        )
        .select_from(joined)
        .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind)
        .order_by(wanted.c.record_key)
    )  # fmt: skip


def _in_mirror(held: FromClause, flow: Flow, kind: Kind) -> ColumnElement[bool]:
    return and_(held.c.account_id == flow.account_id, held.c.kind == kind)


def _first_peer(flow: Flow, kind: Kind, column: str, *order: str, with_user: bool = False) -> ColumnElement[Any]:
    """Of the keys that can be synced and want the same value in `column`, the first by `order` and then by key."""
    peer, linked = wanted.alias("peer"), link.alias("peer_link")
    first = (
        select(peer.c.record_key)
        .where(
            peer.c.flow_id == flow.flow_id, peer.c.kind == kind, peer.c[column] == wanted.c[column],
            peer.c.aside == "",
        )
        .order_by(*(peer.c[name] for name in order), peer.c.record_key)
        .limit(1)
    )  # fmt: skip
    if with_user:
        first = first.where(exists().where(_is_link(linked, flow, kind, peer.c.record_key)))
    return first.correlate(wanted).scalar_subquery()


def mailbox_owner(flow: Flow, kind: Kind) -> ColumnElement[Any]:
    """Of the contacts that want this row's email, the one whose user it is.

    Whoever has a user already keeps it, this contact itself before others. Of new ones it is the primary contact, then
    the lowest key. Without an email, everyone is their own.
    """
    own = exists().where(_is_link(link.alias("own_link"), flow, kind, wanted.c.record_key))
    return case(
        (or_(wanted.c.email_folded == "", own), wanted.c.record_key),
        else_=func.coalesce(
            _first_peer(flow, kind, "email_folded", "email_rank", with_user=True),
            _first_peer(flow, kind, "email_folded", "email_rank"),
            wanted.c.record_key,
        ),
    )


def _twin(flow: Flow, kind: Kind) -> ColumnElement[Any]:
    """Another key whose external id Zendesk takes for the same."""
    peer = wanted.alias("twin")
    return (
        select(peer.c.record_key)
        .where(
            peer.c.flow_id == flow.flow_id, peer.c.kind == kind,
            peer.c.external_folded == wanted.c.external_folded, peer.c.record_key != wanted.c.record_key,
        )
        .order_by(peer.c.record_key)
        .limit(1)
        .correlate(wanted)
        .scalar_subquery()
    )  # fmt: skip


_HELD = (
    "zendesk_id", "fields", "digest", "active", "external_folded", "email_folded", "user_role", "organization_id",
)  # fmt: skip


def _held_columns(held: FromClause, flow: Flow, prefix: str) -> list[ColumnElement[Any]]:
    """A record of the mirror, with the key it is linked to; another flow's key is told with that flow's number."""
    owner = link.alias(f"{prefix}_owner")
    spelt = case(
        (owner.c.flow_id == flow.flow_id, owner.c.record_key),
        else_=literal("flow ") + cast(owner.c.flow_id, String) + literal(" ") + owner.c.record_key,
    )
    linked_to = (
        select(func.min(spelt))
        .where(
            owner.c.account_id == held.c.account_id, owner.c.kind == held.c.kind,
            owner.c.zendesk_id == held.c.zendesk_id,
        )
        .correlate(held)
        .scalar_subquery()
    )  # fmt: skip
    return [*(held.c[name].label(f"{prefix}_{name}") for name in _HELD), linked_to.label(f"{prefix}_linked_to")]


def _unique(rows: Sequence[Row[Any]], kind: Kind) -> Iterator[Candidate]:
    """One candidate a key: a mirror that lags may hold two records of one name, of which the older id counts."""
    for _, same in itertools.groupby(rows, key=lambda row: row.record_key):
        oldest = min(same, key=lambda row: (row.external_zendesk_id or 0, row.other_zendesk_id or 0))
        yield _candidate(oldest._mapping, kind)


def _candidate(row: Mapping[Any, Any], kind: Kind) -> Candidate:
    other = _held(row, "other")
    return Candidate(
        kind=kind, key=row["record_key"], external_id=row["external_id"], body=row["body"],
        fingerprint=row["fingerprint"], aside=row["aside"], ended=row["ended"], name_first=row["name_first"],
        email_first=row["email_first"], email_folded=row["email_folded"], twin=row["twin"], link_id=row["link_id"],
        owners=row["owners"], remembered=row["remembered"] or {},
        current=_held(row, "current"), by_external=_held(row, "external"),
        by_name=other if kind == "organization" else None, by_email=other if kind == "user" else None,
    )  # fmt: skip


def _held(row: Mapping[Any, Any], prefix: str) -> Held | None:
    if row[f"{prefix}_zendesk_id"] is None:
        return None
    values = {name: row[f"{prefix}_{name}"] for name in (*_HELD, "linked_to")}
    values["role"] = values.pop("user_role")
    return Held(**values)


# -- memberships and identities ----------------------------------------------------------------------------------------


def missing_memberships(ledger: Ledger, flow: Flow, *, share: bool = True) -> Iterator[tuple[str, str]]:
    """(contact, customer) pairs without a membership link, where both have their record or are about to.

    Contacts that share a mailbox count as the one whose user they share, if they do `share`. Only pairs that no
    complete read of their contact has missed, and none before there was a complete one. What is gone from Zendesk, and
    whoever has become staff there, gets no membership.
    """
    of_contact = and_(
        wanted.c.flow_id == flow.flow_id, wanted.c.kind == "user",
        wanted.c.record_key == qad_contact_of.c.contact_key,
    )  # fmt: skip
    read_once = exists().where(
        qad_read.c.source_id == flow.source_id, qad_read.c.kind == "contact", qad_read.c.complete.is_(True)
    )
    owner = mailbox_owner(flow, "user") if share else wanted.c.record_key
    pairs = (
        select(owner.label("owner"), qad_contact_of.c.customer_key.label("customer"))
        .select_from(qad_contact_of.join(wanted, of_contact))
        .where(
            qad_contact_of.c.source_id == flow.source_id, qad_contact_of.c.left_read.is_(None), read_once,
            wanted.c.aside == "",
            ~_linked_pair(flow, qad_contact_of.c.contact_key, qad_contact_of.c.customer_key),
        )
        .distinct()
        .subquery()
    )  # fmt: skip
    asked = (
        select(pairs.c.owner, pairs.c.customer)
        .where(
            ~_linked_pair(flow, pairs.c.owner, pairs.c.customer),
            _has_record(flow, "user", pairs.c.owner), _has_record(flow, "organization", pairs.c.customer),
        )
        .order_by(pairs.c.owner, pairs.c.customer)
    )  # fmt: skip
    with ledger.reading() as tx:  # a first load has as many as contacts: never all of them in memory
        for owner, customer in tx.execute(asked.execution_options(yield_per=PAGE)):
            yield owner, customer


def missing_identities(
    ledger: Ledger, flow: Flow, *, share: bool = True, primary: bool = False
) -> list[tuple[str, str]]:  # fmt: skip
    """(contact, email) where the linked user's primary email is another one and we have not added this one yet.

    With `primary`, also where we have. Contacts who do not `share` a mailbox do not get one that another's user has.
    """
    linked, current, added = link.alias("linked"), mirror.alias("current"), link.alias("added")
    same_added = and_(
        added.c.flow_id == wanted.c.flow_id, added.c.kind == "identity", added.c.record_key == wanted.c.record_key,
        added.c.other_key == wanted.c.email_folded,
    )  # fmt: skip
    asked = (
        select(wanted.c.record_key, wanted.c.body["email"].as_string())
        .select_from(_with_current(flow, "user", linked, current).outerjoin(added, same_added))
        .where(
            wanted.c.flow_id == flow.flow_id, wanted.c.kind == "user", wanted.c.email_folded != "",
            wanted.c.aside == "", _ours_to_change(current), current.c.email_folded != wanted.c.email_folded,
        )
        .order_by(wanted.c.record_key)
    )  # fmt: skip
    if not primary:
        asked = asked.where(added.c.record_key.is_(None))
    if not share:
        asked = asked.where(~_mailbox_of_another(flow))
    with ledger.reading() as tx:
        return [(key, email) for key, email in tx.execute(asked)]


def _mailbox_of_another(flow: Flow) -> ColumnElement[bool]:
    """That the user of another contact with this email has it."""
    peer, user, there = wanted.alias("peer"), link.alias("peer_user"), mirror.alias("peer_there")
    return exists().where(
        peer.c.flow_id == flow.flow_id, peer.c.kind == "user", peer.c.email_folded == wanted.c.email_folded,
        peer.c.record_key != wanted.c.record_key, _is_link(user, flow, "user", peer.c.record_key),
        _in_mirror(there, flow, "user"), there.c.zendesk_id == user.c.zendesk_id,
        there.c.email_folded == wanted.c.email_folded,
    )  # fmt: skip


def _ours_to_change(held: FromClause) -> ColumnElement[bool]:
    """Still there, and an organization or an end user: staff are never touched."""
    return and_(held.c.active, held.c.user_role.in_(["", "end-user"]))


def _linked_pair(flow: Flow, contact: ColumnElement[Any], customer: ColumnElement[Any]) -> ColumnElement[bool]:
    pair = link.alias()
    return exists().where(
        pair.c.flow_id == flow.flow_id, pair.c.kind == "membership", pair.c.record_key == contact,
        pair.c.other_key == customer,
    )  # fmt: skip


def _has_record(flow: Flow, kind: Kind, key: ColumnElement[Any]) -> ColumnElement[bool]:
    linked, held, coming = link.alias(), mirror.alias(), change_item.alias()
    return or_(
        exists().where(
            _is_link(linked, flow, kind, key), _in_mirror(held, flow, kind),
            held.c.zendesk_id == linked.c.zendesk_id, _ours_to_change(held),
        ),
        exists().where(
            coming.c.flow_id == flow.flow_id, coming.c.kind == kind, coming.c.record_key == key,
            is_open(coming),
        ),
    )  # fmt: skip
