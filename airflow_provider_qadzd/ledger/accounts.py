"""The outward journey's memory: what QAD said, what is wanted, and what Zendesk has.

Every function is one short transaction, or works in the one it is given. Where the three differ is asked in
`differences`, whose questions can be asked here as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, case, insert, or_, select, update

from airflow_provider_qadzd.ledger import schema
from airflow_provider_qadzd.ledger.absence import note_left
from airflow_provider_qadzd.ledger.bulk import among, upsert
from airflow_provider_qadzd.ledger.differences import (
    candidates,
    linked_count,
    missing_identities,
    missing_memberships,
    wanted_count,
)
from airflow_provider_qadzd.ledger.identity import Flow
from airflow_provider_qadzd.ledger.schema import change_item, link, mirror, qad_contact_of, qad_read, qad_record, wanted
from airflow_provider_qadzd.ledger.store import Ledger, json_bytes
from airflow_provider_qadzd.ledger.tombstones import READ_FROM, Marks, marks_in
from airflow_provider_qadzd.records import Kind, Wanted, fold

__all__ = [
    "begin_read",
    "candidates",
    "end_read",
    "linked_count",
    "mark_gone",
    "missing_identities",
    "missing_memberships",
    "note_mapping",
    "records_to_map",
    "save_mirror",
    "save_page",
    "save_wanted",
    "take_stock",
    "wanted_count",
]

PAGE = 1000
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

SAME_RECORD = {"customer": ("name",), "contact": ("name", "email", "phone", "function")}
"""Rows of one read with one key are one record if these fields agree; if not, the key stands for two of them."""


# -- what QAD said -----------------------------------------------------------------------------------------------------


def begin_read(ledger: Ledger, source_id: int, kind: str, mode: str, run: str, columns: str = "") -> int:
    """A new read, not yet complete. Its id grows, so that later reads compare greater.

    `columns` is the digest of the columns that it takes along, empty without any.
    """
    row = {
        "source_id": source_id, "kind": kind, "read_mode": mode, "started_at": ledger.now(), "run": run,
        "columns_digest": columns,
    }  # fmt: skip
    with ledger.writing() as tx:
        return int(tx.execute(insert(qad_read).values(row).returning(qad_read.c.read_id)).scalar_one())


def end_read(ledger: Ledger, read_id: int, *, complete: bool, reason: str) -> None:
    """The read is over: `complete`, or not for the reason given. A complete one tells which contacts left whom."""
    over = update(qad_read).where(qad_read.c.read_id == read_id)
    with ledger.writing() as tx:
        read = tx.execute(
            over.values(complete=complete, reason=reason, ended_at=ledger.now()).returning(
                qad_read.c.source_id, qad_read.c.kind, qad_read.c.read_mode
            )
        ).one()
        if complete and read.kind == "contact":
            note_left(tx, read.source_id, read_id, full=read.read_mode == "full")


def save_page(
    ledger: Ledger, source_id: int, kind: str, read_id: int, payloads: Sequence[tuple[str, Mapping[str, Any]]],
    contact_of: Iterable[tuple[str, str]] = (),
) -> None:  # fmt: skip
    """One page of a read, in one transaction: payloads by key, and (contact, customer) pairs.

    Of what is as it was, only the read that saw it is noted.
    """
    said: _Said = {}
    for key, payload in payloads:
        said.setdefault(key, {})[_digest(payload, False)] = payload
    days = {str(payload.get("modified") or "")[:10] for _, payload in payloads}
    newest = max(filter(_DAY.fullmatch, days), default="")
    with ledger.writing() as tx:
        # One page at a time: two reads of one source, each with rows of the other's page, deadlock on PostgreSQL.
        tx.execute(select(schema.source.c.source_id).where(schema.source.c.source_id == source_id).with_for_update())
        if marks := marks_in(tx):
            said = _not_forgotten(marks, source_id, kind, said)
            contact_of = [
                (contact, customer)
                for contact, customer in contact_of
                if contact in said and not marks.has_key(source_id, "customer", customer)
            ]
        same = _note_same(tx, source_id, kind, read_id, said)
        _save_records(ledger, tx, source_id, kind, read_id, {key: of for key, of in said.items() if key not in same})
        if pairs := set(contact_of):
            _save_pairs(tx, source_id, read_id, pairs)
        tx.execute(
            update(qad_read)
            .where(qad_read.c.read_id == read_id)
            .values(
                row_count=qad_read.c.row_count + len(payloads),
                newest=case((qad_read.c.newest < newest, newest), else_=qad_read.c.newest),
            )
        )


_Said = dict[str, dict[str, Mapping[str, Any]]]
"""Of each key, what rows of one page say of it, by digest: one payload, unless they contradict each other."""


def _not_forgotten(marks: Marks, source_id: int, kind: str, said: _Said) -> _Said:
    kept: _Said = {}
    for key, payloads in said.items():
        for told, payload in payloads.items():
            if not _forgotten(marks, source_id, kind, key, payload):
                kept.setdefault(key, {})[told] = payload
    return kept


def _note_same(tx: Connection, source_id: int, kind: str, read_id: int, said: _Said) -> set[str]:
    """Those of these records that are stored just so: of them, only the read that saw them is noted."""
    r = qad_record.c
    asked = select(r.record_key, r.digest).where(
        r.source_id == source_id, r.kind == kind, among(tx, r.record_key, said)
    )
    same = {key for key, digest in tx.execute(asked).all() if said[key].keys() == {digest}}
    seen = update(qad_record).where(
        r.source_id == source_id, r.kind == kind, among(tx, r.record_key, same), r.last_read < read_id
    )
    if same:
        tx.execute(seen.values(last_read=read_id))
    return same


def _save_records(
    ledger: Ledger, tx: Connection, source_id: int, kind: str, read_id: int, said: _Said
) -> None:  # fmt: skip
    """Records that are new or changed. What earlier pages of this read said of one counts as well."""
    if not said:
        return
    r = qad_record.c
    asked = select(r.record_key, r.payload, r.contradicted).where(
        r.source_id == source_id, r.kind == kind, among(tx, r.record_key, said), r.last_read == read_id
    )
    earlier = {row.record_key: row for row in tx.execute(asked)}
    now = ledger.now()
    rows = [
        {"source_id": source_id, "kind": kind, "record_key": key, "key_folded": fold(key), "first_seen_at": now,
         "last_read": read_id, "absent_at": None, **_together(kind, payloads, earlier.get(key))}
        for key, payloads in said.items()
    ]  # fmt: skip
    upsert(tx, qad_record, rows, keep=["first_seen_at"], unless_older=["last_read"])


def _together(
    kind: str, payloads: Mapping[str, Mapping[str, Any]], earlier: Row[Any, Any, Any] | None
) -> dict[str, Any]:
    """One record of all that one read has said of it; `earlier` is what it said on other pages."""
    told = list(payloads.items())
    if earlier is None and len(told) == 1:
        return {"payload": told[0][1], "digest": told[0][0], "contradicted": False}
    kept = dict(told[0][1] if earlier is None else earlier.payload)
    contradicted = earlier is not None and earlier.contradicted
    for _, payload in told:
        contradicted = contradicted or any(kept.get(name) != payload.get(name) for name in SAME_RECORD[kind])
        if "primary" in kept:
            kept["primary"] = kept["primary"] or payload.get("primary")
    return {"payload": kept, "digest": _digest(kept, contradicted), "contradicted": contradicted}


def _save_pairs(tx: Connection, source_id: int, read_id: int, pairs: set[tuple[str, str]]) -> None:
    """Which contacts belong to which customers. Those whose customers are as they were are noted in one go."""
    c = qad_contact_of.c
    told: dict[str, set[str]] = {}
    for contact, customer in pairs:
        told.setdefault(contact, set()).add(customer)
    stored: dict[str, set[str]] = {}
    asked = select(c.contact_key, c.customer_key, c.left_read).where(
        c.source_id == source_id, among(tx, c.contact_key, told)
    )
    for row in tx.execute(asked):
        # A customer that was left is told again by a row of its own.
        stored.setdefault(row.contact_key, set()).add(row.customer_key if row.left_read is None else "")
    same = {contact for contact, customers in told.items() if stored.get(contact) == customers}
    seen = update(qad_contact_of).where(c.source_id == source_id, among(tx, c.contact_key, same), c.last_read < read_id)
    tx.execute(seen.values(last_read=read_id))
    rows = (
        {"source_id": source_id, "contact_key": contact, "customer_key": customer, "last_read": read_id,
         "left_read": None}
        for contact, customer in pairs if contact not in same
    )  # fmt: skip
    upsert(tx, qad_contact_of, rows, unless_older=["last_read"])


def _forgotten(marks: Marks, source_id: int, kind: str, key: str, payload: Mapping[str, Any]) -> bool:
    return marks.has_key(source_id, kind, key) or marks.has_email(kind, str(payload.get("email") or ""))


def _digest(payload: Mapping[str, Any], contradicted: bool) -> str:
    """Equal for records of which QAD said the same."""
    return hashlib.sha256(json_bytes([payload, contradicted])).hexdigest()


# -- what is wanted ----------------------------------------------------------------------------------------------------


def records_to_map(
    ledger: Ledger, flow: Flow, qad_kind: str, kind: Kind, mapping_digest: str
) -> Iterator[Sequence[Any]]:
    """Pages of QAD records whose wanted form is missing, or was made from another payload or other rules.

    A row has `record_key`, `payload`, `digest`, `absent_at`, and `conflict`: one read gave this key two different
    records.
    """
    r, w = qad_record, wanted
    with ledger.reading() as tx:
        mapped_by = tx.execute(
            select(schema.flow.c.mapping_digest).where(schema.flow.c.flow_id == flow.flow_id)
        ).scalar_one()
    stale = or_(w.c.made_from.is_(None), w.c.made_from != r.c.digest) if mapped_by == mapping_digest else None
    joined = r.outerjoin(w, and_(w.c.flow_id == flow.flow_id, w.c.kind == kind, w.c.record_key == r.c.record_key))
    after = ""
    while True:
        asked = (
            select(r.c.record_key, r.c.payload, r.c.digest, r.c.absent_at, r.c.contradicted.label("conflict"))
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


def take_stock(ledger: Ledger) -> None:
    """Before questions over whole tables: they may have grown since the database last looked at them."""
    ledger.take_stock(qad_record, wanted, link, mirror, qad_contact_of, change_item)


def save_wanted(ledger: Ledger, flow: Flow, rows: Iterable[tuple[Wanted, str]]) -> None:
    """Wanted records with the digest of the payload each was made from. What last became of them stays."""
    with ledger.writing() as tx:
        marks = marks_in(tx)
        upsert(
            tx, wanted,
            (
                {
                    "flow_id": flow.flow_id, "kind": w.kind, "record_key": w.key, "external_id": w.external_id,
                    "external_folded": fold(w.external_id), "body": dict(w.body), "fingerprint": w.fingerprint,
                    "made_from": made_from, "name_folded": fold(w.name), "email_folded": fold(w.email),
                    "email_rank": w.rank, "aside": w.aside, "ended": w.ended, "owners": dict(w.owners),
                }
                for w, made_from in rows
                if not marks.has_key(flow.source_id, READ_FROM[w.kind], w.key)
            ),
        )  # fmt: skip


def note_mapping(ledger: Ledger, flow: Flow, mapping_digest: str) -> None:
    """All stored payloads have been mapped by these rules."""
    with ledger.writing() as tx:
        tx.execute(
            update(schema.flow).where(schema.flow.c.flow_id == flow.flow_id).values(mapping_digest=mapping_digest)
        )


# -- what Zendesk has --------------------------------------------------------------------------------------------------


def save_mirror(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Observed records; a row gives way only to one that is not older, by Zendesk's time and then by ours.

    Who was forgotten is not stored.
    """
    marks = marks_in(tx)
    rows = [row for row in rows if not marks.has_record(row["account_id"], row["kind"], row)]
    upsert(tx, mirror, rows, unless_older=["updated_at", "observed_epoch"])


