"""The outward journey's memory: what QAD said, what is wanted, what Zendesk has, and where they differ.

Every function is one short transaction, or works in the one it is given. `candidates` yields only the records whose
wanted, written and current values differ, in key order and a page at a time, so that memory stays flat and an
unchanged record costs one indexed comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, case, exists, func, insert, or_, select, update
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Alias

from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import (
    change_item, flow as flow_table, link, mirror, qad_contact_of, qad_read, qad_record, wanted,
)  # fmt: skip
from airflow_provider_qadzd.ledger.store import Ledger, chunks, upsert
from airflow_provider_qadzd.records import Candidate, Held, Kind, Wanted, digest, fold

PAGE = 1000

SAME_RECORD = {"customer": ("name",), "contact": ("name", "email", "phone", "function")}
"""Rows of one read with one key are one record if these fields agree; if not, the key stands for two of them."""


# -- what QAD said -----------------------------------------------------------------------------------------------------


def begin_read(ledger: Ledger, source_id: int, kind: str, mode: str, run: str) -> int:
    """A new read, not yet complete. Its id grows, so that later reads compare greater."""
    row = {"source_id": source_id, "kind": kind, "read_mode": mode, "started_at": ledger.now(), "run": run}
    with ledger.writing() as tx:
        return int(tx.execute(insert(qad_read).values(row).returning(qad_read.c.read_id)).scalar_one())


def end_read(ledger: Ledger, read_id: int, *, complete: bool, reason: str) -> None:
    """The read is over: `complete`, or not for the reason given."""
    with ledger.writing() as tx:
        tx.execute(
            update(qad_read)
            .where(qad_read.c.read_id == read_id)
            .values(complete=complete, reason=reason, ended_at=ledger.now())
        )


def save_page(
    ledger: Ledger, source_id: int, kind: str, read_id: int, payloads: Sequence[tuple[str, Mapping[str, Any]]],
    contact_of: Iterable[tuple[str, str]] = (),
) -> None:  # fmt: skip
    """One page of a read, in one transaction: payloads by key, and (contact, customer) pairs."""
    with ledger.writing() as tx:
        known = _known_records(tx, source_id, kind, [key for key, _ in payloads])
        merged: dict[str, dict[str, Any]] = {}
        for key, payload in payloads:
            row = merged.get(key) or known.get(key)
            merged[key] = _merged(row, kind, key, payload, read_id)
        now = ledger.now()
        upsert(
            tx, qad_record,
            ({"source_id": source_id, "kind": kind, "first_seen_at": now, **row} for row in merged.values()),
            keep=["first_seen_at"],
        )  # fmt: skip
        pairs = {
            (contact, customer): {
                "source_id": source_id, "contact_key": contact, "customer_key": customer, "last_read": read_id
            }
            for contact, customer in contact_of
        }  # fmt: skip
        upsert(tx, qad_contact_of, pairs.values())
        tx.execute(
            update(qad_read)
            .where(qad_read.c.read_id == read_id)
            .values(row_count=qad_read.c.row_count + len(payloads))
        )


def _known_records(tx: Connection, source_id: int, kind: str, keys: list[str]) -> dict[str, dict[str, Any]]:
    columns = (qad_record.c.record_key, qad_record.c.payload, qad_record.c.last_read, qad_record.c.conflict)
    asked = select(*columns).where(
        qad_record.c.source_id == source_id, qad_record.c.kind == kind, qad_record.c.record_key.in_(keys)
    )
    return {row.record_key: dict(row._mapping) for row in tx.execute(asked)}


def _merged(
    row: Mapping[str, Any] | None, kind: str, key: str, payload: Mapping[str, Any], read_id: int
) -> dict[str, Any]:
    conflict = False
    if row is not None and row["last_read"] == read_id:
        before = row["payload"]
        conflict = row["conflict"] or any(before.get(name) != payload.get(name) for name in SAME_RECORD[kind])
        payload = {**before, "primary": before.get("primary") or payload.get("primary")} if "primary" in before else before
    return {
        "record_key": key, "key_folded": fold(key), "payload": dict(payload), "digest": digest(dict(payload), conflict),
        "conflict": conflict, "last_read": read_id,
    }  # fmt: skip


# -- what is wanted ----------------------------------------------------------------------------------------------------


def records_to_map(ledger: Ledger, flow: Flow, qad_kind: str, kind: Kind, mapping_digest: str) -> Iterator[Sequence[Row[Any]]]:
    """Pages of QAD records whose wanted form is missing, or was made from another payload or other rules."""
    r, w = qad_record, wanted
    with ledger.reading() as tx:
        mapped_by = tx.execute(
            select(flow_table.c.mapping_digest).where(flow_table.c.flow_id == flow.flow_id)
        ).scalar_one()
    stale = or_(w.c.made_from.is_(None), w.c.made_from != r.c.digest) if mapped_by == mapping_digest else None
    joined = r.outerjoin(w, and_(w.c.flow_id == flow.flow_id, w.c.kind == kind, w.c.record_key == r.c.record_key))
    after = ""
    while True:
        asked = (
            select(r.c.record_key, r.c.payload, r.c.digest, r.c.conflict)
            .select_from(joined)
            .where(r.c.source_id == flow.source_id, r.c.kind == qad_kind, r.c.record_key > after)
            .order_by(r.c.record_key)
            .limit(PAGE)
        )
        with ledger.reading() as tx:
            page = tx.execute(asked if stale is None else asked.where(stale)).all()
        if not page:
            return
        yield page
        after = page[-1].record_key


def save_wanted(ledger: Ledger, flow: Flow, rows: Iterable[tuple[Wanted, str]]) -> None:
    """Wanted records with the digest of the payload each was made from. What last became of them stays."""
    with ledger.writing() as tx:
        upsert(
            tx, wanted,
            (
                {
                    "flow_id": flow.flow_id, "kind": w.kind, "record_key": w.key, "external_id": w.external_id,
                    "external_folded": fold(w.external_id), "body": dict(w.body), "fingerprint": w.fingerprint,
                    "made_from": made_from, "name_folded": fold(w.name), "email_folded": fold(w.email),
                    "email_rank": w.rank, "aside": w.aside,
                }
                for w, made_from in rows
            ),
        )  # fmt: skip


def note_mapping(ledger: Ledger, flow: Flow, mapping_digest: str) -> None:
    """All stored payloads have been mapped by these rules."""
    with ledger.writing() as tx:
        tx.execute(
            update(flow_table).where(flow_table.c.flow_id == flow.flow_id).values(mapping_digest=mapping_digest)
        )


# -- what Zendesk has --------------------------------------------------------------------------------------------------


def save_mirror(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Observed records; a row gives way only to one that is not older."""
    unique = {(row["account_id"], row["kind"], row["zendesk_id"]): row for row in rows}
    newest: dict[tuple[Any, ...], Mapping[str, Any]] = dict(unique)
    for account_id, kind in {key[:2] for key in unique}:
        ids = [key[2] for key in unique if key[:2] == (account_id, kind)]
        for some in chunks(ids, PAGE):
            known = select(mirror.c.zendesk_id, mirror.c.updated_at).where(
                mirror.c.account_id == account_id, mirror.c.kind == kind, mirror.c.zendesk_id.in_(some)
            )
            for zendesk_id, updated_at in tx.execute(known):
                if updated_at > unique[account_id, kind, zendesk_id]["updated_at"]:
                    del newest[account_id, kind, zendesk_id]
    upsert(tx, mirror, newest.values())


