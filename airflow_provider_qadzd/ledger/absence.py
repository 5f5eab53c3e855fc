"""What did not come: which reads may be believed, and which QAD records are taken to be gone.

Silence is not deletion. Only complete full reads count, and only several of them over days; what any read of whatever
kind has seen since is there. All of it is one comparison: a record is missing if it was last seen before the oldest of
the reads that count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, literal, not_, select, update

from airflow_provider_qadzd.ledger.schema import flow, link, qad_contact_of, qad_read, qad_record, wanted
from airflow_provider_qadzd.ledger.store import Ledger, epoch_of, iso

_MARK = "absent "
"""How the digest of a record begins that is gone: it is mapped again when it goes and when it comes back."""


@dataclass(frozen=True, slots=True)
class LastReads:
    """What earlier reads of one kind tell the next. Times are Unix seconds, days `YYYY-MM-DD`; None and empty: never.

    `full_begun`: the last full read, however it ended. `full_rows`: the rows of the last complete one. `begun`: the
    last complete read of either kind. `newest`: the latest day of a change that complete reads have shown. `columns`:
    the digest of the further columns of the last complete full one.
    """

    full_begun: float | None = None
    full_rows: int | None = None
    begun: float | None = None
    newest: str = ""
    columns: str = ""


def last_reads(ledger: Ledger, source_id: int, kind: str) -> LastReads:
    """Of the reads of one kind that have ended."""
    c = qad_read.c
    of_kind = and_(c.source_id == source_id, c.kind == kind)
    complete, full = c.complete.is_(True), c.read_mode == "full"
    newest_first = (
        select(c.started_at, c.row_count, c.read_id, c.columns_digest)
        .where(of_kind)
        .order_by(c.read_id.desc())
        .limit(1)
    )
    with ledger.reading() as tx:
        begun = tx.execute(newest_first.where(full, c.complete.is_not(None))).first()
        whole = tx.execute(newest_first.where(full, complete)).first()
        last = tx.execute(newest_first.where(complete)).first()
        newest = ""
        if whole is not None:
            since = select(func.max(c.newest)).where(of_kind, complete, c.read_id >= whole.read_id)
            newest = tx.execute(since).scalar_one() or ""
    return LastReads(
        epoch_of(begun.started_at) if begun else None, whole.row_count if whole else None,
        epoch_of(last.started_at) if last else None, newest, whole.columns_digest if whole else "",
    )  # fmt: skip


def row_count(ledger: Ledger, read_id: int) -> int:
    """How many records a read has stored so far."""
    with ledger.reading() as tx:
        return int(tx.execute(select(qad_read.c.row_count).where(qad_read.c.read_id == read_id)).scalar_one())


def note_left(tx: Connection, source_id: int, read_id: int, *, full: bool) -> None:
    """A read of contacts is complete: the pairs that it would have shown and did not are left.

    A full read would have shown every pair, a delta those of the contacts that it did show.
    """
    c = qad_contact_of.c
    shown = select(qad_record.c.record_key).where(
        qad_record.c.source_id == source_id, qad_record.c.kind == "contact", qad_record.c.last_read == read_id
    )
    missed = and_(c.source_id == source_id, c.last_read < read_id, c.left_read.is_(None))
    left = update(qad_contact_of).where(missed if full else and_(missed, c.contact_key.in_(shown)))
    tx.execute(left.values(left_read=read_id))


def bound(ledger: Ledger, source_id: int, kind: str, reads: int, seconds: float) -> int | None:
    """What was last seen before this read is missing from the last `reads` complete full reads, over `seconds`.

    None while there are not so many, or not over so long.
    """
    c = qad_read.c
    counted = (
        select(c.read_id, c.started_at)
        .where(c.source_id == source_id, c.kind == kind, c.complete.is_(True), c.read_mode == "full")
        .order_by(c.read_id.desc())
        .limit(1)
    )
    with ledger.reading() as tx:
        latest = tx.execute(counted).first()
        nth = tx.execute(counted.offset(max(1, reads) - 1)).first()
        if latest is None or nth is None:
            return None
        begun = iso(epoch_of(latest.started_at) - seconds)
        oldest = tx.execute(counted.where(c.started_at <= begun)).first()
    return None if oldest is None else min(int(nth.read_id), int(oldest.read_id))


def missing(ledger: Ledger, source_id: int, kind: str, before: int, limit: int) -> list[Any]:
    """Records last seen before that read and not yet taken to be gone: rows with `record_key` and `payload`."""
    asked = select(qad_record.c.record_key, qad_record.c.payload).where(_missing(source_id, kind, before))
    with ledger.reading() as tx:
        return list(tx.execute(asked.order_by(qad_record.c.record_key).limit(limit)).all())


def seen_by_key(ledger: Ledger, source_id: int, kind: str, keys: Iterable[str]) -> None:
    """QAD found these when asked for each by its key, so they are as good as seen by the last read."""
    c = qad_record.c
    these = and_(c.source_id == source_id, c.kind == kind, c.record_key.in_(list(keys)))
    latest = select(func.max(qad_read.c.read_id)).where(qad_read.c.source_id == source_id, qad_read.c.kind == kind)
    with ledger.writing() as tx:
        newest = tx.execute(latest).scalar_one() or 0
        tx.execute(update(qad_record).where(these, c.last_read < newest).values(last_read=newest))


def mark(ledger: Ledger, source_id: int, kind: str, before: int, keys: Iterable[str] | None = None) -> int:
    """What was last seen before that read is gone; with `keys`, those of them. How many were not so far.

    A contact whose user other contacts of the same mailbox use is not gone while one of them is there.
    """
    gone = _missing(source_id, kind, before)
    if keys is not None:
        gone = and_(gone, qad_record.c.record_key.in_(list(keys)))
    with ledger.writing() as tx:
        if kind == "contact":
            gone = and_(gone, not_(_used_by_others()))
            again = update(qad_record).where(
                qad_record.c.source_id == source_id, qad_record.c.kind == kind, qad_record.c.absent_at.is_not(None),
                _used_by_others(),
            )  # fmt: skip
            tx.execute(again.values(absent_at=None, digest=func.substr(qad_record.c.digest, len(_MARK) + 1)))
        marked = update(qad_record).where(gone)
        return tx.execute(
            marked.values(absent_at=ledger.now(), digest=literal(_MARK) + qad_record.c.digest)
        ).rowcount  # fmt: skip


def _missing(source_id: int, kind: str, before: int) -> ColumnElement[bool]:
    c = qad_record.c
    return and_(c.source_id == source_id, c.kind == kind, c.last_read < before, c.absent_at.is_(None))


def _used_by_others() -> ColumnElement[bool]:
    """That another contact, who is there, shares this contact's mailbox and so its user."""
    own, other, fed = wanted.alias("own"), wanted.alias("other"), flow.alias("fed")
    user = link.alias("others_user")
    its_own = exists().where(
        user.c.flow_id == other.c.flow_id, user.c.kind == "user", user.c.record_key == other.c.record_key
    )
    return exists().where(
        fed.c.source_id == qad_record.c.source_id, own.c.flow_id == fed.c.flow_id, own.c.kind == "user",
        own.c.record_key == qad_record.c.record_key, own.c.email_folded != "", other.c.flow_id == fed.c.flow_id,
        other.c.kind == "user", other.c.email_folded == own.c.email_folded, other.c.record_key != own.c.record_key,
        other.c.ended.is_(False), other.c.aside == "", not_(its_own),
    )  # fmt: skip