def mark_gone(tx: Connection, account_id: int, kind: Kind, ids: Iterable[int]) -> None:
    """Zendesk answered that it does not have these."""
    tx.execute(
        update(mirror)
        .where(mirror.c.account_id == account_id, mirror.c.kind == kind, mirror.c.zendesk_id.in_(list(ids)))
        .values(active=False)
    )


def mark_erased(ledger: Ledger, account_id: int, user_id: int, role: str) -> None:
    """Zendesk has deleted this user for good; `role` says so in place of a role."""
    m = mirror.c
    erased = update(mirror).where(m.account_id == account_id, m.kind == "user", m.zendesk_id == user_id)
    with ledger.writing() as tx:
        tx.execute(erased.values(active=False, user_role=role))


def mirrored_ids(ledger: Ledger, account_id: int, kind: Kind, after: int, limit: int) -> list[int]:
    """The next Zendesk ids above `after` that are there as far as we know, ascending."""
    m = mirror.c
    asked = select(m.zendesk_id).where(
        m.account_id == account_id, m.kind == kind, m.zendesk_id > after, m.active.is_(True)
    )  # fmt: skip
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(m.zendesk_id).limit(limit)).scalars())


def wanted_body(ledger: Ledger, flow: Flow, kind: Kind, key: str) -> Mapping[str, Any]:
    """A record as it should be, empty if nothing is wanted of that key."""
    w = wanted.c
    asked = select(w.body).where(w.flow_id == flow.flow_id, w.kind == kind, w.record_key == key)
    with ledger.reading() as tx:
        return tx.execute(asked).scalar_one_or_none() or {}


def external_ids(ledger: Ledger, flow: Flow, kind: Kind, keys: Sequence[str]) -> list[str]:
    """The external ids that these records are wanted with."""
    w = wanted.c
    asked = select(w.external_id).where(w.flow_id == flow.flow_id, w.kind == kind, w.record_key.in_(keys))
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(w.record_key)).scalars())