def mark_gone(tx: Connection, account_id: int, kind: Kind, ids: Iterable[int]) -> None:
    """Zendesk answered that it does not have these."""
    tx.execute(
        update(mirror)
        .where(mirror.c.account_id == account_id, mirror.c.kind == kind, mirror.c.zendesk_id.in_(list(ids)))
        .values(active=False)
    )


# -- where they differ -------------------------------------------------------------------------------------------------


def linked_count(ledger: Ledger, flow: Flow) -> int:
    """How many organizations and users the flow has linked."""
    with ledger.reading() as tx:
        counted = select(func.count()).select_from(link).where(
            link.c.flow_id == flow.flow_id, link.c.kind.in_(["organization", "user"])
        )
        return int(tx.execute(counted).scalar_one())


def wanted_count(ledger: Ledger, flow: Flow) -> dict[str, int]:
    """How many organizations and users the flow wants."""
    counted = select(wanted.c.kind, func.count()).where(wanted.c.flow_id == flow.flow_id).group_by(wanted.c.kind)
    with ledger.reading() as tx:
        return {kind: int(count) for kind, count in tx.execute(counted)}


def candidates(ledger: Ledger, flow: Flow, kind: Kind, keys: Sequence[str] | None = None) -> Iterator[Candidate]:
    """The records of `kind` that need a decision, in key order; with `keys`, just those, whether or not they do."""
    asked, differs = _candidate_query(flow, kind)
    if keys is not None:
        with ledger.reading() as tx:
            rows = tx.execute(asked.where(wanted.c.record_key.in_(list(keys)))).all()
        yield from _unique(rows, kind)
        return
    after = ""
    while True:
        with ledger.reading() as tx:
            rows = tx.execute(asked.where(differs, wanted.c.record_key > after).limit(PAGE)).all()
        if not rows:
            return
        yield from _unique(rows, kind)
        after = rows[-1].record_key


def _candidate_query(flow: Flow, kind: Kind) -> tuple[Select[Any], ColumnElement[bool]]:
    """All wanted records of `kind` with everything a decision needs, and the condition that they differ."""
    linked, current = link.alias("linked"), mirror.alias("current")
    by_external, by_other = mirror.alias("by_external"), mirror.alias("by_other")
    unlinked = linked.c.record_key.is_(None)
    if kind == "user":
        holds = and_(by_other.c.email_folded == wanted.c.email_folded, wanted.c.email_folded != "", unlinked)
    else:
        holds = by_other.c.name_folded == wanted.c.name_folded
    joined = (
        wanted.outerjoin(
            linked,
            and_(
                linked.c.flow_id == wanted.c.flow_id, linked.c.kind == wanted.c.kind,
                linked.c.record_key == wanted.c.record_key, linked.c.other_key == "",
            ),
        )
        .outerjoin(current, and_(_in_mirror(current, flow, kind), current.c.zendesk_id == linked.c.zendesk_id))
        .outerjoin(
            by_external,
            and_(
                _in_mirror(by_external, flow, kind), by_external.c.active, unlinked,
                by_external.c.external_folded == wanted.c.external_folded,
            ),
        )
        .outerjoin(by_other, and_(_in_mirror(by_other, flow, kind), by_other.c.active, holds))
    )  # fmt: skip
    asked = (
        select(
            wanted.c.record_key, wanted.c.external_id, wanted.c.body, wanted.c.fingerprint, wanted.c.aside,
            wanted.c.email_folded,
            _lowest(wanted.c.name_folded).label("name_first"),
            _email_owner().label("email_first"),
            _twin().label("twin"),
            linked.c.record_key.label("link_key"), linked.c.zendesk_id.label("link_id"),
            *_held_columns(current, "current"), *_held_columns(by_external, "external"),
            *_held_columns(by_other, "other"),
        )
        .select_from(joined)
        .where(wanted.c.flow_id == flow.flow_id, wanted.c.kind == kind)
        .order_by(wanted.c.record_key, by_other.c.zendesk_id)
    )  # fmt: skip
    differs = or_(
        linked.c.record_key.is_(None), current.c.zendesk_id.is_(None), current.c.active.is_(False),
        wanted.c.fingerprint != linked.c.fingerprint, current.c.digest != linked.c.current_digest,
    )  # fmt: skip
    return asked, differs


def _in_mirror(held: Alias, flow: Flow, kind: Kind) -> ColumnElement[bool]:
    return and_(held.c.account_id == flow.account_id, held.c.kind == kind)


def _peers() -> Alias:
    return wanted.alias("peer")


def _lowest(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The lowest key of the flow and kind that wants the same value in `column`."""
    peer = _peers()
    same = and_(
        peer.c.flow_id == wanted.c.flow_id, peer.c.kind == wanted.c.kind, peer.c[column.name] == column,
        peer.c.aside == "",
    )  # fmt: skip
    return select(func.min(peer.c.record_key)).where(same).correlate(wanted).scalar_subquery()


def _email_owner() -> ColumnElement[Any]:
    """Of the contacts that want this row's email, the first: primary ones before others, then the lowest key."""
    peer = _peers()
    same = and_(
        peer.c.flow_id == wanted.c.flow_id, peer.c.kind == wanted.c.kind,
        peer.c.email_folded == wanted.c.email_folded, peer.c.aside == "",
    )  # fmt: skip
    first = select(peer.c.record_key).where(same).order_by(peer.c.email_rank, peer.c.record_key).limit(1)
    return first.correlate(wanted).scalar_subquery()


def _twin() -> ColumnElement[Any]:
    """Another key whose external id Zendesk takes for the same."""
    peer = _peers()
    same = and_(
        peer.c.flow_id == wanted.c.flow_id, peer.c.kind == wanted.c.kind,
        peer.c.external_folded == wanted.c.external_folded, peer.c.record_key != wanted.c.record_key,
    )  # fmt: skip
    return select(func.min(peer.c.record_key)).where(same).correlate(wanted).scalar_subquery()


_HELD = (
    "zendesk_id", "fields", "digest", "active", "external_folded", "email_folded", "user_role", "organization_id",
)  # fmt: skip


def _held_columns(held: Alias, prefix: str) -> list[ColumnElement[Any]]:
    owner = link.alias(f"{prefix}_owner")
    linked_to = (
        select(func.min(owner.c.record_key))
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
    previous = None
    for row in rows:
        if row.record_key != previous:
            previous = row.record_key
            yield _candidate(row._mapping, kind)


def _candidate(row: Mapping[Any, Any], kind: Kind) -> Candidate:
    other = _held(row, "other")
    return Candidate(
        kind=kind, key=row["record_key"], external_id=row["external_id"], body=row["body"],
        fingerprint=row["fingerprint"], aside=row["aside"],
        name_first=row["name_first"] or "", email_first=row["email_first"] or "", email_folded=row["email_folded"],
        twin=row["twin"], link_id=row["link_id"], current=_held(row, "current"), by_external=_held(row, "external"),
        by_name=other if kind == "organization" else None, by_email=other if kind == "user" else None,
    )  # fmt: skip


def _held(row: Mapping[Any, Any], prefix: str) -> Held | None:
    if row[f"{prefix}_zendesk_id"] is None:
        return None
    values = {name: row[f"{prefix}_{name}"] for name in (*_HELD, "linked_to")}
    values["role"] = values.pop("user_role")
    return Held(**values)


def missing_memberships(ledger: Ledger, flow: Flow) -> list[tuple[str, str]]:
    """(contact, customer) pairs without a membership link, where both have their record or are about to.

    Contacts that share a mailbox count as the one whose user they share. Only pairs that the last complete read of
    contacts still saw.
    """
    latest = (
        select(func.max(qad_read.c.read_id))
        .where(qad_read.c.source_id == flow.source_id, qad_read.c.kind == "contact", qad_read.c.complete.is_(True))
        .scalar_subquery()
    )
    owner = case((wanted.c.email_folded == "", wanted.c.record_key), else_=_email_owner())
    pairs = (
        select(owner.label("owner"), qad_contact_of.c.customer_key.label("customer"))
        .select_from(
            qad_contact_of.join(
                wanted,
                and_(
                    wanted.c.flow_id == flow.flow_id, wanted.c.kind == "user",
                    wanted.c.record_key == qad_contact_of.c.contact_key,
                ),
            )
        )
        .where(
            qad_contact_of.c.source_id == flow.source_id, qad_contact_of.c.last_read >= latest, wanted.c.aside == "",
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
    with ledger.reading() as tx:
        return [(owner, customer) for owner, customer in tx.execute(asked)]


def missing_identities(ledger: Ledger, flow: Flow) -> list[tuple[str, str]]:
    """(contact, email) where the linked user's primary email is another one and we have not added this one yet."""
    linked, added = link.alias("linked"), link.alias("added")
    asked = (
        select(wanted.c.record_key, wanted.c.body["email"].as_string())
        .select_from(
            wanted.join(
                linked,
                and_(
                    linked.c.flow_id == wanted.c.flow_id, linked.c.kind == "user",
                    linked.c.record_key == wanted.c.record_key, linked.c.other_key == "",
                ),
            )
            .join(
                mirror,
                and_(
                    mirror.c.account_id == flow.account_id, mirror.c.kind == "user",
                    mirror.c.zendesk_id == linked.c.zendesk_id,
                ),
            )
            .outerjoin(
                added,
                and_(
                    added.c.flow_id == wanted.c.flow_id, added.c.kind == "identity",
                    added.c.record_key == wanted.c.record_key, added.c.other_key == wanted.c.email_folded,
                ),
            )
        )
        .where(
            wanted.c.flow_id == flow.flow_id, wanted.c.kind == "user", wanted.c.email_folded != "",
            wanted.c.aside == "", added.c.record_key.is_(None), mirror.c.active, mirror.c.user_role == "end-user",
            mirror.c.email_folded != wanted.c.email_folded,
        )
        .order_by(wanted.c.record_key)
    )  # fmt: skip
    with ledger.reading() as tx:
        return [(key, email) for key, email in tx.execute(asked)]


def _linked_pair(flow: Flow, contact: ColumnElement[Any], customer: ColumnElement[Any]) -> ColumnElement[bool]:
    pair = link.alias()
    return exists().where(
        pair.c.flow_id == flow.flow_id, pair.c.kind == "membership", pair.c.record_key == contact,
        pair.c.other_key == customer,
    )  # fmt: skip


def _has_record(flow: Flow, kind: Kind, key: ColumnElement[Any]) -> ColumnElement[bool]:
    linked, coming = link.alias(), change_item.alias()
    return or_(
        exists().where(
            linked.c.flow_id == flow.flow_id, linked.c.kind == kind, linked.c.record_key == key,
            linked.c.other_key == "",
        ),
        exists().where(
            coming.c.flow_id == flow.flow_id, coming.c.kind == kind, coming.c.record_key == key,
            coming.c.change_state != "done",
        ),
    )  # fmt: skip
